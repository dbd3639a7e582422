"""Several workers train as one, and survive the loss of one another."""

import csv
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import command_line
import numpy as np
import psutil
import pytest

from rnd_agent.common import cluster_task
from rnd_agent.environments import states
from rnd_agent.training import recovery

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_BINDINGS = (
    *command_line.TINY, 'train_eval.num_parallel_environments = 8',
    'train_eval.checkpoint_interval = 2',
)
# Compares one process with all rows against each worker with its own.
_ONE_UPDATE = '''
import sys
import numpy as np
import tensorflow as tf
import rnd_agent
from rnd_agent.learning import rollout as rollout_lib
from rnd_agent.training import cluster
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts

workers = cluster.join()
tf.keras.utils.set_random_seed(1)
SPEC = tf.TensorSpec([3], tf.float32)
ACTIONS = tensor_spec.BoundedTensorSpec([], tf.int64, 0, 2)
bonus = rnd_agent.RandomNetworkDistillation(
    SPEC, rnd_agent.RNDConfig(predictor_proportion=1.0), feature_dim=4,
    predictor_hidden_units=(8,),
)
bonus.build(8)
agent = rnd_agent.RNDPPOAgent(
    ts.time_step_spec(SPEC), ACTIONS, tf.keras.optimizers.Adam(1e-2),
    actor_critic_net=rnd_agent.ActorCriticNetwork(
        SPEC, ACTIONS, fc_layer_params=(8, 8)
    ),
    bonus=bonus, num_minibatches=2, num_epochs=3, gradient_clipping=0.5,
    normalize_advantages=True,
    train_step_counter=tf.Variable(0, dtype=tf.int64),
)
random = np.random.default_rng(5)
B, T = 8, 6


def floats(*shape):
  return random.normal(size=shape).astype(np.float32)


step_types = np.full((B, T + 1), 1, np.int32)
step_types[::3, 2] = 2  # Boundary rows: workers have different many steps.
step_types[::3, 3] = 0
rollout = rollout_lib.Rollout(
    floats(B, T + 1, 3), step_types, step_types[:, 1:],
    random.integers(3, size=(B, T)), floats(B, T),
    np.ones((B, T), np.float32), {'logits': floats(B, T, 3)},
    floats(B, T + 1), floats(B, T + 1), np.zeros((B, T), np.float32),
)
# A minibatch of all has the rows of both workers' minibatches.
rows = np.array([0, 1, 4, 5, 2, 3, 6, 7])
if workers is not None:
  rows = np.arange(8)[workers.index * 4:][:4]
for _ in range(2):
  agent.train_rollout(
      tf.nest.map_structure(lambda x: tf.constant(x[rows]), rollout)
  )
items = {k: v for k, v in agent.checkpoint_items().items() if k != 'generator'}
memory = bonus.return_normalizer.memory.numpy()
if workers is None:
  memory = memory[np.argsort(rows)]
arrays = [v.numpy() for v in agent.trained_variables]
arrays += [v.numpy() for v in bonus.target.variables]
for statistics in (
    bonus.observation_normalizer, bonus.return_normalizer.statistics
):
  arrays += [statistics.count, statistics.mean, statistics.variance]
arrays += [v.numpy() for v in agent._optimizer.variables]
np.savez(sys.argv[1], *arrays, memory)
if workers is not None:
  cluster.check_equal_variables(workers, items)
  workers.leave()
'''


def _task(number, index, ports):
  return {cluster_task.VARIABLE: json.dumps({
      'cluster': {'worker': [f'127.0.0.1:{port}' for port in ports[:number]]},
      'task': {'type': 'worker', 'index': index},
  })}


def _ports(number):
  sockets = [socket.create_server(('127.0.0.1', 0)) for _ in range(number)]
  ports = [each.getsockname()[1] for each in sockets]
  for each in sockets:
    each.close()
  return ports


def _command(folder, *bindings):
  return [
      sys.executable, str(_ROOT / 'train_eval.py'), f'--root_dir={folder}',
      *(f'--gin_bindings={binding}' for binding in (*_BINDINGS, *bindings)),
  ]


def _quiet():
  return {**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3'}


def _rows(folder):
  with open(folder / 'metrics.csv', encoding='utf-8') as file:
    rows = list(csv.DictReader(file))
  for row in rows:
    row.pop('wall_time_s')
    speed = float(row.pop('steps_per_second'))
    own = row.pop('steps_per_second_per_worker')
    assert not own or float(own) == pytest.approx(speed / 2, rel=1e-6)
  return rows


@pytest.mark.slow
def test_an_update_is_that_of_one_process_with_all_rows(tmp_path):
  ports = _ports(2)
  environments = [{}, *(_task(2, i, ports) for i in range(2))]
  processes = [
      subprocess.Popen(
          [sys.executable, '-c', _ONE_UPDATE, str(tmp_path / f'{i}.npz')],
          env={**_quiet(), **environment}, cwd=_ROOT,
      ) for i, environment in enumerate(environments)
  ]
  assert [p.wait(timeout=240) for p in processes] == [0, 0, 0]
  alone, first, second = (
      list(np.load(tmp_path / f'{i}.npz').values()) for i in range(3)
  )
  for one, other in zip(first, second, strict=True):
    np.testing.assert_array_equal(one, other)
  for one, other in zip(alone, first, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_two_workers_go_on_as_if_never_stopped(tmp_path):
  whole, halves = tmp_path / 'whole', tmp_path / 'halves'
  for folder, lengths in ((whole, (4,)), (halves, (2, 4))):
    for length in lengths:
      result = subprocess.run(
          [*_command(folder, f'train_eval.num_iterations = {length}'),
           '--workers=2'],
          env=_quiet(), capture_output=True, text=True, timeout=300,
      )
      assert result.returncode == 0, result.stderr[-2000:]
  assert _rows(whole) == _rows(halves) and len(_rows(whole)) == 4
  assert [int(row['env_steps']) for row in _rows(whole)] == [64, 128, 192, 256]
  with open(whole / 'metrics.csv', encoding='utf-8') as file:
    assert all(r['steps_per_second_per_worker'] for r in csv.DictReader(file))
  # On another number of workers it goes on, and says so.
  result = subprocess.run(
      _command(halves, 'train_eval.num_iterations = 5'), env=_quiet(),
      capture_output=True, text=True, timeout=300,
  )
  assert result.returncode == 0, result.stderr[-2000:]
  assert 'workers: 1 instead of 2; the env' in result.stdout
  assert len(_rows(halves)) == 5


@pytest.mark.slow
def test_two_workers_find_the_end_of_the_corridor(tmp_path):
  bindings = (
      "train_eval.env_name = 'toy:Corridor'",
      'train_eval.num_parallel_environments = 32',
      'train_eval.num_workers = 1',
      'train_eval.rollout_length = 64',
      'train_eval.num_iterations = 60',
      'train_eval.target_return = 0.91',
      'train_eval.random_rollouts = 5',
      'train_eval.eval_interval = 0',
      'PPOConfig.learning_rate = 1e-3',
      'ActorCriticNetwork.fc_layer_params = (64, 64)',
      'RandomNetworkDistillation.feature_dim = 32',
      'RandomNetworkDistillation.predictor_hidden_units = (64,)',
  )
  result = subprocess.run(
      [sys.executable, str(_ROOT / 'train_eval.py'), '--workers=2',
       f'--root_dir={tmp_path}',
       *(f'--gin_bindings={binding}' for binding in bindings)],
      env=_quiet(), capture_output=True, text=True, timeout=400,
  )
  assert result.returncode == 0, result.stderr[-2000:]
  last = _rows(tmp_path)[-1]
  assert float(last['episode_return_mean']) > 0.9
  assert int(last['rooms_discovered']) == 20


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_worker_is_named_and_the_run_starts_again(number, tmp_path):
  folder = tmp_path / 'run'
  process = subprocess.Popen(
      [*_command(folder, 'train_eval.num_iterations = 0'), '--workers=2',
       '--restarts=1'],
      env=_quiet(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
      text=True,
  )
  try:
    _wait_for_rows(folder, 4)
    before = psutil.Process(process.pid).children()
    assert len(before) == 2
    _assert_reached_at_their_address_alone(before)
    before[1].send_signal(number)
    psutil.wait_procs(before, timeout=90)
    rows = len(_rows(folder))
    _wait_for_rows(folder, rows + 3)
    # Asked to stop, one of them stops all.
    psutil.Process(process.pid).children()[1].terminate()
    _, error = process.communicate(timeout=120)
  finally:
    process.kill()
  assert process.returncode == 0
  assert 'error: worker 1 (127.0.0.1:' in error
  assert 'starting again from the newest checkpoint (0 left)' in error
  iterations = [int(row['iteration']) for row in _rows(folder)]
  assert iterations == list(range(1, len(iterations) + 1))


def _assert_reached_at_their_address_alone(processes):
  described = json.loads(processes[0].environ()[cluster_task.VARIABLE])
  for address in described['cluster']['worker']:
    host, _, port = address.partition(':')
    socket.create_connection((host, int(port)), timeout=5).close()
    with pytest.raises(OSError, match='timed out'):
      socket.create_connection(('127.0.0.2', int(port)), timeout=1)


def _wait_for_rows(folder, number):
  deadline = time.monotonic() + 150
  while time.monotonic() < deadline:
    if (folder / 'metrics.csv').exists() and len(_rows(folder)) >= number:
      return
    time.sleep(0.5)
  raise AssertionError(f'no {number} rows in time')


@pytest.mark.slow
def test_another_seed_is_refused_and_named(tmp_path):
  ports = _ports(2)
  processes = [
      subprocess.Popen(
          _command(tmp_path / 'run', f'train_eval.seed = {i}'),
          env={**_quiet(), **_task(2, i, ports)}, stderr=subprocess.PIPE,
          stdout=subprocess.DEVNULL, text=True,
      ) for i in range(2)
  ]
  errors = [process.communicate(timeout=120)[1] for process in processes]
  assert [process.returncode for process in processes] == [2, 2]
  assert 'worker 1 differs from worker 0 in its config' in errors[0]
  assert 'train_eval.seed = 1' in errors[0]


# ------------------------------------------------- without any other process


@pytest.mark.parametrize('text', [
    'x', '[]', '{"cluster": {"worker": ["a:1"]}}',
    '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]},'
    ' "task": {"type": "worker", "index": 0}}',
    '{"cluster": {"worker": ["a:1", "a:1"]},'
    ' "task": {"type": "worker", "index": 0}}',
    '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
])
def test_a_wrong_description_is_one_line(text, monkeypatch):
  monkeypatch.setenv(cluster_task.VARIABLE, text)
  with pytest.raises(ValueError, match='TF_CONFIG: .*must be like') as caught:
    cluster_task.task()
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('text', ['', ' ', '{}', '{"cluster": {}}'])
def test_no_cluster_is_one_worker(text, monkeypatch):
  monkeypatch.setenv(cluster_task.VARIABLE, text)
  assert cluster_task.task() == (1, 0)


def test_environments_that_cannot_be_shared_are_one_line(tmp_path, monkeypatch):
  monkeypatch.setenv(
      cluster_task.VARIABLE, _task(3, 0, [1, 2, 3])[cluster_task.VARIABLE]
  )
  result = command_line.main([
      f'--root_dir={tmp_path / "run"}',
      *(f'--gin_bindings={binding}' for binding in _BINDINGS),
  ])
  assert result.status == 2
  assert '= 8: 3 workers cannot share them evenly in' in result.error
  assert not (tmp_path / 'run').exists()


def _state(first, environments):
  return states.encode({'environments': {
      'environments': [bytes([first + i]) for i in range(environments)],
      'arrays': {'rewards': np.arange(first, first + environments)},
      'episodes': [[1, 2.5, 3, []]], 'started': True,
  }})


@pytest.mark.parametrize('number', [1, 2, 4])
def test_states_are_joined_and_dealt(number):
  joined = recovery.joined_states([_state(0, 2), _state(2, 2)])
  parts = [
      states.decode(recovery.part_of_state(joined, i, number))['environments']
      for i in range(number)
  ]
  assert sum((part['environments'] for part in parts), []) == [
      b'\x00', b'\x01', b'\x02', b'\x03']
  np.testing.assert_array_equal(
      np.concatenate([part['arrays']['rewards'] for part in parts]),
      np.arange(4),
  )
  episodes = [
      i * 4 // number + row[0] for i, part in enumerate(parts)
      for row in part['episodes']
  ]
  assert episodes == [1, 3]
  with pytest.raises(ValueError, match='3 workers cannot share'):
    recovery.part_of_state(joined, 0, 3)
