"""The loss terms, pure: tensors in, scalars out.

Every mean is over real steps only: sum(x * mask) / sum(mask). A micro-batch is
a part of a minibatch, so the denominator is an argument: summing the losses of
the parts gives the loss of the whole, and so do the gradients.
"""

from __future__ import annotations

import tensorflow as tf


def masked_mean(
    values: tf.Tensor, mask: tf.Tensor, count: tf.Tensor | None = None
) -> tf.Tensor:
  """Mean over the rows that the mask keeps.

  Args:
    values: float32, any shape; a NaN in a masked row does no harm.
    mask: float32 of the same shape, 1 for real steps.
    count: float32 scalar, the mask's sum over the whole minibatch; defaults to
      this mask's.

  Returns:
    A float32 scalar; 0 where no row is kept.
  """
  values.shape.assert_is_compatible_with(mask.shape)
  if count is None:
    count = tf.reduce_sum(mask)
  total = tf.reduce_sum(tf.math.multiply_no_nan(values, mask))
  return tf.math.divide_no_nan(total, count)


def _ratio(log_probs: tf.Tensor, old_log_probs: tf.Tensor) -> tf.Tensor:
  """pi(a|s) / pi_old(a|s), kept finite: e^20 is far outside any clip."""
  return tf.exp(tf.clip_by_value(log_probs - old_log_probs, -20.0, 20.0))


def clipped_surrogate(
    log_probs: tf.Tensor,
    old_log_probs: tf.Tensor,
    advantages: tf.Tensor,
    clipping: float,
) -> tf.Tensor:
  """PPO's objective per step, negated (Schulman et al. 2017, equation 7).

      - min(ratio A, clip(ratio, 1 - eps, 1 + eps) A)

  Args:
    log_probs: float32 `[...]`, log pi(a|s) now.
    old_log_probs: float32 `[...]`, when the step was taken.
    advantages: float32 `[...]`.
    clipping: eps; 0 leaves the ratio unclipped.

  Returns:
    float32 `[...]`.
  """
  ratio = _ratio(log_probs, old_log_probs)
  objective = ratio * advantages
  if clipping > 0:
    clipped = tf.clip_by_value(ratio, 1.0 - clipping, 1.0 + clipping)
    objective = tf.minimum(objective, clipped * advantages)
  return -objective


def value_error(
    values: tf.Tensor,
    returns: tf.Tensor,
    old_values: tf.Tensor | None = None,
    clipping: float = 0.0,
) -> tf.Tensor:
  """Squared error of one value head per step, optionally clipped.

  Args:
    values: float32 `[...]`, V(o_t) now.
    returns: float32 `[...]`, targets A + V.
    old_values: float32 `[...]`, needed when `clipping` > 0.
    clipping: largest change of the value that is still rewarded; 0: none.

  Returns:
    float32 `[...]`.

  Raises:
    ValueError: for shapes that would broadcast, (N,) against (N, 1), or
      clipping without old values.
  """
  values.shape.assert_is_compatible_with(returns.shape)
  error = tf.math.squared_difference(values, returns)
  if clipping > 0:
    if old_values is None:
      raise ValueError('value clipping needs the old value predictions.')
    clipped = old_values + tf.clip_by_value(
        values - old_values, -clipping, clipping
    )
    error = tf.maximum(error, tf.math.squared_difference(clipped, returns))
  return error


def distillation_error(
    prediction: tf.Tensor, target: tf.Tensor
) -> tf.Tensor:
  """The predictor's error per sample: the bonus and its loss alike.

      1/k sum_k (predictor_k(o) - target_k(o))^2     (paper, section 2.2)

  Deviation: the paper writes the squared norm; its code takes the mean over
  the k features, as here. The two differ by the factor k.

  Args:
    prediction: float32 `[..., k]`.
    target: float32 `[..., k]`, constant.

  Returns:
    float32 `[...]`.
  """
  prediction.shape.assert_is_compatible_with(target.shape)
  return tf.reduce_mean(
      tf.math.squared_difference(prediction, tf.stop_gradient(target)), axis=-1
  )


def approximate_kl(log_probs: tf.Tensor, old_log_probs: tf.Tensor) -> tf.Tensor:
  """KL(old || new) per step, (r - 1) - log r (Schulman 2020): never negative.

  Args:
    log_probs: float32 `[...]`, now.
    old_log_probs: float32 `[...]`, when the step was taken.

  Returns:
    float32 `[...]`.
  """
  return _ratio(log_probs, old_log_probs) - 1.0 - (log_probs - old_log_probs)


def clipped_share(
    log_probs: tf.Tensor, old_log_probs: tf.Tensor, clipping: float
) -> tf.Tensor:
  """1 where the ratio has left [1 - eps, 1 + eps], else 0; float32 `[...]`."""
  ratio = _ratio(log_probs, old_log_probs)
  return tf.cast(tf.abs(ratio - 1.0) > clipping, tf.float32)


def explained_variance(
    predictions: tf.Tensor, returns: tf.Tensor, mask: tf.Tensor
) -> tf.Tensor:
  """1 - Var(returns - predictions) / Var(returns) over real steps.

  1 is perfect, 0 no better than a constant, below 0 worse than one. Where the
  returns do not vary there is nothing to explain: NaN, which the logs show as
  an empty cell. (Before any reward they still vary a little, with the
  predictions that they bootstrap from: then the figure is noise.)

  Args:
    predictions: float32 `[B, T]`.
    returns: float32 `[B, T]`.
    mask: float32 `[B, T]`.

  Returns:
    A float32 scalar.
  """
  def variance(x):
    mean = masked_mean(x, mask)
    return masked_mean(tf.math.squared_difference(x, mean), mask)

  total = variance(returns)
  # Constant returns have a variance of rounding errors.
  negligible = 1e-10 * tf.square(masked_mean(returns, mask))
  return tf.where(
      total > negligible,
      1.0 - variance(returns - predictions) / total,
      float('nan'),
  )
