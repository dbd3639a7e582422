"""Rollouts from environments that may fail, and that continue elsewhere.

`SafeCollector` keeps what a rollout began from: the environments' states, the
policy's recurrent states and the random numbers for actions. When a worker
dies, hangs or raises, the environments are made anew, brought back to there,
and the rollout is collected again: where the environments come back exactly,
it is the one that would have been. The same data go into a checkpoint.
"""

from __future__ import annotations

from typing import Any, Callable, Sequence

import numpy as np
import tensorflow as tf

from rnd_agent.environments import errors
from rnd_agent.environments import states
from rnd_agent.learning import rollout as rollout_lib
from rnd_agent.training import collector as collector_lib

# Failures in a row of one environment that end a run.
_MAX_FAILURES = 3
# Of all workers; limits what is read of a checkpoint, see `states.decode`.
_MOST_ENVIRONMENTS = 2**14


class SafeCollector:
  """A `Collector` that survives its environments' failures."""

  def __init__(
      self,
      collector: collector_lib.Collector,
      environment,
      generator: tf.random.Generator,
      note: Callable[[str], None] = lambda text: None,
      on_retry: Callable[[], None] = lambda: None,
  ):
    """Collects nothing yet.

    Args:
      collector: of the environment.
      environment: batched; one without `restart` is used as it is, its
        failures are not survived and its episodes begin anew on resume.
      generator: source of the policy's actions.
      note: told of what happens, one line each.
      on_retry: called before a rollout is collected again.
    """
    self._collector = collector
    self._environment = environment
    self._generator = generator
    self._note = note
    self._on_retry = on_retry
    # Every PyEnvironment has a get_state, which most do not implement.
    self._can_restore = hasattr(environment, 'restart')
    self._origin = None
    self._actions = None
    self._failures = {}
    self._mid_rollout = False
    self.restarts = 0
    self.episodes_cut = 0  # Where making anew was not exact.

  @property
  def num_groups(self) -> int:
    """Groups of environments that are stepped in turn."""
    return len(getattr(self._environment, 'groups', (None,)))

  @property
  def state_variables(self) -> list[tf.Variable]:
    """For a checkpoint: the recurrent states, see `store_states`."""
    return self._collector.state_variables

  def store_states(self) -> None:
    """Puts the recurrent states where a checkpoint finds them."""
    self._collector.store_states()

  def collect(self) -> rollout_lib.Rollout:
    """A rollout; see `Collector.collect`.

    Returns:
      The rollout.

    Raises:
      CollectionStopped: the collector was asked to stop.
      EnvironmentWorkerError: the same environment failed three times in a row.
        After either, `get_state` is that of the rollout's beginning.
    """
    if not self._can_restore:
      return self._collector.collect()
    begin = tf.identity(self._generator.state)
    try:
      rollout = self._collect(begin)
    except (collector_lib.CollectionStopped, errors.EnvironmentWorkerError):
      self._generator.state.assign(begin)
      self._mid_rollout = True
      raise
    self._failures.clear()
    self._actions = rollout.actions
    return rollout

  def _collect(self, begin: tf.Tensor) -> rollout_lib.Rollout:
    """Collects until it succeeds, with the same random numbers."""
    while True:
      try:
        self._remember_origin()
        return self._collector.collect()
      except errors.EnvironmentWorkerError as error:
        self._survive_or_end(
            error, 'made anew, the rollout is collected again'
        )
        self._recover()
        self._generator.state.assign(begin)
        self._on_retry()

  def survive(self, error: errors.EnvironmentWorkerError) -> None:
    """Makes failed environments anew before the first rollout.

    All begin new episodes.

    Args:
      error: what happened outside of `collect`.

    Raises:
      EnvironmentWorkerError: the third of an environment or its worker since
        the last rollout.
    """
    self._survive_or_end(error, 'made anew, with new episodes')
    self._recover()

  def _survive_or_end(self, error, what: str) -> None:
    """Says what happened; raises it if it cannot be survived any more."""
    key = (error.worker, error.environment)
    self._failures[key] = self._failures.get(key, 0) + 1
    repeats_itself = isinstance(error, errors.EnvironmentReturnedError)
    if repeats_itself or not self._can_restore or (
        self._failures[key] >= _MAX_FAILURES
    ):
      # The workers are gone: the state saved when the rollout began is used.
      self._mid_rollout = True
      raise error
    self.restarts += 1
    self._note(f'{_first_line(error)}; {what}')

  def _remember_origin(self) -> None:
    """Takes the state that this rollout begins from.

    Raises:
      EnvironmentWorkerError: an environment has failed since the last rollout;
        what is known then is where that one began, and its actions.
    """
    if self._origin is None or self._actions is not None:
      self._origin = self._environment.get_state()
      self._actions = None

  def _recover(self) -> None:
    """Brings new environments to where the failed rollout began."""
    while True:
      try:
        self._environment.restart()
        if self._origin is not None:
          self._return_to(self._origin, self._actions)
        return
      except errors.EnvironmentWorkerError as error:
        self._survive_or_end(error, 'made anew once more')

  def _return_to(self, origin: dict[str, Any], actions: Any) -> None:
    """Sets the environments' state, then takes a rollout's steps again.

    Args:
      origin: of the environments.
      actions: nest of `[B, T, ...]` since then, or None.
    """
    begun = self._environment.set_state(origin)
    if actions is not None:
      parts = [np.array(x) for x in tf.nest.flatten(actions)]
      for t in range(parts[0].shape[1]):
        self._collector.step_unrecorded(
            tf.nest.pack_sequence_as(actions, [x[:, t] for x in parts])
        )
      self._environment.episodes()  # They were counted the first time.
    if not self._collector.is_at_start:
      self._collector.resume()
    self.episodes_cut += len(begun)
    if begun:
      reason = next(iter(begun.values()))
      self._note(
          f'{len(begun)} of {self._environment.batch_size} environments begin '
          f'new episodes ({reason})'
      )

  # ---------------------------------------------------------- checkpoints

  def get_state(self) -> bytes:
    """What a checkpoint holds of the environments; empty without them."""
    if not self._can_restore:
      return b''
    while not self._mid_rollout:
      try:
        return states.encode({'environments': self._environment.get_state()})
      except errors.EnvironmentWorkerError as error:
        # Where the last rollout began and its actions tell the same.
        self._survive_or_end(error, 'made anew')
        self._recover()
    if self._origin is None:
      return b''
    state = {'environments': self._origin}
    if self._actions is not None:
      state['actions'] = [
          np.array(x) for x in tf.nest.flatten(self._actions)
      ]
    return states.encode(state)

  def set_state(self, data: bytes) -> None:
    """Continues from what `get_state` returned, as far as that is possible.

    Args:
      data: of a checkpoint; empty: all environments begin new episodes.

    Raises:
      ValueError: it is that of other environments.
    """
    if not data or not self._can_restore:
      self.episodes_cut += self._environment.batch_size
      self._note('the environments begin new episodes')
      return
    state = states.decode(data, self._environment.batch_size)
    actions = state.get('actions')
    if actions is not None:
      actions = tf.nest.pack_sequence_as(
          self._environment.action_spec(), actions
      )
    self._collector.load_states()
    self._origin, self._actions = state['environments'], actions
    try:
      self._return_to(self._origin, actions)
    except errors.EnvironmentWorkerError as error:
      self._survive_or_end(error, 'made anew, to go on from there')
      self._recover()
    except BaseException:
      self._origin = self._actions = None
      self._collector.start_over()
      self.episodes_cut += self._environment.batch_size
      raise


def joined_states(parts: Sequence[bytes]) -> bytes:
  """The state of the environments of several collectors as that of one.

  Args:
    parts: of each one's `get_state`, in the order of their environments.

  Returns:
    What `part_of_state` takes; empty where one of them has no state.
  """
  if not all(parts):
    return b''
  first, *others = decoded = [states.decode(part) for part in parts]
  joined = first['environments']
  for other in others:
    offset = len(joined['environments'])
    more = other['environments']
    joined['environments'] += more['environments']
    joined['arrays'] = {
        name: np.concatenate([array, more['arrays'][name]])
        for name, array in joined['arrays'].items()
    }
    joined['episodes'] += [
        [offset + number, *rest] for number, *rest in more['episodes']
    ]
  state = {'environments': joined}
  if 'actions' in first:
    state['actions'] = [
        np.concatenate(arrays)
        for arrays in zip(*(part['actions'] for part in decoded))
    ]
  return states.encode(state)


def part_of_state(data: bytes, index: int, number: int) -> bytes:
  """The state of the environments of one of several collectors.

  Args:
    data: of `joined_states`, or of one collector's `get_state`; may be empty.
    index: whose part, from 0.
    number: of the parts, of equally many environments.

  Returns:
    What `SafeCollector.set_state` takes.

  Raises:
    ValueError: the environments cannot be dealt evenly, or it is no such state.
  """
  if not data or number == 1:
    return data
  state = states.decode(data, _MOST_ENVIRONMENTS)
  whole = state['environments']
  environments = len(whole['environments'])
  if environments % number:
    raise ValueError(
        f'the state is that of {environments} environments, which {number} '
        'workers cannot share evenly'
    )
  rows = slice(
      index * environments // number, (index + 1) * environments // number
  )
  part = {
      'environments': dict(
          whole,
          environments=whole['environments'][rows],
          arrays={k: array[rows] for k, array in whole['arrays'].items()},
          episodes=[
              [i - rows.start, *rest] for i, *rest in whole['episodes']
              if rows.start <= i < rows.stop
          ],
      )
  }
  if 'actions' in state:
    part['actions'] = [array[rows] for array in state['actions']]
  return states.encode(part)


def _first_line(error: Exception) -> str:
  return str(error).partition('\n')[0]
