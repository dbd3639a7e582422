"""DRND: Random Network Distillation with several targets."""

from __future__ import annotations

from typing import Optional

import gin
import tensorflow as tf

from rnd_agent import config as config_lib
from rnd_agent import networks
from rnd_agent.bonuses import chunks
from rnd_agent.bonuses import hashing
from rnd_agent.bonuses import rnd
from rnd_agent.learning import rollout as rollout_lib

# Bounds of the ratio below the second term's root (authors' code).
_LEAST_RATIO, _MOST_RATIO = 1e-3, 1.0
# Odd: the draws of one iteration say nothing of those of another.
_STEP = 0x9E3779B97F4A7C15


@gin.configurable(module='rnd_agent', denylist=['observation_spec'])
class DRND(rnd.RandomNetworkDistillation):
  """Distance from the targets' mean, and an estimate of the visits.

      bonus(o) = alpha |f(o) - m(o)|^2
                 + (1 - alpha) mean_k sqrt(|f_k^2 - m_k^2| / (s_k - m_k^2))

  with the predictor f, and m and s the mean and the mean square of N fixed
  random targets (Yang et al. 2024, arXiv 2401.09750, "Distributional Random
  Network Distillation"; the ratio between 0.001 and 1, as in their code). Of
  each observation the predictor learns a random one of the targets, so that f^2
  tells how often it was trained. The parameters of `RandomNetworkDistillation`
  hold here, too. Costs N target networks' forward passes instead of one, for
  the rewards and for training.

  Deviation: which target an observation is trained on is drawn once per
  iteration, by its hash, and not in every pass: so that it needs no generator.
  """

  def __init__(
      self,
      observation_spec,
      config: Optional[config_lib.RNDConfig] = None,
      *,
      num_targets: int = 5,
      alpha: float = 0.9,
      action_spec=None,
      frame_channels: Optional[int] = None,
      precision: str = 'float32',
      name: str = 'DRND',
  ):
    """Builds the networks: the targets are fixed from here on.

    Args:
      observation_spec: nest of TensorSpec, what the environment gives.
      config: the numbers; by default `RNDConfig()`, as gin binds it.
      num_targets: N, at least 2.
      alpha: weight of the distance, from 0 to 1.
      action_spec: not used: the bonus is one of observations.
      frame_channels: size of one frame along an image's last axis.
      precision: 'float32' or 'mixed_bfloat16', of the networks.
      name: of the module.

    Raises:
      ValueError: as `RandomNetworkDistillation`, or a number out of its range.
    """
    super().__init__(
        observation_spec, config, action_spec=action_spec,
        frame_channels=frame_channels, precision=precision, name=name,
    )
    if num_targets < 2:
      raise ValueError(f'DRND.num_targets = {num_targets}: choose 2 or more.')
    if not 0 <= alpha <= 1:
      raise ValueError(f'DRND.alpha = {alpha}: choose a number from 0 to 1.')
    self._alpha = alpha
    self._num_targets = num_targets
    spec = self.target.input_tensor_spec
    self._more_targets = [
        networks.RNDNetwork(
            spec, (), self._feature_shape[-1], precision=precision,
            name=f'DRNDTarget{number}',
        ) for number in range(1, num_targets)
    ]
    for target in self._more_targets:
      target.create_variables(spec)
      target.trainable = False
    self._hash = hashing.Hash(self.selected_spec)
    self._iteration = tf.Variable(0, dtype=tf.int64, trainable=False)

  def update_statistics(
      self, steps: rollout_lib.Steps, rewards: tf.Tensor
  ) -> None:
    """Also draws other targets for the observations; see `Bonus`."""
    super().update_statistics(steps, rewards)
    self._iteration.assign_add(1)

  def training_inputs(self, selected: tf.Tensor, passes: float):
    """Adds the features of the target that each observation is trained on."""
    del passes
    return selected, self.all_target_features(selected)

  def loss(self, selected, target_features=None, training=True) -> tf.Tensor:
    """As RND's, towards the target that each observation is trained on."""
    if target_features is None:
      target_features = self.target_features(selected)
    return super().loss(selected, target_features, training)

  def checkpoint_items(self):
    return dict(
        super().checkpoint_items(), more_targets=self._more_targets,
        draws=self._iteration,
    )

  def target_features(self, selected: tf.Tensor) -> tf.Tensor:
    """Features of one of the targets, by the observation and the iteration.

    Args:
      selected: `[N, ...]`, what the networks look at.

    Returns:
      float32 `[N, k]`, constant for the gradient.
    """
    hashes = self._hash(selected[tf.newaxis])[0]
    drawn = tf.bitcast(hashing.folded(
        (tf.bitcast(hashes, tf.uint64)
         + tf.cast(self._iteration, tf.uint64)) * tf.constant(_STEP, tf.uint64),
        32,
    ), tf.int64)
    numbers = tf.math.floormod(drawn, self._num_targets)
    return tf.gather(
        self._all_targets(self._prepared(selected)), numbers, batch_dims=1
    )

  def _all_targets(self, prepared: tf.Tensor) -> tf.Tensor:
    """Features of every target: float32 `[N, targets, k]`."""
    return tf.stop_gradient(tf.stack([
        target(prepared)[0] for target in (self.target, *self._more_targets)
    ], axis=1))

  def _errors(self, selected: tf.Tensor) -> tf.Tensor:
    """The bonus of what the networks look at, `[B, T, ...]`."""
    return tf.stop_gradient(
        chunks.in_chunks(self._bonus_of, selected, [])
    )

  def _bonus_of(self, selected: tf.Tensor) -> tf.Tensor:
    prepared = self._prepared(selected)
    features, _ = self.predictor(prepared, training=False)
    targets = self._all_targets(prepared)
    mean = tf.reduce_mean(targets, axis=1)
    variance = tf.math.reduce_variance(targets, axis=1)
    distance = tf.reduce_sum(tf.math.squared_difference(features, mean), -1)
    ratio = tf.math.divide_no_nan(
        tf.abs(tf.square(features) - tf.square(mean)), variance
    )
    visits = tf.reduce_mean(
        tf.sqrt(tf.clip_by_value(ratio, _LEAST_RATIO, _MOST_RATIO)), axis=-1
    )
    return self._alpha * distance + (1 - self._alpha) * visits
