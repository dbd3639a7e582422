"""The recall task: only the cue, seen once, tells the right answer."""

import gymnasium
import numpy as np
import pytest

from rnd_agent.environments import suites
from rnd_agent.environments.games import recall


def _play(env, actions):
  """Rewards and ends of one episode."""
  results = [env.step(action) for action in actions]
  return [r[1] for r in results], [r[2] for r in results]


def test_only_the_last_action_counts():
  env = recall.Recall(num_cues=3, delay=2)
  for seed in range(6):
    observation, _ = env.reset(seed=seed)
    cue = int(observation[:3].argmax())
    wrong = (cue + 1) % 3
    rewards, ends = _play(env, [wrong, wrong, cue])
    assert rewards == [0, 0, 1] and ends == [False, False, True]
    env.reset(seed=seed)
    assert _play(env, [cue, cue, wrong])[0] == [0, 0, 0]


def test_the_cue_is_shown_once_and_drawn_evenly():
  env = recall.Recall()
  env.reset(seed=0)
  cues = []
  for _ in range(400):
    first, _ = env.reset()
    assert first[:4].sum() == 1 and first[4] == 1
    cues.append(int(first[:4].argmax()))
    later = [env.step(0)[0] for _ in range(7)]
    assert not any(x[:4].any() for x in later)
    np.testing.assert_allclose(
        [x[4] for x in later], 1 - np.arange(1, 8) / 7, atol=1e-6
    )
  assert np.bincount(cues, minlength=4).min() > 70  # 100, deviation 8.7.


def test_it_is_a_gymnasium_environment():
  env = suites.make('toy:Recall', seed=1)
  assert isinstance(env, gymnasium.Env)
  assert env.observation_space.shape == (5,)
  assert env.action_space.n == 4


@pytest.mark.parametrize('sizes', [{'num_cues': 1}, {'delay': 0}])
def test_sizes_that_cannot_be(sizes):
  with pytest.raises(ValueError, match='at least 2 cues and a delay of 1'):
    recall.Recall(**sizes)


def test_the_facts_tell_the_cue_where_it_is_shown():
  env = suites.make('toy:Recall', seed=1)
  first, _ = env.reset()
  assert env.get_wrapper_attr('facts')() == {'cue': int(first[:4].argmax())}
  env.step(0)
  assert env.get_wrapper_attr('facts')() == {}
