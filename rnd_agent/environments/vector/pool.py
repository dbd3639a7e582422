"""The parent's side of the worker processes: starts, calls and ends them."""

from collections.abc import Iterable
from collections.abc import Sequence
import multiprocessing.connection
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from typing import Any, NoReturn

import numpy as np

from rnd_agent.environments import errors
from rnd_agent.environments import returned
from rnd_agent.environments import suites
from rnd_agent.environments.vector import memory
from rnd_agent.environments.vector import worker

_RETURNED = f'{returned.__name__}.{returned.ReturnedError.__name__}'
_POLL = 0.5  # seconds between checks that the workers are alive
_GRACE = 5.0  # seconds that environments have to close
_MIN_START = 60.0  # seconds that workers have at least to start

# sys.path is set to the parent's before the worker's module is imported.
_BOOTSTRAP = """
import pickle, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
sys.path[:] = pickle.loads(bytes.fromhex(sys.argv[1]))
from rnd_agent.environments.vector import worker
worker.main(*map(int, sys.argv[2:]))
"""

# Environments do little linear algebra, and the threads of several processes'
# libraries would compete for the cores.
_ONE_THREAD = {
    'OMP_NUM_THREADS': '1',
    'OPENBLAS_NUM_THREADS': '1',
    'MKL_NUM_THREADS': '1',
}


class _Process:
  """One worker process and the connection to it."""

  def __init__(self, share: worker.Share, memory_file: int):
    self.share = share
    parent_end, worker_end = socket.socketpair()
    with worker_end:
      path = [entry or os.getcwd() for entry in sys.path]
      self.process = subprocess.Popen(
          [
              sys.executable,
              '-c',
              _BOOTSTRAP,
              pickle.dumps(path).hex(),
              str(os.getpid()),
              str(worker_end.fileno()),
              str(memory_file),
          ],
          stdin=subprocess.DEVNULL,
          pass_fds=[worker_end.fileno(), memory_file],
          env={**os.environ, **_ONE_THREAD},
      )
    self.connection = multiprocessing.connection.Connection(parent_end.detach())

  def __str__(self) -> str:
    indices = [i for group in self.share.groups for i in group]
    noun = 'environment' if len(indices) == 1 else 'environments'
    return (
        f'environment worker {self.share.worker} (process {self.process.pid}, '
        f'{noun} {_ranges(indices)})'
    )


class WorkerPool:
  """Worker processes that hold the environments.

  Any failure ends all of them. A worker answers its requests in order.
  """

  def __init__(
      self,
      env_name: suites.EnvironmentSource,
      config: suites.EnvironmentConfig,
      shares: Sequence[worker.Share],
      timeout: float,
  ):
    """Starts the processes and makes the environments.

    Args:
      env_name: Name or importable callable, as in `suites.make`.
      config: Preprocessing.
      shares: One per worker.
      timeout: Seconds a worker may take to answer, or to advance its counter
        `beats` if it takes longer, see `worker.Worker`.

    Raises:
      ValueError: A callable cannot be pickled.
      EnvironmentWorkerError: A worker or an environment failed to start.
    """
    self._name = _display_name(env_name)
    self._timeout = timeout
    self._closed_because = None
    self._busy = None
    self._beats = None
    self._processes: list[_Process] = []
    source = _pickle(env_name, config)
    self._memory_file = memory.create_file()
    try:
      for share in shares:
        self._processes.append(_Process(share, self._memory_file))
      for process in self._processes:
        self._send(process, 'build', process.share, source)
      answers = self.collect(
          range(len(shares)), timeout=max(timeout, _MIN_START)
      )
    except BaseException:
      self.close(grace=0.0)
      raise
    self.spaces: list[tuple] = [pair for pairs in answers for pair in pairs]

  def share_memory(
      self, fields: dict[str, memory.Field]
  ) -> dict[str, np.ndarray]:
    """Allocates arrays that all processes share; returns them by name."""
    memory.allocate(self._memory_file, fields)
    arrays = memory.map_arrays(self._memory_file, fields)
    os.close(self._memory_file)
    self._memory_file = None
    self._busy, self._beats = arrays['busy'], arrays['beats']
    self.ask(range(len(self._processes)), 'attach', fields)
    return arrays

  def ask(
      self, workers: Sequence[int], request: str, *arguments: Any
  ) -> list[Any]:
    """Sends a request to several workers; returns their answers."""
    self.request(workers, request, *arguments)
    return self.collect(workers)

  def request(self, workers: Iterable[int], request: str, *arguments: Any):
    """Sends a request to several workers without waiting for answers.

    Args:
      workers: Indices of the workers.
      request: Name of a method of `worker.Worker`.
      *arguments: Its arguments.

    Raises:
      EnvironmentWorkerError: A worker is dead.
      RuntimeError: The pool is closed.
    """
    self.check_open()
    for w in workers:
      self._send(self._processes[w], request, *arguments)

  def collect(
      self, workers: Iterable[int], timeout: float | None = None
  ) -> list[Any]:
    """Waits for the answers of several workers.

    Args:
      workers: Indices of the workers, each with an unanswered request.
      timeout: Seconds; None is that of the constructor. Time during which this
        process itself was suspended does not count.

    Returns:
      The answers in the order of `workers`.

    Raises:
      EnvironmentWorkerError: A worker died, hung, or an environment raised.
      RuntimeError: The pool is closed.
    """
    self.check_open()
    try:
      return self._collect(list(workers), timeout)
    except BaseException:
      # Answers left in the pipe would be taken for those of later requests.
      self.close('waiting for them was interrupted', grace=0.0)
      raise

  def _collect(self, workers: list[int], timeout: float | None) -> list[Any]:
    waiting = {self._processes[w].connection: w for w in workers}
    answers = {}
    allowed = self._timeout if timeout is None else timeout
    left = dict.fromkeys(workers, allowed)
    beats = self._beats_of(workers)
    while waiting:
      interval = min(_POLL, *(left[w] for w in waiting.values()))
      began = time.monotonic()
      ready = multiprocessing.connection.wait(list(waiting), interval)
      passed = min(time.monotonic() - began, interval)
      before, beats = beats, self._beats_of(workers)
      for w in workers:
        left[w] = left[w] - passed if beats[w] == before[w] else allowed
      for connection in ready:
        w = waiting.pop(connection)
        answers[w] = self._receive(self._processes[w])
      for w in waiting.values():
        process = self._processes[w]
        if process.process.poll() is not None and not process.connection.poll():
          self._fail_dead(process)
      for w in sorted(waiting.values()):
        if left[w] <= 0:
          self._fail_hung(self._processes[w], timeout)
    return [answers[w] for w in workers]

  def _beats_of(self, workers: Iterable[int]) -> dict[int, int]:
    """The counters `beats` of several workers, see `worker.Worker`."""
    return {
        w: 0 if self._beats is None else int(self._beats[w]) for w in workers
    }

  def check_open(self):
    """Raises RuntimeError if the pool is closed."""
    if self._closed_because is not None:
      raise RuntimeError(
          f'the environments are closed ({self._closed_because}): make new ones'
      )

  def close(self, reason: str = 'close() was called', grace: float = _GRACE):
    """Ends all workers; does nothing the second time.

    Args:
      reason: Why, for the errors of later calls.
      grace: Seconds the environments have to close before they are killed.
    """
    if self._closed_because is not None:
      return
    self._closed_because = reason
    if self._memory_file is not None:
      os.close(self._memory_file)
      self._memory_file = None
    for process in self._processes:
      process.connection.close()
    deadline = time.monotonic() + grace
    for process in self._processes:
      try:
        process.process.wait(max(deadline - time.monotonic(), 0.0))
      except subprocess.TimeoutExpired:
        process.process.kill()
    for process in self._processes:
      process.process.wait()

  def _send(self, process: _Process, request: str, *arguments: Any):
    try:
      process.connection.send((request, arguments))
    except (BrokenPipeError, ConnectionResetError):
      self._fail_dead(process)

  def _receive(self, process: _Process) -> Any:
    try:
      answer = process.connection.recv()
    except (EOFError, ConnectionResetError):
      self._fail_dead(process)
    if answer[0] == 'done':
      return answer[1]
    _, environment, text, cause = answer
    where = '' if environment is None else f'environment {environment} of '
    kind, _, message = cause.partition(': ')
    if kind == _RETURNED:
      self.close(f'after an error: {message}', grace=0.0)
      raise errors.EnvironmentReturnedError(
          f'{where}{self._name}: {message}: mend the environment; what has '
          'been saved is kept', process.share.worker, environment,
      )
    self._fail(
        process,
        f'{where}{self._name} failed in {process}: {cause}. All environments '
        'have been closed; fix the cause and make them again',
        environment,
        text,
    )

  def _fail_dead(self, process: _Process) -> NoReturn:
    try:
      status = process.process.wait(_GRACE)
    except subprocess.TimeoutExpired:
      status = None
    if status is None:
      how = 'closed its connection'
    elif status < 0:
      how = f'was killed by {signal.Signals(-status).name}'
      if -status == signal.SIGKILL:
        how += (
            ' (as when memory runs out, or when the thread that made the '
            'environments has ended)'
        )
    else:
      how = f'exited with status {status}; see its output above'
    self._fail_naming_environment(
        process, f'{process} of {self._name} {how}', died=status is not None
    )

  def _fail_hung(self, process: _Process, timeout: float | None) -> NoReturn:
    seconds = self._timeout if timeout is None else timeout
    self._fail_naming_environment(
        process,
        f'{process} of {self._name} has not answered for {seconds:g} s; if its '
        'environments are that slow, raise worker_timeout',
    )

  def _fail_naming_environment(
      self, process: _Process, message: str, died: bool = False
  ) -> NoReturn:
    """Adds the environment that the worker was working on to the message."""
    environment = None
    if self._busy is not None and self._busy[process.share.worker] >= 0:
      environment = int(self._busy[process.share.worker])
      message += f'; it was busy with environment {environment}'
    self._fail(process, message + '. All environments have been closed',
               environment, died=died)

  def _fail(
      self,
      process: _Process,
      message: str,
      environment: int | None,
      text: str = '',
      died: bool = False,
  ) -> NoReturn:
    self.close(f'after an error: {message.splitlines()[0]}', grace=0.0)
    raise errors.EnvironmentWorkerError(
        message, process.share.worker, environment, text, died
    )


def _pickle(
    env_name: suites.EnvironmentSource, config: suites.EnvironmentConfig
) -> bytes:
  try:
    return pickle.dumps((env_name, config))
  except (pickle.PicklingError, AttributeError, TypeError) as error:
    raise ValueError(
        f'{env_name!r} cannot be sent to worker processes ({error}): use a '
        'function at the top level of an importable module'
    ) from error


def _display_name(env_name: suites.EnvironmentSource) -> str:
  """Returns the environment's name for errors."""
  if isinstance(env_name, str):
    return env_name
  if hasattr(env_name, '__qualname__'):
    return f'{env_name.__module__}.{env_name.__qualname__}'
  return repr(env_name)


def _ranges(indices: Sequence[int]) -> str:
  """Returns '0-3, 8-11' for [0, 1, 2, 3, 8, 9, 10, 11]."""
  runs = []
  for i in sorted(indices):
    if runs and i == runs[-1][1] + 1:
      runs[-1][1] = i
    else:
      runs.append([i, i])
  return ', '.join(
      str(first) if first == last else f'{first}-{last}' for first, last in runs
  )
