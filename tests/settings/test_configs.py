"""Every config trains: two iterations each, at sizes that only show that.

Of games that differ in their name alone one is trained.
"""

import csv
import importlib.util
import pathlib

import gin
import pytest

from rnd_agent.environments import suites
from rnd_agent.settings import gin_files
from rnd_agent.training import builders  # noqa: F401, registers for gin
from rnd_agent.training import export
from rnd_agent.training import train_eval as train_eval_lib

pytestmark = pytest.mark.slow

_CONFIGS = pathlib.Path(__file__).resolve().parents[2] / 'configs'
# Bases, and what `test_end_to_end` trains.
_NOT_ALONE = ('atari', 'minigrid', 'rnd_ppo', 'smoke')
# As pitfall.gin, but for the game.
_OTHER_GAMES = ('gravitar', 'private_eye', 'solaris', 'venture')
_NEEDS = {
    'lunar_lander': 'Box2D',
    'mario': 'gym_super_mario_bros',
    'minigrid': 'minigrid',
    'pixelcopter': 'ple',
}
_SMALL = (
    'train_eval.num_parallel_environments = 2',
    'train_eval.num_workers = 1',
    'train_eval.rollout_length = 8',
    'train_eval.num_iterations = 2',
    'train_eval.random_rollouts = 1',
    'train_eval.num_minibatches = 2',
    'train_eval.num_epochs = 1',
    'train_eval.eval_interval = 0',
    'EnvironmentConfig.max_episode_steps = 5',
)


def _names():
  return sorted(
      path.stem for path in _CONFIGS.glob('*.gin')
      if path.stem not in (*_NOT_ALONE, *_OTHER_GAMES)
  )


def _bindings(name):
  """Sizes for a test; a large memory is not what is looked at."""
  more = ('DNCCell.memory_size = 8',) if name == 'montezuma_dnc' else ()
  return _SMALL + more


@pytest.mark.parametrize('bindings, seen', [
    ((), (84, 84, 1)),
    (('EnvironmentConfig.grayscale = False',), (84, 84, 3)),
    (('EnvironmentConfig.grayscale = False',
      'RandomNetworkDistillation.stacked_frames = 2'), (84, 84, 6)),
])
def test_the_bonus_sees_whole_frames(tmp_path, monkeypatch, bindings, seen):
  specs = []

  class LookedAt(builders.rnd_lib.RandomNetworkDistillation):

    def __init__(self, *arguments, **kwargs):
      super().__init__(*arguments, **kwargs)
      specs.append(tuple(self.selected_spec.shape))
      raise ValueError('that is all')

  monkeypatch.setattr(
      builders.rnd_lib, 'RandomNetworkDistillation', LookedAt
  )
  gin.clear_config()
  try:
    gin_files.parse([str(_CONFIGS / 'venture.gin')], [*_SMALL, *bindings])
    with pytest.raises(gin_files.ConfigError, match='that is all'):
      train_eval_lib.train_eval(root_dir=str(tmp_path))
  finally:
    gin.clear_config()
  assert specs == [seen]


def test_pixelcopter_is_the_predecessor_s_command():
  """rnn_hidden_layers 0, final_hidden 256 x 3, z_dim 1024, and its numbers."""
  gin.clear_config()
  gin_files.parse([str(_CONFIGS / 'pixelcopter.gin')])
  try:
    for name, value in {
        'ActorCriticNetwork.fc_layer_params': (1024,),
        'ActorCriticNetwork.final_layer_params': (256, 256, 256),
        'RandomNetworkDistillation.feature_dim': 1024,
        'EnvironmentConfig.frame_size': 84,
        'EnvironmentConfig.stacked_frames': 10,
        'EnvironmentConfig.sticky_action_probability': 0.0,
        'PPOConfig.gradient_clipping': 1.0,
        'train_eval.target_return': 100,
    }.items():
      assert gin.query_parameter(name) == value, name
    with pytest.raises(ValueError):  # Not bound: no memory.
      gin.query_parameter('ActorCriticNetwork.core')
  finally:
    gin.clear_config()


@pytest.mark.parametrize('name', _OTHER_GAMES)
def test_another_game_differs_in_its_name_alone(name):
  """So that training one of them shows that all train."""
  texts, environments = [], []
  for config in (name, 'pitfall'):
    gin.clear_config()
    gin_files.parse([str(_CONFIGS / f'{config}.gin')])
    environments.append(gin.query_parameter('train_eval.env_name'))
    space = suites.check_environment(environments[-1])
    assert space.shape == (84, 84, 4)
    texts.append(gin.config_str().replace(environments[-1], ''))
  gin.clear_config()
  assert texts[0] == texts[1] and len(set(environments)) == 2


@pytest.fixture(name='without_export')
def _without_export(monkeypatch):
  """Leaves SavedModels out: slow here, and other tests look at them."""
  monkeypatch.setattr(export, 'export_policies', lambda *unused: None)


@pytest.mark.usefixtures('without_export')
@pytest.mark.parametrize('name', _names())
def test_config_trains_two_iterations(name, tmp_path):
  package = _NEEDS.get(name.partition('_')[0], _NEEDS.get(name))
  if package and importlib.util.find_spec(package) is None:
    pytest.skip(f'the package {package} is not installed')
  gin.clear_config()
  try:
    gin_files.parse([str(_CONFIGS / f'{name}.gin')], _bindings(name))
    train_eval_lib.train_eval(root_dir=str(tmp_path))
  finally:
    gin.clear_config()
  with open(tmp_path / 'metrics.csv', encoding='utf-8') as file:
    rows = list(csv.DictReader(file))
  assert [row['env_steps'] for row in rows] == ['16', '32']
  assert int(rows[1]['episodes']) >= 6
  # Empty where the intrinsic coefficient is 0.
  assert all(float(row['intrinsic_reward_mean'] or 1) > 0 for row in rows)
  assert float(rows[1]['episode_length_mean']) <= 5
  has_places = 'montezuma' in name or 'minigrid' in name or name == 'pitfall'
  assert bool(rows[1]['rooms_mean']) == has_places
  assert bool(rows[1]['furthest_x_max']) == (name == 'mario')
