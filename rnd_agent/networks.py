"""Networks: the actor-critic with two value heads, and the bonus's two nets.

`ActorCriticNetwork` evaluates the policy and both values in one pass over one
trunk. TF-Agents' `PPOAgent` wants an actor and a scalar value network: two
thin views give it those. `RNDNetwork` is the predictor or the target.
"""

from __future__ import annotations

import math
from typing import Sequence

import gin
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tf_agents.keras_layers import dynamic_unroll_layer
from tf_agents.networks import encoding_network
from tf_agents.networks import network
from tf_agents.networks import utils as network_utils
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts
from tf_agents.utils import nest_utils

PRECISIONS = ('float32', 'mixed_bfloat16')
# Of leaky ReLU in predictor and target: TensorFlow's default, as in the
# authors' code.
_SLOPE = 0.2
# (filters, kernel, stride): the layers of Mnih et al. 2015, which the paper
# keeps for the policy, the predictor and the target.
NATURE_CONV_LAYERS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
# For smaller images: the smallest side in pixels from which layers are used.
# Each leaves 1 x 1 to 9 x 9 places, within the sizes that it is used for.
_CONV_LAYERS_FROM = (
    (36, NATURE_CONV_LAYERS),
    (20, ((32, 4, 2), (64, 3, 2), (64, 3, 1))),
    (10, ((32, 3, 2), (64, 2, 1), (64, 2, 1))),
    (4, ((32, 2, 1), (64, 2, 1), (64, 2, 1))),
    (1, ((64, 1, 1),)),
)


# Cells that a config can name as `ActorCriticNetwork.core = @GRUCell()`.
for _cell in (tf.keras.layers.GRUCell, tf.keras.layers.LSTMCell):
  gin.external_configurable(_cell, module='rnd_agent')


class Orthogonal(tf.keras.initializers.Initializer):
  """Orthogonal initialisation that draws anew at every call.

  Keras' own gives the same values again when one instance serves several
  layers, as `EncodingNetwork` uses it.
  """

  def __init__(self, gain: float):
    self._gain = gain

  def __call__(self, shape, dtype=None, **kwargs):
    return tf.keras.initializers.Orthogonal(self._gain)(shape, dtype, **kwargs)

  def get_config(self):
    return {'gain': self._gain}


def _layer_policy(precision: str) -> tf.keras.mixed_precision.Policy:
  """The Keras precision of a torso's layers; heads stay in float32."""
  if precision not in PRECISIONS:
    raise ValueError(
        f'precision = {precision!r}: must be one of {PRECISIONS}.'
    )
  return tf.keras.mixed_precision.Policy(precision)


@tf.custom_gradient
def leaky_relu(x: tf.Tensor) -> tf.Tensor:
  """`tf.nn.leaky_relu` with a gradient that needs the output alone.

  TensorFlow's own reads the input, which keeps a convolution and its
  activation from being computed as one, and is slow in bfloat16.

  Args:
    x: float tensor.

  Returns:
    x where it is above 0, 0.2 x elsewhere (TensorFlow's default slope).
  """
  y = tf.nn.leaky_relu(x, _SLOPE)

  def gradient(dy):
    if dy.dtype == tf.bfloat16:  # y has x's sign.
      above = tf.raw_ops.ReluGrad(gradients=dy, features=y)
      return _SLOPE * dy + (1.0 - _SLOPE) * above
    return tf.raw_ops.LeakyReluGrad(gradients=dy, features=y, alpha=_SLOPE)

  return y, gradient


def _is_image(spec: tf.TensorSpec) -> bool:
  return spec.shape.rank == 3


def _scaled(observation: tf.Tensor) -> tf.Tensor:
  """uint8 images to [0, 1]; everything else only to float32."""
  if observation.dtype == tf.uint8:
    return tf.cast(observation, tf.float32) / 255.0
  return tf.cast(observation, tf.float32)


def conv_layers_for(spec: tf.TensorSpec) -> Sequence[Sequence[int]]:
  """The convolutions for an image where a config names none.

  Those of Mnih et al. 2015 if the smaller side has at least 36 pixels, which
  is the least that they fit; from 20, 10 and 4 pixels, ones with smaller
  kernels and strides (MiniGrid's 7 x 7 cells: kernels of 2, no strides); below
  that one layer that looks at each pixel alone.

  Args:
    spec: of an image `[height, width, channels]`.

  Returns:
    (filters, kernel, stride) per layer.
  """
  side = min(spec.shape[:2])
  return next(layers for least, layers in _CONV_LAYERS_FROM if side >= least)


def _check_convolutions_fit(
    spec: tf.TensorSpec, layers: Sequence[Sequence[int]]
) -> None:
  """Raises ValueError if an image gets smaller than a layer's kernel."""
  height, width = spec.shape[:2]
  for filters, kernel, stride in layers:
    if min(height, width) < kernel:
      raise ValueError(
          f'conv_layer_params = {tuple(layers)} do not fit an observation of '
          f'shape {tuple(spec.shape)}: the image is {height} x {width} where '
          f'the layer ({filters}, {kernel}, {stride}) needs {kernel} x '
          f'{kernel}. Use smaller kernels or strides, or a larger frame_size.'
      )
    height = (height - kernel) // stride + 1
    width = (width - kernel) // stride + 1


class _Core(tf.keras.layers.Layer):
  """A Keras cell, or a stack of them, unrolled in float32 with resets.

  Its state is a nest of tuples whatever the cell calls its own: lists in a
  spec break TF-Agents' replay buffers.
  """

  def __init__(self, cells):
    super().__init__(name='core', dtype=tf.float32)
    if isinstance(cells, (list, tuple)):
      cell = tf.keras.layers.StackedRNNCells(list(cells))
    else:
      cell = cells
    missing = [
        name for name in ('state_size', 'output_size', 'get_initial_state')
        if not hasattr(cell, name)
    ]
    if missing:
      raise ValueError(
          f'ActorCriticNetwork.core = {cells!r}: a core is a Keras cell such '
          f'as GRUCell, or a list of them; this lacks {", ".join(missing)}.'
      )
    self._cell = cell
    self._unroll = dynamic_unroll_layer.DynamicUnroll(cell)
    self.output_units = _size(cell.output_size)

  @property
  def state_spec(self):
    """Of one environment, float32."""
    return _with_tuples(tf.nest.map_structure(
        lambda size: tf.TensorSpec(
            tf.TensorShape(size).as_list()
            if isinstance(size, tf.TensorShape) else [size], tf.float32
        ),
        self._cell.state_size,
    ))

  def call(self, inputs, state, reset_mask):
    """Steps through a sequence.

    Args:
      inputs: float32 `[B, T, n]`.
      state: as `state_spec`, `[B, ...]`, before the first step; () for zeros.
      reset_mask: bool `[B, T]`, whether a step begins an episode.

    Returns:
      Outputs `[B, T, output_units]` and the state after the last step.
    """
    if isinstance(state, tuple) and not state:
      state = self._cell.get_initial_state(
          batch_size=tf.shape(inputs)[0], dtype=tf.float32
      )
    state = tf.nest.pack_sequence_as(
        self._cell.state_size, tf.nest.flatten(state)
    )
    outputs, state = self._unroll(
        inputs, initial_state=state, reset_mask=reset_mask
    )
    return outputs, tf.nest.pack_sequence_as(
        self.state_spec, tf.nest.flatten(state)
    )


def _size(size) -> int:
  if isinstance(size, tf.TensorShape):
    return size.num_elements()
  return int(size)


def _with_tuples(nest):
  """The nest with tuples for lists; named tuples stay."""
  if isinstance(nest, list) or type(nest) is tuple:
    return tuple(_with_tuples(x) for x in nest)
  return nest


class _PolicyHead(tf.keras.layers.Layer):
  """Features to one action's distribution: categorical or normal."""

  def __init__(self, spec: tensor_spec.BoundedTensorSpec, gain: float):
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
        units, kernel_initializer=Orthogonal(gain), name='policy_parameters'
    )

  def call(self, features):
    """`[N, features]` to a distribution with batch shape `[N]`."""
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
    """The distribution of the parameters that `call` gives."""
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
        is scaled to [0, 1]) or a vector.
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
      ValueError: for an observation that is neither image nor vector, for
        convolutions that don't fit, for unsupported actions, for a core that
        is no cell.
    """
    core = None if core is None else _Core(core)
    super().__init__(
        observation_spec, state_spec=core.state_spec if core else (), name=name
    )
    self._core = core
    spec = self._input_tensor_spec
    if not isinstance(spec, tf.TensorSpec) or spec.shape.rank not in (1, 3):
      raise ValueError(
          'ActorCriticNetwork takes one image [height, width, channels] or one '
          f'vector; got {spec}. Give RNDPPOAgent your own actor_net and '
          'value_net for other observations.'
      )
    if not fc_layer_params:
      raise ValueError('ActorCriticNetwork.fc_layer_params must not be empty.')
    policy = _layer_policy(precision)
    gain = math.sqrt(2)
    self._action_spec = action_spec
    self._trunk = []
    if _is_image(spec):
      if conv_layer_params is None:
        conv_layer_params = conv_layers_for(spec)
      _check_convolutions_fit(spec, conv_layer_params)
      for filters, kernel, stride in conv_layer_params:
        self._trunk.append(tf.keras.layers.Conv2D(
            filters, kernel, stride, activation='relu', dtype=policy,
            kernel_initializer=Orthogonal(gain),
        ))
      self._trunk.append(tf.keras.layers.Flatten(dtype=policy))
    def dense(units):
      return tf.keras.layers.Dense(
          units, activation='relu', dtype=policy,
          kernel_initializer=Orthogonal(gain),
      )
    self._trunk.extend(dense(units) for units in fc_layer_params)
    self._final = [dense(units) for units in final_layer_params]
    branch_units = core.output_units if core else fc_layer_params[-1]
    if final_layer_params:
      branch_units = final_layer_params[-1]

    def branch(branch_name):
      return tf.keras.layers.Dense(
          branch_units, activation='relu', dtype=policy,
          kernel_initializer=Orthogonal(0.1), name=branch_name,
      )
    self._policy_branch = branch('policy_branch')
    self._value_branch = branch('value_branch')
    self._policy_heads = [
        _PolicyHead(s, head_gain) for s in tf.nest.flatten(action_spec)
    ]
    self._value_head_ext, self._value_head_int = (
        tf.keras.layers.Dense(
            1, kernel_initializer=Orthogonal(head_gain), name=f'value_{stream}'
        )
        for stream in ('ext', 'int')
    )

  def call(self, observation, step_type=None, network_state=(), training=False):
    """Evaluates policy and values.

    Args:
      observation: `[B, ...]` or `[B, T, ...]`.
      step_type: int32 `[B]` or `[B, T]`; a core's state is zeroed where it is
        FIRST. None: nowhere.
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
    x = _scaled(squash.flatten(observation))
    for layer in self._trunk:
      x = layer(x)
    if self._core is not None:
      x, network_state = self._remembered(
          squash.unflatten(x), step_type, network_state, outer_rank
      )
      x = squash.flatten(x)
    for layer in self._final:
      x = layer(x)
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

  def _remembered(self, features, step_type, state, outer_rank):
    """The core over `[B, n]` or `[B, T, n]`; same shape, and the next state."""
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
    """What only the values use: branch and heads, once they are created."""
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
  """Users' own networks behind the joint network's interface.

  Without an intrinsic value network V_int is 0. The recurrent states travel
  together, as a tuple (actor's, value's, intrinsic value's).
  """

  # The host's experience holds no states: its recurrent networks train from
  # zeros.
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
    """Builds the parts; see the base class."""
    for net in self._nets:
      net.create_variables(input_tensor_spec, **kwargs)
    return super().create_variables(input_tensor_spec, **kwargs)

  def call(self, observation, step_type=None, network_state=(), training=False):
    """As `ActorCriticNetwork.call`, each part evaluated on its own."""
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
  initialisation with gain sqrt 2, zero biases (authors' code).
  """

  def __init__(
      self,
      observation_spec,
      hidden_units=(),
      feature_dim=512,
      conv_layer_params=None,
      fc_layer_params=(256,),
      precision='float32',
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
      name: name of the network.

    Raises:
      ValueError: for an observation that is neither image nor vector.
    """
    super().__init__(observation_spec, state_spec=(), name=name)
    spec = self._input_tensor_spec
    if not isinstance(spec, tf.TensorSpec) or spec.shape.rank not in (1, 3):
      raise ValueError(
          'RNDNetwork takes one image [height, width, channels] or one vector; '
          f'got {spec}. Choose a part of the observation for the bonus.'
      )
    image = _is_image(spec)
    if image:
      if conv_layer_params is None:
        conv_layer_params = conv_layers_for(spec)
      _check_convolutions_fit(spec, conv_layer_params)
    policy = _layer_policy(precision)
    gain = math.sqrt(2)
    self._encoder = encoding_network.EncodingNetwork(
        spec,
        conv_layer_params=conv_layer_params if image else None,
        fc_layer_params=None if image else fc_layer_params,
        activation_fn=leaky_relu,
        kernel_initializer=Orthogonal(gain),
        dtype=policy,
        name='encoder',
    )
    self._hidden = [
        tf.keras.layers.Dense(
            units, activation='relu', dtype=policy,
            kernel_initializer=Orthogonal(gain),
        )
        for units in hidden_units
    ]
    self._features = tf.keras.layers.Dense(
        feature_dim, kernel_initializer=Orthogonal(gain), name='features'
    )

  def call(self, observation, step_type=None, network_state=(), training=False):
    """`[..., *spec.shape]` to features, float32 `[..., k]`."""
    x, _ = self._encoder(observation, training=training)
    for layer in self._hidden:
      x = layer(x)
    return self._features(tf.cast(x, tf.float32)), network_state
