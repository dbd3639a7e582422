"""The batched environment: protocol, determinism, specs, state."""

import functools
import subprocess
import sys

import gin
import numpy as np
import pytest
from tf_agents.environments import tf_py_environment
from tf_agents.environments import utils
from tf_agents.specs import array_spec
from tf_agents.trajectories import time_step as ts
import toy_environments

from rnd_agent.environments import single
from rnd_agent.environments import states
from rnd_agent.environments import suites
from rnd_agent.environments.vector import shares
from rnd_agent.environments.vector.sharded import ShardedPyEnvironment

FIRST, MID, LAST = ts.StepType.FIRST, ts.StepType.MID, ts.StepType.LAST
GAME = 'atari:MontezumaRevenge'


def actions_for(step, num_environments, num_actions):
  """Actions that depend on the step and the environment only."""
  i = np.arange(num_environments)
  return (step * 7 + i * 3 + step * i) % num_actions


def record(env, steps, num_actions=3):
  """All that `step_and_reset` gives in some steps, copied."""
  env.reset()
  rows = []
  for t in range(steps):
    transition = env.step_and_reset(
        actions_for(t, env.batch_size, num_actions)
    )
    rows.append([array.copy() for array in transition] + [env.places])
    rows[-1][5][~transition.ended] = 0  # Not valid there.
  return [np.stack(column) for column in zip(*rows, strict=True)]


def test_time_steps_follow_tf_agents():
  with ShardedPyEnvironment(toy_environments.script, 4, 2, seed=0) as env:
    even = np.array(shares.environment_seeds(0, 4)) % 2 == 0
    assert even.any() and not even.all()
    assert env.batched and env.batch_size == 4
    for start in range(2):  # After the first episode it goes on by itself.
      first = env.step(np.ones(4, np.int64))
      expected = [FIRST, MID, MID, LAST]
      for t in range(4):
        step = first if t == 0 else env.step(np.ones(4, np.int64))
        assert step.step_type.tolist() == [expected[t]] * 4, (start, t)
        assert step.observation.tolist() == [[t]] * 4
        assert step.reward.tolist() == [0.0 if t == 0 else 1.5] * 4
        ends = np.where(even, 0.0, 1.0) if t == 3 else np.ones(4)
        assert step.discount.tolist() == ends.tolist()
        current = env.current_time_step()
        for a, b in zip(step, current, strict=True):
          np.testing.assert_array_equal(a, b)
    step = env.reset()
    assert step.step_type.dtype == np.int32
    assert step.reward.dtype == step.discount.dtype == np.float32


def test_step_gives_copies_and_the_fast_path_views():
  with ShardedPyEnvironment(toy_environments.walk, 3, 1) as env:
    before = env.reset()
    kept = [array.copy() for array in before]
    view = env.step_and_reset(np.zeros(3, np.int64))
    for a, b in zip(before, kept, strict=True):
      np.testing.assert_array_equal(a, b)
    old = view.observations.copy()
    env.step_and_reset(np.zeros(3, np.int64))
    assert (view.observations != old).any()


def test_fast_path_is_step_without_the_boundary_rows():
  n, steps = 3, 120
  with ShardedPyEnvironment(toy_environments.walk, n, 2, seed=5) as env:
    fast = record(env, steps)
    fast_episodes = env.episodes()
  assert fast[4].sum() > 30
  slow_episodes = []
  for i in range(n):
    with ShardedPyEnvironment(toy_environments.walk, n, 1, seed=5) as env:
      time_step = env.reset()
      t = 0
      while t < steps:
        if time_step.step_type[i] == LAST:
          time_step = env.step(np.zeros(n, np.int64))
          assert time_step.step_type[i] == FIRST
          np.testing.assert_array_equal(
              time_step.observation[i], fast[0][t - 1, i]
          )
          assert fast[1][t - 1, i] == FIRST
          continue
        time_step = env.step(actions_for(t, n, 3))
        ended = time_step.step_type[i] == LAST
        assert ended == fast[4][t, i]
        expected = fast[5] if ended else fast[0]
        np.testing.assert_array_equal(
            time_step.observation[i], expected[t, i]
        )
        assert time_step.reward[i] == fast[2][t, i]
        assert time_step.discount[i] == fast[3][t, i]
        if not ended:
          assert env.places[i] == fast[6][t, i]
        t += 1
      slow_episodes += [e for e in env.episodes() if e.environment == i]
  assert sorted(slow_episodes) == sorted(fast_episodes)


def test_both_ways_can_be_mixed():
  with ShardedPyEnvironment(toy_environments.script, 2, 1) as env:
    env.reset()
    zeros = np.zeros(2, np.int64)
    for _ in range(3):
      step = env.step(zeros)
    assert step.step_type.tolist() == [LAST, LAST]
    transition = env.step_and_reset(zeros)
    assert transition.step_types.tolist() == [FIRST, FIRST]
    assert transition.rewards.tolist() == [0.0, 0.0]
    assert not transition.ended.any()
    for _ in range(3):
      transition = env.step_and_reset(zeros)
    assert transition.ended.all()
    assert transition.step_types.tolist() == [FIRST, FIRST]
    assert transition.final_observations.tolist() == [[3.0], [3.0]]
    assert transition.rewards.tolist() == [1.5, 1.5]
    current = env.current_time_step()
    assert current.step_type.tolist() == [FIRST, FIRST]
    assert current.reward.tolist() == [0.0, 0.0]
    assert current.discount.tolist() == [1.0, 1.0]
    assert env.step(zeros).step_type.tolist() == [MID, MID]


def test_workers_and_seeds():
  results = {}
  for workers in (1, 2, 5):
    with ShardedPyEnvironment(toy_environments.walk, 5, workers, seed=9) as env:
      results[workers] = (record(env, 40), sorted(env.episodes()))
  for workers in (2, 5):
    assert results[workers][1] == results[1][1]
    for a, b in zip(results[1][0], results[workers][0], strict=True):
      np.testing.assert_array_equal(a, b)
  observations = results[1][0][0][:, :, 1]
  assert len(np.unique(observations[0])) == 5  # All environments differ.
  with ShardedPyEnvironment(toy_environments.walk, 5, 2, seed=10) as env:
    assert (record(env, 40)[0][:, :, 1] != observations).all()


def test_groups_can_be_interleaved():
  with ShardedPyEnvironment(toy_environments.walk, 5, 2, seed=9) as env:
    expected = record(env, 30)
  with ShardedPyEnvironment(
      toy_environments.walk, 5, 2, seed=9, num_groups=2
  ) as env:
    assert env.groups == (slice(0, 2), slice(2, 5))
    env.reset()
    env.send(actions_for(0, 5, 3)[:2], 0)
    for t in range(30):
      env.send(actions_for(t, 5, 3)[2:], 1)
      with pytest.raises(RuntimeError, match='being stepped'):
        env.send(np.zeros(3, np.int64), 1)
      with pytest.raises(RuntimeError, match='receive'):
        env.receive(1)
      with pytest.raises(RuntimeError, match='being stepped'):
        env.reset()
      early = env.receive(0)
      np.testing.assert_array_equal(early.observations, expected[0][t, :2])
      kept = early.observations.copy()
      if t < 29:
        env.send(actions_for(t + 1, 5, 3)[:2], 0)
      late = env.receive(1)
      assert kept.shape == (2, 2)
      np.testing.assert_array_equal(late.observations, expected[0][t, 2:])
      np.testing.assert_array_equal(late.ended, expected[4][t, 2:])
    with pytest.raises(RuntimeError, match='several groups'):
      env.step_and_reset(np.zeros(5, np.int64))
    assert env.step(np.zeros(5, np.int64)).observation.shape == (5, 2)


def test_montezuma_equals_single_environments():
  with ShardedPyEnvironment(GAME, 3, 2, seed=1) as env:
    assert env.observation_spec() == array_spec.BoundedArraySpec(
        (84, 84, 4), np.uint8, 0, 255, 'observation'
    )
    time_step = env.reset()
    seeds = shares.environment_seeds(1, 3)
    games = [suites.make(GAME, seed=seed) for seed in seeds]
    for i, game in enumerate(games):
      np.testing.assert_array_equal(time_step.observation[i], game.reset()[0])
    for t in range(60):
      actions = actions_for(t, 3, 18)
      transition = env.step_and_reset(actions)
      for i, game in enumerate(games):
        observation, _, _, _, info = game.step(int(actions[i]))
        np.testing.assert_array_equal(transition.observations[i], observation)
        assert env.places[i] == info['place'] == 1
    different = transition.observations
    assert (different[0] != different[1]).any()  # Sticky actions differ.


def test_episode_statistics():
  config = suites.EnvironmentConfig(max_episode_steps=40)
  with ShardedPyEnvironment(GAME, 2, 2, config=config) as env:
    env.reset()
    assert env.places.tolist() == [1, 1]
    for t in range(45):
      transition = env.step_and_reset(actions_for(t, 2, 18))
      if t == 39:
        assert transition.ended.all() and not transition.discounts.any()
    episodes = env.episodes()
    assert [episode.environment for episode in episodes] == [0, 1]
    for episode in episodes:
      assert episode.length == 40 and episode.places == (1,)
      assert isinstance(episode.episode_return, float)
    assert env.episodes() == []
  with ShardedPyEnvironment(toy_environments.script, 2, 1) as env:
    env.reset()
    assert env.places.tolist() == [-1, -1]
    for _ in range(3):
      env.step(np.zeros(2, np.int64))
    assert env.episodes() == [
        (0, 4.5, 3, (), None), (1, 4.5, 3, (), None)
    ]
    env.step(np.zeros(2, np.int64))
    env.step(np.zeros(2, np.int64))
    env.reset()  # Unfinished episodes do not count.
    assert env.episodes() == []


def test_in_tf_py_environment():
  with ShardedPyEnvironment(toy_environments.script, 3, 2) as env:
    tf_env = tf_py_environment.TFPyEnvironment(env)
    assert tf_env.batch_size == 3
    step = tf_env.reset()
    for t in range(1, 4):
      step = tf_env.step(np.ones(3, np.int64))
      assert step.observation.numpy().tolist() == [[t]] * 3
    assert step.is_last().numpy().all()
    assert tf_env.step(np.ones(3, np.int64)).is_first().numpy().all()


def test_tf_agents_own_validation_accepts_the_single_environment():
  for name in ('CartPole-v1', 'toy:Corridor'):
    env = single.GymnasiumPyEnvironment(suites.make(name))
    utils.validate_py_environment(env, episodes=3)
    assert env.render().dtype == np.uint8 if name == 'toy:Corridor' else True
    env.close()


@pytest.mark.parametrize('seed', [0, 3])
def test_single_environment_ends(seed):
  env = single.GymnasiumPyEnvironment(toy_environments.script(seed))
  assert not env.batched
  assert env.reset().is_first()
  steps = [env.step(np.int64(1)) for _ in range(3)]
  assert steps[2].is_last() and steps[2].discount == (0.0 if seed == 0 else 1.0)
  assert steps[1].is_mid() and steps[1].reward == 1.5
  assert env.step(np.int64(1)).is_first()
  assert env.get_info() == {}
  with pytest.raises(ValueError, match='not within'):
    env.step(np.int64(2))
  with pytest.raises(ValueError, match='render mode'):
    env.render('human')


@pytest.mark.parametrize('name', [GAME, 'CartPole-v1', toy_environments.walk])
def test_state_is_saved_into_other_processes(name):
  num_actions = 18 if name == GAME else 2
  with ShardedPyEnvironment(name, 3, 2, seed=4) as env:
    env.reset()
    for t in range(30):
      env.step(actions_for(t, 3, num_actions))
    state = states.decode(states.encode(env.get_state()))
    pending = len(env._episodes)
    expected = [env.step(actions_for(t, 3, num_actions)) for t in range(50)]
    expected_episodes = sorted(env.episodes())
  assert pending or name == GAME
  with ShardedPyEnvironment(name, 3, 1, seed=99) as env:
    assert env.set_state(state) == {}
    for t, step in enumerate(expected):
      for a, b in zip(step, env.step(actions_for(t, 3, num_actions)),
                      strict=True):  # fmt: skip
        np.testing.assert_array_equal(a, b)
    assert sorted(env.episodes()) == expected_episodes
    with pytest.raises(ValueError, match='of 2 environments'):
      env.set_state({**state, 'environments': [b'', b'']})


def test_gin_binds_the_constructor():
  with gin.unlock_config():
    gin.parse_config(
        'ShardedPyEnvironment.num_environments = 3\n'
        'ShardedPyEnvironment.num_workers = 1\n'
        'EnvironmentConfig.max_episode_steps = 2\n'
    )
  try:
    env = ShardedPyEnvironment('toy:Corridor')
  finally:
    gin.clear_config()
  with env:
    assert env.batch_size == 3
    env.reset()
    env.step(np.zeros(3, np.int64))
    assert env.step(np.zeros(3, np.int64)).is_last().all()


_PARALLEL = """
import sys
sys.path[:] = {path!r}
import numpy as np
from tf_agents.system import system_multiprocessing
from rnd_agent.environments import make_parallel, ShardedPyEnvironment
import toy_environments
system_multiprocessing.enable_interactive_mode()
theirs = make_parallel(toy_environments.walk, 2, seed=6)
ours = ShardedPyEnvironment(toy_environments.walk, 2, 2, seed=6)
for t in range(30):
  actions = np.array([t % 3, t % 2])
  for a, b in zip(theirs.step(actions), ours.step(actions)):
    np.testing.assert_array_equal(a, b)
assert theirs.action_spec() == ours.action_spec()
theirs.close()
ours.close()
"""


def test_tf_agents_parallel_environment_does_the_same():
  code = _PARALLEL.format(path=sys.path)
  subprocess.run([sys.executable, '-c', code], check=True, timeout=120)


def test_partial_functions_are_callables():
  source = functools.partial(toy_environments.saboteur_of, 0)
  with ShardedPyEnvironment(source, 2, 1) as env:
    assert env.reset().is_first().all()
