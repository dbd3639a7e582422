"""Equal updates of a policy with a large core end with equal weights."""

import gin
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts

from rnd_agent import config
from rnd_agent.learning import rollout as rollout_lib
from rnd_agent.training import builders

pytestmark = pytest.mark.slow

_FRAMES = tf.TensorSpec([84, 84, 4], tf.uint8)
_ACTIONS = tensor_spec.BoundedTensorSpec([], tf.int64, 0, 17)
_BATCH, _LENGTH = 8, 16
_UPDATES = 20


def _agent(core, lanes):
  """That of configs/montezuma_gru.gin, but for the size of the rollout."""
  gin.parse_config([
      'ActorCriticNetwork.fc_layer_params = (256,)',
      f'ActorCriticNetwork.core = @{core}()', f'{core}.units = 256',
  ])
  tf.keras.utils.set_random_seed(4)
  return builders.build_agent(
      ts.time_step_spec(_FRAMES), _ACTIONS, num_epochs=1, num_minibatches=2,
      seed=2, compute_config=config.ComputeConfig(lanes=lanes),
  )


def _rollout(agent):
  """Random frames, acted on by the agent's own policy."""
  rng = np.random.default_rng(0)
  frames = tf.constant(rng.integers(
      0, 256, [_BATCH, _LENGTH + 1, *_FRAMES.shape], np.uint8
  ))
  types = tf.ones([_BATCH, _LENGTH + 1], tf.int32)
  state = agent.collect_policy.get_initial_state(_BATCH)
  (distribution, value_ext, value_int), _ = agent.collect_policy.evaluate(
      frames, types, state
  )
  return rollout_lib.Rollout(
      observations=frames, step_types=types, next_step_types=types[:, 1:],
      actions=tf.constant(rng.integers(0, 18, [_BATCH, _LENGTH])),
      rewards=tf.constant(rng.normal(size=[_BATCH, _LENGTH]), tf.float32),
      discounts=tf.ones([_BATCH, _LENGTH]),
      dist_params={'logits': distribution.logits[:, :-1]},
      values_ext=value_ext, values_int=value_int,
      final_values_ext=tf.zeros([_BATCH, _LENGTH]), core_states=state,
  )


@pytest.mark.parametrize('core, lanes', [
    ('GRUCell', 1), ('GRUCell', 2), ('LSTMCell', 2),
])
def test_twenty_equal_updates(core, lanes):
  """In several lanes up to rounding, as docs/reliability.md says."""
  agent = _agent(core, lanes)
  rollout = _rollout(agent)
  agent.rnd.update_observation_statistics(rollout.observations[:, :3])
  targets = agent.make_targets(rollout, rollout.rewards)
  state = [
      *agent.trained_variables, *agent._optimizer.variables,
      agent.generator.state,
  ]
  before = [v.numpy() for v in state]
  ends = []
  for _ in range(_UPDATES):
    for variable, value in zip(state, before):
      variable.assign(value)
    agent.learn(rollout, targets)
    ends.append([v.numpy() for v in agent.trained_variables])
  steps = [np.abs(a - b).max() for a, b in zip(ends[0], before)]
  assert min(steps) > 0
  for end in ends[1:]:
    for a, b, step in zip(ends[0], end, steps):
      np.testing.assert_allclose(
          a, b, rtol=0, atol=0 if lanes == 1 else 1e-3 * step
      )
