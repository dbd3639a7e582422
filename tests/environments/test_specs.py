"""Spaces as specs, actions, and how environments are divided."""

import gymnasium
import numpy as np
import pytest
from tf_agents.specs import array_spec
import toy_environments

from rnd_agent.environments import specs
from rnd_agent.environments.single import GymnasiumPyEnvironment
from rnd_agent.environments.vector import shares
from rnd_agent.environments.vector.sharded import ShardedPyEnvironment


@pytest.mark.parametrize(
    ('source', 'spec', 'actions', 'observed'),
    [
        (
            toy_environments.echo_discrete,
            array_spec.BoundedArraySpec((), np.int64, -1, 2, 'action'),
            np.array([-1, 2], np.int32),
            [[-1.0], [2.0]],
        ),
        (
            toy_environments.echo_box,
            array_spec.BoundedArraySpec((2,), np.float32, -2.0, 3.0, 'action'),
            np.array([[-2, 0.5], [3, 1]], np.float32),
            [[-2.0, 0.5], [3.0, 1.0]],
        ),
        (
            toy_environments.echo_multi_discrete,
            array_spec.BoundedArraySpec((2,), np.int64, 0, [1, 4], 'action'),
            np.array([[1, 4], [0, 3]]),
            [[1.0, 4.0], [0.0, 3.0]],
        ),
    ],
)
def test_kinds_of_actions(source, spec, actions, observed):
  with ShardedPyEnvironment(source, 2, 1) as env:
    assert env.action_spec() == spec
    assert env.observation_spec().dtype == np.float64  # Kept.
    env.reset()
    step = env.step(actions)
    assert step.observation.tolist() == observed
    assert step.reward.tolist() == [1.0, 1.0]  # Came in the space's own type.
    env.step(np.stack([spec.maximum + np.zeros(spec.shape, spec.dtype)] * 2))


@pytest.mark.parametrize(
    ('source', 'actions', 'message'),
    [
        (toy_environments.walk, [0, 1], r'shape \(2,\) instead of \(3,\)'),
        (toy_environments.walk, [[0], [1], [2]], r'instead of \(3,\)'),
        (toy_environments.walk, [0, 3, 1], 'action 3 of environment 1'),
        (toy_environments.walk, [0, 1, -1], 'action -1 of environment 2'),
        (toy_environments.walk, [0.0, 1.0, 2.0], 'float64, not'),
        (toy_environments.echo_box, np.full((3, 2), np.nan), 'environment 0'),
        (toy_environments.echo_multi_discrete, [[0, 5]] * 3, 'environment 0'),
    ],
)
def test_wrong_actions_are_refused_before_anything_is_sent(
    source, actions, message
):
  with ShardedPyEnvironment(source, 3, 1) as env:
    start = env.reset()
    for step in (env.step, env.step_and_reset):
      with pytest.raises(ValueError, match=message):
        step(np.array(actions))
    after = env.current_time_step()
    np.testing.assert_array_equal(after.observation, start.observation)
    assert after.is_first().all()


def test_continuous_actions_beyond_the_bounds_are_clipped():
  beyond = np.array([[-9.0, 0.5], [3.5, np.inf]], np.float32)
  within = [[-2.0, 0.5], [3.0, 3.0]]
  with ShardedPyEnvironment(toy_environments.echo_box, 2, 1) as env:
    env.reset()
    # `inf` is no action that a policy samples: it is refused.
    with pytest.raises(ValueError, match='environment 1'):
      env.step(beyond)
    beyond[1, 1] = 1e9
    assert env.step(beyond).observation.tolist() == within
    assert env.step_and_reset(beyond).observations.tolist() == within
  one = GymnasiumPyEnvironment(toy_environments.echo_box(0))
  one.reset()
  assert one.step(beyond[0]).observation.tolist() == within[0]


def test_observation_specs():
  spaces = gymnasium.spaces
  assert specs.observation_spec(spaces.Discrete(4)) == (
      array_spec.BoundedArraySpec((), np.int64, 0, 3, 'observation')
  )
  half_open = spaces.Box(0, np.inf, (2,), np.float32)
  assert type(specs.observation_spec(half_open)) is array_spec.ArraySpec
  uneven = spaces.Box(np.array([0.0, -1.0]), np.array([1.0, 2.0]))
  assert specs.observation_spec(uneven).minimum.tolist() == [0.0, -1.0]
  for space in (spaces.Text(3), spaces.MultiBinary(3)):
    with pytest.raises(ValueError, match='not supported'):
      specs.action_spec(space)


def test_seeds():
  seeds = shares.environment_seeds(3, 200)
  assert len(set(seeds)) == 200
  assert seeds[:4] == shares.environment_seeds(3, 4)
  assert not set(seeds) & set(shares.environment_seeds(4, 200))


@pytest.mark.parametrize('sizes', [(7, 3, 1), (7, 3, 2), (4, 1, 4), (8, 2, 2)])
def test_every_environment_has_one_worker(sizes):
  n, workers, groups = sizes
  divided = shares.make_shares(groups, workers, list(range(n)))
  owned = [i for share in divided for group in share.groups for i in group]
  assert sorted(owned) == list(range(n))
  loads = [sum(map(len, share.groups)) for share in divided]
  assert max(loads) - min(loads) <= groups


@pytest.mark.parametrize(
    ('sizes', 'message'),
    [
        ({'num_environments': 0}, 'num_environments=0'),
        ({'num_workers': 3}, 'num_workers=3 must be between 1 and 2'),
        ({'num_workers': 0}, 'num_workers=0'),
        ({'num_groups': 3}, 'num_groups=3'),
        ({'num_groups': 2, 'num_workers': 2}, 'between 1 and 1'),
        ({'worker_timeout': 0.0}, 'worker_timeout'),
        ({'seed': -1}, 'non-negative'),
    ],
)
def test_wrong_sizes(sizes, message):
  arguments = {'num_environments': 2, **sizes}
  with pytest.raises(ValueError, match=message):
    ShardedPyEnvironment('toy:Corridor', **arguments)


def test_a_groups_action_is_named_by_its_environment():
  with ShardedPyEnvironment(
      toy_environments.walk, 4, 1, num_groups=2
  ) as env:
    env.reset()
    with pytest.raises(ValueError, match='action 3 of environment 3 is not'):
      env.send(np.array([0, 3]), 1)
    with pytest.raises(RuntimeError, match='none was sent: call send'):
      env.receive(1)
    env.send(np.array([0, 1]), 1)
    with pytest.raises(RuntimeError, match='the next one is group 1'):
      env.receive(0)
    env.receive(1)
