"""Processes that train one agent together, on one machine or on many.

TensorFlow's own cluster does all that goes between them:
`MultiWorkerMirroredStrategy` starts it (its servers and its coordination
service), and values are exchanged by its collective operations. They stand in
compiled loops and conditions, where `ReplicaContext.all_reduce` may not.

Every worker holds all variables and keeps them equal to the others' by doing
the same with the same numbers: no variable is distributed. Each calls the same
operations in the same order, otherwise all wait for ever.
"""

from __future__ import annotations

import itertools
import re
import threading
from typing import Any, Optional

from absl import logging
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context

from rnd_agent.common import own_address

# Of all collective operations here; TensorFlow's strategies count from 1.
_GROUP_KEY = 7_000_001
# What TensorFlow calls a process of the cluster.
_TASK = re.compile(r'/job:worker/(?:replica:\d+/)?task:(\d+)')
# Seconds between two questions to the others whether they live, and to wait for
# an answer: TensorFlow answers them whatever the process computes.
_WATCH_INTERVAL = 2.0
_WATCH_TIMEOUT = 10.0
# Bytes that are exchanged are filled up to 2^n of these.
_LEAST_BYTES = 1024


class WorkerLostError(RuntimeError):
  """Another worker has died, was stopped or cannot be reached; one line."""


class Workers:
  """This process and the others of its cluster, each with a number from 0."""

  def __init__(self, resolver: tf.distribute.cluster_resolver.ClusterResolver):
    """Joins the cluster; waits until all of its workers have come.

    To be called before TensorFlow's first operation, once in a process.

    Args:
      resolver: knows the addresses and which one is this process's.

    Raises:
      ValueError: the cluster has other jobs than workers.
    """
    jobs = resolver.cluster_spec().as_dict()
    if set(jobs) != {'worker'}:
      raise ValueError(
          f'the cluster has {", ".join(sorted(jobs)) or "no jobs"}: describe '
          "all processes as 'worker', of which number 0 writes the run's folder"
      )
    self.addresses = tuple(jobs['worker'])
    self.index = int(resolver.task_id)
    # It stays, for the servers belong to it.
    with own_address.guarded(self.addresses[self.index]):
      self._strategy = tf.distribute.MultiWorkerMirroredStrategy(
          cluster_resolver=resolver
      )
    on_gpu = bool(tf.config.list_physical_devices('GPU'))
    self._hint = 'auto' if on_gpu else 'ring'
    self._keys = itertools.count(1)
    self._gather_once = tf.function(self.gathered, autograph=False)
    self._lost: Optional[int] = None
    self._left = threading.Event()
    self._watch: Optional[threading.Thread] = None

  @property
  def number(self) -> int:
    """How many there are."""
    return len(self.addresses)

  def is_local(self, device: str) -> bool:
    """Whether TensorFlow's name of a device is that of one of this process."""
    match = _TASK.search(device)
    return match is None or int(match[1]) == self.index

  # -------------------------------------------------- in compiled functions

  def added(self, values):
    """Sums over all workers.

    Args:
      values: nest of float32 tensors, of the same shapes on every worker.

    Returns:
      The nest of the sums, equal bit by bit on all workers.
    """
    flat = [tf.convert_to_tensor(value) for value in tf.nest.flatten(values)]
    # One operation: each costs a journey.
    joined = tf.concat([tf.reshape(value, [-1]) for value in flat], axis=0)
    total = tf.raw_ops.CollectiveReduceV2(
        input=joined, merge_op='Add', final_op='Id', **self._arguments()
    )
    parts = tf.split(total, [_size(value) for value in flat])
    return tf.nest.pack_sequence_as(values, [
        tf.reshape(part, tf.shape(value)) for part, value in zip(parts, flat)
    ])

  def gathered(self, value: tf.Tensor) -> tf.Tensor:
    """`[n, ...]` of every worker, one after the other: `[K * n, ...]`.

    Args:
      value: of float, double, int32 or int64, of the same shape on every
        worker.
    """
    if tf.executing_eagerly():  # One key for each shape, not for each call.
      return self._gather_once(value)
    if value.dtype == tf.bool:
      return tf.cast(self.gathered(tf.cast(value, tf.int32)), tf.bool)
    return tf.raw_ops.CollectiveGatherV2(input=value, **self._arguments())

  def _arguments(self) -> dict[str, Any]:
    # Each worker traces the same, so that the keys agree.
    return dict(
        group_size=self.number, group_key=_GROUP_KEY,
        instance_key=next(self._keys), ordering_token=[],
        communication_hint=self._hint,
    )

  # ------------------------------------------------------------ in the loop

  def exchanged(self, data: bytes) -> list[bytes]:
    """What every worker gives, in their order."""
    sizes = self._gather_once(tf.constant([len(data)], tf.int32)).numpy()
    room = _LEAST_BYTES
    while room < sizes.max():
      room *= 2  # Few sizes: each is a function of its own.
    padded = np.zeros(room // 4, np.int32)
    padded.view(np.uint8)[:len(data)] = np.frombuffer(data, np.uint8)
    rows = self._gather_once(tf.constant(padded)).numpy().reshape(
        self.number, -1
    )
    return [
        row.tobytes()[:size] for row, size in zip(rows, sizes.tolist())
    ]

  # ------------------------------------------------------------- their lives

  def watch(self) -> None:
    """Begins to ask the others whether they live.

    A worker that has stopped keeps the others waiting for ever: once one does
    not answer, the operations in progress fail.
    """
    self._watch = threading.Thread(
        target=self._keep_watch, name='watch over workers', daemon=True
    )
    self._watch.start()

  def leave(self) -> None:
    """Waits for all others to come here; they may end from then on."""
    self.exchanged(b'')
    self._left.set()

  def lost(self, error: Exception) -> WorkerLostError:
    """What a failed operation means.

    Args:
      error: that an operation of this object raised.

    Returns:
      An error of one line, which names the worker where it is known.
    """
    self._left.set()
    if self._lost is None:
      named = [int(n) for n in _TASK.findall(str(error))]
      self._lost = next((n for n in named if n != self.index), None)
    if self._lost is None:
      return WorkerLostError('another worker has ended or cannot be reached')
    return WorkerLostError(
        f'worker {self._lost} ({self.addresses[self._lost]}) has ended or '
        'cannot be reached'
    )

  def _keep_watch(self) -> None:
    others = [n for n in range(self.number) if n != self.index]
    while not self._left.wait(_WATCH_INTERVAL):
      for number in others:
        try:
          context.context().check_collective_ops_peer_health(
              f'/job:worker/replica:0/task:{number}',
              timeout_in_ms=int(1000 * _WATCH_TIMEOUT),
          )
        except tf.errors.OpError as error:
          if self._left.is_set():
            return
          self._lost = number
          logging.warning(
              'worker %d does not answer: %s', number,
              str(error).partition('\n')[0],
          )
          context.context().abort_collective_ops(
              tf.errors.UNAVAILABLE, f'worker {number} does not answer'
          )
          return


def _size(value: tf.Tensor):
  size = value.shape.num_elements()
  return tf.size(value) if size is None else size


