"""One environment as a PyEnvironment; TF-Agents' own ParallelPyEnvironment."""

import functools
from typing import Any

import gymnasium
import numpy as np
import tensorflow as tf
from tf_agents.environments import parallel_py_environment
from tf_agents.environments import py_environment
from tf_agents.specs import array_spec
from tf_agents.system import system_multiprocessing
from tf_agents.system.default import multiprocessing_core
from tf_agents.trajectories import time_step as ts

from rnd_agent.environments import errors
from rnd_agent.environments import returned
from rnd_agent.environments import specs
from rnd_agent.environments import suites
from rnd_agent.environments.vector import shares
from rnd_agent.environments.vector import worker


class GymnasiumPyEnvironment(py_environment.PyEnvironment):
  """Adapts one environment with gymnasium's interface; not batched.

  TF-Agents' GymWrapper expects the old gym's interface, which does not tell
  truncation from termination. Here termination has discount 0 and truncation
  discount 1.
  """

  def __init__(self, env: gymnasium.Env):
    """Adapts an environment.

    Args:
      env: With spaces as in `specs`.

    Raises:
      ValueError: A space is not supported, or it is no environment of
        gymnasium's.
    """
    super().__init__()
    errors.check_is_one_environment(env)
    self._env = env
    self._info: dict[str, Any] = {}
    self._steps = 0
    self._seed = None
    self._observation_spec = specs.observation_spec(env.observation_space)
    self._action_spec = specs.action_spec(env.action_space)

  def observation_spec(self):
    """Returns the spec of observations, or a nest of specs."""
    return self._observation_spec

  def action_spec(self) -> array_spec.ArraySpec:
    """Returns the spec of actions."""
    return self._action_spec

  def get_info(self) -> dict[str, Any]:
    """Returns gymnasium's info of the last step or reset."""
    return self._info

  def render(self, mode: str = 'rgb_array') -> np.ndarray:
    """Returns what the environment renders.

    Raises:
      ValueError: The environment does not render in this mode.
    """
    if mode != self._env.render_mode:
      raise ValueError(
          f'render mode {mode!r}, the environment has {self._env.render_mode!r}'
      )
    return self._env.render()

  def seed(self, seed: int | None = None):
    """Sets the seed of the next reset, and with it of what follows."""
    self._seed = seed

  def close(self):
    """Closes the environment."""
    self._env.close()

  def _reset(self) -> ts.TimeStep:
    observation, self._info = returned.of_reset(
        self._env.observation_space, self._env.reset(seed=self._seed)
    )
    self._seed = None
    self._steps = 0
    return ts.restart(self._observation(observation))

  def _step(self, action: np.ndarray) -> ts.TimeStep:
    if self._current_time_step.is_last():
      return self._reset()
    action = specs.check_actions([action], self._action_spec, 1)[0]
    space = self._env.action_space
    if isinstance(space, gymnasium.spaces.Discrete):
      action = int(action)
    else:
      action = action.astype(space.dtype)
    self._steps += 1
    observation, reward, terminated, truncated, self._info = returned.of_step(
        self._env.observation_space, self._env.step(action), self._steps
    )
    observation = self._observation(observation)
    reward = np.float32(reward)
    if terminated:
      return ts.termination(observation, reward)
    if truncated:
      return ts.truncation(observation, reward)
    return ts.transition(observation, reward)

  def _observation(self, observation: Any) -> Any:
    return tf.nest.map_structure(
        lambda spec, part: np.asarray(part, spec.dtype),
        self._observation_spec, observation,
    )


class CountingParallelPyEnvironment(
    parallel_py_environment.ParallelPyEnvironment
):
  """TF-Agents' ParallelPyEnvironment, which also returns finished episodes.

  It cannot save the state of its environments, and knows the places that an
  episode visited only when the episode ends.
  """

  def __init__(self, *args, **kwargs):
    """Takes ParallelPyEnvironment's arguments.

    Args:
      *args: As for ParallelPyEnvironment; its constructors must make
        `GymnasiumPyEnvironment`s.
      **kwargs: As for ParallelPyEnvironment.
    """
    self._episodes: list[worker.Episode] = []
    super().__init__(*args, **kwargs)

  def episodes(self) -> list[worker.Episode]:
    """Returns the episodes finished since the last call of this method."""
    episodes, self._episodes = self._episodes, []
    return episodes

  def _reset(self) -> ts.TimeStep:
    return self._call_with_clear_errors(super()._reset)

  def _step(self, actions: np.ndarray) -> ts.TimeStep:
    return self._call_with_clear_errors(self._step_and_count, actions)

  def _step_and_count(self, actions: np.ndarray) -> ts.TimeStep:
    time_step = super()._step(actions)
    for i in np.flatnonzero(time_step.is_last()):
      info = self.envs[i].call('get_info')()
      self._episodes.append(worker.Episode(int(i), **info['episode']))
    return time_step

  def _call_with_clear_errors(self, function, *arguments) -> ts.TimeStep:
    """Turns what TF-Agents raises into an EnvironmentWorkerError."""
    try:
      return function(*arguments)
    except (EOFError, OSError) as error:
      raise errors.EnvironmentWorkerError(
          "a process of TF-Agents' ParallelPyEnvironment has died "
          f'({type(error).__name__})', worker=-1,
      ) from error
    except Exception as error:  # The class that TF-Agents raises.
      text = str(error).strip()
      raise errors.EnvironmentWorkerError(
          "an environment of TF-Agents' ParallelPyEnvironment failed: "
          f'{text.splitlines()[-1] if text else type(error).__name__}',
          worker=-1, worker_traceback=text,
      ) from error


def make_parallel(
    env_name: suites.EnvironmentSource,
    num_environments: int,
    seed: int = 0,
    config: suites.EnvironmentConfig | None = None,
    first_environment: int = 0,
) -> CountingParallelPyEnvironment:
  """Makes the same environments in TF-Agents' ParallelPyEnvironment.

  For comparisons; it has one process per environment.

  Args:
    env_name: See `suites.make`.
    num_environments: N, and the number of processes.
    seed: Seed of the run; environment i equals that of ShardedPyEnvironment.
    config: Preprocessing.
    first_environment: As in ShardedPyEnvironment.

  Returns:
    A batched environment.

  Raises:
    UnknownEnvironmentError: No environment of that name.
  """
  suites.check_name(env_name)
  if not multiprocessing_core.initialized():  # No `handle_main` has done it.
    system_multiprocessing.enable_interactive_mode()
  config = config or suites.EnvironmentConfig()
  constructors = [
      functools.partial(_make_single, env_name, config, environment_seed)
      for environment_seed in shares.environment_seeds(
          seed, num_environments, first_environment
      )
  ]
  return CountingParallelPyEnvironment(
      constructors, start_serially=False
  )


def _make_single(
    env_name: suites.EnvironmentSource,
    config: suites.EnvironmentConfig,
    seed: int,
) -> GymnasiumPyEnvironment:
  worker.end_with_parent_only()  # This runs in the environment's process.
  return GymnasiumPyEnvironment(suites.make(env_name, config, seed))
