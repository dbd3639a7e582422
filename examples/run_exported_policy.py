"""Runs an exported policy; needs TensorFlow and TF-Agents, not this package.

  python examples/run_exported_policy.py --policy=runs/montezuma/policy/greedy

With TensorFlow from 2.16 on, set TF_USE_LEGACY_KERAS=1: TF-Agents needs Keras 2
Without an environment at hand it acts on random observations of the right
shape; put your own environment's observations in their place.
"""

from absl import app
from absl import flags
import tensorflow as tf
from tf_agents.policies import py_tf_eager_policy
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts

_POLICY = flags.DEFINE_string('policy', None, 'Folder of the SavedModel.')
_STEPS = flags.DEFINE_integer('steps', 5, 'How often to act.')
_BATCH = 2

flags.mark_flag_as_required('policy')


def main(_):
  """Loads the policy and prints some actions."""
  policy = tf.saved_model.load(_POLICY.value)
  # The specs lie beside the model.
  specs = py_tf_eager_policy.SavedModelPyTFEagerPolicy(
      _POLICY.value, load_specs_from_pbtxt=True
  )
  print('observations:', specs.time_step_spec.observation)
  print('actions:', specs.action_spec)
  observation_spec = tensor_spec.from_spec(specs.time_step_spec.observation)
  state = policy.get_initial_state(_BATCH)
  for i in range(_STEPS.value):
    observation = tensor_spec.sample_spec_nest(
        observation_spec, seed=i, outer_dims=[_BATCH]
    )
    step = policy.action(ts.restart(observation, _BATCH), state)
    state = step.state
    print('action', *step.action.numpy())


if __name__ == '__main__':
  app.run(main)
