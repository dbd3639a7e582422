"""Values of the others that train the same agent.

They are replicas of a `tf.distribute` strategy, within `strategy.run`, or the
other workers of a cluster (`workers.Workers`), once `join` was called. Where
there is neither, a value is all there is.

Of a strategy none of this can stand in a loop, a condition or a nested
`tf.function`: its replicas cannot wait for each other there. Workers can.
"""

from __future__ import annotations

from typing import Optional

import tensorflow as tf

from rnd_agent.learning import workers as workers_lib

_workers: Optional[workers_lib.Workers] = None


def join(workers: Optional[workers_lib.Workers]) -> None:
  """Makes this process train with others from here on; None: alone."""
  global _workers
  _workers = workers


def workers() -> Optional[workers_lib.Workers]:
  """The cluster that this process has joined."""
  return _workers


def is_chief() -> bool:
  """Whether this process writes the run's folder: alone, or the first."""
  return _workers is None or _workers.index == 0


def _context() -> Optional[tf.distribute.ReplicaContext]:
  """The replica's, where there are others; otherwise None."""
  context = tf.distribute.get_replica_context()
  if context is None or context.num_replicas_in_sync == 1:
    return None
  return context


def in_strategy() -> bool:
  """Whether this is one of several replicas of a strategy."""
  return _context() is not None


def number() -> int:
  """How many compute what is computed here."""
  context = _context()
  if context is not None:
    return context.num_replicas_in_sync
  return 1 if _workers is None else _workers.number


def mean(values):
  """Means over all of a nest of float32 tensors of the same shapes."""
  context = _context()
  if context is not None:
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, values)
  if _workers is None:
    return values
  return tf.nest.map_structure(
      lambda total: total / _workers.number, _workers.added(values)
  )


def gathered(value: tf.Tensor) -> tf.Tensor:
  """`[n, ...]` of each, one after the other; n may differ in a strategy."""
  context = _context()
  if context is not None:
    return context.all_gather(value, axis=0)
  return value if _workers is None else _workers.gathered(value)


def each(value: tf.Tensor) -> list[tf.Tensor]:
  """The value of each, all of one shape."""
  return tf.unstack(gathered(value[tf.newaxis]), num=number())


# ---------------------------------------------- what environments have each
#
# Every worker keeps the values of all environments, so that any number of
# workers can go on with them; its own environments are consecutive rows.


def environments_of_all(here: int) -> int:
  """How many environments there are, if every worker has as many as here."""
  return here if _workers is None else here * _workers.number


def own(values: tf.Tensor) -> tf.Tensor:
  """The rows of this worker's environments, `[B / K, ...]` of `[B, ...]`."""
  if _workers is None:
    return values
  rows = values.shape[0] // _workers.number
  return values[_workers.index * rows:(_workers.index + 1) * rows]


def of_all(values: tf.Tensor) -> tf.Tensor:
  """`[B, ...]` of every worker's `[B / K, ...]`."""
  return values if _workers is None else _workers.gathered(values)
