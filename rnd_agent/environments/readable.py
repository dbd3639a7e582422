"""Observations of any space as arrays that networks read.

Networks read a vector, an image [height, width, channels], or a dict of such,
of uint8, int32, int64 or floats. Other dtypes are cast, images with their
channels first are transposed, and everything else becomes a vector
(`gymnasium.spaces.flatten`): a number of one entry, choices (Discrete,
MultiDiscrete) one-hot, the parts of a Dict or Tuple one after the other, a
Dict's in the order of its space. Images stay apart: where there are other
parts, each image keeps its name, and the others are the vector 'vector'.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
import functools
import operator
from typing import Any, NamedTuple

import gymnasium
from gymnasium import spaces
import numpy as np

from rnd_agent.environments import returned

# More channels than this are not taken for channels without being told.
_MOST_CHANNELS = 16
_FLAT = (
    spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary
)
_NESTED = (spaces.Dict, spaces.Tuple)
# What TensorFlow's convolutions and Keras' layers take.
_READ = tuple(map(np.dtype, (
    np.uint8, np.int32, np.int64, np.float16, np.float32, np.float64
)))
_VECTOR = 'vector'


def readable(
    env: gymnasium.Env, channels_first: bool | None = None
) -> gymnasium.Env:
  """Wraps an environment so that networks can read its observations.

  Args:
    env: an environment; where nothing needs to be done, it is returned.
    channels_first: whether images are [channels, height, width]; None: only
      where their shape leaves no doubt.

  Returns:
    The environment, with a Box or a Dict of Boxes as its space of observations
    where there is a way to make one; otherwise with the space that it has.

  Raises:
    ValueError: the parts of an observation do not fit together, or it is in
      doubt which axis of an image holds the channels; one line.
  """
  reading = _reading(env.observation_space, channels_first)
  if reading.space is env.observation_space:
    return env
  return _Changed(env, reading.read, reading.space)


class _Reading(NamedTuple):
  """What networks read of an observation.

  Attributes:
    space: of what they read.
    read: makes that of an observation.
  """

  space: gymnasium.Space
  read: Callable[[Any], Any]

  def then(
      self, change: Callable[[Any], Any], space: gymnasium.Space
  ) -> '_Reading':
    """With one more change."""
    return _Reading(
        space, lambda observation: change(self.read(observation))
    )

  def of_part(self, *path) -> '_Reading':
    """Of an observation that has this one as a part."""
    return _Reading(self.space, lambda observation: self.read(
        functools.reduce(operator.getitem, path, observation)
    ))


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


def _reading(
    space: gymnasium.Space, channels_first: bool | None
) -> _Reading:
  """How networks read a space; unchanged where they cannot."""
  if isinstance(space, spaces.Box) and space.shape:
    return _reading_of_array(_unchanged(space), channels_first)
  if isinstance(space, _NESTED) and len(space.spaces) == 1:
    (name, part), = _children(space)
    return _reading(part, channels_first).of_part(name)
  leaves = list(_leaves(space))
  if not leaves or not all(isinstance(leaf, _FLAT) for _, leaf in leaves):
    return _unchanged(space)
  parts = {}
  for path, leaf in leaves:
    if _is_image(leaf):
      parts[_name(path)] = _reading_of_array(
          _unchanged(leaf), channels_first
      ).of_part(*path)
  others = [(path, leaf) for path, leaf in leaves if not _is_image(leaf)]
  if not parts:
    return _reading_of_array(_as_vector(others), channels_first)
  if others:
    if _VECTOR in parts:
      raise ValueError(
          f'its observations have an image named {_VECTOR!r}, which is what '
          'all but images is called: rename it with a gymnasium wrapper'
      )
    parts[_VECTOR] = _as_vector(others)
  return _Reading(
      spaces.Dict({name: part.space for name, part in parts.items()}),
      lambda observation: {
          name: part.read(observation) for name, part in parts.items()
      },
  )


def _unchanged(space: gymnasium.Space) -> _Reading:
  return _Reading(space, lambda observation: observation)


def _children(space: gymnasium.Space) -> list[tuple[Any, gymnasium.Space]]:
  """The parts of a Dict or Tuple, each with its key or number."""
  if isinstance(space, spaces.Dict):
    return list(space.spaces.items())
  return list(enumerate(space.spaces))


def _leaves(
    space: gymnasium.Space, path: tuple = ()
) -> Iterator[tuple[tuple, gymnasium.Space]]:
  """All parts that have none themselves, each with the way to it."""
  if not isinstance(space, _NESTED):
    yield path, space
    return
  for name, part in _children(space):
    yield from _leaves(part, (*path, name))


def _name(path: tuple) -> str:
  return '/'.join(map(str, path))


def _is_image(space: gymnasium.Space) -> bool:
  """Whether a vector would hide its shape."""
  return isinstance(space, spaces.Box) and len(space.shape) >= 3


def _as_vector(leaves: list[tuple[tuple, gymnasium.Space]]) -> _Reading:
  """Numbers and choices, one after the other, as float32."""
  flat = spaces.flatten_space(spaces.Tuple([leaf for _, leaf in leaves]))

  def read(observation: Any) -> np.ndarray:
    return np.concatenate([
        spaces.flatten(leaf, functools.reduce(
            operator.getitem, path, observation
        )) for path, leaf in leaves
    ], dtype=np.float32, casting='unsafe')

  return _Reading(spaces.Box(flat.low, flat.high, dtype=np.float32), read)


def _reading_of_array(
    reading: _Reading, channels_first: bool | None
) -> _Reading:
  """In a dtype and with axes that networks read."""
  if 0 in reading.space.shape:
    return reading
  if reading.space.dtype not in _READ:
    reading = _cast(reading)
  if _has_channels_first(reading.space, channels_first):
    reading = _with_channels_last(reading)
  return reading


def _cast(reading: _Reading) -> _Reading:
  """Casts numbers to float32 where it holds them, else to int64."""
  space = reading.space
  dtype = np.dtype(np.float32)
  if not np.can_cast(space.dtype, dtype):
    dtype = np.dtype(np.int64)
    if space.dtype.kind not in 'iu' or space.high.max() > np.iinfo(dtype).max:
      raise ValueError(
          f'its observations are {space.dtype} from {space.low.min()} to '
          f'{space.high.max()}: cast them to float32 with a gymnasium wrapper'
      )
  return reading.then(
      lambda observation: observation.astype(dtype),
      spaces.Box(
          space.low.astype(dtype), space.high.astype(dtype), dtype=dtype
      ),
  )


def _with_channels_last(reading: _Reading) -> _Reading:
  space = reading.space
  low, high = (np.moveaxis(bound, 0, -1) for bound in (space.low, space.high))
  return reading.then(
      lambda image: np.ascontiguousarray(np.moveaxis(image, 0, -1)),
      spaces.Box(low, high, dtype=space.dtype),
  )


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
