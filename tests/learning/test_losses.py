"""The loss terms, against numbers worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf

from rnd_agent.learning import losses


@pytest.fixture(params=['eager', 'compiled'])
def run(request):
  """Calls a function of tensors, eagerly or compiled."""
  def call(function, *arrays):
    tensors = [tf.constant(a, tf.float32) for a in arrays]
    if request.param == 'compiled':
      function = tf.function(function)
    return tf.nest.map_structure(lambda x: x.numpy(), function(*tensors))
  return call


# ------------------------------------------------------------- masked mean


def test_mean_is_over_kept_rows_only(run):
  """(1 + 2 + 6) / 3, not / 6 and not with the NaN."""
  values = [[1, 2, np.nan], [6, 1e30, np.inf]]
  mask = [[1, 1, 0], [1, 0, 0]]
  assert run(losses.masked_mean, values, mask) == pytest.approx(3)


def test_mean_divides_by_the_count_that_is_given(run):
  """Two parts of a minibatch of 5 real steps add up to its mean."""
  parts = [([1, 2, 9], [1, 1, 0]), ([3, 4, 5], [1, 1, 1])]
  total = sum(
      run(lambda v, m: losses.masked_mean(v, m, tf.constant(5.0)), *part)
      for part in parts
  )
  assert total == pytest.approx((1 + 2 + 3 + 4 + 5) / 5)


def test_mean_of_nothing_is_zero(run):
  assert run(losses.masked_mean, [[np.nan, 2]], [[0, 0]]) == 0


def test_mean_refuses_shapes_that_would_broadcast():
  with pytest.raises(ValueError):
    losses.masked_mean(tf.zeros([4]), tf.ones([4, 1]))


def test_gradient_of_masked_rows_is_zero(run):
  def gradient(x):
    with tf.GradientTape() as tape:
      tape.watch(x)
      loss = losses.masked_mean(tf.square(x), tf.constant([1.0, 0.0, 1.0]))
    return tape.gradient(loss, x)

  np.testing.assert_allclose(run(gradient, [3, 1e10, 5]), [3, 0, 5])


# ------------------------------------------------------- clipped surrogate

# ratio, advantage, objective = min(r A, clip(r, .9, 1.1) A), d(-obj)/d log pi
# (the gradient is -r A where the unclipped term is the smaller, else 0).
SURROGATE = [
    (1.00, 2.0, 2.00, -2.00),
    (1.05, 2.0, 2.10, -2.10),   # inside
    (1.50, 2.0, 2.20, 0.00),    # above, good: no more to gain
    (0.50, 2.0, 1.00, -1.00),   # below, good: pulled back up
    (1.50, -2.0, -3.00, 3.00),  # above, bad: pulled down, unbounded
    (0.50, -2.0, -1.80, 0.00),  # below, bad: no more to gain
    (0.95, -2.0, -1.90, 1.90),  # inside
]


def test_clipped_surrogate_by_hand(run):
  ratio, advantage, objective, slope = np.array(SURROGATE).T
  old = np.linspace(-3, -1, len(ratio))

  def loss_and_gradient(log_probs, old_log_probs, advantages):
    with tf.GradientTape() as tape:
      tape.watch(log_probs)
      loss = losses.clipped_surrogate(
          log_probs, old_log_probs, advantages, 0.1
      )
    return loss, tape.gradient(loss, log_probs)

  loss, gradient = run(
      loss_and_gradient, old + np.log(ratio), old, advantage
  )
  np.testing.assert_allclose(loss, -objective, rtol=1e-5)
  np.testing.assert_allclose(gradient, slope, atol=1e-5)


def test_surrogate_without_clipping(run):
  loss = run(
      lambda *a: losses.clipped_surrogate(*a, 0.0),
      np.log([3.0, 0.25]), [0, 0], [2, -2],
  )
  np.testing.assert_allclose(loss, [-6, 0.5], rtol=1e-6)


def test_clipped_share_counts_both_sides(run):
  share = run(
      lambda a, b: losses.clipped_share(a, b, 0.1),
      np.log([1.0, 1.09, 1.11, 0.91, 0.89]), np.zeros(5),
  )
  np.testing.assert_array_equal(share, [0, 0, 1, 0, 1])


# ------------------------------------------------------------ value error


def test_value_error_by_hand(run):
  error = run(losses.value_error, [[1, 2, 3]], [[1.5, 0, -1]])
  np.testing.assert_allclose(error, [[.25, 4, 16]])


def test_value_error_refuses_shapes_that_would_broadcast():
  """(N,) - (N, 1) is (N, N): a known port trains on that."""
  for shapes in (([4], [4, 1]), ([4, 1], [4]), ([1, 4], [4, 1]), ([4], [1])):
    with pytest.raises(ValueError):
      losses.value_error(*(tf.zeros(s) for s in shapes))


def test_value_clipping_takes_the_larger_error(run):
  """Old value 0, clip .2: values 1 and -1 count as .2 and -.2.

  Returns 2: max(1, 1.8^2) = 3.24 and max(9, 2.2^2) = 9.
  """
  error = run(
      lambda *a: losses.value_error(*a, 0.2), [1, -1], [2, 2], [0, 0]
  )
  np.testing.assert_allclose(error, [3.24, 9], rtol=1e-6)


def test_value_clipping_needs_old_values():
  with pytest.raises(ValueError, match='old value'):
    losses.value_error(tf.zeros([2]), tf.zeros([2]), clipping=0.2)


# ----------------------------------------------------- distillation error


def test_distillation_error_is_a_mean_over_features(run):
  """(1 + 4 + 9 + 16) / 4 = 7.5: neither the sum 30 nor half of it."""
  error = run(
      losses.distillation_error, [[1, 2, 3, 4], [0, 0, 0, 2]],
      np.zeros([2, 4]),
  )
  np.testing.assert_allclose(error, [7.5, 1])


def test_distillation_error_of_512_features_equals_numpy(run):
  rng = np.random.default_rng(0)
  prediction, target = rng.normal(size=[2, 3, 5, 512]).astype(np.float32)
  np.testing.assert_allclose(
      run(losses.distillation_error, prediction, target),
      ((prediction.astype(float) - target) ** 2).mean(axis=-1), rtol=1e-5,
  )


def test_no_gradient_reaches_the_target(run):
  def gradients(prediction, target):
    with tf.GradientTape() as tape:
      tape.watch([prediction, target])
      error = losses.distillation_error(prediction, target)
    return tape.gradient(
        error, [prediction, target],
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )

  prediction, target = run(gradients, [[1, 2]], [[0, 0]])
  np.testing.assert_allclose(prediction, [[1, 2]])  # 2 (p - t) / 2
  np.testing.assert_array_equal(target, [[0, 0]])


def test_distillation_error_refuses_other_shapes():
  with pytest.raises(ValueError):
    losses.distillation_error(tf.zeros([3, 4]), tf.zeros([3, 1]))


# ------------------------------------------------------------ diagnostics


def test_approximate_kl_is_not_negative_and_zero_at_equality(run):
  rng = np.random.default_rng(1)
  old = rng.normal(size=[3, 50]) - 2
  new = old + rng.normal(size=[3, 50])
  assert (run(losses.approximate_kl, new, old) > 0).all()
  np.testing.assert_array_equal(run(losses.approximate_kl, old, old), 0)


def test_approximate_kl_is_that_of_old_from_new(run):
  """Exact expectation under the old policy: sum p (q/p - 1 - log q/p)."""
  old, new = np.array([.7, .2, .1]), np.array([.2, .5, .3])
  terms = run(losses.approximate_kl, np.log(new), np.log(old))
  assert (old * terms).sum() == pytest.approx(
      (old * np.log(old / new)).sum(), rel=1e-5
  )


RETURNS = [[1, 2, 3], [4, 8, 1e6]]
MASK = [[1, 1, 1], [1, 1, 0]]


@pytest.mark.parametrize('predictions, expected', [
    ([[1, 2, 3], [4, 8, -5]], 1),             # perfect
    ([[6, 7, 8], [9, 13, 0]], 1),             # off by a constant
    ([[3, 3, 3], [3, 3, 3]], 0),              # constant
    ([[-1, -2, -3], [-4, -8, 0]], -3),        # Var(2 R) / Var(R) = 4
])
def test_explained_variance(run, predictions, expected):
  value = run(losses.explained_variance, predictions, RETURNS, MASK)
  assert value == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize('constant', [0.0, 2.0, 0.1, 7.3])
def test_explained_variance_of_constant_returns_is_nan(run, constant):
  returns = np.full([3, 37], constant)
  predictions = np.random.default_rng(2).normal(size=[3, 37])
  value = run(
      losses.explained_variance, predictions, returns, np.ones([3, 37])
  )
  assert np.isnan(value)
