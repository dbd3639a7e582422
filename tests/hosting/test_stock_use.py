"""The agent inside stock TF-Agents code: drivers, buffers, learner, saver."""

import os
import pathlib
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.agents.ppo import ppo_clip_agent
from tf_agents.drivers import dynamic_step_driver
from tf_agents.drivers import py_driver
from tf_agents.environments import tf_py_environment
from tf_agents.networks import actor_distribution_network
from tf_agents.networks import actor_distribution_rnn_network
from tf_agents.networks import value_network
from tf_agents.networks import value_rnn_network
from tf_agents.policies import policy_saver
from tf_agents.policies import py_tf_eager_policy
from tf_agents.replay_buffers import tf_uniform_replay_buffer
from tf_agents.specs import tensor_spec
from tf_agents.train import ppo_learner
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory
from tf_agents.utils import common

from rnd_agent import networks
from rnd_agent import rnd_ppo_agent
from rnd_agent.bonuses import rnd as rnd_lib
from rnd_agent.config import RNDConfig
from rnd_agent.environments import single

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_OBSERVATION = tf.TensorSpec([3], tf.float32)
_DISCRETE = tensor_spec.BoundedTensorSpec([], tf.int64, 0, 3)


def _own_networks(observation_spec, action_spec, **kwargs):
  """The networks that users of the host bring."""
  fc = dict(fc_layer_params=(8,), **kwargs)
  return (
      actor_distribution_network.ActorDistributionNetwork(
          observation_spec, action_spec, **fc
      ),
      value_network.ValueNetwork(observation_spec, **fc),
  )


def _bonus(observation_spec, **kwargs):
  return rnd_lib.RandomNetworkDistillation(
      observation_spec, RNDConfig(), feature_dim=8,
      predictor_hidden_units=(8,), **kwargs
  )


def _agent(time_step_spec, action_spec, joint=True, **kwargs):
  tf.keras.utils.set_random_seed(1)
  if joint:
    kwargs['actor_critic_net'] = networks.ActorCriticNetwork(
        time_step_spec.observation, action_spec, fc_layer_params=(8, 8)
    )
  agent = rnd_ppo_agent.RNDPPOAgent(
      time_step_spec, action_spec, tf.keras.optimizers.Adam(1e-3),
      rnd=_bonus(time_step_spec.observation), num_epochs=2, **kwargs
  )
  agent.initialize()
  return agent


def _cartpole():
  return tf_py_environment.TFPyEnvironment(
      single.GymnasiumPyEnvironment(
          gymnasium.make('CartPole-v1', max_episode_steps=200)
      )
  )


def _weights(agent):
  return [v.numpy() for v in agent.trained_variables]


def _assert_trains(agent, experience):
  """Every variable gets a gradient: policy, both values, predictor."""
  before = _weights(agent)
  loss_info = agent.train(experience)
  assert np.isfinite(loss_info.loss.numpy())
  unchanged = [
      v.name for a, v in zip(before, agent.trained_variables)
      if np.array_equal(a, v.numpy())
  ]
  assert not unchanged
  return loss_info


# ------------------------------------------------- equal to stock where right


def _experience(info_spec, batch=3, rows=9):
  """MID steps only; the last two observations are alike, so that the host's
  bootstrap V(o_{T-1}) is V(o_T)."""
  rng = np.random.default_rng(0)
  observation = rng.normal(size=(batch, rows, 3)).astype(np.float32)
  observation[:, -1] = observation[:, -2]
  ones = np.ones([batch, rows], np.float32)
  info = tf.nest.map_structure(
      lambda s: tf.constant(
          rng.normal(size=(batch, rows, *s.shape)).astype(np.float32)
      ), info_spec,
  )
  value = info['value_prediction'].numpy()
  value[:, -1] = value[:, -2]
  info['value_prediction'] = tf.constant(value)
  mid = np.full([batch, rows], ts.StepType.MID, np.int32)
  return tf.nest.map_structure(tf.constant, trajectory.Trajectory(
      mid, observation, rng.integers(0, 4, [batch, rows]), info, mid,
      rng.normal(size=[batch, rows]).astype(np.float32), ones,
  ))


@pytest.mark.parametrize('value_clipping', [None, 0.2])
def test_five_updates_equal_stock_ppo_without_the_bonus(value_clipping):
  """On steps without ends or padding, with advantages normalized, the host is
  right, and both must end with the same weights."""
  weights = {}
  for name, cls, kwargs in (
      ('stock', ppo_clip_agent.PPOClipAgent, {}),
      ('ours', rnd_ppo_agent.RNDPPOAgent,
       dict(normalize_advantages=True, kl_cutoff_factor=0.0,
            initial_adaptive_kl_beta=0.0)),
  ):
    tf.keras.utils.set_random_seed(3)
    actor, value = _own_networks(_OBSERVATION, _DISCRETE)
    agent = cls(
        ts.time_step_spec(_OBSERVATION), _DISCRETE,
        tf.keras.optimizers.Adam(0.01), actor, value,
        importance_ratio_clipping=0.2, entropy_regularization=0.01,
        lambda_value=0.9, discount_factor=0.95, num_epochs=5, use_gae=True,
        use_td_lambda_return=True, normalize_rewards=False,
        normalize_observations=False, gradient_clipping=0.5,
        value_clipping=value_clipping, value_pred_loss_coef=0.7,
        update_normalizers_in_train=False,
        compute_value_and_advantage_in_train=False, **kwargs,
    )
    agent.initialize()
    start = [v.numpy() for v in actor.variables + value.variables]
    experience = agent.preprocess_sequence(
        _experience(agent.collect_policy.info_spec)
    )
    # The padded last row is what the host gets wrong.
    agent.train(tf.nest.map_structure(lambda x: x[:, :-1], experience))
    weights[name] = [v.numpy() for v in actor.variables + value.variables]
    assert not np.allclose(start[0], weights[name][0], atol=1e-3)
  for ours, stock in zip(weights['ours'], weights['stock']):
    np.testing.assert_allclose(ours, stock, atol=2e-6)


# ----------------------------------------------------------- drivers, buffers


@pytest.mark.slow
@pytest.mark.parametrize('values_in_train', [False, True])
@pytest.mark.parametrize('joint', [False, True])
def test_a_step_driver_and_a_uniform_buffer(values_in_train, joint):
  environment = _cartpole()
  kwargs = {}
  if not joint:
    spec = environment.observation_spec()
    kwargs['actor_net'], kwargs['value_net'] = _own_networks(
        spec, environment.action_spec()
    )
    kwargs['intrinsic_value_net'] = value_network.ValueNetwork(
        spec, fc_layer_params=(8,), name='IntrinsicValueNetwork'
    )
  agent = _agent(
      environment.time_step_spec(), environment.action_spec(), joint=joint,
      compute_value_and_advantage_in_train=values_in_train, **kwargs,
  )
  buffer = tf_uniform_replay_buffer.TFUniformReplayBuffer(
      agent.collect_data_spec, batch_size=1, max_length=300
  )
  # Its episodes end after 200 steps at the latest.
  driver = dynamic_step_driver.DynamicStepDriver(
      environment, agent.collect_policy, [buffer.add_batch], num_steps=210
  )
  driver.run()
  experience = buffer.gather_all()
  assert experience.is_boundary().numpy().any()
  experience = agent.preprocess_sequence(experience)
  _assert_trains(agent, experience)
  _assert_trains(agent, experience)


@pytest.mark.slow
def test_compiled_training_equals_eager():
  results = []
  for wrap in (lambda f: f, common.function):
    environment = _cartpole()
    agent = _agent(
        environment.time_step_spec(), environment.action_spec(),
        generator=tf.random.Generator.from_seed(0),
    )
    experience = agent.preprocess_sequence(
        _boundary_experience(agent, environment)
    )
    wrap(agent.train)(experience)
    results.append(_weights(agent))
  for eager, compiled in zip(*results):
    np.testing.assert_allclose(eager, compiled, atol=1e-6)


def _boundary_experience(agent, environment, garbage=0.0):
  """Two episode ends, each with a boundary row that may hold garbage."""
  rng = np.random.default_rng(5)
  rows = 12
  step_types = np.array([[0, 1, 1, 2, 0, 1, 1, 1, 2, 0, 1, 1]], np.int32)
  next_types = np.array([[1, 1, 2, 0, 1, 1, 1, 2, 0, 1, 1, 1]], np.int32)
  boundary = step_types == 2
  spec = agent.collect_data_spec
  info = tf.nest.map_structure(
      lambda s: rng.normal(size=(1, rows, *s.shape)).astype(np.float32),
      spec.policy_info,
  )
  action = rng.integers(0, 2, [1, rows])
  reward = rng.normal(size=[1, rows]).astype(np.float32)
  discount = np.where(next_types == 2, 0.0, 1.0).astype(np.float32)
  observation = rng.normal(size=(1, rows, 4)).astype(np.float32)
  action[boundary] = int(garbage > 0)
  reward[boundary] = garbage
  discount[boundary] = 0.5 if garbage else 1.0
  observation[boundary] += garbage
  for part in tf.nest.flatten(info):
    part[boundary] = garbage
  return tf.nest.map_structure(tf.constant, trajectory.Trajectory(
      step_types, observation, action, info, next_types, reward, discount
  ))


@pytest.mark.parametrize('values_in_train', [False, True])
def test_garbage_in_boundary_rows_changes_nothing(values_in_train):
  """Both ends terminate, so that the boundary rows' observations, values,
  rewards, actions and discounts must not matter at all."""
  results = []
  for garbage in (0.0, 50.0):
    environment = _cartpole()
    agent = _agent(
        environment.time_step_spec(), environment.action_spec(),
        compute_value_and_advantage_in_train=values_in_train,
        generator=tf.random.Generator.from_seed(0),
    )
    experience = _boundary_experience(agent, environment, garbage)
    agent.train(agent.preprocess_sequence(experience))
    results.append(_weights(agent))
  for without, with_garbage in zip(*results):
    np.testing.assert_array_equal(without, with_garbage)


def test_preprocessing_changes_no_variable():
  environment = _cartpole()
  agent = _agent(environment.time_step_spec(), environment.action_spec())
  experience = _boundary_experience(agent, environment)
  def state():
    bonus = agent.rnd
    return _weights(agent) + [
        v.numpy() for v in bonus.observation_normalizer._statistics()
    ] + [bonus.return_normalizer.variance.numpy()]
  before = state()
  first = agent.preprocess_sequence(experience)
  second = agent.preprocess_sequence(experience)
  for a, b in zip(before, state()):
    np.testing.assert_array_equal(a, b)
  for a, b in zip(tf.nest.flatten(first), tf.nest.flatten(second)):
    np.testing.assert_array_equal(a, b)


def test_a_py_driver():
  py_environment = single.GymnasiumPyEnvironment(gymnasium.make('CartPole-v1'))
  environment = tf_py_environment.TFPyEnvironment(py_environment)
  agent = _agent(environment.time_step_spec(), environment.action_spec())
  rows = []
  policy = py_tf_eager_policy.PyTFEagerPolicy(
      agent.collect_policy, use_tf_function=True
  )
  driver = py_driver.PyDriver(
      py_environment, policy, [rows.append], max_steps=40
  )
  driver.run(py_environment.reset())
  experience = tf.nest.map_structure(
      lambda *x: tf.constant(np.stack(x)[np.newaxis]), *rows
  )
  _assert_trains(agent, agent.preprocess_sequence(experience))


@pytest.mark.slow
def test_the_learner_with_minibatches(tmp_path):
  environment = _cartpole()
  agent = _agent(
      environment.time_step_spec(), environment.action_spec(),
      update_normalizers_in_train=False,
      compute_value_and_advantage_in_train=False,
      train_step_counter=tf.Variable(0, dtype=tf.int64),
  )
  buffer = tf_uniform_replay_buffer.TFUniformReplayBuffer(
      agent.collect_data_spec, batch_size=1, max_length=65
  )
  dynamic_step_driver.DynamicStepDriver(
      environment, agent.collect_policy, [buffer.add_batch], num_steps=64
  ).run()

  def dataset():
    data = tf.data.Dataset.from_tensors(buffer.gather_all())
    return data.map(lambda x: (agent.preprocess_sequence(x), ()))

  learner = ppo_learner.PPOLearner(
      str(tmp_path), agent.train_step_counter, agent, dataset, dataset,
      num_samples=1, num_epochs=2, minibatch_size=16,
      shuffle_buffer_size=100,
  )
  before = _weights(agent)
  loss_info = learner.run()
  assert np.isfinite(loss_info.loss.numpy())
  assert not np.array_equal(before[0], _weights(agent)[0])
  # The learner's hook has updated the bonus's statistics.
  assert agent.rnd.observation_normalizer.count.numpy() > 30
  assert agent.rnd.return_normalizer.variance.numpy() > 0


# ------------------------------------------------------------ users' own specs


def test_recurrent_networks_of_the_user():
  """The host's RNN networks, three states side by side in the policy state."""
  environment = _cartpole()
  spec, action_spec = environment.observation_spec(), environment.action_spec()
  sizes = dict(
      input_fc_layer_params=(4,), lstm_size=(3,), output_fc_layer_params=(4,)
  )
  agent = _agent(
      environment.time_step_spec(), action_spec, joint=False,
      actor_net=actor_distribution_rnn_network.ActorDistributionRnnNetwork(
          spec, action_spec, **sizes
      ),
      value_net=value_rnn_network.ValueRnnNetwork(spec, **sizes),
      intrinsic_value_net=value_rnn_network.ValueRnnNetwork(
          spec, name='IntrinsicValue', **sizes
      ),
  )
  assert len(tf.nest.flatten(agent.collect_policy.policy_state_spec)) == 6
  buffer = tf_uniform_replay_buffer.TFUniformReplayBuffer(
      agent.collect_data_spec, batch_size=1, max_length=50
  )
  dynamic_step_driver.DynamicStepDriver(
      environment, agent.collect_policy, [buffer.add_batch], num_steps=30
  ).run(policy_state=agent.collect_policy.get_initial_state(1))
  _assert_trains(agent, buffer.gather_all())


def test_reverb():
  """Fixed-length sequences from a Reverb table, with boundary rows inside."""
  reverb = pytest.importorskip('reverb', reason='the extra [reverb]')
  from tf_agents.replay_buffers import reverb_replay_buffer
  from tf_agents.replay_buffers import reverb_utils

  py_environment = single.GymnasiumPyEnvironment(gymnasium.make('CartPole-v1'))
  environment = tf_py_environment.TFPyEnvironment(py_environment)
  agent = _agent(environment.time_step_spec(), environment.action_spec())
  signature = tensor_spec.add_outer_dim(
      tensor_spec.from_spec(agent.collect_data_spec)
  )
  table = reverb.Table(
      'rollouts', reverb.selectors.Fifo(), reverb.selectors.Fifo(),
      max_size=10, rate_limiter=reverb.rate_limiters.MinSize(1),
      max_times_sampled=1, signature=signature,
  )
  server = reverb.Server([table], port=None)
  try:
    buffer = reverb_replay_buffer.ReverbReplayBuffer(
        agent.collect_data_spec, sequence_length=20, table_name='rollouts',
        local_server=server,
    )
    observer = reverb_utils.ReverbAddTrajectoryObserver(
        buffer.py_client, 'rollouts', sequence_length=20, stride_length=19
    )
    policy = py_tf_eager_policy.PyTFEagerPolicy(
        agent.collect_policy, use_tf_function=True
    )
    py_driver.PyDriver(py_environment, policy, [observer], max_steps=80).run(
        py_environment.reset()
    )
    dataset = buffer.as_dataset(sample_batch_size=1, num_steps=20)
    experience, _ = next(iter(dataset))
    _assert_trains(agent, experience)
  finally:
    server.stop()


def test_nested_observations_with_a_chosen_part_for_the_bonus():
  spec = {
      'image': tf.TensorSpec([12, 12, 2], tf.uint8),
      'vector': tf.TensorSpec([3], tf.float32),
  }
  kwargs = dict(
      preprocessing_layers={
          'image': tf.keras.Sequential([
              tf.keras.layers.Rescaling(1 / 255),
              tf.keras.layers.Flatten(), tf.keras.layers.Dense(4),
          ]),
          'vector': tf.keras.layers.Dense(4),
      },
      preprocessing_combiner=tf.keras.layers.Add(),
  )
  actor, value = _own_networks(spec, _DISCRETE, **kwargs)
  agent = rnd_ppo_agent.RNDPPOAgent(
      ts.time_step_spec(spec), _DISCRETE, tf.keras.optimizers.Adam(1e-3),
      actor, value,
      intrinsic_value_net=_own_networks(spec, _DISCRETE, **kwargs)[1],
      rnd=_bonus(spec, select=lambda o: o['vector']), num_epochs=1,
  )
  agent.initialize()
  rng = np.random.default_rng(0)
  rows = []
  for _ in range(5):
    observation = {
        'image': tf.constant(rng.integers(0, 255, [2, 12, 12, 2], np.uint8)),
        'vector': tf.constant(rng.normal(size=[2, 3]).astype(np.float32)),
    }
    rows.append(_row(agent, ts.restart(observation, batch_size=2)))
  experience = tf.nest.map_structure(lambda *x: tf.stack(x, 1), *rows)
  _assert_trains(agent, agent.preprocess_sequence(experience))


def _row(agent, time_steps):
  step = agent.collect_policy.action(time_steps)
  return trajectory.mid(
      time_steps.observation, step.action, step.info, tf.random.normal([2]),
      tf.ones([2]),
  )


@pytest.mark.parametrize('action_spec', [
    tensor_spec.BoundedTensorSpec([2], tf.float32, -1, 1),
    tensor_spec.BoundedTensorSpec([], tf.float32, -1, 1),
    tensor_spec.BoundedTensorSpec([3], tf.int64, 0, 4),
    {'turn': tensor_spec.BoundedTensorSpec([2], tf.float32, -1, 1),
     'fire': tensor_spec.BoundedTensorSpec([], tf.int32, 0, 1)},
], ids=['continuous', 'scalar', 'multi-discrete', 'nested'])
def test_actions_of_every_kind(action_spec):
  agent = _agent(ts.time_step_spec(_OBSERVATION), action_spec)
  time_steps = ts.restart(tf.random.normal([2, 3]), batch_size=2)
  rows = [_row(agent, time_steps) for _ in range(5)]
  experience = tf.nest.map_structure(lambda *x: tf.stack(x, 1), *rows)
  _assert_trains(agent, agent.preprocess_sequence(experience))


def test_missing_or_doubled_networks_are_clear_errors():
  time_step_spec = ts.time_step_spec(_OBSERVATION)
  actor, value = _own_networks(_OBSERVATION, _DISCRETE)
  joint = networks.ActorCriticNetwork(_OBSERVATION, _DISCRETE)
  with pytest.raises(TypeError, match='actor_critic_net'):
    rnd_ppo_agent.RNDPPOAgent(time_step_spec, _DISCRETE, actor_net=actor)
  with pytest.raises(ValueError, match='intrinsic_value_net'):
    rnd_ppo_agent.RNDPPOAgent(
        time_step_spec, _DISCRETE, None, actor, value, rnd=_bonus(_OBSERVATION)
    )
  with pytest.raises(ValueError, match='without a bonus'):
    rnd_ppo_agent.RNDPPOAgent(
        time_step_spec, _DISCRETE, None, actor, value, intrinsic_value_net=value
    )
  with pytest.raises(TypeError, match='as actor_critic_net'):
    rnd_ppo_agent.RNDPPOAgent(time_step_spec, _DISCRETE, None, joint, value)
  with pytest.raises(TypeError, match='must be a Bonus'):
    rnd_ppo_agent.RNDPPOAgent(
        time_step_spec, _DISCRETE, actor_critic_net=joint, rnd=RNDConfig()
    )
  with pytest.raises(ValueError, match='not both'):
    rnd_ppo_agent.RNDPPOAgent(
        time_step_spec, _DISCRETE, None, actor, value, actor_critic_net=joint
    )


@pytest.mark.parametrize('spec', [
    (_OBSERVATION, _OBSERVATION), ts.time_step_spec(_OBSERVATION),
    tensor_spec.to_array_spec(_OBSERVATION),
], ids=['nest', 'time step', 'array spec'])
def test_a_wrong_spec_for_the_bonus_is_a_clear_error(spec):
  with pytest.raises(ValueError, match='TensorSpec of one observation'):
    _bonus(spec)


def test_experience_that_cannot_be_trained_on_is_a_clear_error():
  environment = _cartpole()
  specs = environment.time_step_spec(), environment.action_spec()
  agent = _agent(*specs, compute_value_and_advantage_in_train=False)
  experience = _boundary_experience(agent, environment)
  with pytest.raises(ValueError, match='preprocess_sequence'):
    agent.train(experience)
  agent = _agent(*specs)
  experience = _boundary_experience(agent, environment)
  with pytest.raises(ValueError, match='at least 2 time steps'):
    agent.train(tf.nest.map_structure(lambda x: x[:, :1], experience))
  with pytest.raises(ValueError, match='dimension of time'):
    agent.rnd.update_observation_statistics(experience.observation[0])


# ------------------------------------------------------- saving and restoring


@pytest.mark.slow
def test_an_exported_policy_runs_without_this_package(tmp_path):
  """Greedy and collect: the same actions for the same observations, the
  generator's state being part of the export."""
  agent = _agent(
      ts.time_step_spec(_OBSERVATION), _DISCRETE,
      generator=tf.random.Generator.from_seed(7),
  )
  observations = np.random.default_rng(0).normal(size=(16, 3)).astype('f')
  for name, policy in (
      ('greedy', agent.policy), ('collect', agent.collect_policy)
  ):
    policy_saver.PolicySaver(policy).save(str(tmp_path / name))
  np.save(tmp_path / 'observations.npy', observations)
  program = f'''
import sys
sys.modules['rnd_agent'] = None  # Not installed, as far as Python can tell.
import numpy as np
import tensorflow as tf
import tf_agents.policies
from tf_agents.trajectories import time_step as ts
for name in ('greedy', 'collect'):
  policy = tf.saved_model.load(r'{tmp_path}/' + name)
  observations = tf.constant(np.load(r'{tmp_path}/observations.npy'))
  step = policy.action(ts.restart(observations, 16))
  print(name, *step.action.numpy())
'''
  result = subprocess.run(
      [sys.executable, '-c', program], capture_output=True, text=True,
      cwd=tmp_path, env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3'},
  )
  assert result.returncode == 0, result.stderr
  printed = {
      line.split()[0]: [int(x) for x in line.split()[1:]]
      for line in result.stdout.splitlines()
  }
  step = ts.restart(tf.constant(observations), 16)
  assert printed['greedy'] == list(agent.policy.action(step).action.numpy())
  assert printed['collect'] == list(
      agent.collect_policy.action(step).action.numpy()
  )
  assert len(set(printed['collect'])) > 1


def test_the_hosts_checkpointer_restores_an_agent(tmp_path):
  agents = []
  for seed in (1, 2):
    tf.keras.utils.set_random_seed(seed)
    environment = _cartpole()
    agents.append(rnd_ppo_agent.RNDPPOAgent(
        environment.time_step_spec(), environment.action_spec(),
        tf.keras.optimizers.Adam(1e-3),
        actor_critic_net=networks.ActorCriticNetwork(
            environment.observation_spec(), environment.action_spec(),
            fc_layer_params=(8,),
        ),
        rnd=_bonus(environment.observation_spec()),
    ))
  trained, fresh = agents
  trained.train(trained.preprocess_sequence(
      _boundary_experience(trained, environment)
  ))
  common.Checkpointer(str(tmp_path), agent=trained).save(0)
  fresh.rnd.return_normalizer.build(1)
  common.Checkpointer(str(tmp_path), agent=fresh).initialize_or_restore()
  for a, b in zip(
      _weights(trained) + [v.numpy() for v in trained.rnd.target.variables]
      + [v.numpy() for v in trained._optimizer.variables],
      _weights(fresh) + [v.numpy() for v in fresh.rnd.target.variables]
      + [v.numpy() for v in fresh._optimizer.variables],
  ):
    np.testing.assert_array_equal(a, b)
  np.testing.assert_array_equal(
      trained.rnd.return_normalizer.memory, fresh.rnd.return_normalizer.memory
  )


def test_summaries(tmp_path):
  environment = _cartpole()
  agent = _agent(
      environment.time_step_spec(), environment.action_spec(),
      train_step_counter=tf.Variable(0, dtype=tf.int64),
      debug_summaries=True, summarize_grads_and_vars=True,
  )
  with tf.summary.create_file_writer(str(tmp_path)).as_default():
    agent.train(agent.preprocess_sequence(
        _boundary_experience(agent, environment)
    ))
  tags = set()
  for path in tmp_path.glob('events*'):
    for event in tf.compat.v1.train.summary_iterator(str(path)):
      tags |= {value.tag for value in event.summary.value}
  assert 'Losses/predictor_loss' in tags and 'Losses/value_loss_int' in tags
  assert 'Targets/returns_int' in tags
  assert any(t.startswith('Variables/') and 'kernel' in t for t in tags)


_DETERMINISTIC = '''
import gymnasium
import rnd_agent
from rnd_agent import ActorCriticNetwork, RNDPPOAgent
from rnd_agent.environments import single
import tensorflow as tf
from tf_agents.environments import tf_py_environment

tf.config.experimental.enable_op_determinism()
if {seed}:
  tf.random.set_seed({seed})
cart = single.GymnasiumPyEnvironment(gymnasium.make('CartPole-v1'))
env = tf_py_environment.TFPyEnvironment(cart)
network = ActorCriticNetwork(env.observation_spec(), env.action_spec())
agent = RNDPPOAgent(
    env.time_step_spec(), env.action_spec(), actor_critic_net=network,
    optimizer=tf.keras.optimizers.Adam(1e-3))
step = env.current_time_step()
print([int(agent.collect_policy.action(step).action[0]) for _ in range(40)])
'''


@pytest.mark.slow
def test_op_determinism_follows_the_seed_of_tensorflow():
  def run(seed):
    return subprocess.run(
        [sys.executable, '-c', _DETERMINISTIC.format(seed=seed)], text=True,
        capture_output=True, timeout=120, cwd=_ROOT,
    )

  one, same, other = run(1), run(1), run(2)
  assert one.returncode == 0, one.stderr
  assert one.stdout == same.stdout != other.stdout
  assert 'e.g. by calling tf.random.set_seed' in run(0).stderr
