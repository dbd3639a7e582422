"""Environments of the old gym (0.23) with gymnasium's interface."""

import inspect
from typing import Any, Optional

import gym
from gym.envs import registration
import gymnasium
import numpy as np

from rnd_agent.environments import errors


def find(name: str) -> tuple[str, Optional[int]]:
  """Finds a registered environment.

  Args:
    name: 'CartPole-v1', or 'package.module:Own-v0' to import a module first.

  Returns:
    Its id, and its limit on steps or None.

  Raises:
    UnknownEnvironmentError: No such id; the message has the nearest ones.
  """
  module, _, env_id = name.rpartition(':')
  if module:
    errors.import_module(module, f'gym:{name}')
  specs = {spec.id: spec for spec in registration.registry.all()}
  env_id = errors.spelt_as_known(env_id, specs)
  if env_id not in specs:
    raise errors.unknown_name('gym environment', env_id, specs)
  return env_id, specs[env_id].max_episode_steps


def make(env_id: str) -> gym.Env:
  """Makes an environment without the limit it is registered with."""
  # gym.make would warn about every version but the latest.
  env = registration.spec(env_id).make()
  # gym adds its limit as the outermost wrapper; others are the environment's.
  return env.env if isinstance(env, gym.wrappers.TimeLimit) else env


class OldGymEnv(gymnasium.Env):
  """Adapts an environment whose steps return four values instead of five.

  The end of an episode is a truncation if `info['TimeLimit.truncated']` is
  true, as gym's time limit sets it, otherwise a termination.
  """

  def __init__(self, env: gym.Env):
    """Adapts an environment.

    Args:
      env: With spaces Box, Discrete, MultiDiscrete, MultiBinary, or Dict and
        Tuple of them.

    Raises:
      ValueError: A space is of another kind.
    """
    self._env = env
    self._reset_takes_seed = _takes_seed(env.unwrapped.reset)
    self.observation_space = _converted(env.observation_space, 'observations')
    self.action_space = _converted(env.action_space, 'actions')

  @property
  def np_random(self) -> Any:
    """The environment's attribute of this name, None if it has none."""
    return getattr(self._env.unwrapped, 'np_random', None)

  def reset(
      self, *, seed: Optional[int] = None, options: Optional[dict] = None
  ) -> tuple[Any, dict[str, Any]]:
    """Starts an episode. See `gymnasium.Env.reset`."""
    if seed is not None and self._reset_takes_seed:
      return self._env.reset(seed=seed), {}
    if seed is not None:
      self._env.seed(seed)
    return self._env.reset(), {}

  def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
    """Takes a step. See `gymnasium.Env.step`."""
    observation, reward, done, info = self._env.step(action)
    truncated = bool(done and info.get('TimeLimit.truncated', False))
    terminated = bool(done and not truncated)
    return observation, float(reward), terminated, truncated, info

  def close(self):
    """Closes the environment."""
    self._env.close()


def _takes_seed(reset) -> bool:
  parameters = inspect.signature(reset).parameters.values()
  return any(p.name == 'seed' or p.kind is p.VAR_KEYWORD for p in parameters)


def _converted(space: gym.Space, kind: str) -> gymnasium.Space:
  """Returns gymnasium's counterpart of one of gym's spaces.

  Args:
    space: Of gym.
    kind: 'observations' or 'actions', for errors.

  Raises:
    ValueError: The space is of a kind that no network reads.
  """
  if isinstance(space, gym.spaces.Box):
    dtype = np.dtype(space.dtype)
    return gymnasium.spaces.Box(space.low, space.high, dtype=dtype)
  if isinstance(space, gym.spaces.Discrete):
    return gymnasium.spaces.Discrete(space.n, start=space.start)
  if isinstance(space, gym.spaces.MultiDiscrete):
    return gymnasium.spaces.MultiDiscrete(space.nvec)
  if isinstance(space, gym.spaces.MultiBinary):
    return gymnasium.spaces.MultiBinary(space.n)
  if isinstance(space, gym.spaces.Dict):
    return gymnasium.spaces.Dict({
        name: _converted(part, kind) for name, part in space.spaces.items()
    })
  if isinstance(space, gym.spaces.Tuple):
    return gymnasium.spaces.Tuple(
        [_converted(part, kind) for part in space.spaces]
    )
  raise ValueError(
      f'{kind} in {space} are not supported: turn them into numbers and '
      'choices with a gym wrapper'
  )
