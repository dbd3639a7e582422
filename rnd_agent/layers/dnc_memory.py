"""The memory of the Differentiable Neural Computer, in pure functions.

Graves et al. 2016, "Hybrid computing using a neural network with dynamic
external memory", Nature 538, 471-476. Sections named below are those of its
Methods. The equations come in the order in which a step uses them;
`memory_step` composes them.

Shapes: B sequences, N rows of memory, W numbers per row, R read heads. There
is one write head. A weighting is a vector over the rows, non-negative and with
a sum of at most 1.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

# Keeps finite the gradients of a norm at the zero vector, and of a product
# with factors of zero.
_EPSILON = 1e-6


class Interface(NamedTuple):
  """What the controller says to the memory (Interface parameters)."""

  read_keys: tf.Tensor  # k^r [B, R, W].
  read_strengths: tf.Tensor  # beta^r [B, R], at least 1.
  write_key: tf.Tensor  # k^w [B, W].
  write_strength: tf.Tensor  # beta^w [B], at least 1.
  erase: tf.Tensor  # e [B, W], in [0, 1].
  write_vector: tf.Tensor  # v [B, W].
  free_gates: tf.Tensor  # f [B, R], in [0, 1].
  allocation_gate: tf.Tensor  # g^a [B], in [0, 1].
  write_gate: tf.Tensor  # g^w [B], in [0, 1].
  read_modes: tf.Tensor  # pi [B, R, 3]: backward, content, forward; sum 1.


class DNCState(NamedTuple):
  """What a step leaves to the next; all zeros is a fresh start."""

  memory: tf.Tensor  # M [B, N, W].
  usage: tf.Tensor  # u [B, N].
  link: tf.Tensor  # L [B, N, N].
  precedence: tf.Tensor  # p [B, N].
  write_weighting: tf.Tensor  # w^w [B, N].
  read_weightings: tf.Tensor  # w^r [B, R, N].
  read_vectors: tf.Tensor  # r [B, R, W].
  controller_output: tf.Tensor  # h [B, H], of the LSTM.
  controller_state: tf.Tensor  # s [B, H], of the LSTM.


def _check_shapes(*tensors_and_axes):
  """Raises ValueError unless axes of one letter have one size.

  Args:
    *tensors_and_axes: pairs of a tensor and a string, one letter per axis, or
      3 for an axis of that size.
  """
  sizes = {'3': 3}
  for tensor, axes in tensors_and_axes:
    tensor.shape.assert_has_rank(len(axes))
    for axis, size in zip(axes, tensor.shape):
      if size is not None and sizes.setdefault(axis, size) != size:
        raise ValueError(
            f'A tensor of shape {tensor.shape} where [{", ".join(axes)}] was '
            f'expected, the size of {axis} being {sizes[axis]}.'
        )


def interface_sizes(word_size: int, num_read_heads: int) -> tuple[int, ...]:
  """Sizes of the interface vector's parts; WR + 3W + 5R + 3 in sum."""
  width, heads = word_size, num_read_heads
  return (heads * width, heads, width, 1, width, width, heads, 1, 1, 3 * heads)


def split_interface(
    vector: tf.Tensor, word_size: int, num_read_heads: int
) -> Interface:
  """The interface vector, taken apart (Interface parameters).

      xi = [k^{r,1..R}; beta^{r,1..R}; k^w; beta^w; e; v; f^{1..R}; g^a; g^w;
            pi^{1..R}]

  with the ranges of the parts ensured by oneplus(x) = 1 + log(1 + e^x) for
  the strengths beta, the logistic sigmoid for the erase vector e and for the
  gates f, g, and a softmax over its three numbers for each read mode pi^i.

  Args:
    vector: xi, `[B, WR + 3W + 5R + 3]`.
    word_size: W.
    num_read_heads: R.

  Returns:
    An `Interface`.
  """
  keys, strengths, key, strength, erase, write, free, allocate, gate, modes = (
      tf.split(vector, interface_sizes(word_size, num_read_heads), axis=-1)
  )
  return Interface(
      read_keys=tf.reshape(keys, [-1, num_read_heads, word_size]),
      read_strengths=_oneplus(strengths),
      write_key=key,
      write_strength=_oneplus(tf.squeeze(strength, axis=-1)),
      erase=tf.sigmoid(erase),
      write_vector=write,
      free_gates=tf.sigmoid(free),
      allocation_gate=tf.sigmoid(tf.squeeze(allocate, axis=-1)),
      write_gate=tf.sigmoid(tf.squeeze(gate, axis=-1)),
      read_modes=tf.nn.softmax(tf.reshape(modes, [-1, num_read_heads, 3])),
  )


def _oneplus(x):
  return 1.0 + tf.math.softplus(x)


def content_weightings(
    memory: tf.Tensor, keys: tf.Tensor, strengths: tf.Tensor
) -> tf.Tensor:
  """Rows weighted by their likeness to a key (Content-based addressing).

      C(M, k, beta)[i] = exp(beta D(k, M[i])) / sum_j exp(beta D(k, M[j]))
      D(u, v) = u . v / (|u| |v|)

  Deviation: |u| is sqrt(u . u + 1e-6), so that an empty row, or a key of
  zeros, is like nothing (D = 0) and has a gradient.

  Args:
    memory: M, `[B, N, W]`.
    keys: k, `[B, K, W]`, K keys at once.
    strengths: beta, `[B, K]`.

  Returns:
    `[B, K, N]`, of sum 1 over N.
  """
  _check_shapes((memory, 'BNW'), (keys, 'BKW'), (strengths, 'BK'))

  def inverse_norms(vectors):
    # Not vectors**2: its gradient takes powers, which is slow.
    squares = tf.reduce_sum(tf.square(vectors), axis=-1)
    return tf.math.rsqrt(squares + _EPSILON)

  products = tf.matmul(keys, memory, transpose_b=True)
  scales = (strengths * inverse_norms(keys))[:, :, tf.newaxis]
  return tf.nn.softmax(
      products * scales * inverse_norms(memory)[:, tf.newaxis, :]
  )


def next_usage(
    old_usage: tf.Tensor,
    old_write_weighting: tf.Tensor,
    old_read_weightings: tf.Tensor,
    free_gates: tf.Tensor,
) -> tf.Tensor:
  """How much of each row is in use (Dynamic memory allocation).

      psi_t = prod_i (1 - f_t^i w_{t-1}^{r,i})                    (retention)
      u_t = (u_{t-1} + w_{t-1}^w - u_{t-1} o w_{t-1}^w) o psi_t

  A row comes into use by being written to, and out of use when a head that
  has just read it frees it.

  Args:
    old_usage: u_{t-1}, `[B, N]`, in [0, 1].
    old_write_weighting: w_{t-1}^w, `[B, N]`.
    old_read_weightings: w_{t-1}^r, `[B, R, N]`.
    free_gates: f_t, `[B, R]`, in [0, 1].

  Returns:
    u_t, `[B, N]`, in [0, 1].
  """
  _check_shapes(
      (old_usage, 'BN'), (old_write_weighting, 'BN'),
      (old_read_weightings, 'BRN'), (free_gates, 'BR'),
  )
  freed = free_gates[:, :, tf.newaxis] * old_read_weightings
  retention = tf.reduce_prod(1.0 - freed, axis=1)
  written = old_usage + old_write_weighting - old_usage * old_write_weighting
  return written * retention


def allocation_weighting(usage: tf.Tensor) -> tf.Tensor:
  """The weighting that offers the least used row (Dynamic memory allocation).

      a[phi[j]] = (1 - u[phi[j]]) prod_{i<j} u[phi[i]]

  where phi, the free list, has the rows in ascending order of usage. The
  gradient ignores that the order itself depends on the usage, as in the paper.

  Deviation: u is taken as 1e-6 + (1 - 1e-6) u: the gradient of a cumulative
  product divides by the factors.

  Args:
    usage: u_t, `[B, N]`, in [0, 1].

  Returns:
    a_t, `[B, N]`; all zeros if every row is in use.
  """
  free_list = tf.argsort(usage, axis=-1, stable=True)
  ascending = tf.gather(usage, free_list, batch_dims=1)
  ascending = _EPSILON + (1.0 - _EPSILON) * ascending
  all_before_used = tf.math.cumprod(ascending, axis=-1, exclusive=True)
  place_in_list = tf.argsort(free_list, axis=-1)
  return tf.gather(
      (1.0 - ascending) * all_before_used, place_in_list, batch_dims=1
  )


def write_weighting(
    content: tf.Tensor,
    allocated: tf.Tensor,
    allocation_gate: tf.Tensor,
    write_gate: tf.Tensor,
) -> tf.Tensor:
  """Where to write, if at all (Write weighting).

      w^w = g^w (g^a a + (1 - g^a) c^w)

  Args:
    content: c^w, `[B, N]`, rows like the write key.
    allocated: a, `[B, N]`, rows that are free.
    allocation_gate: g^a, `[B]`, between content (0) and allocation (1).
    write_gate: g^w, `[B]`; 0 writes nothing.

  Returns:
    w^w, `[B, N]`.
  """
  _check_shapes(
      (content, 'BN'), (allocated, 'BN'), (allocation_gate, 'B'),
      (write_gate, 'B'),
  )
  allocation_gate = allocation_gate[:, tf.newaxis]
  mixture = allocation_gate * allocated + (1.0 - allocation_gate) * content
  return write_gate[:, tf.newaxis] * mixture


def write_memory(
    old_memory: tf.Tensor,
    weighting: tf.Tensor,
    erase: tf.Tensor,
    vector: tf.Tensor,
) -> tf.Tensor:
  """Erases, then adds (Reading and writing to memory).

      M_t = M_{t-1} o (E - w^w e^T) + w^w v^T        (E: a matrix of ones)

  Args:
    old_memory: M_{t-1}, `[B, N, W]`.
    weighting: w^w, `[B, N]`.
    erase: e, `[B, W]`, in [0, 1].
    vector: v, `[B, W]`.

  Returns:
    M_t, `[B, N, W]`.
  """
  _check_shapes(
      (old_memory, 'BNW'), (weighting, 'BN'), (erase, 'BW'), (vector, 'BW')
  )
  kept = 1.0 - _outer(weighting, erase)
  return old_memory * kept + _outer(weighting, vector)


def _outer(columns, rows):
  """`[B, N]` and `[B, W]` to `[B, N, W]`: column times row."""
  return tf.matmul(columns[:, :, tf.newaxis], rows[:, tf.newaxis, :])


def next_precedence(
    old_precedence: tf.Tensor, weighting: tf.Tensor
) -> tf.Tensor:
  """How much each row was the last one written (Temporal memory linkage).

      p_t = (1 - sum_i w_t^w[i]) p_{t-1} + w_t^w,  p_0 = 0

  Args:
    old_precedence: p_{t-1}, `[B, N]`.
    weighting: w_t^w, `[B, N]`.

  Returns:
    p_t, `[B, N]`.
  """
  _check_shapes((old_precedence, 'BN'), (weighting, 'BN'))
  not_written = 1.0 - tf.reduce_sum(weighting, axis=-1, keepdims=True)
  return not_written * old_precedence + weighting


def next_link(
    old_link: tf.Tensor, old_precedence: tf.Tensor, weighting: tf.Tensor
) -> tf.Tensor:
  """Which row was written after which (Temporal memory linkage).

      L_t[i, j] = (1 - w_t^w[i] - w_t^w[j]) L_{t-1}[i, j]
                  + w_t^w[i] p_{t-1}[j]
      L_t[i, i] = 0,  L_0 = 0

  L[i, j] is the degree to which row i was the next written after row j.

  Args:
    old_link: L_{t-1}, `[B, N, N]`.
    old_precedence: p_{t-1}, `[B, N]`.
    weighting: w_t^w, `[B, N]`.

  Returns:
    L_t, `[B, N, N]`.
  """
  _check_shapes((old_link, 'BNN'), (old_precedence, 'BN'), (weighting, 'BN'))
  kept = (1.0 - weighting)[:, :, tf.newaxis] - weighting[:, tf.newaxis, :]
  new_link = kept * old_link + _outer(weighting, old_precedence)
  return tf.linalg.set_diag(new_link, tf.zeros_like(weighting))


def directional_weightings(
    link: tf.Tensor, old_read_weightings: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
  """One write back and one write on from the last reads (Temporal linkage).

      b_t^i = L_t^T w_{t-1}^{r,i},  f_t^i = L_t w_{t-1}^{r,i}

  Args:
    link: L_t, `[B, N, N]`.
    old_read_weightings: w_{t-1}^r, `[B, R, N]`.

  Returns:
    `(b_t, f_t)`, both `[B, R, N]`.
  """
  _check_shapes((link, 'BNN'), (old_read_weightings, 'BRN'))
  backward = tf.matmul(old_read_weightings, link)
  forward = tf.matmul(old_read_weightings, link, transpose_b=True)
  return backward, forward


def read_weightings(
    backward: tf.Tensor,
    content: tf.Tensor,
    forward: tf.Tensor,
    modes: tf.Tensor,
) -> tf.Tensor:
  """Where each head reads (Read weighting).

      w^{r,i} = pi^i[1] b^i + pi^i[2] c^{r,i} + pi^i[3] f^i

  Args:
    backward: b, `[B, R, N]`.
    content: c^r, `[B, R, N]`.
    forward: f, `[B, R, N]`.
    modes: pi, `[B, R, 3]`, of sum 1 over the last axis.

  Returns:
    w^r, `[B, R, N]`.
  """
  _check_shapes(
      (backward, 'BRN'), (content, 'BRN'), (forward, 'BRN'), (modes, 'BR3')
  )
  to_backward, to_content, to_forward = tf.split(modes, 3, axis=-1)
  return to_backward * backward + to_content * content + to_forward * forward


def read_memory(memory: tf.Tensor, weightings: tf.Tensor) -> tf.Tensor:
  """What the heads read (Reading and writing to memory).

      r^i = M^T w^{r,i}

  Args:
    memory: M, `[B, N, W]`.
    weightings: w^r, `[B, R, N]`.

  Returns:
    r, `[B, R, W]`.
  """
  _check_shapes((memory, 'BNW'), (weightings, 'BRN'))
  return tf.matmul(weightings, memory)


def memory_step(interface: Interface, old: DNCState) -> DNCState:
  """One step of the memory: first the write, then the reads.

  Args:
    interface: the controller's output, taken apart.
    old: the state after the last step.

  Returns:
    The state after this step, the controller's part of it unchanged.
  """
  usage = next_usage(
      old.usage, old.write_weighting, old.read_weightings, interface.free_gates
  )
  like_write_key = content_weightings(
      old.memory,
      interface.write_key[:, tf.newaxis, :],
      interface.write_strength[:, tf.newaxis],
  )
  written = write_weighting(
      tf.squeeze(like_write_key, axis=1), allocation_weighting(usage),
      interface.allocation_gate, interface.write_gate,
  )
  memory = write_memory(
      old.memory, written, interface.erase, interface.write_vector
  )

  link = next_link(old.link, old.precedence, written)
  backward, forward = directional_weightings(link, old.read_weightings)
  like_read_keys = content_weightings(
      memory, interface.read_keys, interface.read_strengths
  )
  looked_at = read_weightings(
      backward, like_read_keys, forward, interface.read_modes
  )
  return old._replace(
      memory=memory,
      usage=usage,
      link=link,
      precedence=next_precedence(old.precedence, written),
      write_weighting=written,
      read_weightings=looked_at,
      read_vectors=read_memory(memory, looked_at),
  )
