"""Repairs of TF-Agents 0.19 where newer packages make it fail.

Importing this module applies them. Each says what it mends and when it can go;
nothing is changed where it works.
"""

import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tf_agents.specs import tensor_spec


class _Bounds(NamedTuple):
  """What `sample_bounded_spec` reads of a spec."""

  shape: tf.TensorShape
  dtype: tf.DType
  minimum: np.ndarray
  maximum: np.ndarray


def _repair_uint8_samples() -> None:
  """`tensor_spec.sample_bounded_spec` adds 1 to uint8 255.

  NumPy 2 keeps the type, so that the sum overflows; NumPy 1 made it int64.
  Every network samples its input spec once, so that images fail. Needless once
  TF-Agents adds 1 to a number of its sampling type, int32.
  """
  sample = tensor_spec.sample_bounded_spec

  @functools.wraps(sample)
  def repaired(spec, *args, **kwargs):
    if spec.dtype == tf.uint8:
      spec = _Bounds(
          spec.shape, spec.dtype, np.asarray(spec.minimum, np.int32),
          np.asarray(spec.maximum, np.int32),
      )
    return sample(spec, *args, **kwargs)

  tensor_spec.sample_bounded_spec = repaired


if np.lib.NumpyVersion(np.__version__) >= '2.0.0':
  _repair_uint8_samples()
