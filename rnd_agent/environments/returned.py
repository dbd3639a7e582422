"""What an environment of other people returns, made safe to keep.

Environments may write every observation into the one array that they return,
give rewards of shape (1,), numbers that are none, or values that their space
forbids. `states.Replay`, which wraps each of them next to its code, and
`single.GymnasiumPyEnvironment` send all that they return through here.
"""

from __future__ import annotations

from collections.abc import Mapping
import copy
import math
import numbers
from typing import Any

import gymnasium
import numpy as np

_LARGEST_PLACE = 2**63 - 1


class ReturnedError(ValueError):
  """An environment returned what cannot be trained on; one line."""


def of_reset(
    space: gymnasium.Space, result: Any
) -> tuple[Any, dict[str, Any]]:
  """Copies and checks what `reset` returned.

  Args:
    space: of observations.
    result: `(observation, info)`; the info is a dict or None.

  Returns:
    `(observation, info)`.

  Raises:
    ReturnedError: a value is not possible; one line.
  """
  if not isinstance(result, tuple) or len(result) != 2:
    raise ReturnedError(
        f'its reset gave {_brief(result)} instead of (observation, info): an '
        "environment for the old gym is named 'gym:...'"
    )
  observation, info = result
  return conforming(observation, space, 'its reset'), _info(info)


def of_step(
    space: gymnasium.Space, result: Any, number: int
) -> tuple[Any, float, bool, bool, dict[str, Any]]:
  """Copies and checks what `step` returned.

  Args:
    space: of observations.
    result: `(observation, reward, terminated, truncated, info)`.
    number: of the step in its episode, from 1, for messages.

  Returns:
    The same, the reward a float.

  Raises:
    ReturnedError: a value is not possible; one line.
  """
  what = f'step {number} of its episode'
  if not isinstance(result, tuple) or len(result) != 5:
    raise ReturnedError(
        f'{what} gave {_brief(result)} instead of (observation, reward, '
        'terminated, truncated, info): an environment for the old gym is '
        "named 'gym:...'"
    )
  observation, reward, terminated, truncated, info = result
  return (
      conforming(observation, space, what), _reward(reward, what),
      bool(terminated), bool(truncated), _info(info),
  )


def conforming(value: Any, space: gymnasium.Space, what: str) -> Any:
  """Copies an observation and checks it against its space.

  Numbers of a float space may lie outside its bounds, as they do in many
  environments; they must be finite. Those of all other spaces must be in them,
  since their dtype could not hold them.

  Args:
    value: the observation, or a part of it.
    space: its space.
    what: gave it, for messages.

  Returns:
    The observation, in the space's dtype unless both are floats.

  Raises:
    ReturnedError: the space forbids it; one line.
  """
  spaces = gymnasium.spaces
  if isinstance(space, spaces.Dict):
    if not isinstance(value, dict) or set(value) != set(space.spaces):
      raise _forbidden(value, space, what)
    return {
        name: conforming(value[name], part, f'{what}, in {name!r},')
        for name, part in space.spaces.items()
    }
  if isinstance(space, spaces.Tuple):
    if not isinstance(value, (tuple, list)) or len(value) != len(space.spaces):
      raise _forbidden(value, space, what)
    return tuple(
        conforming(entry, part, f'{what}, in part {i},')
        for i, (entry, part) in enumerate(zip(value, space.spaces))
    )
  if isinstance(space, spaces.Box):
    return _array(value, space, what)
  if isinstance(
      space, (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
  ):
    array = _array(value, space, what)
    if not space.contains(array if array.ndim else array[()]):
      raise _forbidden(value, space, what)
    return array if array.ndim else array[()]
  return copy.deepcopy(value)


def _array(value: Any, space: gymnasium.Space, what: str) -> np.ndarray:
  """A copy, of the space's shape and kind of numbers."""
  try:
    array = np.array(value)
  except ValueError as error:  # Lists of different lengths.
    raise _forbidden(value, space, what) from error
  if array.shape != space.shape:
    raise ReturnedError(
        f'{what} gave an observation of shape {array.shape}, its space says '
        f'{space.shape}'
    )
  if array.dtype.kind not in 'biuf':
    raise _forbidden(value, space, what)
  if array.dtype.kind == 'f' and not np.isfinite(array).all():
    index = tuple(map(int, np.argwhere(~np.isfinite(array))[0]))
    raise ReturnedError(
        f'{what} gave an observation with {array[index]} at {list(index)}'
    )
  if space.dtype.kind == 'f' or array.dtype == space.dtype == np.uint8:
    return array
  held = array.astype(space.dtype)
  wrong = held != array
  if isinstance(space, gymnasium.spaces.Box):
    wrong |= (array < space.low) | (array > space.high)
  if wrong.any():
    index = tuple(map(int, np.argwhere(wrong)[0]))
    raise ReturnedError(
        f'{what} gave an observation with {array[index]} at {list(index)}, '
        f'which its space {_brief(space)} forbids: mend the space or the '
        'observation'
    )
  return held


def _forbidden(value: Any, space: gymnasium.Space, what: str) -> ReturnedError:
  return ReturnedError(
      f'{what} gave the observation {_brief(value)}, which its space '
      f'{_brief(space)} forbids: mend the space or the observation'
  )


def _brief(value: Any) -> str:
  """Its text in one line of at most 80 characters."""
  text = ' '.join(repr(value).split())
  return text if len(text) <= 80 else f'{text[:77]}...'


def _reward(reward: Any, what: str) -> float:
  """A number, or an array of one, as a float."""
  if isinstance(reward, float) and math.isfinite(reward):
    return float(reward)  # The usual case, at every step.
  if np.size(reward) != 1:
    raise ReturnedError(
        f'{what} gave a reward of shape {np.shape(reward)}: it must be one '
        'number; add the parts up, or choose one'
    )
  try:
    number = float(np.reshape(reward, ()))
  except (TypeError, ValueError) as error:
    raise ReturnedError(
        f'{what} gave the reward {reward!r:.60}: it must be a number'
    ) from error
  if not math.isfinite(number):
    raise ReturnedError(f'{what} gave the reward {number}')
  return number


def _info(info: Any) -> dict[str, Any]:
  """A copy of an info whose place, if it has one, can be recorded."""
  if not isinstance(info, (Mapping, type(None))):
    raise ReturnedError(f'its info is {_brief(info)}: it must be a dict')
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
    raise ReturnedError(
        f"info['place'] = {place!r:.60}: choose a whole number from 0 to "
        f'{_LARGEST_PLACE}, or leave it out'
    )
  info['place'] = int(place)
  return info
