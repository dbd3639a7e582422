"""GRU and LSTM by formulas equal Keras' cells, and so do their gradients."""

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.keras_layers import dynamic_unroll_layer

from rnd_agent.layers import cores
from rnd_agent.layers import gated_sequences

_BATCH, _LENGTH, _INPUTS, _UNITS = 3, 7, 5, 4
_CELLS = {
    'gru': tf.keras.layers.GRUCell,
    'lstm': tf.keras.layers.LSTMCell,
}


@pytest.fixture(params=list(_CELLS), name='cell')
def _cell(request):
  tf.keras.utils.set_random_seed(1)
  # Biases that differ, so that one left out or taken twice is seen.
  cell = _CELLS[request.param](_UNITS, bias_initializer='random_normal')
  cell.build([None, _INPUTS])
  return cell


def _data(cell):
  """Inputs, states before the first step, and where they are reset."""
  rng = np.random.default_rng(0)

  def normal(*shape):
    return tf.constant(rng.normal(size=shape), tf.float32)

  states = [
      normal(_BATCH, _UNITS) for _ in tf.nest.flatten(cell.state_size)
  ]
  resets = np.zeros([_BATCH, _LENGTH], bool)
  resets[0, 0] = resets[1, 3] = resets[1, 6] = True
  return normal(_BATCH, _LENGTH, _INPUTS), states, tf.constant(resets)


def _by_keras(cell):
  unroll = dynamic_unroll_layer.DynamicUnroll(cell)
  unroll.built = True  # As the cell is.

  def call(inputs, states, resets):
    outputs, last = unroll(
        inputs, reset_mask=resets,
        initial_state=tf.nest.pack_sequence_as(cell.state_size, states),
    )
    return outputs, tf.nest.flatten(last)

  return call


def _by_formulas(cell):
  return lambda *data: gated_sequences.unroll(cell, *data)


def _gradients(call, cell, data):
  """Those of a loss in which each output and last state has its own weight."""
  inputs, states, resets = data
  with tf.GradientTape() as tape:
    tape.watch([inputs, states])
    outputs, last = call(inputs, states, resets)
    loss = sum(
        tf.reduce_sum(x * tf.random.stateless_normal(x.shape, [1, 2]))
        for x in (outputs, *last)
    )
  return tape.gradient(
      loss, [inputs, *states, cell.kernel, cell.recurrent_kernel, cell.bias]
  )


def _assert_near(first, second):
  first, second = map(tf.nest.flatten, (first, second))
  assert len(first) == len(second)
  for a, b in zip(first, second):
    np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5 * np.abs(b).max())


@pytest.mark.parametrize('compiled', [False, True])
def test_outputs_and_last_states(cell, compiled):
  call, expected = _by_formulas(cell), _by_keras(cell)
  if compiled:
    call = tf.function(call)
  _assert_near(call(*_data(cell)), expected(*_data(cell)))


def test_gradients(cell):
  _assert_near(*(
      _gradients(call(cell), cell, _data(cell))
      for call in (_by_formulas, _by_keras)
  ))


def test_lengths_that_are_known_only_when_it_runs(cell):
  inputs, states, resets = _data(cell)
  call = tf.function(
      lambda x, r: gated_sequences.unroll(cell, x, states, r)[0],
      input_signature=[
          tf.TensorSpec([_BATCH, None, _INPUTS]),
          tf.TensorSpec([_BATCH, None], tf.bool),
      ],
  )
  for length in (1, 2, _LENGTH):
    part = inputs[:, :length], resets[:, :length]
    expected, _ = _by_keras(cell)(part[0], states, part[1])
    _assert_near(call(*part), expected)


@pytest.mark.parametrize('other', [
    tf.keras.layers.SimpleRNNCell(4),
    tf.keras.layers.GRUCell(4, reset_after=False),
    tf.keras.layers.GRUCell(4, use_bias=False),
    tf.keras.layers.GRUCell(4, activation='relu'),
    tf.keras.layers.LSTMCell(4, recurrent_activation='hard_sigmoid'),
    tf.keras.layers.LSTMCell(4, dropout=.1),
    tf.keras.layers.LSTMCell(4, recurrent_dropout=.1),
    type('OwnCell', (tf.keras.layers.LSTMCell,), {})(4),
])
def test_cells_with_other_formulas_are_stepped(other):
  assert gated_sequences.formulas(other) is None
  inputs = _data(other)[0]
  outputs, _ = cores.Core(other)(inputs, (), None)
  assert outputs.shape == [_BATCH, _LENGTH, 4]


def test_a_stack_without_resets():
  tf.keras.utils.set_random_seed(2)
  cells = [tf.keras.layers.LSTMCell(6), tf.keras.layers.GRUCell(4)]
  core = cores.Core(cells)
  inputs = _data(cells[1])[0]
  state = tf.nest.map_structure(
      lambda s: tf.random.normal([_BATCH, *s.shape]), core.state_spec
  )
  outputs, last = core(inputs, state, None)
  for t in range(_LENGTH):  # Single steps are Keras'.
    output, state = core(inputs[:, t:t + 1], state, None)
    _assert_near(outputs[:, t], output[:, 0])
  tf.nest.assert_same_structure(last, state)
  _assert_near(last, state)
