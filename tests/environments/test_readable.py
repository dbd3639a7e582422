"""Observations of every space become one array that networks read."""

import copy
from unittest import mock

from absl import logging
import gymnasium
from gymnasium import spaces
import numpy as np
import pytest
import toy_environments

from rnd_agent.environments import suites
from rnd_agent.environments.single import GymnasiumPyEnvironment

_INT64 = np.iinfo(np.int64)


class Samples(gymnasium.Env):
  """Gives samples of a space, and keeps what it gave; or gives what is told."""

  action_space = spaces.Discrete(2)

  def __init__(self, space, told=None):
    self.observation_space = space
    space.seed(3)
    self.given = []
    self._told = told

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    return self._observation(), {}

  def step(self, action):
    return self._observation(), 0.0, False, False, {}

  def _observation(self):
    if self._told is not None:
      return self._told
    self.given.append(copy.deepcopy(self.observation_space.sample()))
    return self.given[-1]


def _box(dtype, shape=(3,)):
  dtype = np.dtype(dtype)
  if dtype.kind == 'f':
    return spaces.Box(-1, 1, shape, dtype)
  low, high = (0, 1) if dtype.kind == 'b' else (
      np.iinfo(dtype).min, np.iinfo(dtype).max)
  return spaces.Box(low, high, shape, dtype)


def _through_the_door(env, **config):
  """What `suites.make` gives of six steps, and what the environment gave."""
  made = suites.make(lambda seed: env, suites.EnvironmentConfig(**config))
  env.given.clear()
  seen = [made.reset()[0]]
  seen += [made.step(0)[0] for _ in range(5)]
  assert all(made.observation_space.contains(x) for x in seen)
  return made.observation_space, seen, env.given


@pytest.mark.parametrize('shape', [(3,), (8, 8, 3)])
@pytest.mark.parametrize('dtype, read_as', [
    (bool, 'float32'), ('int8', 'float32'), ('int16', 'float32'),
    ('uint16', 'float32'), ('uint32', 'int64'), ('uint8', 'uint8'),
    ('int32', 'int32'), ('int64', 'int64'), ('float16', 'float16'),
    ('float64', 'float64'),
])
def test_dtypes_are_cast_where_nothing_is_lost(dtype, read_as, shape):
  space, seen, given = _through_the_door(Samples(_box(dtype, shape)))
  assert space.dtype == read_as and space.shape == shape
  assert seen[0].dtype == read_as
  np.testing.assert_array_equal(seen, np.asarray(given))


def test_what_cannot_be_cast_is_one_line():
  with pytest.raises(ValueError, match='uint64 from 0 to .*cast them to float'):
    suites.check_environment(lambda seed: Samples(_box('uint64')))


_NESTED = spaces.Dict(
    z=spaces.Tuple([spaces.Discrete(3, start=-1), spaces.MultiBinary(2)]),
    a=spaces.MultiDiscrete([2, 4]),
    speed=spaces.Box(-5, 5, (), np.float64),
    map=spaces.Box(0, 9, (2, 2), np.int16),
)


@pytest.mark.parametrize('space', [
    spaces.Discrete(5, start=2), spaces.MultiDiscrete([2, 3]),
    spaces.Box(-3, 3, ()), spaces.Box(0, 9, (), np.int64),
    spaces.MultiBinary(4), spaces.MultiBinary([2, 3]),
    spaces.Tuple([spaces.Discrete(3), spaces.Box(-1, 1, (2,))]), _NESTED,
    spaces.Dict(only=_NESTED),
])
def test_numbers_and_choices_become_a_vector(space):
  vectors, seen, given = _through_the_door(Samples(space))
  expected = [spaces.flatten(space, x) for x in given]
  assert vectors.shape == expected[0].shape and vectors.dtype == np.float32
  np.testing.assert_array_equal(seen, np.float32(expected))


def test_one_part_stays_what_it_is():
  image = spaces.Box(0, 255, (8, 8, 3), np.uint8)
  space, seen, given = _through_the_door(Samples(spaces.Dict(camera=image)))
  assert space == image
  np.testing.assert_array_equal(seen, [x['camera'] for x in given])


@pytest.mark.parametrize('shape', [
    (4, 84, 84), (3, 210, 160), (1, 17, 17), (3, 10, 20), (12, 20, 30),
])
@pytest.mark.parametrize('dtype', ['uint8', 'float32', 'int16'])
def test_images_with_their_channels_first_are_transposed(shape, dtype):
  space, seen, given = _through_the_door(Samples(_box(dtype, shape)))
  assert space.shape == (*shape[1:], shape[0])
  np.testing.assert_array_equal(seen, np.moveaxis(given, 1, -1))


@pytest.mark.parametrize('shape', [
    (84, 84, 4), (210, 160, 3), (7, 7, 3), (10, 10, 10), (8, 8, 111),
    (84, 84, 20), (2, 3, 3), (16, 4, 1), (3, 4, 5),
])
def test_images_with_their_channels_last_stay_as_they_are(shape):
  space, seen, given = _through_the_door(Samples(_box('uint8', shape)))
  assert space.shape == shape
  np.testing.assert_array_equal(seen, given)


@pytest.mark.parametrize('shape', [
    (3, 7, 7), (20, 84, 84), (210, 160, 60), (8, 9, 17),
])
def test_images_in_doubt_are_one_line_and_can_be_told(shape):
  env = Samples(_box('uint8', shape))
  with pytest.raises(ValueError, match='channels_first = True') as caught:
    suites.make(lambda seed: env)
  assert '\n' not in str(caught.value)
  first, _, _ = _through_the_door(env, channels_first=True)
  assert first.shape == (*shape[1:], shape[0])
  last, _, _ = _through_the_door(env, channels_first=False)
  assert last.shape == shape


def test_stacks_and_sizes_follow_the_transposition():
  space, seen, given = _through_the_door(
      Samples(_box('uint8', (3, 40, 40))), grayscale=True, frame_size=20,
      stacked_frames=2,
  )
  assert space.shape == (20, 20, 2)
  alone = suites.wrappers.GrayResize(
      Samples(_box('uint8', (40, 40, 3))), 20)
  frames = [alone.observation(np.moveaxis(x, 0, -1).copy()) for x in given]
  np.testing.assert_array_equal(seen[1], np.stack(frames[:2], -1))


def test_atari_s_images_are_known():
  config = suites.EnvironmentConfig(channels_first=True)
  with pytest.raises(ValueError, match='channels_first = True does nothing'):
    suites.make('atari:Pong', config)


@pytest.mark.parametrize('space', [_box('float32'), spaces.Discrete(3)])
def test_a_vector_has_no_channels(space):
  with pytest.raises(ValueError, match='channels_first = True.*leave it None'):
    _through_the_door(Samples(space), channels_first=True)


_UINT8 = _box('uint8', (8, 8, 3))


@pytest.mark.parametrize('adapter', [
    suites.make, lambda make: GymnasiumPyEnvironment(make(0)).reset()
])
@pytest.mark.parametrize('space, told, line', [
    (_UINT8, np.full((8, 8, 3), 0.5), r'0.5 at \[0, 0, 0\]'),
    (_UINT8, np.full((8, 8, 3), 300), r'300 at \[0, 0, 0\]'),
    (_UINT8, np.full((8, 8, 3), -1.0), r'-1.0 at'),
    (_UINT8, np.zeros((8, 8), np.uint8), r'shape \(8, 8\), its space'),
    (spaces.Box(0, 9, (2,), np.int64), np.array([3, 10]), r'10 at \[1\]'),
    (spaces.Box(0, 9, (2,), np.int8), np.array([3, 10]), r'10 at \[1\]'),
    (spaces.Discrete(3), 3, '3.*forbids'),
    (spaces.Discrete(3), 1.5, '1.5.*forbids'),
    (spaces.Discrete(3), 'two', 'forbids'),
    (spaces.MultiDiscrete([2, 2]), np.array([0, 2]), 'forbids'),
    (spaces.MultiBinary(2), np.array([0, 3]), 'forbids'),
    (spaces.Dict(a=spaces.Discrete(2), b=spaces.Discrete(2)), {'a': 1},
     "{'a': 1}.*forbids"),
    (spaces.Tuple([spaces.Discrete(2)] * 2), (1,), 'forbids'),
    (_box('float32'), np.array(['a', 'b', 'c']), 'forbids'),
    (_box('float32'), [[1.0], [1.0, 2.0], 3.0], 'forbids'),
])
def test_what_its_space_forbids_is_one_line(adapter, space, told, line):
  if adapter is not suites.make and isinstance(space, spaces.MultiBinary):
    pytest.skip('the adapter for TF-Agents has no such space')
  with pytest.raises(ValueError, match=line) as caught:
    adapter(lambda seed: Samples(space, told))
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('space, told', [
    (_UINT8, np.full((8, 8, 3), 200)),  # int64, but nothing is lost.
    (_UINT8, np.full((8, 8, 3), 200.0)),
    (_box('float32'), np.full(3, 1.5)),  # Bounds of floats are often wrong.
    (spaces.Discrete(3), np.int32(2)), (spaces.Discrete(3), np.array(2)),
    (_box('float32'), [0.5, 0.5, 0.5]),
])
def test_what_loses_nothing_passes(space, told):
  env = suites.make(lambda seed: Samples(space, told))
  observation, _ = env.reset()
  if isinstance(space, spaces.Box):
    np.testing.assert_array_equal(observation, told)
  assert observation.dtype.kind == env.observation_space.dtype.kind


class Promises(toy_environments.Walk):
  """Says that it has pictures, and takes no argument for them."""

  metadata = {'render_modes': ['rgb_array']}


class Forwards(Promises):

  def __init__(self, **arguments):
    super().__init__(**arguments)


@pytest.mark.parametrize('entry_point', [
    Promises, Forwards, 'test_readable:Promises'
])
def test_a_promise_of_pictures_that_is_not_kept(entry_point, monkeypatch):
  spec = gymnasium.envs.registration.EnvSpec(
      'Promises-v0', entry_point=entry_point
  )
  monkeypatch.setitem(gymnasium.registry, 'Promises-v0', spec)
  env = suites.make('gymnasium:Promises-v0')
  assert env.render_mode is None
  env.reset()


@pytest.mark.parametrize('what, line', [
    ([toy_environments.Walk()], 'list is no environment'),
    (lambda: 0, 'function is no environment'),
    ('vector', 'SyncVectorEnv is no environment.*makes many'),
    ('gym', 'OldGymEnv'),
])
@pytest.mark.parametrize('door', [
    GymnasiumPyEnvironment, lambda env: suites.make(lambda seed: env)
])
def test_what_is_no_environment_is_one_line(what, line, door):
  if what == 'vector':
    what = gymnasium.vector.SyncVectorEnv([toy_environments.Walk])
  elif what == 'gym':
    gym = pytest.importorskip('gym')
    what = gym.make('CartPole-v1')
  with pytest.raises(ValueError, match=line) as caught:
    door(what)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('reset, step, line', [
    (np.zeros(2, np.float32), None, 'its reset gave array.*instead of'),
    ((np.zeros(2, np.float32), {}), (np.zeros(2, np.float32), 0.0, False, {}),
     r'step 1 of its episode gave .*instead of.*old gym'),
    ((np.zeros(2, np.float32), 'info'), None, "its info is 'info'"),
])
@pytest.mark.parametrize('dtype', ['float32', 'int8'])  # One is cast.
def test_the_old_interface_is_one_line(reset, step, line, dtype):
  class Old(toy_environments.Walk):
    observation_space = _box(dtype, (2,))

    def reset(self, *, seed=None, options=None):
      return reset

    def step(self, action):
      return step

  one = GymnasiumPyEnvironment(Old())
  for steps in (
      lambda: (one.reset(), one.step(0)),
      lambda: suites.make(lambda seed: Old()).step(0),
  ):
    with pytest.raises(ValueError, match=line) as caught:
      steps()
    assert '\n' not in str(caught.value)


def test_the_adapter_takes_a_seed():
  one = GymnasiumPyEnvironment(gymnasium.make('CartPole-v1'))
  starts = []
  for seed in (5, 5, 6):
    one.seed(seed)
    starts.append(one.reset().observation.tolist())
  starts.append(one.reset().observation.tolist())
  assert starts[0] == starts[1]
  assert starts[1] != starts[2] != starts[3]


class CannotClose(toy_environments.Walk):

  def close(self):
    raise OSError('the door is stuck')


def test_what_closing_raises_is_logged():
  env = suites.make(lambda seed: CannotClose())
  with mock.patch.object(logging, 'log_first_n') as log:
    env.close()
  log.assert_called_once()
  assert 'OSError: the door is stuck' in log.call_args.args[-1]
