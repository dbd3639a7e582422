"""The bonus with another agent: TF-Agents' DQN on a sparse corridor.

The corridor has 20 cells and a reward at the far end only. In every cell one
of four actions leads forward, the others back: epsilon-greedy does not get
there, DQN with the bonus does.

  python examples/dqn_with_bonus.py --seed=1
  python examples/dqn_with_bonus.py --seed=1 --nobonus
"""

from absl import app
from absl import flags

_SEED = flags.DEFINE_integer('seed', 1, 'Of everything random.')
_BONUS = flags.DEFINE_boolean('bonus', True, 'Whether novelty is rewarded.')
_ITERATIONS = flags.DEFINE_integer('iterations', 250, 'Of 16 steps each.')
_ENVIRONMENTS = 8
_STEPS = 16  # Of every environment per iteration.
_UPDATES = 8  # Per iteration.


def main(_):
  """Trains, and prints the mean return as it goes."""
  # After the flags: worker processes must not wait for TensorFlow.
  import rnd_agent  # isort: skip  (before tf.keras is used)
  import tensorflow as tf
  from tf_agents.agents.dqn import dqn_agent
  from tf_agents.drivers import dynamic_step_driver
  from tf_agents.environments import tf_py_environment
  from tf_agents.networks import q_network
  from tf_agents.replay_buffers import tf_uniform_replay_buffer
  from tf_agents.utils import common

  from rnd_agent.environments import suites

  tf.keras.utils.set_random_seed(_SEED.value)
  sharded = rnd_agent.ShardedPyEnvironment(
      'toy:Corridor', _ENVIRONMENTS, num_workers=1, seed=_SEED.value,
      config=suites.EnvironmentConfig(),
  )
  environment = tf_py_environment.TFPyEnvironment(sharded)
  agent = dqn_agent.DqnAgent(
      environment.time_step_spec(),
      environment.action_spec(),
      q_network=q_network.QNetwork(
          environment.observation_spec(), environment.action_spec(),
          fc_layer_params=(64,),
      ),
      optimizer=tf.keras.optimizers.Adam(1e-3),
      epsilon_greedy=0.05,
      target_update_tau=0.02,
      gamma=0.97,
      td_errors_loss_fn=common.element_wise_huber_loss,
  )
  agent.initialize()

  # The bonus: four lines of set-up ...
  rnd = rnd_agent.RandomNetworkDistillation(
      environment.observation_spec(), rnd_agent.RNDConfig(),
      feature_dim=32, predictor_hidden_units=(64,),
  )
  rnd_optimizer = tf.keras.optimizers.Adam(1e-4)

  buffer = tf_uniform_replay_buffer.TFUniformReplayBuffer(
      agent.collect_data_spec, _ENVIRONMENTS, max_length=2000
  )
  driver = dynamic_step_driver.DynamicStepDriver(
      environment, agent.collect_policy, [buffer.add_batch],
      num_steps=_STEPS * _ENVIRONMENTS,
  )
  samples = iter(buffer.as_dataset(
      sample_batch_size=64, num_steps=2, num_parallel_calls=1
  ))

  # ... one for the statistics of what was just collected, in order of time ...
  @tf.function
  def update_statistics(observations, is_first):
    # What an episode begins with is no outcome of an action.
    rnd.return_normalizer.update(rnd.bonus(observations), is_first)
    rnd.update_observation_statistics(
        observations, mask=tf.cast(~is_first, tf.float32)
    )

  # ... and in training, the bonus of the sampled transitions' outcomes.
  @tf.function
  def train(experience):
    outcome = experience.observation[:, 1:]
    if _BONUS.value:
      bonus = rnd.return_normalizer.normalized(rnd.bonus(outcome))
      reward = experience.reward + tf.pad(bonus, [[0, 0], [0, 1]])
      experience = experience.replace(reward=reward)
    with tf.GradientTape() as tape:
      loss = tf.reduce_mean(rnd.loss(outcome[:, 0]))
    rnd_optimizer.apply_gradients(zip(
        tape.gradient(loss, rnd.trained_variables), rnd.trained_variables
    ))
    return agent.train(experience)

  returns, furthest = [], 0
  for iteration in range(1, _ITERATIONS.value + 1):
    driver.run()
    recent = buffer.gather_all()
    update_statistics(
        recent.observation[:, -_STEPS:], recent.is_first()[:, -_STEPS:]
    )
    for _ in range(_UPDATES):
      train(next(samples)[0])
    for episode in sharded.episodes():
      returns.append(episode.episode_return)
      furthest = max(furthest, max(episode.places))
    if iteration % 50 == 0:
      recent_returns = returns[-50:]
      print(
          f'iteration {iteration}  steps {iteration * _STEPS * _ENVIRONMENTS}'
          f'  return {sum(recent_returns) / max(len(recent_returns), 1):.2f}'
          f'  furthest cell {furthest}', flush=True,
      )
  environment.close()


if __name__ == '__main__':
  app.run(main)
