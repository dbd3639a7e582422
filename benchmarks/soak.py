"""Kills a training run at random times and compares it with an undisturbed one.

python benchmarks/soak.py [--minutes=30] [--seed=1] [--json] \
  [--env_name=atari:MontezumaRevenge]

For so many minutes a small run of train_eval.py is disturbed, and started again
whenever it has ended. A disturbance kills the process or a worker with SIGKILL,
also while they start; stops a worker, which then continues, hangs or is killed;
or sends SIGTERM, SIGTERM twice, or SIGHUP.
Then the run makes a few iterations undisturbed, and an undisturbed twin makes
as many as the run in all, which takes about as long again. The two are
compared: every row of metrics.csv, every array of the last checkpoint, every
step of TensorBoard.

Prints counts. The exit status is 1 if anything was lost, doubled, different or
left behind, or if the run ended in another way than it should. At the end all
processes are ended and the files removed, unless --folder keeps them.
"""

import contextlib
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

from absl import app
from absl import flags
from absl import logging
import psutil
import run_comparison
import small_runs

from rnd_agent.common import startup

_MINUTES = flags.DEFINE_float(
    'minutes', 30.0, 'How long the run is disturbed.', lower_bound=0.0
)
_ITERATIONS = flags.DEFINE_integer(
    'iterations', 100_000, 'Most iterations of the disturbed run.',
    lower_bound=10
)
_KILLS = flags.DEFINE_integer(
    'kills', 10_000, 'Kills after which the disturbances end early.',
    lower_bound=1,
)
_SEED = flags.DEFINE_integer('seed', 1, 'Of the random disturbances.')
_JSON = flags.DEFINE_boolean('json', False, 'Print JSON instead of a table.')
_ENV_NAME = flags.DEFINE_string(
    'env_name', 'atari:MontezumaRevenge', 'The game.'
)
_PAUSE = flags.DEFINE_float(
    'pause', 12.0, 'Most seconds between disturbances.', lower_bound=0.0
)
_FOLDER = flags.DEFINE_string(
    'folder', None, 'Empty or new folder for the runs, which is kept; by '
    'default a temporary one, which is removed.'
)
_BINDINGS = flags.DEFINE_multi_string(
    'gin_bindings', [], 'A binding for train_eval.py; may repeat.'
)

_WORKER_TIMEOUT = 6.0  # seconds
_PATIENCE = 180.0  # seconds to wait for what should take a few
_LAST_ITERATIONS = 10  # undisturbed, at the end of the run
_SETTINGS = (
    'train_eval.num_workers = 2',
    f'ShardedPyEnvironment.worker_timeout = {_WORKER_TIMEOUT}',
)
# The disturbances, with their relative frequencies.
_DISTURBANCES = {
    'parent killed': 5,
    'worker killed': 5,
    'worker stopped, goes on': 2,
    'worker stopped, hangs': 2,
    'worker stopped, then killed': 1,
    'worker stopped, parent killed': 1,
    'SIGTERM': 4,
    'SIGHUP': 1,
    'SIGTERM twice': 1,
}
# Share of the starts from a checkpoint during which workers are killed.
_AT_THE_START = 0.35
_KILLED_AT_THE_START = 'worker killed at the start'
# The error of a run that ends because a worker failed three times in a row.
_ENDED_BY_A_WORKER = re.compile(
    r'train_eval: error: environment worker \d+ \(process \d+, .*\) of \S+ '
    r'(was killed by SIGKILL|has not answered for) '
)
_NO_KILL = ('worker stopped, goes on',)


class Run:
  """A run of train_eval.py that is started again and again."""

  def __init__(self, folder: pathlib.Path, log: pathlib.Path):
    self.folder = folder
    self.starts = 0
    self.repeated = 0  # Iterations that were made again after a kill.
    self.faults: list[str] = []
    self.memory: set[tuple] = set()  # All results of `_shared_memory`.
    self.ended_by_workers = 0
    self._log = log
    self._process = None
    self._output = None
    self._rows_before = 0
    self._worker_error_allowed = False

  def start(self, iterations: int):
    """Starts or resumes the run, which ends after so many iterations."""
    self._rows_before = self.rows()
    self._worker_error_allowed = False
    self._output = self._log.with_name(f'{self._log.name}-{self.starts}')
    self.starts += 1
    command = small_runs.command(
        self.folder, _ENV_NAME.value, iterations, *_BINDINGS.value, *_SETTINGS
    )
    with open(self._output, 'wb') as file:
      self._process = subprocess.Popen(
          command, stdout=file, stderr=subprocess.STDOUT,
          stdin=subprocess.DEVNULL,
          env=small_runs.variables(self._log),
      )

  def rows(self) -> int:
    """The number of complete rows in metrics.csv."""
    return small_runs.rows(self.folder)

  @property
  def is_running(self) -> bool:
    return self._process is not None and self._process.poll() is None

  @property
  def has_checkpoint(self) -> bool:
    return any((self.folder / 'checkpoints').glob('*.sha256.json'))

  def send(self, number: int):
    """Sends a signal to the parent, if it still lives."""
    if self._process.poll() is None:
      self._process.send_signal(number)

  def workers(self) -> list[psutil.Process]:
    """The living worker processes."""
    return [
        process for process in small_runs.marked(str(self._log))
        if process.pid != self._process.pid
        and 'worker.main' in ' '.join(small_runs.command_of(process))
    ]

  def allow_worker_error(self) -> None:
    """Records that the run may now end because of a worker."""
    self._worker_error_allowed = True

  def wait(self, seconds: float) -> bool:
    """Waits for the process; returns whether it ended within the seconds."""
    try:
      self._process.wait(seconds)
    except subprocess.TimeoutExpired:
      return False
    return True

  def record_memory(self):
    """Adds the shared memory of the living processes to `memory`."""
    for process in small_runs.marked(str(self._log)):
      self.memory |= _shared_memory(process)

  def end(self, expected: tuple[int, ...]) -> None:
    """Waits for the end of the process and records faults of its end.

    Args:
      expected: the exit statuses that the last disturbance allows.
    """
    if not self.wait(_PATIENCE):
      self._add_fault(f'does not end within {_PATIENCE:g} s')
      self._process.kill()
      self._process.wait()
    status = self._process.returncode
    text = self._output.read_text(encoding='utf-8', errors='replace')
    lines = [x for x in text.splitlines() if x.startswith('train_eval: error')]
    if (
        status == 1 and self._worker_error_allowed and len(lines) == 1
        and _ENDED_BY_A_WORKER.match(lines[0])
    ):
      self.ended_by_workers += 1
      small_runs.note(lines[0])
    elif status not in expected:
      self._add_fault(f'ended with status {status}: {text[-2000:]}')
    if 'Traceback' in text:
      self._add_fault(f'shows a traceback: {text[-3000:]}')
    if 'new episodes' in text:
      self._add_fault(f'could not repeat its episodes: {text[-2000:]}')
    resumed = re.search(r'resuming .* at iteration (\d+)', text)
    if resumed:
      self.repeated += max(0, self._rows_before - int(resumed[1]) + 1)
    left = small_runs.wait_until_gone(str(self._log))
    if left:
      self._add_fault(f'left the processes {left}')
      small_runs.kill(str(self._log))

  def _add_fault(self, text: str):
    self.faults.append(f'start {self.starts} {text}')
    small_runs.note(self.faults[-1])


# ---------------------------------------------------------- shared memory


def _shared_memory(process: psutil.Process) -> set[tuple]:
  """`(device, inode, name)` of each piece of memory that a process shares."""
  found = set()
  with contextlib.suppress(OSError):
    for line in pathlib.Path(f'/proc/{process.pid}/maps').read_text(
        encoding='utf-8'
    ).splitlines():
      fields = line.split(maxsplit=5)
      if len(fields) == 6 and fields[5].startswith(('/dev/shm/', '/memfd:')):
        found.add((fields[3], fields[4], fields[5]))
  return found


def _memory_left(memory: set[tuple]) -> int:
  """How many of these pieces of memory a process or /dev/shm still holds."""
  mapped = set()
  for process in psutil.process_iter():
    mapped |= _shared_memory(process)
  named = {
      entry for entry in memory
      if entry[2].startswith('/dev/shm/') and os.path.exists(entry[2])
  }
  return len(memory & mapped | named)


# ------------------------------------------------------------- disturbances


def _disturb(run: Run, what: str, rng: random.Random) -> str:
  """Disturbs a living run.

  Args:
    run: may have ended in the meantime.
    what: one of `_DISTURBANCES`.
    rng: draws times and workers.

  Returns:
    The disturbance, or '' if it needs a worker and there was none.
  """
  if what.startswith('worker'):
    return what if _disturb_worker(run, what, rng) else ''
  if what == 'parent killed':
    run.send(signal.SIGKILL)
    run.end((-signal.SIGKILL,))
    return what
  number = signal.SIGHUP if what == 'SIGHUP' else signal.SIGTERM
  run.send(number)
  # A signal kills the process if its handler is not installed yet.
  expected = (0, -number)
  if what == 'SIGTERM twice':
    time.sleep(rng.uniform(0.0, 1.0))
    run.send(signal.SIGTERM)
    expected += (128 + signal.SIGTERM,)
  run.end(expected)
  return what


def _disturb_worker(run: Run, what: str, rng: random.Random) -> bool:
  """Disturbs a random worker; returns False if there is none."""
  workers = run.workers()
  if not workers:
    return False
  worker = rng.choice(workers)
  run.allow_worker_error()
  try:
    if what in ('worker killed', _KILLED_AT_THE_START):
      worker.kill()
      return True
    worker.suspend()
    if what == 'worker stopped, goes on':
      time.sleep(rng.uniform(0.0, _WORKER_TIMEOUT / 2))
      worker.resume()
    elif what == 'worker stopped, then killed':
      time.sleep(rng.uniform(0.0, _WORKER_TIMEOUT / 2))
      worker.kill()
    elif what == 'worker stopped, parent killed':
      time.sleep(rng.uniform(0.0, _WORKER_TIMEOUT / 2))
      run.send(signal.SIGKILL)
      run.end((-signal.SIGKILL,))
    else:
      _wait_for_hung_worker(worker, run)
  except psutil.NoSuchProcess:
    small_runs.note('the worker had ended by itself')
  return True


def _wait_for_hung_worker(worker: psutil.Process, run: Run):
  """Waits until the parent ends the worker; kills it if that takes too long."""
  try:
    worker.wait(_PATIENCE)
  except psutil.TimeoutExpired:
    run.faults.append(f'start {run.starts}: a hung worker is not ended')
    worker.kill()


def _disturb_for(run: Run, rng: random.Random) -> dict[str, int]:
  """Disturbs a run until its time, its kills or its iterations are used up.

  Returns:
    How often each disturbance was made.
  """
  counts = dict.fromkeys((*_DISTURBANCES, _KILLED_AT_THE_START), 0)
  end = time.monotonic() + 60 * _MINUTES.value
  while time.monotonic() < end and _kills(counts) < _KILLS.value:
    if not run.is_running:
      run.start(_ITERATIONS.value)
      if run.has_checkpoint and rng.random() < _AT_THE_START:
        _disturb_the_start(run, rng, counts)
      elif rng.random() < 0.75:
        _wait_for_a_row(run)
    if run.wait(rng.uniform(0.0, _PAUSE.value)):
      run.end((0,))
      if run.rows() >= _ITERATIONS.value:
        break
      continue
    run.record_memory()
    what, = rng.choices(list(_DISTURBANCES), list(_DISTURBANCES.values()))
    if what.startswith('worker') and not run.has_checkpoint:
      what = 'parent killed'  # The random agent's steps are not repeatable.
    rows = run.rows()
    done = _disturb(run, what, rng)
    if done:
      counts[done] += 1
      small_runs.note(f'{_kills(counts)}: {done} at iteration {rows}')
  if run.is_running:
    run.send(signal.SIGTERM)
    run.end((0, -signal.SIGTERM))
  return counts


def _disturb_the_start(
    run: Run, rng: random.Random, counts: dict[str, int]
):
  """Kills one or two workers of a run while it resumes."""
  deadline = time.monotonic() + _PATIENCE
  while run.is_running and not run.workers() and time.monotonic() < deadline:
    time.sleep(0.05)
  for _ in range(rng.randint(1, 2)):
    time.sleep(rng.uniform(0.0, 3.0))
    rows = run.rows()
    if run.is_running and _disturb_worker(run, _KILLED_AT_THE_START, rng):
      counts[_KILLED_AT_THE_START] += 1
      small_runs.note(
          f'{_kills(counts)}: {_KILLED_AT_THE_START} at iteration {rows}'
      )


def _kills(counts: dict[str, int]) -> int:
  return sum(n for what, n in counts.items() if what not in _NO_KILL)


def _wait_for_a_row(run: Run):
  """Waits until the number of rows changes."""
  rows = run.rows()
  deadline = time.monotonic() + _PATIENCE
  while run.is_running and time.monotonic() < deadline:
    # The number may also fall: a resumed run removes rows after its checkpoint.
    if run.rows() != rows:
      return
    time.sleep(0.05)


# -------------------------------------------------------------------- main


def soak(folder: pathlib.Path) -> dict:
  """Disturbs a run and compares it with an undisturbed twin.

  Args:
    folder: an empty folder for both runs.

  Returns:
    Counts by name; 'faults' is a list of texts.
  """
  began = time.monotonic()
  run = Run(folder / 'disturbed', folder / 'disturbed.log')
  twin = Run(folder / 'twin', folder / 'twin.log')
  counts = _disturb_for(run, random.Random(_SEED.value))
  disturbed_for = time.monotonic() - began
  iterations = max(run.rows(), 1) + _LAST_ITERATIONS
  for run_or_twin in (run, twin):
    small_runs.note(f'{run_or_twin.folder.name}: up to iteration {iterations}')
    run_or_twin.start(iterations)
    run_or_twin.wait(max(_PATIENCE, 120 * _MINUTES.value))
    run_or_twin.end((0,))
  rows = run_comparison.read_rows(run.folder)
  result = {
      'kills': _kills(counts), **counts, 'starts': run.starts,
      'ended by their workers': run.ended_by_workers,
      'iterations': iterations, 'iterations repeated': run.repeated,
      'environment restarts': (
          int(rows[-1]['environment_restarts']) if rows else 0
      ),
      'minutes': round(disturbed_for / 60, 1),
      'shared memory seen': len(run.memory),
      'shared memory left': _memory_left(run.memory),
  }
  faults = run.faults + twin.faults
  if result['shared memory left']:
    faults.append('shared memory is left')
  numbers, differences = small_runs.compared(
      run.folder, twin.folder, iterations
  )
  return {**result, **numbers, 'faults': faults + differences}


def main(_):
  """Makes the soak and prints its counts."""
  def stop(number, frame):
    del frame
    sys.exit(128 + number)

  signal.signal(signal.SIGTERM, stop)
  # The runs would inherit an ignored SIGHUP (nohup), but inherit no handler.
  ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
  signal.signal(signal.SIGHUP, (lambda *_: None) if ignored else stop)
  startup.quiet_imports()
  logging.set_verbosity(logging.ERROR)
  with small_runs.folder(_FOLDER.value) as folder:
    try:
      result = soak(folder)
    finally:
      for mark in map(str, (folder / 'disturbed.log', folder / 'twin.log')):
        small_runs.kill(mark)
        small_runs.wait_until_gone(mark)
  sys.exit(small_runs.report(result, _JSON.value))


if __name__ == '__main__':
  app.run(main)
