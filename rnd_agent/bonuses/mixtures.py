"""Bonuses made of others: sums, and products of lifelong and episodic ones."""

from __future__ import annotations

import abc
import math
from typing import Any, Optional, Sequence

import gin
import tensorflow as tf

from rnd_agent import config as config_lib
from rnd_agent.bonuses import base
from rnd_agent.learning import losses
from rnd_agent.learning import replicas
from rnd_agent.learning import rollout as rollout_lib


class Mixture(base.Bonus):
  """Several bonuses, each normalized as on its own, and then their mixture.

  Their rewards are computed twice per iteration: once to be mixed, once for
  their statistics. All are trained on as large a share of the steps as the one
  that asks for the most.
  """

  def __init__(
      self,
      observation_spec,
      config: Optional[config_lib.RNDConfig] = None,
      *,
      bonuses=(),
      weights: Optional[Sequence[float]] = None,
      action_spec=None,
      frame_channels: Optional[int] = None,
      precision: str = 'float32',
      name: Optional[str] = None,
  ):
    """Makes the bonuses.

    Args:
      observation_spec: nest of TensorSpec, what the environment gives.
      config: the numbers, of all of them.
      bonuses: classes of `Bonus`, such as `(@NovelD, @EpisodicCounts)`, each
        with its own parameters in gin; two or more, no class twice.
      weights: of each; None: all 1.
      action_spec: nest of BoundedTensorSpec.
      frame_channels: size of one frame along an image's last axis.
      precision: 'float32' or 'mixed_bfloat16', of networks.
      name: of the module.

    Raises:
      ValueError: there are fewer than two bonuses, one is none or there twice,
        or there are not as many weights.
    """
    super().__init__(
        observation_spec, config, action_spec=action_spec,
        frame_channels=frame_channels, precision=precision, name=name,
    )
    self._check(bonuses, weights)
    self._weights = tuple(weights) if weights else (1.0,) * len(bonuses)
    self.parts = {
        bonus.__name__: bonus(
            observation_spec, config, action_spec=action_spec,
            frame_channels=frame_channels, precision=precision,
        ) for bonus in bonuses
    }
    self._means = {
        name: tf.Variable(0.0, trainable=False, name=f'{name}_mean')
        for name in self.parts
    }

  def _check(self, bonuses, weights) -> None:
    owner = type(self).__name__
    if not all(
        isinstance(bonus, type) and issubclass(bonus, base.Bonus)
        for bonus in bonuses
    ) or not 2 <= len({b.__name__ for b in bonuses}) == len(bonuses):
      raise ValueError(
          f'{owner}.bonuses: choose two or more different classes of Bonus, '
          'such as (@NovelD, @EpisodicCounts).'
      )
    if weights and (
        len(weights) != len(bonuses)
        or not all(math.isfinite(w) and w > 0 for w in weights)
    ):
      raise ValueError(
          f'{owner}.weights = {tuple(weights)}: choose a number above 0 for '
          f'each of the {len(bonuses)} bonuses.'
      )

  @abc.abstractmethod
  def mixed(self, rewards: Sequence[tf.Tensor]) -> tf.Tensor:
    """The mixture, float32 `[B, T]`, of normalized rewards of that shape."""

  @property
  def needs_random_agent(self) -> bool:
    return any(part.needs_random_agent for part in self.parts.values())

  @property
  def remembers_episodes(self) -> bool:
    return any(part.remembers_episodes for part in self.parts.values())

  @property
  def trained_variables(self) -> tuple[tf.Variable, ...]:
    return sum((tuple(p.trained_variables) for p in self._learning), ())

  @property
  def _learning(self) -> list[base.Bonus]:
    return [part for part in self.parts.values() if part.trained_variables]

  def rewards(self, steps: rollout_lib.Steps) -> tf.Tensor:
    """The mixture of the rewards, each normalized as after this rollout."""
    if steps.step_types.shape[0] is not None:
      # Before the returns of the parts are looked at for the first time.
      self.build(replicas.environments_of_all(steps.step_types.shape[0]))
    return self.mixed([
        part.normalized_after_update(steps, part.rewards(steps))
        for part in self.parts.values()
    ])

  def observe_random_agent(self, observations) -> None:
    """Starts the statistics of those that need it; see `Bonus`."""
    for part in self.parts.values():
      if part.needs_random_agent:
        part.observe_random_agent(observations)

  def update_statistics(
      self, steps: rollout_lib.Steps, rewards: tf.Tensor
  ) -> None:
    """Updates those of all bonuses, and of the mixture's return."""
    self.return_normalizer.update(rewards, steps.boundaries)
    for name, part in self.parts.items():
      of_part = part.rewards(steps)
      self._means[name].assign(
          replicas.mean(losses.masked_mean(of_part, steps.mask))
      )
      part.update_statistics(steps, of_part)

  def advance(self, steps: rollout_lib.Steps) -> None:
    """That of all bonuses; see `Bonus`."""
    for part in self.parts.values():
      part.advance(steps)

  def select(self, steps: rollout_lib.Steps):
    """What each bonus that learns needs, and on which steps it does."""
    return tuple(
        (part.select(steps), part.training_mask(steps))
        for part in self._learning
    )

  def training_mask(self, steps: rollout_lib.Steps) -> tf.Tensor:
    """float32 `[B, T]`: 1 where any of those that learn is trained."""
    masks = [part.training_mask(steps) for part in self._learning]
    return tf.reduce_max(masks, axis=0) if masks else steps.mask

  def training_proportion(self, num_environments: Optional[int]) -> float:
    return max(
        part.training_proportion(num_environments) for part in self._learning
    )

  def training_inputs(self, selected, passes: float):
    """Those of each bonus that learns; see `Bonus`."""
    return tuple(
        (part.training_inputs(of_part, passes), mask)
        for part, (of_part, mask) in zip(self._learning, selected)
    )

  def losses(self, inputs) -> tf.Tensor:
    """The sum of all losses, float32 `[N]`."""
    return tf.add_n([
        tf.where(mask > 0, part.losses(of_part), 0.0)
        for part, (of_part, mask) in zip(self._learning, inputs)
    ])

  def build(self, num_environments: int) -> None:
    """See `Bonus`."""
    super().build(num_environments)
    for part in self.parts.values():
      part.build(num_environments)

  def checkpoint_items(self) -> dict[str, Any]:
    return dict(
        self._items_of_parts(lambda part: part.checkpoint_items()),
        mixture_returns=self.return_normalizer,
    )

  def weight_items(self) -> dict[str, Any]:
    return dict(
        self._items_of_parts(lambda part: part.weight_items()),
        mixture_returns=self.statistics_of_returns(),
    )

  def _items_of_parts(self, items_of) -> dict[str, Any]:
    return {
        f'{name}_{key}': item
        for name, part in self.parts.items()
        for key, item in items_of(part).items()
    }

  def metrics(self) -> dict[str, tf.Tensor]:
    """Each bonus's mean over steps, not normalized, and its own metrics."""
    result = {
        f'{name}_mean': mean.value() for name, mean in self._means.items()
    }
    for name, part in self.parts.items():
      result.update({
          f'{name}_{key}': value for key, value in part.metrics().items()
      })
    return result


@gin.configurable(module='rnd_agent', denylist=['observation_spec'])
class SumOfBonuses(Mixture):
  """`sum w_i bonus_i`, each divided by the deviation of its return."""

  def mixed(self, rewards: Sequence[tf.Tensor]) -> tf.Tensor:
    """See `Mixture`."""
    return tf.add_n([w * r for w, r in zip(self._weights, rewards)])


@gin.configurable(module='rnd_agent', denylist=['observation_spec'])
class ProductOfBonuses(Mixture):
  """`product bonus_i^w_i`: a lifelong bonus where an episodic one allows it.

  As in Badia et al. 2020 (Never Give Up, arXiv 2002.06038) or, of counts,
  Henaff et al. 2023 (arXiv 2306.03236).
  """

  def mixed(self, rewards: Sequence[tf.Tensor]) -> tf.Tensor:
    """See `Mixture`; a reward of 0 makes the product 0."""
    product = tf.ones_like(rewards[0])
    for weight, reward in zip(self._weights, rewards):
      product *= tf.pow(tf.maximum(reward, 0.0), weight)
    return product
