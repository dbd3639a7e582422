"""A worker process: steps its share of the environments into shared memory.

`pool.WorkerPool` starts it as a fresh interpreter, so that the parent is not
forked and the user's main script is not imported again. TensorFlow is not
imported here.

A worker ends with its parent, in two ways: reading from its socket gives end of
file, and on Linux the kernel kills it when its parent dies (PR_SET_PDEATHSIG),
even if an environment hangs. The kernel does so already when the *thread* that
started the worker ends: environments must be closed before the thread that made
them ends.

A worker ignores Ctrl-C, SIGTERM and the end of a terminal (SIGHUP): the parent
handles them, since it saves the run first.
"""

import ctypes
import multiprocessing.connection
import os
import pickle
import signal
import sys
import traceback
from typing import Any, NamedTuple

import cv2
import gymnasium
import numpy as np

from rnd_agent.environments import states
from rnd_agent.environments import suites
from rnd_agent.environments.vector import memory

# Step types of TF-Agents (`tf_agents.trajectories.StepType`).
FIRST, MID, LAST = 0, 1, 2

NO_PLACE = -1

_PR_SET_PDEATHSIG = 1


class Episode(NamedTuple):
  """Figures of a finished episode.

  Attributes:
    environment: Index of the environment in the batch.
    episode_return: Sum of the rewards before clipping.
    length: Agent steps.
    places: The distinct places seen (rooms, cells), sorted; empty if unknown.
    furthest_x: The furthest that it got in a level, pixels; None if unknown.
  """

  environment: int
  episode_return: float
  length: int
  places: tuple[int, ...]
  furthest_x: float | None = None


class Share(NamedTuple):
  """The environments of one worker.

  Attributes:
    worker: Index of the worker.
    groups: Indices of its environments, by group.
    seeds: Seed of every environment of the batch, also of other workers.
  """

  worker: int
  groups: tuple[tuple[int, ...], ...]
  seeds: tuple[int, ...]


class Worker:
  """Carries out the parent's requests, each a method's name with arguments.

  The shared arrays `actions`, `observations`, `final_observations`, `rewards`,
  `discounts`, `ended`, `step_types` and `places` have a row per environment;
  observations of several parts have an array for each, see `memory`.
  Two have a row per worker: `busy`, the environment that it is working on or
  -1, and `beats`, a counter that grows while it repeats episodes.
  """

  def __init__(self, memory_file: int):
    self._memory_file = memory_file
    self._arrays: dict[str, np.ndarray] = {}
    self._envs: dict[int, gymnasium.Env] = {}
    self.environment: int | None = None  # Index of the one it works on.

  def build(self, share: Share, source: bytes) -> list[tuple]:
    """Makes the environments; returns their spaces.

    Args:
      share: Which ones.
      source: Pickled (name or callable, EnvironmentConfig).

    Returns:
      (observation space, action space) of every environment of the share.

    Raises:
      ValueError: A worker process cannot import the callable.
    """
    try:
      env_name, config = pickle.loads(source)
    except (AttributeError, ImportError) as error:
      raise ValueError(
          f'{error}: a callable must be at the top level of an importable '
          'module, not in the main script'
      ) from error
    self._share = share
    for group in share.groups:
      for i in group:
        self.environment = i
        self._envs[i] = suites.make(env_name, config, share.seeds[i])
    return [
        (env.observation_space, env.action_space) for env in self._envs.values()
    ]

  def attach(self, fields: dict[str, memory.Field]):
    """Maps the shared arrays, which the parent has allocated."""
    self._arrays = memory.map_arrays(self._memory_file, fields)
    os.close(self._memory_file)

  def reset(self, group: int) -> list[Episode]:
    """Starts new episodes in a group."""
    for i in self._share.groups[group]:
      self._mark_busy(i)
      self._reset_one(i)
    self._mark_idle()
    return []

  def step(self, group: int, reset_at_end: bool) -> list[Episode]:
    """Steps a group with the shared actions; returns the episodes it finished.

    Args:
      group: Index of the group.
      reset_at_end: Whether an environment whose episode ends is reset in this
        step; otherwise the next step resets it and ignores its action.
    """
    episodes = []
    for i in self._share.groups[group]:
      self._mark_busy(i)
      if self._arrays['step_types'][i] == LAST:
        self._reset_one(i)
      else:
        self._step_one(i, reset_at_end, episodes)
    self._mark_idle()
    return episodes

  def get_state(self) -> dict[int, bytes]:
    """Returns the state of every environment of the share, see `states`."""
    result = {}
    for i, env in self._envs.items():
      self._mark_busy(i)
      result[i] = states.encode(states.get_state(env))
    self._mark_idle()
    return result

  def set_state(self, saved: dict[int, bytes]) -> dict[int, str]:
    """Restores the saved states of the share's environments.

    An environment whose state cannot be restored begins a new episode.

    Args:
      saved: What `get_state` of all workers returned.

    Returns:
      The reason, by the index of each environment that began a new episode.
    """
    not_restored = {}
    for i, env in self._envs.items():
      self._mark_busy(i)
      try:
        states.set_state(env, states.decode(saved[i]), self._count_beat)
      except (states.NotExactError, ValueError) as error:
        not_restored[i] = str(error)
        self._reset_one(i)
    self._mark_idle()
    return not_restored

  def render(self) -> dict[int, Any]:
    """Returns a frame of every environment, or the error if it cannot render.

    Returns:
      By environment: uint8 [height, width, 3], or the text of the error if a
      package is not installed.
    """
    frames = {}
    for i, env in self._envs.items():
      self._mark_busy(i)
      try:
        frames[i] = env.render()
      except gymnasium.error.DependencyNotInstalled as error:
        frames[i] = ' '.join(str(error).split())
    self._mark_idle()
    return frames

  def close(self):
    """Closes the environments."""
    for env in self._envs.values():
      env.close()

  def _mark_busy(self, i: int):
    self.environment = i
    self._arrays['busy'][self._share.worker] = i

  def _mark_idle(self):
    self.environment = None
    self._arrays['busy'][self._share.worker] = -1

  def _count_beat(self):
    self._arrays['beats'][self._share.worker] += 1

  def _reset_one(self, i: int):
    observation, info = self._envs[i].reset()
    self._store('observations', i, observation)
    arrays = self._arrays
    arrays['rewards'][i] = 0.0
    arrays['discounts'][i] = 1.0
    arrays['ended'][i] = False
    arrays['step_types'][i] = FIRST
    arrays['places'][i] = info.get('place', NO_PLACE)

  def _step_one(self, i: int, reset_at_end: bool, episodes: list[Episode]):
    env = self._envs[i]
    action = self._action(env.action_space, self._arrays['actions'][i])
    observation, reward, terminated, truncated, info = env.step(action)
    ended = terminated or truncated
    if ended:
      episodes.append(Episode(i, **info['episode']))
    if ended and reset_at_end:
      self._store('final_observations', i, observation)
      self._reset_one(i)
    else:
      self._store('observations', i, observation)
      self._arrays['step_types'][i] = LAST if ended else MID
      self._arrays['places'][i] = info.get('place', NO_PLACE)
    self._arrays['rewards'][i] = reward
    self._arrays['discounts'][i] = 0.0 if terminated else 1.0
    self._arrays['ended'][i] = ended

  def _store(self, name: str, i: int, observation: Any):
    if isinstance(observation, dict):
      for part, value in observation.items():
        self._store(memory.name_of_part(name, part), i, value)
      return
    row = self._arrays[name][i]
    if np.shape(observation) != row.shape:
      raise ValueError(
          f'observation of shape {np.shape(observation)}, its space says '
          f'{row.shape}'
      )
    self._arrays[name][i] = observation

  @staticmethod
  def _action(space: gymnasium.Space, row: np.ndarray) -> Any:
    """Returns the action for gymnasium from a row of the shared array."""
    if isinstance(space, gymnasium.spaces.Discrete):
      return int(row)
    return row.astype(space.dtype)  # A copy: environments may keep it.


def serve(
    connection: multiprocessing.connection.Connection, worker: Worker
):
  """Answers requests until the parent closes the connection.

  A request is (name of a method, arguments); the answer ('done', result), or
  ('failed', index of the environment or None, text of the traceback, its
  error in one line).
  """
  while True:
    try:
      name, arguments = connection.recv()
    except (EOFError, ConnectionResetError):
      return
    try:
      answer = ('done', getattr(worker, name)(*arguments))
    except Exception as error:  # noqa: BLE001, it goes to the parent.
      cause = ' '.join(''.join(traceback.format_exception_only(error)).split())
      answer = ('failed', worker.environment, traceback.format_exc(), cause)
    try:
      connection.send(answer)
    except (BrokenPipeError, ConnectionResetError):
      return  # The parent is gone.


def end_with_parent_only():
  """Ignores the signals that stop a run, and dies when the parent dies."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
  signal.signal(signal.SIGHUP, signal.SIG_IGN)
  if sys.platform == 'linux':
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
      raise OSError(ctypes.get_errno(), 'prctl(PR_SET_PDEATHSIG) failed')


def run_as_batch():
  """Keeps this process from interrupting the parent that wakes it, on Linux.

  Otherwise the first worker that a request wakes may take the parent's core,
  and the others get their requests only after it has stepped its environments.
  """
  # Under another policy, such as that of `chrt -i`, it may be forbidden.
  if sys.platform == 'linux' and os.sched_getscheduler(0) == os.SCHED_OTHER:
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def main(parent: int, connection_file: int, memory_file: int):
  """Runs a worker.

  Args:
    parent: Process id of the parent.
    connection_file: Descriptor of the socket to the parent.
    memory_file: Descriptor of the shared memory's anonymous file.
  """
  end_with_parent_only()
  if os.getppid() != parent:
    return  # The parent died before the call of prctl.
  run_as_batch()
  # Programs that an environment starts do not inherit the socket.
  os.set_inheritable(connection_file, False)
  os.set_inheritable(memory_file, False)
  cv2.setNumThreads(1)
  connection = multiprocessing.connection.Connection(connection_file)
  worker = Worker(memory_file)
  serve(connection, worker)
  worker.close()
