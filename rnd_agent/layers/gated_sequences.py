"""Keras' GRU and LSTM cells over a whole sequence, with gradients by hand.

The same function as stepping the cell, up to rounding, but about twice as fast
(docs/recurrent.md): inputs are multiplied with their weights for all steps at
once, the backward pass keeps only the gates, and the gradient of the recurrent
weights is one product over all steps.

Formulas: Cho et al. 2014, arXiv 1406.1078, with the reset gate after the
product as in cuDNN (Keras' `reset_after`); Hochreiter & Schmidhuber 1997 with
the forget gate of Gers et al. 2000.
"""

from __future__ import annotations

from typing import NamedTuple, Optional, Sequence

import tensorflow as tf


class _Gru:
  """z, r: gates; c: candidate; h' = z h + (1 - z) c."""

  num_states = 1  # h

  @staticmethod
  def biases(cell):
    """Those of the product with the inputs, and with the state."""
    return cell.bias[0], cell.bias[1]

  @staticmethod
  def step(x, product, states):
    """Returns the next states and what `backward` needs."""
    (h,) = states
    units = h.shape[-1]
    x_gates, x_candidate = tf.split(x, [2 * units, units], axis=-1)
    gates, candidate = tf.split(product, [2 * units, units], axis=-1)
    gates = tf.sigmoid(x_gates + gates)
    z, r = tf.split(gates, 2, axis=-1)
    c = tf.tanh(x_candidate + r * candidate)
    return [c + z * (h - c)], [gates, c, candidate]

  @staticmethod
  def backward(kept, states, gradients):
    """Gradients: inputs' part, product, and states apart from the product."""
    (h,), (dh,) = states, gradients
    gates, c, candidate = kept
    z, r = tf.split(gates, 2, axis=-1)
    dc = dh * (1.0 - z) * (1.0 - c * c)
    d_gates = tf.concat([dh * (h - c), dc * candidate], axis=-1)
    d_gates *= gates * (1.0 - gates)
    return (
        tf.concat([d_gates, dc], axis=-1),
        tf.concat([d_gates, dc * r], axis=-1),
        [dh * z],
    )


class _Lstm:
  """i, f, o: gates; g: candidate; c' = f c + i g; h' = o tanh(c')."""

  num_states = 2  # h, c

  @staticmethod
  def biases(cell):
    return cell.bias, None

  @staticmethod
  def step(x, product, states):
    i, f, g, o = tf.split(x + product, 4, axis=-1)
    gates = tf.sigmoid(tf.concat([i, f, o], axis=-1))
    i, f, o = tf.split(gates, 3, axis=-1)
    g = tf.tanh(g)
    c = f * states[1] + i * g
    squashed = tf.tanh(c)
    return [o * squashed, c], [gates, g, squashed]

  @staticmethod
  def backward(kept, states, gradients):
    dh, dc = gradients
    gates, g, squashed = kept
    i, f, o = tf.split(gates, 3, axis=-1)
    dc += dh * o * (1.0 - squashed * squashed)
    slopes = gates * (1.0 - gates)
    di, df, do = tf.split(slopes * tf.concat(
        [dc * g, dc * states[1], dh * squashed], axis=-1
    ), 3, axis=-1)
    d_sum = tf.concat([di, df, dc * i * (1.0 - g * g), do], axis=-1)
    return d_sum, d_sum, [tf.zeros_like(dh), dc * f]


_CELLS = {tf.keras.layers.GRUCell: _Gru, tf.keras.layers.LSTMCell: _Lstm}


def formulas(cell) -> Optional[type]:
  """The formulas of a Keras cell; None for a cell that has others.

  Args:
    cell: a GRUCell or LSTMCell with Keras' defaults but for its size and the
      initial values of its weights, or any other object.
  """
  found = _CELLS.get(type(cell))
  if found is None:
    return None
  plain = (
      cell.use_bias
      and getattr(cell, 'reset_after', True)
      and cell.activation is tf.keras.activations.tanh
      and cell.recurrent_activation is tf.keras.activations.sigmoid
      and not cell.dropout
      and not cell.recurrent_dropout
  )
  return found if plain else None


def unroll(cell, inputs, states, reset_mask):
  """Steps a built cell that has `formulas` through a sequence.

  Args:
    cell: the cell.
    inputs: float32 `[B, T, n]`.
    states: h, or h and c, float32 `[B, units]` each, before the first step.
    reset_mask: bool `[B, T]`; before a step where it is True the state is 0.

  Returns:
    Outputs `[B, T, units]`, and the states after the last step.
  """
  cell_formulas = formulas(cell)
  input_bias, recurrent_bias = cell_formulas.biases(cell)
  recurrent_kernel = tf.convert_to_tensor(cell.recurrent_kernel)
  if recurrent_bias is None:
    recurrent_bias = tf.zeros_like(recurrent_kernel[0])
  x = tf.tensordot(inputs, cell.kernel, axes=1) + input_bias
  outputs, *states = _steps(cell_formulas)(
      tf.transpose(x, [1, 0, 2]), tf.transpose(reset_mask)[..., tf.newaxis],
      recurrent_kernel, recurrent_bias, *states,
  )
  return tf.transpose(outputs, [1, 0, 2]), states


class _Past(NamedTuple):
  """What the backward pass needs of each step, TensorArrays."""

  states: Sequence[tf.TensorArray]  # Before the step, after a reset.
  kept: Sequence[tf.TensorArray]


def _steps(cell_formulas):
  """The recurrence, as a function with a gradient of its own."""

  @tf.custom_gradient
  def steps(x, resets, kernel, bias, *states):
    """All arguments time first: x `[T, B, k]`, resets `[T, B, 1]`."""
    length = x.shape[0] or tf.shape(x)[0]
    resets_of = tf.TensorArray(
        tf.bool, length, clear_after_read=False
    ).unstack(resets)
    states_of, outputs, last = _forward(
        cell_formulas, length, x, resets_of, kernel, bias, states
    )

    def gradient(d_outputs, *d_last):
      return _backward(
          cell_formulas, length, resets_of, kernel, states_of, d_outputs,
          d_last,
      )

    return (outputs, *last), gradient

  return steps


def _arrays(length, number):
  """Arrays that may be read again, by the backward pass."""
  return [
      tf.TensorArray(tf.float32, length, clear_after_read=False)
      for _ in range(number)
  ]


def _forward(cell_formulas, length, x, resets_of, kernel, bias, states):
  """Returns the `_Past`, the outputs `[T, B, units]` and the last states."""
  x_of = tf.TensorArray(tf.float32, length).unstack(x)

  def body(t, states, outputs, past):
    states = [tf.where(resets_of.read(t), 0.0, s) for s in states]
    product = tf.matmul(states[0], kernel) + bias
    following, kept = cell_formulas.step(x_of.read(t), product, states)
    past = _Past(*(
        [array.write(t, value) for array, value in zip(arrays, values)]
        for arrays, values in zip(past, (states, kept))
    ))
    return t + 1, following, outputs.write(t, following[0]), past

  _, last, outputs, past = tf.while_loop(
      lambda t, *unused: t < length, body,
      (0, list(states), tf.TensorArray(tf.float32, length), _Past(
          _arrays(length, cell_formulas.num_states), _arrays(length, 3)
      )),
  )
  return past, outputs.stack(), last


def _backward(
    cell_formulas, length, resets_of, kernel, past, d_outputs, d_last
):
  """Gradients of x, resets (None), kernel, bias and the first states."""
  d_outputs_of = tf.TensorArray(tf.float32, length).unstack(d_outputs)
  transposed = tf.transpose(kernel)

  def body(t, d_states, d_x, d_product):
    dh, *others = d_states
    states = [array.read(t) for array in past.states]
    of_x, of_product, d_states = cell_formulas.backward(
        [array.read(t) for array in past.kept], states,
        [dh + d_outputs_of.read(t), *others],
    )
    dh, *others = d_states
    d_states = [
        tf.where(resets_of.read(t), 0.0, d)
        for d in [dh + tf.matmul(of_product, transposed), *others]
    ]
    return (
        t - 1, d_states, d_x.write(t, of_x), d_product.write(t, of_product)
    )

  _, d_states, d_x, d_product = tf.while_loop(
      lambda t, *unused: t >= 0, body,
      (length - 1, list(d_last), *_arrays(length, 2)),
  )
  h = past.states[0].concat()  # [T B, units]
  d_product = d_product.concat()
  return (
      d_x.stack(), None, tf.matmul(h, d_product, transpose_a=True),
      tf.reduce_sum(d_product, axis=0), *d_states,
  )
