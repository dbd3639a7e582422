"""Random Network Distillation alone, and the order of its stages."""

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.agents.ppo import ppo_agent
from tf_agents.networks import sequential
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts

from rnd_agent import config
from rnd_agent import networks
from rnd_agent import rnd_ppo_agent
from rnd_agent.bonuses import chunks
from rnd_agent.bonuses import rnd as rnd_lib
from rnd_agent.learning import rollout as rollout_lib
from rnd_agent.settings import gin_files

VECTOR = tf.TensorSpec([3], tf.float32)
STACK = tf.TensorSpec([12, 10, 4], tf.uint8)
RGB = tf.TensorSpec([12, 10, 3], tf.uint8)


@pytest.fixture(params=['eager', 'compiled'])
def compiled(request):
  """Wraps a function into `tf.function`, or leaves it."""
  return tf.function if request.param == 'compiled' else (lambda f: f)


@pytest.fixture(autouse=True)
def _seed():
  tf.keras.utils.set_random_seed(0)


def _bonus(spec=VECTOR, feature_dim=512, hidden=(16,), **numbers):
  kwargs = {}
  if spec.shape.rank == 3:
    selected = tf.TensorSpec([12, 10, 1], tf.float32)
    kwargs = {
        name: networks.RNDNetwork(
            selected, units, feature_dim, conv_layer_params=((4, 4, 2),)
        )
        for name, units in (('predictor', hidden), ('target', ()))
    }
  return rnd_lib.RandomNetworkDistillation(
      spec, config.RNDConfig(**numbers), feature_dim=feature_dim,
      predictor_hidden_units=hidden, **kwargs,
  )


def _normal(shape, seed=0, loc=0.0, scale=1.0):
  rng = np.random.default_rng(seed)
  return tf.constant(rng.normal(loc, scale, shape), tf.float32)


def _expected_bonus(rnd, selected, mean, variance):
  """The definition, by hand: statistics, both networks, mean of squares."""
  normalized = np.clip((selected - mean) / np.sqrt(variance + 1e-8), -5, 5)
  prediction, target = (
      net(tf.constant(normalized, tf.float32))[0].numpy().astype(np.float64)
      for net in (rnd.predictor, rnd.target)
  )
  return np.sum((prediction - target) ** 2, axis=-1) / prediction.shape[-1]


def _weights(net):
  return [v.numpy() for v in net.variables]


# ------------------------------------------------------------ what it sees


@pytest.mark.parametrize('spec, frames, frame_channels, seen', [
    (STACK, 1, None, [3]),                       # Grey frames.
    (STACK, 3, None, [1, 2, 3]),
    (STACK, 4, None, [0, 1, 2, 3]),
    (STACK, 1, 2, [2, 3]),                       # Two frames of two channels.
    (STACK, 1, 4, [0, 1, 2, 3]),                 # One picture.
    (RGB, 1, None, [0, 1, 2]),                   # All colours, not blue alone.
    (RGB, 1, 1, [2]),                            # Three grey frames.
    (tf.TensorSpec([12, 10, 6], tf.uint8), 1, 3, [3, 4, 5]),   # Two of RGB.
    (tf.TensorSpec([12, 10, 6], tf.uint8), 1, None, [5]),
    (tf.TensorSpec([5, 5, 6], tf.float32), 1, None, list(range(6))),
    (tf.TensorSpec([5, 5, 6], tf.float32), 1, 2, [4, 5]),
    (VECTOR, 1, None, [0, 1, 2]),
    (VECTOR, 2, 1, [1, 2]),                      # A stack of three numbers.
])
def test_the_bonus_sees_the_newest_frames(spec, frames, frame_channels, seen):
  select = rnd_lib.default_selection(spec, frames, frame_channels)
  shape = [2, 3] + spec.shape.as_list()
  x = np.arange(np.prod(shape)).reshape(shape)
  np.testing.assert_array_equal(select(tf.constant(x)), x[..., seen])
  rnd = rnd_lib.RandomNetworkDistillation(
      spec, stacked_frames=frames, frame_channels=frame_channels
  )
  assert rnd.selected_spec.shape[-1] == len(seen)
  assert rnd.selected_spec.dtype == spec.dtype


@pytest.mark.parametrize('frames', [0, 5])
def test_the_bonus_cannot_see_more_frames_than_there_are(frames):
  with pytest.raises(ValueError, match=f'stacked_frames = {frames}.*holds 4'):
    rnd_lib.RandomNetworkDistillation(STACK, stacked_frames=frames)


# --------------------------------------------------------------- the bonus


def test_bonus_is_the_mean_of_512_squared_errors(compiled):
  rnd = _bonus()
  seen = _normal([6, 7, 3], 1, 2, 3)
  rnd.update_observation_statistics(seen)
  x = _normal([4, 5, 3], 2, 2, 3)
  expected = _expected_bonus(
      rnd, x.numpy().astype(np.float64),
      seen.numpy().astype(np.float64).mean(axis=(0, 1)),
      seen.numpy().astype(np.float64).var(axis=(0, 1)),
  )
  actual = compiled(rnd.bonus)(x)
  assert rnd.target(x)[0].shape[-1] == 512
  np.testing.assert_allclose(actual, expected, rtol=1e-4)
  # All of them differ, so that a transposition would show.
  assert len(np.unique(expected)) == 20


@pytest.mark.parametrize('batch, length, chunk', [
    (4, 5, 10), (4, 5, 3), (4, 5, 7), (3, 7, 8), (6, 2, 4), (5, 3, 1000),
])
def test_chunks_equal_one_pass(monkeypatch, compiled, batch, length, chunk):
  rnd = _bonus(feature_dim=6)
  x = _normal([batch, length, 3], 3)
  rnd.update_observation_statistics(x)
  at_once = rnd.loss(tf.reshape(x, [batch * length, 3]))
  features = rnd.target_features(tf.reshape(x, [batch * length, 3]))
  monkeypatch.setattr(chunks, '_CHUNK', {'CPU': chunk, 'GPU': chunk})
  np.testing.assert_allclose(
      compiled(rnd.bonus)(x), tf.reshape(at_once, [batch, length]), rtol=1e-5
  )
  np.testing.assert_allclose(
      compiled(rnd.all_target_features)(x),
      tf.reshape(features, [batch, length, 6]), atol=1e-5,
  )


def test_bonus_updates_nothing():
  rnd = _bonus(feature_dim=6)
  rnd.update_observation_statistics(_normal([4, 5, 3]))
  before = _weights(rnd)
  rnd.bonus(_normal([4, 5, 3], 1, 7))
  rnd.loss(_normal([4, 3], 1, 7))
  rnd.target_features(_normal([4, 3], 1, 7))
  for old, new in zip(before, _weights(rnd)):
    np.testing.assert_array_equal(old, new)


def test_bonus_looks_at_the_newest_frame_alone(compiled):
  rng = np.random.default_rng(4)
  images = rng.integers(0, 256, [2, 3, *STACK.shape], np.uint8)
  rnd = _bonus(STACK, 6)
  rnd.update_observation_statistics(tf.constant(images))
  assert rnd.observation_normalizer.mean.shape == [12, 10, 1]
  np.testing.assert_allclose(
      rnd.observation_normalizer.mean,
      images[..., 3:].astype(float).mean(axis=(0, 1)), rtol=1e-5,
  )
  bonus = compiled(rnd.bonus)
  before = bonus(tf.constant(images)).numpy()
  older, newest = images.copy(), images.copy()
  older[..., :3] = 255 - older[..., :3]
  newest[..., 3] = 255 - newest[..., 3]
  np.testing.assert_array_equal(bonus(tf.constant(older)), before)
  assert np.abs(bonus(tf.constant(newest)) - before).min() > 1e-4


def test_select_picks_a_part_of_any_observation():
  spec = {'image': STACK, 'place': VECTOR}
  rnd = rnd_lib.RandomNetworkDistillation(
      spec, config.RNDConfig(), select=lambda o: o['place'], feature_dim=4,
      predictor_hidden_units=(5,),
  )
  observation = {
      'image': tf.zeros([2, 3, *STACK.shape], tf.uint8),
      'place': _normal([2, 3, 3]),
  }
  rnd.update_observation_statistics(observation)
  assert rnd.bonus(observation).shape == (2, 3)


def test_networks_of_different_outputs_are_refused():
  with pytest.raises(ValueError, match='one shape'):
    rnd_lib.RandomNetworkDistillation(
        VECTOR, config.RNDConfig(),
        predictor=networks.RNDNetwork(VECTOR, (4,), 5),
        target=networks.RNDNetwork(VECTOR, (), 6),
    )


def test_predictor_and_target_start_apart():
  rnd = _bonus(feature_dim=16, hidden=())
  for a, b in zip(rnd.predictor.variables, rnd.target.variables):
    assert a.shape == b.shape
    if 'kernel' in a.name:
      assert np.abs(a - b).max() > .01


# ---------------------------------------------------------------- training


def test_bonus_falls_where_it_was_trained_and_not_elsewhere():
  """Without any PPO: a known and an unknown cluster of observations."""
  rnd = _bonus(feature_dim=32, hidden=(64,))
  known = _normal([4, 16, 3], 5, [2, 0, -2], .3)
  unknown = _normal([4, 16, 3], 6, [-2, 2, 0], .3)
  rnd.update_observation_statistics(tf.concat([known, unknown], axis=0))
  before = [tf.reduce_mean(rnd.bonus(x)).numpy() for x in (known, unknown)]
  target = _weights(rnd.target)
  statistics = [v.numpy() for v in rnd.observation_normalizer.variables]
  optimizer = tf.keras.optimizers.Adam(1e-2)
  samples = tf.reshape(known, [-1, 3])

  @tf.function
  def train():
    with tf.GradientTape() as tape:
      loss = tf.reduce_mean(rnd.loss(samples))
    variables = rnd.trained_variables
    optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))

  for _ in range(100):
    train()
  after = [tf.reduce_mean(rnd.bonus(x)).numpy() for x in (known, unknown)]
  assert after[0] < .1 * before[0]
  assert after[1] > 5 * after[0]
  for old, new in zip(target, _weights(rnd.target)):
    np.testing.assert_array_equal(old, new)
  for old, new in zip(statistics, rnd.observation_normalizer.variables):
    np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize('given', [True, False])
def test_gradient_reaches_the_predictor_alone(given):
  rnd = _bonus(feature_dim=6)
  rnd.update_observation_statistics(_normal([4, 5, 3]))
  x = _normal([9, 3], 7)
  everything = rnd.predictor.variables + rnd.target.variables
  with tf.GradientTape() as tape:
    for variable in everything:
      tape.watch(variable)
    features = rnd.target_features(x) if given else None
    loss = tf.reduce_mean(rnd.loss(x, features))
  gradients = tape.gradient(loss, everything)
  half = len(rnd.predictor.variables)
  assert all(np.abs(g).max() > 0 for g in gradients[:half])
  assert all(g is None for g in gradients[half:])
  assert not rnd.target.trainable_variables
  assert {v.ref() for v in rnd.trained_variables} == {
      v.ref() for v in rnd.predictor.variables
  }


def test_masked_observations_stay_out_of_the_statistics(compiled):
  rnd = _bonus(feature_dim=4)
  x = _normal([4, 5, 3], 8, 1, 2).numpy()
  mask = np.random.default_rng(9).random([4, 5]) < .6
  compiled(rnd.update_observation_statistics)(
      tf.constant(x), tf.constant(mask, tf.float32)
  )
  np.testing.assert_allclose(
      rnd.observation_normalizer.mean, x[mask].mean(axis=0), atol=1e-5
  )


def test_rewards_are_divided_by_the_new_deviation(compiled):
  """R = 1, 2.99 and 10, 29.9: variance 124.77; boundary rows give 0."""
  rnd = _bonus(feature_dim=4)
  bonuses = tf.constant([[1.0, 2, 7], [10, 20, 7]])
  boundaries = tf.constant([[False, False, True]] * 2)
  steps = rollout_lib.Steps.of_observations(_normal([2, 4, 3]))._replace(
      step_types=tf.constant([[1, 1, 2, 0]] * 2)
  )
  bonuses = tf.where(boundaries, 0.0, bonuses)

  def rewards_of(bonuses):
    rnd.update_statistics(steps, bonuses)
    return rnd.normalized(bonuses)

  rewards = compiled(rewards_of)(bonuses)
  deviation = np.std([1, 2.99, 10, 29.9])
  np.testing.assert_allclose(
      rewards, [[1 / deviation, 2 / deviation, 0],
                [10 / deviation, 20 / deviation, 0]], rtol=1e-5,
  )


# ----------------------------------- networks that gin puts together


def test_encoder_activation_and_layers_by_gin(tmp_path):
  config_file = tmp_path / 'encoder.gin'  # As a run's operative config.
  config_file.write_text('\n'.join([
      'RandomNetworkDistillation.encoder = @RandomEncoder',
      'RandomEncoder.conv_layer_params = ((6, 4, 2),)',
      "RandomEncoder.activation = 'tanh'",
      'RNDNetwork.fc_layer_params = (9, 8)',
      "RNDNetwork.activation = 'tanh'", "RNDNetwork.output_activation = 'tanh'",
      'RandomNetworkDistillation.feature_dim = 7',
      'RandomNetworkDistillation.predictor_hidden_units = ()',
  ]))
  gin_files.parse([str(config_file)])
  rnd = rnd_lib.RandomNetworkDistillation(STACK)
  encoder = rnd.checkpoint_items()['encoder']
  shapes = [v.shape.as_list() for v in encoder.variables]
  assert shapes == [[4, 4, 1, 6], [6]]
  for net in (rnd.predictor, rnd.target):
    assert [v.shape.as_list() for v in net.variables if v.shape.rank == 2] == [
        [5 * 4 * 6, 9], [9, 8], [8, 7]
    ]
  observations = tf.cast(
      tf.random.stateless_uniform([2, 3, 12, 10, 4], [1, 2], 0, 255, tf.int32),
      tf.uint8,
  )
  rnd.update_observation_statistics(observations)
  frames = observations[..., -1:]
  features = rnd.target_features(tf.reshape(frames, [6, 12, 10, 1]))
  # By hand: a convolution and three dense layers, tanh behind each.
  x = rnd.observation_normalizer.normalized(frames)[:, :].numpy().reshape(
      6, 12, 10, 1
  )
  kernel, bias = encoder.variables
  x = np.tanh(tf.nn.conv2d(x, kernel, 2, 'VALID') + bias).reshape(6, -1)
  for w, b in zip(rnd.target.variables[::2], rnd.target.variables[1::2]):
    x = np.tanh(x @ w.numpy() + b.numpy())
  np.testing.assert_allclose(features, x, rtol=1e-4, atol=1e-5)
  # The bonus is of the encoded observation, in both uses.
  by_hand = np.mean((features - rnd.predictor(
      encoder(rnd.observation_normalizer.normalized(
          tf.reshape(frames, [6, 12, 10, 1])
      ))[0]
  )[0]) ** 2, axis=-1).reshape(2, 3)
  np.testing.assert_allclose(rnd.bonus(observations), by_hand, rtol=1e-4)


def test_an_encoder_is_never_trained_and_is_saved(tmp_path):
  gin_files.parse([], [
      'RandomNetworkDistillation.encoder = @RandomEncoder',
      'RNDNetwork.fc_layer_params = (8,)',
  ])
  agent = _agent_of(VECTOR, rnd_lib.RandomNetworkDistillation(VECTOR))
  encoder = agent.bonus.checkpoint_items()['encoder']
  before = [v.numpy() for v in encoder.variables]
  agent.train_rollout(_rollout(np.asarray(_normal([4, 6, 3]))))
  trained = {v.ref() for v in agent.trained_variables}
  assert not trained & {v.ref() for v in encoder.variables}
  for old, variable in zip(before, encoder.variables):
    np.testing.assert_array_equal(variable, old)
  # Another run can start from it: without the encoder its bonus means nothing.
  assert agent.weight_items()['encoder'] is encoder
  assert agent.checkpoint_items()['encoder'] is encoder


# --------------------------------------------------------------- schedules


def test_coefficients_follow_their_schedules():
  rnd = _bonus(
      STACK, 6, intrinsic_coefficient=3.0, extrinsic_coefficient=2.0,
      intrinsic_schedule=((10, 1.0), (10, 0.5)),
      extrinsic_schedule=((0, 1.0), (20, 0.0)),
  )
  agent = _agent_of(STACK, rnd)
  rollout = _rollout(np.zeros([4, 6, 12, 10, 4], np.uint8))
  rewards = _normal([4, 5], seed=3)

  def advantages(env_steps=None):
    if env_steps is not None:
      agent.follow_schedules(env_steps)
    return agent.make_targets(rollout, rewards).advantages.numpy()

  # What each stream has by itself: two equations, at 0 and at 20 steps.
  first, last = advantages(0), advantages(20)
  ext, int_ = (first - 2 * last) / 2, last / 1.5
  assert np.abs(ext).max() > .1 and np.abs(int_).max() > .1
  np.testing.assert_allclose(advantages(5), 1.5 * ext + 3 * int_, rtol=1e-4)
  np.testing.assert_allclose(advantages(10), ext + 1.5 * int_, rtol=1e-4)
  assert agent.follow_schedules(10) == dict(
      learning_rate=pytest.approx(.1), extrinsic_coefficient=1.0,
      intrinsic_coefficient=1.5,
  )
  # Before any schedule is followed the coefficients are the config's.
  fresh = _agent_of(STACK, rnd)
  assert [float(c) for c in fresh._coefficients] == [2.0, 3.0]


def test_a_learning_rate_that_is_the_optimizers_own_has_no_second_schedule():
  decay = tf.keras.optimizers.schedules.ExponentialDecay(1e-3, 10, .9)
  rnd = _bonus()
  action = tensor_spec.BoundedTensorSpec([], tf.int64, 0, 2)

  def agent(**kwargs):
    return rnd_ppo_agent.RNDPPOAgent(
        ts.time_step_spec(VECTOR), action, tf.keras.optimizers.Adam(decay),
        actor_critic_net=networks.ActorCriticNetwork(VECTOR, action), rnd=rnd,
        **kwargs,
    )

  assert agent().follow_schedules(0)['learning_rate'] == pytest.approx(1e-3)
  with pytest.raises(ValueError, match='leave the schedule to the optimizer'):
    agent(learning_rate_schedule=((0, 1.0),))


# ------------------------------------- the order of an iteration, by stages


def _agent(spec, learning_rate=0.0, **numbers):
  rnd = _bonus(spec, 6, predictor_proportion=1.0, **numbers)
  return _agent_of(spec, rnd, learning_rate)


def _agent_of(spec, rnd, learning_rate=0.1):
  action = tensor_spec.BoundedTensorSpec([], tf.int64, 0, 2)
  agent = rnd_ppo_agent.RNDPPOAgent(
      ts.time_step_spec(spec), action,
      tf.keras.optimizers.SGD(learning_rate),
      actor_critic_net=networks.ActorCriticNetwork(
          spec, action, conv_layer_params=((4, 4, 2),), fc_layer_params=(8,)
      ),
      rnd=rnd, num_epochs=1,
  )
  assert isinstance(agent, ppo_agent.PPOAgent)
  return agent


def _rollout(observations, num_actions=3):
  """A rollout without ends around some observations `[B, T + 1, ...]`."""
  batch, length = observations.shape[0], observations.shape[1] - 1
  rng = np.random.default_rng(10)

  def floats(*shape):
    return tf.constant(rng.normal(size=shape), tf.float32)

  return rollout_lib.Rollout(
      observations=tf.constant(observations),
      step_types=tf.ones([batch, length + 1], tf.int32),
      next_step_types=tf.ones([batch, length], tf.int32),
      actions=tf.constant(rng.integers(0, num_actions, [batch, length])),
      rewards=floats(batch, length),
      discounts=tf.ones([batch, length]),
      dist_params={'logits': floats(batch, length, num_actions)},
      values_ext=floats(batch, length + 1),
      values_int=floats(batch, length + 1),
      final_values_ext=tf.zeros([batch, length]),
  )


def test_order_of_an_iteration():
  """Old statistics for the bonus, new ones for the loss (Burda et al.).

  (1) bonus, old; (2) update the observations'; (3) update the returns', then
  divide; (4) train the predictor, new.
  """
  agent = _agent(VECTOR)
  rnd = agent.rnd
  past = _normal([5, 4, 3], 11, 0, 1).numpy()
  rnd.update_observation_statistics(tf.constant(past))
  observations = _normal([4, 6, 3], 12, 3, 2).numpy()
  new = observations[:, 1:]
  everything = np.concatenate(
      [past.reshape([-1, 3]), new.reshape([-1, 3])]
  ).astype(np.float64)
  old_statistics = (past.astype(np.float64).mean(axis=(0, 1)),
                    past.astype(np.float64).var(axis=(0, 1)))
  new_statistics = everything.mean(axis=0), everything.var(axis=0)
  by_old = _expected_bonus(rnd, new, *old_statistics)
  by_new = _expected_bonus(rnd, new, *new_statistics)
  assert np.abs(by_old / by_new - 1).mean() > .05  # they can be told apart

  rollout = _rollout(observations)
  bonuses = agent.intrinsic_bonuses(rollout)
  np.testing.assert_allclose(bonuses, by_old, rtol=1e-4)
  np.testing.assert_allclose(
      rnd.observation_normalizer.mean, old_statistics[0], atol=1e-5
  )
  rewards = agent.update_statistics(rollout, bonuses)
  np.testing.assert_allclose(
      rnd.observation_normalizer.mean, new_statistics[0], atol=1e-5
  )
  np.testing.assert_allclose(
      rnd.observation_normalizer.variance, new_statistics[1], rtol=1e-4
  )
  running, state = np.zeros(by_old.shape), 0
  for t in range(by_old.shape[1]):
    state = .99 * state + by_old[:, t]
    running[:, t] = state
  np.testing.assert_allclose(rewards, by_old / running.std(), rtol=1e-3)
  # A learning rate of 0: the loss is that of the weights as they are.
  info = agent.learn(rollout, agent.make_targets(rollout, rewards))
  np.testing.assert_allclose(
      info.extra.predictor_loss, by_new.mean(), rtol=1e-4
  )


def test_train_rollout_is_its_stages():
  results = []
  for staged in (True, False):
    tf.keras.utils.set_random_seed(3)
    agent = _agent(VECTOR, 0.1)
    rollout = _rollout(_normal([4, 6, 3], 13).numpy())
    if staged:
      bonuses = agent.intrinsic_bonuses(rollout)
      rewards = agent.update_statistics(rollout, bonuses)
      agent.learn(rollout, agent.make_targets(rollout, rewards))
    else:
      agent.train_rollout(rollout)
    results.append([v.numpy() for v in agent.trained_variables])
  for a, b in zip(*results):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize('spec', [VECTOR, STACK])
def test_the_next_observation_earns_the_bonus(spec):
  """o_0 earns nothing, o_T earns the last step's; only the newest frame."""
  rng = np.random.default_rng(14)
  shape = [2, 5, *spec.shape]
  if spec.dtype == tf.uint8:
    observations = rng.integers(0, 256, shape, np.uint8)
  else:
    observations = rng.normal(size=shape).astype(np.float32)
  agent = _agent(spec)
  agent.rnd.update_observation_statistics(tf.constant(observations))
  before = agent.intrinsic_bonuses(_rollout(observations)).numpy()

  def changed(t, frames):
    other = observations.copy()
    other[:, t, ..., frames] = 200 - other[:, t, ..., frames]
    return agent.intrinsic_bonuses(_rollout(other)).numpy() != before

  newest = slice(-1, None)
  assert not changed(0, newest).any()
  for t in range(1, 5):
    np.testing.assert_array_equal(
        changed(t, newest), np.arange(4)[np.newaxis] == [[t - 1]] * 2
    )
  if spec is STACK:
    assert not changed(2, slice(0, 3)).any()


def test_statistics_and_training_use_the_next_observations_too():
  """Whatever o_0 is, statistics and predictor loss are the same."""
  results = []
  for first in (0.0, 50.0):
    tf.keras.utils.set_random_seed(5)
    agent = _agent(VECTOR)
    observations = _normal([4, 6, 3], 15).numpy()
    observations[:, 0] = first
    info = agent.train_rollout(_rollout(observations))
    results.append((
        agent.rnd.observation_normalizer.mean.numpy(),
        info.extra.predictor_loss.numpy(),
    ))
  np.testing.assert_array_equal(results[0][0], results[1][0])
  assert results[0][1] == results[1][1]


def test_the_bonus_leaves_a_predictor_of_ones_own_as_it_is():
  """Dropout is for training alone, and so is what batch statistics learn."""
  predictor = sequential.Sequential([
      tf.keras.layers.Dense(8), tf.keras.layers.BatchNormalization(),
      tf.keras.layers.Dropout(.5), tf.keras.layers.Dense(4),
  ], input_spec=VECTOR)
  rnd = rnd_lib.RandomNetworkDistillation(
      VECTOR, predictor=predictor,
      target=networks.RNDNetwork(VECTOR, (), 4),
  )
  observations = _normal([2, 5, 3])
  rnd.update_observation_statistics(observations)
  before = [v.numpy().copy() for v in predictor.variables]
  first, second = rnd.bonus(observations), rnd.bonus(observations)
  np.testing.assert_array_equal(first, second)
  for old, new in zip(before, predictor.variables):
    np.testing.assert_array_equal(old, new)
  rnd.loss(tf.reshape(observations, [-1, 3]))
  assert any(
      np.any(old != new.numpy())
      for old, new in zip(before, predictor.variables)
  )


def test_rewards_may_stay_as_they_are():
  """The statistics of returns go on all the same: they are logged."""
  rnd = _bonus(normalize_rewards=False)
  rnd.build(2)
  steps = rollout_lib.Steps.of_observations(_normal([2, 6, 3]))
  rewards = rnd.rewards(steps)
  np.testing.assert_array_equal(
      rnd.normalized_after_update(steps, rewards), rewards
  )
  rnd.update_statistics(steps, rewards)
  np.testing.assert_array_equal(rnd.normalized(rewards), rewards)
  assert float(rnd.return_normalizer.standard_deviation) > 0
  # With the statistics of now they would be others.
  assert not np.allclose(rnd.return_normalizer.normalized(rewards), rewards)
