"""Observations of any space as one array that networks read.

Networks read a vector, or an image [height, width, channels], of uint8, int32,
int64 or floats. Other dtypes are cast, images with their channels first are
transposed, and everything else becomes a vector (`gymnasium.spaces.flatten`): a
number of one entry, choices (Discrete, MultiDiscrete) one-hot, the parts of a
Dict or Tuple one after the other, a Dict's in the order of its space.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
import operator
from typing import Any

import gymnasium
from gymnasium import spaces
import numpy as np

from rnd_agent.environments import returned

# More channels than this are not taken for channels without being told.
_MOST_CHANNELS = 16
_FLAT = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
_NESTED = (spaces.Dict, spaces.Tuple)
# What TensorFlow's convolutions and Keras' layers take.
_READ = tuple(map(np.dtype, (
    np.uint8, np.int32, np.int64, np.float16, np.float32, np.float64
)))


def readable(
    env: gymnasium.Env, channels_first: bool | None = None
) -> gymnasium.Env:
  """Wraps an environment so that networks can read its observations.

  Args:
    env: an environment; where nothing needs to be done, it is returned.
    channels_first: whether images are [channels, height, width]; None: only
      where their shape leaves no doubt.

  Returns:
    The environment, with a Box as its space of observations where there is a
    way to make one; otherwise with the space that it has.

  Raises:
    ValueError: the parts of an observation do not fit together, or it is in
      doubt which axis of an image holds the channels; one line.
  """
  space = env.observation_space
  if isinstance(space, _NESTED) and len(space.spaces) == 1:
    name = next(iter(space.spaces)) if isinstance(space, spaces.Dict) else 0
    part = _Changed(env, operator.itemgetter(name), space[name])
    return readable(part, channels_first)
  is_number = isinstance(space, spaces.Box) and not space.shape
  if is_number or isinstance(space, _NESTED + _FLAT) and _is_flat(space):
    _check_no_image(space)
    flat = spaces.flatten_space(space)
    env = _Changed(
        env, functools.partial(_as_vector, space),
        spaces.Box(flat.low, flat.high, dtype=np.float32),
    )
  space = env.observation_space
  if not isinstance(space, spaces.Box) or 0 in space.shape:
    return env
  if space.dtype not in _READ:
    env = _cast(env)
  if _has_channels_first(env.observation_space, channels_first):
    env = _with_channels_last(env)
  return env


class _Changed(gymnasium.Wrapper):
  """Changes observations once `returned` has checked them."""

  def __init__(
      self,
      env: gymnasium.Env,
      change: Callable[[Any], Any],
      space: gymnasium.Space,
  ):
    """Wraps an environment.

    Args:
      env: an environment of any interface that `returned` can name.
      change: what is made of an observation.
      space: of what it makes.
    """
    super().__init__(env)
    self._change = change
    self._steps = 0
    self.observation_space = space

  def reset(self, *, seed: int | None = None, options=None):
    self._steps = 0
    observation, info = returned.of_reset(
        self.env.observation_space, self.env.reset(seed=seed, options=options)
    )
    return self._change(observation), info

  def step(self, action):
    self._steps += 1
    observation, *others = returned.of_step(
        self.env.observation_space, self.env.step(action), self._steps
    )
    return self._change(observation), *others


def _as_vector(space: gymnasium.Space, observation: Any) -> np.ndarray:
  return spaces.flatten(space, observation).astype(np.float32)


def _is_flat(space: gymnasium.Space) -> bool:
  """Whether it has nothing but numbers and choices, of a fixed length."""
  if isinstance(space, spaces.Dict):
    return all(map(_is_flat, space.spaces.values()))
  if isinstance(space, spaces.Tuple):
    return all(map(_is_flat, space.spaces))
  return isinstance(space, _FLAT + (spaces.Box,))


def _check_no_image(space: gymnasium.Space):
  """Raises ValueError if a part is an image: a vector would hide its shape."""
  parts = space.spaces if isinstance(space, _NESTED) else {}
  if not isinstance(parts, dict):
    parts = dict(enumerate(parts))
  for name, part in parts.items():
    if isinstance(part, spaces.Box) and len(part.shape) >= 3:
      raise ValueError(
          f'its observations have an image, {name!r} of shape {part.shape}, '
          'beside other parts: networks read one array; choose the image or '
          'the others with a gymnasium wrapper'
      )
    _check_no_image(part)


def _cast(env: gymnasium.Env) -> gymnasium.Env:
  """Casts numbers to float32 where it holds them, else to int64."""
  space = env.observation_space
  dtype = np.dtype(np.float32)
  if not np.can_cast(space.dtype, dtype):
    dtype = np.dtype(np.int64)
    if space.dtype.kind not in 'iu' or space.high.max() > np.iinfo(dtype).max:
      raise ValueError(
          f'its observations are {space.dtype} from {space.low.min()} to '
          f'{space.high.max()}: cast them to float32 with a gymnasium wrapper'
      )
  return _Changed(
      env, lambda observation: observation.astype(dtype),
      spaces.Box(space.low.astype(dtype), space.high.astype(dtype),
                 dtype=dtype),
  )


def _with_channels_last(env: gymnasium.Env) -> gymnasium.Env:
  space = env.observation_space
  low, high = (np.moveaxis(bound, 0, -1) for bound in (space.low, space.high))
  return _Changed(
      env, _channels_last,
      spaces.Box(low, high, dtype=space.dtype),
  )


def _channels_last(image: np.ndarray) -> np.ndarray:
  return np.ascontiguousarray(np.moveaxis(image, 0, -1))


def _has_channels_first(space: spaces.Box, told: bool | None) -> bool:
  """Whether observations are images [channels, height, width].

  Raises:
    ValueError: it is in doubt, or they are no images of that kind.
  """
  if len(space.shape) != 3:
    if told is not None:
      raise ValueError(
          f'EnvironmentConfig.channels_first = {told}: observations of shape '
          f'{space.shape} have no channels; leave it None'
      )
    return False
  if told is not None:
    return told
  first, middle, last = space.shape
  if last <= _MOST_CHANNELS:
    # 3 x 7 x 7 may be three channels, but 2 x 3 x 3 may have three colours.
    in_doubt = first < middle == last and last > 4
  elif first == middle:
    in_doubt = False  # A square picture.
  elif first <= 4 or first <= _MOST_CHANNELS < middle:
    return True
  else:
    in_doubt = True
  if in_doubt:
    raise ValueError(
        f'its observations have shape {space.shape}: set '
        'EnvironmentConfig.channels_first = True for [channels, height, '
        'width], False for [height, width, channels]'
    )
  return False
