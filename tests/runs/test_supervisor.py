"""Signals that reach the supervisor before its workers run."""

import os
import signal
import subprocess

import pytest

from rnd_agent.commands import supervisor


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_workers_start_ends_them(monkeypatch, number):
  processes = []

  def start(place):
    del place
    os.kill(os.getpid(), number)
    processes.append(subprocess.Popen(['sleep', '20']))
    return processes[-1]

  monkeypatch.setattr(supervisor, '_start', start)
  assert supervisor.supervise(1, restarts=3) == 0
  assert [process.returncode for process in processes] == [-number]


@pytest.mark.parametrize('handler, status', [
    (signal.SIG_DFL, -signal.SIGHUP), (signal.SIG_IGN, 0),
])
def test_the_end_of_a_terminal_is_ignored_under_nohup(
    monkeypatch, handler, status
):
  processes = []

  def start(place):
    del place
    processes.append(subprocess.Popen(['sleep', '1']))
    return processes[-1]

  def wait(workers):
    os.kill(os.getpid(), signal.SIGHUP)  # They have it from the supervisor.
    return workers[0].wait()

  monkeypatch.setattr(supervisor, '_start', start)
  monkeypatch.setattr(supervisor, '_wait', wait)
  before = signal.signal(signal.SIGHUP, handler)
  try:
    assert supervisor.supervise(1, restarts=0) == 0
    assert signal.getsignal(signal.SIGHUP) == handler
  finally:
    signal.signal(signal.SIGHUP, before)
  assert [process.returncode for process in processes] == [status]
