"""For comparison: PPO made of TF-Agents' own parts.

`ParallelPyEnvironment` (a process per environment), `DynamicStepDriver`,
`TFUniformReplayBuffer` and `PPOClipAgent`, with this package's preprocessing
and torso. It computes less: no bonus, one value head, one minibatch per epoch.
"""

import statistics
import time


def measure(env_name, num_environments, iterations, rollout_length=128):
  """Trains some iterations in this process; the first is not timed.

  Args:
    env_name: `suite:name`.
    num_environments: B, each in a process of its own.
    iterations: how many, at least 2.
    rollout_length: T.

  Returns:
    A dict: steps_per_second (agent steps, the median), num_environments.
  """
  import tensorflow as tf
  from tf_agents.agents.ppo import ppo_clip_agent
  from tf_agents.drivers import dynamic_step_driver
  from tf_agents.environments import tf_py_environment
  from tf_agents.replay_buffers import tf_uniform_replay_buffer
  from tf_agents.system import system_multiprocessing
  from tf_agents.utils import common

  from rnd_agent import networks
  from rnd_agent.environments import single

  system_multiprocessing.enable_interactive_mode()
  environment = tf_py_environment.TFPyEnvironment(
      single.make_parallel(env_name, num_environments)
  )
  joint = networks.ActorCriticNetwork(
      environment.observation_spec(), environment.action_spec()
  )
  joint.create_variables(environment.observation_spec())
  agent = ppo_clip_agent.PPOClipAgent(
      environment.time_step_spec(), environment.action_spec(),
      tf.keras.optimizers.Adam(1e-4),
      actor_net=joint.actor_view, value_net=joint.value_view,
      importance_ratio_clipping=0.1, entropy_regularization=0.001,
      num_epochs=4, normalize_observations=False, normalize_rewards=False,
  )
  agent.initialize()
  replay = tf_uniform_replay_buffer.TFUniformReplayBuffer(
      agent.collect_data_spec, num_environments, max_length=rollout_length + 1
  )
  driver = dynamic_step_driver.DynamicStepDriver(
      environment, agent.collect_policy, observers=[replay.add_batch],
      num_steps=num_environments * (rollout_length + 1),
  )
  collect = common.function(driver.run)
  train = common.function(lambda: agent.train(replay.gather_all()))
  times = []
  for _ in range(iterations):
    start = time.monotonic()
    collect()
    train().loss.numpy()
    replay.clear()
    times.append(time.monotonic() - start)
  environment.close()
  steps = num_environments * rollout_length
  return dict(
      num_environments=num_environments,
      steps_per_second=steps / statistics.median(times[1:]),
  )
