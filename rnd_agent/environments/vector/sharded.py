"""Many environments over a few processes, as one batched PyEnvironment."""

import collections
import functools
import operator
from typing import Any, NamedTuple
import weakref

from absl import logging
import gin
import numpy as np
import tensorflow as tf
from tf_agents.environments import py_environment
from tf_agents.specs import array_spec
from tf_agents.trajectories import time_step as ts

from rnd_agent.environments import errors
from rnd_agent.environments import specs
from rnd_agent.environments import suites
from rnd_agent.environments.vector import memory
from rnd_agent.environments.vector import pool
from rnd_agent.environments.vector import shares
from rnd_agent.environments.vector import worker

Episode = worker.Episode

# How often workers are started if they die before they are ready.
_ATTEMPTS = 3
# Shared arrays, or one for each part of an observation.
_OBSERVATIONS = ('observations', 'final_observations')
# Shared arrays with an entry per worker instead of one per environment.
_PER_WORKER = ('busy', 'beats')


class Transition(NamedTuple):
  """The outcome of a step after which ended episodes were reset.

  N is the number of environments in the group. The arrays are shared memory
  that the group's next step overwrites: copy what must last. Observations are a
  dict of arrays where `observation_spec` is one of specs.

  Attributes:
    observations: [N, ...], what to act on next; where an episode ended, the
      first observation of the next one.
    step_types: int32 [N], of these observations: FIRST or MID.
    rewards: float32 [N], of the step.
    discounts: float32 [N], of the step: 0 where the episode terminated.
    ended: bool [N], whether the episode terminated or was truncated.
    final_observations: [N, ...], the last observation of the episode that
      ended; valid where `ended`.
  """

  observations: np.ndarray | dict[str, np.ndarray]
  step_types: np.ndarray
  rewards: np.ndarray
  discounts: np.ndarray
  ended: np.ndarray
  final_observations: np.ndarray | dict[str, np.ndarray]


@gin.configurable(module='rnd_agent.environments.sharded')
class ShardedPyEnvironment(py_environment.PyEnvironment):
  """N environments in K processes, each of which steps its share of them.

  Two ways to step. `step` follows TF-Agents: an episode ends with a LAST time
  step, and the next step ignores the action and returns FIRST with reward 0;
  termination has discount 0, truncation 1. `step_and_reset` resets in the same
  call, so that every row is a real step of the agent. They can be mixed: an
  environment left at LAST by `step` is reset by the next step of either kind.

  The batch may be divided into groups, so that one can be stepped while the
  policy is evaluated on another: `send(actions, group)`, `receive(group)`.

  Environment i has the seed `shares.environment_seeds(seed, n)[i]`; its steps
  depend neither on the number of workers nor on that of groups.

  If a worker dies or hangs, or an environment raises, the call raises
  `EnvironmentWorkerError` and all environments are closed.

  Close it before the thread that made it ends: the workers end with that
  thread, see `worker`.
  """

  def __init__(
      self,
      env_name: suites.EnvironmentSource = gin.REQUIRED,
      num_environments: int = gin.REQUIRED,
      num_workers: int | None = None,
      seed: int = 0,
      config: suites.EnvironmentConfig | None = None,
      worker_timeout: float = 60.0,
      num_groups: int = 1,
      first_environment: int = 0,
  ):
    """Starts the workers and makes the environments.

    Args:
      env_name: Name, or callable `f(seed)` at the top level of an importable
        module, see `suites.make`.
      num_environments: N.
      num_workers: Processes, at most as many as a group has environments; None
        is one for every core.
      seed: Seed of the run, at least 0.
      config: Preprocessing; None is `EnvironmentConfig()`.
      worker_timeout: Seconds a worker may take for one step of its share; when
        it repeats episodes (see `set_state`), for one step of an episode.
      num_groups: Groups of consecutive environments.
      first_environment: Number of the first one in the run, where there are
        others elsewhere; the seeds follow from the numbers.

    Raises:
      UnknownEnvironmentError: No environment of that name.
      ValueError: Sizes do not fit, or a space is not supported.
      EnvironmentWorkerError: An environment or a worker failed to start; a
        worker that died has been started three times.
    """
    super().__init__()
    suites.check_name(env_name)
    num_workers = shares.check_sizes(
        num_environments, num_workers, num_groups, worker_timeout
    )
    self._num_environments = num_environments
    self._groups = [
        slice(*shares.bounds(num_environments, num_groups, group))
        for group in range(num_groups)
    ]
    seeds = shares.environment_seeds(
        seed, num_environments, first_environment
    )
    all_shares = shares.make_shares(num_groups, num_workers, seeds)
    self._workers_of = [
        [share.worker for share in all_shares if share.groups[group]]
        for group in range(num_groups)
    ]
    self._all_workers = range(num_workers)
    self._make_pool = functools.partial(
        pool.WorkerPool, env_name, config or suites.EnvironmentConfig(),
        all_shares, worker_timeout,
    )
    self._start()

  def _start(self):
    """Starts the workers, makes the environments, sets the initial state."""
    for attempts_left in reversed(range(_ATTEMPTS)):
      try:
        self._start_workers()
        break
      except errors.EnvironmentWorkerError as error:
        if not error.died or not attempts_left:
          raise
        logging.warning('%s; they are started once more', str(error))
    self._arrays['step_types'][:] = ts.StepType.LAST
    self._arrays['places'][:] = worker.NO_PLACE
    everyone = Transition(**{
        name: self._nest(name) if name in _OBSERVATIONS else self._arrays[name]
        for name in Transition._fields
    })
    self._transitions = [
        tf.nest.map_structure(operator.itemgetter(rows), everyone)
        for rows in self._groups
    ]
    self._under_way = collections.deque()
    self._episodes: list[Episode] = []
    self._current_time_step = None

  def _start_workers(self):
    self._pool = self._make_pool()
    self._finalizer = weakref.finalize(self, self._pool.close)
    try:
      self._set_spaces(self._pool.spaces)
    except ValueError:
      self.close()
      raise
    fields = self._fields(len(self._all_workers))
    self._arrays = self._pool.share_memory(fields)

  @property
  def batched(self) -> bool:
    """True."""
    return True

  @property
  def batch_size(self) -> int:
    """N, the number of environments."""
    return self._num_environments

  @property
  def groups(self) -> tuple[slice, ...]:
    """The environments of every group."""
    return tuple(self._groups)

  @property
  def places(self) -> np.ndarray:
    """The place of each environment, int64 [N]: room or cell, -1 if unknown."""
    return self._arrays['places'].copy()

  def observation_spec(self) -> array_spec.ArraySpec | dict[str, Any]:
    """Returns the spec of one environment's observation, or a dict of specs."""
    return self._observation_spec

  def action_spec(self) -> array_spec.ArraySpec:
    """Returns the spec of one environment's action."""
    return self._action_spec

  def step_and_reset(self, actions: np.ndarray) -> Transition:
    """Steps all environments; those that end are reset in the same call.

    Args:
      actions: [N, ...], as in `action_spec`.

    Returns:
      A Transition whose arrays are valid until the next step.

    Raises:
      ValueError: The actions' shape, kind or range is wrong.
      RuntimeError: The environments are closed, `reset` was never called, or
        there are several groups (use `send` and `receive`).
      EnvironmentWorkerError: See the class.
    """
    if len(self._groups) > 1:
      raise RuntimeError('there are several groups: use send() and receive()')
    self.send(actions)
    return self.receive()

  def send(self, actions: np.ndarray, group: int = 0):
    """Begins a `step_and_reset` of one group.

    Args:
      actions: [environments of the group, ...].
      group: Index of the group.

    Raises:
      As `step_and_reset`, and RuntimeError if the group is being stepped.
    """
    self._send(actions, group, reset_at_end=True)

  def receive(self, group: int = 0) -> Transition:
    """Waits for a group's step; groups are received in the order of `send`.

    Args:
      group: Index of the group.

    Returns:
      A Transition whose arrays are valid until the group is sent again.

    Raises:
      RuntimeError: The group is not the next one to be received.
      EnvironmentWorkerError: See the class.
    """
    self._receive(group)
    return self._transitions[group]

  def current_time_step(self) -> ts.TimeStep:
    """Returns the time step to act on, [N, ...], after either kind of step."""
    super().current_time_step()  # Raises if there is none yet.
    self._check_idle()
    return self._time_step()

  def episodes(self) -> list[Episode]:
    """Returns the episodes finished since the last call of this method."""
    episodes, self._episodes = self._episodes, []
    return episodes

  def render(self, mode: str = 'rgb_array') -> list[np.ndarray]:
    """Renders all environments.

    Args:
      mode: Not used: the environments were made with their render mode.

    Returns:
      Frames [height, width, 3], one of each environment.

    Raises:
      MissingPackageError: A package that rendering needs is not installed.
      EnvironmentWorkerError: See the class.
      RuntimeError: The environments are closed or being stepped.
    """
    del mode
    self._check_idle()
    frames = {}
    for answer in self._pool.ask(self._all_workers, 'render'):
      frames.update(answer)
    for frame in frames.values():
      if isinstance(frame, str):
        raise errors.MissingPackageError(frame)
    return [frames[i] for i in range(self._num_environments)]

  def get_state(self) -> dict[str, Any]:
    """Returns the environments' state as plain data for `states.encode`.

    Raises:
      EnvironmentWorkerError: See the class.
      RuntimeError: The environments are closed or being stepped.
    """
    self._check_idle()
    environments = {}
    for answer in self._pool.ask(self._all_workers, 'get_state'):
      environments.update(answer)
    arrays = {
        name: self._arrays[name].copy()
        for name in self._arrays
        if name not in (*_PER_WORKER, 'actions')
        and not name.startswith('final_observations')
    }
    return {
        'environments': [
            environments[i] for i in range(self._num_environments)
        ],
        'arrays': arrays,
        'episodes': [list(episode) for episode in self._episodes],
        'started': self._current_time_step is not None,
    }

  def set_state(self, state: dict[str, Any]) -> dict[int, str]:
    """Restores a state that `get_state` returned.

    Atari games restore the emulator's state, all other environments repeat the
    actions of the episode. An environment whose state cannot be restored begins
    a new episode.

    Args:
      state: What `get_state` returned.

    Returns:
      The reason, by the index of each environment that began a new episode.

    Raises:
      ValueError: The state is that of another number or kind of environments.
      EnvironmentWorkerError: See the class.
      RuntimeError: The environments are closed or being stepped.
    """
    self._check_idle()
    if len(state['environments']) != self._num_environments:
      raise ValueError(
          f"the state is that of {len(state['environments'])} environments, "
          f'here are {self._num_environments}'
      )
    for name, array in state['arrays'].items():
      if name not in self._arrays or array.shape != self._arrays[name].shape:
        raise ValueError(f'the state is that of other environments ({name})')
      self._arrays[name][:] = array
    self._episodes = [
        Episode(i, score, length, tuple(places), *more)
        for i, score, length, places, *more in state['episodes']
    ]
    not_restored = {}
    saved = dict(enumerate(state['environments']))
    for answer in self._pool.ask(self._all_workers, 'set_state', saved):
      not_restored.update(answer)
    self._current_time_step = self._time_step() if state['started'] else None
    return not_restored

  def restart(self):
    """Ends all workers and starts new ones, as after an error.

    Call `set_state` or `reset` before the next step.

    Raises:
      EnvironmentWorkerError: A worker or environment failed to start.
    """
    self.close()
    self._start()

  def close(self):
    """Ends the workers; may be called again."""
    self._finalizer()

  def _reset(self) -> ts.TimeStep:
    self._check_idle()
    for group, workers in enumerate(self._workers_of):
      self._pool.ask(workers, 'reset', group)
    return self._time_step()

  def _step(self, action: np.ndarray) -> ts.TimeStep:
    self._check_idle()
    actions = specs.check_actions(
        action, self._action_spec, self._num_environments
    )
    for group, rows in enumerate(self._groups):
      self._send(actions[rows], group, reset_at_end=False)
    for group in range(len(self._groups)):
      self._receive(group)
    return self._time_step()

  def _send(self, actions: np.ndarray, group: int, reset_at_end: bool):
    self._pool.check_open()
    if self._current_time_step is None:
      raise RuntimeError('call reset() before the first step')
    if group in self._under_way:
      raise RuntimeError(
          f'group {group} is being stepped: call receive({group}) before '
          'sending to it again'
      )
    rows = self._groups[group]
    actions = specs.check_actions(
        actions, self._action_spec, rows.stop - rows.start, rows.start
    )
    self._arrays['actions'][rows] = actions
    self._pool.request(self._workers_of[group], 'step', group, reset_at_end)
    self._under_way.append(group)

  def _receive(self, group: int):
    self._pool.check_open()
    if not self._under_way or self._under_way[0] != group:
      turn = 'none was sent: call send() first'
      if self._under_way:
        turn = f'the next one is group {self._under_way[0]}'
      raise RuntimeError(f'cannot receive group {group}: {turn}')
    self._under_way.popleft()
    for episodes in self._pool.collect(self._workers_of[group]):
      self._episodes.extend(episodes)

  def _check_idle(self):
    self._pool.check_open()
    if self._under_way:
      raise RuntimeError(
          f'groups {list(self._under_way)} are being stepped: receive them'
      )

  def _time_step(self) -> ts.TimeStep:
    """Returns the time step of all environments, copied.

    Where a step is FIRST, reward 0 and discount 1 replace those of the last
    step of the episode before, which `step_and_reset` leaves in the arrays.
    """
    arrays = self._arrays
    step_types = arrays['step_types'].copy()
    first = step_types == ts.StepType.FIRST
    return ts.TimeStep(
        step_types,
        np.where(first, np.float32(0), arrays['rewards']),
        np.where(first, np.float32(1), arrays['discounts']),
        tf.nest.map_structure(np.copy, self._nest('observations')),
    )

  def _set_spaces(self, spaces: list[tuple]):
    observation_space, action_space = spaces[0]
    if any(pair != spaces[0] for pair in spaces):
      raise ValueError('the environments have different spaces')
    self._observation_spec = specs.observation_spec(observation_space)
    self._action_spec = specs.action_spec(action_space)

  def _parts(self, name: str) -> list[tuple[str, array_spec.ArraySpec]]:
    """The arrays of observations, one for each part, and their specs."""
    spec = self._observation_spec
    if not isinstance(spec, dict):
      return [(name, spec)]
    return [
        (memory.name_of_part(name, part), part_spec)
        for part, part_spec in spec.items()
    ]

  def _nest(self, name: str) -> np.ndarray | dict[str, np.ndarray]:
    """The shared arrays of observations, as `observation_spec`."""
    if not isinstance(self._observation_spec, dict):
      return self._arrays[name]
    return {
        part: self._arrays[memory.name_of_part(name, part)]
        for part in self._observation_spec
    }

  def _fields(self, num_workers: int) -> dict[str, memory.Field]:
    """Returns shape and dtype of the shared arrays, see `worker.Worker`."""
    n = (self._num_environments,)
    actions = (
        n + tuple(self._action_spec.shape),
        np.dtype(self._action_spec.dtype),
    )
    return {
        **{
            name: (n + tuple(spec.shape), np.dtype(spec.dtype))
            for observations in _OBSERVATIONS
            for name, spec in self._parts(observations)
        },
        'actions': actions,
        'rewards': (n, np.dtype(np.float32)),
        'discounts': (n, np.dtype(np.float32)),
        'step_types': (n, np.dtype(np.int32)),
        'ended': (n, np.dtype(np.bool_)),
        'places': (n, np.dtype(np.int64)),
        **dict.fromkeys(_PER_WORKER, ((num_workers,), np.dtype(np.int64))),
    }
