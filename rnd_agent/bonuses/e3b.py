"""E3B: how far an observation is from those of its episode."""

from __future__ import annotations

from typing import Optional

import gin
import tensorflow as tf

from rnd_agent import config as config_lib
from rnd_agent.bonuses import base
from rnd_agent.bonuses import chunks
from rnd_agent.bonuses import episodes
from rnd_agent.bonuses import inverse_dynamics
from rnd_agent.bonuses import selection
from rnd_agent.learning import replicas
from rnd_agent.learning import rollout as rollout_lib


class Ellipses(episodes.EpisodeState):
  """The inverse of `sum f f^T + ridge I` over each episode's features f."""

  def __init__(self, size: int, ridge: float, name: Optional[str] = None):
    """Begins no episode yet.

    Args:
      size: k, of the features.
      ridge: the matrix of no features is this times the identity.
      name: of the module.

    Raises:
      ValueError: the ridge is not above 0.
    """
    super().__init__(name=name)
    if ridge <= 0:
      raise ValueError(f'E3B.ridge = {ridge}: choose a number above 0.')
    self._size, self._ridge = size, ridge
    self._inverses = None

  def build(self, num_environments: int) -> None:
    """See `EpisodeState`."""
    if self._inverses is None:
      with tf.init_scope():
        self._inverses = tf.Variable(
            tf.eye(self._size, batch_shape=[num_environments]) / self._ridge,
            trainable=False, name='inverses',
        )
    if self._inverses.shape[0] != num_environments:
      raise ValueError(
          f'The ellipses are those of {self._inverses.shape[0]} environments, '
          f'got a rollout of {num_environments}: keep the number of '
          'environments.'
      )

  def distances(
      self, steps: rollout_lib.Steps, features: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """How far each observation is from those before it in its episode.

    Args:
      steps: B environments, T rows, which follow those of the last `advance`.
      features: float32 `[B, T + 1, k]`, f of o_0 ... o_T.

    Returns:
      f^T C^-1 f of o_1 ... o_T, float32 `[B, T]`, and C^-1 after them, `[B, k,
      k]`. Changes nothing.
    """
    if features.shape[0] is not None:
      self.build(replicas.environments_of_all(features.shape[0]))
    begins = tf.transpose(episodes.begins(steps))
    by_time = tf.transpose(features, [1, 0, 2])
    fresh = tf.eye(self._size) / self._ridge
    if self._inverses is None:
      before = tf.tile(fresh[tf.newaxis], [tf.shape(features)[0], 1, 1])
    else:
      before = replicas.own(self._inverses.value())

    def add(t, inverses, distances):
      begin = begins[t][:, tf.newaxis, tf.newaxis]
      inverses = tf.where(begin, fresh, inverses)
      f = by_time[t]
      direction = tf.linalg.matvec(inverses, f)
      # At least 0 but for rounding, which large features make large.
      distance = tf.maximum(tf.reduce_sum(f * direction, axis=-1), 0.0)
      # Sherman and Morrison's formula for C + f f^T.
      after = inverses - (
          direction[:, :, tf.newaxis] * direction[:, tf.newaxis, :]
          / (1.0 + distance)[:, tf.newaxis, tf.newaxis]
      )
      # The last rollout has added o_0, unless it begins an episode here.
      inverses = tf.where(tf.logical_or(begin, t > 0), after, inverses)
      return t + 1, inverses, distances.write(t, distance)

    rows = tf.shape(by_time)[0]
    _, inverses, distances = tf.while_loop(
        lambda t, *_: t < rows, add,
        (0, before, tf.TensorArray(tf.float32, rows)), parallel_iterations=1,
    )
    return tf.transpose(distances.stack()[1:]), inverses

  def advance(self, steps: rollout_lib.Steps, features: tf.Tensor) -> None:
    """Adds the steps' observations.

    Args:
      steps: B environments, T rows.
      features: float32 `[B, T + 1, k]`.
    """
    _, inverses = self.distances(steps, features)
    self._inverses.assign(replicas.of_all(inverses))


@gin.configurable(module='rnd_agent', denylist=['observation_spec'])
class E3B(base.Bonus):
  """Exploration by elliptical episodic bonuses (Henaff et al. 2022).

      bonus(o_{t+1}) = f(o_{t+1})^T C^-1 f(o_{t+1}),
      C = sum over the episode so far of f(o_i) f(o_i)^T + ridge I

  arXiv 2210.05805: a count of visits in the
  episode for observations that never come again exactly. The features f are
  trained to tell which action led from one observation to the next; C is over
  o_0 ... o_t. Each
  environment keeps a matrix of k x k numbers; the bonus needs two forward
  passes per rollout, one for the rewards and one to move the matrices on.
  """

  def __init__(
      self,
      observation_spec,
      config: Optional[config_lib.RNDConfig] = None,
      *,
      select: selection.Select = None,
      stacked_frames: int = 1,
      feature_dim: int = 128,
      hidden_units: int = 256,
      ridge: float = 0.1,
      action_spec=None,
      frame_channels: Optional[int] = None,
      precision: str = 'float32',
      name: str = 'E3B',
  ):
    """Builds the networks.

    Args:
      observation_spec: nest of TensorSpec, what the environment gives.
      config: discount of the intrinsic return and its like.
      select: what the features are made of, see `selection.chosen`.
      stacked_frames: how many of the newest frames, where nothing is selected.
      feature_dim: k, size of the features.
      hidden_units: of the layer that predicts actions from them.
      ridge: lambda, what C begins with.
      action_spec: nest of BoundedTensorSpec.
      frame_channels: size of one frame along an image's last axis.
      precision: 'float32' or 'mixed_bfloat16', of the encoder.
      name: of the module.

    Raises:
      ValueError: there is no action_spec, the ridge is not above 0, or it is
        not said which part of a nest the bonus looks at.
    """
    super().__init__(
        observation_spec, config, action_spec=action_spec,
        frame_channels=frame_channels, precision=precision, name=name,
    )
    if action_spec is None:
      raise ValueError('E3B predicts actions: give it the action_spec.')
    self._pick, spec = selection.chosen(
        'E3B', observation_spec, select, stacked_frames, frame_channels
    )
    self._feature_dim = feature_dim
    self.dynamics = inverse_dynamics.InverseDynamics(
        spec, action_spec, feature_dim, hidden_units, precision
    )
    self._ellipses = Ellipses(feature_dim, ridge)

  @property
  def trained_variables(self) -> tuple[tf.Variable, ...]:
    return self.dynamics.trainable_variables

  def rewards(self, steps: rollout_lib.Steps) -> tf.Tensor:
    """See `Bonus`; 0 where another episode follows."""
    distances, _ = self._ellipses.distances(steps, self._features(steps))
    return episodes.within(steps, distances)

  def advance(self, steps: rollout_lib.Steps) -> None:
    """Adds the steps' observations; see `Bonus`."""
    self._ellipses.advance(steps, self._features(steps))

  def select(self, steps: rollout_lib.Steps) -> base.Transition:
    """What the encoder looks at, and the actions between."""
    selected = self._pick(steps.observations)
    return base.Transition(selected[:, :-1], steps.actions, selected[:, 1:])

  def training_mask(self, steps: rollout_lib.Steps) -> tf.Tensor:
    """float32 `[B, T]`: 0 where the next observation is another episode's."""
    return episodes.stays(steps)

  def losses(self, inputs: base.Transition) -> tf.Tensor:
    """Negative log-probability of the actions, float32 `[N]`."""
    return self.dynamics.losses(*inputs)

  def _features(self, steps: rollout_lib.Steps) -> tf.Tensor:
    return tf.stop_gradient(chunks.in_chunks(
        self.dynamics.features, self._pick(steps.observations),
        [self._feature_dim],
    ))
