"""A resumed run is the uninterrupted one, bit by bit."""

import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from rnd_agent.environments import states

pytestmark = pytest.mark.slow

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_TIMING = ('wall_time_s', 'steps_per_second')
_CORE = (
    'ActorCriticNetwork.core = @GRUCell()', 'GRUCell.units = 16',
    'PPOConfig.sequence_length = 8',
)


def _command(folder, *bindings, num_iterations=10):
  return [
      sys.executable, str(_ROOT / 'train_eval.py'), f'--root_dir={folder}',
      f'--gin_file={_ROOT}/configs/smoke.gin',
      *(f'--gin_bindings={binding}' for binding in (
          f'train_eval.num_iterations = {num_iterations}',
          'train_eval.num_parallel_environments = 4',
          'train_eval.random_rollouts = 1',
          # Smaller than the game's, so that it is quick.
          'ActorCriticNetwork.conv_layer_params = ((8, 8, 4), (8, 4, 2))',
          'ActorCriticNetwork.fc_layer_params = (32,)',
          'RNDNetwork.conv_layer_params = ((8, 8, 4), (8, 4, 2))',
          'RandomNetworkDistillation.feature_dim = 16',
          'RandomNetworkDistillation.predictor_hidden_units = (16,)',
          # Episodes end inside the run.
          'EnvironmentConfig.max_episode_steps = 50',
          *bindings,
      )),
  ]


def _environment():
  return {**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3'}


def _run(command):
  result = subprocess.run(
      command, env=_environment(), capture_output=True, text=True, timeout=300
  )
  assert result.returncode == 0, result.stderr[-2000:]
  return result.stdout


def _rows(folder):
  path = folder / 'metrics.csv'
  if not path.exists():
    return []
  with open(path, newline='', encoding='utf-8') as file:
    return list(csv.DictReader(file))


def _run_until(command, folder, iteration, number):
  """Ends a run by a signal as soon as an iteration is in metrics.csv."""
  process = subprocess.Popen(
      command, env=_environment(), stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT, text=True,
  )
  deadline = time.monotonic() + 300
  try:
    while len(_rows(folder)) < iteration:
      assert process.poll() is None, process.communicate()[0]
      assert time.monotonic() < deadline
      time.sleep(0.01)
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
  finally:
    process.kill()
    process.wait()
  return output


def _arrays(folder, iteration=10):
  """Everything in a checkpoint; of the progress what is no time."""
  reader = tf.train.load_checkpoint(
      str(folder / 'checkpoints' / f'iteration-{iteration}')
  )
  arrays = {
      key: reader.get_tensor(key)
      for key in reader.get_variable_to_shape_map()
      if not key.startswith('_CHECKPOINTABLE')
  }
  key, = (k for k in arrays if k.startswith('progress/'))
  progress = json.loads(arrays[key])
  del progress['wall_time_s']
  arrays[key] = progress
  return arrays


def _assert_same_run(one, other):
  arrays, others = _arrays(one), _arrays(other)
  assert arrays.keys() == others.keys()
  for kind in ('actor_critic/', 'predictor/', 'target/', 'optimizer/',
               'rnd_observations/', 'rnd_returns/', 'generator/',
               'environments/'):
    assert any(key.startswith(kind) for key in arrays), kind
  for key, value in arrays.items():
    if key.startswith('environments/'):
      value, others[key] = map(_plain, (value, others[key]))
    np.testing.assert_equal(value, others[key], err_msg=key)
  rows, other_rows = _rows(one), _rows(other)
  assert [int(row['iteration']) for row in rows] == list(range(1, 11))
  for row, other_row in zip(rows, other_rows, strict=True):
    for name in row:
      if name not in _TIMING:
        assert row[name] == other_row[name], (row['iteration'], name)


def _plain(data):
  state = states.decode(data)['environments']
  return dict(state, environments=[
      states.decode(part) for part in state['environments']
  ])


def test_killed_twice_equals_undisturbed(tmp_path):
  undisturbed, killed = tmp_path / 'undisturbed', tmp_path / 'killed'
  _run(_command(undisturbed, *_CORE))
  for iteration in (3, 7):
    _run_until(
        _command(killed, *_CORE), killed, iteration, signal.SIGKILL
    )
  output = _run(_command(killed, *_CORE))
  assert 'resuming' in output and 'new episodes' not in output
  _assert_same_run(undisturbed, killed)


def test_stopped_in_the_middle_of_a_rollout(tmp_path):
  """SIGTERM saves what the run was at its last whole iteration."""
  bindings = (
      "train_eval.env_name = 'toy:Corridor'",
      'EnvironmentConfig.frame_skip = None',
      'EnvironmentConfig.sticky_action_probability = None',
      'EnvironmentConfig.frame_size = None',
      'EnvironmentConfig.stacked_frames = None',
      'train_eval.checkpoint_interval = 1000',
  )
  undisturbed, stopped = tmp_path / 'undisturbed', tmp_path / 'stopped'
  _run(_command(undisturbed, *bindings))
  for iteration in (2, 5):
    output = _run_until(
        _command(stopped, *bindings, num_iterations=10), stopped, iteration,
        signal.SIGTERM,
    )
    assert 'saving' in output
  _run(_command(stopped, *bindings))
  _assert_same_run(undisturbed, stopped)
