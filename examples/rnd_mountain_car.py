"""`ppo_mountain_car.py` with Random Network Distillation.

The car gets -1 for every step until it reaches the flag, 200 steps at most:
without exploration the return stays at -200, with the bonus it does not.
"""

from absl import app
from absl import flags
import gymnasium
import tensorflow as tf
from tf_agents.drivers import dynamic_step_driver
from tf_agents.environments import tf_py_environment
from tf_agents.metrics import tf_metrics
from tf_agents.networks import actor_distribution_network
from tf_agents.networks import value_network
from tf_agents.replay_buffers import tf_uniform_replay_buffer
from tf_agents.utils import common

import rnd_agent
from rnd_agent.environments import single

_ITERATIONS = flags.DEFINE_integer('iterations', 30, 'Of 512 steps each.')
_SEED = flags.DEFINE_integer('seed', 1, 'Of everything random.')
_STEPS = 512


def main(_):
  """Trains, and prints the mean return of the last 10 episodes."""
  tf.keras.utils.set_random_seed(_SEED.value)
  py_environment = single.GymnasiumPyEnvironment(
      gymnasium.make('MountainCar-v0')
  )
  environment = tf_py_environment.TFPyEnvironment(py_environment)
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
      rnd=rnd_agent.RandomNetworkDistillation(
          observation_spec, feature_dim=64, predictor_hidden_units=(64,)
      ),
      num_epochs=10,
      use_gae=True,
      use_td_lambda_return=True,
  )
  agent.initialize()

  buffer = tf_uniform_replay_buffer.TFUniformReplayBuffer(
      agent.collect_data_spec, environment.batch_size, max_length=_STEPS + 20
  )
  returns = tf_metrics.AverageReturnMetric(buffer_size=10)
  driver = dynamic_step_driver.DynamicStepDriver(
      environment, agent.collect_policy, [buffer.add_batch, returns],
      num_steps=_STEPS,
  )
  collect = common.function(driver.run)
  train = common.function(agent.train)
  for iteration in range(1, _ITERATIONS.value + 1):
    collect()
    train(experience=buffer.gather_all())
    buffer.clear()
    if iteration % 10 == 0:
      print(f'iteration {iteration}  return {returns.result():.1f}', flush=True)


if __name__ == '__main__':
  app.run(main)
