"""It explores: a corridor that chance does not solve and curiosity does.

The reward is at the far end of 20 cells; a uniformly random policy gets there
within an episode with probability 1.9e-8 (computed in
tests/environments/test_corridor.py). Three seeds each, the same agent with
intrinsic coefficient 1 and 0.
"""

import csv

import numpy as np
import pytest

from rnd_agent.settings import gin_files
from rnd_agent.training import builders  # noqa: F401, registers for gin
from rnd_agent.training import train_eval as train_eval_lib

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('no_export')]

_BINDINGS = (
    "train_eval.env_name = 'toy:Corridor'",
    'train_eval.num_parallel_environments = 16',
    'train_eval.num_workers = 1',
    'train_eval.rollout_length = 64',
    'train_eval.num_iterations = 100',
    'train_eval.random_rollouts = 5',
    'train_eval.eval_interval = 0',
    'train_eval.checkpoint_interval = 1000',
    'PPOConfig.learning_rate = 1e-3',
    'ActorCriticNetwork.fc_layer_params = (64, 64)',
    'RandomNetworkDistillation.feature_dim = 32',
    'RandomNetworkDistillation.predictor_hidden_units = (64,)',
)


def _train(folder, seed, intrinsic_coefficient, *more):
  gin_files.parse([], [
      *_BINDINGS, *more,
      f'train_eval.seed = {seed}',
      f'RNDConfig.intrinsic_coefficient = {intrinsic_coefficient}',
  ])
  train_eval_lib.train_eval(root_dir=str(folder))
  with open(folder / 'metrics.csv', newline='', encoding='utf-8') as file:
    return list(csv.DictReader(file))


@pytest.mark.parametrize('seed', [1, 2, 3])
def test_the_bonus_finds_the_end_of_the_corridor(tmp_path, seed):
  rows = _train(tmp_path, seed, 1.0)
  assert float(rows[-1]['episode_return_mean']) > 0.9
  assert int(rows[-1]['rooms_discovered']) == 20
  bonuses = np.array([float(r['intrinsic_reward_mean']) for r in rows])
  discovered = np.array([int(r['rooms_discovered']) for r in rows])
  # The bonus falls where nothing is new any more ...
  assert bonuses[-1] < 0.05 * bonuses[0]
  # ... and had risen again with what was discovered on the way.
  on_the_way = (discovered > 10) & (discovered < 20)
  assert bonuses[on_the_way].max() > 5 * bonuses[-1]


@pytest.mark.parametrize('seed', [1, 2, 3])
def test_bfloat16_solves_what_float32_solves(tmp_path, seed):
  rows = _train(
      tmp_path, seed, 1.0, "train_eval.precision = 'mixed_bfloat16'",
      'train_eval.target_return = 0.91',
  )
  assert float(rows[-1]['episode_return_mean']) > 0.9
  assert int(rows[-1]['rooms_discovered']) == 20


@pytest.mark.parametrize('seed', [1, 2, 3])
def test_without_the_bonus_it_stays_near_the_start(tmp_path, seed):
  rows = _train(tmp_path, seed, 0.0)
  assert float(rows[-1]['episode_return_mean']) == 0.0
  assert int(rows[-1]['rooms_discovered']) < 15
  # There is no bonus, and its columns are empty.
  assert rows[-1]['intrinsic_reward_mean'] == rows[-1]['loss_predictor'] == ''
