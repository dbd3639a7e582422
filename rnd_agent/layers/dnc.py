"""The Differentiable Neural Computer as a Keras cell.

Graves et al. 2016, "Hybrid computing using a neural network with dynamic
external memory", Nature 538, 471-476. The equations of its memory are in
`dnc_memory`, with the meaning of the letters in shapes.
"""

from __future__ import annotations

import numbers

import gin
import tensorflow as tf

from rnd_agent.layers import dnc_memory

DNCState = dnc_memory.DNCState  # The state of a cell, for users.


def _check_size(name, value):
  """Raises ValueError unless the argument is a positive integer."""
  integral = isinstance(value, numbers.Integral) and not isinstance(value, bool)
  if not integral or value < 1:
    raise ValueError(
        f'DNCCell.{name} = {value!r}: must be an integer of at least 1.'
    )


@gin.configurable(module='rnd_agent')
class DNCCell(tf.keras.layers.Layer):
  """An LSTM controller with an external memory.

  For `tf.keras.layers.RNN` and TF-Agents' `DynamicUnroll`. The state is a
  `DNCState`, float32 whatever the Keras precision; all zeros is a fresh start,
  so that a reset mask which zeroes a state begins a new episode.

  Initialisation: kernels are Glorot uniform, the LSTM's recurrent kernel is
  orthogonal, biases are 0 and the LSTM's forget bias is 1.

  Deviation: one LSTM layer, where the paper allows several; the interface and
  the output have a bias.
  """

  def __init__(
      self,
      memory_size=256,
      word_size=64,
      num_read_heads=4,
      controller_units=256,
      output_units=None,
      name='DNCCell',
  ):
    """Builds the layers.

    The link matrix takes 4 `memory_size`^2 bytes per sequence; training keeps
    two matrices of that size for every step.

    Args:
      memory_size: N, rows of the memory.
      word_size: W, numbers per row.
      num_read_heads: R.
      controller_units: H, units of the LSTM.
      output_units: size of the output y; None: `controller_units`.
      name: name of the layer.

    Raises:
      ValueError: for a size that is no positive integer.
    """
    super().__init__(name=name, dtype='float32')
    if output_units is None:
      output_units = controller_units
    _check_size('memory_size', memory_size)
    _check_size('word_size', word_size)
    _check_size('num_read_heads', num_read_heads)
    _check_size('controller_units', controller_units)
    _check_size('output_units', output_units)
    self._memory_size = memory_size
    self._word_size = word_size
    self._num_read_heads = num_read_heads
    self._controller_units = controller_units
    self._output_units = output_units
    self._controller = tf.keras.layers.LSTMCell(
        controller_units, dtype='float32', name='controller'
    )
    self._interface = tf.keras.layers.Dense(
        sum(dnc_memory.interface_sizes(word_size, num_read_heads)),
        dtype='float32', name='interface',
    )
    self._output = tf.keras.layers.Dense(
        output_units, dtype='float32', name='output'
    )

  @property
  def state_size(self) -> DNCState:
    """A `DNCState` of TensorShapes, without the batch axis."""
    rows, width = self._memory_size, self._word_size
    heads, units = self._num_read_heads, self._controller_units
    shapes = DNCState(
        memory=[rows, width],
        usage=[rows],
        link=[rows, rows],
        precedence=[rows],
        write_weighting=[rows],
        read_weightings=[heads, rows],
        read_vectors=[heads, width],
        controller_output=[units],
        controller_state=[units],
    )
    return DNCState(*map(tf.TensorShape, shapes))

  @property
  def output_size(self) -> tf.TensorShape:
    """Shape of the output, without the batch axis."""
    return tf.TensorShape([self._output_units])

  def get_initial_state(self, inputs=None, batch_size=None, dtype=None):
    """A fresh start: a `DNCState` of zeros.

    Args:
      inputs: `[B, ...]`, read for B alone; or None.
      batch_size: B, an integer or a scalar tensor, if `inputs` is None.
      dtype: unused; the state is float32.

    Returns:
      A `DNCState`, float32.
    """
    del dtype
    if inputs is not None:
      batch_size = tf.shape(inputs)[0]
    return tf.nest.map_structure(
        lambda shape: tf.zeros([batch_size, *shape], tf.float32),
        self.state_size,
    )

  def build(self, input_shape):
    """Makes the variables, once; `input_shape` is `[..., features]`.

    Wrappers build their cell again, even one that is built.
    """
    if self.built:
      return
    features = tf.TensorShape(input_shape)[-1]
    if features is None:
      raise ValueError(
          f'DNCCell got inputs of shape {input_shape}: the size of the last '
          'axis must be known. Set it with tf.ensure_shape.'
      )
    units, reads = (
        self._controller_units, self._num_read_heads * self._word_size
    )
    for layer, size in (
        (self._controller, features + reads),
        (self._interface, units),
        (self._output, units + reads),
    ):
      with tf.name_scope(layer.name):
        layer.build([None, size])
    super().build(input_shape)

  def call(self, inputs, states, training=False):
    """One step.

    Args:
      inputs: x_t, `[B, features]`.
      states: a `DNCState`, or its parts in order.
      training: unused.

    Returns:
      `(y_t, DNCState)`, y_t of shape `[B, output_units]`.
    """
    del training
    old = DNCState(*states)
    inputs = tf.cast(inputs, tf.float32)

    hidden, (_, controller_state) = self._controller(
        tf.concat([inputs, _flat(old.read_vectors)], axis=-1),
        [old.controller_output, old.controller_state],
    )
    interface = dnc_memory.split_interface(
        self._interface(hidden), self._word_size, self._num_read_heads
    )
    new = dnc_memory.memory_step(interface, old)._replace(
        controller_output=hidden, controller_state=controller_state
    )
    # y_t = W_y h_t + W_r [r_t^1; ...; r_t^R]: one product for both.
    output = self._output(
        tf.concat([hidden, _flat(new.read_vectors)], axis=-1)
    )
    return output, new

  def get_config(self):
    """The constructor's arguments."""
    return dict(
        memory_size=self._memory_size,
        word_size=self._word_size,
        num_read_heads=self._num_read_heads,
        controller_units=self._controller_units,
        output_units=self._output_units,
        name=self.name,
    )


def _flat(vectors):
  """`[B, R, W]` to `[B, RW]`: the heads' vectors one after the other."""
  return tf.reshape(vectors, [-1, vectors.shape[1] * vectors.shape[2]])
