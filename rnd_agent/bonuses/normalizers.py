"""Running statistics of observations and of intrinsic returns.

Both stand on TF-Agents' `StreamingTensorNormalizer`, whose variables
(count, mean, sum of squared deviations) are kept in float32. Whole rollouts are
added at a time, by Chan's parallel formula in float64: a float32 count would
stall at 2^24 if samples came one by one, and a float32 sum of rows whose mean
is 1e6 times their deviation would lose the latter.
"""

from __future__ import annotations

import functools
from typing import Optional

import tensorflow as tf
from tf_agents.utils import tensor_normalizer

from rnd_agent.learning import replicas
from rnd_agent.learning import returns as returns_lib

# The host's count of no rows; 0 would divide by itself.
_NOTHING = 1e-8


class MaskedTensorNormalizer(tensor_normalizer.StreamingTensorNormalizer):
  """A `StreamingTensorNormalizer` whose updates can leave rows out."""

  def update_masked(self, tensor: tf.Tensor, mask: tf.Tensor) -> None:
    """Adds the rows that the mask keeps.

    The leading dimension is worked through one slice at a time, so that a
    rollout of uint8 images is never held as float64 as a whole.

    Args:
      tensor: `[B, T] + spec.shape`, any numeric dtype.
      mask: float32 `[B, T]`, 1 to keep a row.
    """
    for variable, value in zip(
        self._statistics(), self.merged(tensor, mask)
    ):
      variable.assign(value)

  def merged(self, tensor: tf.Tensor, mask: tf.Tensor) -> list[tf.Tensor]:
    """The statistics that `update_masked` would leave, nothing assigned.

    Args:
      tensor: `[B, T] + spec.shape`, any numeric dtype.
      mask: float32 `[B, T]`, 1 to keep a row.

    Returns:
      Count, mean, sum of squared deviations, and the rounding error that is
      carried along with that sum.
    """
    spec = self._flat_variable_spec[0]
    tensor.shape[2:].assert_is_compatible_with(spec.shape)
    mask = tf.cast(mask, tf.float64)

    def add_slice(i, *statistics):
      weights = mask[i]
      kept = tf.reshape(weights > 0, [-1] + [1] * spec.shape.rank)
      # Whatever is left out, NaN too, is 0: a weight of 0 would not do.
      rows = tf.where(kept, tf.cast(tensor[i], tf.float64), 0.0)
      count = tf.reduce_sum(weights)
      mean = tf.math.divide_no_nan(tf.tensordot(weights, rows, 1), count)
      deviations = tf.tensordot(
          weights, tf.math.squared_difference(rows, mean), 1
      )
      return i + 1, *_union(count, mean, deviations, *statistics)

    count, mean, deviations, carry = [
        tf.cast(variable, tf.float64) for variable in self._statistics()
    ]
    zeros = tf.zeros_like(mean)
    # The rollout's own statistics first, then one merge, with nothing left of
    # the count that stands for none: it would be rows of 0.
    _, *rollout = tf.while_loop(
        lambda i, *_: i < tf.shape(tensor)[0], add_slice, (0,) + (zeros,) * 3
    )
    rollouts = zip(*map(replicas.each, rollout))
    count, mean, exact = _union(
        *functools.reduce(lambda a, b: _union(*a, *b), rollouts),
        tf.where(count > _NOTHING, count, 0.0), mean, deviations - carry,
    )
    deviations = tf.cast(exact, tf.float32)
    return [
        tf.cast(tf.maximum(count, _NOTHING), tf.float32),
        tf.cast(mean, tf.float32),
        deviations,
        tf.cast(tf.cast(deviations, tf.float64) - exact, tf.float32),
    ]

  def _update_ops(self, tensor, outer_dims):
    """`update`, which the host calls with all outer dimensions, likewise."""
    del outer_dims
    rows = tf.reshape(tensor, [1, -1, *self._flat_variable_spec[0].shape])
    self.update_masked(rows, tf.ones(tf.shape(rows)[:2]))
    return []

  def _statistics(self) -> tuple[tf.Variable, ...]:
    return (self._count[0], self._avg[0], self._m2[0], self._m2_carry[0])

  @property
  def count(self) -> tf.Tensor:
    """Rows seen so far, float32 scalar (1e-8 before the first)."""
    return tf.reduce_max(self._count[0])

  @property
  def mean(self) -> tf.Tensor:
    """Running mean, float32 of the spec's shape."""
    return tf.identity(self._avg[0])

  @property
  def variance(self) -> tf.Tensor:
    """Running population variance, float32 of the spec's shape."""
    return self._m2[0] / self._count[0]


class ObservationNormalizer(MaskedTensorNormalizer):
  """clip((x - mean) / std, -c, c), per element (paper, section 2.4)."""

  def __init__(
      self,
      observation_spec: tf.TensorSpec,
      clip: float = 5.0,
      variance_epsilon: float = 1e-8,
      scope: str = 'normalize_rnd_observation',
  ):
    """Builds the statistics, all zero.

    Args:
      observation_spec: of what the predictor sees; its dtype is free, the
        statistics are float32.
      clip: bound of the result, in standard deviations.
      variance_epsilon: added to the variance.
      scope: name of the variables' scope.
    """
    self._clip = clip
    self._epsilon = variance_epsilon
    super().__init__(
        tf.TensorSpec(observation_spec.shape, tf.float32), scope=scope
    )

  def normalized(self, observation: tf.Tensor) -> tf.Tensor:
    """Normalizes `[..., *spec.shape]` of any dtype; float32 of that shape."""
    return self.normalize(
        tf.cast(observation, tf.float32),
        clip_value=self._clip,
        center_mean=True,
        variance_epsilon=self._epsilon,
    )


class DiscountedReturnNormalizer(tf.Module):
  """Divides rewards by the std of their running discounted return.

  i_t / std(R), R_t = gamma R_{t-1} + i_t (paper, section 2.4). No mean is
  subtracted and nothing is clipped. R is kept for every environment across
  rollouts and episodes; it belongs to the checkpoint.
  """

  def __init__(
      self,
      discount: float = 0.99,
      variance_epsilon: float = 1e-8,
      name: str = 'normalize_intrinsic_return',
  ):
    """Builds the statistics, all zero.

    Args:
      discount: gamma of the running return.
      variance_epsilon: added to the variance; at most 1e-8, or small bonuses
        are squashed (1e-3 makes a std of .01 act like .033).
      name: name of the module.
    """
    super().__init__(name=name)
    self._discount = discount
    self._epsilon = variance_epsilon
    self._statistics = MaskedTensorNormalizer(
        tf.TensorSpec([], tf.float32), scope=name
    )
    self._memory = None

  def build(self, num_environments: int) -> None:
    """Makes the filter's memory; the first update does it otherwise.

    Args:
      num_environments: B, of all workers, the same for the whole run.

    Raises:
      ValueError: if the memory is there for another number of environments.
    """
    if self._memory is None:
      with tf.init_scope():
        self._memory = tf.Variable(
            tf.zeros([num_environments]), trainable=False, name='return_memory'
        )
    if self._memory.shape[0] != num_environments:
      raise ValueError(
          'The intrinsic return filter remembers the returns of '
          f'{self._memory.shape[0]} environments and got a rollout of '
          f'{num_environments}: keep the number of environments.'
      )

  def update(
      self, rewards: tf.Tensor, boundaries: Optional[tf.Tensor] = None
  ) -> tf.Tensor:
    """Runs the filter over a rollout and adds its returns to the statistics.

    Args:
      rewards: float32 `[B, T]`, raw bonuses in the order of time.
      boundaries: bool `[B, T]`, rows that are no steps; none by default.

    Returns:
      The running returns, float32 `[B, T]`.

    Raises:
      ValueError: if B differs from earlier updates'.
    """
    if boundaries is None:
      boundaries = tf.zeros_like(rewards, dtype=tf.bool)
    self.build(replicas.environments_of_all(rewards.shape[0]))
    running, memory = returns_lib.discounted_return_filter(
        rewards, replicas.own(self._memory.value()), self._discount, boundaries
    )
    self._memory.assign(replicas.of_all(memory))
    self._statistics.update_masked(*_as_one_slice(running, boundaries))
    return running

  def preview(self, rewards: tf.Tensor, boundaries: tf.Tensor) -> tf.Tensor:
    """`normalized` as it will be after `update` with these rewards.

    Args:
      rewards: float32 `[B, T]`, raw bonuses in the order of time.
      boundaries: bool `[B, T]`, rows that are no steps.

    Returns:
      float32 `[B, T]`; nothing is updated.
    """
    memory = tf.zeros_like(rewards[:, 0])
    if self._memory is not None:
      memory = replicas.own(self._memory.value())
    running, _ = returns_lib.discounted_return_filter(
        rewards, memory, self._discount, boundaries
    )
    count, _, deviations, _ = self._statistics.merged(
        *_as_one_slice(running, boundaries)
    )
    return rewards / tf.sqrt(deviations / count + self._epsilon)

  def normalized(self, rewards: tf.Tensor) -> tf.Tensor:
    """`rewards / std`, float32 of the same shape."""
    return rewards / self.standard_deviation

  @property
  def statistics(self) -> MaskedTensorNormalizer:
    """Count, mean and variance of the running returns, not these."""
    return self._statistics

  @property
  def memory(self) -> tf.Tensor:
    """R after the last step seen, float32 `[B]`; needs `build` or `update`."""
    return self._memory.value()

  @property
  def variance(self) -> tf.Tensor:
    """Variance of the running return, float32 scalar."""
    return self._statistics.variance

  @property
  def standard_deviation(self) -> tf.Tensor:
    """What rewards are divided by, float32 scalar."""
    return tf.sqrt(self.variance + self._epsilon)


def _union(count_a, mean_a, deviations_a, count_b, mean_b, deviations_b):
  """Count, mean, squared deviations of two sets of rows (Chan et al., 1979).

  Either may be empty: its count and deviations are 0.
  """
  count = count_a + count_b
  difference = mean_b - mean_a
  step = difference * tf.math.divide_no_nan(count_b, count)
  return (
      count, mean_a + step,
      deviations_a + deviations_b + difference * count_a * step,
  )


def _as_one_slice(running, boundaries) -> tuple[tf.Tensor, tf.Tensor]:
  """One row of B * T samples and its mask: a rollout is added at once."""
  mask = tf.cast(tf.logical_not(boundaries), tf.float32)
  return tf.reshape(running, [1, -1]), tf.reshape(mask, [1, -1])
