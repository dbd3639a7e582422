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
