"""Names to single environments.

A name is 'suite:game', or an id that people know from gym and gymnasium:

  atari:MontezumaRevenge, MontezumaRevengeNoFrameskip-v4,
  MontezumaRevenge-v4, ALE/MontezumaRevenge-v5
  gymnasium:CartPole-v1, CartPole-v1, gymnasium:package.module:Own-v0
  toy:Corridor, toy:Recall

All ids of one Atari game are the same environment: `EnvironmentConfig` says how
it is preprocessed. A new suite is one function in `_SUITES`.
"""

from collections.abc import Callable
import dataclasses
import importlib
import re
from typing import Any, NamedTuple

import gin
import gymnasium

from rnd_agent.environments import corridor
from rnd_agent.environments import errors
from rnd_agent.environments import recall
from rnd_agent.environments import states
from rnd_agent.environments import wrappers

# A name, or an importable callable: seed -> environment.
EnvironmentSource = str | Callable[[int], gymnasium.Env]

_ATARI_IDS = re.compile(r'(?:ALE/)?(\w+?)(?:NoFrameskip)?-v[045]')


@gin.configurable
@dataclasses.dataclass(frozen=True)
class EnvironmentConfig:
  """How an environment is preprocessed; None stands for the suite's default.

  The defaults of the suite `atari` are those of Burda et al. 2018 (arXiv
  1810.12894, appendix A.3, table 2, and the authors' code for the limit):
  frame_skip 4, sticky_action_probability 0.25, frame_size 84, grayscale,
  stacked_frames 4, max_episode_steps 4500 as a termination, reward_clip 1,
  minimal action set. Elsewhere nothing is done unless asked for, but for the
  limit an environment is registered with.

  Attributes:
    frame_skip: Raw frames an action is held; the observation is the maximum
      over the last two.
    sticky_action_probability: Of repeating the previous action, per raw frame.
    frame_size: Height and width of an image, pixels.
    grayscale: Whether images are turned to grey.
    stacked_frames: Images in an observation, the newest last.
    max_episode_steps: Limit on an episode, agent steps; 0 is none.
    time_limit_is_termination: Whether that limit ends the episode with discount
      0 (as in the authors' code) instead of truncating it with discount 1.
    reward_clip: Largest magnitude of a reward; 0 is no clipping. Statistics of
      episodes are always those of unclipped rewards.
    full_action_space: All 18 actions of the Atari console.
  """

  frame_skip: int | None = None
  sticky_action_probability: float | None = None
  frame_size: int | None = None
  grayscale: bool | None = None
  stacked_frames: int | None = None
  max_episode_steps: int | None = None
  time_limit_is_termination: bool | None = None
  reward_clip: float | None = None
  full_action_space: bool | None = None

  def __post_init__(self):
    minima = {
        'frame_skip': 1,
        'sticky_action_probability': 0,
        'frame_size': 1,
        'stacked_frames': 1,
        'max_episode_steps': 0,
        'reward_clip': 0,
    }
    for name, minimum in minima.items():
      value = getattr(self, name)
      if value is not None and value < minimum:
        raise ValueError(
            f'EnvironmentConfig.{name} must be at least {minimum}, got {value}'
        )
    if (self.sticky_action_probability or 0) >= 1:
      raise ValueError(
          'EnvironmentConfig.sticky_action_probability must be below 1, got '
          f'{self.sticky_action_probability}'
      )


class _Recipe(NamedTuple):
  """How to build one environment.

  Attributes:
    defaults: Fields of EnvironmentConfig that differ from None.
    build: (config, seed) -> environment without limit, statistics, clipping.
  """

  defaults: dict[str, Any]
  build: Callable[[EnvironmentConfig, int], gymnasium.Env]


def make(
    env_name: EnvironmentSource,
    config: EnvironmentConfig | None = None,
    seed: int = 0,
) -> gymnasium.Env:
  """Makes one environment.

  Args:
    env_name: Name of the environment, see the module's docstring, or a callable
      `f(seed)` that returns one. What `f` returns is preprocessed no further
      than `config` says.
    config: Preprocessing; None is `EnvironmentConfig()`, so that gin's bindings
      apply.
    seed: Seed of all its random numbers. It has been reset with that seed when
      it is returned: call `reset()` without one.

  Returns:
    An environment with gymnasium's interface. At an episode's end
    `info['episode']` holds its raw return, length and places, see
    `wrappers.EpisodeStatistics`.

  Raises:
    UnknownEnvironmentError: No such suite or environment.
    ValueError: `config` asks for what the environment cannot do.
  """
  recipe = _resolve(env_name)
  config = _with_defaults(config or EnvironmentConfig(), recipe.defaults)
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
  if config.reward_clip:
    env = wrappers.ClipReward(env, config.reward_clip)
  env.reset(seed=seed)
  return env


def check_name(env_name: EnvironmentSource):
  """Checks that an environment of a name exists, without making it.

  Args:
    env_name: As in `make`.

  Raises:
    UnknownEnvironmentError: It does not; one line with the nearest names.
  """
  _resolve(env_name)


def resolved_config(
    env_name: EnvironmentSource, config: EnvironmentConfig | None = None
) -> EnvironmentConfig:
  """The preprocessing with the suite's defaults in place of None.

  Args:
    env_name: As in `make`.
    config: As in `make`.

  Returns:
    The config; a field that stays None is something that is not done.

  Raises:
    UnknownEnvironmentError: No environment of that name.
  """
  recipe = _resolve(env_name)
  return _with_defaults(config or EnvironmentConfig(), recipe.defaults)


def _resolve(env_name: EnvironmentSource) -> _Recipe:
  if callable(env_name):
    return _from_callable(env_name)
  suite, separator, game = env_name.partition(':')
  if separator:
    if suite not in _SUITES:
      raise errors.unknown_name('suite', suite, _SUITES)
    return _SUITES[suite](game)
  # Before gymnasium's registry, where ale-py's own preprocessing is found.
  atari_id = _ATARI_IDS.fullmatch(env_name)
  if atari_id and _is_atari_game(atari_id[1]):
    return _atari(atari_id[1])
  if env_name in gymnasium.registry:
    return _gymnasium(env_name)
  raise errors.unknown_name('environment', env_name, _all_names())


def _all_names() -> list[str]:
  from rnd_agent.environments import atari  # Optional: ale-py.

  return [
      'toy:Corridor',
      'toy:Recall',
      *gymnasium.registry,
      *(f'atari:{game}' for game in atari.game_names()),
      *(f'{game}NoFrameskip-v4' for game in atari.game_names()),
      *(f'ALE/{game}-v5' for game in atari.game_names()),
  ]


def _is_atari_game(game: str) -> bool:
  from rnd_agent.environments import atari  # Optional: ale-py.

  return game in atari.game_names()


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


def _preprocess(
    env: gymnasium.Env,
    config: EnvironmentConfig,
    seed: int,
    from_screen: bool = False,
) -> gymnasium.Env:
  """Applies sticky actions and the preprocessing of images, as configured."""
  if not hasattr(env, 'saved_state'):
    env = states.Replay(env)
  if config.sticky_action_probability:
    env = wrappers.StickyActions(env, config.sticky_action_probability, seed)
  if from_screen or config.frame_skip:
    env = wrappers.SkipAndMax(env, config.frame_skip or 1, from_screen)
  if config.frame_size or config.grayscale:
    env = wrappers.GrayResize(env, config.frame_size, bool(config.grayscale))
  if config.stacked_frames:
    env = wrappers.StackFrames(env, config.stacked_frames)
  return env


def _atari(game: str) -> _Recipe:
  """Atari 2600 games on the Arcade Learning Environment."""
  from rnd_agent.environments import atari  # Optional: ale-py.

  rom = atari.find_rom(game)

  def build(config: EnvironmentConfig, seed: int) -> gymnasium.Env:
    env = atari.AtariGame(rom, bool(config.full_action_space))
    return _preprocess(env, config, seed, from_screen=True)

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
  return _Recipe(defaults, build)


def _gymnasium(game: str) -> _Recipe:
  """Environments registered with gymnasium, 'id' or 'module:id'."""
  module, _, env_id = game.rpartition(':')
  if module:
    importlib.import_module(module)
  if env_id not in gymnasium.registry:
    raise errors.unknown_name(
        'gymnasium environment', env_id, gymnasium.registry
    )

  def build(config: EnvironmentConfig, seed: int) -> gymnasium.Env:
    # The registered limit is applied by `make`, with its own switch; -1 turns
    # gymnasium's off.
    env = gymnasium.make(env_id, max_episode_steps=-1, disable_env_checker=True)
    return _preprocess(env, config, seed)

  limit = gymnasium.spec(env_id).max_episode_steps
  return _Recipe({'max_episode_steps': limit}, build)


def _toy(game: str) -> _Recipe:
  """The small tasks of this package."""
  if game == 'Corridor':
    defaults = {'max_episode_steps': corridor.MAX_EPISODE_STEPS}
    environment = corridor.Corridor
  elif game == 'Recall':
    defaults, environment = {}, recall.Recall
  else:
    raise errors.unknown_name('toy environment', game, ['Corridor', 'Recall'])

  def build(config: EnvironmentConfig, seed: int) -> gymnasium.Env:
    return _preprocess(environment(), config, seed)

  return _Recipe(defaults, build)


def _from_callable(make_env: Callable[[int], gymnasium.Env]) -> _Recipe:
  """Environments that users bring themselves."""

  def build(config: EnvironmentConfig, seed: int) -> gymnasium.Env:
    return _preprocess(make_env(seed), config, seed)

  return _Recipe({}, build)


_SUITES: dict[str, Callable[[str], _Recipe]] = {
    'atari': _atari,
    'gymnasium': _gymnasium,
    'toy': _toy,
}
