"""Values of the other replicas, where a `tf.distribute` strategy trains.

Outside `strategy.run`, and in a strategy of one replica, a value is all there
is. None of this can stand in a loop, a condition or a nested `tf.function`:
replicas cannot wait for each other there.
"""

from __future__ import annotations

from typing import Optional

import tensorflow as tf


def _context() -> Optional[tf.distribute.ReplicaContext]:
  """The replica's, where there are others; otherwise None."""
  context = tf.distribute.get_replica_context()
  if context is None or context.num_replicas_in_sync == 1:
    return None
  return context


def number() -> int:
  """How many replicas compute what is computed here."""
  context = _context()
  return 1 if context is None else context.num_replicas_in_sync


def mean(values):
  """Means over all replicas of a nest of tensors of the same shapes."""
  context = _context()
  if context is None:
    return values
  return context.all_reduce(tf.distribute.ReduceOp.MEAN, values)


def gathered(value: tf.Tensor) -> tf.Tensor:
  """`[n, ...]` of every replica, one after the other; n may differ."""
  context = _context()
  return value if context is None else context.all_gather(value, axis=0)


def each(value: tf.Tensor) -> list[tf.Tensor]:
  """The value of every replica, all of one shape."""
  return tf.unstack(gathered(value[tf.newaxis]), num=number())
