"""Recurrent cores: a Keras cell, or a stack of them, over a sequence."""

from __future__ import annotations

import gin
import tensorflow as tf
from tf_agents.keras_layers import dynamic_unroll_layer

from rnd_agent.layers import gated_sequences

# Cells that a config can name as `ActorCriticNetwork.core = @GRUCell()`.
for _cell in (tf.keras.layers.GRUCell, tf.keras.layers.LSTMCell):
  gin.external_configurable(_cell, module='rnd_agent')


class Core(tf.keras.layers.Layer):
  """A Keras cell, or a stack of them, stepped over a sequence in float32.

  Its state is a nest of tuples, also where the cell's own has lists, which
  TF-Agents' replay buffers do not store.
  """

  def __init__(self, cells):
    """Takes the cell.

    Args:
      cells: a Keras cell, or a list of them: each reads the one before it.

    Raises:
      ValueError: if it is no cell.
    """
    super().__init__(name='core', dtype=tf.float32)
    if isinstance(cells, (list, tuple)):
      cell = tf.keras.layers.StackedRNNCells(list(cells))
    else:
      cell = cells
    missing = [
        name for name in ('state_size', 'output_size', 'get_initial_state')
        if not hasattr(cell, name)
    ]
    if missing:
      shown = f'@{cells.__name__}' if isinstance(cells, type) else repr(cells)
      raise ValueError(
          f'ActorCriticNetwork.core = {shown}: a core is a Keras cell such '
          f'as GRUCell, or a list of them; this lacks {", ".join(missing)}.'
      )
    self._cell = cell
    self._has_formulas = all(map(gated_sequences.formulas, _parts(cell)))
    self._unroll = dynamic_unroll_layer.DynamicUnroll(cell)
    self.output_units = _size(cell.output_size)

  @property
  def state_spec(self):
    """Nest of float32 TensorSpecs: the state of one environment."""
    return _with_tuples(tf.nest.map_structure(
        lambda size: tf.TensorSpec(
            tf.TensorShape(size).as_list()
            if isinstance(size, tf.TensorShape) else [size], tf.float32
        ),
        self._cell.state_size,
    ))

  def call(self, inputs, state, reset_mask):
    """Steps through a sequence.

    Args:
      inputs: float32 `[B, T, n]`.
      state: as `state_spec`, `[B, ...]`, before the first step; () for zeros.
      reset_mask: bool `[B, T]`, whether a step begins an episode.

    Returns:
      Outputs `[B, T, output_units]` and the state after the last step.
    """
    if isinstance(state, tuple) and not state:
      state = self._cell.get_initial_state(
          batch_size=tf.shape(inputs)[0], dtype=tf.float32
      )
    state = tf.nest.flatten(state)
    if self._has_formulas and inputs.shape[1] != 1:
      outputs, state = self._by_formulas(inputs, state, reset_mask)
    else:
      outputs, state = self._unroll(
          inputs, reset_mask=reset_mask,
          initial_state=tf.nest.pack_sequence_as(self._cell.state_size, state),
      )
    return outputs, tf.nest.pack_sequence_as(
        self.state_spec, tf.nest.flatten(state)
    )

  def build(self, input_shape):
    """Creates the cell's variables."""
    with tf.name_scope(self._unroll.name):
      self._unroll.build(input_shape)
    super().build(input_shape)

  def _by_formulas(self, outputs, states, reset_mask):
    """Steps each cell through the whole sequence, one after another."""
    if reset_mask is None:
      reset_mask = tf.zeros(tf.shape(outputs)[:2], tf.bool)
    last = []
    for cell in _parts(self._cell):
      number = len(tf.nest.flatten(cell.state_size))
      outputs, of_cell = gated_sequences.unroll(
          cell, outputs, states[:number], reset_mask
      )
      last += of_cell
      states = states[number:]
    return outputs, last


def _parts(cell):
  """The cells of a stack, or the cell alone."""
  return getattr(cell, 'cells', [cell])


def _size(size) -> int:
  """A cell's output size, which is a number or a TensorShape, as a number."""
  if isinstance(size, tf.TensorShape):
    return size.num_elements()
  return int(size)


def _with_tuples(nest):
  """The nest with tuples in place of lists; named tuples stay as they are."""
  if isinstance(nest, list) or type(nest) is tuple:
    return tuple(_with_tuples(x) for x in nest)
  return nest
