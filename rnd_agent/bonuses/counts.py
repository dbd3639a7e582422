"""Bonuses that count: an observation is worth 1 / sqrt(visits)."""

from __future__ import annotations

from typing import Optional

import gin
import tensorflow as tf

from rnd_agent import config as config_lib
from rnd_agent.bonuses import base
from rnd_agent.bonuses import episodes
from rnd_agent.bonuses import hashing
from rnd_agent.bonuses import selection
from rnd_agent.learning import replicas
from rnd_agent.learning import rollout as rollout_lib


@gin.configurable(module='rnd_agent', denylist=['observation_spec'])
class EpisodicCounts(base.Bonus):
  """How seldom the observation was seen in its episode.

      bonus(o_{t+1}) = 1 / sqrt(N_e(o_{t+1}))

  with N_e the visits of this episode, this one included (Henaff et al. 2023,
  arXiv 2306.03236). For worlds that change from episode to episode,
  and observations that come again exactly: MiniGrid's views, places, grid
  worlds. Nothing is trained.
  """

  def __init__(
      self,
      observation_spec,
      config: Optional[config_lib.RNDConfig] = None,
      *,
      select: selection.Select = None,
      stacked_frames: int = 1,
      memory_size: int = 4500,
      cell_size: Optional[float] = None,
      action_spec=None,
      frame_channels: Optional[int] = None,
      precision: str = 'float32',
      name: str = 'EpisodicCounts',
  ):
    """Counts nothing yet.

    Args:
      observation_spec: nest of TensorSpec, what the environment gives.
      config: discount of the intrinsic return and its like.
      select: what is counted, see `selection.chosen`.
      stacked_frames: how many of the newest frames, where nothing is selected.
      memory_size: most observations of an episode that are remembered.
      cell_size: float observations count as the same where they agree when
        divided by this and rounded down; None: where they are equal.
      action_spec: not used.
      frame_channels: size of one frame along an image's last axis.
      precision: not used.
      name: of the module.

    Raises:
      ValueError: it is not said which part of a nest is counted, or a size is
        not above 0.
    """
    super().__init__(
        observation_spec, config, action_spec=action_spec,
        frame_channels=frame_channels, precision=precision, name=name,
    )
    self._pick, spec = selection.chosen(
        'EpisodicCounts', observation_spec, select, stacked_frames,
        frame_channels,
    )
    self._hash = hashing.Hash(spec, cell_size)
    self._visits = episodes.Visits(memory_size)

  def rewards(self, steps: rollout_lib.Steps) -> tf.Tensor:
    """See `Bonus`; 0 where another episode follows."""
    counts = self._visits.counts(steps, self._hashes(steps))
    return episodes.within(steps, tf.math.rsqrt(counts))

  def advance(self, steps: rollout_lib.Steps) -> None:
    """Remembers the steps' observations; see `Bonus`."""
    self._visits.advance(steps, self._hashes(steps))

  def _hashes(self, steps: rollout_lib.Steps) -> tf.Tensor:
    return self._hash(self._pick(steps.observations))


@gin.configurable(module='rnd_agent', denylist=['observation_spec'])
class LifelongCounts(base.Bonus):
  """How seldom the observation was seen since training began.

      bonus(o_{t+1}) = 1 / sqrt(N(o_{t+1}))

  with N the visits of all environments before this rollout and 1 for this one
  (Bellemare et al. 2016, arXiv 1606.01868; hashed as in Tang et al. 2017, arXiv
  1611.04717). For small worlds that stay the same. Nothing is trained; a
  rollout's own repetitions are counted after it.
  """

  def __init__(
      self,
      observation_spec,
      config: Optional[config_lib.RNDConfig] = None,
      *,
      select: selection.Select = None,
      stacked_frames: int = 1,
      table_size: int = 2**20,
      cell_size: Optional[float] = None,
      action_spec=None,
      frame_channels: Optional[int] = None,
      precision: str = 'float32',
      name: str = 'LifelongCounts',
  ):
    """Makes the table, all 0.

    Args:
      observation_spec: nest of TensorSpec, what the environment gives.
      config: discount of the intrinsic return and its like.
      select: what is counted, see `selection.chosen`.
      stacked_frames: how many of the newest frames, where nothing is selected.
      table_size: counters, of 4 bytes; observations that share one count as the
        same.
      cell_size: float observations count as the same where they agree when
        divided by this and rounded down; None: where they are equal.
      action_spec: not used.
      frame_channels: size of one frame along an image's last axis.
      precision: not used.
      name: of the module.

    Raises:
      ValueError: it is not said which part of a nest is counted, or a size is
        not above 0.
    """
    super().__init__(
        observation_spec, config, action_spec=action_spec,
        frame_channels=frame_channels, precision=precision, name=name,
    )
    if table_size < 1:
      raise ValueError(
          f'LifelongCounts.table_size = {table_size}: choose one above 0.'
      )
    self._pick, spec = selection.chosen(
        'LifelongCounts', observation_spec, select, stacked_frames,
        frame_channels,
    )
    self._hash = hashing.Hash(spec, cell_size)
    self._counts = tf.Variable(
        tf.zeros([table_size], tf.int32), trainable=False, name='counts'
    )

  def rewards(self, steps: rollout_lib.Steps) -> tf.Tensor:
    """See `Bonus`."""
    before = tf.gather(self._counts, self._rows(steps))
    values = tf.math.rsqrt(1.0 + tf.cast(before, tf.float32))
    return steps.earned(values, self.config.bonus_at_end)

  def update_statistics(
      self, steps: rollout_lib.Steps, rewards: tf.Tensor
  ) -> None:
    """Counts the observations of all workers; see `Bonus`."""
    super().update_statistics(steps, rewards)
    seen = steps.outcome_mask(self.config.bonus_at_end)
    self._counts.scatter_add(tf.IndexedSlices(
        tf.cast(replicas.gathered(seen), tf.int32),
        replicas.gathered(self._rows(steps)),
    ))

  def metrics(self) -> dict[str, tf.Tensor]:
    """How many counters are in use."""
    used = tf.math.count_nonzero(self._counts)
    return {'different_observations': tf.cast(used, tf.float32)}

  def _rows(self, steps: rollout_lib.Steps) -> tf.Tensor:
    """The counters of o_1 ... o_T: int64 `[B, T]`."""
    hashes = self._hash(self._pick(steps.observations)[:, 1:])
    return tf.math.floormod(hashes, self._counts.shape[0])
