"""The DNC: every equation against loops, the whole cell, where it is used.

The references are written from the Methods of Graves et al. 2016, one sequence
at a time and index by index, in float64. Where the paper's cosine divides by
the length of a vector of zeros, theirs is 0.
"""

import math

import gin
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from tf_agents.keras_layers import dynamic_unroll_layer
from tf_agents.networks import sequential
from tf_agents.policies import actor_policy
from tf_agents.policies import policy_saver
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts

from rnd_agent.layers import dnc
from rnd_agent.layers import dnc_memory

# Sequences, rows, width, heads, controller units, inputs, outputs, steps.
B, N, W, R, H, D, Y, T = 3, 7, 4, 2, 5, 6, 8, 6


@pytest.fixture(params=['eager', 'compiled'])
def run(request):
  """Calls a function of float arrays as float32, eagerly or compiled."""
  def call(function, *arrays):
    if request.param == 'compiled':
      function = tf.function(function)
    result = function(*(tf.constant(a, tf.float32) for a in arrays))
    return tf.nest.map_structure(lambda x: x.numpy(), result)
  return call


# ------------------------------------------------- the paper, loop by loop


def _sigmoid(x):
  return 1 / (1 + np.exp(-np.asarray(x, float)))


def _softmax(x):
  exponentials = [math.exp(value - max(x)) for value in x]
  return [e / sum(exponentials) for e in exponentials]


def _cosine(u, v):
  dot = sum(u[k] * v[k] for k in range(len(u)))
  lengths = math.sqrt(sum(a * a for a in u)) * math.sqrt(sum(a * a for a in v))
  return dot / lengths if lengths > 0 else 0.0


def _loop_content(memory, keys, strengths):
  return np.array([
      _softmax([_cosine(keys[k], row) * strengths[k] for row in memory])
      for k in range(len(keys))
  ])


def _loop_usage(old_usage, old_write, old_reads, free_gates):
  result = np.zeros(len(old_usage))
  for n in range(len(old_usage)):
    retention = 1.0
    for i in range(len(free_gates)):
      retention *= 1 - free_gates[i] * old_reads[i, n]
    u, w = old_usage[n], old_write[n]
    result[n] = (u + w - u * w) * retention
  return result


def _loop_allocation(usage):
  phi = sorted(range(len(usage)), key=lambda n: usage[n])
  result = np.zeros(len(usage))
  for j in range(len(usage)):
    product = 1.0
    for i in range(j):
      product *= usage[phi[i]]
    result[phi[j]] = (1 - usage[phi[j]]) * product
  return result


def _loop_write_weighting(content, allocated, allocation_gate, write_gate):
  return np.array([
      write_gate * (allocation_gate * a + (1 - allocation_gate) * c)
      for a, c in zip(allocated, content)
  ])


def _loop_write(memory, weighting, erase, vector):
  result = np.zeros_like(memory)
  for n in range(memory.shape[0]):
    for k in range(memory.shape[1]):
      result[n, k] = (
          memory[n, k] * (1 - weighting[n] * erase[k])
          + weighting[n] * vector[k]
      )
  return result


def _loop_precedence(old_precedence, weighting):
  total = sum(weighting)
  return np.array(
      [(1 - total) * p + w for p, w in zip(old_precedence, weighting)]
  )


def _loop_link(old_link, old_precedence, weighting):
  result = np.zeros_like(old_link)
  for i in range(len(weighting)):
    for j in range(len(weighting)):
      if i != j:
        result[i, j] = (
            (1 - weighting[i] - weighting[j]) * old_link[i, j]
            + weighting[i] * old_precedence[j]
        )
  return result


def _loop_directions(link, old_reads):
  backward, forward = np.zeros_like(old_reads), np.zeros_like(old_reads)
  for head in range(len(old_reads)):
    for i in range(len(link)):
      for j in range(len(link)):
        forward[head, i] += link[i, j] * old_reads[head, j]
        backward[head, i] += link[j, i] * old_reads[head, j]
  return backward, forward


def _loop_read_weightings(backward, content, forward, modes):
  result = np.zeros_like(content)
  for i in range(content.shape[0]):
    for n in range(content.shape[1]):
      result[i, n] = (
          modes[i, 0] * backward[i, n]
          + modes[i, 1] * content[i, n]
          + modes[i, 2] * forward[i, n]
      )
  return result


def _loop_read(memory, weightings):
  result = np.zeros([len(weightings), memory.shape[1]])
  for i in range(len(weightings)):
    for n in range(memory.shape[0]):
      for k in range(memory.shape[1]):
        result[i, k] += weightings[i, n] * memory[n, k]
  return result


def _loop_interface(vector, width, heads):
  position = 0

  def take(count):
    nonlocal position
    position += count
    return np.array(vector[position - count:position])

  def oneplus(x):
    return 1 + np.log(1 + np.exp(x))

  parts = dict(
      read_keys=np.array([take(width) for _ in range(heads)]),
      read_strengths=np.array([oneplus(take(1)[0]) for _ in range(heads)]),
      write_key=take(width),
      write_strength=oneplus(take(1)[0]),
      erase=_sigmoid(take(width)),
      write_vector=take(width),
      free_gates=np.array([_sigmoid(take(1)[0]) for _ in range(heads)]),
      allocation_gate=_sigmoid(take(1)[0]),
      write_gate=_sigmoid(take(1)[0]),
      read_modes=np.array([_softmax(take(3)) for _ in range(heads)]),
  )
  assert position == len(vector)
  return parts


def _loop_lstm(inputs, hidden, state, kernel, recurrent, bias):
  z = inputs @ kernel + hidden @ recurrent + bias
  gate_in, gate_forget, candidate, gate_out = np.split(z, 4)
  state = (
      _sigmoid(gate_forget) * state + _sigmoid(gate_in) * np.tanh(candidate)
  )
  return _sigmoid(gate_out) * np.tanh(state), state


def _loop_step(weights, x, old, width, heads):
  """One step of one sequence: (output, state), states as dicts."""
  kernel, recurrent, bias, to_interface, bias_i, to_output, bias_o = weights
  hidden, state = _loop_lstm(
      np.concatenate([x, *old['read_vectors']]), old['controller_output'],
      old['controller_state'], kernel, recurrent, bias,
  )
  say = _loop_interface(hidden @ to_interface + bias_i, width, heads)
  usage = _loop_usage(
      old['usage'], old['write_weighting'], old['read_weightings'],
      say['free_gates'],
  )
  content = _loop_content(
      old['memory'], [say['write_key']], [say['write_strength']]
  )[0]
  written = _loop_write_weighting(
      content, _loop_allocation(usage), say['allocation_gate'],
      say['write_gate'],
  )
  memory = _loop_write(
      old['memory'], written, say['erase'], say['write_vector']
  )
  link = _loop_link(old['link'], old['precedence'], written)
  backward, forward = _loop_directions(link, old['read_weightings'])
  reads = _loop_read_weightings(
      backward,
      _loop_content(memory, say['read_keys'], say['read_strengths']),
      forward, say['read_modes'],
  )
  vectors = _loop_read(memory, reads)
  output = np.concatenate([hidden, *vectors]) @ to_output + bias_o
  return output, dict(
      memory=memory, usage=usage, link=link,
      precedence=_loop_precedence(old['precedence'], written),
      write_weighting=written, read_weightings=reads, read_vectors=vectors,
      controller_output=hidden, controller_state=state,
  )


# ------------------------------------------------------- random quantities


def _weightings(rng, *shape):
  """Non-negative, sums over the last axis between 0 and 1."""
  shares = rng.dirichlet(np.full(shape[-1], .7), shape[:-1])
  return shares * rng.uniform(0, 1, [*shape[:-1], 1])


def _links(rng, batch, rows):
  """Links of some random writes, as the equations give them."""
  result = []
  for _ in range(batch):
    link, precedence = np.zeros([rows, rows]), np.zeros(rows)
    for _ in range(4):
      weighting = _weightings(rng, rows)
      link = _loop_link(link, precedence, weighting)
      precedence = _loop_precedence(precedence, weighting)
    result.append(link)
  return np.array(result)


def _state(rng, batch, rows, width, heads, units):
  """A state in which nothing is zero but the link's diagonal."""
  return dnc_memory.DNCState(
      memory=rng.normal(size=[batch, rows, width]),
      usage=rng.uniform(size=[batch, rows]),
      link=_links(rng, batch, rows),
      precedence=_weightings(rng, batch, rows),
      write_weighting=_weightings(rng, batch, rows),
      read_weightings=_weightings(rng, batch, heads, rows),
      read_vectors=rng.normal(size=[batch, heads, width]),
      controller_output=rng.uniform(-1, 1, [batch, units]),
      controller_state=rng.normal(size=[batch, units]),
  )


def _tensors(structure):
  return tf.nest.map_structure(
      lambda x: tf.constant(x, tf.float32), structure
  )


def _cell(rng, rows=N, width=W, heads=R, units=H, inputs=D, outputs=Y):
  """A cell of random weights, biases included, large enough to matter."""
  cell = dnc.DNCCell(rows, width, heads, units, outputs)
  cell.build([None, inputs])
  cell.set_weights([rng.normal(size=w.shape) * .7 for w in cell.weights])
  return cell


def _named(cell):
  """The weights in the order of the reference, float64."""
  layers = (cell._controller, cell._interface, cell._output)
  return [
      w.astype(np.float64) for layer in layers for w in layer.get_weights()
  ]


# ------------------------------------------------- each equation, by itself


def _equations():
  """(name, reference, inputs): distinct sizes, every input random."""
  rng = np.random.default_rng(0)
  memory = rng.normal(size=[B, N, W])
  reads = _weightings(rng, B, R, N)
  writes = _weightings(rng, B, N)
  gates = rng.uniform(size=[B])
  precedence = _weightings(rng, B, N)
  return [
      ('content_weightings', _loop_content,
       (memory, rng.normal(size=[B, R, W]), rng.uniform(1, 9, [B, R]))),
      ('next_usage', _loop_usage,
       (rng.uniform(size=[B, N]), writes, reads, rng.uniform(size=[B, R]))),
      ('allocation_weighting', _loop_allocation,
       (rng.uniform(size=[B, N]),)),
      ('write_weighting', _loop_write_weighting,
       (_weightings(rng, B, N), writes, gates, rng.uniform(size=[B]))),
      ('write_memory', _loop_write,
       (memory, writes, rng.uniform(size=[B, W]), rng.normal(size=[B, W]))),
      ('next_precedence', _loop_precedence, (precedence, writes)),
      ('next_link', _loop_link, (_links(rng, B, N), precedence, writes)),
      ('directional_weightings', _loop_directions,
       (_links(rng, B, N), reads)),
      ('read_weightings', _loop_read_weightings,
       (*(_weightings(rng, B, R, N) for _ in range(3)),
        rng.dirichlet(np.ones(3), [B, R]))),
      ('read_memory', _loop_read, (memory, reads)),
  ]


@pytest.mark.parametrize('name, reference, inputs', _equations(),
                         ids=[row[0] for row in _equations()])
def test_equation_equals_the_papers_loops(run, name, reference, inputs):
  result = run(getattr(dnc_memory, name), *inputs)
  per_sequence = [reference(*rows) for rows in zip(*inputs)]
  if isinstance(result, tuple):
    expected = tuple(np.array(part) for part in zip(*per_sequence))
  else:
    result, expected = (result,), (np.array(per_sequence),)
  for a, b in zip(result, expected):
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


def test_content_of_empty_rows_and_empty_keys(run):
  """An empty row is like nothing; an empty key likes all rows equally."""
  rng = np.random.default_rng(1)
  memory = rng.normal(size=[B, N, W])
  memory[0], memory[1, 2:5] = 0, 0
  keys = rng.normal(size=[B, R, W])
  keys[1, 0] = 0
  strengths = np.full([B, R], 20.0)
  weightings = run(dnc_memory.content_weightings, memory, keys, strengths)
  expected = [_loop_content(*row) for row in zip(memory, keys, strengths)]
  np.testing.assert_allclose(weightings, expected, atol=2e-4)
  np.testing.assert_allclose(weightings[0], np.full([R, N], 1 / N), rtol=1e-5)
  np.testing.assert_allclose(weightings[1, 0], np.full(N, 1 / N), rtol=1e-5)


def test_content_is_of_the_direction_not_of_the_length(run):
  memory = np.array([[[.3, .4], [-30., -40.], [30., -40.]]])
  weightings = run(
      dnc_memory.content_weightings, memory, [[[6., 8.]]], [[math.log(9)]]
  )
  # Cosines 1, -1, -.28: 9, 1 / 9 and 9^-.28, over their sum.
  expected = np.array([9, 1 / 9, 9**-.28])
  np.testing.assert_allclose(
      weightings[0, 0], expected / expected.sum(), rtol=1e-4
  )


@pytest.mark.parametrize('usage', [
    [0, 0, 0, 0],
    [1, 1, 1, 1],
    [1, 0, 1, 0],
    [1, 1, .25, 1],
    [.5, .5, .5, 0.5],
    [1, .5, 0, .25],
    [.9, .2, .2, .7],
])
def test_allocation_at_the_edges(run, usage):
  allocated = run(dnc_memory.allocation_weighting, [usage])[0]
  np.testing.assert_allclose(allocated, _loop_allocation(usage), atol=5e-6)
  assert allocated.min() >= 0 and allocated.sum() <= 1 + 1e-6


def test_allocation_of_a_known_list(run):
  """Ascending .2, .5, .8: .8, then .5 * .2, then .2 * .5 * .2."""
  allocated = run(dnc_memory.allocation_weighting, [[.5, .8, .2]])[0]
  np.testing.assert_allclose(allocated, [.1, .02, .8], atol=5e-6)


def test_usage_at_the_edges(run):
  """Untouched, written, read and kept, read and freed, freed by one of two."""
  usage = run(
      dnc_memory.next_usage, [[.3, 0, 1, 1, 1]], [[0, 1, 0, 0, 0]],
      [[[0, 0, 1, 0, .5], [0, 0, 0, 1, .5]]], [[0, 1]],
  )
  np.testing.assert_allclose(usage, [[.3, 1, 1, 0, .5]], atol=1e-6)


def test_write_erases_before_it_adds(run):
  """With w = 1 and e = 1 a row becomes v; with w = 0 it stays as it was."""
  memory = np.full([1, 3, 2], 5.0)
  result = run(
      dnc_memory.write_memory, memory, [[0, 1, .5]], [[1, 0]], [[7, 9]]
  )
  np.testing.assert_allclose(
      result[0], [[5, 5], [7, 14], [6, 9.5]], rtol=1e-6
  )


def test_link_follows_a_written_order_forwards_and_backwards(run):
  """Rows 3, 0, 5, 1 are written, then 0 once more: 3 no longer leads to it."""
  rows = np.eye(N)
  link, precedence = np.zeros([1, N, N]), np.zeros([1, N])

  def written(row):
    return (
        run(dnc_memory.next_link, link, precedence, rows[None, row]),
        run(dnc_memory.next_precedence, precedence, rows[None, row]),
    )

  def walk(start):
    read = rows[None, None, start]
    sides = run(dnc_memory.directional_weightings, link, read)
    return [side[0, 0] for side in sides]

  for row in (3, 0, 5, 1):
    link, precedence = written(row)
  nowhere = np.zeros(N)
  for row, before, after in (
      (3, nowhere, rows[0]), (0, rows[3], rows[5]), (5, rows[0], rows[1]),
      (1, rows[5], nowhere), (2, nowhere, nowhere),
  ):
    backward, forward = walk(row)
    np.testing.assert_array_equal(backward, before)
    np.testing.assert_array_equal(forward, after)
  link, precedence = written(0)
  np.testing.assert_array_equal(walk(1), [rows[5], rows[0]])
  np.testing.assert_array_equal(walk(0), [rows[1], nowhere])
  np.testing.assert_array_equal(walk(3), [nowhere, nowhere])
  np.testing.assert_array_equal(precedence[0], rows[0])


def test_a_row_written_twice_in_a_row_does_not_follow_itself(run):
  link, precedence = np.zeros([1, N, N]), np.zeros([1, N])
  for _ in range(2):
    link, precedence = (
        run(dnc_memory.next_link, link, precedence, np.eye(N)[None, 2]),
        run(dnc_memory.next_precedence, precedence, np.eye(N)[None, 2]),
    )
  np.testing.assert_array_equal(link, np.zeros([1, N, N]))


@pytest.mark.parametrize('width, heads', [(W, R), (3, 5), (1, 1), (64, 4)])
def test_interface_vector_is_split_as_in_the_paper(run, width, heads):
  sizes = dnc_memory.interface_sizes(width, heads)
  assert sum(sizes) == width * heads + 3 * width + 5 * heads + 3
  rng = np.random.default_rng(2)
  vectors = rng.normal(size=[B, sum(sizes)]) * 3
  parts = run(lambda x: dnc_memory.split_interface(x, width, heads), vectors)
  expected = [_loop_interface(v, width, heads) for v in vectors]
  for name, part in parts._asdict().items():
    np.testing.assert_allclose(
        part, np.array([e[name] for e in expected]), rtol=1e-4, atol=1e-6,
        err_msg=name,
    )


@pytest.mark.parametrize('name, _, inputs', _equations(),
                         ids=[row[0] for row in _equations()])
def test_wrong_shapes_are_refused(name, _, inputs):
  # Axes that no other tensor has.
  alone = {
      ('content_weightings', 0, 1), ('directional_weightings', 1, 1),
      ('read_memory', 0, 2), ('read_memory', 1, 1),
      ('allocation_weighting', 0, 0), ('allocation_weighting', 0, 1),
  }
  for place, array in enumerate(inputs):
    for axis in range(array.ndim):
      if (name, place, axis) in alone:
        continue
      wrong = list(inputs)
      wrong[place] = np.concatenate([array, array], axis)
      with pytest.raises(ValueError):
        getattr(dnc_memory, name)(*_tensors(wrong))


# -------------------------------------------------------- the memory at work


def _say(**parts):
  """What one controller says: nothing written, freed or sought but `parts`."""
  quiet = dict(
      read_keys=np.zeros([R, W]), read_strengths=np.full([R], 500.0),
      write_key=np.zeros([W]), write_strength=1.0, erase=np.ones([W]),
      write_vector=np.zeros([W]), free_gates=np.zeros([R]),
      allocation_gate=1.0, write_gate=0.0,
      read_modes=np.tile([0., 1., 0.], [R, 1]),
  )
  assert set(parts) <= set(quiet)
  return dnc_memory.Interface(**{
      name: tf.constant(np.array(value)[None], tf.float32)
      for name, value in {**quiet, **parts}.items()
  })


BACKWARD, FORWARD = np.tile([1., 0, 0], [R, 1]), np.tile([0, 0, 1.], [R, 1])
# Distinct directions, one per row.
WORDS = np.random.default_rng(3).normal(size=[N + 1, W])


def _full_memory():
  """A memory with WORDS[0] ... WORDS[N - 1] written in turn, and their rows.

  All rows of a fresh memory are free; which of them comes first is open.
  """
  cell = dnc.DNCCell(N, W, R, H)
  state, rows = cell.get_initial_state(batch_size=1), []
  for word in WORDS[:N]:
    state = dnc_memory.memory_step(_say(write_gate=1, write_vector=word), state)
    rows.append(int(np.argmax(state.write_weighting)))
    np.testing.assert_allclose(
        state.write_weighting[0], np.eye(N)[rows[-1]], atol=1e-5
    )
  assert sorted(rows) == list(range(N))
  np.testing.assert_allclose(
      tf.gather(state.memory[0], rows), WORDS[:N], atol=1e-4
  )
  return state, np.array(rows)


def _looked_at(state):
  """The row that each head reads, which must be one row."""
  weightings = state.read_weightings[0].numpy()
  assert weightings.max(axis=1).min() > .99
  return list(weightings.argmax(axis=1))


def test_allocation_frees_and_reuses_a_row():
  state, rows = _full_memory()
  write = dict(write_gate=1, write_vector=WORDS[N])
  # A full memory offers no row: the write goes nowhere.
  full = dnc_memory.memory_step(_say(**write), state)
  np.testing.assert_allclose(full.write_weighting, np.zeros([1, N]), atol=1e-4)
  np.testing.assert_allclose(full.memory, state.memory, atol=1e-3)
  # Both heads read; the second alone frees what it has read, and the next
  # write goes there.
  state = dnc_memory.memory_step(_say(read_keys=WORDS[[4, 1]]), state)
  assert _looked_at(state) == list(rows[[4, 1]])
  np.testing.assert_allclose(state.read_vectors[0], WORDS[[4, 1]], atol=1e-2)
  kept = dnc_memory.memory_step(_say(**write), state)
  assert np.abs(kept.write_weighting).max() < 1e-4
  state = dnc_memory.memory_step(_say(free_gates=[0, 1], **write), state)
  freed = np.eye(N)[rows[1]]
  np.testing.assert_allclose(state.write_weighting[0], freed, atol=1e-3)
  np.testing.assert_allclose(state.memory[0, rows[1]], WORDS[N], atol=1e-2)
  np.testing.assert_allclose(state.usage[0], 1 - freed, atol=1e-3)
  # Once written the row is in use again.
  state = dnc_memory.memory_step(_say(**write), state)
  np.testing.assert_allclose(state.usage[0], np.ones(N), atol=1e-3)
  assert np.abs(state.write_weighting).max() < 1e-3


def test_reads_walk_along_the_order_of_the_writes():
  state, rows = _full_memory()
  state = dnc_memory.memory_step(_say(read_keys=WORDS[[2, 5]]), state)
  assert _looked_at(state) == list(rows[[2, 5]])
  for modes, expected in (
      (FORWARD, [3, 6]), (BACKWARD, [2, 5]), (BACKWARD, [1, 4]),
      (FORWARD, [2, 5]),
  ):
    state = dnc_memory.memory_step(_say(read_modes=modes), state)
    assert _looked_at(state) == list(rows[expected])
    np.testing.assert_allclose(
        state.read_vectors[0], WORDS[expected], atol=2e-2
    )


# ------------------------------------------------------------ the whole cell


@pytest.mark.parametrize('fresh', [True, False])
def test_cell_equals_the_papers_loops_over_steps(run, fresh):
  rng = np.random.default_rng(4)
  cell = _cell(rng)
  weights = _named(cell)
  start = _state(rng, B, N, W, R, H)
  if fresh:
    start = dnc_memory.DNCState(*(np.zeros_like(part) for part in start))
  references = [
      {name: part[b] for name, part in start._asdict().items()}
      for b in range(B)
  ]
  # The free rows of a fresh memory are alike, and rounding orders them: there
  # only what does not depend on the order of the rows is compared.
  rowless = ('read_vectors', 'controller_output', 'controller_state')
  state = start
  for x in rng.normal(size=[T, B, D]):
    output, state = run(lambda x, *s: cell(x, s), x, *state)
    expected = [
        _loop_step(weights, x[b], references[b], W, R) for b in range(B)
    ]
    references = [new for _, new in expected]
    np.testing.assert_allclose(output, [y for y, _ in expected], atol=2e-3)
    for name in rowless if fresh else state._fields:
      np.testing.assert_allclose(
          getattr(state, name), np.array([r[name] for r in references]),
          atol=1e-3, err_msg=name,
      )
  # Weightings stay weightings.
  for part in (state.write_weighting, state.read_weightings,
               state.precedence, state.link):
    assert part.min() >= -1e-6 and part.sum(axis=-1).max() <= 1 + 1e-5


def test_gradients_equal_finite_differences_of_the_loops():
  """d(sum of outputs * random)/d(weights), central differences in float64."""
  rows, width, heads, units, inputs, outputs = 4, 3, 2, 3, 2, 2
  rng = np.random.default_rng(5)
  cell = _cell(rng, rows, width, heads, units, inputs, outputs)
  weights = _named(cell)
  start = _state(rng, 1, rows, width, heads, units)
  xs, factors = rng.normal(size=[3, inputs]), rng.normal(size=[3, outputs])

  def loss(weights):
    state = {name: part[0] for name, part in start._asdict().items()}
    total = 0.0
    for x, factor in zip(xs, factors):
      y, state = _loop_step(weights, x, state, width, heads)
      total += y @ factor
    return total

  with tf.GradientTape() as tape:
    state, total = _tensors(start), 0.0
    for x, factor in zip(xs, factors):
      y, state = cell(tf.constant(x[None], tf.float32), state)
      total += tf.reduce_sum(y * factor)
  variables = [
      v for layer in (cell._controller, cell._interface, cell._output)
      for v in layer.trainable_variables
  ]
  gradients = tape.gradient(total, variables)
  np.testing.assert_allclose(total, loss(weights), atol=1e-4)
  largest = max(np.abs(g).max() for g in gradients)
  for array, gradient, variable in zip(weights, gradients, variables):
    expected = np.zeros_like(array)
    for place in np.ndindex(array.shape):
      kept = array[place]
      sides = []
      for shift in (1e-5, -1e-5):
        array[place] = kept + shift
        sides.append(loss(weights))
      array[place] = kept
      expected[place] = (sides[0] - sides[1]) / 2e-5
    assert np.abs(expected).max() > 1e-3 * largest
    np.testing.assert_allclose(
        gradient, expected, atol=3e-4 * largest, err_msg=variable.name
    )


@pytest.mark.parametrize('usage', [[.3, 0, 1, .6], [1, .2, .4, .9]])
def test_allocation_gradient_at_usage_zero_and_one(usage):
  """Where no two are equal, so that the order stands."""
  factors = np.array([1., -2, 3, .5])
  x = tf.constant([usage], tf.float32)
  with tf.GradientTape() as tape:
    tape.watch(x)
    total = tf.reduce_sum(dnc_memory.allocation_weighting(x) * factors)
  expected = []
  for n in range(4):
    shift = 1e-6 * np.eye(4)[n]
    expected.append((
        _loop_allocation(usage + shift) @ factors
        - _loop_allocation(usage - shift) @ factors
    ) / 2e-6)
  np.testing.assert_allclose(tape.gradient(total, x)[0], expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('scale', [0.0, 1.0])
@pytest.mark.parametrize('compiled', [False, True])
def test_gradients_from_a_fresh_start_are_finite(scale, compiled):
  """With inputs of zeros too, when keys and memory stay zero for ever."""
  tf.keras.utils.set_random_seed(0)
  cell = dnc.DNCCell(N, W, R, H, Y)
  cell.build([None, D])
  inputs = scale * tf.random.stateless_normal([T, B, D], [1, 2])

  def gradients():
    state = cell.get_initial_state(batch_size=B)
    with tf.GradientTape() as tape:
      tape.watch([inputs, state])
      last, total = state, 0.0
      for x in tf.unstack(inputs):
        y, last = cell(x, last)
        total += tf.reduce_sum(y**2)
      total += sum(tf.reduce_sum(part) for part in last)
    return tape.gradient(
        total, [cell.trainable_variables, inputs, list(state)],
        unconnected_gradients='zero',
    )

  flat = tf.nest.flatten((tf.function(gradients) if compiled else gradients)())
  assert len(flat) == 7 + 1 + 9
  assert all(np.isfinite(g).all() for g in flat)
  if scale:
    assert all(np.abs(g).max() > 0 for g in flat[:7])


# --------------------------------------------------------- where it is used


def _step_by_step(cell, inputs, state, resets=None):
  """Outputs `[B, T, Y]` and the last state, the cell called T times."""
  outputs = []
  for t in range(inputs.shape[1]):
    if resets is not None:
      state = tf.nest.map_structure(
          lambda part, keep=~resets[:, t]: part * np.reshape(
              keep, [-1] + [1] * (part.shape.rank - 1)
          ).astype(np.float32),
          state,
      )
    output, state = cell(inputs[:, t], state)
    outputs.append(output)
  return tf.stack(outputs, axis=1), state


def _assert_close(a, b, atol=1e-5):
  tf.nest.map_structure(
      lambda x, y: np.testing.assert_allclose(x, y, atol=atol), a, b
  )


@pytest.mark.parametrize('static', [True, False])
@pytest.mark.parametrize('with_resets', [False, True])
def test_unrolled_at_once_equals_step_by_step(static, with_resets):
  rng = np.random.default_rng(6)
  cell = _cell(rng)
  unroll = dynamic_unroll_layer.DynamicUnroll(cell)
  state = _tensors(_state(rng, B, N, W, R, H))
  inputs = tf.constant(rng.normal(size=[B, T, D]), tf.float32)
  resets = rng.uniform(size=[B, T]) < .3 if with_resets else None
  batch, time = (B, T) if static else (None, None)

  @tf.function(input_signature=[tf.TensorSpec([batch, time, D])])
  def at_once(x):
    return unroll(x, initial_state=state, reset_mask=resets)

  outputs, last = at_once(inputs)
  assert isinstance(last, dnc_memory.DNCState)
  expected = _step_by_step(cell, inputs, state, resets)
  _assert_close(outputs, expected[0])
  _assert_close(list(last), list(expected[1]))
  if with_resets:
    assert resets.any() and not resets.all()
    # A reset begins anew, whatever went before.
    b, t = np.argwhere(resets)[-1]
    alone, _ = unroll(inputs[b:b + 1, t:])
    _assert_close(outputs[b, t:], alone[0])


@pytest.mark.parametrize('unroll', [False, True])
def test_keras_rnn_equals_step_by_step(unroll):
  rng = np.random.default_rng(7)
  cell = _cell(rng)
  layer = tf.keras.layers.RNN(
      cell, return_sequences=True, return_state=True, unroll=unroll
  )
  inputs = tf.constant(rng.normal(size=[B, T, D]), tf.float32)
  state = _tensors(_state(rng, B, N, W, R, H))
  fresh = cell.get_initial_state(batch_size=B)
  for start, arguments in ((fresh, {}), (state, {'initial_state': state})):
    outputs, *last = layer(inputs, **arguments)
    expected = _step_by_step(cell, inputs, start)
    assert outputs.shape == (B, T, Y)
    _assert_close(outputs, expected[0])
    _assert_close(list(last), list(expected[1]))


def test_fresh_start_is_all_zeros_in_float32():
  cell = dnc.DNCCell(N, W, R, H, Y)
  for state in (
      cell.get_initial_state(batch_size=B, dtype=tf.bfloat16),
      cell.get_initial_state(inputs=tf.zeros([B, D], tf.bfloat16)),
      cell.get_initial_state(batch_size=tf.constant(B)),
  ):
    tf.nest.assert_same_structure(state, cell.state_size)
    for part, shape in zip(state, cell.state_size):
      assert part.dtype == tf.float32
      assert part.shape == [B] + shape.as_list()
      assert not np.any(part)
  assert cell.output_size == [Y]
  assert dnc.DNCCell(N, W, R, H).output_size == [H]


@pytest.mark.parametrize('wrapper', [
    tf.keras.layers.RNN, dynamic_unroll_layer.DynamicUnroll
])
def test_float32_under_mixed_bfloat16(wrapper):
  rng = np.random.default_rng(8)
  exact = _cell(np.random.default_rng(9))
  inputs = tf.constant(rng.normal(size=[B, T, D]), tf.float32)
  # The wrappers round what they are given; these numbers stay what they are.
  integers = tf.constant(rng.integers(-4, 5, [B, T, D]), tf.float32)
  fresh = exact.get_initial_state(batch_size=B)
  before = tf.keras.mixed_precision.global_policy()
  try:
    tf.keras.mixed_precision.set_global_policy('mixed_bfloat16')
    cell = _cell(np.random.default_rng(9))
    outputs, state = _step_by_step(
        cell, inputs, cell.get_initial_state(batch_size=B)
    )
    wrapped = wrapper(cell, dtype='mixed_bfloat16')(integers)
  finally:
    tf.keras.mixed_precision.set_global_policy(before)
  everything = [outputs, *state, *cell.variables, *tf.nest.flatten(wrapped)]
  assert all(x.dtype == tf.float32 for x in everything)
  expected, expected_state = _step_by_step(exact, inputs, fresh)
  _assert_close(outputs, expected)
  _assert_close(list(state), list(expected_state))
  expected, _ = _step_by_step(exact, integers, fresh)
  if wrapper is tf.keras.layers.RNN:
    _assert_close(wrapped, expected[:, -1])
  else:
    _assert_close(wrapped[0], expected)


def test_policy_with_a_dnc_is_exported_and_loaded(tmp_path):
  tf.keras.utils.set_random_seed(1)
  actions = tensor_spec.BoundedTensorSpec([], tf.int32, 0, 4)
  steps = ts.time_step_spec(tf.TensorSpec([D], tf.float32))
  network = sequential.Sequential([
      dynamic_unroll_layer.DynamicUnroll(dnc.DNCCell(N, W, R, H, Y)),
      tf.keras.layers.Dense(5),
      tf.keras.layers.Lambda(lambda x: tfp.distributions.Categorical(x)),
  ], input_spec=steps.observation)
  policy = actor_policy.ActorPolicy(steps, actions, network)
  # More than one step decides: the actions come to differ from a fresh start.
  for variable in policy.variables():
    variable.assign(3 * variable)
  policy_saver.PolicySaver(policy).save(str(tmp_path / 'policy'))
  loaded = tf.saved_model.load(str(tmp_path / 'policy'))

  rng = np.random.default_rng(10)
  states = [p.get_initial_state(batch_size=B) for p in (policy, loaded)]
  for t in range(T):
    step = ts.transition(
        tf.constant(rng.normal(size=[B, D]), tf.float32), tf.zeros([B])
    ) if t else ts.restart(
        tf.constant(rng.normal(size=[B, D]), tf.float32), batch_size=B
    )
    distributions = policy.distribution(step, states[0])
    own, other = (
        p.action(step, s, seed=[t, 0]) if p is policy else p.action(step, s)
        for p, s in zip((policy, loaded), states)
    )
    assert own.action.shape == other.action.shape == (B,)
    states = [own.state, other.state]
    _assert_close(
        *(tf.nest.flatten(s) for s in states)
    )
    _assert_close(
        tf.nest.flatten(distributions.state), tf.nest.flatten(own.state)
    )
  assert max(np.abs(x).max() for x in tf.nest.flatten(states[0])) > .1


def test_layer_is_rebuilt_from_its_config():
  cell = _cell(np.random.default_rng(11))
  layer = tf.keras.layers.RNN(cell)
  inputs = tf.random.stateless_normal([B, T, D], [3, 4])
  expected = layer(inputs)
  again = tf.keras.layers.RNN.from_config(
      layer.get_config(), custom_objects={'DNCCell': dnc.DNCCell}
  )
  again(inputs)
  again.set_weights(layer.get_weights())
  _assert_close(again(inputs), expected)
  assert again.cell.get_config() == cell.get_config()


def test_initial_weights():
  cell = dnc.DNCCell(N, W, R, H, Y)
  cell.build([None, D])
  kernel, recurrent, bias = cell._controller.get_weights()
  assert kernel.shape == (D + R * W, 4 * H)
  np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(H), atol=1e-5)
  np.testing.assert_array_equal(
      bias, np.repeat([0, 1, 0, 0], H)  # In, forget, candidate, out.
  )
  for layer, inputs, outputs in (
      (cell._interface, H, W * R + 3 * W + 5 * R + 3),
      (cell._output, H + R * W, Y),
  ):
    kernel, bias = layer.get_weights()
    assert kernel.shape == (inputs, outputs) and not bias.any()
    assert np.abs(kernel).max() <= (6 / (inputs + outputs))**.5
  assert len({v.name for v in cell.trainable_variables}) == 7


def test_gin_binds_the_predecessors_setting():
  gin.clear_config()
  try:
    gin.parse_config("""
        DNCCell.memory_size = 256
        DNCCell.word_size = 64
        DNCCell.num_read_heads = 4
        DNCCell.controller_units = 48
    """)
    cell = dnc.DNCCell(output_units=9)
  finally:
    gin.clear_config()
  output, state = tf.function(cell)(
      tf.ones([2, D]), cell.get_initial_state(batch_size=2)
  )
  assert output.shape == (2, 9)
  assert state.memory.shape == (2, 256, 64)
  assert state.link.shape == (2, 256, 256)
  assert state.read_weightings.shape == (2, 4, 256)
  assert state.controller_output.shape == (2, 48)
  assert all(np.isfinite(part).all() for part in state)


@pytest.mark.parametrize('argument', [
    'memory_size', 'word_size', 'num_read_heads', 'controller_units',
    'output_units',
])
@pytest.mark.parametrize('value', [0, -3, 2.0, '4', True])
def test_sizes_must_be_positive_integers(argument, value):
  with pytest.raises(ValueError) as info:
    dnc.DNCCell(**{argument: value})
  message = str(info.value)
  assert f'DNCCell.{argument} = {value!r}' in message
  assert 'integer of at least 1' in message
  dnc.DNCCell(**{argument: np.int64(3)})


def test_building_again_keeps_the_weights():
  cell = _cell(np.random.default_rng(12))
  before = cell.get_weights()
  dynamic_unroll_layer.DynamicUnroll(cell)(tf.ones([B, T, D]))
  assert len(cell.weights) == 7
  for a, b in zip(before, cell.get_weights()):
    np.testing.assert_array_equal(a, b)


def test_inputs_of_unknown_size_are_refused():
  with pytest.raises(ValueError, match='last axis must be known'):
    dnc.DNCCell(N, W, R, H).build([None, None])


# -------------------------------------------------------------- the copy task


def _copy_loss(steps, length=4, width=4, batch=16):
  """Least mean loss over 50 steps in a row, in nats per bit."""
  tf.keras.utils.set_random_seed(1)
  cell = dnc.DNCCell(8, 8, 1, 16, output_units=width)
  network = tf.keras.layers.RNN(cell, return_sequences=True)
  optimizer = tf.keras.optimizers.Adam(.02, global_clipnorm=10.)
  rng = np.random.default_rng(1)

  @tf.function
  def step(bits):
    shown = tf.pad(bits, [[0, 0], [0, length], [0, 1]])
    with tf.GradientTape() as tape:
      loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(
          bits, network(shown)[:, length:]
      ))
    variables = network.trainable_variables
    optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
    return loss

  losses = []
  while len(losses) < steps and np.mean(losses[-50:] or [1]) > .03:
    bits = rng.integers(0, 2, [batch, length, width])
    losses.append(float(step(tf.constant(bits, tf.float32))))
  return np.mean(losses[-50:])


@pytest.mark.slow
def test_copies_through_its_memory(monkeypatch):
  """Four vectors of four bits; one that cannot seek by content stays behind."""
  assert _copy_loss(steps=900) < .03
  flat = dnc_memory.content_weightings
  monkeypatch.setattr(
      dnc_memory, 'content_weightings',
      lambda *arguments: tf.ones_like(flat(*arguments)) / 8,
  )
  assert _copy_loss(steps=450) > .15
