"""Makes one preprocessed environment from its name.

A name is 'suite:game', or an id that people know from gym and gymnasium:

  atari:MontezumaRevenge, MontezumaRevengeNoFrameskip-v4,
  MontezumaRevengeDeterministic-v4, MontezumaRevenge-v4,
  ALE/MontezumaRevenge-v5
  gymnasium:CartPole-v1, CartPole-v1, gymnasium:package.module:Own-v0
  gym:CartPole-v1, gym:package.module:Own-v0 (the old gym, 0.23)
  minigrid:MiniGrid-MultiRoom-N6-v0, MiniGrid-MultiRoom-N6-v0
  ple:PixelCopter, PixelCopter-v0
  mario:SuperMarioBros-1-1-v0, SuperMarioBros-1-1-v0
  toy:Corridor, toy:Recall

All ids of one Atari game are the same environment: only `EnvironmentConfig`
says how it is preprocessed. A new suite is one function in `_SUITES`. A suite's
package is imported when one of its environments is made; if it is not
installed, an error of one line says how to install it.
"""

from collections.abc import Callable
import dataclasses
import functools
import re
import sys
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from rnd_agent.environments import environment_config
from rnd_agent.environments import errors
from rnd_agent.environments import readable
from rnd_agent.environments import states
from rnd_agent.environments import wrappers
from rnd_agent.environments.games import corridor
from rnd_agent.environments.games import ple_suite
from rnd_agent.environments.games import recall

EnvironmentConfig = environment_config.EnvironmentConfig

# A name, or an importable callable: seed -> environment.
EnvironmentSource = str | Callable[[int], gymnasium.Env]

# Ids are read in upper or lower case.
_ATARI_IDS = re.compile(
    r'(?:ALE/)?(\w+?)(?:NoFrameskip|Deterministic)?-v[045]', re.IGNORECASE
)
_PLE_IDS = re.compile(r'(\w+)-v0', re.IGNORECASE)
_MINIGRID_PREFIXES = ('minigrid-', 'babyai-')
_MARIO_PREFIX = 'supermariobros'

# Ids of gym that gymnasium only has in a later version.
_LATER_VERSIONS = {
    'LunarLander-v2': 'LunarLander-v3',
    'LunarLanderContinuous-v2': 'LunarLanderContinuous-v3',
}

# Commands that install the packages of the suites.
_INSTALL_MINIGRID = "pip install -e '.[minigrid]'"
_INSTALL_MARIO = "pip install -e '.[mario]'"
_INSTALL_BOX2D = "pip install -e '.[box2d]'"
_INSTALL_PLE = (
    'pip install '
    'git+https://github.com/ntasfi/PyGame-Learning-Environment.git'
)


class _Recipe(NamedTuple):
  """How to build one environment.

  Attributes:
    defaults: Values of the EnvironmentConfig's fields that are None.
    build: (config, seed) -> preprocessed environment; `make` adds the limit,
      the statistics and the clipping of rewards.
    suite: Name of the suite, '' for callables.
  """

  defaults: dict[str, Any]
  build: Callable[[EnvironmentConfig, int], gymnasium.Env]
  suite: str = ''


def make(
    env_name: EnvironmentSource,
    config: EnvironmentConfig | None = None,
    seed: int = 0,
) -> gymnasium.Env:
  """Makes one environment.

  Args:
    env_name: Name of the environment, see the module's docstring, or a callable
      `f(seed)` that returns one. For a callable no suite's defaults apply, only
      what `config` sets.
    config: Preprocessing; None is `EnvironmentConfig()`, with gin's bindings.
    seed: Seed of all its random numbers. The environment is returned after a
      reset with this seed: call `reset()` without a seed from then on.

  Returns:
    An environment with gymnasium's interface. At an episode's end
    `info['episode']` holds its raw return, length and places, see
    `wrappers.EpisodeStatistics`.

  Raises:
    UnknownEnvironmentError: No such suite or environment.
    MissingPackageError: It needs a package that is not installed.
    EnvironmentFailedError: Its code raised when it was made or reset; one line.
    ValueError: An option of `config` is not possible for this environment.
  """
  recipe = _resolve(env_name)
  config = _with_defaults(config or EnvironmentConfig(), recipe.defaults)
  _check_options(config, recipe.suite)
  env = recipe.build(config, seed)
  has_statistics = _is_wrapped_by(env, wrappers.EpisodeStatistics)
  if config.max_episode_steps:
    if has_statistics:
      raise ValueError(
          'the callable counts episodes itself (EpisodeStatistics), so its '
          'limit must be inside: leave EnvironmentConfig.max_episode_steps None'
      )
    env = wrappers.TimeLimit(
        env,
        config.max_episode_steps,
        is_termination=bool(config.time_limit_is_termination),
    )
  if not has_statistics:
    env = wrappers.EpisodeStatistics(env)
  if config.extrinsic_reward is False:
    env = wrappers.WithoutReward(env)
  elif config.reward_clip:
    env = wrappers.ClipReward(env, config.reward_clip)
  with errors.one_line_of_any():
    env.reset(seed=seed)
  return env


def check_name(env_name: EnvironmentSource):
  """Checks that there is an environment of this name, without making it.

  Args:
    env_name: As in `make`.

  Raises:
    UnknownEnvironmentError: There is none; one line with the nearest names.
    MissingPackageError: It needs a package that is not installed; one line that
      says how to install it.
  """
  _resolve(env_name)


def check_environment(
    env_name: EnvironmentSource, config: EnvironmentConfig | None = None
) -> gymnasium.spaces.Box | gymnasium.spaces.Dict:
  """Checks that an environment can be made and its spaces are supported.

  Args:
    env_name: As in `make`.
    config: As in `make`.

  Returns:
    The space of its observations, a Box or a Dict of Boxes.

  Raises:
    UnknownEnvironmentError: As in `make`.
    MissingPackageError: As in `make`.
    EnvironmentFailedError: As in `make`.
    ValueError: As in `make`, or the networks cannot read its observations or
      the policy cannot choose its actions; one line.
  """
  env = make(env_name, config)
  try:
    _check_observations(env.observation_space)
    _check_actions(env.action_space)
    return env.observation_space
  finally:
    env.close()


def resolved_config(
    env_name: EnvironmentSource, config: EnvironmentConfig | None = None
) -> EnvironmentConfig:
  """Replaces the fields that are None by the suite's defaults.

  Args:
    env_name: As in `make`.
    config: As in `make`.

  Returns:
    The config; the preprocessing of a field that is still None is not applied.

  Raises:
    UnknownEnvironmentError: No environment of that name.
  """
  recipe = _resolve(env_name)
  return _with_defaults(config or EnvironmentConfig(), recipe.defaults)


def grid_width(env_name: str) -> int | None:
  """Returns the width of an environment's grid, where places are its cells.

  A name from a stranger's run is safe: no module of the user's is imported.

  Args:
    env_name: As in `make`.

  Returns:
    For MiniGrid's environments the width, cells: a place is y * width + x. None
    for all others, and if the environment is unknown or not installed.
  """
  game = env_name.removeprefix('minigrid:')
  if not game.lower().startswith(_MINIGRID_PREFIXES):
    return None
  try:
    _minigrid(game)
  except (errors.UnknownEnvironmentError, errors.MissingPackageError):
    return None
  from rnd_agent.environments.games import minigrid_suite  # Optional: minigrid.

  return minigrid_suite.grid_width(game)


def _resolve(env_name: EnvironmentSource) -> _Recipe:
  if callable(env_name):
    return _from_callable(env_name)
  suite, separator, game = env_name.partition(':')
  if separator:
    if suite not in _SUITES:
      raise errors.unknown_name('suite', suite, _SUITES)
    return _SUITES[suite](game)
  return _resolve_id(env_name)


def _resolve_id(env_id: str) -> _Recipe:
  """Finds the suite of an id without suite, such as 'CartPole-v1'."""
  if recipe := _resolve_suite_id(env_id):
    return recipe
  known = [*gymnasium.registry, *_LATER_VERSIONS]
  if errors.spelt_as_known(env_id, known) in known:
    return _gymnasium(env_id)
  raise errors.unknown_name('environment', env_id, _all_names())


def _resolve_suite_id(env_id: str) -> _Recipe | None:
  """Finds the suite of an id that a suite's package registers with a gym.

  Such an environment is always made by its suite, never by the gym: otherwise
  its preprocessing would depend on how it is named, and whether it exists on
  whether its package has been imported.

  Args:
    env_id: An id without suite.

  Returns:
    The suite's recipe; None for all other ids.
  """
  # Not from gymnasium's registry, where ale-py registers its preprocessing.
  atari_id = _ATARI_IDS.fullmatch(env_id)
  if atari_id and _is_atari_game(atari_id[1]):
    return _atari(atari_id[1])
  if env_id.lower().startswith(_MINIGRID_PREFIXES):
    return _minigrid(env_id)
  if env_id.lower().startswith(_MARIO_PREFIX):
    return _mario(env_id)
  ple_id = _PLE_IDS.fullmatch(env_id)
  if ple_id and ple_suite.is_game(ple_id[1]):
    return _ple(ple_id[1])
  return None


def names() -> dict[str, list[str]]:
  """Names by suite, without importing optional packages."""
  from rnd_agent.environments.games import atari  # Loads ale-py.

  return {
      'atari': [f'atari:{game}' for game in atari.game_names()],
      'toy': [f'toy:{task}' for task in _TOYS],
      'ple': [f'ple:{game}' for game in ple_suite.GAMES],
      'minigrid': ['minigrid:MiniGrid-MultiRoom-N6-v0', 'and others of its'],
      'mario': ['mario:SuperMarioBros-1-1-v0', 'and its other levels'],
      'gymnasium and gym': [
          'gymnasium:LunarLander-v3', 'gym:CartPole-v1',
          'and any registered id',
      ],
  }


def _all_names() -> list[str]:
  """Returns names to suggest, without importing optional packages."""
  from rnd_agent.environments.games import atari  # Loads ale-py.

  return [
      *(f'toy:{task}' for task in _TOYS),
      *gymnasium.registry,
      *_LATER_VERSIONS,
      *(f'ple:{game}' for game in ple_suite.GAMES),
      *(f'{game}-v0' for game in ple_suite.GAMES),
      'mario:SuperMarioBros-v0',
      'SuperMarioBros-1-1-v0',
      'MiniGrid-MultiRoom-N6-v0',
      *(f'atari:{game}' for game in atari.game_names()),
      *(f'{game}NoFrameskip-v4' for game in atari.game_names()),
      *(f'ALE/{game}-v5' for game in atari.game_names()),
  ]


def _is_atari_game(game: str) -> bool:
  from rnd_agent.environments.games import atari  # Loads ale-py.

  return game.lower() in map(str.lower, atari.game_names())


def _with_defaults(
    config: EnvironmentConfig, defaults: dict[str, Any]
) -> EnvironmentConfig:
  missing = {
      name: value
      for name, value in defaults.items()
      if getattr(config, name) is None
  }
  return dataclasses.replace(config, **missing)


def _is_wrapped_by(env: gymnasium.Env, wrapper: type) -> bool:
  while isinstance(env, gymnasium.Wrapper):
    if isinstance(env, wrapper):
      return True
    env = env.env
  return False


def _check_options(config: EnvironmentConfig, suite: str):
  """Raises ValueError for an option that has no effect here.

  Args:
    config: With the suite's defaults.
    suite: Name of the suite, '' for callables.
  """
  for option, owner in environment_config.SUITE_OF_OPTION.items():
    if getattr(config, option) is not None and owner != suite:
      raise ValueError(
          f'EnvironmentConfig.{option} = {getattr(config, option)} does '
          f"nothing here: it is for environments '{owner}:...'; leave it None"
      )
  no_limit = config.max_episode_steps is None  # 0 turns off one that was there.
  if config.time_limit_is_termination is not None and no_limit:
    raise ValueError(
        'EnvironmentConfig.time_limit_is_termination = '
        f'{config.time_limit_is_termination} does nothing here: there is no '
        'limit but what the environment has inside; leave it None, or set '
        'EnvironmentConfig.max_episode_steps'
    )


def _check_observations(space: gymnasium.Space):
  """Raises ValueError for observations that the networks cannot read."""
  if isinstance(space, gymnasium.spaces.Dict) and all(
      isinstance(part, gymnasium.spaces.Box) for part in space.values()
  ):
    for part in space.values():
      _check_observations(part)
    return
  if not isinstance(space, gymnasium.spaces.Box):
    raise ValueError(
        f'its observations are {_in_one_line(space)}: networks read numbers '
        'and choices; turn them into such with a gymnasium wrapper'
    )
  if 0 in space.shape:
    raise ValueError(
        f'its observations have shape {space.shape}: there is nothing to see '
        'in them'
    )
  if len(space.shape) not in (1, 3):
    raise ValueError(
        f'its observations have shape {space.shape}: networks read a vector or '
        'an image [height, width, channels]; an image without channels gets '
        'one with EnvironmentConfig.stacked_frames = 1'
    )


def _check_actions(space: gymnasium.Space):
  """Raises ValueError for actions that no policy head chooses."""
  spaces = gymnasium.spaces
  if isinstance(space, spaces.Box):
    _check_continuous_actions(space)
    return
  if isinstance(space, spaces.MultiDiscrete):
    supported = space.nvec.ndim == 1 and len(set(space.nvec.tolist())) == 1
    supported = supported and not np.any(space.start)
  else:
    supported = isinstance(space, spaces.Discrete) and space.start == 0
  if not supported:
    raise ValueError(
        f'its actions are {_in_one_line(space)}: supported are Discrete '
        'from 0, MultiDiscrete with equally many choices from 0, and Box'
    )


def _check_continuous_actions(space: gymnasium.spaces.Box):
  if len(space.shape) > 1 or 0 in space.shape:
    raise ValueError(
        f'its actions are {_in_one_line(space)}: of Box, one number or a '
        'vector of them are supported: reshape it with a gymnasium wrapper'
    )
  if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
    raise ValueError(
        f'its actions are {_in_one_line(space)}: the random agent and the '
        'policy need finite bounds: give the space some'
    )


def _in_one_line(space: gymnasium.Space) -> str:
  return ' '.join(str(space).split())


def _preprocess(
    env: gymnasium.Env,
    config: EnvironmentConfig,
    seed: int,
    frames: Any = None,
) -> gymnasium.Env:
  """Applies all preprocessing that does not concern limits and rewards.

  Args:
    env: The game.
    config: With the suite's defaults.
    seed: Seed of the sticky actions.
    frames: Of `wrappers.SkipAndMax`, if they are not the observations.
  """
  if not hasattr(env, 'saved_state'):
    env = states.Replay(readable.readable(env, config.channels_first))
  elif config.channels_first is not None:
    raise ValueError(
        f'EnvironmentConfig.channels_first = {config.channels_first} does '
        'nothing here: the images are known; leave it None'
    )
  if isinstance(env.observation_space, gymnasium.spaces.Dict):
    _check_changes_nothing(config, env.observation_space)
  if config.layout_seed is not None:
    env = wrappers.SameLayout(env, config.layout_seed)
  if config.sticky_action_probability:
    env = wrappers.StickyActions(env, config.sticky_action_probability, seed)
  if frames or wrappers.is_image(env.observation_space):
    if frames or config.frame_skip:
      env = wrappers.SkipAndMax(env, config.frame_skip or 1, frames)
  elif config.frame_skip:
    env = wrappers.SkipFrames(env, config.frame_skip)
  if config.image_size or config.grayscale is not None:
    env = wrappers.GrayResize(env, config.image_size, bool(config.grayscale))
  if config.scale_observation:
    env = wrappers.ScaleObservation(env)
  if config.stacked_frames:
    env = wrappers.StackFrames(env, config.stacked_frames)
  elif config.grayscale and len(env.observation_space.shape) == 2:
    env = wrappers.StackFrames(env, 1)  # Adds the axis of channels.
  if config.actions is not None:
    env = wrappers.ActionSubset(env, config.actions)
  return env


def _check_changes_nothing(
    config: EnvironmentConfig, space: gymnasium.spaces.Dict
):
  """Raises ValueError for changes of observations that have several parts."""
  for option in (
      'frame_size', 'grayscale', 'scale_observation', 'stacked_frames'
  ):
    if getattr(config, option):
      raise ValueError(
          f'EnvironmentConfig.{option} = {getattr(config, option)} is for '
          f'observations of one part, here are {", ".join(space)}: leave it '
          'None, and change the parts with a gymnasium wrapper'
      )


def _atari(game: str) -> _Recipe:
  """Atari 2600 games on the Arcade Learning Environment."""
  from rnd_agent.environments.games import atari  # Loads ale-py.
  from rnd_agent.environments.games import atari_screen

  rom = atari.find_rom(game)

  def build(config: EnvironmentConfig, seed: int) -> gymnasium.Env:
    env = atari.AtariGame(rom, bool(config.full_action_space), seed)
    if config.grayscale:
      screen = atari_screen.GreyScreen(env, config.image_size)
    else:
      screen = atari_screen.RgbScreen(env)
    return _preprocess(env, config, seed, screen)

  defaults = {
      'frame_skip': 4,
      'sticky_action_probability': 0.25,
      'frame_size': 84,
      'grayscale': True,
      'stacked_frames': 4,
      'max_episode_steps': 4500,
      'time_limit_is_termination': True,
      'reward_clip': 1.0,
  }
  return _Recipe(defaults, build, 'atari')


def _gymnasium(game: str) -> _Recipe:
  """Environments registered with gymnasium, 'id' or 'module:id'."""
  module, _, env_id = game.rpartition(':')
  if module:
    errors.import_module(module, f'gymnasium:{game}')
  elif recipe := _resolve_suite_id(env_id):
    return recipe
  env_id = errors.spelt_as_known(
      env_id, [*gymnasium.registry, *_LATER_VERSIONS]
  )
  env_id = _LATER_VERSIONS.get(env_id, env_id)
  if env_id not in gymnasium.registry:
    raise errors.unknown_name(
        'gymnasium environment', env_id,
        [*gymnasium.registry, *_LATER_VERSIONS],
    )
  spec = gymnasium.spec(env_id)
  if str(spec.entry_point).startswith('gymnasium.envs.box2d'):
    errors.require_package('Box2D', _INSTALL_BOX2D, env_id)

  def build(config: EnvironmentConfig, seed: int) -> gymnasium.Env:
    # -1 turns gymnasium's time limit off: `make` applies the registered limit,
    # as a termination or truncation.
    with errors.one_line_of_any():
      try:
        env = _make_registered(spec)
      except (
          gymnasium.error.DependencyNotInstalled, ModuleNotFoundError
      ) as error:
        raise errors.MissingPackageError(
            f'{env_id} needs a package that is not installed: {error}'
        ) from error
    return _preprocess(env, config, seed)

  return _Recipe(
      {'max_episode_steps': spec.max_episode_steps}, build, 'gymnasium'
  )


def _gym(game: str) -> _Recipe:
  """Environments registered with the old gym (0.23), 'id' or 'module:id'."""
  errors.require_package('gym', "pip install 'gym==0.23.*'", f'gym:{game}')
  _silence_gym()
  from rnd_agent.environments.games import gym_suite  # Optional: gym.

  if recipe := _resolve_suite_id(game):
    return recipe
  env_id, limit = gym_suite.find(game)

  def build(config: EnvironmentConfig, seed: int) -> gymnasium.Env:
    with errors.one_line_of_any():
      old_env = gym_suite.make(env_id)
    env = gym_suite.OldGymEnv(old_env)
    return _preprocess(env, config, seed)

  return _Recipe({'max_episode_steps': limit}, build, 'gym')


def _silence_gym():
  """Keeps gym from printing at import that it is no longer maintained."""
  from gym_notices import notices  # Comes with gym.

  notices.notices.clear()


def _minigrid(game: str) -> _Recipe:
  """MiniGrid: grids of rooms, keys and doors."""
  errors.require_package('minigrid', _INSTALL_MINIGRID, game)
  from rnd_agent.environments.games import minigrid_suite  # Optional: minigrid.

  game = minigrid_suite.find(game)

  def build(config: EnvironmentConfig, seed: int) -> gymnasium.Env:
    env = minigrid_suite.make(
        game, bool(config.full_view), bool(config.encode_mission)
    )
    return _preprocess(env, config, seed)

  return _Recipe({}, build, 'minigrid')


def _ple(game: str) -> _Recipe:
  """Games of the PyGame Learning Environment."""
  name = ple_suite.find_game(game)
  errors.require_package('ple', _INSTALL_PLE, f'ple:{name}')

  def build(config: EnvironmentConfig, seed: int) -> gymnasium.Env:
    return _preprocess(ple_suite.PleGame(name), config, seed)

  defaults = {'frame_size': 84, 'grayscale': True, 'stacked_frames': 4}
  return _Recipe(defaults, build, 'ple')


def _mario(game: str) -> _Recipe:
  """Super Mario Bros. on an emulator of the console."""
  if sys.version_info >= (3, 12):
    raise errors.MissingPackageError(
        f'{game} needs Python 3.10 or 3.11: its emulator fails with NumPy 2'
    )
  errors.require_package('gym_super_mario_bros', _INSTALL_MARIO, game)
  _silence_gym()
  from rnd_agent.environments.games import mario_suite  # Optional.

  game = mario_suite.find(game)

  def build(config: EnvironmentConfig, seed: int) -> gymnasium.Env:
    env = mario_suite.SuperMario(game, bool(config.reward_at_flag_only))
    return _preprocess(env, config, seed)

  defaults = {
      'frame_skip': 4,
      'frame_size': 84,
      'grayscale': True,
      'stacked_frames': 4,
  }
  return _Recipe(defaults, build, 'mario')


_TOYS = {
    'Corridor': (corridor.Corridor, corridor.MAX_EPISODE_STEPS),
    'Recall': (recall.Recall, None),
}


def _make_registered(spec: gymnasium.envs.registration.EnvSpec):
  """Makes an environment without its limit, with images if it has any."""
  make = functools.partial(
      gymnasium.make, spec.id, max_episode_steps=-1, disable_env_checker=True
  )
  creator = spec.entry_point
  if isinstance(creator, str):
    creator = gymnasium.envs.registration.load_env_creator(creator)
  modes = getattr(creator, 'metadata', {}).get('render_modes', ())
  if 'rgb_array' not in modes:
    return make()
  try:
    return make(render_mode='rgb_array')
  except TypeError:  # It promises pictures and cannot be asked for them.
    return make()


def _toy(game: str) -> _Recipe:
  """The small tasks of this package."""
  if game not in _TOYS:
    raise errors.unknown_name('toy environment', game, _TOYS)
  environment, limit = _TOYS[game]

  def build(config: EnvironmentConfig, seed: int) -> gymnasium.Env:
    return _preprocess(environment(), config, seed)

  return _Recipe({'max_episode_steps': limit}, build, 'toy')


def _from_callable(make_env: Callable[[int], gymnasium.Env]) -> _Recipe:
  """Environments that a user's function makes."""

  def build(config: EnvironmentConfig, seed: int) -> gymnasium.Env:
    with errors.one_line_of_any():
      env = make_env(seed)
      errors.check_is_one_environment(env)
    return _preprocess(env, config, seed)

  return _Recipe({}, build)


_SUITES: dict[str, Callable[[str], _Recipe]] = {
    'atari': _atari,
    'gym': _gym,
    'gymnasium': _gymnasium,
    'mario': _mario,
    'minigrid': _minigrid,
    'ple': _ple,
    'toy': _toy,
}
