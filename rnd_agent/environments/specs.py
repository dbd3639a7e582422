"""Turns gymnasium's spaces into TF-Agents' specs, and checks actions."""

from typing import Any

import gymnasium
import numpy as np
from tf_agents.specs import array_spec


def observation_spec(
    space: gymnasium.Space,
) -> array_spec.ArraySpec | dict[str, Any] | tuple:
  """Returns the spec of observations; the dtype is kept.

  Args:
    space: Box, Discrete (int64 scalar) or MultiDiscrete (int64 vector); or a
      Dict or Tuple of such.

  Returns:
    A spec, or a dict or tuple of specs.

  Raises:
    ValueError: Any other space.
  """
  if isinstance(space, gymnasium.spaces.Dict):
    return {k: observation_spec(part) for k, part in space.spaces.items()}
  if isinstance(space, gymnasium.spaces.Tuple):
    return tuple(map(observation_spec, space.spaces))
  if isinstance(space, gymnasium.spaces.Box):
    return _box_spec(space, space.dtype, 'observation')
  return _discrete_spec(space, 'observation')


def action_spec(space: gymnasium.Space) -> array_spec.ArraySpec:
  """Returns the spec of actions.

  Args:
    space: Box (float32), Discrete (int64 scalar) or MultiDiscrete (int64
      vector).

  Raises:
    ValueError: Any other space.
  """
  if isinstance(space, gymnasium.spaces.Box):
    return _box_spec(space, np.dtype(np.float32), 'action')
  return _discrete_spec(space, 'action')


def check_actions(
    actions: np.ndarray,
    spec: array_spec.ArraySpec,
    num_environments: int,
    first: int = 0,
) -> np.ndarray:
  """Checks a batch of actions and clips continuous ones to their bounds.

  A Gaussian policy samples beyond the bounds: the environment gets the nearest
  action within them, and whoever trains on the sample keeps it as it is.

  Args:
    actions: [num_environments, ...], whole numbers if the spec is int64.
    spec: Spec of one action.
    num_environments: Number of actions expected.
    first: Number of the first one's environment, for messages.

  Returns:
    The actions as an array of the spec's dtype.

  Raises:
    ValueError: Wrong shape or type, a choice that does not exist, or a number
      that is not finite; says which action.
  """
  actions = np.asarray(actions)
  shape = (num_environments, *spec.shape)
  if actions.shape != shape:
    raise ValueError(
        f'actions have shape {actions.shape} instead of {shape}: give one '
        f'action of shape {tuple(spec.shape)} for each of the '
        f'{num_environments} environments'
    )
  kinds = 'iu' if spec.dtype == np.int64 else 'iuf'
  if actions.dtype.kind not in kinds:
    raise ValueError(f'actions are {actions.dtype}, not {spec.dtype}')
  actions = actions.astype(spec.dtype, copy=False)
  if spec.dtype == np.int64:
    valid = (actions >= spec.minimum) & (actions <= spec.maximum)
  else:
    valid = np.isfinite(actions)
  if not valid.all():
    i = int(np.argwhere(~valid)[0][0])
    raise ValueError(
        f'action {actions[i].tolist()} of environment {first + i} is not '
        f'within {spec}'
    )
  if actions.dtype.kind == 'f' and isinstance(
      spec, array_spec.BoundedArraySpec
  ):
    return np.clip(actions, spec.minimum, spec.maximum)
  return actions


def _box_spec(
    space: gymnasium.spaces.Box, dtype: np.dtype, name: str
) -> array_spec.ArraySpec:
  """Returns a spec, with bounds if all bounds are finite."""
  if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
    return array_spec.ArraySpec(space.shape, dtype, name)
  return array_spec.BoundedArraySpec(
      space.shape,
      dtype,
      _scalar_if_equal(space.low.astype(dtype)),
      _scalar_if_equal(space.high.astype(dtype)),
      name,
  )


def _scalar_if_equal(bound: np.ndarray) -> np.ndarray:
  """Returns a scalar if all entries are equal, as those of images are."""
  return bound.flat[0] if bound.size and np.ptp(bound) == 0 else bound


def _discrete_spec(
    space: gymnasium.Space, name: str
) -> array_spec.BoundedArraySpec:
  if isinstance(space, gymnasium.spaces.Discrete):
    first, last = int(space.start), int(space.start + space.n - 1)
    return array_spec.BoundedArraySpec((), np.int64, first, last, name)
  if (
      isinstance(space, gymnasium.spaces.MultiDiscrete)
      and space.nvec.ndim == 1
  ):
    first = np.asarray(space.start, np.int64)
    last = first + space.nvec - 1
    return array_spec.BoundedArraySpec(
        space.shape, np.int64, first, last, name
    )
  raise ValueError(
      f'{name}s in {space} are not supported, only Box, Discrete and '
      'one-dimensional MultiDiscrete: flatten them with a gymnasium wrapper'
  )
