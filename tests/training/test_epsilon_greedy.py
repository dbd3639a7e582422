"""Epsilon-greedy collection: the mixture acts, is recorded and is trained."""

import gin
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from tf_agents.networks import actor_distribution_network
from tf_agents.networks import value_network
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from rnd_agent import config
from rnd_agent import networks
from rnd_agent import rnd_ppo_agent
from rnd_agent.hosting import policy as rnd_ppo_policy
from rnd_agent.learning import losses
from rnd_agent.settings import gin_files
from rnd_agent.training import builders
from rnd_agent.training import train_eval as train_eval_lib

OBSERVATION = tf.TensorSpec([3], tf.float32)
ACTION = tensor_spec.BoundedTensorSpec([], tf.int64, 0, 3)
CONTINUOUS = tensor_spec.BoundedTensorSpec([2], tf.float32, -1, 1)
TIME_STEP = ts.time_step_spec(OBSERVATION)


def _agent(epsilon, action=ACTION, nets=None, seed=0, **kwargs):
  tf.keras.utils.set_random_seed(seed)
  if nets is None:
    nets = dict(actor_critic_net=networks.ActorCriticNetwork(
        OBSERVATION, action, fc_layer_params=(8,), head_gain=3.0
    ))
  return rnd_ppo_agent.RNDPPOAgent(
      TIME_STEP, action, tf.keras.optimizers.SGD(.1), epsilon_greedy=epsilon,
      generator=tf.random.Generator.from_seed(seed),
      train_step_counter=tf.Variable(0, dtype=tf.int64),
      **{**dict(
          num_epochs=1, normalize_rewards=False, normalize_observations=False,
          use_gae=True, initial_adaptive_kl_beta=0.0, kl_cutoff_factor=0.0,
          importance_ratio_clipping=.1,
      ), **nets, **kwargs},
  )


def _observations(batch, seed=0):
  rng = np.random.default_rng(seed)
  return tf.constant(rng.normal(size=[batch, 3]), tf.float32)


def _softmax(logits):
  weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
  return weights / weights.sum(axis=-1, keepdims=True)


def test_mixture_by_hand():
  mixed = rnd_ppo_policy.with_uniform(
      tfp.distributions.Categorical(probs=[[.7, .2, .1, 0]]), .4
  )
  np.testing.assert_allclose(
      mixed.probs_parameter(), [[.52, .22, .16, .1]], rtol=1e-6
  )
  assert mixed.logits is None
  mixed = rnd_ppo_policy.with_uniform(
      tfp.distributions.Categorical(np.log([.7, .2, .1]), dtype=tf.int64), .3
  )
  np.testing.assert_allclose(
      mixed.probs_parameter(), [.59, .24, .17], rtol=1e-6
  )
  assert mixed.dtype == tf.int64 and mixed.probs is None


def test_mixture_stays_finite_where_the_policy_is_certain():
  logits = tf.Variable([[500.0, 0, -500]])
  with tf.GradientTape() as tape:
    mixed = rnd_ppo_policy.with_uniform(
        tfp.distributions.Categorical(logits), .1
    )
    log_prob = mixed.log_prob([2])
  np.testing.assert_allclose(log_prob, np.log([.1 / 3]), rtol=1e-5)
  assert np.isfinite(tape.gradient(log_prob, logits).numpy()).all()


def test_actions_and_recorded_parameters_are_the_mixtures():
  agent = _agent(.5)
  observations = tf.repeat(_observations(1), 20000, axis=0)
  step = agent.collect_policy.action(ts.restart(observations, 20000))
  (distribution, _, _), _ = agent.actor_critic_net(observations[:1])
  own = _softmax(distribution.logits.numpy())[0]
  expected = .5 * own + .5 / 4
  assert np.abs(own - expected).max() > .05  # The policy is far from uniform.
  shares = np.bincount(step.action.numpy(), minlength=4) / 20000
  np.testing.assert_allclose(shares, expected, atol=.02)
  np.testing.assert_allclose(
      _softmax(step.info['dist_params']['logits'].numpy())[0], expected,
      rtol=1e-5,
  )


def test_evaluation_is_without():
  agent = _agent(.9)
  observations = _observations(30)
  (distribution, _, _), _ = agent.actor_critic_net(observations)
  time_step = ts.restart(observations, 30)
  np.testing.assert_array_equal(
      agent.policy.action(time_step).action,
      np.argmax(distribution.logits, axis=1),
  )
  np.testing.assert_array_equal(
      agent.sampling_policy.distribution(time_step).action.logits,
      distribution.logits,
  )


def test_several_choices_are_mixed_each():
  spec = tensor_spec.BoundedTensorSpec([2], tf.int32, 0, 2)
  agent = _agent(.3, action=spec)
  observations = _observations(4)
  (distribution, _, _), _ = agent.actor_critic_net(observations)
  step = agent.collect_policy.action(ts.restart(observations, 4))
  mixed = agent.collect_policy.distribution(
      ts.restart(observations, 4)
  ).action
  np.testing.assert_allclose(
      mixed.distribution.probs_parameter(),
      .7 * _softmax(distribution.distribution.logits.numpy()) + .1, rtol=1e-5,
  )
  assert step.action.shape == (4, 2) and step.action.dtype == tf.int32


def test_zero_leaves_everything_as_it_is():
  """The network's own distribution, and nothing more in the graph."""
  time_step = ts.restart(_observations(5), 5)
  operations = []
  for epsilon in (0.0, .2):
    agent = _agent(epsilon)
    own, _ = agent.actor_critic_net(time_step.observation)
    logits = agent.collect_policy.distribution(time_step).action.logits
    assert np.array_equal(logits, own[0].logits) == (not epsilon)
    graph = tf.function(agent.collect_policy.action).get_concrete_function(
        time_step
    ).graph
    operations.append({op.type for op in graph.get_operations()})
  assert operations[1] - operations[0] >= {'Softmax', 'Log'}


def test_the_stream_of_random_numbers_is_that_without_epsilon():
  agents = [_agent(epsilon) for epsilon in (0.0, .2)]
  time_step = ts.restart(_observations(10), 10)
  for agent in agents:
    agent.collect_policy.action(time_step)
  np.testing.assert_array_equal(*(a._generator.state for a in agents))


def test_equal_seeds_act_equally():
  time_step = ts.restart(_observations(50), 50)
  first, second = (
      _agent(.5, seed=4).collect_policy.action(time_step).action
      for _ in range(2)
  )
  np.testing.assert_array_equal(first, second)


def _experience(agent, batch=6, length=9):
  """As a driver records it, with the agent's own actions."""
  rng = np.random.default_rng(1)
  rows = []
  for t in range(length):
    time_step = ts.TimeStep(
        tf.fill([batch], 0 if t == 0 else 1),
        tf.constant(rng.normal(size=batch), tf.float32), tf.ones([batch]),
        _observations(batch, seed=10 + t),
    )
    step = agent.collect_policy.action(time_step)
    following = time_step._replace(step_type=tf.ones([batch], tf.int32))
    rows.append(trajectory.from_transition(time_step, step, following))
  return tf.nest.map_structure(lambda *x: tf.stack(x, axis=1), *rows)


def test_ratio_is_one_before_the_first_update(monkeypatch):
  agent = _agent(.4)
  experience = _experience(agent)
  ratios = []
  surrogate = losses.clipped_surrogate

  def spy(log_probs, old_log_probs, *args):
    ratios.append(tf.exp(log_probs - old_log_probs).numpy())
    return surrogate(log_probs, old_log_probs, *args)

  monkeypatch.setattr(losses, 'clipped_surrogate', spy)
  tf.config.run_functions_eagerly(True)
  try:
    info = agent.train(experience)
  finally:
    tf.config.run_functions_eagerly(False)
  assert np.abs(np.concatenate([r.ravel() for r in ratios]) - 1).max() < 1e-5
  assert info.extra.approx_kl.numpy() == pytest.approx(0, abs=1e-6)


def test_entropy_is_the_mixtures():
  agent = _agent(.4)
  experience = _experience(agent)
  (distribution, _, _), _ = agent.actor_critic_net(
      experience.observation[:, :-1]
  )
  mixed = .6 * _softmax(distribution.logits.numpy()) + .1
  expected = -(mixed * np.log(mixed)).sum(axis=-1).mean()
  info = agent.train(experience)
  np.testing.assert_allclose(info.extra.entropy, expected, rtol=1e-5)


def test_users_own_networks():
  tf.keras.utils.set_random_seed(5)
  actor = actor_distribution_network.ActorDistributionNetwork(
      OBSERVATION, ACTION, fc_layer_params=(6,)
  )
  agent = _agent(.5, nets=dict(
      actor_net=actor,
      value_net=value_network.ValueNetwork(OBSERVATION, fc_layer_params=(6,)),
  ))
  experience = _experience(agent)
  info = agent.train(experience)
  assert info.extra.approx_kl.numpy() == pytest.approx(0, abs=1e-6)
  observations = _observations(3)
  own, _ = actor(observations, tf.ones([3], tf.int32), ())
  acts = agent.collect_policy.distribution(ts.restart(observations, 3)).action
  actions = tf.constant([0, 1, 2], tf.int64)
  np.testing.assert_allclose(
      acts.prob(actions), .5 * own.prob(actions).numpy() + .125, rtol=1e-5
  )


@pytest.mark.parametrize('epsilon', [-.1, 1.0, 1.5])
def test_no_probability_is_one_clear_line(epsilon):
  for build in (
      lambda: _agent(epsilon),
      lambda: config.PPOConfig(epsilon_greedy=epsilon),
  ):
    with pytest.raises(ValueError, match=r'to below 1|\[0, 1\)') as info:
      build()
    assert '\n' not in str(info.value).partition('\n  In call')[0]


def test_continuous_actions_are_refused(tmp_path):
  with pytest.raises(ValueError, match='needs discrete actions'):
    _agent(.1, action={'a': ACTION, 'b': CONTINUOUS})
  _agent(0.0, action=CONTINUOUS)
  with pytest.raises(ValueError, match='got Normal'):
    rnd_ppo_policy.with_uniform(tfp.distributions.Normal(0.0, 1.0), .1)


def test_the_config_reaches_the_collect_policy():
  agent = builders.build_agent(
      TIME_STEP, ACTION, num_epochs=1, num_minibatches=1,
      ppo_config=config.PPOConfig(epsilon_greedy=.25),
  )
  assert agent.collect_policy._epsilon_greedy == .25
  assert agent.sampling_policy._epsilon_greedy == 0


def test_continuous_control_is_one_clear_line(tmp_path):
  gin.clear_config()
  gin_files.parse([], [
      "train_eval.env_name = 'gymnasium:MountainCarContinuous-v0'",
      'train_eval.num_parallel_environments = 4',
      'train_eval.num_workers = 1', 'PPOConfig.epsilon_greedy = 0.1',
  ])
  try:
    with pytest.raises(gin_files.ConfigError, match='discrete') as info:
      train_eval_lib.train_eval(str(tmp_path))
    assert '\n' not in str(info.value).partition('\n  In call')[0]
  finally:
    gin.clear_config()


@pytest.mark.slow
def test_a_run_trains_and_exports_its_policies(tmp_path):
  gin.clear_config()
  gin_files.parse([], [
      "train_eval.env_name = 'toy:Corridor'",
      'train_eval.num_parallel_environments = 4',
      'train_eval.num_workers = 1', 'train_eval.rollout_length = 8',
      'train_eval.num_iterations = 2', 'train_eval.random_rollouts = 1',
      'train_eval.eval_interval = 0', 'PPOConfig.epsilon_greedy = 0.5',
      'ActorCriticNetwork.fc_layer_params = (16, 16)',
  ])
  try:
    train_eval_lib.train_eval(str(tmp_path))
  finally:
    gin.clear_config()
  collect = tf.saved_model.load(str(tmp_path / 'policy' / 'collect'))
  zeros = tf.zeros([3, 20])
  step = collect.action(ts.restart(zeros, 3), ())
  probabilities = _softmax(step.info['dist_params']['logits'].numpy())
  assert probabilities.min() >= .5 / probabilities.shape[-1] - 1e-6
