"""Environments as other people may write them, one for every number.

`gymnasium:odd_environments:Odd17-v0` is number 17. What it is made of follows
from the number alone: spaces, dtypes, layouts, rewards, infos, endings, a
buffer that is returned every time, values that its space forbids. From number
300 on there is an image beside all that is observed.
"""

import copy
import functools

import gymnasium
from gymnasium import spaces
import numpy as np

COUNT = 330
_FIRST_WITH_IMAGE = 300
_DTYPES = (
    'bool', 'int8', 'int16', 'int32', 'int64', 'uint8', 'uint16', 'uint32',
    'uint64', 'float16', 'float32', 'float64',
)
_SHAPES = (
    (), (1,), (3,), (40,), (2, 3), (5, 5), (8, 8, 3), (84, 84, 4), (4, 84, 84),
    (3, 7, 7), (20, 40, 40), (2, 3, 4, 5), (0,),
)
# How often each fault is built in: one in so many.
_RARELY = 12


class Odd(gymnasium.Env):
  """See the module. `given` holds copies of the observations it returned."""

  def __init__(self, number):
    random = np.random.default_rng(number)
    self.observation_space = _observation_space(random)
    if number >= _FIRST_WITH_IMAGE:
      self.observation_space = spaces.Dict(
          camera=_box(random, _SHAPES[6:9]), state=self.observation_space
      )
    self.observation_space.seed(number)
    self.action_space = _action_space(random)
    self.given = []
    self._length = int(random.integers(1, 12))
    self._truncates = bool(random.integers(2))
    self._reward = _choice(random, [
        1.0, 0, True, np.float32(-3), np.array([0.5]), np.array(2),
        1e9, np.float16(1),
    ], [None, 'three', np.zeros(2), np.nan, -np.inf])
    self._info = _choice(random, [
        {}, None, {'place': 3}, {'x': 2.5}, {'episode': 'mine'},
        {'place': np.int16(4), 'other': [1, 2]}, {'TimeLimit.truncated': True},
    ], [{'place': -1}, {'place': 1.5}, 7])
    self._fault = _choice(random, [None], [
        'nan', 'outside', 'shape', 'raises', 'four', 'one', 'dtype', 'close',
    ])
    self._in_place = bool(random.integers(2))
    self._buffer = None
    self._at = int(random.integers(1, 12))  # The step of the fault.
    self._steps = 0
    self._time = 0
    if random.integers(4) == 0:
      self.metadata = {'render_modes': ['rgb_array']}

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self._time = 0
    if self._fault == 'one' and self._steps >= self._at:
      return self._observation()
    return self._observation(), self._info

  def step(self, action):
    self._steps += 1
    self._time += 1
    faulty = self._steps >= self._at
    if self._fault == 'raises' and faulty:
      raise RuntimeError('out of\nmemory')
    observation = self._observation(self._fault if faulty else None)
    done = self._time >= self._length
    if self._fault == 'four' and faulty:
      return observation, self._reward, done, self._info
    return (
        observation, self._reward, done and not self._truncates,
        done and self._truncates, self._info,
    )

  def close(self):
    if self._fault == 'close':
      raise OSError('stuck')

  def _observation(self, fault=None):
    observation = self.observation_space.sample()
    if isinstance(observation, dict) and 'camera' in observation:
      observation['camera'] = self._array(observation['camera'], fault)
    elif isinstance(observation, np.ndarray) and observation.ndim:
      observation = self._array(observation, fault)
    self.given.append(copy.deepcopy(observation))
    return observation

  def _array(self, array, fault):
    """With the fault; without one, in the same memory if it does that."""
    array = _spoilt(array, fault)
    if not self._in_place or fault is not None:
      return array
    if self._buffer is None:
      self._buffer = array
    self._buffer[...] = array
    return self._buffer


def _spoilt(observation, fault):
  if fault == 'nan' and observation.dtype.kind == 'f':
    return np.full_like(observation, np.nan)
  if fault == 'outside':
    return observation.astype(np.float64) + 1e6
  if fault == 'shape':
    return observation[None]
  if fault == 'dtype':
    return observation.astype(np.float64)
  return observation


def _choice(random, usual, faults):
  pool = faults if random.integers(_RARELY) == 0 else usual
  return pool[random.integers(len(pool))]


def _box(random, shapes=_SHAPES):
  dtype = np.dtype(_DTYPES[random.integers(len(_DTYPES))])
  shape = shapes[random.integers(len(shapes))]
  if dtype.kind == 'b':
    return spaces.Box(0, 1, shape, dtype)
  if dtype.kind == 'f':
    bound = _choice(random, [1, 10], [np.inf])
    return spaces.Box(-bound, bound, shape, dtype)
  if random.integers(2):
    return spaces.Box(0, 100, shape, dtype)
  limits = np.iinfo(dtype)
  return spaces.Box(limits.min, limits.max, shape, dtype)


def _observation_space(random, depth=0):
  kind = random.integers(10)
  if kind < 6 or depth > 2:
    return _box(random, _SHAPES if depth == 0 else _SHAPES[:6])
  if kind == 6:
    return _choice(random, [
        spaces.Discrete(4), spaces.Discrete(3, start=-1),
        spaces.MultiDiscrete([2, 3, 4]), spaces.MultiBinary(5),
        spaces.MultiBinary([2, 2]),
    ], [spaces.Text(4), spaces.Sequence(spaces.Discrete(3))])
  parts = [
      _observation_space(random, depth + 1)
      for _ in range(random.integers(1, 4))
  ]
  if kind < 9:
    return spaces.Dict({f'part {i}': part for i, part in enumerate(parts)})
  return spaces.Tuple(parts)


def _action_space(random):
  return _choice(random, [
      spaces.Discrete(2), spaces.Discrete(18), spaces.MultiDiscrete([3, 3]),
      spaces.Box(-1, 1, (2,)), spaces.Box(-2, 3, (1,), np.float64),
      spaces.Box(0, 1, ()),
  ], [
      spaces.Discrete(3, start=1), spaces.MultiBinary(3),
      spaces.Box(-np.inf, np.inf, (2,)), spaces.MultiDiscrete([2, 3]),
      spaces.Dict(a=spaces.Discrete(2)),
  ])


for _number in range(COUNT):
  gymnasium.register(
      f'Odd{_number}-v0', functools.partial(Odd, _number),
      disable_env_checker=True,
  )
