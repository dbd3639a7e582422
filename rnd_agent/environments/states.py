"""Saves and restores the state of an environment as plain data, not pickled.

An environment's state is the list of its layers' states, from the outermost
wrapper inwards; a layer without state has None. The innermost layer is either a
game that can save its state (`AtariGame`) or `Replay`, which records the
episode's seed and actions.

`encode` turns such data into bytes: compressed JSON, with arrays and bytes in
it as text. `decode` never runs code, whatever the bytes are.
"""

import base64
import hashlib
import json
from typing import Any, Callable
import zlib

from absl import logging
import gymnasium
import numpy as np

from rnd_agent.common import plain_json
from rnd_agent.environments import errors
from rnd_agent.environments import returned

# Limits on the decompressed size, bytes, since the data may come from a
# stranger: the state of one environment (Montezuma's Revenge has 57 kB, a
# replay 11 bytes per action), and that of several, in all and per environment
# (Montezuma's Revenge has 60 kB per environment).
_LARGEST = 2**26
_LARGEST_OF_ALL = 2**28
_LARGEST_SHARE = 2**22


class NotExactError(Exception):
  """An environment could not be brought back to its saved state."""


def get_state(env: gymnasium.Env) -> list[Any]:
  """Returns the state of an environment that `suites.make` has made.

  Args:
    env: The environment with all its wrappers.

  Returns:
    One entry per layer; data for `encode`.
  """
  return [
      layer.saved_state() if hasattr(layer, 'saved_state') else None
      for layer in _layers(env)
  ]


def set_state(
    env: gymnasium.Env,
    state: list[Any],
    on_step: Callable[[], None] = lambda: None,
):
  """Restores the state of an environment that was made in the same way.

  Args:
    env: The environment with all its wrappers; already reset.
    state: What `get_state` returned.
    on_step: Called after every step that `Replay` repeats.

  Raises:
    NotExactError: The state could not be restored, or is that of another
      environment; the environment must be reset before it is stepped.
  """
  layers = _layers(env)
  if not isinstance(state, list) or len(state) != len(layers):
    raise NotExactError('the state is that of another environment')
  # The innermost first: `Replay` steps the environment, and with it its layers.
  for layer, part in zip(reversed(layers), reversed(state)):
    if (part is None) == hasattr(layer, 'saved_state'):
      raise NotExactError('the state is that of another environment')
    if part is not None:
      try:
        if isinstance(layer, Replay):
          layer.restore_state(part, on_step)
        else:
          layer.restore_state(part)
      except NotExactError:
        raise
      except Exception as error:  # noqa: BLE001, games are native code.
        raise NotExactError(f'{type(error).__name__}: {error}') from error


def _layers(env: gymnasium.Env) -> list[gymnasium.Env]:
  """The wrappers from the outermost to `Replay` or the environment itself."""
  layers = [env]
  while isinstance(env, gymnasium.Wrapper) and not isinstance(env, Replay):
    env = env.env
    layers.append(env)
  return layers


class Replay(gymnasium.Wrapper):
  """Saves any environment as its random state at the reset and its actions.

  Restoring resets the environment, repeats the actions, and compares the
  observation and the random state with the saved ones, so that an environment
  whose steps depend on anything else raises NotExactError.

  What the environment returns goes through `returned`.

  An episode of more than `LONGEST` steps cannot be restored: its actions would
  be saved before every rollout, and repeating them would take too long.
  """

  LONGEST = 200_000  # steps

  def __init__(self, env: gymnasium.Env):
    super().__init__(env)
    self._seed = None
    self._random_before = None
    self._actions = _Actions(env.action_space)
    self._steps = 0
    self._observation = None

  def reset(self, *, seed: int | None = None, options=None):
    self._seed = seed
    self._random_before = _random_state(self.unwrapped)
    self._actions.clear()
    self._steps = 0
    self._observation, info = returned.of_reset(
        self.env.observation_space, self.env.reset(seed=seed, options=options)
    )
    return self._observation, info

  def step(self, action):
    if len(self._actions) <= self.LONGEST:
      self._actions.append(action)
    self._steps += 1
    result = returned.of_step(
        self.env.observation_space, self.env.step(action), self._steps
    )
    self._observation = result[0]
    return result

  def close(self):
    """Closes the environment; what its code raises then is only logged."""
    try:
      self.env.close()
    except Exception as error:  # noqa: BLE001, it has given all that it had.
      logging.log_first_n(
          logging.WARNING, 'closing an environment failed: %s', 1,
          errors.in_one_line(error),
      )

  def saved_state(self) -> dict[str, Any]:
    """Returns the episode's seed, random state and actions, and its outcome."""
    if len(self._actions) > self.LONGEST:
      return {'longer_than': self.LONGEST}
    return {
        'seed': self._seed,
        'random_before': self._random_before,
        'actions': self._actions.array(),
        'random_after': _random_state(self.unwrapped),
        'observation': _digest(self._observation),
    }

  def restore_state(
      self,
      state: dict[str, Any],
      on_step: Callable[[], None] = lambda: None,
  ):
    """Repeats an episode.

    Args:
      state: What `saved_state` returned.
      on_step: Called after every step.

    Raises:
      NotExactError: The environment behaved differently this time, or the
        episode is too long.
    """
    if 'longer_than' in state:
      raise NotExactError(
          f'episodes of more than {self.LONGEST} steps are not repeated'
      )
    _set_random_state(self.unwrapped, state['random_before'])
    self.reset(seed=state['seed'])
    for action in state['actions']:
      if np.ndim(action):
        self.step(action)
      elif self.action_space.contains(action.item()):
        self.step(action.item())
      else:
        raise NotExactError(f'there is no action {action}')
      on_step()
    if (
        _digest(self._observation) != state['observation']
        or _random_state(self.unwrapped) != state['random_after']
    ):
      raise NotExactError('repeating its actions led to another observation')


class _Actions:
  """The actions of an episode, in an array of the smallest dtype."""

  def __init__(self, space: gymnasium.Space):
    self._dtype = None  # None: the dtype of the first action.
    if isinstance(space, gymnasium.spaces.Discrete):
      last = space.start + space.n - 1
      self._dtype = np.result_type(
          *map(np.min_scalar_type, (space.start, last))
      )
    self._buffer = np.empty(0)
    self._count = 0

  def __len__(self) -> int:
    return self._count

  def append(self, action: Any):
    if not len(self._buffer):
      action = np.asarray(action, self._dtype)
      self._buffer = np.empty((64, *action.shape), action.dtype)
    if self._count == len(self._buffer):
      self._buffer = np.concatenate([self._buffer, self._buffer])
    self._buffer[self._count] = action
    self._count += 1

  def clear(self):
    self._count = 0

  def array(self) -> np.ndarray:
    return self._buffer[: self._count].copy()


def _random_state(env: gymnasium.Env) -> Any:
  """The state of an environment's random generator, None without one."""
  random = getattr(env, 'np_random', None)
  if isinstance(random, np.random.Generator):
    return _with_lists(random.bit_generator.state)
  if isinstance(random, np.random.RandomState):
    return _with_lists(random.get_state(legacy=False))
  return None


def _set_random_state(env: gymnasium.Env, state: Any):
  random = getattr(env, 'np_random', None)
  if isinstance(random, np.random.Generator):
    random.bit_generator.state = state
  elif isinstance(random, np.random.RandomState):
    random.set_state(state)


def _with_lists(nest: Any) -> Any:
  """Replaces arrays by lists, so that == compares whole states."""
  if isinstance(nest, dict):
    return {key: _with_lists(value) for key, value in nest.items()}
  return nest.tolist() if isinstance(nest, np.ndarray) else nest


def _digest(observation: Any) -> str:
  """The SHA-256 of an observation of any nested type."""
  sha = hashlib.sha256()

  def add(part):
    if isinstance(part, dict):
      for key in sorted(part):
        sha.update(repr(key).encode())
        add(part[key])
    elif isinstance(part, (tuple, list)):
      for entry in part:
        add(entry)
    elif isinstance(part, (np.ndarray, np.generic)):
      sha.update(f'{part.dtype.str}{part.shape}'.encode())
      sha.update(np.ascontiguousarray(part).tobytes())
    else:
      sha.update(repr(part).encode())

  add(observation)
  return sha.hexdigest()


def encode(nest: Any) -> bytes:
  """Encodes plain data as bytes.

  Args:
    nest: Dicts with text keys, lists, tuples (which become lists), text,
      numbers, truth values, None, bytes, numpy's arrays and numbers.

  Returns:
    Bytes for `decode`.

  Raises:
    TypeError: It contains something else.
  """
  return zlib.compress(json.dumps(nest, default=_as_json).encode(), level=1)


def decode(data: bytes, environments: int | None = None) -> Any:
  """Decodes bytes, which may come from a stranger.

  Args:
    data: What `encode` returned.
    environments: Number of environments whose states they may contain, which
      limits the size; None: the state of one environment.

  Returns:
    The data.

  Raises:
    ValueError: `encode` did not make these bytes, or they are too large.
  """
  largest = _LARGEST
  if environments is not None:
    largest = max(_LARGEST_OF_ALL, environments * _LARGEST_SHARE)
  decompressor = zlib.decompressobj()
  try:
    text = decompressor.decompress(data, largest)
    if decompressor.unconsumed_tail or not decompressor.eof:
      raise ValueError('it is cut off, or too large')
    return plain_json.loads(text, _from_json)
  except (
      zlib.error, ValueError, KeyError, TypeError, SyntaxError  # np.dtype's.
  ) as error:
    raise ValueError(f'not a saved state: {error}') from error


def whole_number(value: Any, below: int = 2**63) -> int:
  """Checks a number of a layer's saved state, which may come from a stranger.

  Args:
    value: The value that was read.
    below: The number must be smaller than this.

  Returns:
    The value.

  Raises:
    ValueError: It is not a whole number from 0 to `below` - 1.
  """
  if type(value) is not int or not 0 <= value < below:
    raise ValueError(
        f'{value!r:.40} is not a whole number from 0 to {below - 1}'
    )
  return value


def _as_json(value: Any) -> Any:
  if isinstance(value, np.ndarray) and value.dtype.kind in 'biuf':
    data = base64.b64encode(np.ascontiguousarray(value)).decode()
    return {'__array__': [value.dtype.str, list(value.shape), data]}
  if isinstance(value, bytes):
    return {'__bytes__': base64.b64encode(value).decode()}
  if isinstance(value, np.generic):
    return value.item()
  raise TypeError(f'{type(value).__name__} cannot be saved')


def _from_json(value: dict[str, Any]) -> Any:
  if '__bytes__' in value:
    return base64.b64decode(value['__bytes__'], validate=True)
  if '__array__' in value:
    dtype, shape, data = value['__array__']
    if np.dtype(dtype).kind not in 'biuf':
      raise ValueError(f'an array of {dtype}')
    array = np.frombuffer(base64.b64decode(data, validate=True), dtype)
    return array.reshape(shape).copy()
  return value
