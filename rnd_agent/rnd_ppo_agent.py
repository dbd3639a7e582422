"""Proximal Policy Optimization with Random Network Distillation.

`RNDPPOAgent` is a TF-Agents `PPOAgent`. One iteration is a sentence: *reward,
update statistics, make targets, learn*; `train_rollout` reads like it, and the
stages are public for those who want to time or change one.

Equations: Burda et al. 2018 (arXiv 1810.12894) for the bonus and the two
reward streams, Schulman et al. 2017 (1707.06347) for PPO.
"""

from __future__ import annotations

import collections
import inspect
from typing import Optional

import gin
import tensorflow as tf
from tf_agents.agents import data_converter
from tf_agents.agents import tf_agent
from tf_agents.agents.ppo import ppo_agent
from tf_agents.agents.ppo import ppo_utils
from tf_agents.networks import network
from tf_agents.policies import greedy_policy
from tf_agents.utils import common

from rnd_agent import config as config_lib
from rnd_agent import losses
from rnd_agent import networks
from rnd_agent import returns
from rnd_agent import rnd as rnd_lib
from rnd_agent import rnd_ppo_policy
from rnd_agent import rollout as rollout_lib
from rnd_agent import updates

RNDPPOLossInfo = collections.namedtuple(
    'RNDPPOLossInfo',
    (
        'policy_gradient_loss',
        'value_loss_ext',
        'value_loss_int',
        'entropy',
        'predictor_loss',
        'l2_regularization_loss',
        'kl_penalty_loss',
        'approx_kl',
        'clip_fraction',
        'gradient_norm',
        'nonfinite_updates',
    ),
)

# What the paper sets where the host's defaults differ; used for arguments that
# are not given when there is a bonus.
_PAPER_ARGUMENTS = dict(
    importance_ratio_clipping=0.1,
    lambda_value=0.95,
    entropy_regularization=0.001,
    value_pred_loss_coef=0.5,
    num_epochs=4,
    use_gae=True,
    use_td_lambda_return=True,
    normalize_rewards=False,
    normalize_observations=False,
    kl_cutoff_factor=0.0,
    initial_adaptive_kl_beta=0.0,
    compute_value_and_advantage_in_train=False,
)


def _host_arguments(args, kwargs, defaults) -> dict:
  """All of `PPOAgent`'s arguments by name: given, else ours, else the host's.

  Everything is passed on explicitly: a gin binding on `PPOAgent` would
  otherwise leak into this class.
  """
  signature = inspect.signature(inspect.unwrap(ppo_agent.PPOAgent.__init__))
  bound = signature.bind_partial(None, *args, **kwargs)
  given = dict(bound.arguments)
  bound.apply_defaults()
  arguments = {**bound.arguments, **defaults, **given}
  arguments.pop('self')
  return arguments


@gin.configurable(module='rnd_agent', denylist=['time_step_spec', 'action_spec'])
class RNDPPOAgent(ppo_agent.PPOAgent):
  """PPO with an intrinsic reward stream of its own value head and discount.

  Positional arguments and keywords of `PPOAgent` keep their order and
  meaning. Where there is a bonus, those not given take the paper's values.

  Deviations from `PPOAgent`, each a fault or a limit of the host:

  * the bootstrap is V(o_T), not V(o_{T-1}); truncated episodes bootstrap from
    V(o_LAST) (the host treats them as terminated);
  * boundary rows are masked by their step type, in every loss, statistic and
    scan, and means are over real steps only;
  * advantages are not normalized unless `normalize_advantages`;
  * minibatches of whole environments inside `train`;
  * `train_step_counter` counts optimizer steps.
  """

  def __init__(
      self,
      time_step_spec,
      action_spec,
      *args,
      actor_critic_net: Optional[network.Network] = None,
      intrinsic_value_net: Optional[network.Network] = None,
      rnd: Optional[rnd_lib.RandomNetworkDistillation] = None,
      rnd_config: Optional[config_lib.RNDConfig] = None,
      num_minibatches: int = 1,
      micro_batch_size: int = 256,
      normalize_advantages: bool = False,
      shuffle_minibatches: bool = False,
      generator: Optional[tf.random.Generator] = None,
      **kwargs,
  ):
    """Builds policies and updates around one joint network.

    Args:
      time_step_spec: nest of TensorSpec.
      action_spec: nest of BoundedTensorSpec.
      *args: further positional arguments of `PPOAgent`: `optimizer`,
        `actor_net`, `value_net`, ...
      actor_critic_net: joint network, such as `ActorCriticNetwork`; otherwise
        `actor_net` and `value_net` are taken, which need not share anything.
      intrinsic_value_net: scalar network for the intrinsic value, beside
        `actor_net` and `value_net`; needed there when `rnd` is given.
      rnd: the bonus; None leaves a correct plain PPO.
      rnd_config: coefficients and discounts; defaults to those of `rnd`.
      num_minibatches: parts into which the environments are dealt.
      micro_batch_size: steps per forward and backward pass at most; changes
        speed and memory, not the result.
      normalize_advantages: over the real steps of the rollout.
      shuffle_minibatches: deal the environments anew in every epoch.
      generator: source of sampled actions, subsets and minibatches; by default
        one seeded by the system.
      **kwargs: further arguments of `PPOAgent`.

    Raises:
      ValueError: for networks that are missing or given twice.
    """
    self._rnd = rnd
    self._rnd_config = rnd_config or (
        rnd.config if rnd
        else config_lib.RNDConfig(
            intrinsic_coefficient=0.0, extrinsic_coefficient=1.0
        )
    )
    defaults = {}
    if rnd is not None:
      defaults = dict(
          _PAPER_ARGUMENTS, discount_factor=self._rnd_config.discount_ext
      )
    arguments = _host_arguments(
        (time_step_spec, action_spec) + args, kwargs, defaults
    )
    self._joint_net = _joint_network(
        arguments, actor_critic_net, intrinsic_value_net, rnd
    )
    self._joint_net.create_variables(time_step_spec.observation)
    arguments['actor_net'] = self._joint_net.actor_view
    arguments['value_net'] = self._joint_net.value_view
    self._num_minibatches = num_minibatches
    self._micro_batch_size = micro_batch_size
    self._normalize_advantages = normalize_advantages
    self._shuffle_minibatches = shuffle_minibatches
    self._generator = (
        generator or tf.random.Generator.from_non_deterministic_state()
    )
    super().__init__(**arguments)
    self._build_policies(arguments['greedy_eval'])
    variables = self.trained_variables
    if isinstance(self._optimizer, tf.keras.optimizers.Optimizer):
      # Slots in structural order: Keras stores them by index.
      self._optimizer.build(variables)
    self._learn_compiled = common.function(self._learn)
    self._bonus_compiled = common.function(self._bonus)
    self._statistics_compiled = common.function(self._update_statistics)
    self._targets_compiled = common.function(self._make_targets)

  def _build_policies(self, greedy_eval: bool) -> None:
    """Replaces the host's two policies by ours, specs and converters too."""
    def policy(collect):
      return rnd_ppo_policy.RNDPPOPolicy(
          self._time_step_spec,
          self._action_spec,
          self._joint_net,
          observation_normalizer=self._observation_normalizer,
          collect=collect,
          values_in_info=not self._compute_value_and_advantage_in_train,
          generator=self._generator,
      )
    evaluation_policy = policy(collect=False)
    self._sampling_policy = evaluation_policy
    if greedy_eval:
      evaluation_policy = greedy_policy.GreedyPolicy(evaluation_policy)
    tf_agent.TFAgent.__init__(
        self,
        self._time_step_spec,
        self._action_spec,
        evaluation_policy,
        policy(collect=True),
        train_sequence_length=None,
        debug_summaries=self._debug_summaries,
        summarize_grads_and_vars=self._summarize_grads_and_vars,
        train_step_counter=self._train_step_counter,
    )
    self._collected_as_transition = data_converter.AsTransition(
        self.collect_data_context, squeeze_time_dim=False
    )
    self._as_trajectory = data_converter.AsTrajectory(
        self.data_context, sequence_length=None
    )

  # ---------------------------------------------------------------- parts

  @property
  def rnd(self) -> Optional[rnd_lib.RandomNetworkDistillation]:
    """The bonus, or None."""
    return self._rnd

  @property
  def rnd_config(self) -> config_lib.RNDConfig:
    return self._rnd_config

  @property
  def actor_critic_net(self) -> network.Network:
    """The joint network."""
    return self._joint_net

  @property
  def sampling_policy(self):
    """The evaluation policy with sampled instead of greedy actions."""
    return self._sampling_policy

  @property
  def trained_variables(self) -> list[tf.Variable]:
    """What the optimizer changes, in structural order; never the target."""
    variables = list(self._joint_net.trainable_variables)
    if self._rnd is not None:
      variables += self._rnd.trained_variables
    return variables

  def checkpoint_items(self) -> dict:
    """Everything a checkpoint must hold of the agent, by name."""
    items = dict(
        actor_critic=self._joint_net,
        optimizer=self._optimizer,
        generator=self._generator,
        train_step=self.train_step_counter,
    )
    if self._rnd is not None:
      items.update(
          predictor=self._rnd.predictor,
          target=self._rnd.target,
          rnd_observations=self._rnd.observation_normalizer,
          rnd_returns=self._rnd.return_normalizer,
      )
    if self._observation_normalizer is not None:
      items['observation_normalizer'] = self._observation_normalizer
    if self._reward_normalizer is not None:
      items['reward_normalizer'] = self._reward_normalizer
    if self._adaptive_kl_beta is not None:
      items['adaptive_kl_beta'] = self._adaptive_kl_beta
    return items

  # ------------------------------------------------------- one iteration

  def train_rollout(self, rollout: rollout_lib.Rollout) -> tf_agent.LossInfo:
    """One iteration on a rollout: reward, update statistics, targets, learn.

    Args:
      rollout: B environments, T steps; B divisible by `num_minibatches`.

    Returns:
      `LossInfo(loss, RNDPPOLossInfo)`, scalars, means over all updates.
    """
    bonuses = self.intrinsic_bonuses(rollout)
    rewards_int = self.update_statistics(rollout, bonuses)
    targets = self.make_targets(rollout, rewards_int)
    return self.learn(rollout, targets)

  def intrinsic_bonuses(self, rollout: rollout_lib.Rollout) -> tf.Tensor:
    """Raw bonuses of o_1 ... o_T, old statistics; float32 `[B, T]`."""
    return self._bonus_compiled(rollout)

  def update_statistics(self, rollout, bonuses) -> tf.Tensor:
    """Updates both running statistics; normalized rewards `[B, T]`.

    Args:
      rollout: the rollout.
      bonuses: float32 `[B, T]`, of `intrinsic_bonuses`.

    Returns:
      Intrinsic rewards of the steps, float32 `[B, T]`, 0 in boundary rows.
    """
    return self._statistics_compiled(rollout, bonuses)

  def make_targets(self, rollout, rewards_int) -> rollout_lib.Targets:
    """Advantages and returns of both streams (paper, section 2.3).

    Args:
      rollout: the rollout.
      rewards_int: float32 `[B, T]`, of `update_statistics`.

    Returns:
      `Targets`, float32 `[B, T]`.
    """
    return self._targets_compiled(rollout, rewards_int)

  def learn(self, rollout, targets) -> tf_agent.LossInfo:
    """Epochs x minibatches on a rollout; counts one step per minibatch."""
    return self._learn_compiled(rollout, targets)

  def _bonus(self, rollout):
    if self._rnd is None:
      return tf.zeros_like(rollout.rewards)
    return self._rnd.bonus(rollout.next_observations())

  def _update_statistics(self, rollout, bonuses):
    if self._rnd is None:
      return tf.zeros_like(rollout.rewards)
    bonus_at_end = self._rnd_config.bonus_at_end
    self._rnd.update_observation_statistics(
        rollout.next_observations(), rollout.next_mask(bonus_at_end)
    )
    return self._rnd.normalize_rewards(
        rollout.bonuses_of_steps(bonuses, bonus_at_end), rollout.boundaries
    )

  def _make_targets(self, rollout, rewards_int):
    rewards_ext = rollout.rewards
    if self._reward_normalizer is not None:
      rewards_ext = self._reward_normalizer.normalize(
          rewards_ext, center_mean=False, clip_value=self._reward_norm_clipping
      )
    boundaries, ends = rollout.boundaries, rollout.ends
    advantage_lambda = self._lambda if self._use_gae else 1.0

    def stream(rewards, discounts, values, cuts, end_values):
      def advantages(gae_lambda):
        return returns.generalized_advantages(
            rewards, discounts, values, cuts, end_values, boundaries,
            gae_lambda,
        )
      advantage = advantages(advantage_lambda)
      target = advantage if self._use_td_lambda_return else advantages(1.0)
      return advantage, target + values[:, :-1]

    advantages_ext, returns_ext = stream(
        rewards_ext,
        rollout.discounts * self._discount_factor,
        rollout.values_ext,
        ends,
        rollout.end_values_ext,
    )
    config = self._rnd_config
    advantages_int, returns_int = stream(
        rewards_int,
        tf.fill(tf.shape(rewards_int), config.discount_int),
        rollout.values_int,
        ends if config.episodic_intrinsic else tf.zeros_like(ends),
        tf.zeros_like(rewards_int),
    )
    combined = (
        config.extrinsic_coefficient * advantages_ext
        + config.intrinsic_coefficient * advantages_int
    )
    if self._normalize_advantages:
      combined = _normalized(combined, rollout.mask)
    return rollout_lib.Targets(
        combined, returns_ext, returns_int, rollout.mask
    )

  # -------------------------------------------------------------- update

  def _training_batch(self, rollout, targets) -> rollout_lib.TrainingBatch:
    old_distribution = ppo_utils.distribution_from_spec(
        self._action_distribution_spec,
        rollout.dist_params,
        legacy_distribution_network=isinstance(
            self._actor_net, network.DistributionNetwork
        ),
    )
    batch = rollout_lib.TrainingBatch(
        observations=rollout.observations,
        step_types=rollout.step_types,
        actions=rollout.actions,
        dist_params=rollout.dist_params,
        old_log_probs=tf.cast(common.log_probability(
            old_distribution, rollout.actions, self._action_spec
        ), tf.float32),
        old_values_ext=rollout.values_ext[:, :-1],
        old_values_int=rollout.values_int[:, :-1],
        targets=targets,
        core_states=rollout.core_states,
    )
    if self._rnd is None:
      return batch
    next_observations = rollout.next_observations()
    return batch._replace(
        selected=self._rnd.select(next_observations),
        selected_mask=rollout.next_mask(self._rnd_config.bonus_at_end),
        # Under the new statistics, once: every epoch reads them again.
        target_features=self._rnd.all_target_features(next_observations),
    )

  def _learn(self, rollout, targets):
    return self._update(self._training_batch(rollout, targets))

  def _update(self, batch: rollout_lib.TrainingBatch) -> tf_agent.LossInfo:
    """Epochs x minibatches; scalars are means over all of them."""
    order = updates.environment_order(
        batch.num_environments, self._num_epochs, self._num_minibatches,
        self._generator if self._shuffle_minibatches else None,
    )
    micro = updates.micro_batch_environments(
        order.shape[1], batch.length, self._micro_batch_size
    )
    order = tf.reshape(order, [order.shape[0], -1, micro])
    proportion = self._rnd_config.proportion_for(batch.num_environments)
    variables = self.trained_variables

    def minibatch(i):
      subsets = updates.subsets_for(
          batch, order[i], proportion, self._generator
      )
      gradients, metrics = updates.accumulate(
          self._loss, batch, order[i], subsets, variables
      )
      return {**metrics, **self._apply(gradients, variables)}

    # An optimizer that is not Keras' makes its slots at its first step, which
    # a compiled loop does not allow.
    sums = updates.summed(
        minibatch, order.shape[0],
        unroll=not isinstance(self._optimizer, tf.keras.optimizers.Optimizer),
    )
    means = {k: v / order.shape[0] for k, v in sums.items()}
    means['nonfinite_updates'] = sums['nonfinite_updates']
    return tf_agent.LossInfo(means.pop('loss'), RNDPPOLossInfo(**means))

  def _apply(self, gradients, variables) -> dict[str, tf.Tensor]:
    """One optimizer step, left out if any gradient is not finite."""
    norm = tf.linalg.global_norm(gradients)
    if self._gradient_clipping > 0:
      gradients, _ = tf.clip_by_global_norm(
          gradients, self._gradient_clipping, use_norm=norm
      )
    finite = tf.math.is_finite(norm)

    def step():
      self._optimizer.apply_gradients(zip(gradients, variables))
      return tf.constant(0.0)

    skipped = tf.cond(finite, step, lambda: tf.constant(1.0))
    self.train_step_counter.assign_add(1)
    return dict(gradient_norm=norm, nonfinite_updates=skipped)

  def _loss(self, part: updates.MicroBatch):
    """All loss terms of a micro-batch (paper, section 2; PPO, equation 9)."""
    batch, count = part.batch, part.count
    mask, length = batch.targets.mask, batch.length
    observations, step_types = tf.nest.map_structure(
        lambda x: x[:, :length], (batch.observations, batch.step_types)
    )
    (distribution, value_ext, value_int), _ = self._collect_policy.evaluate(
        observations, step_types, batch.core_states, training=True
    )
    log_probs = self._log_probs(distribution, batch.actions)

    def mean(values):
      return losses.masked_mean(values, mask, count)

    clipping = self._importance_ratio_clipping
    policy_loss = mean(losses.clipped_surrogate(
        log_probs, batch.old_log_probs, batch.targets.advantages, clipping
    ))
    value_loss_ext = self._value_pred_loss_coef * mean(losses.value_error(
        value_ext, batch.targets.returns_ext, batch.old_values_ext,
        self._value_clipping,
    ))
    value_loss_int = tf.constant(0.0)
    predictor_loss = tf.constant(0.0)
    if self._rnd is not None:
      value_loss_int = self._value_pred_loss_coef * mean(losses.value_error(
          value_int, batch.targets.returns_int, batch.old_values_int,
          self._value_clipping,
      ))
      predictor_loss = self._predictor_loss(part)
    entropy = mean(tf.cast(
        common.entropy(distribution, self._action_spec), tf.float32
    ))
    loss = (
        policy_loss + value_loss_ext + value_loss_int + predictor_loss
        - self._entropy_regularization * entropy
    )
    return loss, dict(
        loss=loss,
        policy_gradient_loss=policy_loss,
        value_loss_ext=value_loss_ext,
        value_loss_int=value_loss_int,
        entropy=entropy,
        predictor_loss=predictor_loss,
        l2_regularization_loss=tf.constant(0.0),
        kl_penalty_loss=tf.constant(0.0),
        approx_kl=mean(
            losses.approximate_kl(log_probs, batch.old_log_probs)
        ),
        clip_fraction=mean(losses.clipped_share(
            log_probs, batch.old_log_probs, clipping
        )),
    )

  def _log_probs(self, distribution, actions) -> tf.Tensor:
    log_probs = tf.cast(common.log_probability(
        distribution, actions, self._action_spec
    ), tf.float32)
    if self._log_prob_clipping > 0:
      log_probs = tf.clip_by_value(
          log_probs, -self._log_prob_clipping, self._log_prob_clipping
      )
    return log_probs

  def _predictor_loss(self, part: updates.MicroBatch) -> tf.Tensor:
    """Distillation loss on the subset, gathered before the forward pass."""
    def subset(x):
      flat = tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], axis=0))
      return tf.gather(
          tf.ensure_shape(flat, [None] + x.shape[2:].as_list()), part.subset
      )

    errors = self._rnd.loss(
        subset(part.batch.selected), subset(part.batch.target_features)
    )
    return losses.masked_mean(
        errors, subset(part.batch.selected_mask), part.subset_count
    )


def _normalized(advantages: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
  """Mean 0, standard deviation 1 over real steps; 0 elsewhere."""
  mean = losses.masked_mean(advantages, mask)
  variance = losses.masked_mean(
      tf.math.squared_difference(advantages, mean), mask
  )
  return (advantages - mean) * tf.math.rsqrt(variance + 1e-8) * mask


def _joint_network(arguments, actor_critic_net, intrinsic_value_net, rnd):
  """The joint network: the one given, or one made of the user's parts."""
  parts = [arguments.get(k) for k in ('actor_net', 'value_net')]
  if actor_critic_net is not None:
    if any(parts + [intrinsic_value_net]):
      raise ValueError(
          'Give either actor_critic_net or actor_net and value_net (with '
          'intrinsic_value_net), not both.'
      )
    return actor_critic_net
  for name, net in zip(('actor_net', 'value_net'), parts):
    if not isinstance(net, network.Network):
      raise TypeError(
          f'{name} must be an instance of a network.Network, got {net!r}; or '
          'give actor_critic_net, such as ActorCriticNetwork.'
      )
  if rnd is not None and intrinsic_value_net is None:
    raise ValueError(
        'With actor_net and value_net of your own, the bonus needs a value '
        'network for the intrinsic stream too: give intrinsic_value_net (a '
        'second ValueNetwork, say), or actor_critic_net instead of all.'
    )
  return networks.SeparateActorCritic(*parts, intrinsic_value_net)
