"""What a bonus remembers of the episode that each environment is in.

An episode's memory begins with its first observation, whichever form a rollout
has (see `learning.rollout`). It belongs to the environments: it is saved in
checkpoints and left out of `weight_items`.
"""

from __future__ import annotations

from typing import Optional

import tensorflow as tf

from rnd_agent.learning import replicas
from rnd_agent.learning import rollout as rollout_lib


def begins(steps: rollout_lib.Steps) -> tf.Tensor:
  """bool `[B, T + 1]`: observations that begin an episode."""
  return tf.equal(steps.step_types, rollout_lib.FIRST)


def within(steps: rollout_lib.Steps, values: tf.Tensor) -> tf.Tensor:
  """What steps earn by what they led to, within their episodes.

  Args:
    steps: B environments, T rows.
    values: float32 `[B, T]`, of o_1 ... o_T.

  Returns:
    float32 `[B, T]`; 0 where the next observation is another episode's: in the
    compact form for the steps that end one, whose own last observation is not
    in the rollout, and in boundary rows.
  """
  return tf.where(stays(steps) > 0, values, tf.zeros_like(values))


def stays(steps: rollout_lib.Steps) -> tf.Tensor:
  """float32 `[B, T]`: 1 for steps whose next observation is of their episode.

  In TF-Agents' form those that end one, too.
  """
  begins_next = begins(steps)[:, 1:]
  return steps.mask * tf.cast(tf.logical_not(begins_next), tf.float32)


class EpisodeState(tf.Module):
  """Something for each environment that begins anew with every episode."""

  def build(self, num_environments: int) -> None:
    """Makes it, before a restore; the first update does it otherwise.

    Args:
      num_environments: B, of all workers, the same for the whole run.

    Raises:
      ValueError: it is there for another number of environments.
    """
    raise NotImplementedError(f'{type(self).__name__}.build')


class Visits(EpisodeState):
  """The observations that each environment has seen in its episode."""

  def __init__(self, memory_size: int, name: Optional[str] = None):
    """Remembers nothing yet.

    Args:
      memory_size: how many observations of an episode are remembered from
        rollout to rollout; of longer episodes the last ones. An observation
        takes 8 bytes.
      name: of the module.

    Raises:
      ValueError: the size is not above 0.
    """
    super().__init__(name=name)
    if memory_size < 1:
      raise ValueError(f'memory_size = {memory_size}: choose one above 0.')
    self._memory_size = memory_size
    self._hashes = self._lengths = None

  def build(self, num_environments: int) -> None:
    """See `EpisodeState`."""
    if self._hashes is None:
      with tf.init_scope():
        self._hashes = tf.Variable(
            tf.zeros([num_environments, self._memory_size], tf.int64),
            trainable=False, name='visits',
        )
        self._lengths = tf.Variable(
            tf.zeros([num_environments], tf.int32), trainable=False,
            name='number_of_visits',
        )
    if self._hashes.shape[0] != num_environments:
      raise ValueError(
          f'The visits are those of {self._hashes.shape[0]} environments, got '
          f'a rollout of {num_environments}: keep the number of environments.'
      )

  def counts(self, steps: rollout_lib.Steps, hashes: tf.Tensor) -> tf.Tensor:
    """How often o_1 ... o_T were seen in their episodes, this time included.

    Args:
      steps: B environments, T rows, which follow those of the last `advance`.
      hashes: int64 `[B, T + 1]`, of o_0 ... o_T, see `hashing`.

    Returns:
      float32 `[B, T]`, at least 1. Changes nothing.
    """
    memory, lengths = self._before(steps, hashes)
    episodes = tf.cumsum(tf.cast(begins(steps)[:, 1:], tf.int32), axis=1)
    positions = tf.range(self._memory_size)

    def of_environment(args):
      memory, length, hashes, episodes = args
      same = tf.logical_and(
          hashes[:, tf.newaxis] == hashes, episodes[:, tf.newaxis] == episodes
      )
      here = tf.linalg.band_part(tf.cast(same, tf.float32), -1, 0)
      remembered = tf.logical_and(
          hashes[:, tf.newaxis] == memory,
          positions >= self._memory_size - length,
      )
      before = tf.reduce_sum(tf.cast(remembered, tf.float32), axis=1)
      return tf.reduce_sum(here, axis=1) + tf.where(episodes == 0, before, 0.0)

    return tf.map_fn(
        of_environment, (memory, lengths, hashes[:, 1:], episodes),
        fn_output_signature=tf.TensorSpec([hashes[:, 1:].shape[1]], tf.float32),
    )

  def advance(self, steps: rollout_lib.Steps, hashes: tf.Tensor) -> None:
    """Remembers the steps' observations.

    Args:
      steps: B environments, T rows.
      hashes: int64 `[B, T + 1]`, of o_0 ... o_T, see `hashing`.
    """
    memory, lengths = self._before(steps, hashes)
    rows = tf.shape(hashes)[1] - 1
    numbers = tf.where(begins(steps)[:, 1:], tf.range(rows), -1)
    last_begin = tf.reduce_max(numbers, axis=1)
    lengths = tf.where(last_begin < 0, lengths + rows, rows - last_begin)
    memory = tf.concat([memory, hashes[:, 1:]], axis=1)[:, -self._memory_size:]
    self._hashes.assign(replicas.of_all(memory))
    self._lengths.assign(
        replicas.of_all(tf.minimum(lengths, self._memory_size))
    )

  def _before(self, steps, hashes) -> tuple[tf.Tensor, tf.Tensor]:
    """What is remembered up to o_0: hashes, the newest last, and how many."""
    if hashes.shape[0] is not None:
      self.build(replicas.environments_of_all(hashes.shape[0]))
    batch = tf.shape(hashes)[0]
    memory = tf.zeros([batch, self._memory_size], tf.int64)
    alone = tf.concat([memory[:, 1:], hashes[:, :1]], axis=1)
    lengths = tf.zeros([batch], tf.int32)
    if self._hashes is not None:
      memory = replicas.own(self._hashes.value())
      lengths = replicas.own(self._lengths.value())
    first = begins(steps)[:, 0]
    return (
        tf.where(first[:, tf.newaxis], alone, memory),
        tf.where(first, 1, lengths),
    )
