"""How environments are preprocessed, as numbers that gin binds."""

from collections.abc import Sequence
import dataclasses
import numbers
from typing import Any

import gin

_MINIMA = {
    'frame_skip': 1,
    'sticky_action_probability': 0,
    'stacked_frames': 1,
    'max_episode_steps': 0,
    'reward_clip': 0,
    'layout_seed': 0,
}

# What more than that would do is hang, or be no float.
_MAXIMA = {'frame_skip': 1000}
_LARGEST = 1e30

# Fields that mean something to one suite only.
SUITE_OF_OPTION = {
    'full_action_space': 'atari',
    'full_view': 'minigrid',
    'encode_mission': 'minigrid',
    'reward_at_flag_only': 'mario',
}


@gin.configurable
@dataclasses.dataclass(frozen=True)
class EnvironmentConfig:
  """How an environment is preprocessed; None stands for the suite's default.

  The defaults of the suite `atari` are those of Burda et al. 2018 (arXiv
  1810.12894, appendix A.3, table 2, and the authors' code for the limit):
  frame_skip 4, sticky_action_probability 0.25, frame_size 84, grayscale,
  stacked_frames 4, max_episode_steps 4500 as a termination, reward_clip 1,
  minimal action set. Those of `ple` and `mario` are grey images of 84 x 84
  pixels in stacks of 4, of `mario` also frame_skip 4. Elsewhere nothing is done
  unless asked for, but for the limit an environment is registered with.

  Attributes:
    frame_skip: Raw frames an action is held; the observation of an image is the
      maximum over the last two, any other is the last.
    sticky_action_probability: Of repeating the previous action, per raw frame;
      before the first one, that is NOOP where action 0 is, and else none.
    frame_size: Size of an image, pixels: height and width, or one number for
      both.
    grayscale: Whether images are turned to grey.
    stacked_frames: Images or vectors in an observation, the newest last.
    actions: The actions that the agent may take, of an environment with
      discrete ones: a list of their numbers.
    max_episode_steps: Limit on an episode, agent steps; 0 is none.
    time_limit_is_termination: Whether that limit ends the episode with discount
      0 (as in the authors' code) instead of truncating it with discount 1.
    scale_observation: Whether bounded vectors are mapped from the space's
      bounds to [-1, 1], so that networks see all of their numbers alike.
    reward_clip: Largest magnitude of a reward; 0 is no clipping. Statistics of
      episodes are always those of unclipped rewards.
    extrinsic_reward: Whether the agent gets the environment's rewards (the
      default). If not, they are 0 for it, and statistics keep the real ones.
    layout_seed: Seed that every reset of every environment uses, so that each
      episode begins with the same layout; None lets layouts differ.
    full_action_space: Atari: all 18 actions of the console.
    full_view: MiniGrid: the whole grid instead of what the agent sees.
    encode_mission: MiniGrid: whether the observation tells the mission.
    reward_at_flag_only: Super Mario: 1 for reaching the flag and no other
      reward.
  """

  frame_skip: int | None = None
  sticky_action_probability: float | None = None
  frame_size: int | Sequence[int] | None = None
  grayscale: bool | None = None
  stacked_frames: int | None = None
  actions: Sequence[int] | None = None
  max_episode_steps: int | None = None
  time_limit_is_termination: bool | None = None
  scale_observation: bool | None = None
  reward_clip: float | None = None
  extrinsic_reward: bool | None = None
  layout_seed: int | None = None
  full_action_space: bool | None = None
  full_view: bool | None = None
  encode_mission: bool | None = None
  reward_at_flag_only: bool | None = None

  def __post_init__(self):
    for name, minimum in _MINIMA.items():
      value = getattr(self, name)
      if value is not None and value < minimum:
        raise ValueError(
            f'EnvironmentConfig.{name} must be at least {minimum}, got {value}'
        )
      if value is not None and value > _MAXIMA.get(name, _LARGEST):
        raise ValueError(
            f'EnvironmentConfig.{name} must be at most '
            f'{_MAXIMA.get(name, _LARGEST):g}, got {value!r:.40}'
        )
    if (self.sticky_action_probability or 0) >= 1:
      raise ValueError(
          'EnvironmentConfig.sticky_action_probability must be below 1, got '
          f'{self.sticky_action_probability}'
      )
    if self.frame_size is not None:
      self._set_frame_size()
    if self.actions is not None:
      self._set_actions()

  @property
  def image_size(self) -> tuple[int, int] | None:
    """Height and width of images, pixels; None leaves them as they are."""
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
