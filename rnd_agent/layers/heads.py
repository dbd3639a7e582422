"""Heads: from features to the distribution of an action."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tf_agents.specs import tensor_spec

from rnd_agent.layers import initializers


class PolicyHead(tf.keras.layers.Layer):
  """From features to the distribution of one action.

  Categorical for discrete actions. Normal for continuous ones, with a standard
  deviation per dimension that is trained and does not depend on the state.
  """

  def __init__(self, spec: tensor_spec.BoundedTensorSpec, gain: float):
    """Builds the layers.

    Args:
      spec: of one action.
      gain: of the orthogonal initializer.

    Raises:
      ValueError: for discrete actions that do not start at 0, or have unequal
        numbers of choices.
    """
    super().__init__(name='policy_head')
    self._spec = spec
    self._discrete = tensor_spec.is_discrete(spec)
    if self._discrete:
      counts = np.unique(spec.maximum - spec.minimum + 1)
      if len(counts) != 1 or np.any(spec.minimum != 0):
        raise ValueError(
            f'Unsupported action spec {spec}: discrete actions must start at '
            '0 and have equally many choices in every dimension.'
        )
      self._num_choices = int(counts[0])
      units = spec.shape.num_elements() * self._num_choices
    else:
      units = spec.shape.num_elements()
      self._log_std = self.add_weight(
          name='log_std', shape=[units], initializer='zeros'
      )
    self._dense = tf.keras.layers.Dense(
        units, name='policy_parameters',
        kernel_initializer=initializers.Orthogonal(gain),
    )

  def call(self, features):
    """Features `[N, features]` to the parameters of `distribution`."""
    outputs = self._dense(features)
    shape = [-1] + self._spec.shape.as_list()
    if self._discrete:
      logits = tf.reshape(outputs, shape + [self._num_choices])
      return {'logits': logits}
    scale = tf.broadcast_to(tf.exp(self._log_std), tf.shape(outputs))
    return {
        'loc': tf.reshape(outputs, shape),
        'scale_diag': tf.reshape(scale, shape),
    }

  def distribution(self, parameters) -> tfp.distributions.Distribution:
    """The distribution with the parameters from `call`, batch shape `[N]`."""
    rank = self._spec.shape.rank
    if self._discrete:
      choices = tfp.distributions.Categorical(
          **parameters, dtype=self._spec.dtype
      )
      return tfp.distributions.Independent(
          choices, reinterpreted_batch_ndims=rank
      ) if rank else choices
    if rank == 0:
      return tfp.distributions.Normal(
          parameters['loc'], parameters['scale_diag']
      )
    return tfp.distributions.MultivariateNormalDiag(**parameters)
