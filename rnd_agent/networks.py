"""Networks: the actor-critic with two value heads, and those of the bonus.

`ActorCriticNetwork` evaluates the policy and both values in one pass over one
trunk. TF-Agents' `PPOAgent` asks for an actor network and for a network of one
value: two views of the joint network are those. `RNDNetwork` is the predictor
or the target of the bonus, `RandomEncoder` may stand before both. Their parts
are in `layers`.
"""

from __future__ import annotations

import math

import gin
import tensorflow as tf
from tf_agents.networks import encoding_network
from tf_agents.networks import network
from tf_agents.networks import utils as network_utils
from tf_agents.trajectories import time_step as ts
from tf_agents.utils import nest_utils

from rnd_agent.common import repairs  # noqa: F401, applies them
from rnd_agent.layers import cores
from rnd_agent.layers import heads
from rnd_agent.layers import initializers
from rnd_agent.layers import trunk

# Names that users import from here.
NATURE_CONV_LAYERS = trunk.NATURE_CONV_LAYERS
PRECISIONS = trunk.PRECISIONS
Orthogonal = initializers.Orthogonal
conv_layers_for = trunk.conv_layers_for
leaky_relu = trunk.leaky_relu


def _dense(units, gain, dtype, name=None, activation='relu'):
  return tf.keras.layers.Dense(
      units, activation=activation, dtype=dtype, name=name,
      kernel_initializer=initializers.Orthogonal(gain),
  )


def _torso(spec, conv_layer_params, units, policy) -> list:
  """Layers next to one part of an observation, the last one dense."""
  gain = math.sqrt(2)
  layers = []
  if trunk.is_image(spec):
    layers = [
        tf.keras.layers.Conv2D(
            filters, kernel, stride, activation='relu', dtype=policy,
            kernel_initializer=initializers.Orthogonal(gain),
        )
        for filters, kernel, stride in trunk.checked_conv_layers(
            spec, conv_layer_params
        )
    ]
    layers.append(tf.keras.layers.Flatten(dtype=policy))
  return [*layers, _dense(units, gain, policy)]


def _through(layers, x: tf.Tensor) -> tf.Tensor:
  for layer in layers:
    x = layer(x)
  return x


@gin.configurable(module='rnd_agent')
class ActorCriticNetwork(network.Network):
  """Policy, extrinsic and intrinsic value on one trunk, in one forward pass.

  The authors' architecture: convolutions and two dense layers with ReLU
  (gain sqrt 2), then one residual branch `x + ReLU(dense(x))` (gain 0.1) for
  the policy and one for both values, and linear heads (gain 0.01).

  Deviation: the paper's last convolution is 3x3, its code's 4x4; here it is
  the paper's, and `conv_layer_params` binds the other.
  """

  def __init__(
      self,
      observation_spec,
      action_spec,
      conv_layer_params=None,
      fc_layer_params=(256, 448),
      core=None,
      final_layer_params=(),
      head_gain=0.01,
      precision='float32',
      name='ActorCriticNetwork',
  ):
    """Builds the layers.

    Args:
      observation_spec: TensorSpec, an image `[height, width, channels]` (uint8
        is scaled to [0, 1]) or a vector; or a nest of such. Each part of a nest
        has its own convolutions and first dense layer, whose outputs are
        concatenated.
      action_spec: nest of BoundedTensorSpec: discrete or continuous.
      conv_layer_params: (filters, kernel, stride) per layer, for images only;
        None: `conv_layers_for` the image's size.
      fc_layer_params: units of the dense layers; at least one. The last
        layer's size, of these, the core or `final_layer_params`, is also that
        of the two residual branches.
      core: Keras cell between dense layers and branches, a list of cells that
        are stacked, or None. Such as `GRUCell(256)` (paper: behind one dense
        layer of 256), `LSTMCell`, `DNCCell`. Its state begins at zero in every
        episode; it computes in float32.
      final_layer_params: units of dense layers (ReLU, gain sqrt 2) behind the
        core, before the branches.
      head_gain: gain of the orthogonal initializer of the three heads.
      precision: 'float32', or 'mixed_bfloat16' for the trunk; the heads and
        all that they give are float32 either way.
      name: name of the network.

    Raises:
      ValueError: for a part of an observation that is neither image nor
        vector, for convolutions that don't fit, for unsupported actions, for a
        core that is no cell.
    """
    core = None if core is None else cores.Core(core)
    super().__init__(
        observation_spec, state_spec=core.state_spec if core else (), name=name
    )
    self._core = core
    specs = tf.nest.flatten(self._input_tensor_spec)
    for spec in specs:
      if spec.shape.rank not in (1, 3):
        raise ValueError(
            'ActorCriticNetwork takes images [height, width, channels] and '
            f'vectors; got {spec}. Give RNDPPOAgent your own actor_net and '
            'value_net for other observations.'
        )
    if not fc_layer_params:
      raise ValueError('ActorCriticNetwork.fc_layer_params must not be empty.')
    policy = trunk.layer_policy(precision)
    gain = math.sqrt(2)
    self._action_spec = action_spec
    first, *others = fc_layer_params
    torsos = [
        _torso(spec, conv_layer_params, first, policy) for spec in specs
    ]
    shared = [_dense(n, gain, policy) for n in others]
    if len(specs) == 1:  # All in one list, as checkpoints know them.
      torsos, shared = [[]], [*torsos[0], *shared]
    self._torsos, self._trunk = torsos, shared
    units = others[-1] if others else len(specs) * first
    self._final = [_dense(n, gain, policy) for n in final_layer_params]
    branch_units = core.output_units if core else units
    if final_layer_params:
      branch_units = final_layer_params[-1]
    self._policy_branch, self._value_branch = (
        _dense(branch_units, 0.1, policy, branch)
        for branch in ('policy_branch', 'value_branch')
    )
    self._policy_heads = [
        heads.PolicyHead(s, head_gain) for s in tf.nest.flatten(action_spec)
    ]
    self._value_head_ext, self._value_head_int = (
        tf.keras.layers.Dense(
            1, name=f'value_{stream}',
            kernel_initializer=initializers.Orthogonal(head_gain),
        )
        for stream in ('ext', 'int')
    )

  def call(self, observation, step_type=None, network_state=(), training=False):
    """Evaluates policy and values.

    Args:
      observation: `[B, ...]` or `[B, T, ...]`.
      step_type: int32 `[B]` or `[B, T]`; where it is FIRST, the core's state is
        set to zero. None: nowhere.
      network_state: the core's state before the first step, `[B, ...]`; () for
        zeros, and without a core.
      training: unused.

    Returns:
      `((distribution, value_ext, value_int), next state)`: a nest of
      distributions like the action spec, two float32 tensors `[B]` (`[B, T]`).
    """
    del training
    outer_rank = nest_utils.get_outer_rank(observation, self.input_tensor_spec)
    squash = network_utils.BatchSquash(outer_rank)
    parts = [
        _through(torso, trunk.to_float(squash.flatten(part)))
        for torso, part in zip(self._torsos, tf.nest.flatten(observation))
    ]
    x = parts[0] if len(parts) == 1 else tf.concat(parts, axis=-1)
    x = _through(self._trunk, x)
    if self._core is not None:
      x, network_state = self._apply_core(
          squash.unflatten(x), step_type, network_state, outer_rank
      )
      x = squash.flatten(x)
    x = _through(self._final, x)
    for_policy, for_values = (
        tf.cast(x, tf.float32) + tf.cast(branch(x), tf.float32)
        for branch in (self._policy_branch, self._value_branch)
    )
    distributions = [
        head.distribution(
            tf.nest.map_structure(squash.unflatten, head(for_policy))
        )
        for head in self._policy_heads
    ]
    value_ext, value_int = (
        squash.unflatten(tf.squeeze(head(for_values), axis=-1))
        for head in (self._value_head_ext, self._value_head_int)
    )
    return (
        tf.nest.pack_sequence_as(self._action_spec, distributions),
        value_ext,
        value_int,
    ), network_state

  def _apply_core(self, features, step_type, state, outer_rank):
    """Steps the core over `[B, n]` or `[B, T, n]`: outputs, next state."""
    features = tf.cast(features, tf.float32)
    reset_mask = None
    if step_type is not None:
      reset_mask = tf.equal(step_type, ts.StepType.FIRST)
    if outer_rank == 1:
      features = features[:, tf.newaxis]
      if reset_mask is not None:
        reset_mask = reset_mask[:, tf.newaxis]
    outputs, state = self._core(features, state, reset_mask)
    return outputs[:, 0] if outer_rank == 1 else outputs, state

  @property
  def value_variables(self) -> list[tf.Variable]:
    """Variables of the value branch and heads; they must be created before."""
    layers = (self._value_branch, self._value_head_ext, self._value_head_int)
    return [v for layer in layers for v in layer.trainable_variables]

  @property
  def actor_view(self) -> network.Network:
    """A network that gives the distribution alone."""
    return _View(self, 0, name='ActorView')

  @property
  def value_view(self) -> network.Network:
    """A network that gives the extrinsic value alone."""
    return _View(self, 1, name='ExtrinsicValueView')


class _View(network.Network):
  """One output of a joint network, over the same variables."""

  def __init__(self, joint, output_index, name):
    super().__init__(joint.input_tensor_spec, joint.state_spec, name=name)
    self._joint = joint
    self._output_index = output_index

  def call(self, observation, step_type=None, network_state=(), training=False):
    outputs, network_state = self._joint(
        observation, step_type, network_state, training=training
    )
    return outputs[self._output_index], network_state


class SeparateActorCritic(network.Network):
  """Users' own networks, with the interface of `ActorCriticNetwork`.

  Without an intrinsic value network V_int is 0. The recurrent state is a tuple
  (actor's, value's, intrinsic value's).
  """

  # The policy puts no recurrent states into its info, so that the experience
  # has none: the networks train from states of zeros.
  state_in_info = False

  def __init__(
      self, actor_net, value_net, intrinsic_value_net=None,
      name='SeparateActorCritic',
  ):
    """Takes the networks as they are.

    Args:
      actor_net: gives a nest of distributions.
      value_net: gives the extrinsic value, a scalar per step.
      intrinsic_value_net: gives the intrinsic value, or None.
      name: name of the network.
    """
    nets = (actor_net, value_net) + (
        (intrinsic_value_net,) if intrinsic_value_net is not None else ()
    )
    stateful = any(bool(net.state_spec) for net in nets)
    super().__init__(
        actor_net.input_tensor_spec,
        tuple(net.state_spec for net in nets) if stateful else (),
        name=name,
    )
    self._nets = nets

  def create_variables(self, input_tensor_spec=None, **kwargs):
    """Creates the variables of every network; see the base class."""
    for net in self._nets:
      net.create_variables(input_tensor_spec, **kwargs)
    return super().create_variables(input_tensor_spec, **kwargs)

  def call(self, observation, step_type=None, network_state=(), training=False):
    """As `ActorCriticNetwork.call`, each network evaluated on its own."""
    states = network_state or ((),) * len(self._nets)
    outputs, next_states = zip(*(
        net(observation, step_type, state, training=training)
        for net, state in zip(self._nets, states)
    ))
    if len(outputs) == 2:
      outputs += (tf.zeros_like(outputs[1]),)
    return outputs, next_states if self._state_spec else ()

  @property
  def actor_view(self) -> network.Network:
    return self._nets[0]

  @property
  def value_view(self) -> network.Network:
    return self._nets[1]


@gin.configurable(module='rnd_agent')
class RNDNetwork(network.Network):
  """Predictor or target: TF-Agents' `EncodingNetwork`, then dense layers.

  Target: convolutions with leaky ReLU (slope 0.2) and a linear dense layer.
  Predictor: the same convolutions, two dense ReLU layers more. Orthogonal
  initialisation with gain sqrt 2, zero biases (authors' code). What gin binds
  holds for both.
  """

  def __init__(
      self,
      observation_spec,
      hidden_units=(),
      feature_dim=512,
      conv_layer_params=None,
      fc_layer_params=(256,),
      precision='float32',
      activation=None,
      output_activation=None,
      name='RNDNetwork',
  ):
    """Builds the layers.

    Args:
      observation_spec: TensorSpec of one normalized observation, float32; an
        image `[height, width, channels]` or a vector.
      hidden_units: dense ReLU layers before the output: () for the target,
        (512, 512) for the predictor.
      feature_dim: k, size of the output.
      conv_layer_params: (filters, kernel, stride) per layer, for images; None:
        `conv_layers_for` the image's size.
      fc_layer_params: units of the encoder's layers, for vectors.
      precision: 'float32' or 'mixed_bfloat16' for all but the last layer.
      activation: of all layers but the last, a name that Keras knows, such as
        'tanh'; None: leaky ReLU in the encoder, ReLU in the hidden layers.
      output_activation: of the last layer, likewise; None: linear.
      name: name of the network.

    Raises:
      ValueError: for an observation that is neither image nor vector.
    """
    super().__init__(observation_spec, state_spec=(), name=name)
    policy = trunk.layer_policy(precision)
    gain = math.sqrt(2)
    self._encoder = _encoder(
        self._input_tensor_spec, conv_layer_params, fc_layer_params,
        activation, policy, 'RNDNetwork',
    )
    self._hidden = [
        _dense(units, gain, policy, activation=activation or 'relu')
        for units in hidden_units
    ]
    self._features = tf.keras.layers.Dense(
        feature_dim, name='features', activation=output_activation,
        kernel_initializer=initializers.Orthogonal(gain),
    )

  def call(self, observation, step_type=None, network_state=(), training=False):
    """`[..., *spec.shape]` to features, float32 `[..., k]`."""
    x, _ = self._encoder(observation, training=training)
    for layer in self._hidden:
      x = layer(x)
    return self._features(tf.cast(x, tf.float32)), network_state


@gin.configurable(module='rnd_agent')
class RandomEncoder(network.Network):
  """Fixed random layers before predictor and target, which may then be small.

  `RandomNetworkDistillation.encoder = @RandomEncoder` puts it there. Predictor
  and target then see a vector: `RNDNetwork.fc_layer_params` are their layers.
  """

  def __init__(
      self,
      observation_spec,
      conv_layer_params=None,
      fc_layer_params=(256,),
      activation=None,
      precision='float32',
      name='RandomEncoder',
  ):
    """Builds the layers; they are never trained.

    Args:
      observation_spec: TensorSpec of one normalized observation, float32; an
        image `[height, width, channels]` or a vector.
      conv_layer_params: (filters, kernel, stride) per layer, for images; None:
        `conv_layers_for` the image's size.
      fc_layer_params: units of the layers, for vectors.
      activation: of all layers, a name that Keras knows; None: leaky ReLU.
      precision: 'float32' or 'mixed_bfloat16'.
      name: name of the network.

    Raises:
      ValueError: for an observation that is neither image nor vector.
    """
    super().__init__(observation_spec, state_spec=(), name=name)
    self._encoder = _encoder(
        self._input_tensor_spec, conv_layer_params, fc_layer_params,
        activation, trunk.layer_policy(precision), 'RandomEncoder',
    )
    self.trainable = False

  def call(self, observation, step_type=None, network_state=(), training=False):
    """`[..., *spec.shape]` to features, float32 `[..., n]`."""
    x, _ = self._encoder(observation)
    return tf.stop_gradient(tf.cast(x, tf.float32)), network_state


def _encoder(
    spec, conv_layer_params, fc_layer_params, activation, policy, owner
) -> encoding_network.EncodingNetwork:
  """Convolutions of an image or dense layers of a vector, for the bonus."""
  if not isinstance(spec, tf.TensorSpec) or spec.shape.rank not in (1, 3):
    raise ValueError(
        f'{owner} takes one image [height, width, channels] or one vector; '
        f'got {spec}. Choose a part of the observation for the bonus.'
    )
  image = trunk.is_image(spec)
  if image:
    conv_layer_params = trunk.checked_conv_layers(spec, conv_layer_params)
  return encoding_network.EncodingNetwork(
      spec,
      conv_layer_params=conv_layer_params if image else None,
      fc_layer_params=None if image else fc_layer_params,
      activation_fn=(
          tf.keras.activations.get(activation) if activation
          else trunk.leaky_relu
      ),
      kernel_initializer=initializers.Orthogonal(math.sqrt(2)),
      dtype=policy,
      name='encoder',
  )
