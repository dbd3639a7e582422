"""The update, to be read downwards: update, minibatch, gradients, losses.

    for epoch, for minibatch:        Update.__call__
      gradients of both losses       Update._minibatch
        of policy and values         Update._policy_gradients, _policy_loss
        of the bonus                 Update._bonus_gradients, _bonus_loss
      one optimizer step             Update._step

A minibatch is whole sequences (an environment's part of the rollout, or parts
of that), every mean is over real steps only, and policy, values and bonus share
one optimizer. The host averages over masked rows, derives its mask from returns
and advantages, and leaves minibatches to a learner that shuffles single steps.

Equations: Schulman et al. 2017 (1707.06347) for PPO, Burda et al. 2018
(1810.12894) for the two value heads and the bonus's loss.
"""

from __future__ import annotations

import collections
from typing import Any, Callable, NamedTuple, Optional, Sequence

import tensorflow as tf
from tf_agents.agents import tf_agent
from tf_agents.utils import common

from rnd_agent.learning import compute
from rnd_agent.learning import losses
from rnd_agent.learning import micro_batches
from rnd_agent.learning import replicas
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


class UpdateNumbers(NamedTuple):
  """What is repeated how often, clipped and weighted; see `PPOConfig`.

  Attributes:
    num_epochs: passes over a rollout.
    num_minibatches: parts into which its sequences are dealt.
    shuffle: whether they are dealt anew in every epoch.
    sequence_length: steps of a sequence; None: the whole rollout.
    ratio_clipping: epsilon of PPO's clipped ratio.
    log_prob_clipping: largest magnitude of a log-probability; 0 is off.
    value_clipping: largest rewarded change of a value; 0 is off.
    value_coefficient: factor of each head's squared error.
    entropy_coefficient: factor of the entropy bonus.
    gradient_clipping: largest global norm; 0 is off.
  """

  num_epochs: int
  num_minibatches: int
  shuffle: bool
  sequence_length: Optional[int]
  ratio_clipping: float
  log_prob_clipping: float
  value_clipping: float
  value_coefficient: float
  entropy_coefficient: float
  gradient_clipping: float


class Outputs(NamedTuple):
  """What the networks say of a micro-batch, `[B, T, ...]`."""

  observations: Any
  step_types: tf.Tensor
  distribution: Any
  log_probs: tf.Tensor
  value_ext: tf.Tensor
  value_int: tf.Tensor


class Update:
  """Epochs x minibatches on one batch, in place."""

  def __init__(
      self,
      numbers: UpdateNumbers,
      policy,
      joint_net,
      bonus,
      optimizer,
      step_counter: tf.Variable,
      lanes: compute.Lanes,
      generator: tf.random.Generator,
      host_losses: Callable[
          [micro_batches.MicroBatch, Outputs], dict[str, tf.Tensor]
      ],
      host_losses_add_up: bool,
  ):
    """Changes nothing yet.

    Args:
      numbers: of the update.
      policy: whose `evaluate` gives distribution and both values.
      joint_net: the network behind it, whose variables are trained.
      bonus: a `Bonus`, or None.
      optimizer: of Keras, or an older one.
      step_counter: counts optimizer steps.
      lanes: where to compute.
      generator: source of the minibatches and of the bonus's subsets.
      host_losses: further losses of a micro-batch, scalars by name.
      host_losses_add_up: whether those of the parts of a minibatch add up to
        that of the whole; if not, no minibatch is divided.
    """
    self._numbers = numbers
    self._policy = policy
    self._joint_net = joint_net
    self._bonus = bonus
    self._optimizer = optimizer
    self._keras_optimizer = isinstance(
        optimizer, tf.keras.optimizers.Optimizer
    )
    self._step_counter = step_counter
    self._lanes = lanes
    self._generator = generator
    self._host_losses = host_losses
    self._host_losses_add_up = host_losses_add_up

  @property
  def trained_variables(self) -> list[tf.Variable]:
    """What the optimizer changes, in structural order."""
    variables = list(self._joint_net.trainable_variables)
    if self._bonus is not None:
      variables += self._bonus.trained_variables
    return variables

  # ---------------------------------------------------------------- update

  def __call__(self, batch: rollout_lib.TrainingBatch) -> tf_agent.LossInfo:
    """Epochs x minibatches; scalars are means over all of them."""
    order = self._micro_batch_order(batch)
    batches = self._lanes.replicas(batch)
    # In a compiled loop replicas cannot wait for each other, nor can an
    # optimizer that is not Keras' make its slots, as it does at its first step.
    sums = micro_batches.summed(
        [lambda i: self._minibatch(batches, order[i])], order.shape[0],
        unroll=not self._keras_optimizer or replicas.in_strategy(),
    )
    if replicas.in_strategy():
      # A replica's share: whoever logs them adds those of all, as the host's.
      sums = {k: v / replicas.number() for k, v in sums.items()}
    else:
      sums = replicas.mean(sums)
    means = {k: v / order.shape[0] for k, v in sums.items()}
    for name in ('nonfinite_updates', 'nonfinite_gradients'):
      means[name] = sums[name]
    return tf_agent.LossInfo(means.pop('loss'), RNDPPOLossInfo(**means))

  def _micro_batch_order(self, batch) -> tf.Tensor:
    """Sequences of each part of each minibatch of each epoch.

    Returns:
      int32 `[updates, micro-batches, sequences]`.
    """
    length = self._length_of_sequences(batch)
    sequences = batch.num_environments * (batch.length // length)
    if self._joint_net.state_spec and getattr(
        self._joint_net, 'state_in_info', True
    ):
      _check_states(batch.core_states, sequences)
    order = micro_batches.sequence_order(
        sequences, self._numbers.num_epochs, self._numbers.num_minibatches,
        self._generator if self._numbers.shuffle else None,
    )
    if not self._host_losses_add_up:
      return order[:, tf.newaxis]
    return micro_batches.in_micro_batches(
        order, length, self._rows_per_part(batch, order)
    )

  def _rows_per_part(self, batch, order) -> Optional[int]:
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
    return rollout_lib.steps_per_sequence(
        self._numbers.sequence_length, batch.length
    ) or batch.length

  # ------------------------------------------------------------- minibatch

  def _minibatch(self, batches, sequences) -> dict[str, tf.Tensor]:
    """Gradients and one optimizer step; what to log of them.

    Args:
      batches: the rollout, as each lane finds it.
      sequences: int32 `[micro-batches, n]`, of this minibatch.
    """
    gradients, metrics = self._policy_gradients(batches, sequences)
    if self._bonus is not None and self._bonus.trained_variables:
      # One after the other where each fills all lanes to its end.
      first = [] if self._lanes.leaves_threads else [metrics['loss']]
      with tf.control_dependencies(first):
        more, bonus_loss = self._bonus_gradients(batches, sequences)
      gradients = [*gradients, *more]
      metrics.update(
          predictor_loss=bonus_loss, loss=metrics['loss'] + bonus_loss
      )
    return {**metrics, **self._step(gradients)}

  def _policy_gradients(self, batches, sequences):
    """Of policy and values; `(gradients, {name: scalar})`."""
    length = self._length_of_sequences(batches[0])
    parts = sequences.shape[0]
    # Divided by the mean count, the means of all add up to that of the whole.
    count = replicas.mean(tf.reduce_sum(tf.gather(
        rollout_lib.in_sequences(batches[0].targets.mask, length),
        tf.reshape(sequences, [-1]),
    )))

    def loss_of(batch):
      return lambda i: self._policy_loss(micro_batches.MicroBatch(
          batch.rows(sequences[i], length), count, 1.0 / parts
      ))

    return self._lanes.accumulate(
        loss_of, batches, parts, self._joint_net.trainable_variables
    )

  def _bonus_gradients(self, batches, sequences):
    """Of the bonus, on a random subset of the minibatch's steps.

    The subset is drawn before the forward pass: the same expectation as
    masking the loss behind it, at the subset's cost (paper, section 2.4 and
    table 5, keep the predictor's batch at that of 32 environments).

    Args:
      batches: the rollout, as each lane finds it.
      sequences: int32, of any shape, the sequences of this minibatch.

    Returns:
      Gradients in the order of the bonus's `trained_variables`, and the loss.
    """
    subset = self._draw_subset(batches[0], sequences)
    subset, weights = micro_batches.in_parts(
        subset, self._lanes.rows_per_part(subset.shape[0])
    )
    mask = rollout_lib.in_steps(batches[0].bonus_mask)
    count = replicas.mean(tf.reduce_sum(weights * tf.gather(mask, subset)))

    def loss_of(batch):
      return lambda i: self._bonus_loss(batch, subset[i], weights[i], count)

    gradients, metrics = self._lanes.accumulate(
        loss_of, batches, subset.shape[0], self._bonus.trained_variables
    )
    return gradients, metrics['loss']

  def _draw_subset(self, batch, sequences) -> tf.Tensor:
    """Steps that train the bonus this time, int32 `[n]` of `[B * T]`."""
    length = self._length_of_sequences(batch)
    first = tf.reshape(sequences, [-1]) * length
    steps = rollout_lib.in_steps(first[:, tf.newaxis] + tf.range(length))
    return tf.gather(steps, micro_batches.random_subset(
        tf.gather(rollout_lib.in_steps(batch.bonus_mask), steps),
        self._bonus.training_proportion(batch.num_known_environments),
        self._generator,
    ))

  def _step(self, gradients) -> dict[str, tf.Tensor]:
    """One optimizer step, left out if any gradient is not finite.

    Args:
      gradients: one for each of `trained_variables`.

    Returns:
      What to log: scalars, and of `nonfinite_gradients` 1 for every variable
      whose gradient is not finite.
    """
    gradients = unclipped = replicas.mean(gradients)
    norm = tf.linalg.global_norm(gradients)
    finite = tf.math.is_finite(norm)
    nonfinite = tf.cond(
        finite, lambda: tf.zeros([len(unclipped)]),
        lambda: 1.0 - tf.cast(tf.math.is_finite(tf.stack([
            tf.nn.l2_loss(g) for g in map(tf.convert_to_tensor, unclipped)
        ])), tf.float32),
    )
    if self._numbers.gradient_clipping > 0:
      gradients, _ = tf.clip_by_global_norm(
          gradients, self._numbers.gradient_clipping, use_norm=norm
      )

    if replicas.in_strategy():
      # The optimizer adds up those of all replicas, which are equal.
      gradients = [g / replicas.number() for g in gradients]

    def step():
      self._optimizer.apply_gradients(
          tuple(zip(gradients, self.trained_variables))
      )
      return tf.constant(1, self._step_counter.dtype)

    if self._keras_optimizer and not replicas.in_strategy():
      none = tf.constant(0, self._step_counter.dtype)
      steps = tf.cond(finite, step, lambda: none)
    else:
      # Neither a replica's nor an old optimizer's step can be conditional.
      steps = step()
    self._step_counter.assign_add(steps)
    return dict(
        gradient_norm=norm,
        nonfinite_updates=1.0 - tf.cast(finite, tf.float32),
        nonfinite_gradients=nonfinite,
    )

  # ---------------------------------------------------------------- losses

  def _policy_loss(self, part: micro_batches.MicroBatch):
    """Loss of a micro-batch and what to log (PPO, equation 9)."""
    batch, numbers = part.batch, self._numbers
    (distribution, value_ext, value_int), _ = self._policy.evaluate(
        batch.observations, batch.step_types, batch.core_states, training=True
    )
    outputs = Outputs(
        batch.observations, batch.step_types, distribution,
        self._log_probs(distribution, batch.actions), value_ext, value_int,
    )
    change = (outputs.log_probs, batch.old_log_probs)

    def mean(values):
      return losses.masked_mean(values, batch.targets.mask, part.count)

    terms = dict(
        policy_gradient_loss=mean(losses.clipped_surrogate(
            *change, batch.targets.advantages, numbers.ratio_clipping
        )),
        value_loss_ext=numbers.value_coefficient * mean(losses.value_error(
            value_ext, batch.targets.returns_ext, batch.old_values_ext,
            numbers.value_clipping,
        )),
        value_loss_int=tf.constant(0.0),
        predictor_loss=tf.constant(0.0),
        **self._host_losses(part, outputs),
    )
    if self._bonus is not None:
      terms['value_loss_int'] = numbers.value_coefficient * mean(
          losses.value_error(
              value_int, batch.targets.returns_int, batch.old_values_int,
              numbers.value_clipping,
          )
      )
    entropy = mean(self._entropy(distribution, batch.targets.mask))
    loss = tf.add_n(list(terms.values())) - (
        numbers.entropy_coefficient * entropy
    )
    return loss, dict(
        terms,
        loss=loss,
        entropy=entropy,
        approx_kl=mean(losses.approximate_kl(*change)),
        clip_fraction=mean(
            losses.clipped_share(*change, numbers.ratio_clipping)
        ),
    )

  def _bonus_loss(self, batch, subset, weights, count):
    """The bonus's loss on a part of the subset, gathered before the pass."""
    inputs, mask = tf.nest.map_structure(
        lambda x: tf.gather(rollout_lib.in_steps(x), subset),
        (batch.bonus_inputs, batch.bonus_mask),
    )
    loss = losses.masked_mean(
        self._bonus.losses(inputs), weights * mask, count
    )
    return loss, dict(loss=loss)

  def _log_probs(self, distribution, actions) -> tf.Tensor:
    """log pi(a|s), float32 `[B, T]`."""
    log_probs = tf.cast(common.log_probability(
        distribution, actions, self._policy.action_spec
    ), tf.float32)
    bound = self._numbers.log_prob_clipping
    return tf.clip_by_value(log_probs, -bound, bound) if bound else log_probs

  def _entropy(self, distribution, mask) -> tf.Tensor:
    """Entropy per step, 0 where the distribution has no closed form."""
    entropy = common.entropy(
        distribution, self._policy.action_spec, outer_rank=2
    )
    return tf.zeros_like(mask) if entropy is None else tf.cast(
        entropy, tf.float32
    )


def _check_states(
    core_states: Sequence[tf.Tensor], sequences: int | tf.Tensor
) -> None:
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
