"""Preprocessing of observations, actions and rewards: numpy and OpenCV only.

The order, from the game outwards, is that of Burda et al. 2018 (arXiv
1810.12894, appendix A.3, table 2): sticky actions on raw frames, an action
held for 4 frames with the maximum over the last two, grey, 84 x 84, a stack of
4, a limit on an episode's length, and a clipped reward. `suites` applies them.
Wrappers with state save and restore it, see `states`.
"""

import collections
from collections.abc import Sequence
from typing import Any, Optional

import cv2
import gymnasium
import numpy as np

from rnd_agent.environments import states

# Stream of StickyActions among the random streams of one environment's seed.
_STICKY_STREAM = 1


class StickyActions(gymnasium.Wrapper):
  """Repeats the previous action with some probability (Machado et al. 2018).

  Applied per raw frame, before frames are skipped, as ALE's
  `repeat_action_probability` is. Before the first action of an episode, NOOP is
  the action to repeat if the environment calls action 0 so
  (`get_action_meanings`); otherwise the first action is never replaced.
  """

  def __init__(self, env: gymnasium.Env, probability: float, seed: int = 0):
    """Wraps an environment with discrete actions.

    Args:
      env: Environment of one raw frame per step.
      probability: Of repeating the previous action, in [0, 1).
      seed: Seed of the wrapper's own random numbers; `reset(seed=...)`
        replaces it.

    Raises:
      ValueError: The actions are not discrete or the probability is wrong.
    """
    super().__init__(env)
    if not isinstance(env.action_space, gymnasium.spaces.Discrete):
      raise ValueError(f'sticky actions need Discrete, got {env.action_space}')
    if not 0.0 <= probability < 1.0:
      raise ValueError(f'probability must be in [0, 1), got {probability}')
    self._probability = probability
    self._initial_previous = _noop(env)
    self._previous = self._initial_previous
    self._random = self._generator(seed)

  def reset(self, *, seed: Optional[int] = None, options=None):
    if seed is not None:
      self._random = self._generator(seed)
    self._previous = self._initial_previous
    return self.env.reset(seed=seed, options=options)

  def step(self, action):
    chosen = self._random.random() >= self._probability
    if chosen or self._previous is None:
      self._previous = action
    return self.env.step(self._previous)

  def saved_state(self) -> dict[str, Any]:
    """Returns the previous action and the state of the random generator."""
    previous = self._previous
    return {
        'previous': None if previous is None else int(previous),
        'random': self._random.bit_generator.state,
    }

  def restore_state(self, state: dict[str, Any]):
    """Restores a state that `saved_state` returned."""
    previous = state['previous']
    if previous is not None:
      previous = states.whole_number(previous, int(self.action_space.n))
    self._previous = previous
    self._random.bit_generator.state = state['random']

  @staticmethod
  def _generator(seed: int) -> np.random.Generator:
    sequence = np.random.SeedSequence(seed, spawn_key=(_STICKY_STREAM,))
    return np.random.default_rng(sequence)


def _noop(env: gymnasium.Env) -> Optional[int]:
  """Returns action 0 if the environment names it NOOP, else None."""
  meanings = getattr(env.unwrapped, 'get_action_meanings', list)()
  return 0 if meanings and meanings[0] == 'NOOP' else None


class SkipAndMax(gymnasium.Wrapper):
  """Holds an action for several frames; maximum over the last two frames.

  Rewards are summed. If the episode ends within the held frames, the step ends
  there; before the last of them, the observation is the final frame alone. The
  maximum is taken per pixel and colour, because sprites of Atari games are
  often drawn in every other frame only.
  """

  def __init__(
      self, env: gymnasium.Env, skip: int, frames: Optional[Any] = None
  ):
    """Wraps an environment of one frame per step.

    Args:
      env: Environment of one frame per step.
      skip: Frames an action is held, at least 1.
      frames: Where frames come from instead of the observations, which need
        not be images then; see `games.atari_screen`. It has the attribute
        `space` and the methods `read()`, the current frame in any form, and
        `image(before)`, the maximum of the current frame and the one that
        `read` returned last, or the current one alone for None.

    Raises:
      ValueError: `skip` is below 1, or the frames are not uint8 images.
    """
    super().__init__(env)
    if skip < 1:
      raise ValueError(f'frame_skip must be at least 1, got {skip}')
    self._skip = skip
    self._frames = frames
    if frames is not None:
      self.observation_space = frames.space
    require_image(self.observation_space)

  def reset(self, *, seed: Optional[int] = None, options=None):
    observation, info = self.env.reset(seed=seed, options=options)
    return self._image(observation, None), info

  def step(self, action):
    total_reward = 0.0
    before = None
    for i in range(self._skip):
      observation, reward, terminated, truncated, info = self.env.step(action)
      total_reward += reward
      if terminated or truncated:
        break
      if i == self._skip - 2:
        before = self._frames.read() if self._frames else observation
    image = self._image(observation, before)
    return image, total_reward, terminated, truncated, info

  def _image(self, observation: np.ndarray, before: Optional[Any]):
    if self._frames:
      return self._frames.image(before)
    return observation if before is None else np.maximum(observation, before)


class SkipFrames(gymnasium.Wrapper):
  """Holds an action for several steps; the observation is that of the last.

  For observations that are not images. Rewards are summed. If the episode ends
  within the held steps, the step ends there.
  """

  def __init__(self, env: gymnasium.Env, skip: int):
    """Wraps an environment.

    Args:
      env: Any environment.
      skip: Steps an action is held, at least 1.

    Raises:
      ValueError: `skip` is below 1.
    """
    super().__init__(env)
    if skip < 1:
      raise ValueError(f'frame_skip must be at least 1, got {skip}')
    self._skip = skip

  def step(self, action):
    total_reward = 0.0
    for _ in range(self._skip):
      observation, reward, terminated, truncated, info = self.env.step(action)
      total_reward += reward
      if terminated or truncated:
        break
    return observation, total_reward, terminated, truncated, info


class GrayResize(gymnasium.ObservationWrapper):
  """Turns images to grey, then resizes them by area interpolation."""

  def __init__(
      self,
      env: gymnasium.Env,
      size: int | tuple[int, int] | None,
      grayscale: bool = True,
  ):
    """Wraps an environment of images.

    Args:
      env: Environment with observations uint8 [height, width, 3] (RGB), or
        [height, width] if already grey.
      size: Height and width of the result, pixels, or one number for both; None
        leaves the size as it is.
      grayscale: Whether to turn RGB to grey.

    Raises:
      ValueError: The observations are not uint8 images.
    """
    super().__init__(env)
    require_image(env.observation_space)
    *shape, channels = (*env.observation_space.shape, 1)[:3]
    if grayscale and channels not in (1, 3):
      raise ValueError(
          f'images of {channels} channels cannot be turned to grey: '
          'EnvironmentConfig.grayscale must be None here'
      )
    self._grayscale = grayscale and channels == 3
    self._size = None  # (width, height): OpenCV's order.
    if size:
      shape = [size, size] if isinstance(size, int) else list(size)
      self._size = (shape[1], shape[0])
    if len(env.observation_space.shape) == 3 and not self._grayscale:
      shape.append(channels)
    self._shape = tuple(shape)
    self.observation_space = gymnasium.spaces.Box(0, 255, self._shape, np.uint8)

  def observation(self, observation: np.ndarray) -> np.ndarray:
    """Returns the image, uint8 [height, width] or [height, width, channels]."""
    if self._grayscale:
      observation = cv2.cvtColor(observation, cv2.COLOR_RGB2GRAY)
    if self._size is None:
      return observation
    image = cv2.resize(observation, self._size, interpolation=cv2.INTER_AREA)
    return image.reshape(self._shape)  # OpenCV drops a single channel.


class StackFrames(gymnasium.Wrapper):
  """Stacks the last observations along the last axis, the newest last.

  When an episode starts, its first observation fills the stack. Images
  [height, width] give [height, width, count], images of three colours
  3 * count channels, vectors [n] give [count * n].
  """

  def __init__(self, env: gymnasium.Env, count: int):
    """Wraps an environment of images or vectors.

    Args:
      env: Environment with observations [height, width(, channels)] or [n].
      count: Observations in the stack, at least 1.

    Raises:
      ValueError: `count` is below 1, or the observations are neither images nor
        vectors.
    """
    super().__init__(env)
    if count < 1:
      raise ValueError(f'stacked_frames must be at least 1, got {count}')
    space = env.observation_space
    rank = len(space.shape) if isinstance(space, gymnasium.spaces.Box) else 0
    if not 1 <= rank <= 3:
      raise ValueError(
          f'observations in {space} are neither images nor vectors: '
          'EnvironmentConfig.stacked_frames must be None here'
      )
    low, high = space.low, space.high
    if rank == 2:
      low, high = low[..., np.newaxis], high[..., np.newaxis]
    self._with_opencv = rank > 1 and space.dtype == np.uint8  # Far faster.
    self._frames = collections.deque(maxlen=count)
    self.observation_space = gymnasium.spaces.Box(
        np.concatenate([low] * count, -1),
        np.concatenate([high] * count, -1),
        dtype=space.dtype,
    )
    self._shape = self.observation_space.shape

  def reset(self, *, seed: Optional[int] = None, options=None):
    frame, info = self.env.reset(seed=seed, options=options)
    self._frames.extend([frame] * self._frames.maxlen)
    return self._stack(), info

  def step(self, action):
    frame, reward, terminated, truncated, info = self.env.step(action)
    self._frames.append(frame)
    return self._stack(), reward, terminated, truncated, info

  def saved_state(self) -> dict[str, Any]:
    """Returns the stack."""
    return {'frames': list(self._frames)}

  def restore_state(self, state: dict[str, Any]):
    """Restores a state that `saved_state` returned."""
    frames = state['frames']
    space = self.env.observation_space
    if len(frames) != self._frames.maxlen or not all(
        isinstance(frame, np.ndarray) and frame.shape == space.shape
        and frame.dtype == space.dtype for frame in frames
    ):
      raise ValueError('its frames are those of another environment')
    self._frames.extend(frames)

  def _stack(self) -> np.ndarray:
    if self._with_opencv:
      return cv2.merge(list(self._frames)).reshape(self._shape)
    if len(self._shape) == 1 or np.ndim(self._frames[0]) == 3:
      return np.concatenate(self._frames, axis=-1)
    return np.stack(self._frames, axis=-1)


class ActionSubset(gymnasium.ActionWrapper):
  """Offers some of an environment's discrete actions, numbered from 0."""

  def __init__(self, env: gymnasium.Env, actions: Sequence[int]):
    """Wraps an environment with discrete actions.

    Args:
      env: Environment with a `Discrete` action space.
      actions: Those that remain, in the order of their new numbers.

    Raises:
      ValueError: The actions are not discrete, or one of `actions` does not
        exist.
    """
    super().__init__(env)
    space = env.action_space
    if not isinstance(space, gymnasium.spaces.Discrete):
      raise ValueError(
          f'EnvironmentConfig.actions = {list(actions)}: only discrete actions '
          f'can be left out, here they are {space}'
      )
    wrong = [action for action in actions if not space.contains(action)]
    if wrong:
      raise ValueError(
          f'EnvironmentConfig.actions = {list(actions)}: there is no action '
          f'{wrong[0]}, they go from {space.start} to '
          f'{space.start + space.n - 1}'
      )
    self._actions = [int(action) for action in actions]
    self.action_space = gymnasium.spaces.Discrete(len(self._actions))

  def action(self, action: int) -> int:
    """Returns the environment's number of an action."""
    return self._actions[action]

  def get_action_meanings(self) -> list[str]:
    """Returns the names of the actions that remain; [] if they have none."""
    names = action_names(self.env)
    return [names[action] for action in self._actions] if names else []


class SameLayout(gymnasium.Wrapper):
  """Begins every episode with the same seed, so with the same layout.

  Everything that the environment draws at random is the same in every episode,
  not only its start. Wrappers outside of this one have random generators of
  their own.
  """

  def __init__(self, env: gymnasium.Env, seed: int):
    """Wraps an environment that draws its layout from the seed of a reset.

    Args:
      env: Any environment.
      seed: Seed of every reset, whatever seed the reset is given.
    """
    super().__init__(env)
    self._seed = seed

  def reset(self, *, seed: Optional[int] = None, options=None):
    return self.env.reset(seed=self._seed, options=options)


class TimeLimit(gymnasium.Wrapper):
  """Ends an episode after a number of agent steps.

  The paper's code treats the limit as an end of the episode (termination, no
  value beyond it); otherwise it is a truncation.
  """

  def __init__(
      self,
      env: gymnasium.Env,
      max_episode_steps: int,
      is_termination: bool = False,
  ):
    """Wraps an environment.

    Args:
      env: Environment of one agent step per step.
      max_episode_steps: Length of the longest episode, agent steps.
      is_termination: Report the limit as termination.

    Raises:
      ValueError: The limit is below 1.
    """
    super().__init__(env)
    if max_episode_steps < 1:
      raise ValueError(
          f'max_episode_steps must be at least 1, got {max_episode_steps}'
      )
    self._max_episode_steps = max_episode_steps
    self._is_termination = is_termination
    self._steps = 0

  def reset(self, *, seed: Optional[int] = None, options=None):
    self._steps = 0
    return self.env.reset(seed=seed, options=options)

  def step(self, action):
    observation, reward, terminated, truncated, info = self.env.step(action)
    self._steps += 1
    if self._steps >= self._max_episode_steps:
      if self._is_termination:
        terminated = True
      else:
        truncated = True
    return observation, reward, terminated, truncated, info

  def saved_state(self) -> dict[str, Any]:
    """Returns the steps of the episode so far."""
    return {'steps': self._steps}

  def restore_state(self, state: dict[str, Any]):
    """Restores a state that `saved_state` returned."""
    self._steps = states.whole_number(
        state['steps'], self._max_episode_steps + 1
    )


class EpisodeStatistics(gymnasium.Wrapper):
  """Puts an episode's figures into `info['episode']` when it ends.

  They are a dictionary: `episode_return`, the sum of the rewards that this
  wrapper gets (raw scores if it is inside of `ClipReward`); `length` in agent
  steps; `places`, the distinct `info['place']` of the episode including its
  start, a sorted tuple, empty if there are none; `furthest_x`, the largest
  `info['x']` of the episode, None if there is none.
  """

  def __init__(self, env: gymnasium.Env):
    super().__init__(env)
    self._return = 0.0
    self._length = 0
    self._places = set()
    self._furthest_x = None

  def reset(self, *, seed: Optional[int] = None, options=None):
    observation, info = self.env.reset(seed=seed, options=options)
    self._return = 0.0
    self._length = 0
    self._places = set()
    self._furthest_x = None
    self._visit(info)
    return observation, info

  def step(self, action):
    observation, reward, terminated, truncated, info = self.env.step(action)
    self._return += float(reward)
    self._length += 1
    self._visit(info)
    if terminated or truncated:
      info['episode'] = {
          'episode_return': self._return,
          'length': self._length,
          'places': tuple(sorted(self._places)),
          'furthest_x': self._furthest_x,
      }
    return observation, reward, terminated, truncated, info

  def saved_state(self) -> dict[str, Any]:
    """Returns the figures of the episode so far."""
    return {
        'return': self._return,
        'length': self._length,
        'places': sorted(self._places),
        'furthest_x': self._furthest_x,
    }

  def restore_state(self, state: dict[str, Any]):
    """Restores a state that `saved_state` returned."""
    self._return = float(state['return'])
    self._length = states.whole_number(state['length'])
    self._places = {int(place) for place in state['places']}
    x = state['furthest_x']
    self._furthest_x = x if x is None else float(x)

  def _visit(self, info: dict[str, Any]):
    if 'place' in info:
      self._places.add(int(info['place']))
    if 'x' in info:
      x = float(info['x'])
      if self._furthest_x is None or x > self._furthest_x:
        self._furthest_x = x


class WithoutReward(gymnasium.RewardWrapper):
  """Every reward is 0."""

  def reward(self, reward: float) -> float:
    """Returns 0."""
    return 0.0


class ScaleObservation(gymnasium.ObservationWrapper):
  """Maps a bounded vector from its space's bounds to [-1, 1], float32.

  Without it a velocity of up to 0.07 hardly affects an untrained network that
  also gets a position of up to 1.2.
  """

  def __init__(self, env: gymnasium.Env):
    """Wraps an environment.

    Args:
      env: Environment whose observations are vectors with finite bounds.

    Raises:
      ValueError: Its observations are something else.
    """
    super().__init__(env)
    space = env.observation_space
    if not (
        isinstance(space, gymnasium.spaces.Box)
        and len(space.shape) == 1
        and np.isfinite(space.low).all()
        and np.isfinite(space.high).all()
        and (space.low < space.high).all()
    ):
      raise ValueError(
          'EnvironmentConfig.scale_observation needs vectors with finite '
          f'bounds, got {space}: leave it off'
      )
    self._middle = (space.high.astype(np.float64) + space.low) / 2
    self._half = (space.high.astype(np.float64) - space.low) / 2
    self.observation_space = gymnasium.spaces.Box(
        -1, 1, space.shape, np.float32
    )

  def observation(self, observation: np.ndarray) -> np.ndarray:
    """Returns the mapped vector. See `gymnasium.ObservationWrapper`."""
    return ((observation - self._middle) / self._half).astype(np.float32)


class ClipReward(gymnasium.RewardWrapper):
  """Clips every reward to [-bound, bound]."""

  def __init__(self, env: gymnasium.Env, bound: float):
    """Wraps an environment.

    Args:
      env: Any environment.
      bound: Largest magnitude of a reward, above 0.

    Raises:
      ValueError: The bound is not positive.
    """
    super().__init__(env)
    if bound <= 0:
      raise ValueError(f'reward_clip must be above 0, got {bound}')
    self._bound = float(bound)

  def reward(self, reward: float) -> float:
    """Returns the clipped reward."""
    return min(max(float(reward), -self._bound), self._bound)


def action_names(env: gymnasium.Env) -> tuple[str, ...]:
  """Returns the names of an environment's actions.

  Args:
    env: Any environment. The names come from the outermost wrapper with a
      method `get_action_meanings`, or from the environment's own.

  Returns:
    A name per discrete action; () if there is no such method.
  """
  while not hasattr(env, 'get_action_meanings'):
    if not isinstance(env, gymnasium.Wrapper):
      return ()
    env = env.env
  return tuple(str(name) for name in env.get_action_meanings())


def is_image(space: gymnasium.Space) -> bool:
  """Whether a space holds uint8 [height, width(, channels)]."""
  return (
      isinstance(space, gymnasium.spaces.Box)
      and space.dtype == np.uint8
      and len(space.shape) in (2, 3)
  )


def require_image(space: gymnasium.Space):
  """Raises ValueError unless it holds uint8 [height, width(, channels)]."""
  if not is_image(space):
    raise ValueError(
        f'observations are not images but {space}: frame_size and grayscale of '
        'EnvironmentConfig must be None here'
    )
