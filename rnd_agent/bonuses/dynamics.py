"""The error of predicting what an action leads to."""

from __future__ import annotations

from typing import Optional

import gin
import tensorflow as tf
from tf_agents.specs import tensor_spec

from rnd_agent import config as config_lib
from rnd_agent import networks
from rnd_agent.bonuses import base
from rnd_agent.bonuses import chunks
from rnd_agent.bonuses import episodes
from rnd_agent.bonuses import normalizers
from rnd_agent.bonuses import selection
from rnd_agent.learning import losses
from rnd_agent.learning import rollout as rollout_lib


@gin.configurable(module='rnd_agent', denylist=['observation_spec'])
class DynamicsBonus(base.Bonus):
  """Forward dynamics on random features (Burda et al. 2018, appendix A.6).

      bonus(o_t, a_t, o_{t+1}) = 1/k | g(f(o_t), a_t) - f(o_{t+1}) |^2

  with f fixed and random, like the target of Random Network Distillation, and g
  trained. The paper's comparison to its own bonus: it also pays for what stays
  unpredictable, such as sticky actions. One forward pass of f over the rollout
  for the rewards and one of each pass of training; g is small.
  """

  needs_random_agent = True

  def __init__(
      self,
      observation_spec,
      config: Optional[config_lib.RNDConfig] = None,
      *,
      select: selection.Select = None,
      stacked_frames: int = 1,
      feature_dim: int = 512,
      hidden_units=(512, 512),
      action_spec=None,
      frame_channels: Optional[int] = None,
      precision: str = 'float32',
      name: str = 'DynamicsBonus',
  ):
    """Builds both networks: the features are fixed from here on.

    Args:
      observation_spec: nest of TensorSpec, what the environment gives.
      config: the numbers; by default `RNDConfig()`, as gin binds it.
      select: what the features are made of, see `selection.chosen`.
      stacked_frames: how many of the newest frames, where nothing is selected.
      feature_dim: k, size of the features.
      hidden_units: dense ReLU layers of g.
      action_spec: nest of BoundedTensorSpec.
      frame_channels: size of one frame along an image's last axis.
      precision: 'float32' or 'mixed_bfloat16', of the networks.
      name: of the module.

    Raises:
      ValueError: there is no action_spec, or it is not said which part of a
        nest the bonus looks at.
    """
    super().__init__(
        observation_spec, config, action_spec=action_spec,
        frame_channels=frame_channels, precision=precision, name=name,
    )
    if action_spec is None:
      raise ValueError(
          'DynamicsBonus predicts what actions lead to: give it the '
          'action_spec.'
      )
    self._pick, selected = selection.chosen(
        'DynamicsBonus', observation_spec, select, stacked_frames,
        frame_channels,
    )
    spec = tf.TensorSpec(selected.shape, tf.float32)
    self.observation_normalizer = normalizers.ObservationNormalizer(
        spec, self._config.observation_clip, self._config.variance_epsilon
    )
    self._encoder = networks.RNDNetwork(
        spec, (), feature_dim, precision=precision, name='RandomFeatures'
    )
    self._encoder.create_variables(spec)
    self._encoder.trainable = False
    self._feature_dim = feature_dim
    sizes = [
        _encoded(tf.zeros([1, *s.shape], s.dtype), s).shape[1]
        for s in tf.nest.flatten(action_spec)
    ]
    inputs = tf.TensorSpec([feature_dim + sum(sizes)], tf.float32)
    self._model = networks.RNDNetwork(
        inputs, tuple(hidden_units[1:]), feature_dim,
        fc_layer_params=tuple(hidden_units[:1]), precision=precision,
        name='ForwardDynamics',
    )
    self._model.create_variables(inputs)

  @property
  def trained_variables(self) -> tuple[tf.Variable, ...]:
    return tuple(self._model.trainable_variables)

  def rewards(self, steps: rollout_lib.Steps) -> tf.Tensor:
    """See `Bonus`; 0 where another episode follows."""
    if not tf.nest.flatten(steps.actions):
      raise ValueError(
          'DynamicsBonus needs actions, which PPOLearner does not hand over: '
          'train with agent.train.'
      )
    features = chunks.in_chunks(
        self._features, self._pick(steps.observations), [self._feature_dim]
    )
    errors = self._errors(
        rollout_lib.in_steps(features[:, :-1]),
        tf.nest.map_structure(rollout_lib.in_steps, steps.actions),
        rollout_lib.in_steps(features[:, 1:]),
    )
    errors = tf.reshape(errors, tf.shape(steps.next_step_types))
    return episodes.within(steps, tf.stop_gradient(errors))

  def observe_random_agent(self, observations) -> None:
    """Starts the observations' statistics; see `Bonus`."""
    selected = self._pick(observations)
    self.observation_normalizer.update_masked(
        selected, tf.ones(tf.shape(selected)[:2])
    )

  def update_statistics(
      self, steps: rollout_lib.Steps, rewards: tf.Tensor
  ) -> None:
    """Updates the statistics of observations and of returns; see `Bonus`."""
    self.observation_normalizer.update_masked(
        self._pick(steps.observations)[:, 1:], tf.ones_like(steps.mask)
    )
    super().update_statistics(steps, rewards)

  def select(self, steps: rollout_lib.Steps) -> base.Transition:
    """What the features are made of, and the actions between."""
    selected = self._pick(steps.observations)
    return base.Transition(selected[:, :-1], steps.actions, selected[:, 1:])

  def training_mask(self, steps: rollout_lib.Steps) -> tf.Tensor:
    """float32 `[B, T]`: 0 where the next observation is another episode's."""
    return episodes.stays(steps)

  def training_proportion(self, num_environments: Optional[int]) -> float:
    return self._config.proportion_for(num_environments)

  def losses(self, inputs: base.Transition) -> tf.Tensor:
    """Errors of single steps, float32 `[N]`."""
    # One pass for both.
    features = self._features(
        tf.concat([inputs.observations, inputs.next_observations], 0)
    )
    before, after = tf.split(features, 2)
    return self._errors(before, inputs.actions, after, training=True)

  def _features(self, selected: tf.Tensor) -> tf.Tensor:
    normalized = self.observation_normalizer.normalized(selected)
    return tf.stop_gradient(self._encoder(normalized)[0])

  def _errors(self, before, actions, after, training=False) -> tf.Tensor:
    inputs = tf.concat([before, *(
        _encoded(action, spec) for action, spec in zip(
            tf.nest.flatten(actions), tf.nest.flatten(self._action_spec)
        )
    )], axis=-1)
    prediction, _ = self._model(inputs, training=training)
    return losses.distillation_error(prediction, after)


def _encoded(action: tf.Tensor, spec) -> tf.Tensor:
  """Actions `[N, *spec.shape]` as float32 `[N, n]`: discrete ones one-hot."""
  if tensor_spec.is_discrete(spec):
    choices = int(spec.maximum.max() - spec.minimum.min()) + 1
    action = tf.one_hot(action - int(spec.minimum.min()), choices)
  rows = tf.shape(action)[0]
  size = action.shape[1:].num_elements()
  return tf.cast(tf.reshape(action, [rows, size]), tf.float32)
