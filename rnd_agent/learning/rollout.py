"""What a rollout is, and which of its rows are steps.

A rollout holds T transitions of B environments. Episodes end inside it in one
of two forms, and everything that reads a rollout takes both:

* TF-Agents' form, as drivers record it: `MID -> LAST`, then a boundary row
  `LAST -> FIRST` in which the agent's action is ignored, then `FIRST -> MID`.
* the compact form of `collector.Collector`: the environment is reset within
  the step that ended it, so the row after `MID -> LAST` is `FIRST -> MID` and
  all rows are steps.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import tensorflow as tf
from tf_agents.trajectories import time_step as ts

from rnd_agent.learning import replicas

Tensor = Any
FIRST, MID, LAST = (int(t) for t in (
    ts.StepType.FIRST, ts.StepType.MID, ts.StepType.LAST))


class Steps(NamedTuple):
  """What happened, without what an agent made of it: B environments, T rows.

  Row t is the step (o_t, a_t, o_{t+1}), or a boundary row, which is none. This
  is what a bonus is given.

  Attributes:
    observations: nest of `[B, T + 1, ...]`, o_0 ... o_T.
    actions: nest of `[B, T, ...]`; () where only observations are known.
    step_types: int32 `[B, T + 1]`, of the observations.
    next_step_types: int32 `[B, T]`, LAST where the step ended an episode.
  """

  observations: Tensor
  actions: Tensor
  step_types: Tensor
  next_step_types: Tensor

  @classmethod
  def of_observations(cls, observations, actions=()) -> 'Steps':
    """Steps of `[B, T + 1, ...]` observations within one episode."""
    rows = tf.shape(tf.nest.flatten(observations)[0])[:2]
    middle = tf.fill(rows, MID)
    return cls(observations, actions, middle, middle[:, 1:])

  @property
  def boundaries(self) -> tf.Tensor:
    """bool `[B, T]`: rows `LAST -> FIRST`, which are no steps."""
    return tf.equal(self.step_types[:, :-1], LAST)

  @property
  def mask(self) -> tf.Tensor:
    """float32 `[B, T]`: 1 for real steps."""
    return tf.cast(tf.logical_not(self.boundaries), tf.float32)

  @property
  def ends(self) -> tf.Tensor:
    """bool `[B, T]`: steps that ended an episode."""
    return tf.logical_and(
        tf.equal(self.next_step_types, LAST), tf.logical_not(self.boundaries)
    )

  def next_observations(self) -> Tensor:
    """nest of `[B, T, ...]`: o_1 ... o_T."""
    return tf.nest.map_structure(lambda x: x[:, 1:], self.observations)

  def outcome_mask(self, bonus_at_end: str) -> tf.Tensor:
    """float32 `[B, T]`: which of o_1 ... o_T count as a step's outcome.

    Args:
      bonus_at_end: 'reset' leaves out observations that end an episode,
        'terminal' those that begin one after a boundary row.

    Returns:
      1 to count an observation.
    """
    if bonus_at_end == 'terminal':
      left_out = self.boundaries
    else:
      # One in the last column did earn a bonus: see `earned`.
      left_out = tf.concat([
          tf.equal(self.step_types[:, 1:-1], LAST),
          tf.zeros_like(self.boundaries[:, -1:]),
      ], axis=1)
    return tf.cast(tf.logical_not(left_out), tf.float32)

  def earned(self, values: tf.Tensor, bonus_at_end: str) -> tf.Tensor:
    """Gives each step the value of the observation that it led to.

    Args:
      values: float32 `[B, T]`, of o_1 ... o_T.
      bonus_at_end: what the last step of an episode earns: 'reset', the value
        of the next episode's first observation (where the rollout ends on
        LAST, of that one: the reset's is not known yet), or 'terminal' (in the
        compact form 'reset' all the same: the terminal observation is not
        recorded).

    Returns:
      float32 `[B, T]`, aligned with actions, 0 in boundary rows.
    """
    aligned = values
    if bonus_at_end == 'reset':
      following = tf.concat([values[:, 1:], values[:, -1:]], axis=1)
      ends_in_record = tf.equal(self.step_types[:, 1:], LAST)
      aligned = tf.where(ends_in_record, following, values)
    return tf.where(self.boundaries, tf.zeros_like(aligned), aligned)


class Rollout(NamedTuple):
  """B environments, T steps.

  Attributes:
    observations: nest of `[B, T + 1, ...]`, o_0 ... o_T.
    step_types: int32 `[B, T + 1]`, of the observations.
    next_step_types: int32 `[B, T]`, LAST where the step ended an episode.
    actions: nest of `[B, T, ...]`.
    rewards: float32 `[B, T]`, extrinsic, as the agent is trained on them.
    discounts: float32 `[B, T]`, 0 where the episode terminated.
    dist_params: nest of `[B, T, ...]`, parameters of the policy that acted.
    values_ext: float32 `[B, T + 1]`.
    values_int: float32 `[B, T + 1]`.
    final_values_ext: float32 `[B, T]`, V_ext of the observation that ended an
      episode, where that observation is not in the rollout (compact form).
    core_states: nest of `[B * T / L, ...]`, the recurrent state before o_0,
      o_L, o_2L, ... of each environment, one after the other, for training on
      sequences of L steps (L = T unless it is chosen); or ().
  """

  observations: Tensor
  step_types: Tensor
  next_step_types: Tensor
  actions: Tensor
  rewards: Tensor
  discounts: Tensor
  dist_params: Tensor
  values_ext: Tensor
  values_int: Tensor
  final_values_ext: Tensor
  core_states: Tensor = ()

  @property
  def steps(self) -> Steps:
    """What a bonus is given of the rollout."""
    return Steps(
        self.observations, self.actions, self.step_types, self.next_step_types
    )

  @property
  def boundaries(self) -> tf.Tensor:
    """bool `[B, T]`: rows `LAST -> FIRST`, which are no steps."""
    return self.steps.boundaries

  @property
  def mask(self) -> tf.Tensor:
    """float32 `[B, T]`: 1 for real steps."""
    return self.steps.mask

  @property
  def ends(self) -> tf.Tensor:
    """bool `[B, T]`: steps that ended an episode."""
    return self.steps.ends

  @property
  def end_values_ext(self) -> tf.Tensor:
    """float32 `[B, T]`: V_ext(o_LAST) where a step ended an episode."""
    recorded = tf.equal(self.step_types[:, 1:], LAST)
    return tf.where(recorded, self.values_ext[:, 1:], self.final_values_ext)


class Targets(NamedTuple):
  """What the learner aims at; all float32 `[B, T]`.

  Attributes:
    advantages: combined, extrinsic_coefficient A_ext + intrinsic_coefficient
      A_int, normalized if asked for; 0 in boundary rows.
    returns_ext: A_ext + V_ext.
    returns_int: A_int + V_int.
    mask: 1 for real steps.
  """

  advantages: Tensor
  returns_ext: Tensor
  returns_int: Tensor
  mask: Tensor


class TrainingBatch(NamedTuple):
  """Everything that one update reads; leading dimensions `[B, T]`.

  Attributes:
    observations: nest of `[B, T, ...]`, or `[B, T + 1, ...]` whose last one is
      ignored (so that a rollout's images need not be copied).
    step_types: int32 `[B, T]` or `[B, T + 1]`.
    actions: nest of `[B, T, ...]`.
    dist_params: nest of `[B, T, ...]`, when the steps were taken.
    old_log_probs: float32 `[B, T]`, of the actions, then.
    old_values_ext: float32 `[B, T]`.
    old_values_int: float32 `[B, T]`.
    targets: `Targets`.
    bonus_inputs: nest of `[B, T, ...]`, what the bonus's losses are made of,
      or () without a bonus that learns.
    bonus_mask: float32 `[B, T]`, which of its rows count, or ().
    core_states: nest of `[B * T / L, ...]`, as in `Rollout`, or ().
  """

  observations: Tensor
  step_types: Tensor
  actions: Tensor
  dist_params: Tensor
  old_log_probs: Tensor
  old_values_ext: Tensor
  old_values_int: Tensor
  targets: Targets
  bonus_inputs: Tensor = ()
  bonus_mask: Tensor = ()
  core_states: Tensor = ()

  @property
  def num_environments(self) -> int | tf.Tensor:
    """B, as a tensor where it is only known when it runs."""
    return self.old_log_probs.shape[0] or tf.shape(self.old_log_probs)[0]

  @property
  def length(self) -> int | tf.Tensor:
    """T, as a tensor where it is only known when it runs."""
    return self.old_log_probs.shape[1] or tf.shape(self.old_log_probs)[1]

  @property
  def trains_bonus(self) -> bool:
    """Whether there is a bonus that learns."""
    return not isinstance(self.bonus_mask, tuple)

  @property
  def num_known_environments(self) -> Optional[int]:
    """B, those of all replicas.

    None for single steps, as the host's learner deals them, or unknown.
    """
    sequences = isinstance(self.length, int) and self.length > 1
    environments = self.num_environments
    return environments * replicas.number() if (
        sequences and isinstance(environments, int)
    ) else None

  def without_garbage(self) -> 'TrainingBatch':
    """Zeros in the rows that are no steps: 0 times NaN is NaN in gradients."""
    real = self.targets.mask > 0

    def clean(x):
      return tf.where(real, x, tf.zeros_like(x))

    return self._replace(
        old_log_probs=clean(self.old_log_probs),
        old_values_ext=clean(self.old_values_ext),
        old_values_int=clean(self.old_values_int),
        targets=self.targets._replace(
            advantages=clean(self.targets.advantages),
            returns_ext=clean(self.targets.returns_ext),
            returns_int=clean(self.targets.returns_int),
        ),
    )

  def weighted(self, weights: tf.Tensor) -> 'TrainingBatch':
    """The batch with steps weighted.

    Args:
      weights: float32, a scalar, `[B, T]`, or `[B, T + 1]` whose last column
        is ignored.

    Returns:
      A batch whose mask is multiplied by the weights.
    """
    weights = tf.convert_to_tensor(weights, tf.float32)
    if weights.shape.rank == 2:
      weights = weights[:, :self.length]
    return self._replace(
        targets=self.targets._replace(mask=self.targets.mask * weights)
    )

  def rows(
      self, sequences: tf.Tensor, length: Optional[int] = None
  ) -> 'TrainingBatch':
    """The part that belongs to some sequences.

    Args:
      sequences: int32 `[n]`, below B T / L: an environment's sequences follow
        each other.
      length: L, steps of a sequence, which divides T; None: T, a sequence is
        an environment.

    Returns:
      A batch of n sequences, `[n, L, ...]` throughout. What only the
      bonus reads, by steps and not by sequences, is left out.
    """
    length = self.length if length is None else length
    part = self._replace(
        observations=(), step_types=(), bonus_inputs=(), bonus_mask=(),
        core_states=(),
    )
    return tf.nest.map_structure(
        lambda x: tf.gather(in_sequences(x, length), sequences), part
    )._replace(
        observations=tf.nest.map_structure(
            lambda x: self._gathered_steps(x, sequences, length),
            self.observations,
        ),
        step_types=self._gathered_steps(self.step_types, sequences, length),
        core_states=tf.nest.map_structure(
            lambda x: tf.gather(x, sequences), self.core_states
        ),
    )

  def _gathered_steps(self, x, sequences, length):
    """`[n, L, ...]` of `[B, T, ...]` or `[B, T + 1, ...]`, copied once."""
    stored = x.shape[1]
    if stored is None or not isinstance(length, int):
      return tf.gather(x, sequences)[:, :length]
    flat = tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], axis=0))
    per_environment = self.length // length
    first = (
        sequences // per_environment * stored
        + sequences % per_environment * length
    )
    return tf.ensure_shape(
        tf.gather(flat, first[:, tf.newaxis] + tf.range(length)),
        [None, length] + x.shape[2:].as_list(),
    )

  def first_states(self):
    """The recurrent states before o_0, nest of `[B, ...]`, or ()."""
    def first(x):
      return tf.gather(x, tf.range(batch) * (tf.shape(x)[0] // batch))

    batch = self.num_environments
    return tf.nest.map_structure(first, self.core_states)


def in_sequences(x: tf.Tensor, length: int | tf.Tensor) -> tf.Tensor:
  """`[B, T, ...]` as `[B * T / length, length, ...]`."""
  if not isinstance(length, int) or x.shape[1] in (None, length):
    return x
  return tf.reshape(x, tf.concat([[-1, length], tf.shape(x)[2:]], axis=0))


def in_steps(x: tf.Tensor) -> tf.Tensor:
  """`[B, T, ...]` as `[B * T, ...]`."""
  sizes = x.shape[:2].as_list()
  rows = None if None in sizes else sizes[0] * sizes[1]
  flat = tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], axis=0))
  return tf.ensure_shape(flat, [rows] + x.shape[2:].as_list())


def steps_per_sequence(
    sequence_length: Optional[int], steps: int | tf.Tensor | None
) -> Optional[int]:
  """L, the steps of the sequences that T steps are cut into; None: T.

  Args:
    sequence_length: as asked for; None for whole rollouts.
    steps: T; anything but an int where it is not known.

  Raises:
    ValueError: L does not divide T, or T is not known.
  """
  if sequence_length is None or (
      isinstance(steps, int) and steps <= sequence_length
  ):
    return None
  if not isinstance(steps, int):
    raise ValueError(
        f'sequence_length = {sequence_length} needs experience of a fixed '
        'number of time steps: batch it with one, or leave sequence_length '
        'None.'
    )
  if steps % sequence_length:
    raise ValueError(
        f'sequence_length = {sequence_length} does not divide the {steps} '
        'steps of the rollout: choose a divisor, or None for whole rollouts.'
    )
  return sequence_length
