"""The networks: shapes, initialisation, one pass, action specs, precision."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from tf_agents.networks import actor_distribution_network
from tf_agents.networks import value_network
from tf_agents.specs import tensor_spec
from tf_agents.utils import common

from rnd_agent import networks
from rnd_agent.layers import trunk

IMAGE = tf.TensorSpec([84, 84, 4], tf.uint8)
SMALL_IMAGE = tf.TensorSpec([12, 10, 2], tf.uint8)
VECTOR = tf.TensorSpec([5], tf.float32)
DISCRETE = tensor_spec.BoundedTensorSpec([], tf.int64, 0, 3)
SMALL_CONVS = ((4, 4, 2), (8, 3, 1))


def _joint(observation=VECTOR, action=DISCRETE, **kwargs):
  kwargs = {'fc_layer_params': (16, 12), 'head_gain': 1.0,
            'conv_layer_params': SMALL_CONVS, **kwargs}
  net = networks.ActorCriticNetwork(observation, action, **kwargs)
  net.create_variables(observation)
  return net


def _rnd(spec, hidden_units=(), feature_dim=512, **kwargs):
  net = networks.RNDNetwork(spec, hidden_units, feature_dim, **kwargs)
  net.create_variables(spec)
  return net


def _assert_orthogonal(kernel, gain):
  """Rows or columns, whichever are fewer, are orthogonal of length `gain`."""
  matrix = np.reshape(kernel, [-1, kernel.shape[-1]])
  if matrix.shape[0] > matrix.shape[1]:
    matrix = matrix.T
  np.testing.assert_allclose(
      matrix @ matrix.T, gain**2 * np.eye(len(matrix)), atol=2e-4 * gain
  )


def _kernels(net):
  return [v.numpy() for v in net.variables if 'kernel' in v.name]


def _biases(net):
  return [v.numpy() for v in net.variables if 'bias' in v.name]


# ---------------------------------------------------- the paper's network


@pytest.fixture(scope='module')
def atari_network():
  net = networks.ActorCriticNetwork(
      IMAGE, tensor_spec.BoundedTensorSpec([], tf.int64, 0, 17)
  )
  net.create_variables(IMAGE)
  return net


def test_policy_network_has_the_papers_layers(atari_network):
  """84 -> 20 -> 9 -> 7; 7 * 7 * 64 = 3136 -> 256 -> 448, branches, heads."""
  root = 2**.5
  expected = [
      ((8, 8, 4, 32), root), ((4, 4, 32, 64), root), ((3, 3, 64, 64), root),
      ((3136, 256), root), ((256, 448), root),
      ((448, 448), .1), ((448, 448), .1),
      ((448, 18), .01), ((448, 1), .01), ((448, 1), .01),
  ]
  kernels = _kernels(atari_network)
  assert sorted(k.shape for k in kernels) == sorted(s for s, _ in expected)
  for kernel in kernels:
    gain, = {g for s, g in expected if s == kernel.shape}
    _assert_orthogonal(kernel, gain)
  assert len(_biases(atari_network)) == len(kernels)
  assert all(not b.any() for b in _biases(atari_network))


def test_layers_do_not_share_their_initial_values(atari_network):
  branches = [k for k in _kernels(atari_network) if k.shape == (448, 448)]
  heads = [k for k in _kernels(atari_network) if k.shape == (448, 1)]
  assert np.abs(branches[0] - branches[1]).max() > .01
  assert np.abs(heads[0] - heads[1]).max() > 1e-4


def test_predictor_and_target_have_the_papers_layers():
  spec = tf.TensorSpec([84, 84, 1], tf.float32)
  convolutions = [(8, 8, 1, 32), (4, 4, 32, 64), (3, 3, 64, 64)]
  target, predictor = _rnd(spec), _rnd(spec, (512, 512))
  assert [k.shape for k in _kernels(target)] == convolutions + [(3136, 512)]
  assert [k.shape for k in _kernels(predictor)] == convolutions + [
      (3136, 512), (512, 512), (512, 512)
  ]
  for net in (target, predictor):
    for kernel in _kernels(net):
      _assert_orthogonal(kernel, 2**.5)
    assert all(not b.any() for b in _biases(net))
  square = [k for k in _kernels(predictor) if k.shape == (512, 512)]
  assert np.abs(square[0] - square[1]).max() > .01
  for a, b in zip(_kernels(target), _kernels(predictor)):
    assert np.abs(a - b).max() > .01


def test_rnd_network_equals_plain_operations():
  """Leaky ReLU of slope .2 after convolutions, ReLU in hidden layers.

  Biases are drawn here, so that all of them take part.
  """
  spec = tf.TensorSpec([12, 10, 1], tf.float32)
  net = _rnd(spec, (9, 7), 6, conv_layer_params=SMALL_CONVS)
  rng = np.random.default_rng(0)
  for bias in net.variables:
    if 'bias' in bias.name:
      bias.assign(rng.normal(size=bias.shape))
  x = tf.constant(rng.normal(size=[3, 12, 10, 1]), tf.float32)
  (c1, c2, d1, d2, d3), (b1, b2, e1, e2, e3) = _kernels(net), _biases(net)

  def convolution(x, kernel, bias, stride):
    y = tf.nn.conv2d(x, kernel, stride, 'VALID').numpy() + bias
    return np.where(y > 0, y, .2 * y)

  y = convolution(convolution(x, c1, b1, 2), c2, b2, 1).reshape([3, -1])
  y = np.maximum(y @ d1 + e1, 0)
  y = np.maximum(y @ d2 + e2, 0)
  np.testing.assert_allclose(net(x)[0], y @ d3 + e3, atol=1e-4)


def test_actor_critic_equals_plain_operations():
  """relu convolutions, dense; x + relu(dense x) per branch; linear heads."""
  net = _joint(SMALL_IMAGE)
  rng = np.random.default_rng(1)
  for variable in net.variables:
    if 'bias' in variable.name:
      variable.assign(rng.normal(size=variable.shape))
  image = rng.integers(0, 256, [3, 12, 10, 2], np.uint8)
  (distribution, value_ext, value_int), _ = net(tf.constant(image))

  layers = {v.name.split(':')[0]: v.numpy() for v in net.variables}

  def dense(x, name):
    kernel, = (v for k, v in layers.items() if f'{name}/kernel' in k)
    bias, = (v for k, v in layers.items() if f'{name}/bias' in k)
    return x @ kernel + bias

  def relu(x):
    return np.maximum(x, 0)

  (c1, c2, d1, d2), (b1, b2, e1, e2) = _kernels(net)[:4], _biases(net)[:4]
  x = image.astype(np.float32) / 255
  x = relu(tf.nn.conv2d(x, c1, 2, 'VALID').numpy() + b1)
  x = relu(tf.nn.conv2d(x, c2, 1, 'VALID').numpy() + b2)
  x = relu(relu(x.reshape([3, -1]) @ d1 + e1) @ d2 + e2)
  for_policy = x + relu(dense(x, 'policy_branch'))
  for_values = x + relu(dense(x, 'value_branch'))
  np.testing.assert_allclose(
      distribution.logits, dense(for_policy, 'policy_parameters'), atol=1e-4
  )
  for value, name in ((value_ext, 'value_ext'), (value_int, 'value_int')):
    np.testing.assert_allclose(
        value, dense(for_values, name)[:, 0], atol=1e-4
    )


def test_float_observations_are_not_scaled():
  net = _joint(tf.TensorSpec([12, 10, 2], tf.float32))
  same = _joint(SMALL_IMAGE)
  for a, b in zip(net.variables, same.variables):
    b.assign(a)
  image = np.random.default_rng(2).integers(0, 256, [2, 12, 10, 2], np.uint8)
  _, scaled, _ = same(tf.constant(image))[0]
  _, plain, _ = net(tf.constant(image / 255, tf.float32))[0]
  np.testing.assert_allclose(plain, scaled, atol=1e-5)


# ----------------------------------------------------- outputs and views


def test_one_pass_gives_what_the_views_give():
  net = _joint(SMALL_IMAGE)
  image = tf.constant(
      np.random.default_rng(3).integers(0, 256, [3, 12, 10, 2], np.uint8)
  )
  (distribution, value_ext, value_int), _ = net(image)
  actor, value = net.actor_view, net.value_view
  for view in (actor, value):
    view.create_variables(SMALL_IMAGE)
    assert {v.ref() for v in view.variables} == {
        v.ref() for v in net.variables
    }
  np.testing.assert_array_equal(actor(image)[0].logits, distribution.logits)
  np.testing.assert_array_equal(value(image)[0], value_ext)
  assert np.abs(value_ext - value_int).max() > 1e-4


@pytest.mark.parametrize('compiled', [False, True])
@pytest.mark.parametrize('spec', [SMALL_IMAGE, VECTOR])
def test_batch_and_time_agree_with_batch_alone(spec, compiled):
  net = _joint(spec)
  call = tf.function(lambda x: net(x)[0][0].logits) if compiled else (
      lambda x: net(x)[0][0].logits
  )
  values = tf.function(lambda x: net(x)[0][1:]) if compiled else (
      lambda x: net(x)[0][1:]
  )
  x = tf.cast(
      np.random.default_rng(4).integers(0, 256, [2, 3, *spec.shape]),
      spec.dtype,
  )
  together, (both_ext, both_int) = call(x), values(x)
  assert together.shape == (2, 3, 4)
  assert both_ext.shape == both_int.shape == (2, 3)
  for t in range(3):
    ext, intrinsic = values(x[:, t])
    assert ext.shape == (2,)
    np.testing.assert_allclose(call(x[:, t]), together[:, t], rtol=1e-4,
                               atol=1e-4)
    np.testing.assert_allclose(ext, both_ext[:, t], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(intrinsic, both_int[:, t], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('spec', [tf.TensorSpec([12, 10, 1], tf.float32),
                                  VECTOR])
def test_rnd_network_takes_batch_and_time(spec):
  net = _rnd(spec, (8,), 6, conv_layer_params=SMALL_CONVS)
  x = tf.random.stateless_normal([2, 3, *spec.shape], seed=[1, 2])
  together, _ = net(x)
  assert together.shape == (2, 3, 6)
  np.testing.assert_allclose(net(x[:, 1])[0], together[:, 1], atol=1e-5)


# -------------------------------------------------------------- actions


def _log_softmax(logits):
  logits = logits - logits.max(axis=-1, keepdims=True)
  return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def test_multi_discrete_actions():
  spec = tensor_spec.BoundedTensorSpec([3], tf.int32, 0, 4)
  distribution = _joint(action=spec)(tf.ones([2, 5]))[0][0]
  sample = distribution.sample()
  assert sample.shape == (2, 3) and sample.dtype == tf.int32
  choices = getattr(distribution, 'distribution', distribution)
  log_probs = _log_softmax(choices.logits.numpy())
  assert log_probs.shape == (2, 3, 5)
  expected = [
      sum(log_probs[b, i, sample.numpy()[b, i]] for i in range(3))
      for b in range(2)
  ]
  np.testing.assert_allclose(
      common.log_probability(distribution, sample, spec), expected, rtol=1e-5
  )
  np.testing.assert_allclose(
      common.entropy(distribution, spec),
      -(np.exp(log_probs) * log_probs).sum(axis=(1, 2)), rtol=1e-5,
  )


@pytest.mark.parametrize('shape', [[], [1], [2]])
def test_continuous_actions(shape):
  spec = tensor_spec.BoundedTensorSpec(shape, tf.float32, -1, 1)
  net = _joint(action=spec)
  net_log_std, = (v for v in net.trainable_variables if 'log_std' in v.name)
  net_log_std.assign(np.linspace(-1, .5, net_log_std.shape[0]))
  std = np.exp(net_log_std.numpy())
  distribution = net(tf.ones([3, 5]))[0][0]
  sample = distribution.sample()
  assert sample.shape == [3] + shape and sample.dtype == tf.float32
  loc = np.reshape(distribution.mean(), [3, -1])
  z = (np.reshape(sample, [3, -1]) - loc) / std
  expected = (-z**2 / 2 - np.log(std) - .5 * np.log(2 * np.pi)).sum(axis=1)
  np.testing.assert_allclose(
      common.log_probability(distribution, sample, spec), expected, rtol=1e-4
  )
  np.testing.assert_allclose(
      common.entropy(distribution, spec),
      [np.sum(np.log(std) + .5 * np.log(2 * np.pi * np.e))] * 3, rtol=1e-5,
  )


def test_nested_actions():
  spec = {
      'move': DISCRETE,
      'turn': (tensor_spec.BoundedTensorSpec([2], tf.float32, -1, 1),),
  }
  net = _joint(action=spec)
  distribution, value, _ = net(tf.ones([2, 4, 5]))[0]
  assert isinstance(distribution['move'], tfp.distributions.Categorical)
  sample = tf.nest.map_structure(lambda d: d.sample(), distribution)
  assert sample['move'].shape == (2, 4)
  assert sample['turn'][0].shape == (2, 4, 2)
  assert value.shape == (2, 4)
  assert common.log_probability(distribution, sample, spec).shape == (2, 4)


def _one_line(info, *words):
  # gin adds a line that names the configurable.
  message, *rest = str(info.value).splitlines()
  assert all('In call to configurable' in line for line in rest)
  for word in words:
    assert word in message


@pytest.mark.parametrize('low, high', [(1, 3), (0, [2, 4])])
def test_unsupported_discrete_actions_are_one_clear_line(low, high):
  spec = tensor_spec.BoundedTensorSpec([2], tf.int64, low, high)
  with pytest.raises(ValueError) as info:
    _joint(action=spec)
  _one_line(info, 'action spec', 'equally many')


@pytest.mark.parametrize('spec', [
    tf.TensorSpec([], tf.float32), tf.TensorSpec([3, 4], tf.float32),
    {'a': VECTOR, 'b': tf.TensorSpec([3, 4], tf.float32)},
])
def test_unsupported_observations_are_one_clear_line(spec):
  with pytest.raises(ValueError) as info:
    networks.ActorCriticNetwork(spec, DISCRETE)
  _one_line(info, 'image', 'vector', 'actor_net')
  with pytest.raises(ValueError) as info:
    networks.RNDNetwork(spec)
  _one_line(info, 'image', 'vector')


@pytest.mark.parametrize('height', range(1, 90))
def test_unset_convolutions_fit_images_of_any_size(height):
  for width in (height, height + 13):
    spec = tf.TensorSpec([height, width, 5], tf.float32)
    layers = networks.conv_layers_for(spec)
    trunk.checked_conv_layers(spec, layers)
    sides = [height, width]
    for _, kernel, stride in layers:
      sides = [(side - kernel) // stride + 1 for side in sides]
    assert sides[0] <= 9  # What is left does not swamp the dense layer.
    assert (layers == networks.NATURE_CONV_LAYERS) == (height >= 36)


@pytest.mark.parametrize('shape, layers', [
    ([84, 84, 4], networks.NATURE_CONV_LAYERS),
    ([35, 84, 4], ((32, 4, 2), (64, 3, 2), (64, 3, 1))),
    ([16, 16, 24], ((32, 3, 2), (64, 2, 1), (64, 2, 1))),
    ([7, 7, 24], ((32, 2, 1), (64, 2, 1), (64, 2, 1))),
    ([3, 9, 2], ((64, 1, 1),)),
])
def test_unset_convolutions_of_some_sizes(shape, layers):
  spec = tf.TensorSpec(shape, tf.float32)
  nets = networks.ActorCriticNetwork(spec, DISCRETE), networks.RNDNetwork(spec)
  for net in nets:
    net.create_variables(spec)
    kernels = [v.shape.as_list() for v in net.variables if v.shape.rank == 4]
    assert [(k[3], k[0]) for k in kernels] == [(f, k) for f, k, _ in layers]


def test_wrong_sizes_are_one_clear_line():
  small = tf.TensorSpec([20, 30, 1], tf.float32)
  for build in (
      lambda: networks.ActorCriticNetwork(
          small, DISCRETE, conv_layer_params=networks.NATURE_CONV_LAYERS
      ),
      lambda: networks.RNDNetwork(
          small, conv_layer_params=networks.NATURE_CONV_LAYERS
      ),
  ):
    with pytest.raises(ValueError) as info:
      build()
    _one_line(info, '(20, 30, 1)', '64, 4, 2', 'frame_size')
  with pytest.raises(ValueError) as info:
    networks.ActorCriticNetwork(VECTOR, DISCRETE, fc_layer_params=())
  _one_line(info, 'fc_layer_params')
  with pytest.raises(ValueError) as info:
    networks.ActorCriticNetwork(VECTOR, DISCRETE, precision='float16')
  _one_line(info, 'float16', 'mixed_bfloat16')


# ---------------------------------------------------------- final layers


def test_final_layers_without_a_core_are_further_dense_layers():
  x = tf.random.stateless_normal([3, 5], seed=[1, 3])
  together = _joint(fc_layer_params=(16, 12, 9, 7))
  apart = _joint(fc_layer_params=(16, 12), final_layer_params=(9, 7))
  assert len(together.variables) == len(apart.variables)
  for a, b in zip(together.variables, apart.variables):
    b.assign(a)
  (a, *values), _ = together(x)
  (b, *others), _ = apart(x)
  np.testing.assert_array_equal(a.logits, b.logits)
  np.testing.assert_array_equal(values, others)


def test_final_layers_lie_between_core_and_branches():
  net = _joint(core=tf.keras.layers.GRUCell(6), final_layer_params=(9, 7))
  shapes = [k.shape for k in _kernels(net)]
  for shape in ((6, 9), (9, 7), (7, 7), (7, 4), (7, 1)):
    assert shape in shapes
  assert shapes.count((7, 7)) == 2 and (6, 6) not in shapes
  for kernel in _kernels(net):
    if kernel.shape in ((6, 9), (9, 7)):
      _assert_orthogonal(kernel, 2**.5)
  x = tf.random.stateless_normal([2, 4, 5], seed=[1, 4])

  def outputs():
    (distribution, *values), _ = net(x, tf.ones([2, 4], tf.int32))
    return np.stack([distribution.logits[..., 0], *values])

  assert np.ptp(outputs(), axis=(1, 2)).min() > 1e-4
  first, = (v for v in net.variables if v.shape == (6, 9))
  first.assign(tf.zeros([6, 9]))
  assert np.ptp(outputs(), axis=(1, 2)).max() == 0


def test_by_default_there_are_no_final_layers():
  assert [v.shape for v in _joint().variables] == [
      v.shape for v in _joint(final_layer_params=()).variables
  ]
  assert len(_kernels(_joint())) == 7


@pytest.mark.parametrize('core', [None, tf.keras.layers.LSTMCell(6)])
def test_value_variables_are_those_that_only_the_values_need(core):
  net = _joint(core=core, final_layer_params=(9,))
  x = tf.random.stateless_normal([3, 5], seed=[1, 5])
  with tf.GradientTape(persistent=True) as tape:
    (distribution, value_ext, value_int), _ = net(x)
    policy = tf.reduce_sum(distribution.logits[:, 0])
    values = tf.reduce_sum(value_ext + value_int)
  variables = net.trainable_variables
  of_policy = tape.gradient(policy, variables)
  of_values = tape.gradient(values, variables)
  alone = {
      v.ref() for v, p, w in zip(variables, of_policy, of_values)
      if p is None and w is not None
  }
  assert {v.ref() for v in net.value_variables} == alone
  assert len(alone) == 6


# ------------------------------------------------------------- precision


def test_mixed_bfloat16_trunk_and_float32_heads():
  tf.keras.utils.set_random_seed(0)  # The rounding depends on the weights.
  exact = _joint(SMALL_IMAGE)
  mixed = _joint(SMALL_IMAGE, precision='mixed_bfloat16')
  for a, b in zip(exact.variables, mixed.variables):
    assert b.dtype == tf.float32
    b.assign(a)
  image = tf.constant(
      np.random.default_rng(5).integers(0, 256, [8, 12, 10, 2], np.uint8)
  )
  results = []
  for net in (exact, mixed):
    (distribution, value_ext, value_int), _ = net(image)
    results.append((distribution.logits, value_ext, value_int))
    assert all(x.dtype == tf.float32 for x in results[-1])
    assert distribution.log_prob(distribution.sample()).dtype == tf.float32
  for a, b in zip(*results):
    scale = np.abs(a).max()
    np.testing.assert_allclose(a, b, atol=.05 * scale)
    # It is bfloat16 that was measured.
    assert np.abs(a - b).max() > 1e-5 * scale


def test_mixed_bfloat16_bonus_networks():
  tf.keras.utils.set_random_seed(0)
  spec = tf.TensorSpec([12, 10, 1], tf.float32)
  nets = [
      _rnd(spec, (16,), 32, conv_layer_params=SMALL_CONVS, precision=p)
      for p in networks.PRECISIONS
  ]
  for a, b in zip(nets[0].variables, nets[1].variables):
    assert b.dtype == tf.float32
    b.assign(a)
  x = tf.random.stateless_normal([8, 12, 10, 1], seed=[3, 4])
  a, b = (net(x)[0] for net in nets)
  assert a.dtype == b.dtype == tf.float32
  np.testing.assert_allclose(a, b, atol=.03 * np.abs(a).max())
  assert np.abs(a - b).max() > 1e-5


# ------------------------------------------------------ users' own networks


def test_separate_networks_behind_the_joint_interface():
  actor = actor_distribution_network.ActorDistributionNetwork(
      VECTOR, DISCRETE, fc_layer_params=(6,)
  )
  nets = [value_network.ValueNetwork(VECTOR, fc_layer_params=(6,))
          for _ in range(2)]
  x = tf.random.stateless_normal([3, 5], seed=[5, 6])
  step_types = tf.ones([3], tf.int32)
  joint = networks.SeparateActorCritic(actor, *nets)
  joint.create_variables(VECTOR)
  (distribution, value_ext, value_int), state = joint(x, step_types, ())
  assert state == ()
  np.testing.assert_array_equal(
      distribution.logits, actor(x, step_types, ())[0].logits
  )
  np.testing.assert_array_equal(value_ext, nets[0](x, step_types, ())[0])
  np.testing.assert_array_equal(value_int, nets[1](x, step_types, ())[0])
  alone = networks.SeparateActorCritic(actor, nets[0])
  np.testing.assert_array_equal(alone(x, step_types, ())[0][2], np.zeros(3))
