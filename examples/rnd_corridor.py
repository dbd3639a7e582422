"""`ppo_corridor.py` with Random Network Distillation.

20 cells, a reward at the far end only; in every cell one of four actions leads
forward, the others back. With the bonus the return goes to 1.
"""

# ruff: noqa: I001
# With TensorFlow from 2.16 on, this package comes before
# tf.keras is used, since it chooses Keras 2, which TF-Agents needs.
import rnd_agent
from rnd_agent.environments.vector import sharded

from absl import app
from absl import flags
import tensorflow as tf
from tf_agents.drivers import dynamic_step_driver
from tf_agents.environments import tf_py_environment
from tf_agents.metrics import tf_metrics
from tf_agents.networks import actor_distribution_network
from tf_agents.networks import value_network
from tf_agents.replay_buffers import tf_uniform_replay_buffer
from tf_agents.utils import common

_ITERATIONS = flags.DEFINE_integer('iterations', 60, 'Of 1024 steps each.')
_SEED = flags.DEFINE_integer('seed', 1, 'Of everything random.')
_ENVIRONMENTS = 16
_STEPS = 64  # Of each environment per iteration.


def main(_):
  """Trains, and prints the mean return of the last 50 episodes."""
  tf.keras.utils.set_random_seed(_SEED.value)
  environment = tf_py_environment.TFPyEnvironment(
      sharded.ShardedPyEnvironment(
          'toy:Corridor', _ENVIRONMENTS, num_workers=1, seed=_SEED.value
      )
  )
  observation_spec = environment.observation_spec()
  action_spec = environment.action_spec()

  agent = rnd_agent.RNDPPOAgent(
      environment.time_step_spec(),
      action_spec,
      tf.keras.optimizers.Adam(1e-3),
      actor_distribution_network.ActorDistributionNetwork(
          observation_spec, action_spec, fc_layer_params=(64, 64)
      ),
      value_network.ValueNetwork(observation_spec, fc_layer_params=(64, 64)),
      intrinsic_value_net=value_network.ValueNetwork(
          observation_spec, fc_layer_params=(64, 64), name='IntrinsicValue'
      ),
      bonus=rnd_agent.RandomNetworkDistillation(
          observation_spec, feature_dim=64, predictor_hidden_units=(64,)
      ),
      num_epochs=10,
      use_gae=True,
      use_td_lambda_return=True,
  )
  agent.initialize()

  buffer = tf_uniform_replay_buffer.TFUniformReplayBuffer(
      agent.collect_data_spec, _ENVIRONMENTS, max_length=2 * _STEPS
  )
  returns = tf_metrics.AverageReturnMetric(
      batch_size=_ENVIRONMENTS, buffer_size=50
  )
  driver = dynamic_step_driver.DynamicStepDriver(
      environment, agent.collect_policy, [buffer.add_batch, returns],
      num_steps=_STEPS * _ENVIRONMENTS,
  )
  collect = common.function(driver.run)
  train = common.function(agent.train)
  for iteration in range(1, _ITERATIONS.value + 1):
    collect()
    train(experience=buffer.gather_all())
    buffer.clear()
    if iteration % 10 == 0:
      print(f'iteration {iteration}  return {returns.result():.2f}', flush=True)
  environment.close()


if __name__ == '__main__':
  app.run(main)
