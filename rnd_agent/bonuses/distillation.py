"""How the predictor is trained: on a random subset of the steps, drawn anew.

The loss is the bonus itself, over a share of the steps that keeps the
predictor's batch at that of 32 environments (paper, section 2.4 and table 5).
The subset is drawn before the forward pass: the same expectation as masking the
loss behind it, at the subset's cost.
"""

from __future__ import annotations

from typing import Sequence

import tensorflow as tf

from rnd_agent.bonuses import rnd as rnd_lib
from rnd_agent.learning import compute
from rnd_agent.learning import losses
from rnd_agent.learning import micro_batches as updates
from rnd_agent.learning import rollout as rollout_lib


class PredictorUpdate:
  """Gradients of the distillation loss, minibatch by minibatch."""

  def __init__(
      self,
      rnd: rnd_lib.RandomNetworkDistillation,
      lanes: compute.Lanes,
      generator: tf.random.Generator,
      num_epochs: int,
  ):
    """Draws nothing yet.

    Args:
      rnd: the bonus.
      lanes: where to compute.
      generator: source of the subsets.
      num_epochs: passes over a rollout.
    """
    self._rnd = rnd
    self._lanes = lanes
    self._generator = generator
    self._num_epochs = num_epochs

  def with_target_features(
      self, batch: rollout_lib.TrainingBatch
  ) -> rollout_lib.TrainingBatch:
    """Features under the new statistics, once: every epoch reads them.

    Where all epochs together draw fewer steps than there are, they are
    computed as they are drawn.

    Args:
      batch: of the rollout.

    Returns:
      The batch, with `target_features` `[B, T, k]` or without.
    """
    if self._num_epochs * self._proportion(batch) < 1.0:
      return batch
    return batch._replace(
        target_features=self._rnd.all_target_features(batch.selected)
    )

  def _proportion(self, batch) -> float:
    """The share of the steps that trains the predictor in each epoch."""
    # Single steps, as the host's learner deals them, tell no environments.
    sequences = isinstance(batch.length, int) and batch.length > 1
    return self._rnd.config.proportion_for(
        batch.num_environments if sequences else None
    )

  def gradients(
      self,
      batches: Sequence[rollout_lib.TrainingBatch],
      sequences: tf.Tensor,
      length: int | tf.Tensor,
  ) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Of the loss on a minibatch's random subset.

    Args:
      batches: the rollout, as each lane finds it.
      sequences: int32, of any shape, the sequences of this minibatch.
      length: L, steps of a sequence.

    Returns:
      Gradients in the order of `trained_variables`, and the loss.
    """
    subset = self._subset(batches[0], sequences, length)
    rows = subset.shape[0]
    subset, weights = updates.in_parts(subset, self._lanes.rows_per_part(rows))
    count = tf.reduce_sum(
        weights * tf.gather(_steps(batches[0].selected_mask), subset)
    )

    def loss_of(batch):
      return lambda i: self._loss(batch, subset[i], weights[i], count)

    gradients, metrics = self._lanes.accumulate(
        loss_of, batches, subset.shape[0], self._rnd.trained_variables
    )
    return gradients, metrics['loss']

  def _subset(self, batch, sequences, length) -> tf.Tensor:
    """Steps that train the predictor this time, int32 `[n]` of `[B * T]`."""
    first = tf.reshape(sequences, [-1]) * length
    steps = _steps(first[:, tf.newaxis] + tf.range(length))
    return tf.gather(steps, updates.random_subset(
        tf.gather(_steps(batch.selected_mask), steps),
        self._proportion(batch), self._generator,
    ))

  def _loss(self, batch, subset, weights, count):
    """Distillation loss on a part of the subset, gathered before the pass."""
    def gathered(x):
      return tf.gather(_steps(x), subset)

    features = batch.target_features
    errors = self._rnd.loss(
        gathered(batch.selected),
        None if isinstance(features, tuple) else gathered(features),
    )
    loss = losses.masked_mean(
        errors, weights * gathered(batch.selected_mask), count
    )
    return loss, dict(loss=loss)


def _steps(x: tf.Tensor) -> tf.Tensor:
  """`[B, T, ...]` as `[B * T, ...]`."""
  sizes = x.shape[:2].as_list()
  rows = None if None in sizes else sizes[0] * sizes[1]
  flat = tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], axis=0))
  return tf.ensure_shape(flat, [rows] + x.shape[2:].as_list())
