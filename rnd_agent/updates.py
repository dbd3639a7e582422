"""One update: epochs x minibatches of whole environments, compiled.

A minibatch is worked through in micro-batches, whose gradients are summed:
each loss is a sum over its rows divided by the whole minibatch's count, so the
parts add up to the whole exactly, while activations stay in the cache and
memory does not grow with the minibatch.
"""

from __future__ import annotations

from typing import Callable, NamedTuple

import tensorflow as tf

from rnd_agent import rollout as rollout_lib

LossFunction = Callable[..., tuple[tf.Tensor, dict[str, tf.Tensor]]]


class MicroBatch(NamedTuple):
  """Some environments of a minibatch and what their losses are divided by.

  Attributes:
    batch: `TrainingBatch` of these environments.
    count: float32 scalar, real steps of the whole minibatch.
    subset: int32 `[n]`, flat indices into the micro-batch's `[B * T]` rows:
      the steps that train the predictor this time.
    subset_count: float32 scalar, observations that count, of the subsets of
      the whole minibatch.
    share: part of the minibatch that this is, (0, 1]; for terms that are no
      means over steps.
  """

  batch: rollout_lib.TrainingBatch
  count: tf.Tensor
  subset: tf.Tensor
  subset_count: tf.Tensor
  share: float


def micro_batch_environments(
    minibatch_environments: int, length: int, micro_batch_size: int
) -> int:
  """Environments per micro-batch: the most that fit and divide evenly.

  Args:
    minibatch_environments: environments per minibatch.
    length: steps per environment.
    micro_batch_size: steps per micro-batch at most (one environment at least).

  Returns:
    A divisor of `minibatch_environments`.
  """
  return max(
      n for n in range(1, minibatch_environments + 1)
      if minibatch_environments % n == 0
      and (n == 1 or n * length <= micro_batch_size)
  )


def environment_order(
    num_environments: int | tf.Tensor,
    num_epochs: int,
    num_minibatches: int,
    generator: tf.random.Generator | None,
) -> tf.Tensor:
  """Which environments make up which minibatch.

  Args:
    num_environments: B, divisible by `num_minibatches`; may be a tensor
      where there is one minibatch.
    num_epochs: passes over the rollout.
    num_minibatches: parts of the rollout.
    generator: deals the environments anew in every epoch; None: contiguous
      blocks, the same in each epoch (authors' code).

  Returns:
    int32 `[num_epochs * num_minibatches, B / num_minibatches]`; every epoch
    holds every environment exactly once.

  Raises:
    ValueError: if the environments can't be dealt evenly.
  """
  if num_minibatches > 1 and num_environments % num_minibatches:
    raise ValueError(
        f'{num_environments} environments cannot be dealt to '
        f'{num_minibatches} minibatches of whole environments: choose a number '
        'of environments that num_minibatches divides.'
    )
  order = tf.tile(tf.range(num_environments)[tf.newaxis], [num_epochs, 1])
  if generator is not None:
    keys = generator.uniform([num_epochs, num_environments])
    order = tf.argsort(keys, axis=1)
  return tf.reshape(
      order, [num_epochs * num_minibatches, num_environments // num_minibatches]
  )


def in_micro_batches(
    order: tf.Tensor, length: int | tf.Tensor, micro_batch_size: int | None
) -> tf.Tensor:
  """Divides every minibatch of `environment_order`.

  Args:
    order: int32 `[updates, environments]`.
    length: steps per environment.
    micro_batch_size: steps per micro-batch at most; None: undivided.

  Returns:
    int32 `[updates, micro-batches, environments]`; undivided, too, where the
    sizes are only known when it runs.
  """
  environments = order.shape[1]
  if micro_batch_size is None or environments is None or not isinstance(
      length, int
  ):
    return order[:, tf.newaxis]
  size = micro_batch_environments(environments, length, micro_batch_size)
  return tf.reshape(order, [order.shape[0], environments // size, size])


def random_subsets(
    masks: tf.Tensor, proportion: float, generator: tf.random.Generator
) -> tf.Tensor:
  """Draws, without replacement, the steps that train the predictor.

  Drawn before the forward pass, so that the rest is never computed. Rows that
  don't count are taken only where the others don't suffice.

  Args:
    masks: float32 `[micro-batches, n]`, 1 for observations that count.
    proportion: share of the n, (0, 1]; at least one is drawn.
    generator: source of randomness.

  Returns:
    int32 `[micro-batches, max(1, round(proportion n))]`, indices below n.
  """
  total = masks.shape[1]
  if proportion == 1.0:
    return tf.tile(
        tf.range(tf.shape(masks)[1])[tf.newaxis], [masks.shape[0], 1]
    )
  if total is not None:
    size = max(1, round(proportion * total))
  else:
    size = tf.maximum(1, tf.cast(tf.round(
        proportion * tf.cast(tf.shape(masks)[1], tf.float32)
    ), tf.int32))
  keys = generator.uniform(tf.shape(masks)) + masks
  return tf.math.top_k(keys, k=size, sorted=False).indices


def accumulate(
    loss_function: LossFunction,
    batch: rollout_lib.TrainingBatch,
    environments: tf.Tensor,
    subsets: tf.Tensor,
    variables: list[tf.Variable],
    parallel: int = 2,
) -> tuple[list[tf.Tensor], dict[str, tf.Tensor]]:
  """Gradients and losses of one minibatch, micro-batch by micro-batch.

  Args:
    loss_function: `MicroBatch` to `(loss, {name: scalar})`.
    batch: the whole rollout.
    environments: int32 `[micro-batches, environments]`.
    subsets: int32 `[micro-batches, n]`; n may be 0 where there is no bonus.
    variables: what to differentiate with respect to.
    parallel: micro-batches that may run at the same time.

  Returns:
    `(gradients, {name: scalar})`, those of the minibatch as a whole.
  """
  count = tf.reduce_sum(
      tf.gather(batch.targets.mask, tf.reshape(environments, [-1]))
  )
  subset_count = tf.constant(0.0)
  if subsets.shape[1] != 0:
    subset_count = tf.reduce_sum(tf.gather(
        _flat_masks(batch.selected_mask, environments), subsets, batch_dims=1
    ))

  def micro_batch(i):
    part = MicroBatch(
        batch.rows(environments[i]), count, subsets[i], subset_count,
        1.0 / environments.shape[0],
    )
    with tf.GradientTape() as tape:
      loss, metrics = loss_function(part)
    gradients = tape.gradient(
        loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    return gradients, metrics

  return summed(micro_batch, environments.shape[0], parallel=parallel)


def summed(body, repetitions: int, parallel: int = 1, unroll: bool = False):
  """`body(0) + body(1) + ...`, traced at most twice.

  Args:
    body: int32 scalar to a nest of tensors.
    repetitions: how often, at least once.
    parallel: repetitions that may run at the same time.
    unroll: repeat in Python instead of in a compiled loop.

  Returns:
    The nest of sums.
  """
  def add(sums, i):
    return tf.nest.map_structure(tf.add, sums, body(i))

  total = body(tf.constant(0))
  if unroll:
    for i in range(1, repetitions):
      total = add(total, tf.constant(i))
  elif repetitions > 1:
    _, total = tf.while_loop(
        lambda i, _: i < repetitions,
        lambda i, sums: (i + 1, add(sums, i)),
        (tf.constant(1), total),
        parallel_iterations=parallel,
    )
  return total


def _flat_masks(mask: tf.Tensor, environments: tf.Tensor) -> tf.Tensor:
  """`mask [B, T]` of `environments [m, n]` as `[m, n * T]`."""
  rows = tf.gather(mask, environments)
  shape = tf.shape(rows)
  sizes = rows.shape[1:].as_list()
  flat = shape[1] * shape[2] if None in sizes else sizes[0] * sizes[1]
  return tf.reshape(rows, [rows.shape[0], flat])


def subsets_for(
    batch: rollout_lib.TrainingBatch,
    environments: tf.Tensor,
    proportion: float,
    generator: tf.random.Generator,
) -> tf.Tensor:
  """`random_subsets` of a minibatch's micro-batches; empty without a bonus.

  Args:
    batch: the whole rollout.
    environments: int32 `[micro-batches, environments]`.
    proportion: share of the steps.
    generator: source of randomness.

  Returns:
    int32 `[micro-batches, n]`.
  """
  if isinstance(batch.selected, tuple):
    return tf.zeros([environments.shape[0], 0], tf.int32)
  return random_subsets(
      _flat_masks(batch.selected_mask, environments), proportion, generator
  )
