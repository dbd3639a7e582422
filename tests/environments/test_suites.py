"""Names, configuration and seeds of single environments."""

import functools
import pickle
import re
import subprocess
import sys

import gin
import gymnasium
import numpy as np
import pytest
import toy_environments

from rnd_agent.environments import errors
from rnd_agent.environments import suites
from rnd_agent.environments import wrappers
from rnd_agent.environments.games import corridor

Config = suites.EnvironmentConfig


def chain(env):
  """Names of an environment's wrappers, outermost first."""
  names = []
  while isinstance(env, gymnasium.Wrapper):
    names.append(type(env).__name__)
    env = env.env
  return [*names, type(env).__name__]


@pytest.mark.parametrize(
    'name',
    [
        'atari:MontezumaRevenge',
        'MontezumaRevengeNoFrameskip-v4',
        'MontezumaRevengeDeterministic-v4',
        'MontezumaRevengeDeterministic-v0',
        'MontezumaRevenge-v0',
        'MontezumaRevenge-v4',
        'ALE/MontezumaRevenge-v5',
    ],
)
def test_ids_of_an_atari_game_are_one_environment(name):
  env = suites.make(name)
  assert chain(env) == [
      'ClipReward',
      'EpisodeStatistics',
      'TimeLimit',
      'StackFrames',
      'GrayResize',
      'SkipAndMax',
      'StickyActions',
      'AtariGame',
  ]
  assert env.unwrapped._rom == 'montezuma_revenge'


@pytest.mark.parametrize('name', ['gymnasium:CartPole-v1', 'CartPole-v1'])
def test_ids_of_gymnasium(name):
  env = suites.make(name)
  assert type(env.unwrapped).__name__ == 'CartPoleEnv'
  assert env.observation_space.shape == (4,)


def test_ids_in_modules(tmp_path, monkeypatch):
  (tmp_path / 'a_walk.py').write_text(
      'import gymnasium, toy_environments\n'
      'gymnasium.register("TestWalk-v0", entry_point=toy_environments.Walk)\n'
  )
  (tmp_path / 'in_vain.py').write_text('1 / 0\n')
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(errors.UnknownEnvironmentError, match='TestWalk'):
    suites.make('gymnasium:TestWalk-v0')
  env = suites.make('gymnasium:a_walk:TestWalk-v0')
  assert isinstance(env.unwrapped, toy_environments.Walk)
  assert 'TimeLimit' not in chain(env)
  with pytest.raises(
      errors.UnknownEnvironmentError,
      match=r'ZeroDivisionError: division by zero \(in_vain.py, line 1\)$',
  ):
    suites.make('gymnasium:in_vain:TestWalk-v0')


@pytest.mark.parametrize('name, same', [
    ('cartpole-V1', 'CartPole-v1'), ('gym:cartPOLE-v1', 'gym:CartPole-v1'),
    ('lunarlander-v2', 'LunarLander-v2'),
    ('minigrid-empty-5X5-v0', 'MiniGrid-Empty-5x5-v0'),
    ('gymnasium:MiniGrid-Empty-5x5-v0', 'MiniGrid-Empty-5x5-v0'),
    ('montezumarevengenoframeskip-v4', 'atari:MontezumaRevenge'),
    ('gymnasium:ALE/Pong-v5', 'atari:Pong'), ('gym:Pong-v0', 'atari:Pong'),
])
def test_whatever_case_and_whichever_gym_is_named(name, same):
  if 'unarl' in same:
    pytest.importorskip('Box2D', reason='gymnasium[box2d] is not installed')
  env, other = suites.make(name), suites.make(same)
  assert chain(env) == chain(other)
  assert env.observation_space == other.observation_space
  assert type(env.unwrapped) is type(other.unwrapped)


@pytest.mark.parametrize('name', [
    'Pixelcopter-v0', 'pixelcopter-V0', 'gymnasium:PixelCopter-v0',
    'gym:Pixelcopter-v0',
])
def test_gym_ple_s_ids_in_any_case(name, monkeypatch):
  monkeypatch.setitem(sys.modules, 'ple', None)
  with pytest.raises(errors.MissingPackageError, match='^ple:PixelCopter '):
    suites.check_name(name)


def test_registered_limit_truncates_and_can_be_switched():
  for config, expected in [
      (None, (200, False, True)),
      (Config(time_limit_is_termination=True), (200, True, False)),
      (Config(max_episode_steps=30), (30, False, True)),
  ]:
    env = suites.make('MountainCar-v0', config)
    env.reset()
    steps = 0
    terminated = truncated = False
    while not (terminated or truncated):
      _, _, terminated, truncated, info = env.step(1)
      steps += 1
    assert (steps, terminated, truncated) == expected
    assert info['episode']['length'] == steps
  assert chain(suites.make('MountainCar-v0', Config(max_episode_steps=0))) == [
      'EpisodeStatistics',
      'Replay',
      'OrderEnforcing',
      'MountainCarEnv',
  ]


def test_corridor_has_its_limit():
  env = suites.make('toy:Corridor')
  _, info = env.reset()
  assert info == {'place': 0}
  for _ in range(corridor.MAX_EPISODE_STEPS):
    _, _, terminated, truncated, info = env.step(1)
  assert (terminated, truncated) == (False, True)
  assert info['episode'] == {
      'episode_return': 0.0,
      'length': 100,
      'places': (0,),
      'furthest_x': None,
  }


@pytest.mark.parametrize(
    ('name', 'nearest'),
    [
        ('atari:MontezumasRevenge', 'MontezumaRevenge'),
        ('MontezumaRevengeNoFramskip-v4', 'MontezumaRevengeNoFrameskip-v4'),
        ('ALE/MontezumaReveng-v5', 'ALE/MontezumaRevenge-v5'),
        ('gymnasium:CartPol-v1', 'CartPole-v1'),
        ('Cartpol-v1', 'CartPole-v1'),
        ('gymnasium:no.such_module:Own-v0', "'no.such_module' cannot be"),
        ('gym:no.such_module:Own-v0', "'no.such_module' cannot be"),
        ('gymnasium:.x:X', 'must not begin with a dot'),
        ('gymnasium:MiniGrid-Empy-5x5-v0', 'MiniGrid-Empty-5x5-v0'),
        ('toy:Coridor', 'Corridor'),
        ('atarii:Pong', 'atari'),
        ('atari:Combat', 'two players'),
        ('Joust-v4', 'two players'),
        ('ple:PixelCoptr', 'PixelCopter'),
        ('PixelCoper-v0', 'PixelCopter-v0'),
        ('minigrid:MiniGrid-MultiRoom-N7-v0', 'MiniGrid-MultiRoom-N6-v0'),
        ('MiniGrid-KeyCoridorS3R3-v0', 'MiniGrid-KeyCorridorS3R3-v0'),
        ('gym:CartPoel-v1', 'CartPole-v1'),
        ('gymnasium:LunarLandr-v3', 'LunarLander-v3'),
        ('LunarLandr-v2', 'LunarLander-v2'),
        ('SuperMarioBro-1-1-v0', 'SuperMarioBros-1-1-v0'),
        ('', 'known are'),
    ],
)
def test_unknown_names_list_the_nearest(name, nearest):
  for call in (suites.make, suites.check_name):
    with pytest.raises(errors.UnknownEnvironmentError) as caught:
      call(name)
    assert nearest in str(caught.value)
    assert '\n' not in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_callables():
  env = suites.make(toy_environments.walk, seed=3)
  assert chain(env) == ['EpisodeStatistics', 'Replay', 'Walk']
  config = Config(reward_clip=0.5, max_episode_steps=2)
  env = suites.make(toy_environments.walk, config)
  assert chain(env)[:3] == ['ClipReward', 'EpisodeStatistics', 'TimeLimit']


def test_a_callable_may_count_episodes_itself():
  inner = functools.partial(suites.make, 'atari:Pong', None)
  env = suites.make(inner)
  assert chain(env).count('EpisodeStatistics') == 1
  with pytest.raises(ValueError, match='max_episode_steps'):
    suites.make(inner, Config(max_episode_steps=5))


def test_preprocessing_can_be_asked_for():
  config = Config(
      sticky_action_probability=0.5,
      frame_skip=2,
      frame_size=12,
      grayscale=True,
      stacked_frames=3,
  )
  env = suites.make(lambda seed: toy_environments.Pictures(), config)
  assert env.reset()[0].shape == (12, 12, 3)
  assert chain(env)[1:] == [
      'StackFrames', 'GrayResize', 'SkipAndMax', 'StickyActions', 'Replay',
      'Pictures',
  ]  # fmt: skip
  with pytest.raises(ValueError, match='frame_size'):
    suites.make('CartPole-v1', Config(frame_size=84))


def test_what_networks_read():
  def shape(name, **numbers):
    return suites.make(name, Config(**numbers)).reset()[0].shape

  assert shape('FrozenLake-v1') == (16,)
  assert shape('FrozenLake-v1', stacked_frames=2) == (32,)
  assert shape('CartPole-v1', stacked_frames=3, frame_skip=2) == (12,)
  assert shape('atari:Pong', frame_size=[60, 40]) == (60, 40, 4)

  def pictures(seed):
    return toy_environments.Pictures()

  assert shape(pictures, grayscale=True) == (20, 30, 1)
  assert shape(pictures, frame_size=(5, 6)) == (5, 6, 3)


def test_actions_can_be_left_out_of_a_sticky_game():
  config = Config(actions=[2, 5], sticky_action_probability=0.5)
  env = suites.make('atari:Pong', config, seed=1)
  assert chain(env)[:4] == [
      'ClipReward', 'EpisodeStatistics', 'TimeLimit', 'ActionSubset'
  ]  # fmt: skip
  assert env.action_space == gymnasium.spaces.Discrete(2)
  env.reset()
  sticky = env.env.env.env.env.env.env.env
  assert isinstance(sticky, wrappers.StickyActions)
  previous = set()
  for t in range(30):
    env.step(t % 2)
    previous.add(sticky._previous)
  assert {2, 5} <= previous <= {0, 2, 5}


@pytest.mark.parametrize('name, package, noop', [
    ('atari:Pong', None, True), ('toy:Corridor', None, False),
    ('CartPole-v1', None, False), ('gym:CartPole-v1', None, False),
    ('minigrid:MiniGrid-Empty-5x5-v0', 'minigrid', False),
    ('ple:PixelCopter', 'ple', True),
    ('mario:SuperMarioBros-1-1-v0', 'gym_super_mario_bros', True),
])
def test_what_is_repeated_before_the_first_action(name, package, noop):
  if package:
    pytest.importorskip(package, reason=f'{package} is not installed')
  env = suites.make(name, Config(sticky_action_probability=0.9))
  layer = env
  while not isinstance(layer, wrappers.StickyActions):
    layer = layer.env
  assert layer._previous == (0 if noop else None)
  env.close()


def test_no_extrinsic_reward():
  config = Config(extrinsic_reward=False, max_episode_steps=10)
  for name in ('MountainCar-v0', 'atari:Pong'):
    env = suites.make(name, config)
    assert chain(env)[:2] == ['WithoutReward', 'EpisodeStatistics']
    env.reset()
    assert [env.step(0)[1] for _ in range(10)] == [0.0] * 10
  assert 'WithoutReward' not in chain(suites.make('CartPole-v1'))
  kept = suites.make('MountainCar-v0', Config(extrinsic_reward=True))
  kept.reset()
  assert kept.step(0)[1] == -1.0


@pytest.mark.parametrize('option, owner', [
    ('full_action_space', 'atari'), ('full_view', 'minigrid'),
    ('encode_mission', 'minigrid'), ('reward_at_flag_only', 'mario'),
])
def test_an_option_of_another_suite_is_refused(option, owner):
  for value in (True, False):
    with pytest.raises(ValueError, match=f"{option} = {value}.*'{owner}:...'"):
      suites.make('toy:Corridor', Config(**{option: value}))


@pytest.mark.parametrize('name', ['toy:Recall', 'MiniGrid-Empty-5x5-v0'])
def test_a_limit_that_is_not_there_cannot_terminate(name):
  for value in (True, False):
    with pytest.raises(ValueError, match=f'termination = {value} does nothing'):
      suites.make(name, Config(time_limit_is_termination=value))
  suites.make(name, Config(time_limit_is_termination=True, max_episode_steps=3))
  # A limit turned off, while a config that is included speaks of its end.
  suites.make(
      'atari:Pong', Config(time_limit_is_termination=True, max_episode_steps=0)
  )


@pytest.mark.parametrize('name', ['CartPole-v1', 'MiniGrid-Empty-5x5-v0'])
def test_what_is_no_picture_has_no_grey(name):
  for value in (True, False):
    with pytest.raises(ValueError, match='frame_size and grayscale'):
      suites.make(name, Config(grayscale=value))
  kept = suites.make(
      lambda seed: toy_environments.Pictures(), Config(grayscale=False)
  )
  assert kept.observation_space.shape == (20, 30, 3)


@pytest.mark.parametrize('name', [
    'LunarLander-v2', 'LunarLander-v3', 'gymnasium:LunarLander-v2',
    'gymnasium:LunarLander-v3',
])
def test_the_lander_s_old_version_is_the_new_one(name):
  pytest.importorskip('Box2D', reason='gymnasium[box2d] is not installed')
  env = suites.make(name)
  assert env.unwrapped.spec.id == 'LunarLander-v3'
  assert env.observation_space.shape == (8,)


class Odd(toy_environments.Walk):
  """Has the spaces that a test asks for."""

  def __init__(self, **spaces):
    for kind, space in spaces.items():
      setattr(self, f'{kind}_space', space)

  def reset(self, *, seed=None, options=None):
    return self.observation_space.sample(), {}


_SPACES = gymnasium.spaces


@pytest.mark.parametrize('spaces, message', [
    ({'observation': _SPACES.Text(3)}, 'observations are Text'),
    ({'observation': _SPACES.Dict(
        x=_SPACES.Sequence(_SPACES.Discrete(2)), y=_SPACES.Discrete(2))},
     'observations are Dict.*numbers and choices'),
    ({'observation': _SPACES.Dict(
        x=_SPACES.Discrete(2), y=_SPACES.Box(0, 1, (8, 8, 3, 2)))},
     r'shape \(8, 8, 3, 2\)'),
    ({'observation': _SPACES.Box(0, 1, (3, 4))}, r'shape \(3, 4\)'),
    ({'observation': _SPACES.Box(0, 1, (1, 2, 3, 4))}, 'a vector or an image'),
    ({'observation': _SPACES.Box(0, 1, (0,))}, 'nothing to see'),
    ({'observation': _SPACES.Box(0, 1, (0,), np.uint64)}, 'nothing to see'),
    ({'observation': _SPACES.Box(0, 1, (8, 0, 3))}, 'nothing to see'),
    ({'action': _SPACES.Box(-np.inf, np.inf, (2,))}, 'finite bounds'),
    ({'action': _SPACES.Box(np.float32([0, 0]), np.float32([1, np.inf]))},
     'finite bounds'),
    ({'action': _SPACES.Box(-1, 1, (2, 2))}, 'a vector of them'),
    ({'action': _SPACES.Box(-1, 1, (0,))}, 'a vector of them'),
    ({'action': _SPACES.MultiBinary(3)}, 'actions are MultiBinary.*supported'),
    ({'action': _SPACES.Discrete(3, start=1)}, 'Discrete from 0'),
    ({'action': _SPACES.MultiDiscrete([2, 3])}, 'equally many'),
    ({'action': _SPACES.Tuple([_SPACES.Discrete(2)])}, 'actions are Tuple'),
])
def test_what_no_network_takes_is_one_line(spaces, message):
  with pytest.raises(ValueError, match=message) as caught:
    suites.check_environment(lambda seed: Odd(**spaces))
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('spaces', [
    {'observation': _SPACES.Box(0, 1, (3, 4, 5))},
    {'action': _SPACES.Box(-1, 1, (2,))},
    {'action': _SPACES.Box(-1, 1, ())},
    {'action': _SPACES.MultiDiscrete([3, 3])},
    {'observation': _SPACES.Dict(
        x=_SPACES.Discrete(2), y=_SPACES.Box(0, 1, (8, 8, 3)))},
    {},
])
def test_what_networks_take_passes(spaces):
  suites.check_environment(lambda seed: Odd(**spaces))


class Broken(toy_environments.Walk):
  """Raises when it is made, or when it is reset."""

  def __init__(self, when='made'):
    self._when = when
    if when == 'made':
      raise RuntimeError('no\n  power')

  def reset(self, *, seed=None, options=None):
    raise KeyError(self._when)


@pytest.mark.parametrize('make, message', [
    (lambda seed: Broken(), 'RuntimeError: no power'),
    (lambda seed: Broken('reset'), "KeyError: 'reset'"),
    ('gymnasium:Broken-v0', 'RuntimeError: no power'),
])
def test_an_environment_that_raises_is_one_line(make, message, monkeypatch):
  broken = gymnasium.envs.registration.EnvSpec('Broken-v0', entry_point=Broken)
  monkeypatch.setitem(gymnasium.registry, 'Broken-v0', broken)
  with pytest.raises(errors.EnvironmentFailedError) as caught:
    suites.check_environment(make)
  place = r' \(test_suites.py, line \d+\)'
  assert re.fullmatch(
      f'it cannot be made: {re.escape(message)}{place}', str(caught.value)
  )


def test_a_package_that_gymnasium_s_environment_imports(monkeypatch):
  monkeypatch.setitem(sys.modules, 'jax', None)
  with pytest.raises(errors.MissingPackageError, match='jax'):
    suites.check_environment('phys2d/CartPole-v1')


def test_atari_defaults_can_be_replaced():
  config = Config(
      frame_size=42, stacked_frames=2, reward_clip=0.0, max_episode_steps=0
  )
  env = suites.make('atari:Pong', config)
  assert env.observation_space.shape == (42, 42, 2)
  assert 'ClipReward' not in chain(env) and 'TimeLimit' not in chain(env)
  color = suites.make('atari:Pong', Config(grayscale=False))
  assert color.reset()[0].shape == (84, 84, 12)


@pytest.mark.parametrize(
    'wrong',
    [
        {'frame_skip': 0},
        {'sticky_action_probability': 1.0},
        {'sticky_action_probability': -0.1},
        {'frame_size': 0},
        {'frame_size': (84, 0)},
        {'frame_size': [84, 84, 3]},
        {'frame_size': (84, 84.5)},
        {'actions': []},
        {'actions': [1, 1]},
        {'actions': ['jump']},
        {'layout_seed': -1},
        {'stacked_frames': 0},
        {'max_episode_steps': -1},
        {'reward_clip': -1.0},
    ],
)
def test_wrong_configurations(wrong):
  with pytest.raises(ValueError, match=next(iter(wrong))):
    Config(**wrong)


def test_gin_binds_the_configuration():
  with gin.unlock_config():
    gin.parse_config('EnvironmentConfig.frame_size = 21')
  try:
    assert Config().frame_size == 21
    assert suites.make('atari:Pong').observation_space.shape == (21, 21, 4)
    copy = pickle.loads(pickle.dumps(Config(stacked_frames=2)))
  finally:
    gin.clear_config()
  assert copy == Config(frame_size=21, stacked_frames=2)
  assert Config().frame_size is None


@pytest.mark.parametrize(
    'name', ['CartPole-v1', 'atari:MontezumaRevenge', toy_environments.walk]
)
def test_a_seed_repeats_and_another_differs(name):
  def run(seed):
    env = suites.make(name, seed=seed)
    observations = [env.reset()[0]]
    for t in range(60):
      observation, _, terminated, truncated, _ = env.step(t % 2 + 1 if t else 0)
      observations.append(observation)
      if terminated or truncated:
        observations.append(env.reset()[0])
    return np.stack(observations[:60])

  name = _cartpole if name == 'CartPole-v1' else name
  np.testing.assert_array_equal(run(4), run(4))
  assert run(4).shape != run(5).shape or (run(4) != run(5)).any()


def _cartpole(seed):
  """Accepts any action."""
  return gymnasium.wrappers.TransformAction(
      gymnasium.make('CartPole-v1'), lambda action: action % 2, None
  )


def test_wrapper_classes_are_gymnasiums():
  assert issubclass(wrappers.StackFrames, gymnasium.Wrapper)


@pytest.mark.parametrize(
    'module',
    ['', '.suites', '.wrappers', '.vector.worker', '.vector.pool',
     '.vector.shares'],
)
def test_no_tensorflow(module):
  code = (
      f'import sys; sys.path[:] = {sys.path!r}\n'
      f'import rnd_agent.environments{module}\n'
      'from rnd_agent import environments\n'
      'environments.make("toy:Corridor"), environments.EnvironmentConfig()\n'
      'found = {"tensorflow", "tf_agents", "keras"} & set(sys.modules)\n'
      'sys.exit(str(found) if found else 0)'
  )
  subprocess.run([sys.executable, '-c', code], check=True, timeout=60)


def test_public_names():
  from rnd_agent import environments

  for name in environments.__all__:
    assert getattr(environments, name) is not None
    assert name in dir(environments)
  with pytest.raises(AttributeError, match='Absent'):
    _ = environments.Absent
