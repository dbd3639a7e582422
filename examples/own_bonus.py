"""A bonus of one's own: how seldom the agent has seen what it sees.

The reward is 1 / sqrt(1 + n), where n counts how often an observation was seen
before: the count-based bonus of Bellemare et al. 2016 (arXiv 1606.01868), with
counts of hashed observations as in Tang et al. 2017 (arXiv 1611.04717). It fits
worlds of few different observations, such as MiniGrid's views of 7 x 7 cells.

One line of config trains it:

python train_eval.py --root_dir=runs/counts \
  --gin_file=configs/minigrid_multiroom.gin \
  --gin_bindings='train_eval.bonus = @examples.own_bonus.ViewCounts'
"""

import gin
import numpy as np
import tensorflow as tf

import rnd_agent


@gin.configurable(denylist=['observation_spec'])
class ViewCounts(rnd_agent.Bonus):
  """Counts observations. Nothing is trained, so there are no losses."""

  def __init__(
      self, observation_spec, *args, table_size: int = 2**20, **kwargs
  ):
    """Makes the table.

    Args:
      observation_spec: TensorSpec of whole numbers, of one observation.
      *args: of `Bonus`.
      table_size: counters; observations that share one count as the same.
      **kwargs: of `Bonus`.
    """
    super().__init__(observation_spec, *args, **kwargs)
    # A variable of a tf.Module is saved with every checkpoint.
    self._counts = tf.Variable(tf.zeros([table_size]), trainable=False)
    # The same in every run, so that a resumed run finds its counters again.
    factors = np.random.default_rng(0).integers(
        1, 2**40, size=observation_spec.shape.num_elements()
    )
    self._factors = tf.constant(factors, tf.int64)

  def rewards(self, steps: rnd_agent.Steps) -> tf.Tensor:
    """Implements `Bonus.rewards`: float32 `[B, T]`."""
    counts = tf.gather(self._counts, self._rows(steps))
    return steps.earned(tf.math.rsqrt(1.0 + counts), self.config.bonus_at_end)

  def update_statistics(self, steps: rnd_agent.Steps, rewards: tf.Tensor):
    """Implements `Bonus.update_statistics`: counts what was rewarded."""
    super().update_statistics(steps, rewards)
    seen = steps.outcome_mask(self.config.bonus_at_end)
    self._counts.scatter_add(tf.IndexedSlices(seen, self._rows(steps)))

  def metrics(self) -> dict[str, tf.Tensor]:
    """Implements `Bonus.metrics`: how many counters are in use."""
    used = tf.math.count_nonzero(self._counts)
    return {'different_views': tf.cast(used, tf.float32)}

  def _rows(self, steps: rnd_agent.Steps) -> tf.Tensor:
    """The counters of o_1 ... o_T: int64 `[B, T]`."""
    following = tf.cast(steps.next_observations(), tf.int64)
    numbers = tf.reshape(following, [*following.shape[:2], -1])
    hashes = tf.reduce_sum(numbers * self._factors, axis=-1)
    return tf.math.floormod(hashes, self._counts.shape[0])
