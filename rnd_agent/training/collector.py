"""Steps the environments with the policy and fills rollouts."""

from __future__ import annotations

import math
from typing import Callable, Optional

import numpy as np
import tensorflow as tf
from tf_agents.policies import tf_policy
from tf_agents.trajectories import time_step as ts

from rnd_agent.hosting import policy as rnd_ppo_policy
from rnd_agent.learning import compute
from rnd_agent.learning import replicas
from rnd_agent.learning import rollout as rollout_lib

_ALIGNMENT = 64  # bytes, the widest vector register
_LARGE = 2**20  # bytes from which on an array is not copied


class CollectionStopped(Exception):
  """Collecting was asked to stop in the middle of a rollout."""


class Collector:
  """Fills `Rollout`s of T steps, each going on where the last one ended.

  Environments that can reset within a step (`send`, `receive` of
  `ShardedPyEnvironment`) are stepped so: every row of the rollout is a step,
  and no rollout ends on LAST. Where they come in groups, one group is stepped
  while the policy is evaluated for another. Other batched environments are
  stepped by TF-Agents' convention, and their boundary rows are recorded.
  """

  def __init__(
      self,
      environment,
      policy: tf_policy.TFPolicy,
      length: int,
      compact: bool = True,
      stop: Callable[[], bool] = lambda: False,
      on_step: Callable[[slice], None] = lambda group: None,
      lanes: Optional[compute.Lanes] = None,
      sequence_length: Optional[int] = None,
  ):
    """Allocates the buffers; nothing is stepped yet.

    Args:
      environment: batched `PyEnvironment` of B environments.
      policy: `RNDPPOPolicy` that collects values.
      length: T, steps per environment and rollout.
      compact: reset within the step where the environment can.
      stop: asked before every step; True raises `CollectionStopped`.
      on_step: called after every step of a group, before its next one begins,
        with the group's slice: to read the environment's statistics.
      lanes: where the policy is evaluated and the rollouts are put; the
        agent's. None: TensorFlow's choice.
      sequence_length: steps between the recurrent states that a rollout keeps,
        the agent's; divides T. None: T.

    Raises:
      ValueError: the policy does not record values.
    """
    if 'value_prediction' not in dict(policy.info_spec or {}):
      raise ValueError(
          'Collector needs a collect policy that records values: give the '
          'agent compute_value_and_advantage_in_train=False.'
      )
    self._environment = environment
    self._policy = policy
    self._length = length
    self._stop = stop
    self._on_step = on_step
    self._compact = compact and hasattr(environment, 'receive')
    self._groups = (slice(0, environment.batch_size),)
    if self._compact:
      self._groups = environment.groups
    self._lanes = lanes or compute.Lanes()
    self._act = self._lanes.compiled_for_steps(self._action)
    self._evaluate = self._lanes.compiled_for_steps(self._values)
    self._sequence_length = sequence_length or length
    self._buffers = self._allocate()
    self._states = None
    self._state_variables = [
        tf.Variable(tf.zeros(
            [replicas.environments_of_all(environment.batch_size), *spec.shape],
            spec.dtype,
        ))
        for spec in tf.nest.flatten(policy.policy_state_spec)
    ]

  def _action(self, observation, step_type, state):
    """Reward and discount do not matter to the policy."""
    ones = tf.ones(tf.shape(step_type))
    step = self._policy.action(
        ts.TimeStep(step_type, 0.0 * ones, ones, observation), state
    )
    info = step.info
    recorded = dict(
        actions=step.action,
        dist_params=info['dist_params'],
        values_ext=info['value_prediction'],
    )
    if rnd_ppo_policy.INTRINSIC_VALUE in info:
      recorded['values_int'] = info[rnd_ppo_policy.INTRINSIC_VALUE]
    return recorded, step.state

  def _values(self, observation, step_type, state):
    (_, value_ext, value_int), _ = self._policy.evaluate(
        observation, step_type, state
    )
    return value_ext, value_int

  def _allocate(self) -> rollout_lib.Rollout:
    def zeros(spec, length):
      return _zeros(
          (self._environment.batch_size, length, *spec.shape),
          spec.dtype.as_numpy_dtype,
      )

    def like(specs, length):
      return tf.nest.map_structure(lambda s: zeros(s, length), specs)

    length = self._length
    scalar, step = tf.TensorSpec([], tf.float32), tf.TensorSpec([], tf.int32)
    policy = self._policy
    return rollout_lib.Rollout(
        observations=like(policy.time_step_spec.observation, length + 1),
        step_types=zeros(step, length + 1),
        next_step_types=zeros(step, length),
        actions=like(policy.action_spec, length),
        rewards=zeros(scalar, length),
        discounts=zeros(scalar, length),
        dist_params=like(policy.info_spec['dist_params'], length),
        values_ext=zeros(scalar, length + 1),
        values_int=zeros(scalar, length + 1),
        final_values_ext=zeros(scalar, length),
    )

  def reset(self) -> None:
    """Resets all environments and the recurrent states."""
    time_step = self._environment.reset()
    everyone = slice(0, self._environment.batch_size)
    self._observe(everyone, 0, time_step.observation, time_step.step_type)
    self._states = [
        self._policy.get_initial_state(g.stop - g.start) for g in self._groups
    ]

  def collect(self) -> rollout_lib.Rollout:
    """Collects T steps of every environment.

    Returns:
      A `Rollout` of tensors.

    Raises:
      CollectionStopped: `stop` said so, in the middle of the rollout: `resume`
        or `reset` before collecting again.
      EnvironmentWorkerError: an environment failed; the same.
    """
    before = None if self._states is None else list(self._states)
    try:
      if self._states is None:
        self.reset()
      return self._collect()
    except BaseException:
      self._states = before
      raise

  def _collect(self) -> rollout_lib.Rollout:
    states = []
    self._buffers.final_values_ext[:] = 0.0
    for t in range(self._length):
      if self._stop():
        self._abandon(t)
      if t % self._sequence_length == 0:
        states.append([])
      for index, group in enumerate(self._groups):
        if t > 0:
          self._receive(index, group, t - 1)
        if t % self._sequence_length == 0:
          states[-1].append(self._states[index])
        self._send(index, group, t)
    for index, group in enumerate(self._groups):
      self._receive(index, group, self._length - 1)
      self._bootstrap(index, group)
    with self._lanes.on_device():
      rollout = tf.nest.map_structure(_as_tensor, self._buffers)
    self._buffers = self._carried_over()
    return rollout._replace(core_states=_by_environment(states))

  # ------------------------------------------------------ to be continued

  @property
  def is_at_start(self) -> bool:
    """Whether the next rollout begins by resetting the environments."""
    return self._states is None

  @property
  def state_variables(self) -> list[tf.Variable]:
    """For a checkpoint: the recurrent states `[B, ...]`, see `store_states`.

    Those of the environments of all workers.
    """
    return self._state_variables

  def store_states(self) -> None:
    """Copies the recurrent states to `state_variables`."""
    if self._states is None:
      return
    parts = [tf.nest.flatten(state) for state in self._states]
    for variable, *values in zip(self._state_variables, *parts):
      variable.assign(replicas.of_all(tf.concat(values, axis=0)))

  def load_states(self) -> None:
    """Takes the recurrent states back from `state_variables`."""
    self._states = [
        tf.nest.pack_sequence_as(
            self._policy.policy_state_spec,
            [
                tf.identity(replicas.own(v.value())[group])
                for v in self._state_variables
            ],
        )
        for group in self._groups
    ]

  def start_over(self) -> None:
    """Makes the next rollout begin by resetting the environments."""
    self._states = None

  def resume(self) -> None:
    """Goes on from where the environments are, with the recurrent states."""
    time_step = self._environment.current_time_step()
    everyone = slice(0, self._environment.batch_size)
    self._observe(everyone, 0, time_step.observation, time_step.step_type)

  def step_unrecorded(self, actions) -> None:
    """Steps all environments and records nothing.

    Args:
      actions: nest of numpy arrays `[B, ...]`, as in `Rollout.actions`.
    """
    actions = self._for_environment(actions)
    if not self._compact:
      self._environment.step(actions)
      return
    for index, group in enumerate(self._groups):
      part = [x[group] for x in tf.nest.flatten(actions)]
      self._environment.send(tf.nest.pack_sequence_as(actions, part), index)
      self._environment.receive(index)

  def _for_environment(self, actions):
    """Clips continuous actions, which a Gaussian samples beyond the bounds."""
    return tf.nest.map_structure(
        _within, actions, self._environment.action_spec()
    )

  def _abandon(self, t: int) -> None:
    """Waits for the steps that were begun, then raises CollectionStopped."""
    if t > 0 and self._compact:
      for index in range(len(self._groups)):
        self._environment.receive(index)
    raise CollectionStopped()

  def _observe(self, group, t, observations, step_types) -> None:
    def copy(buffer, value):
      buffer[group, t] = value

    tf.nest.map_structure(copy, self._buffers.observations, observations)
    self._buffers.step_types[group, t] = step_types

  def _policy_inputs(self, group: slice, t: int):
    """Observations and step types to act on."""
    return tf.nest.map_structure(
        lambda x: x[group, t],
        (self._buffers.observations, self._buffers.step_types),
    )

  def _send(self, index: int, group: slice, t: int) -> None:
    """Acts on the group's observations of time t and begins the step."""
    recorded, self._states[index] = self._act(
        *self._policy_inputs(group, t), self._states[index]
    )

    def store(buffer, value):
      buffer[group, t] = value.numpy()

    buffers = self._buffers
    for name, values in recorded.items():
      tf.nest.map_structure(store, getattr(buffers, name), values)
    actions = self._for_environment(
        tf.nest.map_structure(lambda x: x[group, t], buffers.actions)
    )
    if self._compact:
      self._environment.send(actions, index)
    else:
      self._next = self._environment.step(actions)

  def _receive(self, index: int, group: slice, t: int) -> None:
    """Ends the step of time t."""
    buffers = self._buffers
    if not self._compact:
      time_step = self._next
      buffers.rewards[:, t] = time_step.reward
      buffers.discounts[:, t] = time_step.discount
      buffers.next_step_types[:, t] = time_step.step_type
      self._observe(group, t + 1, time_step.observation, time_step.step_type)
      self._on_step(group)
      return
    transition = self._environment.receive(index)
    self._on_step(group)
    buffers.rewards[group, t] = transition.rewards
    buffers.discounts[group, t] = transition.discounts
    buffers.next_step_types[group, t] = np.where(
        transition.ended, rollout_lib.LAST, rollout_lib.MID
    )
    self._observe(
        group, t + 1, transition.observations, transition.step_types
    )
    truncated = transition.ended & (transition.discounts > 0)
    if truncated.any():
      # The state is that after o_t: the final observation follows it.
      final_values, _ = self._evaluate(
          tf.nest.map_structure(np.array, transition.final_observations),
          np.full(truncated.shape, rollout_lib.MID, np.int32),
          self._states[index],
      )
      buffers.final_values_ext[group, t] = np.where(
          truncated, final_values.numpy(), 0.0
      )

  def _bootstrap(self, index: int, group: slice) -> None:
    """Records V(o_T); the recurrent state stays that before o_T."""
    values = self._evaluate(
        *self._policy_inputs(group, self._length), self._states[index]
    )
    for buffer, value in zip(
        (self._buffers.values_ext, self._buffers.values_int), values
    ):
      buffer[group, self._length] = value.numpy()

  def _carried_over(self) -> rollout_lib.Rollout:
    """New buffers, whose first observation is the last of the old ones."""
    last, new = self._buffers, self._allocate()

    def carry(old, buffer):
      buffer[:, 0] = old[:, self._length]

    tf.nest.map_structure(
        carry, (last.observations, last.step_types),
        (new.observations, new.step_types),
    )
    return new


def _by_environment(states: list[list]):
  """The states of every sequence and group, in the order of `Rollout`."""
  def joined(*parts):
    return tf.concat(parts, axis=0)

  def interleaved(*sequences):
    stacked = tf.stack(sequences, axis=1)
    return tf.reshape(stacked, [-1, *stacked.shape[2:]])

  return tf.nest.map_structure(
      interleaved,
      *(tf.nest.map_structure(joined, *groups) for groups in states),
  )


def _zeros(shape: tuple[int, ...], dtype) -> np.ndarray:
  """Zeros, aligned so that TensorFlow can use the memory without a copy."""
  size = math.prod(shape) * np.dtype(dtype).itemsize
  memory = np.zeros(size + _ALIGNMENT, np.uint8)
  start = -memory.ctypes.data % _ALIGNMENT
  return memory[start:start + size].view(dtype).reshape(shape)


def _as_tensor(array: np.ndarray) -> tf.Tensor:
  """The array as a tensor. A large one shares its memory: do not change it."""
  if array.nbytes < _LARGE or array.dtype == np.bool_:
    return tf.convert_to_tensor(array)
  return tf.identity(  # Copies only to another device.
      tf.experimental.dlpack.from_dlpack(array.__dlpack__())
  )


def _within(actions: np.ndarray, spec) -> np.ndarray:
  """Continuous actions clipped to their bounds; discrete ones as they are."""
  if np.issubdtype(actions.dtype, np.integer):
    return actions
  return np.clip(actions, spec.minimum, spec.maximum)


def random_steps(
    environment,
    num_steps: int,
    rng: np.random.Generator,
    on_observations: Callable[[np.ndarray], None],
    stop: Optional[Callable[[], bool]] = None,
) -> None:
  """Steps the environments with a uniformly random agent (section 2.4).

  Args:
    environment: `ShardedPyEnvironment`, or any batched `PyEnvironment`; it is
      reset first.
    num_steps: per environment.
    rng: source of the actions.
    on_observations: called with the next observations `[N, ...]` of every step
      and each group of N environments; in TF-Agents' form also with those of
      boundary rows.
    stop: asked before every step; True raises `CollectionStopped`.

  Raises:
    CollectionStopped: `stop` said so.
  """
  spec = environment.action_spec()
  environment.reset()
  groups = getattr(environment, 'groups', None)
  for _ in range(num_steps):
    if stop is not None and stop():
      raise CollectionStopped()
    actions = uniform_actions(spec, environment.batch_size, rng)
    if groups is None:
      on_observations(environment.step(actions).observation)
      continue
    for index, group in enumerate(groups):
      environment.send(actions[group], index)
    # All before the first call: where one fails, none of the step is passed on.
    for transition in [
        environment.receive(index) for index in range(len(groups))
    ]:
      on_observations(transition.observations)


def uniform_actions(spec, batch: int, rng: np.random.Generator) -> np.ndarray:
  """Uniform actions within a `BoundedArraySpec`, `[batch, *spec.shape]`."""
  shape = (batch, *spec.shape)
  if np.issubdtype(spec.dtype, np.integer):
    return rng.integers(
        spec.minimum, spec.maximum, shape, spec.dtype, endpoint=True
    )
  bounded = np.isfinite(spec.minimum) & np.isfinite(spec.maximum)
  low = np.where(bounded, spec.minimum, -1.0)
  high = np.where(bounded, spec.maximum, 1.0)
  return rng.uniform(low, high, shape).astype(spec.dtype)
