"""Every bonus of the package trains, resumes exactly, plays, and is a start."""

import csv
import pathlib
import shutil

import command_line
import numpy as np
import pytest
import tensorflow as tf

from rnd_agent.bonuses import base
from rnd_agent.bonuses import mixtures
from rnd_agent.runs import run_folder
from rnd_agent.settings import shipped_parts
from rnd_agent.viewing import play_lib

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('no_export')]

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_SMALL = (
    'train_eval.num_parallel_environments = 4',
    'train_eval.num_workers = 1',
    'train_eval.rollout_length = 32',
    'train_eval.num_minibatches = 2',
    'train_eval.num_epochs = 1',
    'train_eval.eval_interval = 0',
    'train_eval.random_rollouts = 1',
    'train_eval.checkpoint_interval = 1',
    'EnvironmentConfig.layout_seed = None',
    'EnvironmentConfig.max_episode_steps = 20',
)
# Those that are not chosen are left out.
_MIXED = tuple(
    f'{name}.bonuses = (@E3B, @NovelD, @EpisodicCounts)'
    for name in ('SumOfBonuses', 'ProductOfBonuses')
)
_CONFIG = 'minigrid_multiroom.gin'
_CLOCK = ('wall_time_s', 'steps_per_second')


def _train(folder, name, *bindings):
  result = command_line.main([
      f'--root_dir={folder}', f'--gin_file={_ROOT}/configs/{_CONFIG}',
      *(f'--gin_bindings={binding}' for binding in (
          *_SMALL, *_MIXED, f'train_eval.bonus = @{name}', *bindings
      )),
  ])
  assert result.status == 0, result.error
  return result.output


def _rows(folder):
  with open(folder / 'metrics.csv', newline='', encoding='utf-8') as file:
    return [
        {k: v for k, v in row.items() if k not in _CLOCK}
        for row in csv.DictReader(file)
    ]


def _returns_counted(folder, iteration):
  """How many returns the statistics have seen that the bonus is divided by."""
  reader = tf.train.load_checkpoint(
      str(folder / 'checkpoints' / f'iteration-{iteration}')
  )
  return min(
      reader.get_tensor(name).min()
      for name in reader.get_variable_to_shape_map()
      if 'return' in name and '_statistics/_count/' in name
  )


@pytest.mark.parametrize('name', [
    name for name in shipped_parts.BONUSES
    if name != 'RandomNetworkDistillation'
])
def test_it_trains_resumes_plays_and_is_a_start(name, tmp_path):
  whole, resumed = tmp_path / 'whole', tmp_path / 'resumed'
  four = 'train_eval.num_iterations = 4'
  _train(whole, name, four)
  shutil.copytree(whole, resumed)
  for path in (resumed / 'checkpoints').glob('iteration-[34].*'):
    path.unlink()
  assert 'at iteration 3' in _train(resumed, name, four)
  rows = _rows(whole)
  assert rows == _rows(resumed) and len(rows) == 4
  _train(
      tmp_path / 'new', name, 'train_eval.num_iterations = 1',
      f"train_eval.initial_weights = '{whole}'",
  )
  assert _returns_counted(tmp_path / 'new', 1) > _returns_counted(whole, 4)
  assert all(float(row['intrinsic_reward_mean']) > 0 for row in rows)
  trains = not name.endswith('Counts')
  assert all(bool(row['loss_predictor']) == trains for row in rows)
  player = play_lib.Player(run_folder.RunFolder(tmp_path / 'whole'))
  try:
    outcomes = [player.play(max_steps=20) for _ in range(2)]
  finally:
    player.close()
  for outcome in outcomes:
    bonuses = outcome.trace.bonus
    assert np.isfinite(bonuses).all() and bonuses[1:].any()


def test_the_names_are_those_of_all_bonuses():
  import rnd_agent

  classes = [getattr(rnd_agent, name) for name in shipped_parts.BONUSES]
  mine = {
      c for c in _subclasses(base.Bonus)
      if c.__module__.startswith('rnd_agent.') and c is not mixtures.Mixture
  }
  assert set(classes) == mine


def _subclasses(of):
  return {of, *(c for s in of.__subclasses__() for c in _subclasses(s))} - {
      base.Bonus
  }
