"""Features that tell which action led from one observation to the next.

What an action cannot change is not in them (Pathak et al. 2017, arXiv
1705.05363, section 2.2).
"""

from __future__ import annotations

import math

import tensorflow as tf

from rnd_agent import networks
from rnd_agent.layers import heads
from rnd_agent.layers import initializers
from rnd_agent.layers import trunk

_GAIN = math.sqrt(2)


class InverseDynamics(tf.Module):
  """An encoder, and a head that predicts the action from two encodings."""

  def __init__(
      self,
      observation_spec: tf.TensorSpec,
      action_spec,
      feature_dim: int,
      hidden_units: int,
      precision: str = 'float32',
      name: str = 'InverseDynamics',
  ):
    """Builds the layers.

    Args:
      observation_spec: of one observation.
      action_spec: nest of BoundedTensorSpec.
      feature_dim: k, size of an encoding.
      hidden_units: of the dense layer before the heads.
      precision: 'float32' or 'mixed_bfloat16', of the encoder.
      name: of the module.
    """
    super().__init__(name=name)
    spec = tf.TensorSpec(observation_spec.shape, tf.float32)
    self._encoder = networks.RNDNetwork(
        spec, (), feature_dim, precision=precision, name='InverseEncoder'
    )
    self._encoder.create_variables(spec)
    self._hidden = tf.keras.layers.Dense(
        hidden_units, activation='relu', name='hidden',
        kernel_initializer=initializers.Orthogonal(_GAIN),
    )
    self._heads = [
        heads.PolicyHead(spec, _GAIN) for spec in tf.nest.flatten(action_spec)
    ]
    features = self._hidden(tf.zeros([1, 2 * feature_dim]))
    for head in self._heads:
      head(features)

  def features(self, observations: tf.Tensor) -> tf.Tensor:
    """`[N, *spec.shape]` (uint8: scaled to [0, 1]) to float32 `[N, k]`."""
    return self._encoder(trunk.to_float(observations))[0]

  def losses(
      self, observations: tf.Tensor, actions, next_observations: tf.Tensor
  ) -> tf.Tensor:
    """Negative log-probability of the actions.

    Args:
      observations: `[N, *spec.shape]`.
      actions: nest of `[N, ...]`.
      next_observations: `[N, *spec.shape]`.

    Returns:
      float32 `[N]`; of several actions the sum.
    """
    # One pass for both.
    encoded = self.features(tf.concat([observations, next_observations], 0))
    before, after = tf.split(encoded, 2)
    hidden = self._hidden(tf.concat([before, after], axis=-1))
    return -tf.add_n([
        head.distribution(head(hidden)).log_prob(action)
        for head, action in zip(self._heads, tf.nest.flatten(actions))
    ])
