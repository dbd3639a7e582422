"""Random Network Distillation: the bonus, without any agent.

    bonus(o) = 1/k || predictor(o) - target(o) ||^2       (paper, section 2.2)

A fixed random target network sets a supervised problem whose inputs are the
observations; the predictor's error on it falls where the agent has been and
stays high where it has not. This object owns both networks and both running
statistics; it knows nothing of PPO, and any TF-Agents agent can use it.
"""

from __future__ import annotations

from typing import Callable, Optional

import gin
import tensorflow as tf
from tf_agents.networks import network

from rnd_agent import config as config_lib
from rnd_agent import networks
from rnd_agent.bonuses import base
from rnd_agent.bonuses import chunks
from rnd_agent.bonuses import normalizers
from rnd_agent.bonuses import selection
from rnd_agent.learning import losses
from rnd_agent.learning import rollout as rollout_lib

# Names that users import from here.
default_selection = selection.default_selection
newest_frame = selection.newest_frame


@gin.configurable(module='rnd_agent', denylist=['observation_spec'])
class RandomNetworkDistillation(base.Bonus):
  """Predictor, target, observation and return statistics.

  The seam of every bonus (`Bonus`) for an agent's rollouts; `bonus`, `loss` and
  `update_observation_statistics` for plain observations.
  """

  needs_random_agent = True

  def __init__(
      self,
      observation_spec,
      config: Optional[config_lib.RNDConfig] = None,
      predictor: Optional[network.Network] = None,
      target: Optional[network.Network] = None,
      select: selection.Select = None,
      feature_dim: int = 512,
      predictor_hidden_units=(512, 512),
      encoder: Optional[Callable[..., network.Network]] = None,
      stacked_frames: int = 1,
      frame_channels: Optional[int] = None,
      precision: str = 'float32',
      action_spec=None,
      name: str = 'RandomNetworkDistillation',
  ):
    """Builds both networks at once: the target is fixed from here on.

    Args:
      observation_spec: nest of TensorSpec, what the environment gives.
      config: the numbers; by default `RNDConfig()`, as gin binds it.
      predictor: network from the selected observation, normalized (and
        encoded, where there is an encoder), to features; by default an
        `RNDNetwork` with `predictor_hidden_units`.
      target: likewise; by default one without hidden units.
      select: what the bonus looks at: the name of a part of a dict, or a
        function that picks a tensor from an observation `[..., spec]`; by
        default the newest frames, see `selection.default_selection`, and of a
        dict its only image.
      feature_dim: k, size of the networks' output.
      predictor_hidden_units: dense layers that the predictor has on top.
      encoder: class of a fixed network before both, such as `RandomEncoder`,
        made with (spec, precision=...); None for none.
      stacked_frames: how many of the newest frames the bonus looks at, where
        nothing is selected; the policy's are `EnvironmentConfig.stacked_frames`
        (paper, table 4: one frame for the bonus, four for the policy).
      frame_channels: size of one frame along the observation's last axis; None:
        1 for uint8 images (grey frames) unless there are 3 channels (RGB),
        otherwise, and of a dict's parts, all of it.
      precision: 'float32' or 'mixed_bfloat16', of the default networks.
      action_spec: not used: the bonus is one of observations.
      name: name of the module.

    Raises:
      ValueError: if the networks' outputs differ in shape, it is not said which
        part of a nest the bonus looks at, or it holds too few frames.
    """
    super().__init__(
        observation_spec, config, action_spec=action_spec,
        frame_channels=frame_channels, precision=precision, name=name,
    )
    self._pick, self._selected_spec = selection.chosen(
        'RandomNetworkDistillation', observation_spec, select, stacked_frames,
        frame_channels,
    )
    # What the networks see is normalized.
    spec = tf.TensorSpec(self._selected_spec.shape, tf.float32)
    self.observation_normalizer = normalizers.ObservationNormalizer(
        spec, self._config.observation_clip, self._config.variance_epsilon
    )
    self._encoder = encoder and encoder(spec, precision=precision)
    if self._encoder is not None:
      spec = tf.TensorSpec(self._encoder.create_variables(spec).shape)
      self._encoder.trainable = False
    self._target = target or networks.RNDNetwork(
        spec, (), feature_dim, precision=precision, name='RNDTarget'
    )
    self._predictor = predictor or networks.RNDNetwork(
        spec, predictor_hidden_units, feature_dim, precision=precision,
        name='RNDPredictor',
    )
    outputs = [n.create_variables(spec) for n in (self._predictor,
                                                  self._target)]
    if outputs[0].shape != outputs[1].shape:
      raise ValueError(
          'Predictor and target must give features of one shape, got '
          f'{outputs[0].shape} and {outputs[1].shape}.'
      )
    # Keras would list the target's weights as trainable all the same.
    self._target.trainable = False
    self._feature_shape = outputs[1].shape

  @property
  def selected_spec(self) -> tf.TensorSpec:
    """Spec of what the networks look at, in the observation's dtype."""
    return self._selected_spec

  @property
  def predictor(self) -> network.Network:
    return self._predictor

  @property
  def target(self) -> network.Network:
    return self._target

  @property
  def trained_variables(self) -> tuple[tf.Variable, ...]:
    """What an optimizer may change: the predictor's weights alone."""
    return tuple(self._predictor.trainable_variables)

  # -------------------------------------------------- the seam of a bonus

  def rewards(self, steps: rollout_lib.Steps) -> tf.Tensor:
    """`bonus` of the observation that each step led to; see `Bonus`."""
    return steps.earned(
        self._errors(self.select(steps)), self._config.bonus_at_end
    )

  def observe_random_agent(self, observations) -> None:
    """`update_observation_statistics` (paper, section 2.4)."""
    self.update_observation_statistics(observations)

  def update_statistics(
      self, steps: rollout_lib.Steps, rewards: tf.Tensor
  ) -> None:
    """Updates the statistics of observations and of returns; see `Bonus`."""
    self._observe(self.select(steps), self.training_mask(steps))
    super().update_statistics(steps, rewards)

  def select(self, steps: rollout_lib.Steps) -> tf.Tensor:
    """What the networks look at of o_1 ... o_T: `[B, T, ...]`."""
    # Picked first, then cut: a rollout's stacks of frames are not copied.
    return self._pick(steps.observations)[:, 1:]

  def training_mask(self, steps: rollout_lib.Steps) -> tf.Tensor:
    return steps.outcome_mask(self._config.bonus_at_end)

  def training_proportion(self, num_environments: Optional[int]) -> float:
    return self._config.proportion_for(num_environments)

  def training_inputs(self, selected: tf.Tensor, passes: float):
    """Adds the target's features, which every pass reads.

    If all passes together draw fewer steps than the rollout has, the features
    are computed later, only for the steps that are drawn.
    """
    if passes < 1.0:
      return selected
    return selected, self.all_target_features(selected)

  def losses(self, inputs) -> tf.Tensor:
    """`loss` of rows of `training_inputs`; see `Bonus`."""
    return self.loss(*inputs) if isinstance(inputs, tuple) else self.loss(
        inputs
    )

  def checkpoint_items(self):
    items = dict(
        predictor=self._predictor,
        target=self._target,
        rnd_observations=self.observation_normalizer,
        rnd_returns=self.return_normalizer,
    )
    if self._encoder is not None:
      items['encoder'] = self._encoder
    return items

  def weight_items(self):
    return dict(
        self.checkpoint_items(), rnd_returns=self.statistics_of_returns()
    )

  # ------------------------------------------------------- of observations

  def target_features(self, selected: tf.Tensor) -> tf.Tensor:
    """The target's features under the current statistics.

    Args:
      selected: `[N, ...]`, what the networks look at.

    Returns:
      float32 `[N, k]`, constant for the gradient.
    """
    return self._target_of(self._prepared(selected))

  def loss(
      self,
      selected: tf.Tensor,
      target_features: Optional[tf.Tensor] = None,
      training: bool = True,
  ) -> tf.Tensor:
    """Distillation error per sample; its gradient trains the predictor.

    Args:
      selected: `[N, ...]`, what the networks look at.
      target_features: float32 `[N, k]` if at hand, under the same statistics.
      training: whether layers such as dropout behave as in training.

    Returns:
      float32 `[N]`.
    """
    prepared = self._prepared(selected)
    if target_features is None:
      target_features = self._target_of(prepared)
    prediction, _ = self._predictor(prepared, training=training)
    return losses.distillation_error(prediction, target_features)

  def _prepared(self, selected: tf.Tensor) -> tf.Tensor:
    """What predictor and target see: normalized, then encoded if so chosen."""
    normalized = self.observation_normalizer.normalized(selected)
    return normalized if self._encoder is None else self._encoder(normalized)[0]

  def _target_of(self, prepared: tf.Tensor) -> tf.Tensor:
    return tf.stop_gradient(self._target(prepared)[0])

  def bonus(self, next_observations) -> tf.Tensor:
    """Raw intrinsic rewards i_t of the observations that followed the actions.

    Args:
      next_observations: nest of `[B, T, ...]`, o_{t+1}.

    Returns:
      float32 `[B, T]`, not normalized. Nothing is updated.
    """
    return self._errors(self._pick(next_observations))

  def _errors(self, selected: tf.Tensor) -> tf.Tensor:
    """`bonus` of what the networks look at, `[B, T, ...]`."""
    errors = chunks.in_chunks(
        lambda part: self.loss(part, training=False), selected, []
    )
    return tf.stop_gradient(errors)

  def all_target_features(self, selected: tf.Tensor) -> tf.Tensor:
    """`target_features` of a whole rollout, worked through in chunks.

    Args:
      selected: `[B, T, ...]`, what the networks look at.

    Returns:
      float32 `[B, T, k]`.
    """
    return chunks.in_chunks(
        self.target_features, selected, self._feature_shape
    )

  def update_observation_statistics(
      self, next_observations, mask: Optional[tf.Tensor] = None
  ) -> None:
    """Adds observations to the running mean and standard deviation.

    Args:
      next_observations: nest of `[B, T, ...]`.
      mask: float32 `[B, T]`, 1 to count an observation; all by default.
    """
    selected = self._pick(next_observations)
    if mask is None:
      mask = tf.ones(tf.shape(selected)[:2])
    self._observe(selected, mask)

  def _observe(self, selected: tf.Tensor, mask: tf.Tensor) -> None:
    """Adds what the networks look at to the statistics, where the mask is 1."""
    rank = self._selected_spec.shape.rank + 2
    if selected.shape.rank != rank:
      raise ValueError(
          f'Observations must be [B, T, ...] of rank {rank}, got shape '
          f'{selected.shape}: add the dimension of time.'
      )
    self.observation_normalizer.update_masked(selected, mask)
