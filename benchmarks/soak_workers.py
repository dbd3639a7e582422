"""Kills and cuts off workers at random and compares with an undisturbed twin.

python benchmarks/soak_workers.py [--workers=2] [--kills=50] [--seed=1] \
  [--megabits=1000] [--delay_ms=0] [--minutes=120] [--json]

Each worker runs in a network namespace of its own, as if on a machine of its
own, with a supervisor (--restarts); all are connected by links of the given
bandwidth and delay. A small run is disturbed so many times: a random worker is
killed (SIGKILL), stopped (SIGSTOP), killed while the run starts again, or cut
off from the network for 20 to 40 seconds. All workers must end and train again,
each within a bounded time, without help from here; where the network is cut for
1 to 4 seconds, they must go on. Then the run makes a few
iterations undisturbed, and a twin that nothing disturbs makes as many in all.
The two are compared: every row of metrics.csv, every array of the last
checkpoint, every step of TensorBoard. Before each checkpoint the workers
compare their variables.

Needs Linux, root, and the commands `ip` and `tc`; a delay needs the kernel's
netem. Prints counts; the exit status is 1 if anything was lost, doubled,
different or left behind, or took too long.
"""

import collections
import contextlib
import json
import os
import pathlib
import random
import re
import signal
import statistics
import subprocess
import sys
import time

from absl import app
from absl import flags
from absl import logging
import psutil
import small_runs

from rnd_agent.common import cluster_task
from rnd_agent.common import startup

_WORKERS = flags.DEFINE_integer('workers', 2, 'How many.', lower_bound=2)
_KILLS = flags.DEFINE_integer(
    'kills', 50, 'Disturbances that end the workers.', lower_bound=0
)
_MINUTES = flags.DEFINE_float(
    'minutes', 120.0, 'After which the disturbances end early.', lower_bound=0.0
)
_SEED = flags.DEFINE_integer('seed', 1, 'Of the random disturbances.')
_MEGABITS = flags.DEFINE_integer(
    'megabits', 1000, 'Per second, of each link.', lower_bound=1
)
_DELAY_MS = flags.DEFINE_float(
    'delay_ms', 0.0, 'Of each link, in either direction.', lower_bound=0.0
)
_ENV_NAME = flags.DEFINE_string(
    'env_name', 'atari:MontezumaRevenge', 'The game.'
)
_ITERATIONS = flags.DEFINE_integer(
    'iterations', 10, 'Undisturbed, at the end of the run.', lower_bound=1
)
_PAUSE = flags.DEFINE_float(
    'pause', 6.0, 'Most seconds from training to the next disturbance.',
    lower_bound=0.0,
)
_FOLDER = flags.DEFINE_string(
    'folder', None, 'Empty or new folder for the runs, which is kept; by '
    'default a temporary one, which is removed.'
)
_BINDINGS = flags.DEFINE_multi_string(
    'gin_bindings', [], 'A binding for train_eval.py; may repeat.'
)
_JSON = flags.DEFINE_boolean('json', False, 'Print JSON instead of a table.')

_PORT = 2222
# Seconds: that all workers need to end at most (12 until a lost one is noticed,
# 30 that a supervisor gives a stopped one), and to train again.
_MOST_TO_END = 60.0
_MOST_TO_TRAIN = 180.0
_CUT, _SHORT_CUT = (20.0, 40.0), (1.0, 4.0)
# The disturbances, with their relative frequencies.
_KILL, _STOP, _CUT_OFF = 'killed', 'stopped', 'cut off'
_CUT_SHORTLY = 'cut off shortly'
_DISTURBANCES = {_KILL: 3, _STOP: 2, _CUT_OFF: 2, _CUT_SHORTLY: 1}
# Share of the kills that are followed by one at the next start.
_AT_THE_START = 0.4
_KILLED_AT_THE_START = 'killed at the start'


class Network:
  """Namespaces with an address each, connected by a switch."""

  def __init__(self, workers: int):
    """Makes them; `close` removes them.

    Args:
      workers: how many.
    """
    self._name = f'soak{os.getpid()}'
    self._switch = f'{self._name}switch'
    self._removal = contextlib.ExitStack()
    self.addresses = [f'10.77.0.{i + 1}:{_PORT}' for i in range(workers)]
    with contextlib.ExitStack() as removal:
      self._add(removal, self._switch)
      _ip('-n', self._switch, 'link', 'add', 'bridge', 'type', 'bridge')
      _ip('-n', self._switch, 'link', 'set', 'bridge', 'up')
      for i in range(workers):
        self._add(removal, self.name(i))
        _ip('-n', self.name(i), 'link', 'add', 'net', 'type', 'veth',
            'peer', 'name', f'to{i}', 'netns', self._switch)
        _ip('-n', self.name(i), 'address', 'add', f'10.77.0.{i + 1}/24',
            'dev', 'net')
        for link in ('lo', 'net'):
          _ip('-n', self.name(i), 'link', 'set', link, 'up')
        _ip('-n', self._switch, 'link', 'set', f'to{i}', 'master', 'bridge')
        self.mend(i)
        self._limit(self.name(i), 'net')
        self._limit(self._switch, f'to{i}')
      self._removal = removal.pop_all()

  def _add(self, removal: contextlib.ExitStack, namespace: str) -> None:
    _ip('netns', 'add', namespace)
    removal.callback(_ip, 'netns', 'delete', namespace)

  def _limit(self, namespace: str, link: str) -> None:
    """Gives a link its bandwidth and delay."""
    _run('tc', '-n', namespace, 'qdisc', 'add', 'dev', link, 'root',
         'handle', '1:', 'tbf', 'rate', f'{_MEGABITS.value}mbit',
         'burst', '1mb', 'latency', '100ms')
    if _DELAY_MS.value:
      _run('tc', '-n', namespace, 'qdisc', 'add', 'dev', link, 'parent', '1:',
           'netem', 'delay', f'{_DELAY_MS.value}ms')

  def name(self, worker: int) -> str:
    """The namespace of a worker."""
    return f'{self._name}worker{worker}'

  def cut(self, worker: int) -> None:
    """Nothing comes through to or from a worker; nobody is told."""
    _ip('-n', self._switch, 'link', 'set', f'to{worker}', 'down')

  def mend(self, worker: int) -> None:
    """Undoes `cut`."""
    _ip('-n', self._switch, 'link', 'set', f'to{worker}', 'up')

  def close(self) -> None:
    """Removes all of it."""
    self._removal.close()


def _ip(*words: str) -> None:
  _run('ip', *words)


def _run(*words: str) -> None:
  result = subprocess.run(words, capture_output=True, text=True, check=False)
  if result.returncode:
    raise RuntimeError(f'{" ".join(words)}: {result.stderr.strip()}')


class Cluster:
  """A run's workers, each with a supervisor in a namespace."""

  def __init__(self, network: Network, folder: pathlib.Path):
    self.folder = folder
    self.faults: list[str] = []
    self.to_end: list[float] = []  # Seconds after each disturbance.
    self.to_train: list[float] = []
    self._network = network
    self._log = folder.with_suffix('.log')
    self._supervisors: list[subprocess.Popen] = []
    self._starts = 0

  @property
  def mark(self) -> str:
    """Of all its processes, see `small_runs.marked`."""
    return str(self._log)

  def start(self, iterations: int) -> None:
    """Starts or resumes the run, which ends after so many iterations."""
    self._starts += 1
    command = small_runs.command(
        self.folder, _ENV_NAME.value, iterations, *_BINDINGS.value
    )
    cluster = {'worker': self._network.addresses}
    self._supervisors = []
    for i in range(len(self._network.addresses)):
      task = {'cluster': cluster, 'task': {'type': 'worker', 'index': i}}
      with open(self._output(i), 'ab') as file:
        self._supervisors.append(subprocess.Popen(
            ['ip', 'netns', 'exec', self._network.name(i), *command,
             '--restarts=1000'],
            env={
                **small_runs.variables(self._log),
                cluster_task.VARIABLE: json.dumps(task),
            },
            stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
        ))

  def _output(self, worker: int) -> pathlib.Path:
    return self._log.with_name(f'{self._log.name}-{self._starts}-{worker}')

  def rows(self) -> int:
    """Of metrics.csv."""
    return small_runs.rows(self.folder)

  def trainers(self) -> dict[int, psutil.Process]:
    """The processes that train and live, by their worker's number."""
    found = {}
    for number, supervisor in enumerate(self._supervisors):
      with contextlib.suppress(psutil.NoSuchProcess):
        for process in psutil.Process(supervisor.pid).children():
          if _lives(process):
            found[number] = process
    return found

  def wait_until_training(self, seconds: float = _MOST_TO_TRAIN) -> bool:
    """Waits for a new row; says whether it came."""
    last, deadline = self.rows(), time.monotonic() + seconds
    while time.monotonic() < deadline:
      rows = self.rows()
      if rows > last:
        return True
      last = rows  # A run that resumes removes rows after its checkpoint.
      time.sleep(0.05)
    self.add_fault(f'does not train within {seconds:g} s')
    return False

  def disturb(self, what: str, rng: random.Random) -> None:
    """Disturbs a random worker, and waits until all have ended."""
    before, began = self.trainers(), time.monotonic()
    number = rng.choice(sorted(before))
    victim = before[number]
    if what == _KILLED_AT_THE_START:  # The others may still wait for all.
      before = {number: victim}
    mend_at = None
    if what == _CUT_OFF:
      self._network.cut(number)
      mend_at = began + rng.uniform(*_CUT)
    else:
      with contextlib.suppress(psutil.NoSuchProcess):
        victim.send_signal(
            signal.SIGSTOP if what == _STOP else signal.SIGKILL
        )
    ended = False
    while not ended or mend_at is not None:
      now = time.monotonic()
      if mend_at is not None and now > mend_at:
        self._network.mend(number)
        mend_at = None
      if not ended and not any(map(_lives, before.values())):
        ended = True
        self.to_end.append(now - began)
      elif not ended and now - began > _MOST_TO_END:
        ended = True
        left = [n for n, process in before.items() if _lives(process)]
        self.add_fault(
            f'{what}: workers {left} have not ended after {_MOST_TO_END:g} s'
        )
      time.sleep(0.05)

  def cut_shortly(self, rng: random.Random) -> None:
    """Cuts a random worker off for a moment; all must go on."""
    before = self.trainers()
    number = rng.choice(sorted(before))
    self._network.cut(number)
    time.sleep(rng.uniform(*_SHORT_CUT))
    self._network.mend(number)
    trains = self.wait_until_training()
    if not trains or not all(map(_lives, before.values())):
      self.add_fault(f'{_CUT_SHORTLY}: the workers do not go on')

  def wait_for_trainers(self) -> bool:
    """Waits until all are there again; says whether they came."""
    deadline = time.monotonic() + _MOST_TO_END
    while time.monotonic() < deadline:
      if len(self.trainers()) == len(self._supervisors):
        return True
      time.sleep(0.05)
    self.add_fault(f'does not start within {_MOST_TO_END:g} s')
    return False

  def stop(self, rng: random.Random) -> None:
    """Asks one worker to stop, which stops all."""
    rng.choice(list(self.trainers().values())).terminate()

  def end(self, seconds: float) -> None:
    """Waits for all to end and records faults of it."""
    deadline = time.monotonic() + seconds
    for i, supervisor in enumerate(self._supervisors):
      try:
        supervisor.wait(max(0.1, deadline - time.monotonic()))
      except subprocess.TimeoutExpired:
        self.add_fault(f'worker {i} does not end')
      if supervisor.poll():
        self.add_fault(f'worker {i} ended with status {supervisor.returncode}')
    left = small_runs.wait_until_gone(self.mark)
    if left:
      self.add_fault(f'left the processes {left}')
      small_runs.kill(self.mark)

  def texts(self) -> list[str]:
    """All that its workers printed."""
    return [
        path.read_text(encoding='utf-8', errors='replace')
        for path in sorted(self._log.parent.glob(f'{self._log.name}-*'))
    ]

  def add_fault(self, text: str) -> None:
    """Records it."""
    self.faults.append(f'iteration {self.rows()}: {text}')
    small_runs.note(self.faults[-1])


def _lives(process: psutil.Process) -> bool:
  with contextlib.suppress(psutil.NoSuchProcess):
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
  return False


def _kills(counts: collections.Counter) -> int:
  return counts.total() - counts[_CUT_SHORTLY]


def _disturb_for(cluster: Cluster, rng: random.Random) -> collections.Counter:
  """Disturbs a run; returns how often each disturbance was made."""
  counts = collections.Counter()
  end = time.monotonic() + 60 * _MINUTES.value
  cluster.start(10**6)
  trains = cluster.wait_until_training()
  while trains and _kills(counts) < _KILLS.value and time.monotonic() < end:
    time.sleep(rng.uniform(0.0, _PAUSE.value))
    what, = rng.choices(list(_DISTURBANCES), list(_DISTURBANCES.values()))
    while True:
      counts[what] += 1
      small_runs.note(
          f'{_kills(counts)}: {what} at iteration {cluster.rows()}'
      )
      if what == _CUT_SHORTLY:
        cluster.cut_shortly(rng)
        break
      began = time.monotonic()
      cluster.disturb(what, rng)
      if _kills(counts) >= _KILLS.value or rng.random() >= _AT_THE_START:
        break
      if not cluster.wait_for_trainers():
        break
      time.sleep(rng.uniform(0.0, 20.0))
      if not cluster.trainers():
        break
      what = _KILLED_AT_THE_START
    trains = cluster.wait_until_training()
    if what != _CUT_SHORTLY:
      cluster.to_train.append(time.monotonic() - began)
  if trains:
    cluster.stop(rng)
  else:
    small_runs.kill(cluster.mark)
  cluster.end(_MOST_TO_END)
  return counts


def soak(folder: pathlib.Path) -> dict:
  """Disturbs a run and compares it with an undisturbed twin.

  Args:
    folder: an empty folder for both runs.

  Returns:
    Counts by name; 'faults' is a list of texts.
  """
  network = Network(_WORKERS.value)
  clusters = [Cluster(network, folder / name) for name in ('disturbed', 'twin')]
  try:
    run, twin = clusters
    began = time.monotonic()
    counts = _disturb_for(run, random.Random(_SEED.value))
    minutes = (time.monotonic() - began) / 60
    iterations = max(run.rows(), 1) + _ITERATIONS.value
    for each in clusters:
      small_runs.note(f'{each.folder.name}: up to iteration {iterations}')
      each.start(iterations)
      each.end(_MOST_TO_TRAIN + 2 * iterations)
  finally:
    for each in clusters:
      small_runs.kill(each.mark)
      small_runs.wait_until_gone(each.mark)
    network.close()
  return _result(run, twin, counts, minutes, iterations)


def _result(run, twin, counts, minutes, iterations) -> dict:
  text = ''.join(run.texts())
  errors = collections.Counter(
      re.sub(r'\d+', 'N', line) for line in text.splitlines()
      if line.startswith('train_eval: error')
  )
  result = {
      'workers': _WORKERS.value, 'kills': _kills(counts), **counts,
      'iterations': iterations, 'minutes': round(minutes, 1),
      'to end, s (median, most)': _median_and_most(run.to_end),
      'to train again, s (median, most)': _median_and_most(run.to_train),
      'errors': dict(errors),
  }
  faults = run.faults + twin.faults
  for each in (run, twin):
    for fault in ('Traceback', 'new episodes', 'has other values'):
      if any(fault in text for text in each.texts()):
        faults.append(f'{each.folder.name}: {fault!r} in its output')
  numbers, differences = small_runs.compared(
      run.folder, twin.folder, iterations
  )
  return {**result, **numbers, 'faults': faults + differences}


def _median_and_most(values: list[float]) -> list[float]:
  if not values:
    return []
  return [round(statistics.median(values), 1), round(max(values), 1)]


def main(_):
  """Makes the soak and prints its counts."""
  signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
  startup.quiet_imports()
  logging.set_verbosity(logging.ERROR)
  with small_runs.folder(_FOLDER.value) as folder:
    result = soak(folder)
  sys.exit(small_runs.report(result, _JSON.value))


if __name__ == '__main__':
  app.run(main)
