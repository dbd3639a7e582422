"""Initial values of weights."""

import tensorflow as tf


class Orthogonal(tf.keras.initializers.Initializer):
  """Orthogonal matrices, different ones at every call.

  TF-Agents' `EncodingNetwork` initializes all its layers with one instance, and
  an instance of Keras' own gives the same values every time.
  """

  def __init__(self, gain: float):
    self._gain = gain

  def __call__(self, shape, dtype=None, **kwargs):
    return tf.keras.initializers.Orthogonal(self._gain)(shape, dtype, **kwargs)

  def get_config(self):
    return {'gain': self._gain}
