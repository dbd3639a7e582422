import numpy as np
import pytest
import tensorflow as tf
from tf_agents.specs import tensor_spec

from rnd_agent.config import RNDConfig
from rnd_agent.environments import suites
from rnd_agent.environments.vector import sharded
from rnd_agent.learning import rollout as rollout_lib
from rnd_agent.training import builders
from rnd_agent.training import collector as collector_lib

_LENGTH = 7


def _environment(env_name='toy:Corridor', batch=4, limit=5, groups=1,
                 termination=False):
  return sharded.ShardedPyEnvironment(
      env_name, batch, num_workers=1, seed=3, num_groups=groups,
      config=suites.EnvironmentConfig(
          max_episode_steps=limit, time_limit_is_termination=termination
      ),
  )


def _agent(environment, **config):
  return builders.build_agent(
      tensor_spec.from_spec(environment.time_step_spec()),
      tensor_spec.from_spec(environment.action_spec()),
      num_epochs=1, num_minibatches=1, seed=0, rnd_config=RNDConfig(**config),
  )


def _collect(environment, agent, rollouts=1, **kwargs):
  collector = collector_lib.Collector(
      environment, agent.collect_policy, _LENGTH, **kwargs
  )
  return [collector.collect() for _ in range(rollouts)]


@pytest.fixture(name='environment')
def _make_environment():
  with _environment() as environment:
    yield environment


def test_every_row_of_a_compact_rollout_is_a_step(environment):
  """Episodes of 5 steps, 7 rows: ends after rows 4 of the first rollout and
  2 of the second, all environments alike; no boundary rows."""
  first, second = _collect(environment, _agent(environment), 2)
  assert not first.boundaries.numpy().any()
  np.testing.assert_array_equal(first.mask, np.ones([4, _LENGTH]))
  np.testing.assert_array_equal(np.where(first.ends[0])[0], [4])
  np.testing.assert_array_equal(np.where(second.ends[0])[0], [2])
  # The row after an end begins an episode, at the corridor's first cell.
  assert (first.step_types[:, 5].numpy() == rollout_lib.FIRST).all()
  assert (first.observations[:, 5, 0].numpy() == 1).all()


def test_a_rollout_goes_on_where_the_last_one_ended(environment):
  first, second = _collect(environment, _agent(environment), 2)
  np.testing.assert_array_equal(
      first.observations[:, -1], second.observations[:, 0]
  )
  np.testing.assert_array_equal(
      first.step_types[:, -1], second.step_types[:, 0]
  )


def test_steps_follow_from_actions(environment):
  """The recorded actions, replayed by hand, give the recorded cells."""
  from rnd_agent.environments.games import corridor

  rollout, = _collect(environment, _agent(environment))
  forward = corridor.forward_actions(20, 4)
  cells = rollout.observations.numpy().argmax(-1)
  for b in range(4):
    cell = 0
    for t in range(_LENGTH):
      assert cells[b, t] == cell
      right = rollout.actions[b, t].numpy() == forward[cell]
      cell = cell + 1 if right else max(cell - 1, 0)
      if rollout.ends[b, t]:
        cell = 0


def test_log_probs_and_values_are_those_of_the_policy(environment):
  agent = _agent(environment)
  rollout, = _collect(environment, agent)
  (distribution, value_ext, value_int), _ = agent.actor_critic_net(
      rollout.observations
  )
  np.testing.assert_allclose(rollout.values_ext, value_ext, atol=1e-6)
  np.testing.assert_allclose(rollout.values_int, value_int, atol=1e-6)
  np.testing.assert_allclose(
      rollout.dist_params['logits'], distribution.logits[:, :-1], atol=1e-6
  )


def test_truncation_records_the_value_of_the_final_observation(environment):
  agent = _agent(environment)
  rollout, = _collect(environment, agent)
  ends = rollout.ends.numpy()
  assert (rollout.discounts.numpy()[ends] == 1).all()
  # The final cell follows from the last recorded one and the action.
  from rnd_agent.environments.games import corridor

  forward = corridor.forward_actions(20, 4)
  cells = rollout.observations.numpy().argmax(-1)
  for b in range(4):
    cell = cells[b, 4]
    right = rollout.actions[b, 4].numpy() == forward[cell]
    final = np.eye(20, dtype=np.float32)[
        cell + 1 if right else max(cell - 1, 0)
    ]
    (_, value, _), _ = agent.actor_critic_net(final[None])
    np.testing.assert_allclose(
        rollout.final_values_ext[b, 4], value[0], atol=1e-6
    )
  assert (rollout.final_values_ext.numpy()[~ends] == 0).all()


def test_termination_needs_no_final_value():
  with _environment(termination=True) as environment:
    rollout, = _collect(environment, _agent(environment))
  assert rollout.ends.numpy().sum() == 4
  assert (rollout.discounts.numpy()[rollout.ends.numpy()] == 0).all()
  assert (rollout.final_values_ext.numpy() == 0).all()


def test_the_form_with_boundary_rows(environment):
  """With bonus_at_end = 'terminal' LAST frames are kept: after 5 steps a
  boundary row, so that 6 of 7 rows are steps."""
  rollout, = _collect(environment, _agent(environment), compact=False)
  np.testing.assert_array_equal(np.where(rollout.boundaries[0])[0], [5])
  assert rollout.mask.numpy().sum() == 4 * 6
  assert (rollout.step_types[:, 5].numpy() == rollout_lib.LAST).all()
  assert (rollout.next_step_types[:, 5].numpy() == rollout_lib.FIRST).all()


def test_continuous_actions_are_clipped_on_their_way_only():
  """Pendulum's torque lies in [-2, 2]; a standard normal samples beyond 2 in
  5 of 100 cases. The rollout keeps the sample, whose probability counts."""
  with sharded.ShardedPyEnvironment(
      'gymnasium:Pendulum-v1', 16, num_workers=1, seed=3,
      config=suites.EnvironmentConfig(),
  ) as environment:
    rollouts = _collect(environment, _agent(environment), 3)
  actions = np.concatenate([r.actions.numpy() for r in rollouts])
  assert np.abs(actions).max() > 2
  assert all(np.isfinite(r.rewards.numpy()).all() for r in rollouts)


def test_a_policy_without_values_is_refused(environment):
  agent = _agent(environment)
  with pytest.raises(ValueError, match='compute_value_and_advantage_in_train'):
    collector_lib.Collector(environment, agent.sampling_policy, _LENGTH)


def test_groups_keep_environments_apart():
  """Two groups, stepped in turn: each row still follows from its action."""
  from rnd_agent.environments.games import corridor

  with _environment(groups=2) as environment:
    rollout, = _collect(environment, _agent(environment))
  forward = corridor.forward_actions(20, 4)
  cells = rollout.observations.numpy().argmax(-1)
  for b in range(4):
    for t in range(_LENGTH):
      if rollout.ends[b, t]:
        continue
      right = rollout.actions[b, t].numpy() == forward[cells[b, t]]
      cell = cells[b, t]
      assert cells[b, t + 1] == (cell + 1 if right else max(cell - 1, 0))


@pytest.mark.parametrize('groups', [1, 2])
def test_places_are_read_before_the_next_step(groups):
  """Every cell of the rollout's observations is seen by `on_step`, in order:
  7 steps of 4 environments, none overwritten by the step after it."""
  seen = {}
  with _environment(groups=groups) as environment:
    def watch(group):
      seen.setdefault(group.start, []).append(environment.places[group])
    rollout, = _collect(environment, _agent(environment), on_step=watch)
  places = np.concatenate([np.stack(seen[k], 1) for k in sorted(seen)])
  cells = rollout.observations.numpy().argmax(-1)
  np.testing.assert_array_equal(places, cells[:, 1:])


def test_stopping_leaves_the_environments_usable(environment):
  calls = iter([False, False, True])
  collector = collector_lib.Collector(
      environment, _agent(environment).collect_policy, _LENGTH,
      stop=lambda: next(calls, False),
  )
  with pytest.raises(collector_lib.CollectionStopped):
    collector.collect()
  rollout = collector.collect()
  assert (rollout.step_types[:, 0].numpy() == rollout_lib.FIRST).all()


def test_random_steps_use_the_whole_action_space(environment):
  seen = []
  collector_lib.random_steps(
      environment, 30, np.random.default_rng(0),
      lambda observations: seen.append(observations.argmax(-1)),
  )
  cells = np.stack(seen)
  assert cells.shape == (30, 4)
  # 1/4 of the moves lead forward: more than one cell is seen, not only one.
  assert len(np.unique(cells)) >= 3


def test_uniform_actions_of_any_kind():
  rng = np.random.default_rng(0)
  discrete = tensor_spec.BoundedTensorSpec([], tf.int64, 0, 3)
  actions = collector_lib.uniform_actions(
      tensor_spec.to_array_spec(discrete), 1000, rng
  )
  assert set(actions) == {0, 1, 2, 3} and actions.dtype == np.int64
  continuous = tensor_spec.BoundedTensorSpec([2], tf.float32, [-2, 0], [2, 1])
  actions = collector_lib.uniform_actions(
      tensor_spec.to_array_spec(continuous), 1000, rng
  )
  assert actions.shape == (1000, 2) and actions.dtype == np.float32
  np.testing.assert_allclose(actions.mean(0), [0, 0.5], atol=0.15)
  assert (np.abs(actions[:, 0]) <= 2).all() and (actions[:, 1] >= 0).all()
