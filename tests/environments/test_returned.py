"""What environments of other people return: kept safely, checked, told."""

import functools

import gymnasium
import numpy as np
import pytest
import toy_environments

from rnd_agent.environments import errors
from rnd_agent.environments import returned
from rnd_agent.environments import suites
from rnd_agent.environments import wrappers
from rnd_agent.environments.single import GymnasiumPyEnvironment
from rnd_agent.environments.vector.sharded import ShardedPyEnvironment

Config = suites.EnvironmentConfig
_VECTOR, _IMAGE = ((2,), np.float32), ((3, 4), np.uint8)


def _source(kind, what=None):
  return functools.partial(toy_environments.returns, *kind, what)


def _steps(env, count):
  observations = [env.reset()[0]]
  for _ in range(count):
    observations.append(env.step(0)[0])
  return observations


@pytest.mark.parametrize('kind', [_VECTOR, _IMAGE])
@pytest.mark.parametrize('skip', [None, 3])
def test_a_buffer_that_is_returned_every_time_is_copied(kind, skip):
  """Each observation stays as it was: in stacks, and for who keeps it."""
  env = suites.make(
      _source(kind), Config(stacked_frames=4, frame_skip=skip)
  )
  kept = _steps(env, 4)
  for t, observation in enumerate(kept):
    expected = [max(0, t - back) * (skip or 1) for back in (3, 2, 1, 0)]
    stack = observation.reshape(-1, 4) if len(kind[0]) == 2 else (
        observation.reshape(4, -1).T
    )
    for row in stack:
      assert row.tolist() == expected, (t, kind, skip)


def test_the_maximum_of_two_frames_is_of_two():
  class Blinks(toy_environments.Returns):
    """A sprite in every other frame."""

    def step(self, action):
      result = super().step(action)
      self._buffer[...] = 9 if self._time % 2 else 0
      return result

  env = wrappers.SkipAndMax(
      suites.states.Replay(Blinks((3, 4), np.uint8)), skip=4
  )
  assert [o.max() for o in _steps(env, 2)] == [0, 9, 9]


def test_time_steps_that_are_kept_stay_as_they_were():
  env = GymnasiumPyEnvironment(toy_environments.Returns())
  kept = [env.reset()] + [env.step(np.int64(0)) for _ in range(5)]
  assert [s.observation.tolist() for s in kept] == [[t, t] for t in range(6)]


def test_infos_that_are_kept_stay_as_they_were():
  env = GymnasiumPyEnvironment(toy_environments.Returns())
  env.reset()
  kept = []
  for _ in range(3):
    env.step(np.int64(0))
    kept.append(env.get_info())
  assert [info['place'] for info in kept] == [1, 2, 3]


_REWARDS = (2.5, np.float64(2.5), np.array(2.5), np.array([2.5]), [2.5],
            np.array([[2.5]], np.float16))


@pytest.mark.parametrize('reward', _REWARDS, ids=repr)
def test_a_reward_of_one_number_is_a_scalar(reward):
  what = {1: {'reward': reward}}
  single = GymnasiumPyEnvironment(toy_environments.Returns(what=what))
  single.reset()
  time_step = single.step(np.int64(0))
  assert time_step.reward.shape == () and time_step.reward == 2.5
  env = suites.make(_source(_VECTOR, what), Config())
  env.reset()
  assert env.step(0)[1] == 2.5


@pytest.mark.parametrize('reward, line', [
    ([1.0, 2.0], r'step 1 of its episode gave a reward of shape \(2,\)'),
    ([], r'reward of shape \(0,\)'),
    (None, 'reward None: it must be a number'),
    ('1.x', "reward '1.x': it must be a number"),
    (1 + 2j, 'it must be a number'),
])
def test_other_rewards_are_one_line(reward, line):
  what = {1: {'reward': reward}}
  single = GymnasiumPyEnvironment(toy_environments.Returns(what=what))
  single.reset()
  with pytest.raises(ValueError, match=line):
    single.step(np.int64(0))


@pytest.mark.parametrize('place', [
    -3, 2**70, 2**63, 1.5, 2.0, '1', [1], np.nan, True + 0.5,
])
def test_places_that_cannot_be_recorded_are_one_line_at_the_step(place):
  env = suites.make(_source(_VECTOR, {2: {'info': {'place': place}}}), Config())
  env.reset()
  env.step(0)
  with pytest.raises(ValueError, match=r"info\['place'\] = .*whole number"):
    env.step(0)


@pytest.mark.parametrize('place', [
    0, 7, 2**63 - 1, np.int8(3), np.uint64(9), np.array(4), None,
])
def test_places_that_can_be_recorded(place):
  env = suites.make(_source(_VECTOR, {1: {'info': {'place': place}}}), Config())
  env.reset()
  info = env.step(0)[4]
  assert info.get('place') == place


def test_no_info_is_an_empty_one():
  assert returned.of_reset(
      gymnasium.spaces.Box(0, 1, (2,)), (np.zeros(2), None)
  )[1] == {}


@pytest.mark.parametrize('what, line', [
    ({'reward': np.nan}, 'step 3 of its episode gave the reward nan'),
    ({'reward': np.array([-np.inf])}, 'the reward -inf'),
    ({'observation': np.array([0, np.inf], np.float32)},
     r'an observation with inf at \[1\]'),
    ({'observation': np.array([np.nan, 0], np.float32)},
     r'an observation with nan at \[0\]'),
])
def test_what_is_not_finite_names_environment_step_and_place(what, line):
  sharded = ShardedPyEnvironment(
      _source(_VECTOR, {3: what}), 3, num_workers=1, config=Config()
  )
  sharded.reset()
  with pytest.raises(errors.EnvironmentReturnedError, match=line) as error:
    for _ in range(4):
      sharded.step(np.zeros(3, np.int64))
  text = str(error.value)
  assert text.startswith('environment 0 of ') and '\n' not in text
  assert error.value.environment == 0
  sharded.close()


def test_the_first_observation_is_checked_as_well():
  class Starts(toy_environments.Returns):

    def reset(self, **kwargs):
      return np.full(2, np.nan, np.float32), {}

  with pytest.raises(returned.ReturnedError, match='its reset gave an obs'):
    GymnasiumPyEnvironment(Starts()).reset()
