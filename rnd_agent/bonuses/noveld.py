"""NovelD: the step from what is known to what is not."""

from __future__ import annotations

from typing import Optional

import gin
import tensorflow as tf

from rnd_agent import config as config_lib
from rnd_agent.bonuses import episodes
from rnd_agent.bonuses import hashing
from rnd_agent.bonuses import rnd
from rnd_agent.learning import rollout as rollout_lib


@gin.configurable(module='rnd_agent', denylist=['observation_spec'])
class NovelD(rnd.RandomNetworkDistillation):
  """How much more novel the next observation is (Zhang et al. 2021).

      bonus = max(novelty(o_{t+1}) - alpha novelty(o_t), 0)
              where o_{t+1} is seen for the first time in its episode, else 0

  NeurIPS 2021, "NovelD: A Simple yet Effective Exploration Criterion". Novelty
  is the distance between predictor and target of Random Network Distillation,
  whose parameters (`RandomNetworkDistillation.*`) hold here, too. For worlds
  that change from episode to episode: an agent that stays where everything is
  novel earns nothing, since only the gain in novelty pays. Beyond that bonus's
  cost: 8 bytes per remembered observation, and comparing each with those of its
  episode.
  """

  def __init__(
      self,
      observation_spec,
      config: Optional[config_lib.RNDConfig] = None,
      *,
      alpha: float = 0.5,
      memory_size: int = 4500,
      cell_size: Optional[float] = None,
      action_spec=None,
      frame_channels: Optional[int] = None,
      precision: str = 'float32',
      name: str = 'NovelD',
  ):
    """Builds the networks; remembers nothing yet.

    Args:
      observation_spec: nest of TensorSpec, what the environment gives.
      config: the numbers; by default `RNDConfig()`, as gin binds it.
      alpha: how much of the last observation's novelty is taken away.
      memory_size: most observations of an episode that are remembered.
      cell_size: float observations count as the same where they agree when
        divided by this and rounded down; None: where they are equal.
      action_spec: not used: the bonus is one of observations.
      frame_channels: size of one frame along an image's last axis.
      precision: 'float32' or 'mixed_bfloat16', of the networks.
      name: of the module.

    Raises:
      ValueError: as `RandomNetworkDistillation`, or alpha is below 0.
    """
    super().__init__(
        observation_spec, config, action_spec=action_spec,
        frame_channels=frame_channels, precision=precision, name=name,
    )
    if alpha < 0:
      raise ValueError(f'NovelD.alpha = {alpha}: choose 0 or more.')
    self._alpha = alpha
    self._hash = hashing.Hash(self.selected_spec, cell_size)
    self._visits = episodes.Visits(memory_size)

  def rewards(self, steps: rollout_lib.Steps) -> tf.Tensor:
    """See `Bonus`; 0 where another episode follows."""
    selected = self._pick(steps.observations)
    # The errors are means over the features' squares, novelty is their norm.
    size = tf.cast(self._feature_shape.num_elements(), tf.float32)
    novelty = tf.sqrt(size * self._errors(selected))
    gains = tf.maximum(novelty[:, 1:] - self._alpha * novelty[:, :-1], 0.0)
    counts = self._visits.counts(steps, self._hash(selected))
    return episodes.within(steps, tf.where(counts == 1.0, gains, 0.0))

  def advance(self, steps: rollout_lib.Steps) -> None:
    """Remembers the steps' observations; see `Bonus`."""
    self._visits.advance(steps, self._hash(self._pick(steps.observations)))

  def checkpoint_items(self):
    return dict(super().checkpoint_items(), visits=self._visits)

  def weight_items(self):
    items = super().weight_items()
    del items['visits']
    return items
