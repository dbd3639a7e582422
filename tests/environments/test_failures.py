"""What goes wrong ends in one clear error and leaves nothing behind."""

import functools
import gc
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import toy_environments

from rnd_agent.environments import errors
from rnd_agent.environments.vector import shares
from rnd_agent.environments.vector.sharded import ShardedPyEnvironment


def children(parent=None):
  """Process ids of the living children; a zombie does not live."""
  found = set()
  for stat in pathlib.Path('/proc').glob('[0-9]*/stat'):
    try:
      fields = stat.read_text().rpartition(')')[2].split()
    except (FileNotFoundError, ProcessLookupError):
      continue  # It ended meanwhile.
    if int(fields[1]) == (parent or os.getpid()) and fields[0] != 'Z':
      found.add(int(stat.parent.name))
  return found


def is_alive(pid):
  try:
    text = pathlib.Path(f'/proc/{pid}/stat').read_text()
  except (FileNotFoundError, ProcessLookupError):
    return False
  return text.rpartition(')')[2].split()[0] != 'Z'


def descriptors():
  return set(os.listdir('/proc/self/fd'))


def mappings():
  maps = pathlib.Path('/proc/self/maps').read_text()
  return maps.count('memfd:rnd_environments')


@pytest.fixture(autouse=True)
def nothing_is_left():
  before = children(), len(descriptors())
  yield
  gc.collect()
  assert children() <= before[0]
  assert len(descriptors()) <= before[1]
  assert mappings() == 0


def workers_of(env):
  return [process.process.pid for process in env._pool._processes]


def test_worker_killed_in_mid_step():
  env = ShardedPyEnvironment(toy_environments.saboteur, 4, 2)
  env.reset()
  pids = workers_of(env)
  threading.Timer(0.5, os.kill, (pids[1], signal.SIGKILL)).start()
  began = time.monotonic()
  with pytest.raises(errors.EnvironmentWorkerError) as caught:
    env.step(np.array([0, 0, 0, 2]))  # Environment 3 sleeps for minutes.
  assert time.monotonic() - began < 10
  message = str(caught.value)
  assert f'worker 1 (process {pids[1]}, environments 2-3)' in message
  assert 'SIGKILL' in message and 'busy with environment 3' in message
  assert '\n' not in message.split('In call to')[0].strip()
  assert caught.value.worker == 1 and caught.value.environment == 3
  assert not any(map(is_alive, pids))
  for use in (env.reset, env.get_state, lambda: env.step(np.zeros(4, int))):
    with pytest.raises(RuntimeError, match='closed.*SIGKILL'):
      use()


def test_worker_killed_between_steps():
  env = ShardedPyEnvironment(toy_environments.walk, 4, 2)
  env.reset()
  pid = workers_of(env)[0]
  os.kill(pid, signal.SIGKILL)
  while is_alive(pid):
    time.sleep(0.01)
  with pytest.raises(errors.EnvironmentWorkerError, match='environments 0-1'):
    env.step_and_reset(np.zeros(4, np.int64))


@pytest.mark.parametrize('stopped', [True, False])
def test_hung_worker(stopped):
  env = ShardedPyEnvironment(
      toy_environments.saboteur, 3, 3, worker_timeout=1.0
  )
  env.reset()
  pids = workers_of(env)
  if stopped:
    os.kill(pids[2], signal.SIGSTOP)
  began = time.monotonic()
  with pytest.raises(errors.EnvironmentWorkerError) as caught:
    env.step(np.array([0, 0, 0 if stopped else 2]))
  assert 0.9 < time.monotonic() - began < 5
  message = str(caught.value)
  assert 'worker 2' in message and 'has not answered for 1 s' in message
  assert 'worker_timeout' in message
  assert not any(map(is_alive, pids))


def test_a_slow_start_is_no_hang():
  with ShardedPyEnvironment('toy:Corridor', 2, 1, worker_timeout=0.01) as env:
    assert env.batch_size == 2  # Starting an interpreter takes longer.


def test_repeating_a_long_episode_is_no_hang():
  """Each of its steps may take the time, not all of them together."""
  settings = dict(num_environments=1, num_workers=1, worker_timeout=1.0)
  with ShardedPyEnvironment(toy_environments.endless, **settings) as env:
    env.reset()
    for _ in range(300):  # 1.5 s
      env.step_and_reset(np.zeros(1, np.int64))
    state = env.get_state()
  with ShardedPyEnvironment(toy_environments.endless, **settings) as env:
    assert env.set_state(state) == {}
    assert env.current_time_step().observation[0, 0] == 300
    os.kill(workers_of(env)[0], signal.SIGSTOP)
    with pytest.raises(errors.EnvironmentWorkerError, match='for 1 s'):
      env.set_state(state)


@pytest.mark.parametrize('times', [2, 3])
def test_workers_that_die_as_they_start(times, tmp_path, caplog):
  source = functools.partial(
      toy_environments.dies_at_first, str(tmp_path), times
  )
  if times == 3:
    with pytest.raises(errors.EnvironmentWorkerError, match='status 3'):
      ShardedPyEnvironment(source, 1, 1)
  else:
    ShardedPyEnvironment(source, 1, 1).close()
  assert caplog.text.count('they are started once more') == 2


def test_environment_that_raises():
  culprit = shares.environment_seeds(0, 4)[2]
  source = functools.partial(toy_environments.saboteur_of, culprit)
  env = ShardedPyEnvironment(source, 4, 2)
  env.reset()
  with pytest.raises(errors.EnvironmentWorkerError) as caught:
    env.step_and_reset(np.ones(4, np.int64))
  message = str(caught.value)
  line = message.splitlines()[0]
  assert 'environment 2 of ' in line and 'saboteur_of' in line
  assert 'ZeroDivisionError: the bridge is out' in line
  assert 'Traceback (most recent call last)' in message
  assert 'toy_environments.py' in caught.value.worker_traceback
  assert caught.value.environment == 2
  with pytest.raises(RuntimeError, match='the bridge is out'):
    env.step_and_reset(np.zeros(4, np.int64))


@pytest.mark.parametrize(
    ('source', 'error', 'message'),
    [
        ('atari:MontezumasRevenge', errors.UnknownEnvironmentError,
         'MontezumaRevenge'),
        (toy_environments.broken, errors.EnvironmentWorkerError,
         'environment [02] of .*OSError: no such cartridge'),
        (toy_environments.dies, errors.EnvironmentWorkerError,
         'exited with status 3'),
        (toy_environments.unsupported, ValueError, 'Text.*not supported'),
        (toy_environments.mixed, ValueError, 'different spaces'),
        (lambda seed: None, ValueError, 'importable module'),
    ],
)  # fmt: skip
def test_failures_at_the_start(source, error, message):
  with pytest.raises(error, match=message):
    ShardedPyEnvironment(source, 4, 2)


def test_observation_that_does_not_fit_its_space():
  with pytest.raises(errors.EnvironmentWorkerError, match=r'shape \(1,\)'):
    ShardedPyEnvironment(toy_environments.misfit, 2, 1)


@pytest.fixture
def interrupts():
  """Ctrl-C raises, even where a shell started us with it ignored."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures('interrupts')
def test_interrupted_wait_closes():
  env = ShardedPyEnvironment(toy_environments.saboteur, 2, 1)
  env.reset()
  main = threading.main_thread().ident
  threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT)).start()
  with pytest.raises(KeyboardInterrupt):
    env.step(np.array([2, 2]))
  with pytest.raises(RuntimeError, match='interrupted'):
    env.reset()


def test_close_and_later_use():
  env = ShardedPyEnvironment(toy_environments.walk, 2, 2)
  with pytest.raises(RuntimeError, match='reset'):
    env.step_and_reset(np.zeros(2, np.int64))
  with pytest.raises(ValueError, match='not initialized'):
    env.current_time_step()
  env.reset()
  pids = workers_of(env)
  began = time.monotonic()
  env.close()
  env.close()
  assert time.monotonic() - began < 4  # They end by themselves.
  assert not any(map(is_alive, pids))
  for use in (
      env.reset,
      env.current_time_step,
      lambda: env.step(np.zeros(2, np.int64)),
      lambda: env.step_and_reset(np.zeros(2, np.int64)),
  ):
    with pytest.raises(RuntimeError, match='closed.*make new ones'):
      use()


def test_garbage_collection_closes():
  env = ShardedPyEnvironment(toy_environments.walk, 2, 2)
  pids = workers_of(env)
  del env
  gc.collect()
  assert not any(map(is_alive, pids))


def test_signals_for_the_whole_group_are_left_to_the_parent():
  with ShardedPyEnvironment(toy_environments.walk, 2, 2) as env:
    env.reset()
    for pid in workers_of(env):
      os.kill(pid, signal.SIGINT)
      os.kill(pid, signal.SIGTERM)
      os.kill(pid, signal.SIGHUP)
    time.sleep(0.2)
    env.step(np.zeros(2, np.int64))


_PARENT = """
import os, sys, threading
sys.path[:] = {path!r}
import numpy as np
from rnd_agent.environments import ShardedPyEnvironment
import toy_environments
env = ShardedPyEnvironment(toy_environments.saboteur, 2, 2)
env.reset()
print(*[process.process.pid for process in env._pool._processes], flush=True)
{then}
"""


def run_parent(then):
  """Starts a program of its own with two workers; returns it and their ids."""
  code = _PARENT.format(path=sys.path, then=then)
  parent = subprocess.Popen(
      [sys.executable, '-c', code], stdout=subprocess.PIPE, text=True
  )
  pids = [int(pid) for pid in parent.stdout.readline().split()]
  assert len(pids) == 2 and all(map(is_alive, pids))
  return parent, pids


def wait_until_gone(pids):
  deadline = time.monotonic() + 5
  while any(map(is_alive, pids)) and time.monotonic() < deadline:
    time.sleep(0.05)
  assert not any(map(is_alive, pids))


@pytest.mark.slow
def test_workers_die_with_a_killed_parent():
  # One worker waits for work, the other sleeps in a step.
  parent, pids = run_parent('env.step(np.array([0, 2]))')
  time.sleep(0.3)
  parent.kill()
  parent.wait()
  parent.stdout.close()
  wait_until_gone(pids)


@pytest.mark.slow
def test_workers_end_with_a_program_that_forgets_to_close():
  parent, pids = run_parent('')
  assert parent.wait(20) == 0
  parent.stdout.close()
  wait_until_gone(pids)


@pytest.mark.slow
def test_a_forked_copy_does_not_end_the_workers():
  then = (
      'if os.fork() == 0: sys.exit(0)\n'
      'os.wait()\n'
      'env.step(np.array([0, 0]))\n'
      'env.close()\n'
  )
  parent, pids = run_parent(then)
  assert parent.wait(20) == 0
  parent.stdout.close()
  wait_until_gone(pids)


@pytest.mark.skipif(sys.platform != 'linux', reason='only on Linux')
def test_workers_do_not_interrupt_the_parent():
  with ShardedPyEnvironment(toy_environments.walk, 2, 2) as env:
    for pid in workers_of(env):
      assert os.sched_getscheduler(pid) == os.SCHED_BATCH
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.mark.skipif(sys.platform != 'linux', reason='only on Linux')
def test_a_policy_chosen_by_the_user_stays():
  # An unprivileged process of SCHED_IDLE may not take another one.
  program = (
      'import os; from rnd_agent.environments.vector import worker; '
      'os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0)); '
      'worker.run_as_batch(); '
      'assert os.sched_getscheduler(0) == os.SCHED_IDLE'
  )
  subprocess.run([sys.executable, '-c', program], check=True)


def test_workers_do_not_load_tensorflow():
  with ShardedPyEnvironment('atari:Pong', 2, 1) as env:
    maps = pathlib.Path(f'/proc/{workers_of(env)[0]}/maps').read_text()
    assert 'tensorflow' not in maps
    assert 'ale_py' in maps
    assert 'memfd:rnd_environments' in maps
    kilobytes = re.search(
        r'VmRSS:\s+(\d+)',
        pathlib.Path(f'/proc/{workers_of(env)[0]}/status').read_text(),
    )
    assert int(kilobytes[1]) < 250_000


@pytest.mark.slow
def test_the_user_script_is_not_run_again(tmp_path):
  script = tmp_path / 'script.py'
  script.write_text(
      f'import sys; sys.path[:] = {sys.path!r}\n'
      'print("once", flush=True)\n'
      'from rnd_agent.environments import ShardedPyEnvironment\n'
      'def mine(seed): return None\n'
      'ShardedPyEnvironment("toy:Corridor", 2, 2).close()\n'
      'try:\n'
      '  ShardedPyEnvironment(mine, 2, 2)\n'
      'except (ValueError, RuntimeError) as error:\n'
      '  print(error)\n'
  )
  done = subprocess.run(
      [sys.executable, script], capture_output=True, text=True, timeout=60
  )
  assert done.stdout.count('once') == 1
  assert 'importable module' in done.stdout
