"""The old gym behind the new interface: ends, seeds, spaces."""

import gym
import gymnasium
import numpy as np
import pytest

from rnd_agent.environments import errors
from rnd_agent.environments import single
from rnd_agent.environments import suites
from rnd_agent.environments.games import gym_suite

Config = suites.EnvironmentConfig


class Old(gym.Env):
  """An environment from before gym 0.22: `reset()` and `seed(seed)`."""

  observation_space = gym.spaces.Box(0, 1, (2,), np.float32)
  action_space = gym.spaces.Discrete(3)

  def seed(self, seed=None):
    self._random = np.random.RandomState(seed)
    return [seed]

  def reset(self):
    self._time = 0
    return self._random.rand(2).astype(np.float32)

  def step(self, action):
    self._time += 1
    observation = self._random.rand(2).astype(np.float32)
    return observation, 1, self._time == 3, {'TimeLimit.truncated': action == 2}


def run(name, action, config=None):
  """Steps to the end of an episode; its length and its LAST time step."""
  env = single.GymnasiumPyEnvironment(suites.make(name, config))
  step, steps = env.reset(), 0
  while not step.is_last():
    step = env.step(np.array(action))
    steps += 1
    assert step.is_last() or step.discount == 1.0
  return steps, step


@pytest.mark.parametrize('suite', ['gym', 'gymnasium'])
def test_the_limit_truncates_and_a_fall_terminates(suite):
  steps, last = run(f'{suite}:MountainCar-v0', 1)
  assert (steps, last.discount, last.reward) == (200, 1.0, -1.0)
  steps, last = run(f'{suite}:CartPole-v1', 1)
  assert steps < 20 and last.discount == 0.0
  config = Config(time_limit_is_termination=True, max_episode_steps=7)
  steps, last = run(f'{suite}:MountainCar-v0', 1, config)
  assert (steps, last.discount) == (7, 0.0)


def test_both_gyms_play_the_same_game():
  envs = [suites.make(f'{s}:CartPole-v1') for s in ('gym', 'gymnasium')]
  for env in envs:
    env.reset()
  for game in (envs[0].unwrapped._env.unwrapped, envs[1].unwrapped):
    game.state = np.array([0.01, -0.02, 0.03, 0.04])
  for t in range(10):
    old, new = (env.step(t % 2) for env in envs)
    np.testing.assert_allclose(old[0], new[0], rtol=1e-6)
    assert old[1:3] == new[1:3]


@pytest.mark.parametrize(
    'action, ends', [(0, (True, False)), (2, (False, True))]
)
def test_the_environment_may_truncate_itself(action, ends):
  env = gym_suite.OldGymEnv(Old())
  env.reset(seed=0)
  steps = [env.step(action) for _ in range(3)]
  assert [s[2:4] for s in steps[:2]] == [(False, False)] * 2
  assert steps[2][2:4] == ends
  assert isinstance(steps[0][1], float)


def test_seeds_of_both_kinds():
  env = gym_suite.OldGymEnv(Old())
  first = env.reset(seed=5)[0]
  assert (env.reset()[0] != first).all()  # Goes on.
  np.testing.assert_array_equal(env.reset(seed=5)[0], first)
  starts = [
      suites.make('gym:CartPole-v1', seed=seed).reset()[0] for seed in (1, 1, 2)
  ]
  np.testing.assert_array_equal(starts[0], starts[1])
  assert (starts[0] != starts[2]).all()


def test_ids_in_modules(tmp_path, monkeypatch):
  (tmp_path / 'an_old_toy.py').write_text(
      'import gym, test_gym\n'
      'gym.register("OldToy-v0", entry_point=test_gym.Old,\n'
      '             max_episode_steps=2)\n'
  )
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(errors.UnknownEnvironmentError, match='OldToy'):
    suites.make('gym:OldToy-v0')
  env = suites.make('gym:an_old_toy:OldToy-v0')
  env.reset()
  assert env.step(0)[2:4] == (False, False)
  assert env.step(0)[2:4] == (False, True)


def test_spaces():
  def converted(space):
    env = Old()
    env.observation_space = space
    return gym_suite.OldGymEnv(env).observation_space

  spaces = gymnasium.spaces
  box = gym.spaces.Box(np.array([0.0, -2.0]), np.array([1.0, np.inf]))
  assert converted(box) == spaces.Box(box.low, box.high)
  assert converted(gym.spaces.Discrete(4, start=-1)) == spaces.Discrete(
      4, start=-1
  )
  assert converted(gym.spaces.MultiDiscrete([2, 3])) == spaces.MultiDiscrete(
      [2, 3]
  )
  assert converted(gym.spaces.MultiBinary(3)) == spaces.MultiBinary(3)
  assert converted(gym.spaces.Dict(x=box)) == spaces.Dict(x=converted(box))
  assert converted(gym.spaces.Tuple([box])) == spaces.Tuple([converted(box)])
  with pytest.raises(ValueError, match='not supported'):
    converted(gym.Space())


def test_it_does_not_say_that_it_is_old(capfd):
  suites.make('gym:CartPole-v1').reset()
  assert capfd.readouterr() == ('', '')
