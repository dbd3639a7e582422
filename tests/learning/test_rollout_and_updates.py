"""Which rows are steps, which environments and samples make up an update."""

import math

import numpy as np
import pytest
import tensorflow as tf

from rnd_agent import config
from rnd_agent.learning import micro_batches as updates
from rnd_agent.learning import rollout as rollout_lib

FIRST, MID, LAST = 0, 1, 2


@pytest.fixture(params=['eager', 'compiled'])
def compiled(request):
  """Wraps a function into `tf.function`, or leaves it."""
  return tf.function if request.param == 'compiled' else (lambda f: f)


def _rollout(step_types, next_step_types=None, **fields):
  """A rollout of which only step types and some fields matter."""
  step_types = tf.constant(step_types, tf.int32)
  if next_step_types is None:
    next_step_types = step_types[:, 1:]
  names = rollout_lib.Rollout._fields
  return rollout_lib.Rollout(**{
      **{name: () for name in names},
      'step_types': step_types,
      'next_step_types': tf.constant(next_step_types, tf.int32),
      **{k: tf.constant(v, tf.float32) for k, v in fields.items()},
  })


# As drivers record it: two environments, T = 6. The first has an end in the
# middle; the second starts on a boundary row and ends on LAST.
BOUNDARY = _rollout([
    [MID, MID, LAST, FIRST, MID, MID, MID],
    [LAST, FIRST, LAST, FIRST, MID, MID, LAST],
])
# As our collector records it: T = 4, the reset's observation follows an end.
COMPACT = _rollout(
    [[MID, MID, FIRST, MID, MID], [MID, FIRST, FIRST, MID, FIRST]],
    [[MID, LAST, MID, MID], [LAST, LAST, MID, LAST]],
)


# ------------------------------------------------------------ rows and ends


def test_boundaries_mask_and_ends(compiled):
  def masks(rollout):
    return rollout.boundaries, rollout.mask, rollout.ends

  boundaries, mask, ends = compiled(masks)(BOUNDARY)
  expected = np.array([[0, 0, 1, 0, 0, 0], [1, 0, 1, 0, 0, 0]])
  np.testing.assert_array_equal(boundaries, expected.astype(bool))
  np.testing.assert_array_equal(mask, 1 - expected)
  np.testing.assert_array_equal(
      ends, np.array([[0, 1, 0, 0, 0, 0], [0, 1, 0, 0, 0, 1]], bool)
  )
  boundaries, mask, ends = compiled(masks)(COMPACT)
  assert not boundaries.numpy().any()
  np.testing.assert_array_equal(mask, np.ones([2, 4]))
  np.testing.assert_array_equal(
      ends, np.array([[0, 1, 0, 0], [1, 1, 0, 1]], bool)
  )


def test_value_after_an_end_where_it_was_recorded():
  """V(o_LAST): from the row itself, or what the collector put beside it."""
  values = [[0, 1, 2, 3, 4, 5, 6], [10, 11, 12, 13, 14, 15, 16]]
  beside = np.full([2, 6], -1)
  boundary = BOUNDARY._replace(
      values_ext=tf.constant(values, tf.float32),
      final_values_ext=tf.constant(beside, tf.float32),
  )
  ends = boundary.ends.numpy()
  np.testing.assert_array_equal(
      boundary.end_values_ext.numpy()[ends], [2, 12, 16]
  )
  beside = [[0, 7, 0, 0], [8, 9, 0, 6]]
  compact = COMPACT._replace(
      values_ext=tf.constant(values, tf.float32)[:, :5],
      final_values_ext=tf.constant(beside, tf.float32),
  )
  np.testing.assert_array_equal(
      compact.end_values_ext.numpy()[compact.ends.numpy()], [7, 8, 9, 6]
  )


def test_next_observations_begin_with_the_second():
  rollout = COMPACT._replace(observations={
      'a': tf.reshape(tf.range(10), [2, 5]), 'b': tf.zeros([2, 5, 3])
  })
  following = rollout.steps.next_observations()
  np.testing.assert_array_equal(following['a'], [[1, 2, 3, 4], [6, 7, 8, 9]])
  assert following['b'].shape == (2, 4, 3)


# ------------------------------------------------- who earns which bonus

# bonuses[b, t] belongs to o_{t+1}.
BONUSES = np.array([[1, 2, 3, 4, 5, 6], [11, 12, 13, 14, 15, 16]], np.float32)


@pytest.mark.parametrize('bonus_at_end, expected', [
    # The step that ended on LAST earns the reset's frame, one row later; the
    # rollout that ends on LAST has none yet and takes that of o_LAST.
    ('reset', [[1, 3, 0, 4, 5, 6], [0, 13, 0, 14, 15, 16]]),
    ('terminal', [[1, 2, 0, 4, 5, 6], [0, 12, 0, 14, 15, 16]]),
])
def test_bonuses_of_steps_in_the_form_of_drivers(
    compiled, bonus_at_end, expected
):
  actual = compiled(
      lambda b: BOUNDARY.steps.earned(b, bonus_at_end)
  )(tf.constant(BONUSES))
  np.testing.assert_array_equal(actual, expected)


def test_bonuses_of_steps_in_compact_form():
  bonuses = tf.constant(BONUSES[:, :4])
  np.testing.assert_array_equal(
      COMPACT.steps.earned(bonuses, 'reset'), bonuses
  )


def test_both_forms_give_the_same_bonuses():
  """One stream, recorded in both forms; bonus k belongs to observation k."""
  # o0 o1 | LAST=8 | o2(FIRST) o3 o4
  boundary = _rollout([[MID, MID, LAST, FIRST, MID, MID]])
  compact = _rollout([[MID, MID, FIRST, MID, MID]], [[MID, LAST, MID, MID]])
  in_boundary = boundary.steps.earned(
      tf.constant([[1., 8, 2, 3, 4]]), 'reset'
  ).numpy()[boundary.mask.numpy() > 0]
  in_compact = compact.steps.earned(
      tf.constant([[1., 2, 3, 4]]), 'reset'
  ).numpy()[0]
  np.testing.assert_array_equal(in_boundary, in_compact)


def test_observations_that_count():
  """'reset' leaves out o_LAST, 'terminal' the frame of the reset.

  But o_LAST in the last column, whose reset is not recorded, earns its bonus
  and so counts: what is never trained on would stay novel for ever.
  """
  np.testing.assert_array_equal(
      BOUNDARY.steps.outcome_mask('reset'),
      [[1, 0, 1, 1, 1, 1], [1, 0, 1, 1, 1, 1]],
  )
  np.testing.assert_array_equal(
      BOUNDARY.steps.outcome_mask('terminal'),
      [[1, 1, 0, 1, 1, 1], [0, 1, 0, 1, 1, 1]],
  )
  np.testing.assert_array_equal(
      COMPACT.steps.outcome_mask('reset'), np.ones([2, 4])
  )


# -------------------------------------------------------------- minibatches


def _generator(seed=1):
  return tf.random.Generator.from_seed(seed)


@pytest.mark.parametrize('shuffled', [False, True])
def test_every_environment_once_per_epoch(compiled, shuffled):
  generator = _generator() if shuffled else None
  order = compiled(
      lambda: updates.sequence_order(12, 5, 3, generator)
  )().numpy()
  assert order.shape == (15, 4)
  epochs = order.reshape([5, 12])
  np.testing.assert_array_equal(
      np.sort(epochs, axis=1), np.tile(np.arange(12), [5, 1])
  )
  if shuffled:
    assert len({tuple(e) for e in epochs}) == 5
  else:
    np.testing.assert_array_equal(epochs, np.tile(np.arange(12), [5, 1]))


def test_environments_that_cannot_be_dealt_are_one_clear_line():
  with pytest.raises(ValueError) as info:
    updates.sequence_order(10, 2, 4, None)
  message = str(info.value)
  assert '\n' not in message
  for word in ('10 environments', '4 minibatches', 'num_minibatches'):
    assert word in message


@pytest.mark.parametrize('environments, length, size, expected', [
    (32, 128, 256, 2), (32, 128, 100, 1), (8, 3, 1000, 8), (6, 10, 45, 3),
    (6, 10, 59, 3), (7, 10, 60, 1), (1, 5000, 256, 1),
])
def test_environments_per_micro_batch(environments, length, size, expected):
  assert updates.micro_batch_sequences(
      environments, length, size
  ) == expected


# ------------------------------------------------------------------ subsets


def test_subsets_are_drawn_without_replacement(compiled):
  generator = _generator()
  draw = compiled(
      lambda: updates.random_subset(tf.ones([40]), .25, generator)
  )
  drawn = [draw().numpy() for _ in range(5)]
  for indices in drawn:
    assert indices.shape == (10,) and indices.dtype == np.int32
    assert len(set(indices)) == 10
    assert indices.min() >= 0 and indices.max() < 40
  # Redrawn in every pass.
  assert len({tuple(sorted(indices)) for indices in drawn}) == 5


def test_subsets_are_uniform():
  generator = _generator(2)
  draw = tf.function(
      lambda: updates.random_subset(tf.ones([8]), .25, generator)
  )
  counts = np.bincount(
      np.concatenate([draw().numpy() for _ in range(4000)]), minlength=8
  )
  # 8000 draws over 8: 1000 each, standard deviation about 27.
  assert counts.sum() == 8000
  assert np.abs(counts - 1000).max() < 130


@pytest.mark.parametrize('proportion, size', [
    (1.0, 40), (.25, 10), (.125, 5), (.01, 1),
])
def test_size_of_subsets(proportion, size):
  subset = updates.random_subset(tf.ones([40]), proportion, _generator())
  assert subset.shape == (size,)
  if size == 40:
    np.testing.assert_array_equal(np.sort(subset), np.arange(40))


def test_subsets_prefer_rows_that_count():
  mask = np.zeros([20], np.float32)
  mask[[3, 5, 7, 11, 13, 17]] = 1
  for seed in range(5):
    few = updates.random_subset(
        tf.constant(mask), .25, _generator(seed)
    ).numpy()
    assert mask[few].all()
    many = updates.random_subset(
        tf.constant(mask), .5, _generator(seed)
    ).numpy()
    assert mask[many].sum() == 6 and len(set(many)) == 10


@pytest.mark.parametrize('total, size, shape', [
    (12, 4, (3, 4)), (13, 4, (4, 4)), (13, 5, (3, 5)), (7, 100, (1, 7)),
    (7, None, (1, 7)), (1, 1, (1, 1)),
])
def test_parts_hold_every_index_once(total, size, shape):
  indices, weights = updates.in_parts(tf.range(50, 50 + total), size)
  assert indices.shape == weights.shape == shape
  kept = indices.numpy()[weights.numpy() == 1]
  np.testing.assert_array_equal(kept, np.arange(50, 50 + total))
  assert weights.numpy().sum() == total


@pytest.mark.parametrize('environments, expected', [
    (128, .25), (32, 1), (8, 1), (1, 1), (256, .125), (1024, .03125),
])
def test_proportion_is_that_of_32_environments(environments, expected):
  assert config.RNDConfig().proportion_for(environments) == expected
  fixed = config.RNDConfig(predictor_proportion=.5)
  assert fixed.proportion_for(environments) == .5


# ------------------------------------------------------------ micro-batches


def _toy_batch(batch=8, length=5):
  rng = np.random.default_rng(3)

  def floats(*shape):
    return tf.constant(rng.normal(size=shape), tf.float32)

  mask = tf.constant(rng.random([batch, length]) < .7, tf.float32)
  nothing = tf.zeros([batch, length])
  return rollout_lib.TrainingBatch(
      observations=floats(batch, length, 3), step_types=nothing,
      actions=nothing, dist_params=nothing, old_log_probs=nothing,
      old_values_ext=nothing, old_values_int=nothing,
      targets=rollout_lib.Targets(
          floats(batch, length), nothing, nothing, mask
      ),
      bonus_inputs=(floats(batch, length, 2), floats(batch, length, 1)),
      bonus_mask=tf.constant(rng.random([batch, length]) < .6, tf.float32),
  )


def _toy_loss(batch, weights, members, count):
  """A loss of the kind the agent has, in plain operations."""
  def loss_function(i):
    part = batch.rows(members[i])
    prediction = tf.linalg.matvec(part.observations, weights)
    error = (prediction - part.targets.advantages) ** 2
    loss = tf.reduce_sum(error * part.targets.mask) / count
    return loss, {'loss': loss}
  return loss_function


@pytest.mark.parametrize('jit_compile', [False, True])
@pytest.mark.parametrize('parts, lanes', [
    (1, 1), (2, 1), (3, 2), (6, 4), (2, 3),
])
def test_micro_batches_add_up_to_the_minibatch(
    compiled, parts, lanes, jit_compile
):
  """Six of eight environments, masks that differ between them."""
  batch = _toy_batch()
  weights = tf.Variable([1.0, -2, 3])
  members = np.array([7, 0, 2, 5, 1, 3])
  mask = batch.targets.mask.numpy()[members]
  loss_function = _toy_loss(
      batch, weights, tf.constant(members.reshape([parts, -1]), tf.int32),
      mask.sum(),
  )
  (gradient,), metrics = compiled(lambda: updates.accumulate(
      [loss_function] * lanes, parts, [weights], jit_compile=jit_compile
  ))()
  # Against plain numpy.
  inputs = batch.observations.numpy()[members]
  errors = (
      inputs @ weights.numpy() - batch.targets.advantages.numpy()[members]
  )
  np.testing.assert_allclose(
      metrics['loss'], (errors ** 2 * mask).sum() / mask.sum(), rtol=1e-5
  )
  np.testing.assert_allclose(
      gradient,
      np.einsum('bt,bti->i', 2 * errors * mask, inputs) / mask.sum(),
      rtol=1e-4, atol=1e-5,
  )


@pytest.mark.parametrize('unroll', [False, True])
@pytest.mark.parametrize('lanes', [1, 2, 3, 9])
def test_sum_of_repetitions(compiled, unroll, lanes):
  def body(i):
    return {'a': tf.cast(i, tf.float32) ** 2}

  for n in (1, 2, 5):
    total = compiled(
        lambda n=n: updates.summed([body] * lanes, n, unroll=unroll)
    )()
    assert total['a'].numpy() == sum(math.pow(i, 2) for i in range(n))


def test_each_repetition_happens_once(compiled):
  """Also what a body does beside returning something."""
  calls = tf.Variable(tf.zeros([5], tf.int32))

  def body(i):
    calls.assign(calls + tf.one_hot(i, 5, dtype=tf.int32))
    return tf.constant(1.0)

  total = compiled(lambda: updates.summed([body], 5))()
  assert total.numpy() == 5
  np.testing.assert_array_equal(calls, np.ones(5))


def test_a_body_is_traced_once():
  traces = []

  def body(i):
    traces.append(i)
    return tf.cast(i, tf.float32)

  tf.function(lambda: updates.summed([body] * 3, 12))()
  assert len(traces) == 1
