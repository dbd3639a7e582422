"""Numbers by which observations are told apart."""

from __future__ import annotations

from typing import Optional

import numpy as np
import tensorflow as tf

# Of the random factors: the same in every run.
_SEED = 20_181_030


class Hash:
  """A number of 64 bits for an observation.

  Two different observations have the same with a chance of at most 2^-32, of
  small whole numbers about 2^-60.
  """

  def __init__(self, spec: tf.TensorSpec, cell_size: Optional[float] = None):
    """Draws the factors.

    Args:
      spec: of one observation.
      cell_size: float observations count as the same where they agree when
        divided by this and rounded down; None: where they are equal.

    Raises:
      ValueError: the size is not above 0.
    """
    if cell_size is not None and cell_size <= 0:
      raise ValueError(f'cell_size = {cell_size}: choose one above 0, or None.')
    self._cell_size = cell_size
    random = np.random.default_rng(_SEED)
    # Odd: a change of one number alone always changes the hash.
    self._factors = 2 * random.integers(
        0, 2**63, size=spec.shape.num_elements(), dtype=np.uint64
    ) + 1

  def __call__(self, observations: tf.Tensor) -> tf.Tensor:
    """int64 `[B, T]` of observations `[B, T, *spec.shape]`."""
    x = observations
    if x.dtype.is_floating:
      x = tf.cast(x, tf.float32)
      if self._cell_size is not None:
        x = tf.floor(x / self._cell_size)
      x = tf.bitcast(x + 0.0, tf.uint32)  # -0 and 0 are the same.
      x = folded(x, 16)  # Of round numbers the lower bits are 0.
    # One environment after another: a pixel takes 8 bytes meanwhile.
    return tf.map_fn(
        self._of_row, x,
        fn_output_signature=tf.TensorSpec([x.shape[1]], tf.int64),
    )

  def _of_row(self, x: tf.Tensor) -> tf.Tensor:
    numbers = tf.cast(tf.reshape(x, [tf.shape(x)[0], -1]), tf.uint64)
    # Unsigned numbers wrap around at 2^64.
    total = tf.reduce_sum(numbers * tf.constant(self._factors), axis=-1)
    return tf.bitcast(folded(total, 32), tf.int64)


def folded(x: tf.Tensor, shift: int) -> tf.Tensor:
  """Unsigned numbers, their upper bits carried to the lower ones."""
  return tf.bitwise.bitwise_xor(
      x, tf.bitwise.right_shift(x, tf.cast(shift, x.dtype))
  )
