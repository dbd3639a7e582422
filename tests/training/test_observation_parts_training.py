"""A run on an image beside a vector: trained, resumed, exported, played."""

import csv

import command_line
import gin
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.trajectories import time_step as ts

from rnd_agent.runs import run_folder
from rnd_agent.viewing import play_lib

_ROBOT = (
    *command_line.TINY,
    "train_eval.env_name = 'gymnasium:toy_environments:Robot-v0'",
)


def _train(folder, *bindings):
  return command_line.main([
      f'--root_dir={folder}',
      *(f'--gin_bindings={binding}' for binding in (*_ROBOT, *bindings)),
  ])


def _rows(folder):
  with open(folder / 'metrics.csv', encoding='utf-8') as file:
    rows = list(csv.DictReader(file))
  for row in rows:
    row.pop('wall_time_s'), row.pop('steps_per_second')
  return rows


def test_it_trains_and_goes_on_as_if_never_stopped(tmp_path):
  whole, halves = tmp_path / 'whole', tmp_path / 'halves'
  assert _train(whole, 'train_eval.num_iterations = 4').status == 0
  for iterations in (2, 4):
    result = _train(halves, f'train_eval.num_iterations = {iterations}')
    assert result.status == 0, result.error
  assert _rows(whole) == _rows(halves)
  assert float(_rows(whole)[-1]['loss_predictor']) > 0

  policy = tf.saved_model.load(str(whole / 'policy' / 'collect'))
  step = ts.restart({
      'camera': tf.zeros([2, 12, 10, 3], tf.uint8),
      'vector': tf.zeros([2, 6]),
  }, batch_size=2)
  assert policy.action(step).action.shape == (2,)

  gin.clear_config()
  player = play_lib.Player(run_folder.RunFolder(whole), trust=True)
  try:
    outcome = player.play()
  finally:
    player.close()
  assert outcome.length == 5 and np.isfinite(outcome.trace.bonus).all()


@pytest.mark.slow
@pytest.mark.usefixtures('no_export')
@pytest.mark.parametrize('bindings', [
    ("RandomNetworkDistillation.select = 'vector'",),
    ('ActorCriticNetwork.core = @GRUCell()', 'GRUCell.units = 8'),
    ("train_eval.parallel_environments = 'tf_agents'",),
    ("train_eval.precision = 'mixed_bfloat16'",),
    ('RNDConfig.intrinsic_coefficient = 0.0',
     'RNDConfig.extrinsic_coefficient = 1.0'),
    ('train_eval.eval_interval = 1', 'train_eval.num_eval_episodes = 2'),
    ('ComputeConfig.lanes = 2',),
], ids=['select', 'core', 'tf_agents', 'bfloat16', 'ppo', 'evaluation',
        'lanes'])
def test_it_trains_in_every_way(bindings, tmp_path):
  result = _train(tmp_path / 'run', *bindings)
  assert result.status == 0, result.error
  assert 'finished after iteration 2' in result.output


@pytest.mark.usefixtures('no_export')
def test_a_part_that_is_not_there_is_one_line(tmp_path):
  result = _train(
      tmp_path / 'run', "RandomNetworkDistillation.select = 'arm'"
  )
  assert result.status == 2
  line = result.error.strip().splitlines()[-1]
  assert "select = 'arm': the observation has no such part" in line
  assert 'Traceback' not in result.error
