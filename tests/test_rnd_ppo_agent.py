"""The agent: TF-Agents' traps, the whole update against a slow reference.

"Trap n" is section 5, number n, of the notes on TF-Agents 0.19.0: what a
subclass of `PPOAgent` that only adds a loss gets wrong.
"""

import operator

import gin
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.agents.ppo import ppo_agent
from tf_agents.environments import batched_py_environment
from tf_agents.environments import py_environment
from tf_agents.networks import actor_distribution_network
from tf_agents.networks import value_network
from tf_agents.specs import array_spec
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts

from rnd_agent import config
from rnd_agent import networks
from rnd_agent import rnd_ppo_agent
from rnd_agent.bonuses import rnd as rnd_lib
from rnd_agent.learning import losses
from rnd_agent.learning import micro_batches as updates
from rnd_agent.learning import rollout as rollout_lib
from rnd_agent.training import builders
from rnd_agent.training import collector

FIRST, MID, LAST = 0, 1, 2
# Without a bonus the host's defaults hold; these leave plain PPO.
PLAIN = dict(
    bonus=False, normalize_rewards=False, normalize_observations=False,
    use_gae=True, use_td_lambda_return=True, lambda_value=.95,
    discount_factor=.999, importance_ratio_clipping=.1,
    initial_adaptive_kl_beta=0.0, kl_cutoff_factor=0.0,
)
OBSERVATION = tf.TensorSpec([3], tf.float32)
ACTION = tensor_spec.BoundedTensorSpec([], tf.int64, 0, 3)
CONTINUOUS = tensor_spec.BoundedTensorSpec([2], tf.float32, -1, 1)
TIME_STEP = ts.time_step_spec(OBSERVATION)


@pytest.fixture(params=[
    'eager', pytest.param('compiled', marks=pytest.mark.slow)
])
def mode(request):
  """Runs compiled functions eagerly, or as they are."""
  tf.config.run_functions_eagerly(request.param == 'eager')
  yield request.param
  tf.config.run_functions_eagerly(False)


@pytest.fixture
def eager():
  tf.config.run_functions_eagerly(True)
  yield
  tf.config.run_functions_eagerly(False)


def _joint(action=ACTION):
  return networks.ActorCriticNetwork(
      OBSERVATION, action, fc_layer_params=(10, 8), head_gain=1.0
  )


def _own_networks(seed=0, intrinsic=True):
  """Three networks that share nothing, the same for the same seed."""
  tf.keras.utils.set_random_seed(seed)
  actor = actor_distribution_network.ActorDistributionNetwork(
      OBSERVATION, ACTION, fc_layer_params=(6,)
  )
  values = [value_network.ValueNetwork(OBSERVATION, fc_layer_params=(6,))
            for _ in range(2)]
  for net in (actor, *values):
    net.create_variables(OBSERVATION)
  names = ('actor_net', 'value_net', 'intrinsic_value_net')
  return dict(list(zip(names, (actor, *values)))[:3 if intrinsic else 2])


def _agent(
    seed=0, bonus=True, optimizer=None, action=ACTION, nets=None,
    generator_seed=0, numbers=None, **kwargs,
):
  """A tiny agent; one epoch and one minibatch unless asked otherwise."""
  tf.keras.utils.set_random_seed(seed)
  rnd = None
  if bonus:
    rnd = rnd_lib.RandomNetworkDistillation(
        OBSERVATION,
        config.RNDConfig(**{'predictor_proportion': 1.0, **(numbers or {})}),
        feature_dim=7, predictor_hidden_units=(9,),
    )
    kwargs.setdefault('compute_value_and_advantage_in_train', False)
  if nets is None:
    nets = {'actor_critic_net': _joint(action)}
  return rnd_ppo_agent.RNDPPOAgent(
      TIME_STEP, action, optimizer or tf.keras.optimizers.SGD(1.0), rnd=rnd,
      generator=tf.random.Generator.from_seed(generator_seed),
      train_step_counter=tf.Variable(0, dtype=tf.int64),
      **{'num_epochs': 1, **nets, **kwargs},
  )


def _weights(agent):
  return [v.numpy() for v in agent.trained_variables]


def _assert_equal(first, second, **tolerance):
  assert len(first) == len(second)
  for a, b in zip(first, second):
    if tolerance:
      np.testing.assert_allclose(a, b, **tolerance)
    else:
      np.testing.assert_array_equal(a, b)


def _step_types(rng, batch, length, layout):
  """`([B, T + 1], [B, T])`: streams with 15 % ends in either form."""
  types = np.full([batch, length + 1], MID, np.int32)
  following = np.full([batch, length], MID, np.int32)
  for b in range(batch):
    if layout == 'boundary' and b == 1:
      types[b, 0] = LAST
    for t in range(length):
      if types[b, t] == LAST:
        types[b, t + 1] = following[b, t] = FIRST
      elif rng.random() < .15 or (b, t) == (0, 1):
        following[b, t] = LAST
        types[b, t + 1] = LAST if layout == 'boundary' else FIRST
  return types, following


def _rollout(agent, seed=0, batch=4, length=6, layout='boundary',
             truncated=.4):
  """Random observations, acted on by the agent's own policy."""
  rng = np.random.default_rng(seed)
  types, following = _step_types(rng, batch, length, layout)
  observations = rng.normal(size=[batch, length + 1, 3]).astype(np.float32)
  (distribution, value_ext, value_int), _ = agent.collect_policy.evaluate(
      tf.constant(observations), tf.constant(types), ()
  )
  if hasattr(distribution, 'logits'):
    params = {'logits': distribution.logits[:, :length]}
    actions = rng.integers(0, 4, [batch, length])
  else:
    params = {'loc': distribution.mean()[:, :length],
              'scale_diag': distribution.stddev()[:, :length]}
    actions = rng.normal(size=[batch, length, 2]).astype(np.float32)
  ends = following == LAST
  return rollout_lib.Rollout(
      observations=tf.constant(observations),
      step_types=tf.constant(types),
      next_step_types=tf.constant(following),
      actions=tf.constant(actions),
      rewards=tf.constant(
          np.where(types[:, :-1] == LAST, 0, rng.normal(size=ends.shape)),
          tf.float32,
      ),
      discounts=tf.constant(
          np.where(ends & (rng.random(ends.shape) > truncated), 0, 1),
          tf.float32,
      ),
      dist_params=params,
      values_ext=value_ext,
      values_int=value_int,
      final_values_ext=tf.constant(rng.normal(size=ends.shape), tf.float32),
  )


# --------------------------------------------------------------- it is PPO


def test_is_a_ppo_agent():
  agent = _agent()
  assert isinstance(agent, ppo_agent.PPOAgent)
  assert agent.policy.action_spec == agent.collect_policy.action_spec


def test_policy_info_holds_both_values():
  """Trap 5: the host knows one scalar value."""
  agent = _agent()
  info_spec = agent.collect_policy.info_spec
  assert set(info_spec) == {
      'dist_params', 'value_prediction', 'intrinsic_value_prediction'
  }
  observation = tf.random.stateless_normal([5, 3], [0, 1])
  step = agent.collect_policy.action(ts.restart(observation, 5))
  (_, value_ext, value_int), _ = agent.actor_critic_net(observation)
  np.testing.assert_allclose(step.info['value_prediction'], value_ext)
  np.testing.assert_allclose(
      step.info['intrinsic_value_prediction'], value_int
  )
  assert np.abs(value_ext - value_int).max() > 1e-3


def test_missing_and_double_networks_are_clear_errors():
  nets = _own_networks()
  with pytest.raises(ValueError, match='not both'):
    _agent(nets=dict(nets, actor_critic_net=_joint()))
  with pytest.raises(ValueError, match='intrinsic_value_net'):
    _agent(nets=_own_networks(intrinsic=False))
  with pytest.raises(TypeError, match='actor_net'):
    _agent(nets={})


# ------------------------------------------------------------------ targets


def _golden_rollout(layout, truncated=False):
  """o0 o1 | end | o2 o3, then o4: the numbers are worked out in test_returns.

  The boundary row holds 9 wherever it may; V_ext(o_LAST) is 7 when truncated.
  """
  boundary = [9.0] if layout == 'boundary' else []
  last_value = [7.0] if boundary else []
  steps = 4 + len(boundary)
  types = [MID, MID] + ([LAST] if boundary else []) + [FIRST, MID, MID]
  following = [MID, LAST] + ([FIRST] if boundary else []) + [MID, MID]

  def tensor(first, middle, second):
    return tf.constant([first + middle + second], tf.float32)

  rollout = rollout_lib.Rollout(
      observations=tf.zeros([1, steps + 1, 3]),
      step_types=tf.constant([types]),
      next_step_types=tf.constant([following]),
      actions=tf.zeros([1, steps], tf.int64),
      rewards=tensor([0, 1], boundary, [0, 0]),
      discounts=tensor([1, float(truncated)], boundary, [1, 1]),
      dist_params={'logits': tf.zeros([1, steps, 4])},
      values_ext=tensor([.1, .2], last_value, [.3, .4, .5]),
      values_int=tensor([.5, .6], boundary, [.7, .8, .9]),
      final_values_ext=tensor([9, 7], boundary, [9, 9]),
  )
  return rollout, tensor([1, 2], boundary, [3, 4])


@pytest.mark.parametrize('layout', ['compact', 'boundary'])
def test_golden_targets(mode, layout):
  """Both streams and their sum, A = 2 A_ext + A_int (traps 3 and 7)."""
  rollout, rewards_int = _golden_rollout(layout)
  targets = _agent().make_targets(rollout, rewards_int)
  steps = targets.mask.numpy() > 0
  assert steps.sum() == 4
  np.testing.assert_allclose(
      targets.advantages[steps], [10.918889, 10.21968, 7.327646, 4.29],
      atol=1e-5,
  )
  np.testing.assert_array_equal(targets.advantages[~steps], 0)
  np.testing.assert_allclose(
      targets.returns_ext[steps],
      np.add([.85904, .8, .19403, .0995], [.1, .2, .3, .4]), atol=1e-5,
  )
  np.testing.assert_allclose(
      targets.returns_int[steps],
      np.add([9.200809, 8.61968, 6.939585, 4.091], [.5, .6, .7, .8]),
      atol=1e-5,
  )


@pytest.mark.parametrize('layout', ['compact', 'boundary'])
def test_golden_targets_of_truncation(layout):
  """Trap 7: the host cuts a time limit as if the episode had terminated."""
  agent = _agent(numbers=dict(intrinsic_coefficient=0.0,
                              extrinsic_coefficient=1.0))
  rollout, rewards_int = _golden_rollout(layout, truncated=True)
  targets = agent.make_targets(rollout, rewards_int)
  np.testing.assert_allclose(
      targets.advantages[targets.mask.numpy() > 0],
      [7.495747, 7.793, .19403, .0995], atol=1e-5,
  )


@pytest.mark.parametrize('layout', ['compact', 'boundary'])
def test_golden_targets_of_an_episodic_bonus(layout):
  agent = _agent(numbers=dict(episodic_intrinsic=True,
                              extrinsic_coefficient=0.0))
  targets = agent.make_targets(*_golden_rollout(layout))
  np.testing.assert_allclose(
      targets.advantages[targets.mask.numpy() > 0],
      [2.4107, 1.4, 6.939585, 4.091], atol=1e-5,
  )


def test_bootstraps_from_the_last_value(mode):
  """Trap 1: the host's own numbers are 1.866, .942, -.03."""
  agent = _agent(**dict(PLAIN, discount_factor=.99))
  zeros = tf.zeros([1, 3])
  rollout = _golden_rollout('compact')[0]._replace(
      observations=tf.zeros([1, 4, 3]), step_types=tf.ones([1, 4], tf.int32),
      next_step_types=tf.ones([1, 3], tf.int32), rewards=zeros,
      discounts=zeros + 1, values_ext=tf.constant([[1.0, 2, 3, 10]]),
      values_int=tf.zeros([1, 4]), final_values_ext=zeros,
  )
  targets = agent.make_targets(rollout, zeros)
  np.testing.assert_allclose(
      targets.advantages, [[7.996, 7.459, 6.9]], atol=1e-3
  )


def _plain_rollout(rewards, types, values=None):
  """Discount 0 follows every step: advantages are rewards minus values."""
  length = len(rewards)
  zeros = tf.zeros([1, length])
  return rollout_lib.Rollout(
      observations=tf.zeros([1, length + 1, 3]),
      step_types=tf.constant([types]),
      next_step_types=tf.constant([types[1:]]),
      actions=tf.zeros([1, length], tf.int64),
      rewards=tf.constant([rewards]), discounts=zeros,
      dist_params={'logits': tf.zeros([1, length, 4])},
      values_ext=tf.zeros([1, length + 1]) if values is None else values,
      values_int=tf.zeros([1, length + 1]), final_values_ext=zeros,
  )


def test_advantages_are_not_normalized_unless_asked_for():
  """Trap 2: [2, 2, 2, 2, padding] becomes [.5, .5, .5, .5, -2] in the host."""
  types = [MID, MID, MID, MID, LAST, FIRST]
  rollout = _plain_rollout([2.0, 2, 2, 2, 0], types)
  targets = _agent(**PLAIN).make_targets(rollout, tf.zeros([1, 5]))
  np.testing.assert_array_equal(targets.advantages, [[2, 2, 2, 2, 0]])


def test_normalized_advantages_are_those_of_real_steps():
  """Mean 3, standard deviation sqrt 5 of 0, 2, 4, 6 without the padding."""
  types = [MID, MID, LAST, FIRST, MID, MID]
  rollout = _plain_rollout([0.0, 2, 50, 4, 6], types)
  agent = _agent(**PLAIN, normalize_advantages=True)
  targets = agent.make_targets(rollout, tf.zeros([1, 5]))
  np.testing.assert_allclose(
      targets.advantages, np.array([[-3, -1, 0, 1, 3]]) / 5**.5, rtol=1e-5
  )


def test_steps_without_return_and_advantage_are_steps():
  """Trap 4: the host's mask drops them; sparse rewards start like that."""
  rollout = _plain_rollout([0.0] * 4, [FIRST, MID, LAST, FIRST, MID])
  targets = _agent(**PLAIN).make_targets(rollout, tf.zeros([1, 4]))
  np.testing.assert_array_equal(targets.mask, [[1, 1, 0, 1]])
  np.testing.assert_array_equal(targets.returns_ext, np.zeros([1, 4]))


def test_an_untrained_intrinsic_head_stays_out_of_the_advantages():
  """Without a bonus nothing trains V_int, whatever the coefficients say."""
  rollout, _ = _golden_rollout('compact')
  numbers = config.RNDConfig()  # intrinsic_coefficient 1, but no bonus
  try:
    agent = _agent(**PLAIN, rnd_config=numbers)
  except ValueError:
    return  # refusing is as good
  targets = agent.make_targets(rollout, tf.zeros([1, 4]))
  np.testing.assert_allclose(
      targets.advantages, [[2 * .85904, 1.6, .38806, .199]], atol=1e-5
  )


# --------------------------------------- the whole update, slow and by hand


def _forward(agent, observation):
  """Logits and values of one observation `[3]`."""
  (distribution, ext, intrinsic), _ = agent.actor_critic_net(
      observation[tf.newaxis], tf.ones([1], tf.int32)
  )
  return distribution.logits[0], ext[0], intrinsic[0]


def _reference_targets(rollout, rewards, discounts, values, cut, end_values):
  """A and A + V of one stream, step by step, real steps only."""
  batch, length = rewards.shape
  boundary = rollout.step_types.numpy()[:, :-1] == LAST
  advantages = np.zeros([batch, length])
  for b in range(batch):
    next_value, next_advantage = values[b, length], 0
    for t in reversed(range(length)):
      if boundary[b, t]:
        continue
      if cut[b, t]:
        next_value, next_advantage = end_values[b, t], 0
      delta = rewards[b, t] + discounts[b, t] * next_value - values[b, t]
      advantages[b, t] = delta + discounts[b, t] * .95 * next_advantage
      next_value, next_advantage = values[b, t], advantages[b, t]
  return advantages, advantages + values[:, :-1]


def _reference_rewards(agent, rollout, past):
  """Normalized intrinsic rewards, and the new observation statistics."""
  observations = rollout.observations.numpy()
  types = rollout.step_types.numpy()
  batch, length = rollout.rewards.shape
  rnd = agent.rnd

  def error(observation, mean, std):
    x = np.clip((observation - mean) / std, -5, 5)[np.newaxis]
    x = tf.constant(x, tf.float32)
    difference = rnd.predictor(x)[0] - rnd.target(x)[0]
    return sum(float(d) ** 2 for d in difference[0]) / 7

  old = past.astype(float).mean(axis=0), past.astype(float).std(axis=0)
  counted = np.array([
      observations[b, t + 1] for b in range(batch) for t in range(length)
      if types[b, t + 1] != LAST
  ])
  everything = np.concatenate([past, counted]).astype(float)
  new = everything.mean(axis=0), everything.std(axis=0)
  bonus = np.zeros([batch, length])
  returns = []
  for b in range(batch):
    state = 0
    for t in range(length):
      if types[b, t] == LAST:
        continue
      # The reset's frame pays for the step that ended the episode.
      following = t + 1
      if types[b, t + 1] == LAST and t + 1 < length:
        following = t + 2
      bonus[b, t] = error(observations[b, following], *old)
      state = .99 * state + bonus[b, t]
      returns.append(state)
  return bonus / np.std(returns), new


def _reference_loss(agent, rollout, past):
  """Burda et al., algorithm 1, and Schulman et al. 2017, equation 9.

  L = - E min(r A, clip(r) A) + .5 E (V_ext - R_ext)^2 + .5 E (V_int - R_int)^2
      - .001 E entropy + E mean_k (predictor - target)^2
  over real steps (the last: over observations that count), one by one.
  """
  types = rollout.step_types.numpy()
  following = rollout.next_step_types.numpy()
  batch, length = rollout.rewards.shape
  rewards_int, (mean, std) = _reference_rewards(agent, rollout, past)
  values_ext = rollout.values_ext.numpy().astype(float)
  ends = (following == LAST) & (types[:, :-1] != LAST)
  end_values = np.where(
      types[:, 1:] == LAST, values_ext[:, 1:], rollout.final_values_ext
  )
  advantages_ext, returns_ext = _reference_targets(
      rollout, rollout.rewards.numpy().astype(float),
      .999 * rollout.discounts.numpy().astype(float), values_ext, ends,
      end_values,
  )
  advantages_int, returns_int = _reference_targets(
      rollout, rewards_int, np.full(rewards_int.shape, .99),
      rollout.values_int.numpy().astype(float), np.zeros_like(ends),
      end_values,
  )
  advantages = 2 * advantages_ext + advantages_int
  terms = {k: [] for k in ('policy', 'ext', 'int', 'entropy', 'predictor')}
  with tf.GradientTape() as tape:
    for b in range(batch):
      for t in range(length):
        if types[b, t + 1] != LAST:
          x = (rollout.observations[b, t + 1] - mean) / std
          x = tf.clip_by_value(tf.cast(x, tf.float32), -5, 5)[tf.newaxis]
          difference = agent.rnd.predictor(x)[0] - tf.constant(
              agent.rnd.target(x)[0].numpy()
          )
          terms['predictor'].append(tf.reduce_sum(difference**2) / 7)
        if types[b, t] == LAST:
          continue
        logits, ext, intrinsic = _forward(agent, rollout.observations[b, t])
        action = int(rollout.actions[b, t])
        log_probs = logits - tf.math.log(tf.reduce_sum(tf.exp(logits)))
        old = rollout.dist_params['logits'][b, t]
        old = old - tf.math.log(tf.reduce_sum(tf.exp(old)))
        ratio = tf.exp(log_probs[action] - old[action])
        gain = advantages[b, t]
        clipped = tf.clip_by_value(ratio, .9, 1.1)
        terms['policy'].append(-tf.minimum(ratio * gain, clipped * gain))
        terms['ext'].append(.5 * (ext - returns_ext[b, t]) ** 2)
        terms['int'].append(.5 * (intrinsic - returns_int[b, t]) ** 2)
        terms['entropy'].append(
            -tf.reduce_sum(tf.exp(log_probs) * log_probs)
        )
    means = {k: tf.add_n(v) / len(v) for k, v in terms.items()}
    loss = (means['policy'] + means['ext'] + means['int'] + means['predictor']
            - .001 * means['entropy'])
  variables = agent.trained_variables
  return loss, means, tape.gradient(loss, variables)


@pytest.mark.parametrize('layout, micro_batch_size', [
    ('boundary', 256), ('compact', 256), ('boundary', 6), ('compact', 12),
])
def test_the_whole_update_equals_the_slow_reference(
    mode, layout, micro_batch_size
):
  """Losses and gradients; one step of SGD with rate 1 is the gradient."""
  if mode == 'eager' and micro_batch_size == 256:
    micro_batch_size = 18  # three environments, which do not divide four
  agent = _agent(compute_config=config.ComputeConfig(
      micro_batch_size=micro_batch_size, lanes=3
  ))
  past = np.random.default_rng(9).normal(.5, 2, [30, 3]).astype(np.float32)
  agent.rnd.update_observation_statistics(tf.constant(past[np.newaxis]))
  # Behaviour of another policy, so that some ratios are clipped.
  rollout = _rollout(agent, 2, layout=layout)
  noise = np.random.default_rng(3).normal(0, .2, [4, 6, 4])
  rollout = rollout._replace(dist_params={
      'logits': rollout.dist_params['logits'] + tf.constant(noise, tf.float32)
  })
  assert (rollout.boundaries.numpy().any()) == (layout == 'boundary')
  assert rollout.ends.numpy().sum() >= 2
  loss, means, gradients = _reference_loss(agent, rollout, past)
  before = _weights(agent)
  info = agent.train_rollout(rollout)
  moved = [a - b for a, b in zip(before, _weights(agent))]

  extra = info.extra
  for actual, expected in (
      (info.loss, loss), (extra.policy_gradient_loss, means['policy']),
      (extra.value_loss_ext, means['ext']),
      (extra.value_loss_int, means['int']),
      (extra.entropy, means['entropy']),
      (extra.predictor_loss, means['predictor']),
  ):
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
  assert 0 < extra.clip_fraction.numpy() < 1
  scale = max(np.abs(g).max() for g in gradients)
  for gradient, move in zip(gradients, moved):
    assert np.abs(gradient).max() > 0
    np.testing.assert_allclose(move, gradient, atol=2e-5 * scale)


def test_both_layouts_of_one_stream_give_the_same_update(eager):
  """The same steps, with and without the boundary rows (trap 3)."""
  agent = _agent()
  boundary = _rollout(agent, 4, batch=1, length=6)
  rng = np.random.default_rng(5)
  observations = rng.normal(size=[1, 7, 3]).astype(np.float32)
  types = np.array([[MID, MID, LAST, FIRST, MID, MID, MID]], np.int32)
  (distribution, ext, intrinsic), _ = agent.collect_policy.evaluate(
      tf.constant(observations), tf.constant(types), ()
  )
  boundary = boundary._replace(
      observations=tf.constant(observations), step_types=tf.constant(types),
      next_step_types=tf.constant(types[:, 1:]),
      rewards=tf.constant([[1.0, 2, 0, 3, 4, 5]]),
      discounts=tf.constant([[1.0, 1, 1, 1, 1, 1]]),  # truncated
      dist_params={'logits': distribution.logits[:, :6]},
      values_ext=ext, values_int=intrinsic,
  )

  def without(x):
    return tf.constant(np.delete(x, 2, axis=1))

  compact = tf.nest.map_structure(
      without, boundary._replace(core_states=boundary.rewards)
  )._replace(
      next_step_types=tf.constant([[MID, LAST, MID, MID, MID]]),
      final_values_ext=tf.constant([[0, float(ext[0, 2]), 0, 0, 0]]),
      core_states=(),
  )
  results = []
  for rollout in (boundary, compact):
    agent = _agent()
    agent.rnd.update_observation_statistics(tf.constant(observations))
    info = agent.train_rollout(rollout)
    results.append((_weights(agent), info.loss))
  _assert_equal(*(r[0] for r in results), atol=2e-6)
  np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-5)


def _with_garbage(rollout, garbage):
  """Something else in all that a boundary row holds but its observation."""
  boundaries = rollout.boundaries.numpy()
  assert boundaries.any()

  def dirty(x):
    x = x.numpy()
    x[:, :boundaries.shape[1]][boundaries] = garbage
    return tf.constant(x)

  actions = rollout.actions.numpy()
  actions[boundaries] = 3 - actions[boundaries]
  # V_ext(o_LAST) lies in the boundary row and is needed after a truncation:
  # terminate instead.
  return rollout._replace(
      rewards=dirty(rollout.rewards), discounts=dirty(rollout.discounts),
      values_ext=dirty(rollout.values_ext),
      values_int=dirty(rollout.values_int),
      dist_params=tf.nest.map_structure(dirty, rollout.dist_params),
      final_values_ext=dirty(rollout.final_values_ext),
      actions=tf.constant(actions),
  )


@pytest.mark.parametrize('garbage', [
    -77.0, *(pytest.param(x, marks=pytest.mark.slow) for x in (9.0, 1e6))
])
def test_garbage_in_boundary_rows_changes_nothing(mode, garbage):
  """Weights, statistics and figures, exactly (trap 3)."""
  results = []
  for dirty in (False, True):
    agent = _agent(value_clipping=0.0)
    rollout = _rollout(agent, 6, batch=5, length=8, truncated=0.0)
    # No end on the last row: its V(o_T) would be a boundary's.
    assert (rollout.step_types.numpy()[:, -1] != LAST).all()
    if dirty:
      rollout = _with_garbage(rollout, garbage)
    info = agent.train_rollout(rollout)
    results.append((
        _weights(agent),
        [v.numpy() for v in agent.rnd.observation_normalizer.variables],
        [agent.rnd.return_normalizer.variance.numpy(),
         agent.rnd.return_normalizer.memory.numpy()],
        tf.nest.flatten(info),
    ))
  for clean, other in zip(*results):
    _assert_equal(clean, other)


def test_nan_in_boundary_rows_changes_nothing(eager):
  """Drivers never write one, but a mask that multiplies would spread it."""
  results = []
  for dirty in (False, True):
    agent = _agent()
    rollout = _rollout(agent, 6, batch=5, length=8, truncated=0.0)
    if dirty:
      rollout = _with_garbage(rollout, np.nan)
      # V(o_LAST) follows a step: 0 x NaN is no advantage.
      rollout = rollout._replace(values_ext=tf.where(
          tf.math.is_nan(rollout.values_ext), 9.0, rollout.values_ext
      ))
    info = agent.train_rollout(rollout)
    results.append((_weights(agent), info.extra.nonfinite_updates))
  assert results[1][1].numpy() == 0
  _assert_equal(results[0][0], results[1][0])


def test_terminal_observations_do_not_train_the_policy(eager):
  """What o_LAST looks like matters to nobody ('reset'), terminated or not.

  But for V_ext(o_LAST), which a truncation needs and the rollout holds.
  """
  results = []
  for shift in (0.0, 5.0):
    agent = _agent()
    rollout = _rollout(agent, 6, batch=5, length=8)
    boundaries = rollout.step_types.numpy() == LAST
    assert boundaries[:, 1:-1].any() and not boundaries[:, -1].any()
    observations = rollout.observations.numpy()
    observations[boundaries] += shift
    agent.train_rollout(
        rollout._replace(observations=tf.constant(observations))
    )
    results.append(_weights(agent))
  _assert_equal(*results)


def test_continuous_actions_update(eager):
  agent = _agent(action=CONTINUOUS)
  info = agent.train_rollout(_rollout(agent, 7))
  assert info.extra.nonfinite_updates.numpy() == 0
  assert info.extra.approx_kl.numpy() == pytest.approx(0, abs=1e-6)


# ----------------------------------------------------- ratio before updating


class _Walk(py_environment.PyEnvironment):
  """Random observations; episodes of 3 to 6 steps, every other truncated."""

  def __init__(self, seed):
    super().__init__()
    self._rng = np.random.default_rng(seed)
    self._count = self._episodes = 0

  def observation_spec(self):
    return array_spec.ArraySpec([3], np.float32)

  def action_spec(self):
    return array_spec.BoundedArraySpec([], np.int64, 0, 3)

  def _observe(self):
    return self._rng.normal(size=3).astype(np.float32)

  def _reset(self):
    self._count, self._length = 0, self._rng.integers(3, 7)
    return ts.restart(self._observe())

  def _step(self, action):
    if self._current_time_step.is_last():
      return self.reset()
    self._count += 1
    reward = float(action) - 1.0
    if self._count < self._length:
      return ts.transition(self._observe(), reward)
    self._episodes += 1
    if self._episodes % 2:
      return ts.termination(self._observe(), reward)
    return ts.truncation(self._observe(), reward)


def _collector(agent, batch=3, length=11):
  environment = batched_py_environment.BatchedPyEnvironment(
      [_Walk(i) for i in range(batch)], multithreading=False
  )
  return collector.Collector(environment, agent.collect_policy, length)


def test_ratio_is_one_before_the_first_update(monkeypatch, eager):
  """Collected one step at a time, recomputed as whole sequences (trap 9)."""
  agent = _agent(compute_config=config.ComputeConfig(lanes=1))
  collect = _collector(agent)
  collect.collect()
  rollout = collect.collect()  # starts in mid-episode
  ratios = []
  stock = losses.clipped_surrogate

  def spy(log_probs, old_log_probs, *args):
    ratios.append(tf.exp(log_probs - old_log_probs).numpy())
    return stock(log_probs, old_log_probs, *args)

  monkeypatch.setattr(losses, 'clipped_surrogate', spy)
  info = agent.train_rollout(rollout)
  assert ratios[0].size == 33
  real = rollout.mask.numpy() > 0
  assert 20 < real.sum() < 33
  assert np.abs(ratios[0][real] - 1).max() < 1e-5
  assert info.extra.clip_fraction.numpy() == 0


def test_collected_values_are_those_of_the_observations(eager):
  """Both heads over o_0 ... o_T, the bootstrap included; rows line up."""
  agent = _agent()
  rollout = _collector(agent).collect()
  (_, value_ext, value_int), _ = agent.collect_policy.evaluate(
      rollout.observations, rollout.step_types, ()
  )
  np.testing.assert_allclose(rollout.values_ext, value_ext, atol=1e-5)
  np.testing.assert_allclose(rollout.values_int, value_int, atol=1e-5)
  np.testing.assert_array_equal(
      rollout.step_types[:, 1:], rollout.next_step_types
  )
  steps = rollout.mask.numpy() > 0
  np.testing.assert_array_equal(
      rollout.rewards.numpy()[steps], rollout.actions.numpy()[steps] - 1
  )
  ends = rollout.ends.numpy()
  assert set(rollout.discounts.numpy()[ends]) == {0, 1}
  assert (rollout.discounts.numpy()[~ends] == 1).all()


def test_rollouts_continue_where_the_last_one_ended(eager):
  agent = _agent()
  collect = _collector(agent)
  first, second = collect.collect(), collect.collect()
  np.testing.assert_array_equal(
      first.observations[:, -1], second.observations[:, 0]
  )
  np.testing.assert_array_equal(
      first.step_types[:, -1], second.step_types[:, 0]
  )
  # The first one's tensors are its own, not the collector's buffers.
  assert np.abs(first.observations - second.observations).max() > .1


# ------------------------------------------------- counters, target, optimizer


def test_step_counter_counts_optimizer_steps(mode):
  """Trap 10: the host counts epochs. 3 epochs x 2 minibatches, twice."""
  agent = _agent(num_epochs=3, num_minibatches=2,
                 optimizer=tf.keras.optimizers.SGD(.001))
  rollout = _rollout(agent)
  for steps in (6, 12):
    agent.train_rollout(rollout)
    assert agent.train_step_counter.numpy() == steps
    assert agent._optimizer.iterations.numpy() == steps


def test_target_is_never_trained_and_is_in_the_checkpoint(eager):
  """Trap 14."""
  agent = _agent(optimizer=tf.keras.optimizers.Adam(.1), num_epochs=3)
  target = [v.numpy() for v in agent.rnd.target.variables]
  before = _weights(agent)
  agent.train_rollout(_rollout(agent))
  _assert_equal(target, [v.numpy() for v in agent.rnd.target.variables])
  for old, new in zip(before, _weights(agent)):
    assert np.abs(old - new).max() > 1e-3
  trained = {v.ref() for v in agent.trained_variables}
  assert not trained & {v.ref() for v in agent.rnd.target.variables}
  assert trained == {
      v.ref() for v in
      agent.actor_critic_net.variables + agent.rnd.predictor.variables
  }
  items = agent.checkpoint_items()
  assert items['target'] is agent.rnd.target
  assert items['predictor'] is agent.rnd.predictor


def test_checkpoint_holds_all_that_an_update_needs(eager, tmp_path):
  """Saved, restored into another agent, both go on alike."""
  def build(seed):
    return _agent(
        seed, optimizer=tf.keras.optimizers.Adam(.01), generator_seed=seed,
        numbers=dict(predictor_proportion=.5), num_minibatches=2,
        shuffle_minibatches=True, num_epochs=2,
    )

  old, new = build(0), build(1)
  rollout = _rollout(old)
  old.train_rollout(rollout)
  path = tf.train.Checkpoint(**old.checkpoint_items()).save(
      str(tmp_path / 'c')
  )
  new.rnd.return_normalizer.build(4)
  tf.train.Checkpoint(**new.checkpoint_items()).restore(path).assert_consumed()
  infos = [agent.train_rollout(rollout) for agent in (old, new)]
  _assert_equal(_weights(old), _weights(new))
  _assert_equal(*(tf.nest.flatten(info) for info in infos))
  assert new.train_step_counter.numpy() == 8


def test_nan_gradients_leave_the_weights_and_are_reported(mode):
  agent = _agent(optimizer=tf.keras.optimizers.Adam(.1), num_epochs=2)
  rollout = _rollout(agent)
  rewards = rollout.rewards.numpy()
  rewards[0, 0] = np.nan
  assert rollout.step_types.numpy()[0, 0] != LAST
  before = _weights(agent)
  info = agent.train_rollout(rollout._replace(rewards=tf.constant(rewards)))
  _assert_equal(before, _weights(agent))
  assert info.extra.nonfinite_updates.numpy() == 2
  # The predictor does not learn from rewards.
  predictor = {id(v) for v in agent.rnd.trained_variables}
  counts = {
      id(v): count for v, count in zip(
          agent.trained_variables, info.extra.nonfinite_gradients.numpy(),
          strict=True,
      )
  }
  assert {counts[v] for v in predictor} == {0}
  assert {counts[v] for v in counts.keys() - predictor} >= {2}
  assert agent._optimizer.iterations.numpy() == 0
  info = agent.train_rollout(rollout)
  assert info.extra.nonfinite_updates.numpy() == 0
  assert not info.extra.nonfinite_gradients.numpy().any()
  assert any(
      np.abs(a - b).max() > 0 for a, b in zip(before, _weights(agent))
  )


def test_one_bad_minibatch_does_not_stop_the_others(eager):
  """The environments 0 and 1 are the first minibatch."""
  agent = _agent(num_minibatches=2)
  rollout = _rollout(agent)
  rewards = rollout.rewards.numpy()
  rewards[0, 0] = np.inf
  before = _weights(agent)
  info = agent.train_rollout(rollout._replace(rewards=tf.constant(rewards)))
  assert info.extra.nonfinite_updates.numpy() == 1
  weights = _weights(agent)
  assert all(np.isfinite(w).all() for w in weights)
  assert any(np.abs(a - b).max() > 0 for a, b in zip(before, weights))


def test_gradients_are_clipped_by_their_global_norm(eager):
  """A step of SGD with rate 1 is as long as the clipped gradient."""
  lengths = []
  for clipping in (0.0, .01):
    agent = _agent(gradient_clipping=clipping)
    rollout = _rollout(agent)
    before = _weights(agent)
    info = agent.train_rollout(rollout)
    lengths.append(np.sqrt(sum(
        ((a - b) ** 2).sum() for a, b in zip(before, _weights(agent))
    )))
  assert lengths[0] > .1
  assert info.extra.gradient_norm.numpy() == pytest.approx(
      lengths[0], rel=1e-3
  )
  assert lengths[1] == pytest.approx(.01, rel=1e-3)


def test_loss_is_the_sum_of_its_parts_without_penalties(eager):
  """Trap 6: no KL penalty and no cutoff, however far the policy has moved."""
  agent = _agent()
  rollout = _rollout(agent)
  logits = rollout.dist_params['logits'] * -20
  info = agent.train_rollout(
      rollout._replace(dist_params={'logits': logits})
  )
  extra = info.extra
  assert extra.approx_kl.numpy() > 1
  np.testing.assert_allclose(
      info.loss,
      extra.policy_gradient_loss + extra.value_loss_ext + extra.value_loss_int
      + extra.predictor_loss - .001 * extra.entropy, rtol=1e-5,
  )


def test_value_clipping_of_the_config(eager):
  """A change beyond the bound is charged as the bound's or its own error."""
  losses = []
  for clipping in (0.0, .05):
    agent = builders.build_agent(
        TIME_STEP, ACTION, num_epochs=1, num_minibatches=1,
        ppo_config=config.PPOConfig(value_clipping=clipping),
        rnd_config=config.RNDConfig(
            intrinsic_coefficient=0.0, extrinsic_coefficient=1.0
        ),
    )
    rollout = _rollout(agent)
    # Old values far below what the heads give now: clipping holds these down.
    rollout = rollout._replace(values_ext=rollout.values_ext - 3.0)
    targets = rollout_lib.Targets(
        rollout.rewards, tf.zeros([4, 6]), tf.zeros([4, 6]), rollout.mask
    )
    losses.append(agent.learn(rollout, targets).extra.value_loss_ext.numpy())
  # The heads give about 0, which is right, and are charged 3 - .05 off.
  np.testing.assert_allclose(losses, [0, .5 * 2.95**2], atol=.1)


# ------------------------------------------------- minibatches, micro-batches


@pytest.mark.parametrize('size', [1, 12, 18, 1000])
def test_micro_batch_size_changes_nothing(eager, size):
  """8 environments x 6 steps in 2 minibatches; all real steps count."""
  results = []
  for micro_batch_size in (24, size):
    agent = _agent(
        num_minibatches=2, optimizer=tf.keras.optimizers.SGD(.01),
        compute_config=config.ComputeConfig(
            micro_batch_size=micro_batch_size
        ),
    )
    info = agent.train_rollout(_rollout(agent, 8, batch=8))
    results.append((_weights(agent), tf.nest.flatten(info)))
  _assert_equal(results[0][0], results[1][0], atol=1e-6)
  _assert_equal(results[0][1], results[1][1], rtol=2e-5, atol=1e-6)


def test_minibatches_are_steps_one_after_the_other(eager):
  """Two minibatches equal two agents' worth of separate updates."""
  together = _agent(num_minibatches=2)
  rollout = _rollout(together, 9)
  targets = rollout_lib.Targets(
      rollout.rewards, rollout.rewards * 2, rollout.rewards * 3, rollout.mask
  )
  together.learn(rollout, targets)
  alone = _agent()
  for part in (slice(0, 2), slice(2, 4)):
    half, half_targets = tf.nest.map_structure(
        lambda x, part=part: x[part], (rollout, targets)
    )
    alone.learn(half, half_targets)
  _assert_equal(_weights(together), _weights(alone), atol=1e-6)


def test_environments_that_cannot_be_dealt_are_one_clear_line():
  agent = _agent(num_minibatches=3)
  with pytest.raises(ValueError) as info:
    agent.train_rollout(_rollout(agent))
  message, *rest = str(info.value).splitlines()
  assert '4 environments' in message and '3 minibatches' in message
  assert not rest


# ------------------------------------------------------------ without bonus


def test_no_bonus_is_plain_ppo(eager):
  agent = _agent(**PLAIN)
  rollout = _rollout(agent)
  np.testing.assert_array_equal(
      agent.intrinsic_bonuses(rollout), tf.zeros([4, 6])
  )
  info = agent.train_rollout(rollout)
  assert info.extra.predictor_loss.numpy() == 0
  assert info.extra.value_loss_int.numpy() == 0
  assert 'predictor' not in agent.checkpoint_items()


def test_coefficient_zero_equals_no_bonus(eager):
  """With networks that share nothing: policy and extrinsic value alike."""
  common = dict(
      PLAIN, num_epochs=2, num_minibatches=2, entropy_regularization=.001,
      value_pred_loss_coef=.5, compute_value_and_advantage_in_train=False,
  )
  results, infos = [], []
  for bonus in (True, False):
    nets = _own_networks(4)
    if not bonus:
      del nets['intrinsic_value_net']
    agent = _agent(
        nets=nets, optimizer=tf.keras.optimizers.Adam(.01),
        numbers=dict(intrinsic_coefficient=0.0, extrinsic_coefficient=1.0),
        **dict(common, bonus=bonus),
    )
    infos.append(agent.train_rollout(_rollout_of_own(agent)).extra)
    results.append([
        v.numpy() for k in ('actor_net', 'value_net')
        for v in nets[k].variables
    ])
  _assert_equal(*results, atol=1e-7)
  assert infos[0].predictor_loss.numpy() > 0
  assert infos[0].value_loss_int.numpy() > 0
  for name in ('policy_gradient_loss', 'value_loss_ext', 'entropy'):
    np.testing.assert_allclose(
        getattr(infos[0], name), getattr(infos[1], name), rtol=1e-6
    )


def _rollout_of_own(agent):
  """The logits of TF-Agents' own networks lie deeper in the info."""
  rollout = _rollout(agent, 10)
  logits = rollout.dist_params['logits']
  return rollout._replace(dist_params=tf.nest.pack_sequence_as(
      agent.collect_policy.info_spec['dist_params'], [logits]
  ))


def test_user_networks_with_a_bonus_train_all_three(eager):
  nets = _own_networks(5)
  agent = _agent(nets=nets)
  before = {k: [v.numpy() for v in n.variables] for k, n in nets.items()}
  agent.train_rollout(_rollout_of_own(agent))
  for name, net in nets.items():
    assert any(
        np.abs(a - b).max() > 1e-6 for a, b in zip(before[name], net.variables)
    ), name


# -------------------------------------------------- bindings, seeds, sampling


def test_bindings_of_ppo_agent_do_not_leak():
  """gin fills whatever a caller leaves out, the base class's arguments too."""
  with gin.unlock_config():
    gin.bind_parameter('PPOAgent.discount_factor', .5)
    gin.bind_parameter('PPOAgent.importance_ratio_clipping', .7)
  try:
    agent = _agent()
  finally:
    gin.clear_config()
  targets = agent.make_targets(*_golden_rollout('compact'))
  np.testing.assert_allclose(
      targets.advantages, [[10.918889, 10.21968, 7.327646, 4.29]], atol=1e-5
  )
  assert agent._importance_ratio_clipping == .1


def test_an_argument_that_does_not_exist_is_refused():
  with pytest.raises(TypeError, match='discont_factor'):
    _agent(discont_factor=.9)


def test_equal_seeds_train_identically(mode):
  """Subsets and minibatches are random here, and the actions' sampling too."""
  results = []
  for seeds in ((0, 0), (0, 0), (0, 1)):
    agent = _agent(
        seeds[0], generator_seed=seeds[1], num_epochs=2, num_minibatches=2,
        shuffle_minibatches=True, numbers=dict(predictor_proportion=.5),
        optimizer=tf.keras.optimizers.Adam(.01),
    )
    rollout = _rollout(agent)
    for _ in range(2):
      agent.train_rollout(rollout)
    results.append(_weights(agent))
  _assert_equal(results[0], results[1])
  assert any(
      np.abs(a - b).max() > 1e-6 for a, b in zip(results[0], results[2])
  )


@pytest.mark.parametrize('spec', [ACTION, CONTINUOUS, {'a': ACTION,
                                                       'b': CONTINUOUS}])
def test_actions_follow_the_generator(mode, spec):
  """The same state of the generator, the same actions; then others."""
  agent = _agent(**PLAIN, action=spec)
  time_step = ts.restart(tf.random.stateless_normal([50, 3], [1, 2]), 50)
  state = agent._generator.state.numpy()

  def act():
    actions = agent.collect_policy.action(time_step).action
    return np.concatenate([
        np.reshape(x, [-1]) for x in tf.nest.flatten(actions)
    ])

  first, second = act(), act()
  agent._generator.state.assign(state)
  tf.random.set_seed(77)  # of no influence
  np.testing.assert_array_equal(act(), first)
  np.testing.assert_array_equal(act(), second)
  assert (first != second).any()


def test_equal_branches_of_a_nested_action_are_drawn_apart(eager):
  agent = _agent(**PLAIN, action=(CONTINUOUS, CONTINUOUS))
  time_step = ts.restart(tf.zeros([50, 3]), 50)
  first, second = agent.collect_policy.action(time_step).action
  correlation = np.corrcoef(first[:, 0], second[:, 0])[0, 1]
  assert abs(correlation) < .5


def test_actions_follow_the_distribution(eager):
  agent = _agent(**PLAIN)
  time_step = ts.restart(tf.ones([20000, 3]), 20000)
  step = agent.collect_policy.action(time_step)
  shares = np.bincount(step.action.numpy(), minlength=4) / 20000
  probabilities = tf.nn.softmax(step.info['dist_params']['logits'][0]).numpy()
  np.testing.assert_allclose(shares, probabilities, atol=.02)


def test_greedy_policy_takes_the_mode(eager):
  agent = _agent(**PLAIN)
  observation = tf.random.stateless_normal([30, 3], [3, 4])
  step = agent.policy.action(ts.restart(observation, 30))
  logits = agent.actor_critic_net(observation)[0][0].logits
  np.testing.assert_array_equal(step.action, np.argmax(logits, axis=1))


# ------------------------------------------------------------- host's options


def test_host_normalizers_are_updated_by_training(eager):
  """An option of the host's must work or be refused, not half work."""
  agent = _agent(**dict(PLAIN, normalize_rewards=True,
                        normalize_observations=True))
  rollout = _rollout(agent)
  agent.train_rollout(rollout)
  for normalizer in (agent._reward_normalizer, agent._observation_normalizer):
    assert np.all(tf.nest.flatten(normalizer.variables)[0].numpy() > 1)


@pytest.mark.parametrize('name', [
    'policy_l2_reg', 'value_function_l2_reg', 'initial_adaptive_kl_beta',
])
def test_host_penalties_are_not_dropped_in_silence(eager, name):
  """As above: the argument acts, or the agent refuses it."""
  results = []
  for value in (0.0, 10.0):
    try:
      agent = _agent(
          nets=_own_networks(6, intrinsic=False),
          **dict(PLAIN, **{name: value}),
      )
    except ValueError:
      return
    rollout = _rollout_of_own(agent)
    shifted = tf.nest.map_structure(
        lambda x: x + tf.constant([0.0, 1, 2, 0]), rollout.dist_params
    )
    info = agent.train_rollout(rollout._replace(dist_params=shifted))
    results.append(info.loss.numpy())
  assert results[0] != results[1]


def test_host_adaptive_kl_beta_adapts(eager):
  """The host multiplies it by 1.5 when the policy has moved too far."""
  agent = _agent(
      nets=_own_networks(7, intrinsic=False),
      **dict(PLAIN, initial_adaptive_kl_beta=1.0, adaptive_kl_target=.01),
  )
  rollout = _rollout_of_own(agent)
  far = tf.nest.map_structure(
      lambda x: x + tf.constant([0.0, 3, 6, 0]), rollout.dist_params
  )
  agent.train_rollout(rollout._replace(dist_params=far))
  np.testing.assert_allclose(agent._adaptive_kl_beta, 1.5)


def test_the_predictors_subset_is_of_real_steps_and_drawn_anew(
    monkeypatch, eager
):
  drawn, masks = [], []
  random_subset = updates.random_subset

  def recorded(mask, proportion, generator):
    assert proportion == .25
    subset = random_subset(mask, proportion, generator)
    masks.append(mask.numpy())
    drawn.append(tuple(subset.numpy()))
    return subset

  monkeypatch.setattr(updates, 'random_subset', recorded)
  agent = _agent(
      numbers=dict(predictor_proportion=.25), num_epochs=4, num_minibatches=2
  )
  rollout = _rollout(agent, length=16)
  agent.train_rollout(rollout)
  assert len(drawn) == 8
  for minibatch in (0, 1):
    assert len({frozenset(x) for x in drawn[minibatch::2]}) == 4
    expected = rollout.steps.outcome_mask('reset').numpy()
    expected = expected.reshape([2, -1])[minibatch]
    assert 0 < expected.sum() < expected.size
    np.testing.assert_array_equal(masks[minibatch], expected)
    for subset in drawn[minibatch::2]:
      assert expected[list(subset)].all()


def test_the_learners_hook_takes_the_bonus_before_the_statistics(eager):
  agent = _agent()
  rng = np.random.default_rng(0)

  def observations(location):
    return tf.constant(rng.normal(location, 1, [4, 7, 3]), tf.float32)

  agent.update_observation_normalizer(observations(0))
  shifted = observations(2)
  bonus = agent.rnd.bonus(shifted[:, 1:])
  expected = agent.rnd.normalized_after_update(
      rollout_lib.Steps.of_observations(shifted), bonus
  )
  agent.update_observation_normalizer(shifted)
  np.testing.assert_allclose(
      agent.rnd.return_normalizer.normalized(bonus), expected, rtol=1e-5
  )
  assert np.abs(agent.rnd.bonus(shifted[:, 1:]) - bonus).max() > 1e-3


@pytest.mark.parametrize('configs, attribute, value', [
    (dict(ppo=dict(gae_lambda=.7)), '_lambda', .7),
    (dict(ppo=dict(importance_ratio_clipping=.3)),
     '_importance_ratio_clipping', .3),
    (dict(ppo=dict(entropy_regularization=.02)),
     '_entropy_regularization', .02),
    (dict(ppo=dict(value_loss_coefficient=.25)), '_value_pred_loss_coef', .25),
    (dict(ppo=dict(value_clipping=.6)), '_value_clipping', .6),
    (dict(ppo=dict(gradient_clipping=.4)), '_gradient_clipping', .4),
    (dict(ppo=dict(normalize_advantages=True)), '_normalize_advantages', True),
    (dict(ppo=dict(shuffle_minibatches=True)), '_update._numbers.shuffle',
     True),
    (dict(ppo=dict(sequence_length=8)), '_sequence_length', 8),
    (dict(rnd=dict(discount_ext=.9)), '_discount_factor', .9),
    (dict(), '_use_gae', True),
    (dict(), '_kl_cutoff_factor', 0.0),
])
def test_every_number_of_a_config_reaches_the_agent(configs, attribute, value):
  agent = builders.build_agent(
      TIME_STEP, ACTION, num_epochs=1, num_minibatches=1,
      ppo_config=config.PPOConfig(**configs.get('ppo', {})),
      rnd_config=config.RNDConfig(**configs.get('rnd', {})),
  )
  assert operator.attrgetter(attribute)(agent) == value
