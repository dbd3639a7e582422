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

Tensor = Any
FIRST, MID, LAST = (int(t) for t in (
    ts.StepType.FIRST, ts.StepType.MID, ts.StepType.LAST))


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
    selected: `[B, T, ...]`, what the bonus looks at of o_1 ... o_T, or () where
      it has not been picked yet.
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
  selected: Tensor = ()

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

  @property
  def end_values_ext(self) -> tf.Tensor:
    """float32 `[B, T]`: V_ext(o_LAST) where a step ended an episode."""
    recorded = tf.equal(self.step_types[:, 1:], LAST)
    return tf.where(recorded, self.values_ext[:, 1:], self.final_values_ext)

  def next_observations(self) -> Tensor:
    """nest of `[B, T, ...]`: o_1 ... o_T."""
    return tf.nest.map_structure(lambda x: x[:, 1:], self.observations)

  def next_mask(self, bonus_at_end: str) -> tf.Tensor:
    """float32 `[B, T]`: which of o_1 ... o_T the bonus counts.

    Args:
      bonus_at_end: 'reset' leaves out observations that end an episode,
        'terminal' those that begin one after a boundary row.

    Returns:
      1 to count an observation.
    """
    if bonus_at_end == 'terminal':
      left_out = self.boundaries
    else:
      # One in the last column did earn a bonus: see `bonuses_of_steps`.
      left_out = tf.concat([
          tf.equal(self.step_types[:, 1:-1], LAST),
          tf.zeros_like(self.boundaries[:, -1:]),
      ], axis=1)
    return tf.cast(tf.logical_not(left_out), tf.float32)

  def bonuses_of_steps(
      self, bonuses: tf.Tensor, bonus_at_end: str
  ) -> tf.Tensor:
    """Gives each step the bonus of the observation that it earned.

    Args:
      bonuses: float32 `[B, T]`, of o_1 ... o_T.
      bonus_at_end: what the last step of an episode earns: 'reset', the
        bonus of the next episode's first observation (where the rollout
        ends on LAST, of that one: the reset's is not known yet), or
        'terminal' (in the compact form 'reset' all the same: the terminal
        observation is not recorded).

    Returns:
      float32 `[B, T]`, aligned with actions, 0 in boundary rows.
    """
    earned = bonuses
    if bonus_at_end == 'reset':
      following = tf.concat([bonuses[:, 1:], bonuses[:, -1:]], axis=1)
      ends_in_record = tf.equal(self.step_types[:, 1:], LAST)
      earned = tf.where(ends_in_record, following, bonuses)
    return tf.where(self.boundaries, tf.zeros_like(earned), earned)


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
    selected: `[B, T, ...]`, the bonus's view of the next observations, or ().
    selected_mask: float32 `[B, T]`, which of them count, or ().
    target_features: float32 `[B, T, k]`, under today's statistics, or ().
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
  selected: Tensor = ()
  selected_mask: Tensor = ()
  target_features: Tensor = ()
  core_states: Tensor = ()

  @property
  def num_environments(self) -> int | tf.Tensor:
    """B, as a tensor where it is only known when it runs."""
    return self.old_log_probs.shape[0] or tf.shape(self.old_log_probs)[0]

  @property
  def length(self) -> int | tf.Tensor:
    """T, as a tensor where it is only known when it runs."""
    return self.old_log_probs.shape[1] or tf.shape(self.old_log_probs)[1]

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
      predictor reads, by steps and not by sequences, is left out.
    """
    length = self.length if length is None else length
    part = self._replace(
        observations=(), step_types=(), selected=(), selected_mask=(),
        target_features=(), core_states=(),
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
