"""Recurrent cores: state, resets, training from the stored state."""

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.policies import policy_saver
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from rnd_agent import config
from rnd_agent import networks
from rnd_agent import rnd_ppo_agent
from rnd_agent.bonuses import rnd as rnd_lib
from rnd_agent.environments import suites
from rnd_agent.environments.vector import sharded
from rnd_agent.layers import dnc
from rnd_agent.learning import losses
from rnd_agent.training import collector as collector_lib

_LENGTH = 7
_VECTOR = tf.TensorSpec([20], tf.float32)
_ACTION = tensor_spec.BoundedTensorSpec([], tf.int64, 0, 3)
_CORES = {
    'gru': lambda: tf.keras.layers.GRUCell(6),
    'lstm': lambda: tf.keras.layers.LSTMCell(5),
    'stack': lambda: [
        tf.keras.layers.LSTMCell(5), tf.keras.layers.GRUCell(4)
    ],
    'dnc': lambda: dnc.DNCCell(
        memory_size=5, word_size=3, num_read_heads=2, controller_units=6
    ),
}


@pytest.fixture(params=['eager', 'compiled'], name='compiled')
def _compiled(request):
  return tf.function if request.param == 'compiled' else lambda f: f


def _fast_is_gru(names):
  return [
      name if name == 'gru' else pytest.param(name, marks=pytest.mark.slow)
      for name in names
  ]


@pytest.fixture(name='core', params=_fast_is_gru(_CORES))
def _core(request):
  return _CORES[request.param]


def _network(core, observation=_VECTOR, action=_ACTION, seed=3, **kwargs):
  tf.keras.utils.set_random_seed(seed)
  net = networks.ActorCriticNetwork(
      observation, action, fc_layer_params=(8,), core=core(),
      # Outputs that depend on the state visibly.
      head_gain=1.0, **kwargs,
  )
  net.create_variables(observation)
  return net


def _outputs(result):
  (distribution, value_ext, value_int), state = result
  return [distribution.logits, value_ext, value_int], state


def _step_by_step(net, observations, step_types, state):
  rows = []
  for t in range(observations.shape[1]):
    outputs, state = _outputs(
        net(observations[:, t], step_types[:, t], state)
    )
    rows.append(outputs)
  return [tf.stack(x, axis=1) for x in zip(*rows)], state


def _sequence(batch=3, length=6, seed=0):
  rng = np.random.default_rng(seed)
  return tf.constant(rng.normal(size=[batch, length, 20]), tf.float32)


def _random_state(net, batch, seed=1):
  rng = np.random.default_rng(seed)
  return tf.nest.map_structure(
      lambda s: tf.constant(
          rng.uniform(0, .5, [batch, *s.shape]), tf.float32
      ), net.state_spec,
  )


def _assert_near(first, second, atol=1e-6):
  tf.nest.assert_same_structure(first, second)
  for a, b in zip(tf.nest.flatten(first), tf.nest.flatten(second)):
    np.testing.assert_allclose(a, b, atol=atol)


def test_unrolled_at_once_equals_step_by_step(core, compiled):
  net = _network(core)
  x, types = _sequence(), tf.constant([[1] * 6, [1, 1, 0, 1, 1, 1], [0] * 6])
  state = _random_state(net, 3)
  at_once = _outputs(compiled(net)(x, types, state))
  _assert_near(at_once, _step_by_step(net, x, types, state))
  # The state matters.
  other, _ = _outputs(net(x, types, _random_state(net, 3, seed=2)))
  assert np.abs(other[0][0] - at_once[0][0][0]).max() > 1e-4
  # ... but not in the environment that begins an episode at every step.
  np.testing.assert_allclose(other[0][2], at_once[0][0][2], atol=1e-6)


def test_a_reset_inside_a_sequence_equals_a_fresh_start(core):
  net = _network(core)
  x = _sequence(1)
  types = tf.constant([[1, 1, 1, 0, 1, 1]])
  whole, state = _outputs(net(x, types, _random_state(net, 1)))
  fresh, fresh_state = _outputs(net(x[:, 3:], tf.ones([1, 3], tf.int32), ()))
  _assert_near([y[:, 3:] for y in whole], fresh)
  _assert_near(state, fresh_state)


def test_state_is_float32_tuples_also_in_bfloat16(core):
  net = _network(core, precision='mixed_bfloat16')
  (distribution, value, _), state = net(
      _sequence(), tf.ones([3, 6], tf.int32), ()
  )
  assert distribution.logits.dtype == value.dtype == tf.float32
  assert all(x.dtype == tf.float32 for x in tf.nest.flatten(state))

  def no_lists(nest):
    assert not isinstance(nest, list)
    if isinstance(nest, tuple):
      for part in nest:
        no_lists(part)

  no_lists(net.state_spec)
  no_lists(state)


@pytest.mark.parametrize('wrong', [7, tf.keras.layers.Dense(3), 'gru'])
def test_what_is_no_cell_is_named(wrong):
  with pytest.raises(ValueError, match='core = .*is a Keras cell'):
    networks.ActorCriticNetwork(_VECTOR, _ACTION, core=wrong)


# ---------------------------------------------------------------- training


def _environment(batch=4, limit=5, groups=1):
  return sharded.ShardedPyEnvironment(
      'toy:Corridor', batch, num_workers=1, seed=3, num_groups=groups,
      config=suites.EnvironmentConfig(max_episode_steps=limit),
  )


def _agent(environment, core, training=None, values_in_train=False, **settings):
  time_steps = tensor_spec.from_spec(environment.time_step_spec())
  actions = tensor_spec.from_spec(environment.action_spec())
  net = _network(core, time_steps.observation, actions)
  rnd = rnd_lib.RandomNetworkDistillation(
      time_steps.observation, config.RNDConfig(), feature_dim=4,
      predictor_hidden_units=(5,),
  )
  rnd.update_observation_statistics(
      tf.random.normal([2, 9, *time_steps.observation.shape])
  )
  return rnd_ppo_agent.RNDPPOAgent(
      time_steps, actions, tf.keras.optimizers.Adam(1e-2),
      actor_critic_net=net, rnd=rnd, **{'num_epochs': 1, **(training or {})},
      generator=tf.random.Generator.from_seed(1),
      train_step_counter=tf.Variable(0, dtype=tf.int64),
      compute_config=config.ComputeConfig(**settings),
      compute_value_and_advantage_in_train=values_in_train,
  )


def _ratios(agent, rollout):
  """pi / pi_old of every step, before any update."""
  (distribution, _, _), _ = agent.collect_policy.evaluate(
      tf.nest.map_structure(lambda x: x[:, :-1], rollout.observations),
      rollout.step_types[:, :-1], rollout.core_states,
  )
  old = agent._old_log_probs(rollout.dist_params, rollout.actions)
  return tf.exp(distribution.log_prob(rollout.actions) - old).numpy()


@pytest.mark.parametrize('groups', [1, 2])
def test_ratio_is_one_before_the_first_update(core, groups):
  """Collected step by step, recomputed at once, from mid-episode (trap 9)."""
  with _environment(groups=groups) as environment:
    agent = _agent(environment, core)
    collect = collector_lib.Collector(
        environment, agent.collect_policy, _LENGTH
    )
    for _ in range(3):
      rollout = collect.collect()
    assert not (rollout.step_types[:, 0].numpy() == 0).any()
    assert np.abs(_ratios(agent, rollout) - 1).max() < 1e-5
    # From zeros, as the host does it, it is not.
    zeros = tf.nest.map_structure(tf.zeros_like, rollout.core_states)
    from_zeros = _ratios(agent, rollout._replace(core_states=zeros))
    assert np.abs(from_zeros - 1).max() > 1e-3


def test_values_at_the_end_leave_the_state_where_it_is(core):
  """The bootstrap's step is taken again, by the next rollout."""
  with _environment() as environment:
    agent = _agent(environment, core)
    collect = collector_lib.Collector(
        environment, agent.collect_policy, _LENGTH
    )
    first, second = collect.collect(), collect.collect()
    np.testing.assert_allclose(
        first.values_ext[:, -1], second.values_ext[:, 0], atol=1e-6
    )
    np.testing.assert_allclose(
        first.values_int[:, -1], second.values_int[:, 0], atol=1e-6
    )


@pytest.mark.slow
def test_the_value_at_a_truncation_is_that_of_the_whole_sequence(
    core, monkeypatch
):
  finals = []
  with _environment() as environment:
    agent = _agent(environment, core)
    collect = collector_lib.Collector(
        environment, agent.collect_policy, _LENGTH
    )
    collect.collect()
    receive = environment.receive

    def spy(group):
      transition = receive(group)
      finals.append(transition.final_observations.copy())
      return transition

    monkeypatch.setattr(environment, 'receive', spy)
    rollout = collect.collect()
  evaluate = agent.collect_policy.evaluate
  ends = np.argwhere(rollout.ends.numpy())
  assert len(ends) >= 4 and (rollout.discounts.numpy() == 1).all()
  for b, t in ends:
    observations = tf.concat(
        [rollout.observations[b, :t + 1], finals[t][b][None]], axis=0
    )
    step_types = tf.concat(
        [rollout.step_types[b, :t + 1], [ts.StepType.MID]], axis=0
    )
    state = tf.nest.map_structure(
        lambda x, b=b: x[b:b + 1], rollout.core_states
    )
    (_, values, _), _ = evaluate(observations[None], step_types[None], state)
    recorded = rollout.final_values_ext[b, t]
    np.testing.assert_allclose(recorded, values[0, -1], atol=1e-6)
    (_, from_zeros, _), _ = evaluate(
        finals[t][b][None, None], tf.fill([1, 1], ts.StepType.FIRST), state
    )
    assert abs(recorded - from_zeros[0, 0]) > 1e-4


# To compile an update takes long; the stack has an LSTM in it.
@pytest.mark.parametrize('name', _fast_is_gru(['gru', 'stack', 'dnc']))
def test_micro_batches_do_not_cut_sequences(name):
  """One environment at a time equals all at once, also in lanes."""
  results = []
  with _environment() as environment:
    for settings in (
        dict(lanes=1, micro_batch_size=1000), dict(lanes=2, micro_batch_size=1)
    ):
      agent = _agent(environment, _CORES[name], **settings)
      collect = collector_lib.Collector(
          environment, agent.collect_policy, _LENGTH
      )
      if not results:
        rollout = [collect.collect() for _ in range(2)][-1]
      before = [v.numpy() for v in agent.actor_critic_net.variables]
      info = agent.train_rollout(rollout)
      after = [v.numpy() for v in agent.actor_critic_net.variables]
      # Everything learns, the core included, but for what has no gradient.
      moved = [np.abs(a - b).max() > 0 for a, b in zip(after, before)]
      assert np.mean(moved) > .8
      results.append(np.concatenate(
          [np.ravel(x) for x in tf.nest.flatten(info)]
      ))
  np.testing.assert_allclose(results[0], results[1], rtol=1e-4, atol=1e-5)


def _collected(environment, agent, length=12, count=2):
  collect = collector_lib.Collector(
      environment, agent.collect_policy, length,
      sequence_length=agent.sequence_length,
  )
  return [collect.collect() for _ in range(count)][-1]


def _cut(rollout, length):
  """Every sequence of `[4, 12]` as an environment of its own."""
  def steps(x):
    return tf.reshape(x, [-1, length, *x.shape[2:]])

  def with_next(x):
    parts = [x[:, t:t + length + 1] for t in range(0, 12, length)]
    return tf.reshape(
        tf.stack(parts, axis=1), [-1, length + 1, *x.shape[2:]]
    )

  overlapping = ('observations', 'step_types', 'values_ext', 'values_int')
  return rollout._replace(**{
      name: tf.nest.map_structure(
          with_next if name in overlapping else steps, value
      )
      for name, value in rollout._asdict().items()
      if name not in ('core_states', 'selected')
  })


@pytest.mark.parametrize('groups', [1, 2])
def test_sequences_have_the_states_that_the_policy_had(core, groups):
  whole = []
  for length in (4, None):
    with _environment(groups=groups) as environment:
      agent = _agent(environment, core, dict(sequence_length=length))
      rollout = _collected(environment, agent)
      if length:
        cut = _cut(rollout, length)._replace(core_states=rollout.core_states)
        assert cut.rewards.shape == (12, 4)
        assert np.abs(_ratios(agent, cut) - 1).max() < 1e-5
        mixed = tf.nest.map_structure(lambda x: x[::-1], cut.core_states)
        wrong = _ratios(agent, cut._replace(core_states=mixed))
        assert np.abs(wrong - 1).max() > 1e-3
        whole.append(tf.nest.map_structure(
            lambda x: x[::3], rollout.core_states
        ))
      else:
        whole.append(rollout.core_states)
  _assert_near(*whole)


@pytest.mark.slow
@pytest.mark.parametrize('name, settings', [
    ('gru', dict(num_minibatches=3, num_epochs=2)),
    ('stack', dict(num_minibatches=6, shuffle_minibatches=True)),
    ('dnc', dict(num_minibatches=6, shuffle_minibatches=True)),
])
def test_sequences_train_like_environments_of_their_own(name, settings):
  """Gradients end where a sequence begins: three short ones, not a long."""
  results = []
  with _environment() as environment:
    core = _CORES[name]
    long = _agent(environment, core, dict(settings, sequence_length=4))
    rollout = _collected(environment, long)
    rewards = tf.random.stateless_normal([4, 12], [1, 2])
    targets = long.make_targets(rollout, rewards)
    short = _agent(environment, core, settings)
    for agent in (long, short):
      agent._generator.reset_from_seed(5)
      before = [v.numpy() for v in agent.trained_variables]
      cut = agent is short
      info = agent.learn(
          _cut(rollout, 4)._replace(core_states=rollout.core_states)
          if cut else rollout,
          type(targets)(*(tf.reshape(x, [12, 4]) for x in targets))
          if cut else targets,
      )
      results.append(tf.nest.flatten(info) + [
          v - b for v, b in zip(agent.trained_variables, before)
      ])
    _assert_near(*results, atol=1e-5)


@pytest.mark.slow
def test_gradients_end_at_the_start_of_a_sequence():
  norms = {}
  with _environment() as environment:
    for length in (4, 12, None):
      agent = _agent(
          environment, _CORES['gru'], dict(sequence_length=length)
      )
      if not norms:
        rollout = _collected(environment, agent)
      states = rollout.core_states
      if length != 4:
        states = tf.nest.map_structure(lambda x: x[::3], states)
      info = agent.train_rollout(rollout._replace(core_states=states))
      norms[length] = info.extra.gradient_norm.numpy()
  assert norms[12] == norms[None]
  assert abs(norms[4] - norms[12]) > 1e-4 * norms[12]


def test_rollouts_without_the_states_of_sequences_are_refused(core):
  with _environment() as environment:
    agent = _agent(environment, core, dict(sequence_length=4))
    rollout = _collected(environment, agent)
    states = tf.nest.map_structure(lambda x: x[:4], rollout.core_states)
    with pytest.raises(ValueError, match='4 recurrent states for 12 sequences'):
      agent.train_rollout(rollout._replace(core_states=states))
    with pytest.raises(ValueError, match='holds no recurrent states'):
      agent.train_rollout(rollout._replace(core_states=()))
    agent = _agent(environment, core, dict(sequence_length=5))
    with pytest.raises(ValueError, match='= 5 does not divide the 12 steps'):
      agent.train_rollout(rollout)


@pytest.mark.parametrize('length', [None, 3])
def test_the_stock_path_starts_from_the_recorded_state(
    core, length, monkeypatch
):
  """`agent.train` on a trajectory as TF-Agents' drivers record it."""
  with _environment() as environment:
    agent = _agent(environment, core, dict(sequence_length=length))
    policy = agent.collect_policy
    assert 'core_state' in policy.info_spec
    time_step = environment.reset()
    state = policy.get_initial_state(4)
    act = tf.function(policy.action)
    recorded = []
    for _ in range(10):
      step = act(tf.nest.map_structure(tf.constant, time_step), state)
      following = environment.step(step.action.numpy())
      recorded.append(trajectory.from_transition(
          tf.nest.map_structure(tf.constant, time_step), step,
          tf.nest.map_structure(tf.constant, following),
      ))
      time_step, state = following, step.state
  experience = tf.nest.map_structure(
      lambda *x: tf.stack(x, axis=1), *recorded[3:]
  )
  ratios = []
  surrogate = losses.clipped_surrogate

  def spy(log_probs, old_log_probs, *args):
    ratios.append(tf.exp(log_probs - old_log_probs))
    return surrogate(log_probs, old_log_probs, *args)

  monkeypatch.setattr(losses, 'clipped_surrogate', spy)
  processed = agent.preprocess_sequence(experience)
  agent.train(processed)
  ratio = tf.concat([tf.reshape(r, [-1]) for r in ratios], axis=0).numpy()
  assert ratio.size == 4 * (7 if length is None else 6)
  assert np.abs(ratio - 1).max() < 1e-5
  if length:
    with pytest.raises(tf.errors.InvalidArgumentError, match='holds steps'):
      agent.train(tf.nest.map_structure(lambda x: x[:, :4], processed))


def test_values_in_train_start_from_the_recorded_state(core):
  """As the values that the network gave when the steps were taken."""
  with _environment() as environment:
    agent = _agent(environment, core, values_in_train=True)
    policy = agent.collect_policy
    time_step, state = environment.reset(), policy.get_initial_state(4)
    recorded, values = [], []
    for _ in range(10):
      current = tf.nest.map_structure(tf.constant, time_step)
      (_, *both), _ = agent.actor_critic_net(
          current.observation, current.step_type, state
      )
      values.append(tf.stack(both))
      step = policy.action(current, state)
      time_step, state = environment.step(step.action.numpy()), step.state
      recorded.append(trajectory.from_transition(
          current, step, tf.nest.map_structure(tf.constant, time_step)
      ))
  experience = tf.nest.map_structure(
      lambda *x: tf.stack(x, axis=1), *recorded[3:]
  )
  rollout = agent._rollout_of(experience)
  np.testing.assert_allclose(
      [rollout.values_ext, rollout.values_int],
      tf.stack(values[3:], axis=-1), atol=1e-6,
  )
  before = [v.numpy() for v in agent.trained_variables]
  agent.train(experience)
  assert any(
      (a != b.numpy()).any() for a, b in zip(before, agent.trained_variables)
  )


def test_exported_policies_carry_the_state(core, tmp_path):
  with _environment() as environment:
    agent = _agent(environment, core)
    policy = agent.policy
    policy_saver.PolicySaver(policy, batch_size=None).save(str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    time_step = tf.nest.map_structure(tf.constant, environment.reset())
    state = policy.get_initial_state(4)
    loaded_state = loaded.get_initial_state(4)
    for _ in range(3):
      time_step = ts.TimeStep(
          tf.ones_like(time_step.step_type), time_step.reward,
          time_step.discount, tf.random.normal([4, 20]),
      )
      step = policy.action(time_step, state)
      loaded_step = loaded.action(time_step, loaded_state)
      np.testing.assert_array_equal(step.action, loaded_step.action)
      _assert_near(
          tf.nest.flatten(step.state), tf.nest.flatten(loaded_step.state)
      )
      state, loaded_state = step.state, loaded_step.state
