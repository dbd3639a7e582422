"""Advantages and the return filter: golden numbers, identities, references.

The reference implementations below are loops written from the equations:

    delta_t = r_t + d_t V(o_{t+1}) - V(o_t)
    A_t     = delta_t + d_t lambda A_{t+1}
    R_t     = gamma R_{t-1} + i_t
"""

import numpy as np
import pytest
import tensorflow as tf

from rnd_agent.learning import returns

FIRST, MID, LAST = 0, 1, 2
GARBAGE = 9.0


@pytest.fixture(params=['eager', 'compiled'])
def run(request):
  """Calls a function of tensors, eagerly or compiled."""
  def call(function, *arrays):
    tensors = [tf.constant(a) for a in arrays]
    if request.param == 'compiled':
      function = tf.function(function)
    return tf.nest.map_structure(lambda x: x.numpy(), function(*tensors))
  return call


def _floats(*rows):
  return np.array(rows, np.float32)


def _bools(*rows):
  return np.array(rows, bool)


def _advantages(run, gae_lambda, *arrays):
  return run(
      lambda *a: returns.generalized_advantages(*a, gae_lambda), *arrays
  )


def _loop_advantages(
    rewards, discounts, values, cuts, end_values, boundaries, gae_lambda
):
  """One environment after the other, real steps only, in float64."""
  batch, length = rewards.shape
  result = np.zeros([batch, length])
  for b in range(batch):
    follow_value, follow_advantage = float(values[b, length]), 0.0
    for t in reversed(range(length)):
      if boundaries[b, t]:
        continue
      if cuts[b, t]:
        follow_value, follow_advantage = float(end_values[b, t]), 0.0
      discount = float(discounts[b, t])
      delta = rewards[b, t] + discount * follow_value - values[b, t]
      result[b, t] = delta + discount * gae_lambda * follow_advantage
      follow_value, follow_advantage = float(values[b, t]), result[b, t]
  return result


def _loop_filter(rewards, memory, gamma, boundaries):
  result = np.zeros(rewards.shape)
  state = np.array(memory, np.float64)
  for b in range(rewards.shape[0]):
    for t in range(rewards.shape[1]):
      if not boundaries[b, t]:
        state[b] = gamma * state[b] + rewards[b, t]
      result[b, t] = state[b]
  return result, state


# -------------------------------------------------------------- golden case
#
# One environment, o0 o1 | end | o2 o3, then o4 (fidelity notes, section 4).
#   r_int = 1 2 3 4, V_int = .5 .6 .7 .8 | .9, gamma .99, lambda .95
#     A3 = 4 + .99*.9 - .8                  = 4.091
#     A2 = 3 + .99*.8 - .7 + .9405 * 4.091  = 6.939585
#     A1 = 2 + .99*.7 - .6 + .9405 * A2     = 8.61968
#     A0 = 1 + .99*.6 - .5 + .9405 * A1     = 9.200809
#   r_ext = 0 1 0 0, V_ext = .1 .2 .3 .4 | .5, gamma .999, terminated:
#     A3 = .999*.5 - .4                     = .0995
#     A2 = .999*.4 - .3 + .94905 * A3       = .19403
#     A1 = 1 - .2                           = .8
#     A0 = .999*.2 - .1 + .94905 * .8       = .85904
#   truncated with V_ext(o_LAST) = 7: A1 = 1 + .999*7 - .2 = 7.793

INTRINSIC = [9.200809, 8.61968, 6.939585, 4.091]
EPISODIC = [2.4107, 1.4, 6.939585, 4.091]
EXTRINSIC = [0.85904, 0.8, 0.19403, 0.0995]
TRUNCATED = [7.495747, 7.793, 0.19403, 0.0995]


def _golden(stream, layout):
  """Arguments of `generalized_advantages` and which rows are steps."""
  garbage = [GARBAGE] if layout == 'boundary' else []

  def row(first, second):
    return _floats(first + garbage + second)

  end = [False, True] + [False] * len(garbage) + [False, False]
  boundary = [False, False] + [True] * len(garbage) + [False, False]
  steps = ~np.array(boundary)
  if stream in ('int', 'episodic'):
    rewards, values = row([1, 2], [3, 4]), row([.5, .6], [.7, .8, .9])
    discounts = np.full_like(rewards, .99)
    cuts = _bools(end if stream == 'episodic' else [False] * len(end))
    end_values = np.zeros_like(rewards)
  else:
    rewards, values = row([0, 1], [0, 0]), row([.1, .2], [.3, .4, .5])
    discounts = np.full_like(rewards, .999)
    cuts = _bools(end)
    end_values = np.full_like(rewards, 7.0)
    if stream == 'terminated':
      discounts = np.where(cuts, 0, discounts).astype(np.float32)
  return (
      rewards, discounts, values, cuts, end_values, _bools(boundary)
  ), steps


@pytest.mark.parametrize('layout', ['compact', 'boundary'])
@pytest.mark.parametrize('stream, expected', [
    ('int', INTRINSIC), ('episodic', EPISODIC),
    ('terminated', EXTRINSIC), ('truncated', TRUNCATED),
])
def test_golden_advantages(run, stream, expected, layout):
  arguments, steps = _golden(stream, layout)
  actual = _advantages(run, 0.95, *arguments)
  np.testing.assert_allclose(actual[0, steps], expected, atol=2e-6)
  np.testing.assert_array_equal(actual[0, ~steps], 0)


def test_golden_combination_of_the_streams(run):
  combined = sum(
      factor * _advantages(run, 0.95, *_golden(stream, 'compact')[0])
      for factor, stream in ((2, 'terminated'), (1, 'int'))
  )
  np.testing.assert_allclose(
      combined[0], [10.918889, 10.21968, 7.327646, 4.29], atol=4e-6
  )


def test_a_boundary_row_taken_for_a_step_would_give_the_wrong_numbers(run):
  """The golden case can fail: 9.21579, 8.635609, -1.78032 are its traps."""
  arguments, _ = _golden('int', 'boundary')
  # The boundary row holds no reward, as drivers record it.
  rewards = arguments[0].copy()
  rewards[0, 2] = 0
  nothing = np.zeros_like(arguments[5])
  wrong = _advantages(run, 0.95, rewards, *arguments[1:5], nothing)
  np.testing.assert_allclose(
      wrong[0, :3], [9.21579, 8.635609, -1.78032], atol=1e-5
  )
  right = _advantages(run, 0.95, rewards, *arguments[1:])
  assert np.abs(right - wrong)[0, :2].min() > 0.01


def test_bootstraps_from_the_value_after_the_last_step(run):
  """V = 1 2 3 | 10, no reward; with V(o_{T-1}) it is 1.866, .942, -.03.

  A2 = .99*10 - 3 = 6.9; A1 = .97 + .9405*6.9 = 7.459; A0 = .98 + .9405*A1.
  """
  zeros = np.zeros([1, 3], np.float32)
  none = np.zeros([1, 3], bool)
  actual = _advantages(
      run, 0.95, zeros, zeros + np.float32(.99), _floats([1, 2, 3, 10]), none,
      zeros, none,
  )
  np.testing.assert_allclose(actual, [[7.996, 7.459, 6.9]], atol=1e-3)


# ------------------------------------------------------- ends in odd places


def test_segment_starting_on_a_boundary_row(run):
  """LAST -> FIRST, then two steps: the same as the two steps alone."""
  alone = (
      _floats([1, 2]), _floats([.9, .8]), _floats([.3, .5, .7]),
      _bools([False, False]), _floats([0, 0]), _bools([False, False]),
  )
  garbage = np.float32(GARBAGE)
  boundary = tuple(
      np.concatenate([np.full([1, 1], g, a.dtype), a], axis=1)
      for a, g in zip(alone, (garbage, garbage, garbage, False, garbage, True))
  )
  np.testing.assert_allclose(
      _advantages(run, 0.95, *boundary)[0, 1:],
      _advantages(run, 0.95, *alone)[0], rtol=1e-6,
  )


@pytest.mark.parametrize('discount', [0.0, 0.9])
def test_segment_ending_on_last(run, discount):
  """The last step is cut: delta = r + d V(o_LAST) - V, whatever V(o_T) is."""
  actual = _advantages(
      run, 0.95, _floats([1, 2]), _floats([.9, discount]),
      _floats([.3, .5, 50]), _bools([False, True]), _floats([0, 4]),
      _bools([False, False]),
  )
  last = 2 + discount * 4 - .5
  np.testing.assert_allclose(
      actual, [[1 + .9 * .5 - .3 + .9 * .95 * last, last]], rtol=1e-6
  )


def test_several_ends_in_one_segment(run):
  """Steps of one-step episodes see nothing but their own reward."""
  ends = _bools([True, True, False, True])
  actual = _advantages(
      run, 0.95, _floats([1, 2, 4, 8]), _floats([0, 0, .5, 0]),
      _floats([.1, .2, .4, .8, 99]), ends, np.full([1, 4], 77, np.float32),
      np.zeros_like(ends),
  )
  np.testing.assert_allclose(
      actual, [[.9, 1.8, 4 + .5 * .8 - .4 + .5 * .95 * 7.2, 7.2]], rtol=1e-6
  )


# ------------------------------------------------------------- identities


def _random(rng, layout, batch=5, length=23, share=0.15):
  """A random stream with ends, terminations and truncations alike."""
  boundaries = np.zeros([batch, length], bool)
  ends = np.zeros([batch, length], bool)
  for b in range(batch):
    # Some segments start on a boundary row.
    kind = LAST if layout == 'boundary' and b % 2 else MID
    for t in range(length):
      boundaries[b, t] = kind == LAST
      ends[b, t] = kind != LAST and rng.random() < share
      kind = LAST if layout == 'boundary' and ends[b, t] else MID
  values = rng.normal(size=[batch, length + 1])
  end_values = rng.normal(size=[batch, length])
  if layout == 'boundary':
    end_values = np.where(ends, values[:, 1:], end_values)
  discounts = np.where(
      ends & (rng.random(ends.shape) < .6), 0, rng.uniform(.9, 1, ends.shape)
  )
  rewards = rng.normal(size=[batch, length])
  as_float = [
      x.astype(np.float32) for x in (rewards, discounts, values, end_values)
  ]
  return (*as_float[:3], ends, as_float[3], boundaries)


@pytest.mark.parametrize('layout', ['compact', 'boundary'])
@pytest.mark.parametrize('cut', [True, False])
def test_equals_the_loops(run, layout, cut):
  for seed in range(4):
    arguments = list(_random(np.random.default_rng(seed), layout))
    assert arguments[3].any()
    assert arguments[5].any() == (layout == 'boundary')
    if not cut:
      arguments[3] = np.zeros_like(arguments[3])
    np.testing.assert_allclose(
        _advantages(run, 0.95, *arguments),
        _loop_advantages(*arguments, 0.95), atol=2e-5,
    )


@pytest.mark.parametrize('garbage', [-1e30, np.inf, np.nan])
def test_whatever_a_boundary_row_holds_changes_nothing(run, garbage):
  arguments = list(_random(np.random.default_rng(7), 'boundary'))
  clean = _advantages(run, 0.95, *arguments)
  boundaries = arguments[5]
  for i in (0, 1, 2, 4):
    arguments[i] = arguments[i].copy()
    arguments[i][:, :boundaries.shape[1]][boundaries] = garbage
  dirty = _advantages(run, 0.95, *arguments)
  np.testing.assert_array_equal(clean, dirty)


def test_lambda_one_is_the_discounted_return_minus_the_value(run):
  arguments = _random(np.random.default_rng(1), 'compact', 3, 11, 0)
  rewards, discounts, values = arguments[:3]
  expected = np.zeros(rewards.shape)
  for t in range(rewards.shape[1]):
    factor, total = np.ones(3), np.zeros(3)
    for s in range(t, rewards.shape[1]):
      total += factor * rewards[:, s]
      factor *= discounts[:, s]
    expected[:, t] = total + factor * values[:, -1] - values[:, t]
  np.testing.assert_allclose(
      _advantages(run, 1.0, *arguments), expected, atol=1e-5
  )


def test_lambda_zero_is_the_temporal_difference_error(run):
  arguments = _random(np.random.default_rng(2), 'compact')
  rewards, discounts, values, cuts, end_values, _ = arguments
  following = np.where(cuts, end_values, values[:, 1:])
  np.testing.assert_allclose(
      _advantages(run, 0.0, *arguments),
      rewards + discounts * following - values[:, :-1], atol=1e-5,
  )


def test_nothing_cut_equals_one_long_episode(run):
  """Boundary rows with no cut: as if they had never been recorded."""
  rng = np.random.default_rng(3)
  rewards, discounts, values, _, _, _ = _random(rng, 'compact', 2, 6, 0)
  none = np.zeros([2, 6], bool)
  zeros = np.zeros([2, 6], np.float32)
  whole = _advantages(
      run, 0.95, rewards, discounts, values, none, zeros, none
  )

  def spread(x):
    return np.insert(x, 3, GARBAGE, axis=1)

  boundaries = np.zeros([2, 7], bool)
  boundaries[:, 3] = True
  split = _advantages(
      run, 0.95, spread(rewards), spread(discounts), spread(values),
      np.zeros([2, 7], bool), spread(zeros), boundaries,
  )
  np.testing.assert_allclose(np.delete(split, 3, axis=1), whole, rtol=1e-6)


def test_environments_do_not_mix(run):
  arguments = _random(np.random.default_rng(4), 'boundary')
  together = _advantages(run, 0.95, *arguments)
  for b in range(together.shape[0]):
    alone = _advantages(run, 0.95, *(a[b:b + 1] for a in arguments))
    np.testing.assert_array_equal(together[b:b + 1], alone)


def test_values_without_the_bootstrap_are_refused():
  zeros = tf.zeros([2, 3])
  none = tf.zeros([2, 3], tf.bool)
  with pytest.raises(ValueError):
    returns.generalized_advantages(
        zeros, zeros, zeros, none, zeros, none, 0.95
    )


# ---------------------------------------------------------- reward filter


def _filter(run, rewards, memory, boundaries, gamma=0.99):
  return run(
      lambda r, m, b: returns.discounted_return_filter(r, m, gamma, b),
      rewards, memory, boundaries,
  )


def test_filter_golden(run):
  """x_t of T = 3 rows and B = 2: [1, 10], [2, 20], [3, 30].

  R = 1, .99 + 2 = 2.99, .99 * 2.99 + 3 = 5.9601, and ten times that; their
  variance is 432.52692. Over the wrong axis it would be 140.39347.
  """
  rewards = _floats([1, 10], [2, 20], [3, 30]).T
  none = np.zeros([2, 3], bool)
  running, memory = _filter(run, rewards, np.zeros(2, np.float32), none)
  np.testing.assert_allclose(
      running.T, [[1, 10], [2.99, 29.9], [5.9601, 59.601]], rtol=1e-6
  )
  np.testing.assert_allclose(memory, [5.9601, 59.601], rtol=1e-6)
  np.testing.assert_allclose(
      running.astype(np.float64).var(), 432.52692, rtol=1e-6
  )


def test_filter_of_halves_equals_that_of_the_whole(run):
  rng = np.random.default_rng(5)
  rewards = rng.random([3, 14]).astype(np.float32)
  boundaries = rng.random([3, 14]) < .15
  start = rng.random(3).astype(np.float32)
  whole, end = _filter(run, rewards, start, boundaries)
  first, memory = _filter(run, rewards[:, :5], start, boundaries[:, :5])
  second, memory = _filter(run, rewards[:, 5:], memory, boundaries[:, 5:])
  np.testing.assert_allclose(
      np.concatenate([first, second], axis=1), whole, rtol=1e-6
  )
  np.testing.assert_allclose(memory, end, rtol=1e-6)


@pytest.mark.parametrize('garbage', [GARBAGE, np.nan])
def test_filter_passes_over_boundary_rows(run, garbage):
  rewards = _floats([1, garbage, 2, 3, garbage])
  boundaries = _bools([False, True, False, False, True])
  running, memory = _filter(run, rewards, _floats(10)[0:1], boundaries)
  # 9.9 + 1, the same, 10.791 + 2, 12.66309 + 3, the same.
  expected = [10.9, 10.9, 12.791, 15.66309, 15.66309]
  np.testing.assert_allclose(running, [expected], rtol=1e-6)
  np.testing.assert_allclose(memory, expected[-1:], rtol=1e-6)


def test_filter_equals_the_loops(run):
  rng = np.random.default_rng(6)
  rewards = rng.random([4, 17]).astype(np.float32)
  boundaries = rng.random([4, 17]) < .15
  memory = rng.random(4).astype(np.float32)
  expected, end = _loop_filter(rewards, memory, .97, boundaries)
  running, after = _filter(run, rewards, memory, boundaries, .97)
  np.testing.assert_allclose(running, expected, rtol=1e-5)
  np.testing.assert_allclose(after, end, rtol=1e-5)
