"""Minibatches, and the micro-batches that each is computed in.

A minibatch goes through the networks in micro-batches, whose gradients are
summed. Each loss is a sum over its rows divided by the count of the whole
minibatch, so the parts add up to the whole exactly. Activations of a small part
stay in the processor's cache, and memory does not grow with the minibatch.

Micro-batches run in lanes: chains of micro-batches that do not wait for each
other, on the threads of one device or on several devices.
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, NamedTuple, Optional, Sequence

import tensorflow as tf

from rnd_agent.learning import rollout as rollout_lib

# Takes the number of a part, int32; returns `(loss, {name: scalar})`.
LossFunction = Callable[[tf.Tensor], tuple[tf.Tensor, dict[str, tf.Tensor]]]


class MicroBatch(NamedTuple):
  """Some sequences of a minibatch and what their losses are divided by.

  Attributes:
    batch: `TrainingBatch` of these sequences.
    count: float32 scalar, real steps of the whole minibatch.
    share: its share of the minibatch, (0, 1]; the factor of loss terms that
      are not means over steps.
  """

  batch: rollout_lib.TrainingBatch
  count: tf.Tensor
  share: float


def micro_batch_sequences(
    minibatch_sequences: int, length: int, micro_batch_size: int
) -> int:
  """Sequences per micro-batch: the most that fit and divide evenly.

  Args:
    minibatch_sequences: sequences per minibatch.
    length: steps per sequence.
    micro_batch_size: steps per micro-batch at most (one sequence at least).

  Returns:
    A divisor of `minibatch_sequences`.
  """
  return max(
      n for n in range(1, minibatch_sequences + 1)
      if minibatch_sequences % n == 0
      and (n == 1 or n * length <= micro_batch_size)
  )


def sequence_order(
    num_sequences: int | tf.Tensor,
    num_epochs: int,
    num_minibatches: int,
    generator: tf.random.Generator | None,
) -> tf.Tensor:
  """Which sequences make up which minibatch.

  Args:
    num_sequences: of all environments, n: one each unless a sequence length
      is set; divisible by `num_minibatches`; may be a tensor where there is
      one minibatch.
    num_epochs: passes over the rollout.
    num_minibatches: parts of the rollout.
    generator: deals the sequences anew in every epoch; None: contiguous
      blocks, the same in each epoch (authors' code).

  Returns:
    int32 `[num_epochs * num_minibatches, n / num_minibatches]`; every epoch
    holds every sequence exactly once.

  Raises:
    ValueError: if the sequences can't be dealt evenly.
  """
  if num_minibatches > 1 and num_sequences % num_minibatches:
    raise ValueError(
        f'{num_sequences} environments or sequences cannot be dealt to '
        f'{num_minibatches} minibatches of whole ones: choose a number '
        'of environments that num_minibatches divides.'
    )
  order = tf.tile(tf.range(num_sequences)[tf.newaxis], [num_epochs, 1])
  if generator is not None:
    keys = generator.uniform([num_epochs, num_sequences])
    order = tf.argsort(keys, axis=1)
  return tf.reshape(
      order, [num_epochs * num_minibatches, num_sequences // num_minibatches]
  )


def in_micro_batches(
    order: tf.Tensor, length: int | tf.Tensor, micro_batch_size: int | None
) -> tf.Tensor:
  """Divides every minibatch of `sequence_order`.

  Args:
    order: int32 `[updates, sequences]`.
    length: steps per sequence.
    micro_batch_size: steps per micro-batch at most; None: undivided.

  Returns:
    int32 `[updates, micro-batches, sequences]`. A minibatch whose size is
    known only when the graph runs is one micro-batch.
  """
  sequences = order.shape[1]
  if micro_batch_size is None or sequences is None or not isinstance(
      length, int
  ):
    return order[:, tf.newaxis]
  size = micro_batch_sequences(sequences, length, micro_batch_size)
  return tf.reshape(order, [order.shape[0], sequences // size, size])


def random_subset(
    mask: tf.Tensor, proportion: float, generator: tf.random.Generator
) -> tf.Tensor:
  """Draws, without replacement, the steps that train the predictor.

  They are drawn before the forward pass, so that nothing is computed for the
  others. Rows that do not count are drawn only if too few others are left.

  Args:
    mask: float32 `[n]`, 1 for observations that count.
    proportion: share of the n, (0, 1]; at least one is drawn.
    generator: source of randomness.

  Returns:
    int32 `[max(1, round(proportion n))]`, indices below n.
  """
  if proportion == 1.0:
    return tf.range(tf.shape(mask)[0])
  total = mask.shape[0]
  if total is not None:
    size = max(1, round(proportion * total))
  else:
    size = tf.maximum(1, tf.cast(tf.round(
        proportion * tf.cast(tf.shape(mask)[0], tf.float32)
    ), tf.int32))
  keys = generator.uniform(tf.shape(mask)) + mask
  return tf.math.top_k(keys, k=size, sorted=False).indices


def in_parts(
    indices: tf.Tensor, size: int | None
) -> tuple[tf.Tensor, tf.Tensor]:
  """Cuts indices into parts of one length, the last one filled up.

  Args:
    indices: int32 `[n]`.
    size: rows of a part at most; None: one part.

  Returns:
    `(int32 [parts, m], float32 [parts, m])`: the indices, and their weights: 1,
    or 0 for one that only fills the last part. If n is known only when the
    graph runs, there is one part.
  """
  ones = tf.ones_like(indices, tf.float32)
  total = indices.shape[0]
  if size is None or total is None:
    return indices[tf.newaxis], ones[tf.newaxis]
  parts = -(-total // size)
  length = -(-total // parts)
  filling = [[0, parts * length - total]]
  return (
      tf.reshape(tf.pad(indices, filling), [parts, length]),
      tf.reshape(tf.pad(ones, filling), [parts, length]),
  )


def accumulate(
    loss_functions: Sequence[LossFunction],
    parts: int,
    variables: Sequence[tf.Variable],
    devices: Optional[Sequence[Optional[str]]] = None,
    jit_compile: bool = False,
) -> tuple[list[tf.Tensor], dict[str, tf.Tensor]]:
  """Gradients and losses of one minibatch, part by part.

  Args:
    loss_functions: one per lane; each can compute any part.
    parts: how many there are.
    variables: what to differentiate with respect to.
    devices: where each lane computes; None, or None of it: TensorFlow's choice.
    jit_compile: compile a part's forward and backward pass by XLA.

  Returns:
    `(gradients, {name: scalar})`, those of the minibatch as a whole.
  """
  def with_gradients(loss_function, device):
    def part(i):
      with tf.device(device) if device else contextlib.nullcontext():
        with tf.GradientTape() as tape:
          loss, metrics = loss_function(i)
        gradients = tape.gradient(
            loss, variables,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
      return gradients, metrics

    if jit_compile:
      return tf.function(part, autograph=False, jit_compile=True)
    return part

  lanes = list(zip(loss_functions, devices or (None,) * len(loss_functions)))
  known = {lane: with_gradients(*lane) for lane in dict.fromkeys(lanes)}
  return summed([known[lane] for lane in lanes], parts)


def summed(
    bodies: Sequence[Callable[[tf.Tensor], Any]],
    repetitions: int,
    unroll: bool = False,
):
  """The sum of what `repetitions` calls return, over one or more lanes.

  Lane j of n makes its share of the calls, one after the other; lanes do not
  wait for each other. In a compiled function each body is traced once.

  Args:
    bodies: one per lane; each takes the number of the call, an int32 scalar,
      and returns a nest of tensors of fixed shapes. All compute the same, each
      on the device of its lane.
    repetitions: how many calls, at least one.
    unroll: repeat in Python instead of in a compiled loop.

  Returns:
    The nest of sums.
  """
  lanes = min(len(bodies), repetitions)
  unroll = unroll or tf.executing_eagerly()
  traced = {}
  if not unroll:
    traced = {
        f: tf.function(f, autograph=False) for f in dict.fromkeys(bodies)
    }
  totals = []
  for lane in range(lanes):
    bounds = [k * repetitions // lanes for k in (lane, lane + 1)]
    body = traced.get(bodies[lane], bodies[lane])
    totals.append(_chain(body, *bounds, unroll))
  return tf.nest.map_structure(lambda *parts: tf.add_n(parts), *totals)


def _chain(body, first: int, last: int, unroll: bool):
  """`body(first) + ... + body(last - 1)`, one after the other."""
  def add(total, i):
    return tf.nest.map_structure(tf.add, total, body(i))

  if unroll or last - first == 1:
    total = body(tf.constant(first))
    for i in range(first + 1, last):
      total = add(total, tf.constant(i))
    return total
  traced = body.get_concrete_function(tf.TensorSpec([], tf.int32))
  zeros = tf.nest.map_structure(
      lambda x: tf.zeros(x.shape, x.dtype), traced.structured_outputs
  )
  _, total = tf.while_loop(
      lambda i, _: i < last,
      lambda i, total: (i + 1, add(total, i)),
      (tf.constant(first), zeros),
      parallel_iterations=1,
  )
  return total
