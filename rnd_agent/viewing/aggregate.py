"""The interquartile mean of several runs' scores, and its interval.

As defined by Agarwal et al. 2021 (arXiv 2108.13264, *Deep Reinforcement
Learning at the Edge of the Statistical Precipice*) and their library rliable:
one failed run moves the interquartile mean less than it moves the mean, and the
interquartile mean uses more of the runs than the median does. Intervals are
percentile bootstrap intervals, stratified by task. Numpy only.
"""

from __future__ import annotations

import math
from typing import Callable, NamedTuple, Optional, Sequence, Union

import numpy as np

Axis = Union[None, int, Sequence[int]]

# Scores drawn at a time: bounds the memory of the bootstrap.
_SCORES_AT_A_TIME = 2**22


class Interval(NamedTuple):
  """Bounds of a confidence interval, each of the statistic's shape."""

  low: np.ndarray
  high: np.ndarray


def interquartile_mean(scores, axis: Axis = None) -> np.ndarray:
  """Mean of the middle half of the scores, the 25 % trimmed mean.

  Of n scores the floor(n / 4) lowest and as many of the highest are left out:
  of 5 scores one at either end, of 3 none (Agarwal et al. 2021, section 4.3).

  Args:
    scores: `[runs, tasks]`, or of any shape.
    axis: the axes to pool, as in numpy; by default all.

  Returns:
    float64, of the shape of the other axes; a scalar if all are pooled.

  Raises:
    ValueError: there are no scores, or one is NaN.
  """
  scores = _checked(scores)
  axes = _axes(scores.ndim, axis)
  kept = [a for a in range(scores.ndim) if a not in axes]
  pooled = scores.transpose(*kept, *axes)
  pooled = pooled.reshape(*(scores.shape[a] for a in kept), -1)
  count = pooled.shape[-1]
  cut = count // 4
  # A full sort is not needed to separate what lies between the two cuts.
  pooled = np.partition(pooled, (cut, count - cut - 1), axis=-1)
  return pooled[..., cut:count - cut].mean(axis=-1)


def bootstrap_interval(
    scores,
    statistic: Optional[Callable[..., np.ndarray]] = None,
    confidence: float = 0.95,
    repetitions: int = 50_000,
    seed: int = 0,
) -> Interval:
  """Percentile bootstrap interval of a statistic, stratified by task.

  Each repetition draws, for each task, as many runs as the task has from these
  runs, with replacement. The bounds are percentiles of the statistic over the
  repetitions, (1 - confidence) / 2 from either end (Agarwal et al. 2021,
  section 4.1). With few runs such intervals are too short: five runs have
  126 different draws.

  Args:
    scores: `[runs, tasks]`, or `[runs, tasks, ...]` where a run has more than
      one score, such as a curve: the scores of a run are drawn together.
    statistic: `f(scores, axis)` that pools the two axes it is given, such as
      `numpy.mean`; by default `interquartile_mean`.
    confidence: between 0 and 1.
    repetitions: how many; rliable's default is 50 000.
    seed: of the random draws.

  Returns:
    `Interval`, its bounds of shape `[...]`.

  Raises:
    ValueError: scores of another shape, none, or a NaN; a confidence or
      repetitions out of range.
  """
  scores = _checked(scores)
  if scores.ndim < 2:
    raise ValueError(
        f'scores must be [runs, tasks, ...], got shape {scores.shape}'
    )
  if not 0 < confidence < 1:
    raise ValueError(f'confidence = {confidence}: choose one between 0 and 1')
  if repetitions < 1:
    raise ValueError(f'repetitions = {repetitions}: choose 1 or more')
  statistic = statistic or interquartile_mean
  rng = np.random.default_rng(seed)
  runs, tasks = scores.shape[:2]
  columns = np.arange(tasks)
  values = []
  for part in _parts(repetitions, scores.size):
    draws = rng.integers(runs, size=(part, runs, tasks))
    values.append(statistic(scores[draws, columns], axis=(1, 2)))
  tail = 100 * (1 - confidence) / 2
  low, high = np.percentile(
      np.concatenate(values), [tail, 100 - tail], axis=0
  )
  return Interval(low, high)


def _checked(scores) -> np.ndarray:
  scores = np.asarray(scores, np.float64)
  if not scores.size:
    raise ValueError(f'there are no scores in shape {scores.shape}')
  if np.isnan(scores).any():
    raise ValueError('a score is NaN: leave out runs without a score')
  return scores


def _axes(rank: int, axis: Axis) -> tuple[int, ...]:
  if axis is None:
    return tuple(range(rank))
  axes = (axis,) if isinstance(axis, int) else tuple(axis)
  return tuple(a % rank for a in axes)


def _parts(repetitions: int, size: int) -> list[int]:
  """How many repetitions to draw at a time, so that memory stays bounded."""
  part = max(1, min(repetitions, _SCORES_AT_A_TIME // size))
  whole = [part] * (repetitions // part)
  rest = repetitions - part * math.floor(repetitions / part)
  return whole + [rest] * (rest > 0)
