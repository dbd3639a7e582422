"""The agent in a `MirroredStrategy`: replicas train as one agent would.

TensorFlow must be told of two logical devices before it starts, so every test
is a process of its own.
"""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

_START = '''
import sys
import numpy as np
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices('CPU')[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)
from tf_agents.specs import tensor_spec
from tf_agents.train import ppo_learner
from tf_agents.trajectories import time_step as ts
import rnd_agent

SPEC = tf.TensorSpec([3], tf.float32)
ACTIONS = tensor_spec.BoundedTensorSpec([], tf.int32, 0, 2)
strategy = tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])


def make_agent(**kwargs):
  return rnd_agent.RNDPPOAgent(
      ts.time_step_spec(SPEC), ACTIONS, tf.keras.optimizers.Adam(1e-2),
      actor_critic_net=rnd_agent.ActorCriticNetwork(
          SPEC, ACTIONS, fc_layer_params=(8, 8)
      ),
      bonus=rnd_agent.RandomNetworkDistillation(
          SPEC, rnd_agent.RNDConfig(predictor_proportion=1.0), feature_dim=4,
          predictor_hidden_units=(8,),
      ),
      train_step_counter=tf.Variable(0, dtype=tf.int64), **kwargs
  )


def make_experience(agent, seed, batch=8, rows=6):
  """A stream without ends: every environment counts as many steps."""
  rng = np.random.default_rng(seed)
  experience = tf.nest.map_structure(
      lambda s: tf.constant(
          rng.normal(size=[batch, rows, *s.shape]).astype(s.dtype.name)
          if s.dtype == tf.float32
          else np.ones([batch, rows, *s.shape], s.dtype.name)
      ), agent.collect_data_spec,
  )
  return experience._replace(discount=tf.ones([batch, rows]))


def states(agent):
  """All variables but the running returns of the environments."""
  memory = agent.bonus.return_normalizer._memory
  return [
      v for v in tf.nest.flatten([
          agent.trained_variables, agent._optimizer.variables,
          agent.bonus.target.variables,
          agent.bonus.observation_normalizer.variables,
          agent.bonus.return_normalizer.statistics.variables,
          [n.variables for n in (agent._observation_normalizer,
                                 agent._reward_normalizer) if n],
          [agent.train_step_counter],
          [v for v in [agent._adaptive_kl_beta] if v is not None],
      ]) if v is not memory
  ]


def assert_replicas_equal(agent):
  for variable in states(agent):
    first, second = strategy.experimental_local_results(variable)
    assert first.device != second.device, variable.name
    np.testing.assert_array_equal(first, second, variable.name)
'''

# Minibatch 1 of one agent is environments 0 to 3, of the replicas 0, 1 and
# 2, 3.
_AS_ONE = _START + '''
numbers = dict(
    num_epochs=1, num_minibatches=2, gradient_clipping=0.5,
    normalize_observations=True, normalize_rewards=True,
    initial_adaptive_kl_beta=1.0,
)
with strategy.scope():
  agent = make_agent(**numbers)
alone = make_agent(**numbers)
for to, value in zip(states(agent), states(alone)):
  to.assign(value)

@tf.function
def train(experience):
  return strategy.run(TRAIN[0], args=(experience,))

train_alone = tf.function(TRAIN[1])
shares = ([0, 1, 4, 5], [2, 3, 6, 7])
for seed in range(3):
  whole = make_experience(alone, seed)
  parts = [
      tf.nest.map_structure(lambda x: tf.gather(x, share), whole)
      for share in shares
  ]
  PREPARE
  expected = train_alone(whole)
  losses = train(strategy.experimental_distribute_values_from_function(
      lambda context: parts[context.replica_id_in_sync_group]
  ))
  assert_replicas_equal(agent)
  for one, two in zip(
      tf.nest.flatten(expected), tf.nest.flatten(losses)
  ):
    np.testing.assert_allclose(
        sum(strategy.experimental_local_results(two)), one,
        rtol=1e-3, atol=1e-6,
    )
  for one, two in zip(states(alone), states(agent)):
    # A step of Adam is 1e-2, whatever the gradient.
    np.testing.assert_allclose(two, one, 1e-3, 1e-4, err_msg=one.name)
assert agent.train_step_counter.numpy() == 6
memory = agent.bonus.return_normalizer._memory
for share, returns in zip(shares, strategy.experimental_local_results(memory)):
  np.testing.assert_allclose(
      returns, tf.gather(alone.bonus.return_normalizer.memory, share),
      rtol=1e-4,
  )
'''

_LEARNER = _START + '''
with strategy.scope():
  agent = make_agent(
      compute_value_and_advantage_in_train=False,
      update_normalizers_in_train=False, num_epochs=1,
  )
agent.initialize()

def dataset():
  experience = make_experience(agent, 0)
  return tf.data.Dataset.from_tensors(experience).repeat().map(
      lambda e: (agent.preprocess_sequence(e), ())
  )

learner = ppo_learner.PPOLearner(
    sys.argv[1], agent.train_step_counter, agent, dataset, dataset,
    num_samples=1, num_epochs=4, minibatch_size=8, shuffle_buffer_size=100,
    strategy=strategy,
)
before = [v.numpy() for v in agent.trained_variables]
for _ in range(2):
  assert np.isfinite(learner.run().loss.numpy())
assert_replicas_equal(agent)
assert agent.bonus.observation_normalizer.count.numpy() > 50
for old, new in zip(before, agent.trained_variables):
  assert not np.array_equal(old, new.numpy()), new.name
'''


def _run(script, *args):
  result = subprocess.run(
      [sys.executable, '-c', script, *map(str, args)],
      capture_output=True, text=True, timeout=300,
      env=dict(os.environ, CUDA_VISIBLE_DEVICES=''),
  )
  assert result.returncode == 0, result.stderr[-3000:]


@pytest.mark.parametrize('train, prepare', [
    ('(agent.train, alone.train)', 'pass'),
    ('(agent.train_rollout, alone.train_rollout)',
     'whole, *parts = map(alone._rollout_of, (whole, *parts))'),
])
def test_two_replicas_train_as_one_agent(train, prepare):
  """On half of the environments each, by weights, statistics and losses."""
  _run(_AS_ONE.replace('TRAIN', train).replace('PREPARE', prepare))


def test_the_hosts_learner_trains_replicas(tmp_path):
  _run(_LEARNER, tmp_path)
