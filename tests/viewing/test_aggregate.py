"""Aggregates against slow loops, known values and identities."""

import itertools

import numpy as np
import pytest

from rnd_agent.viewing import aggregate


def _slow_interquartile_mean(scores):
  """As the definition reads: sort, leave out a quarter on each side."""
  ordered = sorted(float(x) for x in np.ravel(scores))
  cut = int(0.25 * len(ordered))
  middle = ordered[cut:len(ordered) - cut]
  return sum(middle) / len(middle)


def _slow_bootstrap(scores, statistic, draws, confidence):
  """One repetition after the other, of the draws that are given."""
  values = []
  for draw in draws:  # [runs, tasks]
    resampled = [
        [scores[draw[run, task]][task] for task in range(len(scores[0]))]
        for run in range(len(scores))
    ]
    values.append(statistic(np.array(resampled)))
  values.sort()

  def percentile(q):  # Between the two nearest values, linearly.
    place = q * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (place - below) * (values[above] - values[below])

  tail = (1 - confidence) / 2
  return percentile(tail), percentile(1 - tail)


@pytest.mark.parametrize(('scores', 'expected'), [
    ([7.0], 7.0),
    ([1.0, 3.0, 100.0], 104 / 3),           # floor(3 / 4) = 0: the mean.
    ([9.0, 1.0, 2.0, 3.0], 2.5),            # 1 and 9 are left out.
    ([-200.0, -120.0, -118.0, -130.0, 0.0], -368 / 3),
    (list(range(8)), 3.5),                  # 2, 3, 4, 5.
    ([[0.0, 10.0], [2.0, 4.0], [3.0, 100.0]], 19 / 4),  # Pooled: 2 3 4 10.
])
def test_interquartile_mean_of_known_values(scores, expected):
  assert aggregate.interquartile_mean(scores) == pytest.approx(expected)


@pytest.mark.parametrize('shape', [(1, 1), (5, 1), (3, 7), (10, 4), (11, 3)])
def test_interquartile_mean_equals_the_slow_one(shape):
  scores = np.random.default_rng(3).normal(size=shape) * 100
  assert aggregate.interquartile_mean(scores) == pytest.approx(
      _slow_interquartile_mean(scores)
  )


@pytest.mark.parametrize('axis', [0, -1, (0, 1), (2, 0), (0, 1, 2)])
def test_interquartile_mean_over_some_axes(axis):
  scores = np.random.default_rng(4).normal(size=(9, 5, 3))
  result = aggregate.interquartile_mean(scores, axis)
  axes = {a % 3 for a in np.atleast_1d(axis)}
  kept = [a for a in range(3) if a not in axes]
  assert result.shape == tuple(scores.shape[a] for a in kept)
  for index in np.ndindex(*result.shape):
    chosen = [slice(None)] * 3
    for a, i in zip(kept, index):
      chosen[a] = i
    assert result[index] == pytest.approx(
        _slow_interquartile_mean(scores[tuple(chosen)])
    )


def test_interquartile_mean_ignores_a_failed_run_where_the_mean_does_not():
  scores = np.array([-120.0, -118.0, -119.0, -121.0, -122.0])
  failed = np.where(scores == -122.0, -1e6, scores)
  assert aggregate.interquartile_mean(failed) == (
      aggregate.interquartile_mean(scores)
  )


@pytest.mark.parametrize('statistic', [None, np.mean])
@pytest.mark.parametrize('shape', [(5, 1), (4, 3), (2, 6)])
@pytest.mark.parametrize('confidence', [0.95, 0.5])
def test_interval_equals_the_slow_one(shape, statistic, confidence):
  scores = np.random.default_rng(5).normal(size=shape)
  repetitions, seed = 203, 11
  draws = np.random.default_rng(seed).integers(
      shape[0], size=(repetitions, *shape)
  )
  expected = _slow_bootstrap(
      scores.tolist(), statistic or _slow_interquartile_mean, draws, confidence
  )
  interval = aggregate.bootstrap_interval(
      scores, statistic, confidence, repetitions, seed
  )
  np.testing.assert_allclose(interval, expected, rtol=1e-12)


def test_aggregates_equal_rliables():
  """Frozen from rliable 1.2.0, 50 000 repetitions each of three seeds."""
  scores = np.array([
      [-200.0, 12.5, 0.61], [-131.0, 40.0, 0.60], [-118.5, 7.25, 0.0],
      [-110.0, 33.0, 0.62], [-121.0, 21.0, 0.58], [-200.0, 3.0, 0.61],
      [-109.25, 55.5, 0.3],
  ])
  # metrics.aggregate_iqm
  assert aggregate.interquartile_mean(scores) == pytest.approx(
      -18.698181818181812, rel=1e-12
  )
  # library.get_interval_estimates: [-20.870, -16.301], [-20.848, -16.285],
  # [-20.871, -16.281]
  interval = aggregate.bootstrap_interval(scores)
  np.testing.assert_allclose(interval, (-20.86, -16.29), atol=0.06)


def test_interval_of_two_runs_by_counting():
  # Of two runs 0 and 1 the mean is 0, .5 or 1 with probabilities 1/4, 1/2, 1/4.
  scores = [[0.0], [1.0]]
  assert aggregate.bootstrap_interval(scores, np.mean) == (0.0, 1.0)
  assert aggregate.bootstrap_interval(scores, np.mean, 0.4) == (0.5, 0.5)


def test_interval_of_three_runs_equals_all_draws_counted():
  scores = np.array([[1.0], [5.0], [30.0]])
  every = [np.mean([a, b, c]) for a, b, c in itertools.product(
      scores[:, 0], repeat=3
  )]  # 27 draws, equally likely.
  interval = aggregate.bootstrap_interval(scores, np.mean, 0.8)
  np.testing.assert_allclose(
      interval, np.percentile(every, [10, 90], method='inverted_cdf')
  )


def test_runs_are_drawn_within_their_task():
  # Equal runs of different tasks: nothing is left to draw.
  scores = np.tile([[1.0, 2.0, 30.0]], (4, 1))
  assert aggregate.bootstrap_interval(scores, np.mean, repetitions=50) == (
      11.0, 11.0
  )


def test_a_curve_is_drawn_as_a_whole():
  scores = np.random.default_rng(6).normal(size=(5, 2, 7))
  whole = aggregate.bootstrap_interval(scores, repetitions=300)
  assert whole.low.shape == whole.high.shape == (7,)
  for t in range(7):
    one = aggregate.bootstrap_interval(scores[..., t], repetitions=300)
    np.testing.assert_allclose(
        (whole.low[t], whole.high[t]), one, rtol=1e-12
    )


def test_parts_do_not_change_the_interval(monkeypatch):
  scores = np.random.default_rng(7).normal(size=(5, 3))
  whole = aggregate.bootstrap_interval(scores, repetitions=1000)
  monkeypatch.setattr(aggregate, '_SCORES_AT_A_TIME', 15 * 64)
  assert aggregate._parts(1000, 15) == [64] * 15 + [40]
  assert aggregate.bootstrap_interval(scores, repetitions=1000) == whole


def test_the_seed_decides():
  scores = np.random.default_rng(8).normal(size=(6, 1))
  first, again, other = (
      aggregate.bootstrap_interval(scores, repetitions=99, seed=s)
      for s in (0, 0, 1)
  )
  assert first == again
  assert first != other


def test_interval_holds_the_truth_about_as_often_as_it_says():
  # Means of 20 normal numbers: percentile intervals are a little too short.
  rng = np.random.default_rng(9)
  intervals = [
      aggregate.bootstrap_interval(
          rng.normal(size=(20, 1)), np.mean, 0.9, 400, seed
      ) for seed in range(400)
  ]
  held = np.mean([low < 0 < high for low, high in intervals])
  assert 0.82 < held < 0.93


@pytest.mark.parametrize(('call', 'message'), [
    (lambda: aggregate.interquartile_mean([]), 'no scores'),
    (lambda: aggregate.interquartile_mean([1.0, np.nan]), 'NaN'),
    (lambda: aggregate.bootstrap_interval([1.0, 2.0]), 'runs, tasks'),
    (lambda: aggregate.bootstrap_interval([[1.0]], confidence=1.0), 'between'),
    (lambda: aggregate.bootstrap_interval([[1.0]], repetitions=0), '1 or more'),
])
def test_what_cannot_be_aggregated_is_one_line(call, message):
  with pytest.raises(ValueError, match=message):
    call()
