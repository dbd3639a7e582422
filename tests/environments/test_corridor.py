"""The corridor: chance fails, novelty succeeds."""

import gymnasium
import numpy as np
import pytest

from rnd_agent.environments.games import corridor


def probability_of_reaching_the_end(length, num_actions, steps):
  """Dynamic programming over the Markov chain of a uniformly random policy."""
  forward = 1.0 / num_actions
  chance = np.zeros(length)
  chance[0] = 1.0
  for _ in range(steps):
    following = np.zeros(length)
    following[-1] = chance[-1]  # Absorbing.
    following[1:] += forward * chance[:-1]
    following[:-2] += (1 - forward) * chance[1:-1]
    following[0] += (1 - forward) * chance[0]
    chance = following
  assert np.isclose(chance.sum(), 1.0)
  return chance[-1]


def test_the_chain_is_that_of_the_environment():
  length, num_actions, steps = 4, 2, 9
  env = corridor.Corridor(length, num_actions)
  reached = 0
  for path in range(num_actions**steps):  # All equally likely.
    env.reset()
    for t in range(steps):
      if env.step(path // num_actions**t % num_actions)[2]:
        reached += 1
        break
  exact = probability_of_reaching_the_end(length, num_actions, steps)
  assert reached / num_actions**steps == pytest.approx(exact, abs=1e-12)
  assert 0.1 < exact < 0.9


def test_chance_does_not_reach_the_end():
  probability = probability_of_reaching_the_end(
      20, 4, corridor.MAX_EPISODE_STEPS
  )
  assert 0 < probability < 1e-4
  assert f'{probability:.1e}' in corridor.Corridor.__doc__.replace('e-', 'e-0')


def test_no_constant_policy_gets_far():
  for action in range(4):
    env = corridor.Corridor()
    env.reset()
    places = [env.step(action)[4]['place'] for _ in range(100)]
    assert max(places) <= 2


def test_counting_visits_reaches_the_end():
  env = corridor.Corridor()
  tried = np.zeros((20, 4))
  ends = []
  for episode in range(60):
    _, info = env.reset()
    for _ in range(corridor.MAX_EPISODE_STEPS):
      cell = info['place']
      action = int(np.argmin(tried[cell]))
      before = cell
      _, _, terminated, _, info = env.step(action)
      # What led back is not tried again.
      tried[cell, action] += 1 if info['place'] > before else 100
      if terminated:
        ends.append(episode)
        break
  assert ends and ends[0] < 10


def test_walk_to_the_end():
  env = corridor.Corridor(5, 3)
  observation, info = env.reset(seed=0)
  for cell, action in enumerate(corridor.forward_actions(5, 3)[:-1]):
    np.testing.assert_array_equal(observation, np.eye(5)[cell])
    assert observation.dtype == np.float32 and info == {'place': cell}
    observation, reward, terminated, truncated, info = env.step(int(action))
    assert (reward, terminated) == ((1.0, True) if cell == 3 else (0.0, False))
    assert not truncated


def test_wrong_actions_lead_one_cell_back():
  env = corridor.Corridor()
  forward = corridor.forward_actions(20, 4)
  env.reset()
  assert env.step((forward[0] + 1) % 4)[4]['place'] == 0
  for cell in range(5):
    env.step(forward[cell])
  for wrong in (1, 2, 3):
    assert env.step((forward[5] + wrong) % 4)[4]['place'] == 4
    env.step(forward[4])


def test_spaces_picture_and_sizes():
  env = corridor.Corridor(6, 2)
  observation, _ = env.reset()
  assert env.observation_space.contains(observation)
  assert env.action_space == gymnasium.spaces.Discrete(2)
  assert env.render().shape == (16, 96, 3)
  assert env.render().dtype == np.uint8
  for sizes in ((1, 4), (5, 1)):
    with pytest.raises(ValueError, match='at least 2'):
      corridor.Corridor(*sizes)
