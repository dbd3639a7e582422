"""An image beside other parts, from the environment to the bonus."""

from gymnasium import spaces
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.environments import utils
from tf_agents.specs import tensor_spec
import toy_environments

from rnd_agent import config
from rnd_agent import networks
from rnd_agent.bonuses import rnd
from rnd_agent.environments import sharded
from rnd_agent.environments import single
from rnd_agent.environments import states
from rnd_agent.environments import suites

_IMAGE = toy_environments.CAMERA
_STACK_FIRST = spaces.Box(0, 255, (4, 30, 40), np.uint8)


def _plain(given):
  """The observations that networks should read, of what Robot gave."""
  cameras, vectors = zip(*given)
  return np.stack(cameras), np.stack(vectors).astype(np.float32)


def _stacked(observations):
  return (
      np.stack([o['camera'] for o in observations]),
      np.stack([o['vector'] for o in observations]),
  )


def _assert_equal(actual, expected):
  for one, other in zip(actual, expected, strict=True):
    assert one.dtype == other.dtype
    np.testing.assert_array_equal(one, other)


def test_an_image_keeps_its_name_and_all_else_is_one_vector():
  env = suites.make(toy_environments.robot, seed=3)
  assert dict(env.observation_space.spaces) == {
      'camera': _IMAGE,
      'vector': spaces.Box(
          np.float32([-1, -1, 0, 0, 0, 0]), np.ones(6, np.float32)
      ),
  }
  robot_env = env.unwrapped
  robot_env.given.clear()
  seen = [env.reset()[0]] + [env.step(1)[0] for _ in range(4)]
  _assert_equal(_stacked(seen), _plain(robot_env.given))


@pytest.mark.parametrize('space, parts', [
    (spaces.Dict(a=_IMAGE, b=spaces.Dict(c=_STACK_FIRST, d=spaces.Discrete(2))),
     {'a': _IMAGE.shape, 'b/c': (30, 40, 4), 'vector': (2,)}),
    (spaces.Tuple([spaces.Box(0, 1, (2, 2)), _STACK_FIRST]),
     {'1': (30, 40, 4), 'vector': (4,)}),
    (spaces.Dict(left=_IMAGE, right=_IMAGE),
     {'left': _IMAGE.shape, 'right': _IMAGE.shape}),
    (spaces.Dict(mask=spaces.Box(0, 1, (6, 6, 2), bool), x=spaces.Discrete(3)),
     {'mask': (6, 6, 2), 'vector': (3,)}),
])
def test_names_of_parts(space, parts):
  class Samples(toy_environments.Robot):
    observation_space = space

    def _observation(self):
      return space.sample()

  env = suites.make(lambda seed: Samples())
  seen = env.observation_space
  assert {name: part.shape for name, part in seen.items()} == parts
  assert seen.contains(env.reset()[0])
  assert suites.check_environment(lambda seed: Samples()) == seen


@pytest.mark.parametrize('space, line', [
    (spaces.Dict(vector=_IMAGE, x=spaces.Discrete(3)), "named 'vector'"),
    (spaces.Dict(a=_IMAGE, b=spaces.Box(0, 1, (2, 3, 4, 5))),
     r'shape \(2, 3, 4, 5\)'),
    (spaces.Dict(a=_IMAGE, b=spaces.Text(4)), 'Text'),
    (spaces.Dict(a=_IMAGE, b=spaces.Box(0, 1, (0, 3, 3))), 'nothing to see'),
    (spaces.Dict(a=_IMAGE, b=spaces.Box(0, 255, (3, 7, 7), np.uint8)),
     'channels_first = True'),
])
def test_what_has_no_place_is_one_line(space, line):
  class Samples(toy_environments.Robot):
    observation_space = space

    def _observation(self):
      return space.sample()

  with pytest.raises(ValueError, match=line) as caught:
    suites.check_environment(lambda seed: Samples())
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('option', [
    {'grayscale': True}, {'frame_size': 84}, {'stacked_frames': 4},
    {'scale_observation': True},
])
def test_changes_of_one_part_are_refused(option):
  with pytest.raises(ValueError, match='one part, here are camera, v'):
    suites.make(toy_environments.robot, suites.EnvironmentConfig(**option))


def _alone(seed, actions):
  """The robot itself: what it gives until every action is taken."""
  env = toy_environments.Robot()
  env.reset(seed=seed)
  env.given.clear()
  env.reset()
  for action in actions:
    if any(env.step(action)[2:4]):
      env.reset()
  return _plain(env.given)


@pytest.mark.parametrize('workers, groups', [(1, 1), (2, 1), (2, 2)])
def test_shared_memory_holds_every_part(workers, groups):
  env = sharded.ShardedPyEnvironment(
      toy_environments.robot, 4, workers, seed=5, num_groups=groups
  )
  try:
    spec = env.observation_spec()
    assert spec['camera'].shape == _IMAGE.shape
    assert spec['vector'].shape == (6,)
    actions = np.random.default_rng(0).integers(3, size=(30, 4))
    seen = [env.reset().observation]
    finals = [[] for _ in range(4)]
    for row in actions:
      for group, rows in enumerate(env.groups):
        env.send(row[rows], group)
      for group, rows in enumerate(env.groups):
        transition = env.receive(group)
        for i in np.flatnonzero(transition.ended):
          finals[rows.start + i].append({
              name: part[i].copy()
              for name, part in transition.final_observations.items()
          })
      seen.append(env.current_time_step().observation)
    seeds = sharded.shares.environment_seeds(5, 4)
    for i, seed in enumerate(seeds):
      given = _alone(seed, actions[:, i])
      # What ended an episode is not acted on, so not among the observations.
      length = toy_environments.Robot.LENGTH
      is_last = np.arange(len(given[0])) % (length + 1) == length
      own = [
          {name: part[i] for name, part in observation.items()}
          for observation in seen
      ]
      _assert_equal(_stacked(own), [part[~is_last] for part in given])
      _assert_equal(_stacked(finals[i]), [part[is_last] for part in given])
  finally:
    env.close()


def test_saved_states_hold_every_part():
  env = sharded.ShardedPyEnvironment(toy_environments.robot, 3, 2, seed=1)
  other = sharded.ShardedPyEnvironment(toy_environments.robot, 3, 1, seed=9)
  try:
    env.reset()
    for _ in range(8):
      env.step(np.array([0, 1, 2]))
    saved = states.decode(states.encode(env.get_state()), 3)
    assert other.set_state(saved) == {}
    for _ in range(8):
      one, two = (e.current_time_step() for e in (env, other))
      tf.nest.map_structure(np.testing.assert_array_equal, one, two)
      env.step(np.array([2, 1, 0]))
      other.step(np.array([2, 1, 0]))
  finally:
    env.close()
    other.close()


def test_the_adapter_takes_nests_as_they_are():
  env = single.GymnasiumPyEnvironment(toy_environments.Robot())
  utils.validate_py_environment(env, episodes=3)
  kept = [env.reset().observation] + [env.step(0).observation for _ in '1234']
  assert set(kept[0]) == {'camera', 'arm', 'gear'}
  for step, given in zip(kept, env._env.given[-5:], strict=True):
    np.testing.assert_array_equal(step['camera'], given[0])


# ----------------------------------------------------- networks and the bonus

_ACTION = tensor_spec.BoundedTensorSpec((), tf.int64, 0, 2)
_SPEC = {
    'camera': tf.TensorSpec((12, 10, 3), tf.uint8),
    'vector': tf.TensorSpec((6,), tf.float32),
}


def _observations(batch, seed=0):
  random = np.random.default_rng(seed)
  return {
      'camera': tf.constant(
          random.integers(256, size=(*batch, 12, 10, 3)), tf.uint8
      ),
      'vector': tf.constant(random.normal(size=(*batch, 6)), tf.float32),
  }


@pytest.mark.parametrize('units', [(16,), (16, 8), (16, 8, 4)])
@pytest.mark.parametrize('precision', ['float32', 'mixed_bfloat16'])
def test_each_part_has_a_torso(units, precision):
  net = networks.ActorCriticNetwork(
      _SPEC, _ACTION, fc_layer_params=units, precision=precision
  )
  net.create_variables()
  shapes = [tuple(v.shape) for v in net.trainable_variables]
  assert (6, 16) in shapes  # The vector's.
  assert sum(len(shape) == 4 for shape in shapes) == 3  # The camera's.
  if len(units) > 1:
    assert (32, units[1]) in shapes
  observations = _observations([2, 5])
  with tf.GradientTape() as tape:
    (policy, ext, intrinsic), _ = net(observations)
    total = tf.reduce_sum(policy.logits ** 2) + tf.reduce_sum(ext + intrinsic)
  assert policy.logits.shape == (2, 5, 3) and ext.shape == (2, 5)
  gradients = tape.gradient(total, net.trainable_variables)
  assert all(float(tf.linalg.global_norm([g])) > 0 for g in gradients)
  for part in _SPEC:
    changed = dict(observations, **{part: _observations([2, 5], 1)[part]})
    (other, _, _), _ = net(changed)
    assert np.abs(other.logits - policy.logits).max() > 0


def test_parts_are_joined_before_the_shared_layers():
  """A slow transcription with the network's own weights."""
  net = networks.ActorCriticNetwork(_SPEC, _ACTION, fc_layer_params=(5, 4))
  net.create_variables()
  observations = _observations([3])
  weights = [v.numpy() for v in net.trainable_variables]
  *convolutions, dense = [
      (weights[2 * i], weights[2 * i + 1]) for i in range(4)
  ]
  layers = networks.conv_layers_for(_SPEC['camera'])
  image = observations['camera'].numpy() / np.float32(255)
  for (kernel, bias), (_, _, stride) in zip(convolutions, layers, strict=True):
    image = np.maximum(tf.nn.conv2d(image, kernel, stride, 'VALID') + bias, 0)
  image = np.maximum(image.reshape(3, -1) @ dense[0] + dense[1], 0)
  vector = np.maximum(
      observations['vector'].numpy() @ weights[8] + weights[9], 0
  )
  x = np.concatenate([image, vector], -1) @ weights[10] + weights[11]
  x = np.maximum(x, 0)
  x = x + np.maximum(x @ weights[12] + weights[13], 0)
  logits = x @ weights[16] + weights[17]
  actual = net(observations)[0][0].logits
  np.testing.assert_allclose(
      tf.nn.log_softmax(actual), tf.nn.log_softmax(logits), atol=1e-5
  )


def test_a_network_of_a_matrix_is_refused():
  with pytest.raises(ValueError, match='images .* and vectors; got'):
    networks.ActorCriticNetwork(
        dict(_SPEC, matrix=tf.TensorSpec((2, 3))), _ACTION
    )


def _bonus(spec=None, **arguments):
  return rnd.RandomNetworkDistillation(
      spec or _SPEC, config.RNDConfig(), feature_dim=4,
      predictor_hidden_units=(5,), **arguments,
  )


@pytest.mark.parametrize('select, part', [
    (None, 'camera'), ('camera', 'camera'), ('vector', 'vector'),
])
def test_the_bonus_looks_at_one_part(select, part):
  bonus = _bonus(select=select)
  assert bonus.selected_spec.shape == _SPEC[part].shape
  bonus.update_observation_statistics(_observations([4, 9], 2))
  observations, others = (_observations([2, 3], seed) for seed in (0, 1))
  before = bonus.bonus(observations)
  for name in _SPEC:
    changed = dict(observations, **{name: others[name]})
    same = np.array_equal(bonus.bonus(changed), before)
    assert same == (name != part)


def test_all_channels_of_a_part_unless_told():
  spec = dict(_SPEC, camera=tf.TensorSpec((12, 10, 8), tf.uint8))
  assert _bonus(spec).selected_spec.shape == (12, 10, 8)
  assert _bonus(spec, frame_channels=1).selected_spec.shape == (12, 10, 1)


@pytest.mark.parametrize('spec, select, line', [
    (_SPEC, 'arm', "select = 'arm': .* no such part, .*'camera', 'vector'"),
    ({'a': _SPEC['vector'], 'b': _SPEC['vector']}, None, "select;.*'a', 'b'"),
    ({'a': _SPEC['camera'], 'b': _SPEC['camera']}, None, "select;.*'a', 'b'"),
    (_SPEC['camera'], 'camera', "select = 'camera': .* no named parts"),
])
def test_what_cannot_be_selected_is_one_line(spec, select, line):
  with pytest.raises(ValueError, match=line):
    _bonus(spec, select=select)
