"""EnvironmentConfig: the preprocessing of environments, bound by gin."""

from collections.abc import Sequence
import dataclasses
import functools
import numbers
from typing import Any

import gin

from rnd_agent.common import parameters

_field = functools.partial(
    parameters.parameter, None, change=parameters.Change.ANOTHER_RUN
)


@gin.configurable
@dataclasses.dataclass(frozen=True)
class EnvironmentConfig:
  """How an environment is preprocessed; None stands for the suite's default.

  The defaults of the suite `atari` are those of Burda et al. 2018 (arXiv
  1810.12894, appendix A.3, table 2, and the authors' code for the limit):
  frame_skip 4, sticky_action_probability 0.25, frame_size 84, grayscale,
  stacked_frames 4, max_episode_steps 4500 as a termination, reward_clip 1,
  minimal action set. Those of `ple` and `mario` are grey images of 84 x 84
  pixels in stacks of 4, of `mario` also frame_skip 4. All other environments
  only get the time limit that they are registered with.

  Attributes:
    frame_skip: Raw frames an action is held; of images the observation is the
      maximum over the last two frames, of anything else the last frame.
    sticky_action_probability: Probability of repeating the previous action, per
      raw frame. The first action of an episode can only be replaced by NOOP,
      and only where action 0 is NOOP.
    frame_size: Size of an image, pixels: height and width, or one number for
      both.
    grayscale: Whether images are turned to grey.
    stacked_frames: Images or vectors in an observation, the newest last.
    actions: Numbers of the discrete actions that the agent may choose; None for
      all.
    max_episode_steps: Largest length of an episode, agent steps; 0: no limit.
    time_limit_is_termination: Whether that limit ends the episode with discount
      0 (as in the authors' code) instead of truncating it with discount 1.
    channels_first: Whether images are [channels, height, width], which networks
      read with the channels last; None: only where their shape leaves no doubt.
    scale_observation: Whether bounded vectors are mapped from the space's
      bounds to [-1, 1], so that all their entries have the same range.
    reward_clip: Largest magnitude of a reward; 0: no clipping. Statistics of
      episodes always use the unclipped rewards.
    extrinsic_reward: Whether the agent gets the environment's rewards (the
      default). If not, its rewards are 0; statistics of episodes use the
      environment's.
    layout_seed: Seed that every reset of every environment uses, so that each
      episode begins with the same layout; None: layouts differ.
    full_action_space: Atari: whether the agent has all 18 actions of the
      console.
    full_view: MiniGrid: whether the observation is the whole grid instead of
      the cells that the agent sees.
    encode_mission: MiniGrid: whether the observation contains the mission.
    reward_at_flag_only: Super Mario: whether the reward is 1 for reaching the
      flag and 0 otherwise.
  """

  frame_skip: int | None = _field(at_least=1, at_most=1000, unit='frames')
  sticky_action_probability: float | None = _field(at_least=0, below=1)
  frame_size: int | Sequence[int] | None = _field(unit='pixels')
  grayscale: bool | None = _field()
  stacked_frames: int | None = _field(at_least=1)
  actions: Sequence[int] | None = _field()
  max_episode_steps: int | None = _field(
      at_least=0, zero='no limit', unit='agent steps'
  )
  time_limit_is_termination: bool | None = _field()
  channels_first: bool | None = _field()
  scale_observation: bool | None = _field()
  reward_clip: float | None = _field(at_least=0, zero='no clipping')
  extrinsic_reward: bool | None = _field()
  layout_seed: int | None = _field(at_least=0)
  full_action_space: bool | None = _field(suite='atari')
  full_view: bool | None = _field(suite='minigrid')
  encode_mission: bool | None = _field(suite='minigrid')
  reward_at_flag_only: bool | None = _field(suite='mario')

  def __post_init__(self):
    parameters.check(self)
    if self.frame_size is not None:
      self._set_frame_size()
    if self.actions is not None:
      self._set_actions()

  @property
  def image_size(self) -> tuple[int, int] | None:
    """Height and width of images, pixels; None if they are not resized."""
    if self.frame_size is None or isinstance(self.frame_size, tuple):
      return self.frame_size
    return self.frame_size, self.frame_size

  def _set_frame_size(self):
    size = self.frame_size
    both = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(both) != 2 or not all(_is_whole(n) and n >= 1 for n in both):
      raise ValueError(
          f'EnvironmentConfig.frame_size = {size!r}: give one number of pixels '
          'or [height, width], at least 1 each'
      )
    if isinstance(size, Sequence):
      object.__setattr__(self, 'frame_size', both)

  def _set_actions(self):
    actions = tuple(self.actions)
    distinct = len(set(actions)) == len(actions)
    if not (actions and distinct and all(map(_is_whole, actions))):
      raise ValueError(
          f'EnvironmentConfig.actions = {self.actions!r}: give a list of '
          'different whole numbers, such as [0, 1, 2, 5]'
      )
    object.__setattr__(self, 'actions', actions)


def _is_whole(value: Any) -> bool:
  return isinstance(value, numbers.Integral) and not isinstance(value, bool)


# The fields that only one suite has, and the suite's name.
SUITE_OF_OPTION = {
    name: known.suite
    for name, known in parameters.parameters_of(EnvironmentConfig).items()
    if known.suite
}
