"""What docs/tf_agents.md says of the host's features, done."""

import gin
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.networks import actor_distribution_network
from tf_agents.networks import mask_splitter_network
from tf_agents.networks import value_network
from tf_agents.policies import policy_saver
from tf_agents.policies import py_tf_eager_policy
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from rnd_agent import networks
from rnd_agent import rnd_ppo_agent
from rnd_agent.bonuses import rnd as rnd_lib
from rnd_agent.config import RNDConfig

_VECTOR = tf.TensorSpec([3], tf.float32)
_ACTION = tensor_spec.BoundedTensorSpec([], tf.int64, 0, 3)


def _agent(observation, bonus, **nets):
  agent = rnd_ppo_agent.RNDPPOAgent(
      ts.time_step_spec(observation), _ACTION,
      tf.keras.optimizers.Adam(1e-3), rnd=bonus, num_epochs=1, **nets
  )
  agent.initialize()
  return agent


def test_forbidden_actions_are_never_taken():
  spec = {
      'state': _VECTOR, 'allowed': tf.TensorSpec([4], tf.int32),
  }

  def split(observation):
    return observation['state'], observation['allowed']

  def masked(network, **kwargs):
    return mask_splitter_network.MaskSplitterNetwork(
        split, network, input_tensor_spec=spec, **kwargs
    )

  agent = _agent(
      spec,
      rnd_lib.RandomNetworkDistillation(
          spec, RNDConfig(), select=lambda observation: observation['state']
      ),
      actor_net=masked(
          actor_distribution_network.ActorDistributionNetwork(
              _VECTOR, _ACTION, fc_layer_params=(8,)
          ), passthrough_mask=True,
      ),
      value_net=masked(value_network.ValueNetwork(_VECTOR)),
      intrinsic_value_net=masked(value_network.ValueNetwork(_VECTOR)),
  )
  rng = np.random.default_rng(0)
  allowed = np.eye(4, dtype=np.int32)[rng.integers(4, size=[64])]
  observation = {
      'state': tf.constant(rng.normal(size=[64, 3]), tf.float32),
      'allowed': tf.constant(allowed),
  }
  step = ts.restart(observation, batch_size=64)
  action = agent.collect_policy.action(step)
  np.testing.assert_array_equal(action.action, allowed.argmax(-1))
  following = ts.transition(observation, tf.zeros([64]))
  experience = tf.nest.map_structure(
      lambda x: tf.stack([x] * 3, axis=1),
      trajectory.from_transition(step, action, following),
  )
  assert np.isfinite(agent.train(experience).loss)


@pytest.mark.slow
def test_an_exported_policy_with_a_recurrent_state(tmp_path):
  network = networks.ActorCriticNetwork(
      _VECTOR, _ACTION, fc_layer_params=(8,),
      core=tf.keras.layers.GRUCell(4),
  )
  agent = _agent(_VECTOR, rnd_lib.RandomNetworkDistillation(
      _VECTOR, RNDConfig()), actor_critic_net=network)
  policy_saver.PolicySaver(agent.policy, batch_size=1).save(str(tmp_path))
  policy = py_tf_eager_policy.SavedModelPyTFEagerPolicy(
      str(tmp_path), load_specs_from_pbtxt=True
  )
  state = policy.get_initial_state(1)
  own = agent.policy.get_initial_state(1)
  for value in (0.5, -2.0, 1.0):
    observation = np.full([1, 3], value, np.float32)
    step = policy.action(ts.restart(observation[0]), state)  # Adds the batch.
    expected = agent.policy.action(
        ts.restart(tf.constant(observation), batch_size=1), own
    )
    state, own = step.state, expected.state
    np.testing.assert_array_equal(step.action, expected.action[0])
  tf.nest.map_structure(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), state, own
  )


@pytest.mark.slow
def test_a_policy_for_tflite(tmp_path):
  network = networks.ActorCriticNetwork(_VECTOR, _ACTION, fc_layer_params=(8,))
  agent = _agent(_VECTOR, rnd_lib.RandomNetworkDistillation(
      _VECTOR, RNDConfig()), actor_critic_net=network)
  policy_saver.PolicySaver(agent.policy, batch_size=1).save(str(tmp_path))
  converter = tf.lite.TFLiteConverter.from_saved_model(
      str(tmp_path), signature_keys=['action']
  )
  converter.target_spec.supported_ops = [
      tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS
  ]
  interpreter = tf.lite.Interpreter(model_content=converter.convert())
  run = interpreter.get_signature_runner('action')
  for seed in range(5):
    observation = np.random.default_rng(seed).normal(size=[1, 3])
    step = ts.restart(tf.constant(observation, tf.float32), batch_size=1)
    outputs = run(**{
        '0/step_type': step.step_type, '0/reward': step.reward,
        '0/discount': step.discount, '0/observation': step.observation,
    })
    np.testing.assert_array_equal(
        outputs['action'], agent.policy.action(step).action
    )


def test_a_notebook_may_define_a_configurable_again():
  def define():
    @gin.configurable(module='notebook')
    def cell(x=1):
      return x

    return cell

  define()
  with pytest.raises(ValueError, match='already exists'):
    define()
  gin.enter_interactive_mode()
  try:
    assert define()() == 1
  finally:
    gin.exit_interactive_mode()
