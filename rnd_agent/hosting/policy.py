"""The agent's policy: one forward pass gives actions and both values."""

from __future__ import annotations

from typing import Optional

import gin
import tensorflow as tf
import tensorflow_probability as tfp
from tf_agents.agents.ppo import ppo_policy
from tf_agents.agents.ppo import ppo_utils
from tf_agents.networks import network
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import policy_step

INTRINSIC_VALUE = 'intrinsic_value_prediction'
CORE_STATE = 'core_state'


def with_uniform(
    distribution: tfp.distributions.Distribution, epsilon: float
) -> tfp.distributions.Distribution:
  """(1 - epsilon) p + epsilon u, u uniform over the choices.

  Args:
    distribution: `Categorical`, or an `Independent` one over several.
    epsilon: weight of u, [0, 1).

  Returns:
    A distribution of the same kind. Of several choices each is mixed on its
    own.

  Raises:
    ValueError: for another kind.
  """
  if isinstance(distribution, tfp.distributions.Independent):
    return distribution.copy(
        distribution=with_uniform(distribution.distribution, epsilon)
    )
  if not isinstance(distribution, tfp.distributions.Categorical):
    raise ValueError(
        'epsilon_greedy needs a Categorical distribution for every action, got '
        f'{type(distribution).__name__}.'
    )
  probabilities = distribution.probs_parameter()
  uniform = 1.0 / probabilities.shape[-1]
  mixed = (1.0 - epsilon) * probabilities + epsilon * uniform
  # The same parameter as was given: the policy info is made of it.
  if distribution.logits is None:
    return distribution.copy(probs=mixed)
  return distribution.copy(logits=tf.math.log(mixed))


def _check_epsilon(epsilon: float, action_spec) -> None:
  """Raises ValueError for an epsilon that cannot be had."""
  if not 0 <= epsilon < 1:
    raise ValueError(f'epsilon_greedy = {epsilon}: must lie in [0, 1).')
  if epsilon and not all(map(
      tensor_spec.is_discrete, tf.nest.flatten(action_spec)
  )):
    raise ValueError(
        f'PPOConfig.epsilon_greedy = {epsilon} needs discrete actions; a '
        'continuous policy explores by its own deviation: set it to 0.'
    )


@gin.configurable(module='rnd_agent')
class RNDPPOPolicy(ppo_policy.PPOPolicy):
  """A `PPOPolicy` over a joint network.

  Deviation from the base class: policy and values come from one call of the
  joint network instead of two networks' calls; the policy info holds
  `intrinsic_value_prediction` beside `value_prediction`, and the recurrent
  core's state before the step, from which training starts (the host starts
  from zeros); actions are sampled from a generator that can be saved, so that a
  run can be resumed exactly.

  With `epsilon_greedy` the collect policy is the mixture of the network's
  policy and a uniform one, which is to act at random with that probability.
  Deviation from epsilon-greedy collection as Chainer RL-RND has it: the mixture
  is what is recorded, and what `evaluate` gives in training, so that PPO's
  ratio, entropy and KL are those of the policy that acts: ratio 1 before the
  first update, and no exploding ratio of a random action that the network's
  policy would hardly take.
  """

  def __init__(
      self,
      time_step_spec,
      action_spec,
      actor_critic_net: network.Network,
      observation_normalizer=None,
      clip: bool = False,
      collect: bool = True,
      values_in_info: bool = True,
      intrinsic_value: bool = True,
      generator: Optional[tf.random.Generator] = None,
      epsilon_greedy: float = 0.0,
  ):
    """Builds the policy.

    Args:
      time_step_spec: nest of TensorSpec.
      action_spec: nest of BoundedTensorSpec.
      actor_critic_net: gives `((distribution, value_ext, value_int), state)`
        and has `actor_view` and `value_view`.
      observation_normalizer: of PPO's own, applied before the network.
      clip: whether continuous actions are clipped to their spec; not in
        collection, where the probability of what was sampled counts.
      collect: whether the policy info holds what training needs.
      values_in_info: whether that includes the values; if not, they are
        computed in training.
      intrinsic_value: whether the values include the intrinsic stream's.
      generator: source of the sampled actions; None: TensorFlow's global one.
      epsilon_greedy: share of uniformly random actions, [0, 1), in collection;
        for discrete actions.

    Raises:
      ValueError: `epsilon_greedy` is no such share, or an action is continuous.
    """
    _check_epsilon(epsilon_greedy, action_spec)
    self._epsilon_greedy = epsilon_greedy if collect else 0.0
    self._joint_net = actor_critic_net
    self._generator = generator
    self._values_in_info = collect and values_in_info
    self._intrinsic_value = self._values_in_info and intrinsic_value
    super().__init__(
        time_step_spec,
        action_spec,
        actor_critic_net.actor_view,
        actor_critic_net.value_view,
        observation_normalizer=observation_normalizer,
        clip=clip,
        collect=collect,
        compute_value_and_advantage_in_train=not values_in_info,
    )
    if self._intrinsic_value:
      self._info_spec = dict(self._info_spec)
      self._info_spec[INTRINSIC_VALUE] = tensor_spec.TensorSpec(
          [], tf.float32, name=INTRINSIC_VALUE
      )
    # Users' own networks keep the host's policy info.
    self._state_in_info = collect and bool(actor_critic_net.state_spec) and (
        getattr(actor_critic_net, 'state_in_info', True)
    )
    if self._state_in_info:
      self._info_spec = dict(self._info_spec)
      self._info_spec[CORE_STATE] = actor_critic_net.state_spec
    self._policy_state_spec = actor_critic_net.state_spec
    self._setup_specs()

  def evaluate(self, observation, step_type, network_state, training=False):
    """Policy and both values in one pass.

    Args:
      observation: `[B, ...]` or `[B, T, ...]`.
      step_type: int32 `[B]` or `[B, T]`.
      network_state: of the joint network, `[B, ...]`, or ().
      training: passed on to the network.

    Returns:
      `((distribution, value_ext, value_int), next network state)`.
    """
    if self._observation_normalizer:
      observation = self._observation_normalizer.normalize(observation)
    outputs, network_state = self._joint_net(
        observation, step_type, network_state, training=training
    )
    if self._epsilon_greedy:
      distribution, *values = outputs
      mixed = tf.nest.map_structure(
          lambda d: with_uniform(d, self._epsilon_greedy), distribution
      )
      outputs = (mixed, *values)
    return outputs, network_state

  def _variables(self):
    variables = list(self._joint_net.variables)
    if self._observation_normalizer:
      variables += tf.nest.flatten(self._observation_normalizer.variables)
    return variables

  def _distribution(self, time_step, policy_state, training=False):
    (distribution, value_ext, value_int), next_state = self.evaluate(
        time_step.observation, time_step.step_type, policy_state, training
    )
    info = ()
    if self._collect:
      info = {
          'dist_params': ppo_utils.get_distribution_params(
              distribution,
              legacy_distribution_network=isinstance(
                  self._actor_network, network.DistributionNetwork
              ),
          )
      }
    if self._values_in_info:
      info['value_prediction'] = value_ext
    if self._intrinsic_value:
      info[INTRINSIC_VALUE] = value_int
    if self._state_in_info:
      info[CORE_STATE] = policy_state
    return policy_step.PolicyStep(distribution, next_state, info)

  def _action(self, time_step, policy_state, seed=None):
    if self._generator is None or seed is not None:
      return super()._action(time_step, policy_state, seed)
    step = self._distribution(time_step, policy_state)
    distributions = tf.nest.flatten(step.action)
    # [2, n] int64 seeds; the sampler takes two int32.
    seeds = self._generator.make_seeds(len(distributions))
    actions = [
        d.sample(seed=tf.bitcast(seeds[0, i], tf.int32))
        for i, d in enumerate(distributions)
    ]
    return step._replace(
        action=tf.nest.pack_sequence_as(self._action_spec, actions)
    )
