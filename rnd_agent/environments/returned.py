"""What an environment of other people returns, made safe to keep.

Environments may write every observation into the one array that they return,
give rewards of shape (1,), or numbers that are none. `states.Replay`, which
wraps each of them next to its code, and `single.GymnasiumPyEnvironment` send
all that they return through here.
"""

from __future__ import annotations

import copy
import math
import numbers
from typing import Any

import numpy as np

_LARGEST_PLACE = 2**63 - 1


class NotFiniteError(ValueError):
  """An environment returned NaN or an infinity; one line."""


def of_reset(observation: Any, info: Any = None) -> tuple[Any, dict[str, Any]]:
  """Copies and checks what `reset` returned.

  Args:
    observation: an array, a number, or a nest of them.
    info: a dict, or None.

  Returns:
    `(observation, info)`.

  Raises:
    ValueError: a value is not possible; one line.
  """
  return _observation(observation, 'its reset'), _info(info)


def of_step(
    result: tuple, number: int
) -> tuple[Any, float, bool, bool, dict[str, Any]]:
  """Copies and checks what `step` returned.

  Args:
    result: `(observation, reward, terminated, truncated, info)`.
    number: of the step in its episode, from 1, for messages.

  Returns:
    The same, the reward a float.

  Raises:
    ValueError: a value is not possible; one line.
  """
  observation, reward, terminated, truncated, info = result
  what = f'step {number} of its episode'
  return (
      _observation(observation, what), _reward(reward, what), bool(terminated),
      bool(truncated), _info(info),
  )


def _reward(reward: Any, what: str) -> float:
  """A number, or an array of one, as a float."""
  if np.size(reward) != 1:
    raise ValueError(
        f'{what} gave a reward of shape {np.shape(reward)}: it must be one '
        'number; add the parts up, or choose one'
    )
  try:
    number = float(np.reshape(reward, ()))
  except (TypeError, ValueError) as error:
    raise ValueError(
        f'{what} gave the reward {reward!r:.60}: it must be a number'
    ) from error
  if not math.isfinite(number):
    raise NotFiniteError(f'{what} gave the reward {number}')
  return number


def _observation(observation: Any, what: str) -> Any:
  """A copy that the environment cannot change later."""
  if not isinstance(observation, np.ndarray):
    return copy.deepcopy(observation)
  if observation.dtype.kind == 'f' and not np.isfinite(observation).all():
    index = tuple(map(int, np.argwhere(~np.isfinite(observation))[0]))
    raise NotFiniteError(
        f'{what} gave an observation with {observation[index]} at '
        f'{list(index)}'
    )
  return observation.copy()


def _info(info: Any) -> dict[str, Any]:
  """A copy of an info whose place, if it has one, can be recorded."""
  info = dict(info or {})
  place = info.get('place')
  if place is None:
    info.pop('place', None)
    return info
  whole = isinstance(place, numbers.Integral) or (
      isinstance(place, np.ndarray) and place.shape == ()
      and place.dtype.kind in 'iu'
  )
  if not whole or not 0 <= int(place) <= _LARGEST_PLACE:
    raise ValueError(
        f"info['place'] = {place!r:.60}: choose a whole number from 0 to "
        f'{_LARGEST_PLACE}, or leave it out'
    )
  info['place'] = int(place)
  return info
