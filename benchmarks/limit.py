"""The limit of training on this machine: bare passes of the same networks.

One agent step needs an environment step, a forward pass of the policy to act, a
forward pass of target and predictor for the bonus, and in every epoch a forward
and backward pass of the policy and, for a share of the steps, of the predictor.
The limit adds up the times of these alone, each at its best batch size, one
pass at a time or several side by side. It leaves out the optimizer, the losses,
copies, and the target's second forward pass under the new statistics.
"""

import statistics
import time

_BATCH_SIZES = {'CPU': (64, 128, 256, 512), 'GPU': (512, 2048, 4096)}
_SECONDS = 0.25
_REPETITIONS = 3


def steps_per_second(agent, environment_rate, num_epochs, proportion, lanes):
  """Measures the limit in this process.

  Args:
    agent: `RNDPPOAgent` with a bonus, on images.
    environment_rate: environment steps per second while nothing else runs.
    num_epochs: passes over a rollout.
    proportion: share of the steps that trains the predictor in each pass.
    lanes: passes that may run side by side.

  Returns:
    `(agent steps per second, {pass: samples per second})`.
  """
  import tensorflow as tf

  actor_critic, rnd = agent.actor_critic_net, agent.rnd
  frames = agent.time_step_spec.observation
  rnd_frames = tf.TensorSpec(rnd.selected_spec.shape, tf.float32)

  def policy(x):
    (distribution, value_ext, value_int), _ = actor_critic(x)
    return distribution.logits, value_ext, value_int

  def backward(network, variables):
    def gradients(x):
      with tf.GradientTape() as tape:
        loss = tf.add_n([
            tf.reduce_mean(tf.square(y)) for y in tf.nest.flatten(network(x))
        ])
      return tape.gradient(loss, variables)
    return gradients

  def target(x):
    return rnd.target(x)[0]

  def predictor(x):
    return rnd.predictor(x)[0]

  rates = {
      'policy_forward': _best_rate(policy, frames, lanes),
      'target_forward': _best_rate(target, rnd_frames, lanes),
      'predictor_forward': _best_rate(predictor, rnd_frames, lanes),
      'policy_forward_backward': _best_rate(
          backward(policy, actor_critic.trainable_variables), frames, lanes
      ),
      'predictor_forward_backward': _best_rate(
          backward(predictor, rnd.trained_variables), rnd_frames, lanes
      ),
  }
  seconds = (
      1 / environment_rate
      + 1 / rates['policy_forward']
      + 1 / rates['target_forward']
      + 1 / rates['predictor_forward']
      + num_epochs / rates['policy_forward_backward']
      + num_epochs * proportion / rates['predictor_forward_backward']
  )
  return 1 / seconds, rates


def _best_rate(compute, spec, lanes):
  """Samples per second at the best batch size and number of lanes."""
  import tensorflow as tf

  kind = 'GPU' if tf.config.list_logical_devices('GPU') else 'CPU'
  return max(
      _rate(compute, spec, size, side_by_side)
      for size in _BATCH_SIZES[kind]
      for side_by_side in sorted({1, lanes})
  )


def _rate(compute, spec, size, side_by_side):
  """Samples per second of so many batches of this size side by side."""
  import tensorflow as tf

  shape = [size, *spec.shape]
  batches = [
      tf.cast(tf.random.uniform(shape, 0, 255, tf.int32), spec.dtype)
      if spec.dtype.is_integer else tf.random.normal(shape)
      for _ in range(side_by_side)
  ]
  run = tf.function(
      lambda xs: [compute(x) for x in xs], autograph=False
  )

  def timed(calls):
    start = time.perf_counter()
    for _ in range(calls):
      outputs = run(batches)
    tf.nest.map_structure(lambda x: x.numpy().flat[0], outputs)
    return (time.perf_counter() - start) / calls

  timed(1)
  calls = max(1, round(_SECONDS / timed(2)))
  return size * side_by_side / statistics.median(
      timed(calls) for _ in range(_REPETITIONS)
  )
