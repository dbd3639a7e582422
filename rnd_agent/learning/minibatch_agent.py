"""A `PPOAgent` whose update is right: real steps only, in minibatches.

The host averages over masked rows, derives its mask from returns and
advantages, and leaves minibatches to a learner that shuffles single steps.
Here an update is epochs x minibatches of whole sequences (an environment's part
of the rollout, or parts of that), in which every mean is over real steps.
`RNDPPOAgent` adds the bonus.
"""

from __future__ import annotations

import collections
from typing import Any, NamedTuple, Sequence

import tensorflow as tf
from tf_agents.agents import tf_agent
from tf_agents.agents.ppo import ppo_agent
from tf_agents.agents.ppo import ppo_utils
from tf_agents.networks import network
from tf_agents.trajectories import time_step as ts
from tf_agents.utils import common

from rnd_agent.learning import losses
from rnd_agent.learning import micro_batches as updates
from rnd_agent.learning import returns
from rnd_agent.learning import rollout as rollout_lib

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
        'nonfinite_gradients',
    ),
)


# A recurrent core takes its steps one by one: fewer, larger ones are faster.
_ROLLOUTS_PER_PART = 8


class _Outputs(NamedTuple):
  """What the networks say of a micro-batch, `[B, T, ...]`."""

  observations: Any
  step_types: tf.Tensor
  distribution: Any
  log_probs: tf.Tensor
  value_ext: tf.Tensor
  value_int: tf.Tensor


class MinibatchPPOAgent(ppo_agent.PPOAgent):
  """The update; `RNDPPOAgent` has the constructor."""

  def compute_advantages(self, rewards, returns_, discounts, value_preds):
    """The host's method with the bootstrap repaired; see `PPOAgent`.

    Deviation: the host bootstraps from the last but one value
    (tensorflow/agents#953).
    """
    if not self._use_gae:
      return returns_ - value_preds[:, :-1]
    never = tf.zeros_like(rewards, tf.bool)
    return returns.generalized_advantages(
        rewards, discounts, value_preds, never, tf.zeros_like(rewards), never,
        self._lambda,
    )

  def _update(self, batch: rollout_lib.TrainingBatch) -> tf_agent.LossInfo:
    """Epochs x minibatches; scalars are means over all of them."""
    length = self._length_of_sequences(batch)
    sequences = batch.num_environments * (batch.length // length)
    if self._joint_net.state_spec and getattr(
        self._joint_net, 'state_in_info', True
    ):
      _check_states(batch.core_states, sequences)
    order = updates.sequence_order(
        sequences, self._num_epochs, self._num_minibatches,
        self._generator if self._shuffle_minibatches else None,
    )
    if not self._penalizes_kl:  # The host's penalty is no sum over parts.
      order = updates.in_micro_batches(
          order, length, self._rows_per_part(batch, order)
      )
    else:
      order = order[:, tf.newaxis]
    variables = self.trained_variables
    batches = self._lanes.replicas(batch)

    def minibatch(i):
      gradients, metrics = self._gradients(batches, order[i])
      return {**metrics, **self._apply(gradients, variables)}

    # An optimizer that is not Keras' makes its slots at its first step, which
    # a compiled loop does not allow.
    sums = updates.summed(
        [minibatch], order.shape[0], unroll=not self._keras_optimizer
    )
    means = {k: v / order.shape[0] for k, v in sums.items()}
    for name in ('nonfinite_updates', 'nonfinite_gradients'):
      means[name] = sums[name]
    return tf_agent.LossInfo(means.pop('loss'), RNDPPOLossInfo(**means))

  def _rows_per_part(self, batch, order) -> int | None:
    """Steps per pass, of minibatches with `order [updates, sequences]`."""
    known = isinstance(batch.length, int) and order.shape[1] is not None
    if not known:
      return self._lanes.rows_per_part(None)
    rollouts = _ROLLOUTS_PER_PART if self._joint_net.state_spec else 1
    return self._lanes.rows_per_part(
        self._length_of_sequences(batch) * order.shape[1],
        at_least=rollouts * batch.length,
    )

  def _length_of_sequences(self, batch) -> int | tf.Tensor:
    """L, steps of the sequences that a batch is dealt in."""
    return self._steps_of_sequences(batch.length) or batch.length

  def _steps_of_sequences(self, steps) -> int | None:
    """L for a rollout of T steps; None: T.

    Args:
      steps: T; anything but an int where it is not known.

    Raises:
      ValueError: L does not divide T, or T is not known.
    """
    length = self._sequence_length
    if length is None or (isinstance(steps, int) and steps <= length):
      return None
    if not isinstance(steps, int):
      raise ValueError(
          f'sequence_length = {length} needs experience of a fixed number of '
          'time steps: batch it with one, or leave sequence_length None.'
      )
    if steps % length:
      raise ValueError(
          f'sequence_length = {length} does not divide the {steps} steps of '
          'the rollout: choose a divisor, or None for whole rollouts.'
      )
    return length

  def _gradients(
      self,
      batches: Sequence[rollout_lib.TrainingBatch],
      sequences: tf.Tensor,
  ) -> tuple[list[tf.Tensor], dict[str, tf.Tensor]]:
    """Gradients of one minibatch, and what to log of it.

    Args:
      batches: the rollout, as each lane finds it.
      sequences: int32 `[micro-batches, n]`, of this minibatch.

    Returns:
      `(gradients, {name: scalar})`, in the order of `trained_variables`.
    """
    parts = sequences.shape[0]
    length = self._length_of_sequences(batches[0])
    count = tf.reduce_sum(tf.gather(
        rollout_lib.in_sequences(batches[0].targets.mask, length),
        tf.reshape(sequences, [-1]),
    ))

    def loss_of(batch):
      return lambda i: self._loss(updates.MicroBatch(
          batch.rows(sequences[i], length), count, 1.0 / parts
      ))

    return self._lanes.accumulate(
        loss_of, batches, parts, self._joint_net.trainable_variables
    )

  def _apply(self, gradients, variables) -> dict[str, tf.Tensor]:
    """One optimizer step, left out if any gradient is not finite.

    Args:
      gradients: one per variable.
      variables: those to step.

    Returns:
      What to log: scalars, and of `nonfinite_gradients` 1 for every variable
      whose gradient is not finite.
    """
    norm = tf.linalg.global_norm(gradients)
    finite = tf.math.is_finite(norm)

    def which():
      return tf.stack([
          1.0 - tf.cast(tf.math.is_finite(tf.nn.l2_loss(g)), tf.float32)
          for g in map(tf.convert_to_tensor, unclipped)
      ])

    unclipped = gradients
    nonfinite = tf.cond(
        finite, lambda: tf.zeros([len(unclipped)]), which
    )
    if self._gradient_clipping > 0:
      gradients, _ = tf.clip_by_global_norm(
          gradients, self._gradient_clipping, use_norm=norm
      )

    def step():
      self._optimizer.apply_gradients(tuple(zip(gradients, variables)))
      return tf.constant(1, self.train_step_counter.dtype)

    if self._keras_optimizer and not tf.distribute.has_strategy():
      none = tf.constant(0, self.train_step_counter.dtype)
      steps = tf.cond(finite, step, lambda: none)
    else:
      # Neither a replica's nor an old optimizer's step can be conditional.
      steps = step()
    self.train_step_counter.assign_add(steps)
    return dict(
        gradient_norm=norm,
        nonfinite_updates=1.0 - tf.cast(finite, tf.float32),
        nonfinite_gradients=nonfinite,
    )

  def _loss(self, part: updates.MicroBatch):
    """Loss of a micro-batch and what to log (PPO, equation 9)."""
    batch = part.batch
    observations, step_types = batch.observations, batch.step_types
    (distribution, value_ext, value_int), _ = self._collect_policy.evaluate(
        observations, step_types, batch.core_states, training=True
    )
    outputs = _Outputs(
        observations, step_types, distribution,
        self._log_probs(distribution, batch.actions), value_ext, value_int,
    )
    mask, count = batch.targets.mask, part.count
    terms = self._loss_terms(part, outputs)
    entropy = losses.masked_mean(
        self._entropy(distribution, mask), mask, count
    )
    loss = tf.add_n(list(terms.values())) - (
        self._entropy_regularization * entropy
    )
    change = (outputs.log_probs, batch.old_log_probs)
    return loss, dict(
        terms,
        loss=loss,
        entropy=entropy,
        approx_kl=losses.masked_mean(
            losses.approximate_kl(*change), mask, count
        ),
        clip_fraction=losses.masked_mean(
            losses.clipped_share(*change, self._importance_ratio_clipping),
            mask, count,
        ),
    )

  def _loss_terms(
      self, part: updates.MicroBatch, outputs: _Outputs
  ) -> dict[str, tf.Tensor]:
    """What is minimized, the entropy bonus aside; scalars by name."""
    batch, zero = part.batch, tf.constant(0.0)
    policy_loss = losses.masked_mean(
        losses.clipped_surrogate(
            outputs.log_probs, batch.old_log_probs, batch.targets.advantages,
            self._importance_ratio_clipping,
        ),
        batch.targets.mask, part.count,
    )
    return dict(
        policy_gradient_loss=policy_loss,
        value_loss_ext=self._value_loss(
            part, outputs.value_ext, batch.targets.returns_ext,
            batch.old_values_ext,
        ),
        value_loss_int=zero,
        predictor_loss=zero,
        l2_regularization_loss=part.share * self.l2_regularization_loss(),
        kl_penalty_loss=(
            self._kl_penalty(part, outputs) if self._penalizes_kl else zero
        ),
    )

  def _value_loss(self, part, values, returns_, old_values) -> tf.Tensor:
    """Squared error of one head, times its coefficient."""
    errors = losses.value_error(
        values, returns_, old_values, self._value_clipping
    )
    return self._value_pred_loss_coef * losses.masked_mean(
        errors, part.batch.targets.mask, part.count
    )

  def _entropy(self, distribution, mask) -> tf.Tensor:
    """Entropy per step, 0 where the distribution has no closed form."""
    entropy = common.entropy(distribution, self._action_spec, outer_rank=2)
    return tf.zeros_like(mask) if entropy is None else tf.cast(
        entropy, tf.float32
    )

  @property
  def _penalizes_kl(self) -> bool:
    return self._initial_adaptive_kl_beta > 0 or self._kl_cutoff_factor > 0

  def _kl_penalty(self, part, outputs) -> tf.Tensor:
    """The host's adaptive penalty and cutoff, over real steps only."""
    mask = part.batch.targets.mask
    return self.kl_penalty_loss(
        _time_steps(outputs.observations, outputs.step_types),
        part.batch.dist_params, outputs.distribution,
        _mean_weights(mask, part.count),
    )

  def _adapt_kl_beta(self, batch: rollout_lib.TrainingBatch) -> None:
    """After the update: the host's beta, from the KL over real steps."""
    time_steps = _time_steps(*tf.nest.map_structure(
        lambda x: x[:, :batch.length], (batch.observations, batch.step_types)
    ))
    (distribution, _, _), _ = self._collect_policy.evaluate(
        time_steps.observation, time_steps.step_type, batch.first_states()
    )
    mask = batch.targets.mask
    divergence = self._kl_divergence(
        time_steps, batch.dist_params, distribution
    )
    self.update_adaptive_kl_beta(
        divergence * _mean_weights(mask, tf.reduce_sum(mask))
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

  def _old_log_probs(self, dist_params, actions) -> tf.Tensor:
    """log pi_old(a|s), float32 `[B, T]`, of the recorded parameters."""
    distribution = ppo_utils.distribution_from_spec(
        self._action_distribution_spec,
        dist_params,
        legacy_distribution_network=isinstance(
            self._actor_net, network.DistributionNetwork
        ),
    )
    return tf.cast(common.log_probability(
        distribution, actions, self._action_spec
    ), tf.float32)

  def _update_host_normalizers(self, rollout: rollout_lib.Rollout) -> None:
    """PPO's own statistics of observations and rewards, from real steps."""
    real = rollout.mask > 0
    if self._observation_normalizer is not None:
      self._observation_normalizer.update(tf.nest.map_structure(
          lambda x: tf.boolean_mask(x[:, :-1], real), rollout.observations
      ), outer_dims=[0])
    if self._reward_normalizer is not None:
      self._reward_normalizer.update(
          tf.boolean_mask(rollout.rewards, real), outer_dims=[0]
      )

  def _summarize(
      self, loss_info: tf_agent.LossInfo, batch: rollout_lib.TrainingBatch
  ) -> None:
    """For TensorBoard, where a writer is set and a record is due.

    Scalars of all losses; with `debug_summaries` histograms of the targets,
    with `summarize_grads_and_vars` of the variables.
    """
    step = self.train_step_counter
    with tf.name_scope('Losses/'):
      for name, value in loss_info.extra._asdict().items():
        if name != 'nonfinite_gradients':  # One for each variable.
          tf.summary.scalar(name, value, step=step)
      tf.summary.scalar('loss', loss_info.loss, step=step)
    if self._debug_summaries:
      real = batch.targets.mask > 0
      with tf.name_scope('Targets/'):
        for name in ('advantages', 'returns_ext', 'returns_int'):
          values = getattr(batch.targets, name)
          tf.summary.histogram(name, tf.boolean_mask(values, real), step=step)
    if self._summarize_grads_and_vars:
      with tf.name_scope('Variables/'):
        for variable in self.trained_variables:
          name = variable.name.replace(':', '_')
          tf.summary.histogram(name, variable, step=step)


def _check_states(core_states, sequences) -> None:
  """Raises ValueError unless there is a state per sequence."""
  states = tf.nest.flatten(core_states)
  if not states:
    raise ValueError(
        'the rollout holds no recurrent states (core_states): collect it with '
        'Collector, which records them, or fill them in; training from zeros '
        'would be of another policy than the one that acted.'
    )
  for state in states:
    if isinstance(sequences, int) and state.shape[0] not in (None, sequences):
      raise ValueError(
          f'the rollout holds {state.shape[0]} recurrent states for '
          f'{sequences} sequences: collect it with the sequence_length of the '
          'agent (Collector(..., sequence_length=agent.sequence_length)).'
      )


def _time_steps(observations, step_types) -> ts.TimeStep:
  """Time steps whose rewards and discounts do not matter."""
  zeros = tf.zeros(tf.shape(step_types))
  return ts.TimeStep(step_types, zeros, zeros, observations)


def _mean_weights(mask: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
  """Weights that turn the host's plain mean into one over real steps."""
  return mask * tf.math.divide_no_nan(
      tf.cast(tf.size(mask), tf.float32), count
  )
