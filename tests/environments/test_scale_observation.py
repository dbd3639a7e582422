import gymnasium
import numpy as np
import pytest

from rnd_agent.environments import suites
from rnd_agent.environments import wrappers


class _Fixed(gymnasium.Env):
  """Shows what it is told to."""

  def __init__(self, low, high, observation):
    self.observation_space = gymnasium.spaces.Box(
        np.float32(low), np.float32(high)
    )
    self.action_space = gymnasium.spaces.Discrete(2)
    self._observation = np.float32(observation)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    return self._observation, {}

  def step(self, action):
    return self._observation, 0.0, False, False, {}


@pytest.mark.parametrize(('observation', 'expected'), [
    ([-1.0, 0.0, 10.0], [-1, -1, -1]),
    ([3.0, 8.0, 10.5], [1, 1, 1]),
    ([1.0, 2.0, 10.25], [0, -0.5, 0]),
])
def test_bounds_become_one(observation, expected):
  env = wrappers.ScaleObservation(
      _Fixed([-1, 0, 10], [3, 8, 10.5], observation)
  )
  for result in (env.reset()[0], env.step(0)[0]):
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-6)
  assert env.observation_space == gymnasium.spaces.Box(-1, 1, (3,), np.float32)


@pytest.mark.parametrize('space', [
    gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32),
    gymnasium.spaces.Box(0, 255, (4, 4, 3), np.uint8),
    gymnasium.spaces.Box(np.float32([0, 1]), np.float32([1, 1])),
    gymnasium.spaces.Discrete(3),
])
def test_what_has_no_bounds_is_one_line(space):
  env = _Fixed([0], [1], [0])
  env.observation_space = space
  with pytest.raises(ValueError, match='finite bounds.*leave it off'):
    wrappers.ScaleObservation(env)


def test_mountain_car_is_scaled_where_asked_for():
  plain, scaled = (
      suites.make(
          'gymnasium:MountainCar-v0',
          suites.EnvironmentConfig(scale_observation=scale), seed=3,
      ) for scale in (None, True)
  )
  for env in (plain, scaled):
    env.action_space.seed(0)
  first, _ = plain.reset()
  mapped, _ = scaled.reset()
  for action in [0, 0, 2, 1, 2]:
    # Positions in [-1.2, .6], velocities in [-.07, .07].
    np.testing.assert_allclose(
        mapped, (first - [-0.3, 0.0]) / [0.9, 0.07], rtol=1e-4, atol=1e-5
    )
    first, reward, *_ = plain.step(action)
    mapped, same_reward, *_ = scaled.step(action)
    assert reward == same_reward == -1.0
