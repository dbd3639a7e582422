"""Parts of a trunk, the layers next to the observation."""

from __future__ import annotations

from typing import Sequence

import tensorflow as tf

PRECISIONS = ('float32', 'mixed_bfloat16')
# Slope of the leaky ReLU below 0: TensorFlow's default, the authors' choice.
_SLOPE = 0.2
# (filters, kernel, stride): the layers of Mnih et al. 2015, which the paper
# keeps for the policy, the predictor and the target.
NATURE_CONV_LAYERS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
# (least pixels of the smaller side, layers for images from there on). Whatever
# the size, the last layer's image has between 1 x 1 and 9 x 9 pixels.
_CONV_LAYERS_FROM = (
    (36, NATURE_CONV_LAYERS),
    (20, ((32, 4, 2), (64, 3, 2), (64, 3, 1))),
    (10, ((32, 3, 2), (64, 2, 1), (64, 2, 1))),
    (4, ((32, 2, 1), (64, 2, 1), (64, 2, 1))),
    (1, ((64, 1, 1),)),
)


def layer_policy(precision: str) -> tf.keras.mixed_precision.Policy:
  """Returns the Keras precision of a trunk's layers.

  Args:
    precision: one of `PRECISIONS`.

  Raises:
    ValueError: for any other.
  """
  if precision not in PRECISIONS:
    raise ValueError(
        f'precision = {precision!r}: must be one of {PRECISIONS}.'
    )
  return tf.keras.mixed_precision.Policy(precision)


@tf.custom_gradient
def leaky_relu(x: tf.Tensor) -> tf.Tensor:
  """`tf.nn.leaky_relu`, its gradient computed from the output.

  TensorFlow's own gradient needs the input as well. Then the input must be
  kept, so that a convolution and its activation cannot be fused into one
  operation; and it is slow in bfloat16.

  Args:
    x: float tensor.

  Returns:
    x where it is above 0, 0.2 x elsewhere (TensorFlow's default slope).
  """
  y = tf.nn.leaky_relu(x, _SLOPE)

  def gradient(dy):  # The output y has the sign of the input x.
    if dy.dtype == tf.bfloat16:
      above = tf.raw_ops.ReluGrad(gradients=dy, features=y)
      return _SLOPE * dy + (1.0 - _SLOPE) * above
    return tf.raw_ops.LeakyReluGrad(gradients=dy, features=y, alpha=_SLOPE)

  return y, gradient


def is_image(spec: tf.TensorSpec) -> bool:
  """Whether an observation is an image `[height, width, channels]`."""
  return spec.shape.rank == 3


def to_float(observation: tf.Tensor) -> tf.Tensor:
  """Returns the observation as float32, uint8 mapped to [0, 1]."""
  if observation.dtype == tf.uint8:
    return tf.cast(observation, tf.float32) / 255.0
  return tf.cast(observation, tf.float32)


def conv_layers_for(spec: tf.TensorSpec) -> Sequence[Sequence[int]]:
  """The convolutions that fit an image, for configs that name none.

  If the smaller side has 36 pixels or more, those of Mnih et al. 2015, which
  fit no smaller image. From 20, 10 and 4 pixels on: ones with smaller kernels
  and strides (MiniGrid's 7 x 7 cells: kernels of 2, no strides). Below 4
  pixels: one layer that sees each pixel alone.

  Args:
    spec: of an image `[height, width, channels]`.

  Returns:
    (filters, kernel, stride) per layer.
  """
  side = min(spec.shape[:2])
  return next(layers for least, layers in _CONV_LAYERS_FROM if side >= least)


def checked_conv_layers(
    spec: tf.TensorSpec, layers: Sequence[Sequence[int]] | None
) -> Sequence[Sequence[int]]:
  """The convolutions of a config, or those that fit where it names none.

  Args:
    spec: of an image `[height, width, channels]`.
    layers: (filters, kernel, stride) per layer, or None.

  Returns:
    (filters, kernel, stride) per layer.

  Raises:
    ValueError: if the image becomes smaller than a layer's kernel.
  """
  if layers is None:
    layers = conv_layers_for(spec)
  height, width = spec.shape[:2]
  for filters, kernel, stride in layers:
    if min(height, width) < kernel:
      raise ValueError(
          f'conv_layer_params = {tuple(layers)} do not fit an observation of '
          f'shape {tuple(spec.shape)}: the image is {height} x {width} where '
          f'the layer ({filters}, {kernel}, {stride}) needs {kernel} x '
          f'{kernel}. Use smaller kernels or strides, or a larger frame_size.'
      )
    height = (height - kernel) // stride + 1
    width = (width - kernel) // stride + 1
  return layers
