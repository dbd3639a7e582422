"""Numbers that change over agent steps: factors along a line of points.

A schedule is a list of `(agent steps, factor)`. Between two points the factor
changes linearly, before the first and behind the last it is constant, and two
points at the same step are a jump:

    ((0, 1.0), (10_000_000, 0.1))                linear, from 1 to a tenth
    ((5_000_000, 1.0), (5_000_000, 0.5))         a step: halved from 5 M on
    ((2_000_000, 1.0), (4_000_000, 0.0))         constant, then linear to 0
"""

from __future__ import annotations

import math
from typing import Any, Optional, Sequence

import numpy as np

_EXAMPLE = '((0, 1.0), (10_000_000, 0.1))'


def check(name: str, points: Any) -> None:
  """Checks that a value is a schedule, or None.

  Args:
    name: of the parameter, for the message.
    points: its value.

  Raises:
    ValueError: it is not; the message is one line that says what to choose.
  """
  if points is not None and not _is_schedule(points):
    raise ValueError(
        f'{name} = {points!r:.100}: choose points (agent steps, factor) in the '
        f'order of their steps, no number below 0, such as {_EXAMPLE}, or None '
        'for constant'
    )


def _is_schedule(points: Any) -> bool:
  if not isinstance(points, (list, tuple)) or not points:
    return False
  for point in points:
    if not isinstance(point, (list, tuple)) or len(point) != 2:
      return False
    for number in point:
      if isinstance(number, bool) or not isinstance(number, (int, float)):
        return False
      if not (math.isfinite(number) and number >= 0):
        return False
  steps = [step for step, _ in points]
  return steps == sorted(steps)


def factor(
    points: Optional[Sequence[Sequence[float]]], env_steps: int
) -> float:
  """The factor after a number of agent steps.

  Args:
    points: a schedule; None for 1 throughout.
    env_steps: agent steps of all environments so far.

  Returns:
    At least 0. At a jump, that of the later point.
  """
  if points is None:
    return 1.0
  reached = [point for point in points if point[0] <= env_steps]
  ahead = [point for point in points if point[0] > env_steps]
  # The last point reached and the first one ahead, where there are both.
  steps, factors = zip(*(reached[-1:] + ahead[:1]))
  return float(np.interp(env_steps, steps, factors))
