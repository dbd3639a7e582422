"""Starts train_eval.py's workers, and starts them again when one is lost.

The workers are the same command in processes of their own. Those of one
machine are told of each other (TF_CONFIG), on addresses that no other machine
can reach; where TF_CONFIG is set already, there is one worker here, and the
others are started elsewhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import NamedTuple, Optional, Sequence

import psutil

from rnd_agent.common import cluster_task
from rnd_agent.common import stop_signals

# Exit statuses that starting again would not mend: a mistake of the user's, and
# a training that diverged.
_FINAL = (2, 3)
# Seconds: between looks at the workers; for the others to end when one has
# ended, or for one that is stopped to go on; until those elsewhere noticed.
_INTERVAL = 0.2
_GRACE = 30.0
_PAUSE = 15.0
_PR_SET_PDEATHSIG = 1


def supervise(workers: int, restarts: int) -> int:
  """Runs this process's own command in workers until they are done.

  Args:
    workers: how many on this machine.
    restarts: how often they are started again at most.

  Returns:
    An exit status: 0 when all are done or were asked to stop, otherwise that
    of the first worker that failed.
  """
  stop = _Stop()
  with stop_signals.handled(stop.handle):
    while True:
      status = _run(workers, stop)
      if stop.signal and status == -stop.signal:
        return 0  # The signal came before the worker could handle it.
      if status == 0 or status in _FINAL or stop.signal or restarts <= 0:
        return max(status, 1) if status else 0  # Below 0: ended by a signal.
      restarts -= 1
      _say(f'starting again from the newest checkpoint ({restarts} left)')
      if os.environ.get(cluster_task.VARIABLE):
        time.sleep(_PAUSE)
        if stop.signal:
          return 0  # What there is was saved before.


class Place(NamedTuple):
  """Where a worker runs.

  Attributes:
    environment: variables that tell it of the others.
    cores: numbers of those that it may use; None for all of its parent's.
  """

  environment: dict[str, str]
  cores: Optional[list[int]]

  def prepare(self) -> None:
    """Prepares the worker's process, before its program begins."""
    # Without the parent nobody would start it again, nor stop it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if self.cores is not None:
      os.sched_setaffinity(0, self.cores)


class _Stop:
  """The last signal that asked to stop, handed on to the workers."""

  def __init__(self):
    self.signal: Optional[int] = None
    self.processes: Sequence[subprocess.Popen] = ()
    self._handed_on = False

  def handle(self, number, frame) -> None:
    del frame
    self.signal = number
    for process in self.processes:
      process.send_signal(number)
      self._handed_on = True

  def hand_on_to(self, processes: Sequence[subprocess.Popen]) -> None:
    """Hands signals on to processes, one that came before included."""
    self.processes = processes
    if self.signal and not self._handed_on:
      self.handle(self.signal, None)


def _run(workers: int, stop: _Stop) -> int:
  """Starts the workers once; the status of the first that failed, or 0."""
  processes = [_start(place) for place in places(workers)]
  try:
    stop.hand_on_to(processes)
    return _wait(processes)
  finally:
    for process in processes:
      process.kill()
      process.wait()
    stop.processes = ()


def _wait(processes: Sequence[subprocess.Popen]) -> int:
  """Waits for all; when one has failed, not for long for the others."""
  first, deadline = 0, None
  stopped_since: dict[int, float] = {}
  while any(process.poll() is None for process in processes):
    now = time.monotonic()
    for process in processes:
      if process.poll():
        first = first or process.returncode
        deadline = deadline or now + _GRACE
      if not _is_stopped(process):
        stopped_since.pop(process.pid, None)
      elif now - stopped_since.setdefault(process.pid, now) > _GRACE:
        process.kill()
    if deadline and now > deadline:
      return first
    time.sleep(_INTERVAL)
  return first or next((p.returncode for p in processes if p.returncode), 0)


def _is_stopped(process: subprocess.Popen) -> bool:
  try:
    return psutil.Process(process.pid).status() == psutil.STATUS_STOPPED
  except psutil.NoSuchProcess:
    return False


def places(workers: int) -> list[Place]:
  """Deals the cores of this process to workers; each is told of the others.

  Args:
    workers: how many. More than cores share all of them.

  Returns:
    One for each.
  """
  if workers == 1:
    return [Place({}, None)]
  addresses = _free_addresses(workers)
  cores = sorted(os.sched_getaffinity(0))
  dealt = []
  for index in range(workers):
    own = None
    if workers <= len(cores):
      own = cores[
          index * len(cores) // workers:(index + 1) * len(cores) // workers
      ]
    task = {
        'cluster': {'worker': addresses},
        'task': {'type': 'worker', 'index': index},
    }
    dealt.append(Place({cluster_task.VARIABLE: json.dumps(task)}, own))
  return dealt


def _free_addresses(number: int) -> list[str]:
  """Addresses that only this machine can reach."""
  with contextlib.ExitStack() as stack:
    sockets = [
        stack.enter_context(socket.socket()) for _ in range(number)
    ]
    for each in sockets:
      each.bind(('127.0.0.1', 0))
    return [f'127.0.0.1:{each.getsockname()[1]}' for each in sockets]


def _start(place: Place) -> subprocess.Popen:
  return subprocess.Popen(
      [sys.executable, *sys.orig_argv[1:]],
      env={**os.environ, **place.environment, cluster_task.SUPERVISED: '1'},
      preexec_fn=place.prepare,
      start_new_session=True,  # A terminal's signals come once, through here.
  )


def _say(text: str) -> None:
  print(f'train_eval: {text}', file=sys.stderr, flush=True)
