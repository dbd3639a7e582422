"""Threads, lanes and devices change where it computes, not what."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts

from rnd_agent import config
from rnd_agent.learning import compute
from rnd_agent.learning import rollout as rollout_lib
from rnd_agent.training import builders

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_FRAMES = tf.TensorSpec([36, 36, 2], tf.uint8)
_ACTIONS = tensor_spec.BoundedTensorSpec([], tf.int64, 0, 3)


def make_agent(precision='float32', num_epochs=1, **settings):
  """A small agent on images, its weights drawn from one seed."""
  # Where there is a GPU: its shorter products would hide differences.
  tf.config.experimental.enable_tensor_float_32_execution(False)
  tf.keras.utils.set_random_seed(4)
  return builders.build_agent(
      ts.time_step_spec(_FRAMES), _ACTIONS, num_epochs=num_epochs,
      num_minibatches=2, precision=precision, seed=2,
      # 13 of 24 rows, which no part size divides: the last part is filled up.
      rnd_config=config.RNDConfig(predictor_proportion=.55),
      compute_config=config.ComputeConfig(**settings),
  )


def make_rollout(agent, batch=8, length=6, seed=0):
  """Random frames, acted on by the agent's own policy."""
  rng = np.random.default_rng(seed)
  frames = tf.constant(
      rng.integers(0, 256, [batch, length + 1, *_FRAMES.shape]), tf.uint8
  )
  types = tf.ones([batch, length + 1], tf.int32)
  (distribution, value_ext, value_int), _ = agent.collect_policy.evaluate(
      frames, types, ()
  )
  normal = rng.normal(size=[batch, length]).astype(np.float32)
  return rollout_lib.Rollout(
      observations=frames, step_types=types, next_step_types=types[:, 1:],
      actions=tf.constant(rng.integers(0, 4, [batch, length])),
      rewards=tf.constant(normal), discounts=tf.ones([batch, length]),
      dist_params={'logits': distribution.logits[:, :-1]},
      values_ext=value_ext, values_int=value_int,
      final_values_ext=tf.zeros([batch, length]),
  )


def train(agent, rollout):
  """One iteration; `(scalars, weights)`."""
  agent.rnd.update_observation_statistics(rollout.observations[:, :3])
  info = agent.train_rollout(rollout)
  return (
      np.concatenate([np.ravel(x) for x in tf.nest.flatten(info)]),
      [v.numpy() for v in agent.trained_variables],
  )


def assert_same_training(first, second, atol=2e-4):
  """Adam divides by the gradient's size: weights agree less than losses."""
  np.testing.assert_allclose(first[0], second[0], rtol=2e-4, atol=1e-5)
  for a, b in zip(first[1], second[1]):
    np.testing.assert_allclose(a, b, atol=atol)
    # Nearly all elements agree far better than their step of 1e-4.
    assert np.mean(np.abs(a - b) > 1e-5) < .01


@pytest.fixture(scope='module', name='undivided')
def _undivided():
  agent = make_agent(lanes=1, micro_batch_size=1000)
  return train(agent, make_rollout(agent))


@pytest.mark.slow
@pytest.mark.parametrize('settings', [
    dict(lanes=2), dict(lanes=5, micro_batch_size=6),
    dict(lanes=1, micro_batch_size=5), dict(devices=['CPU:0'], lanes=3),
    dict(lanes=2, jit_compile=True),
])
def test_lanes_and_sizes_change_nothing(settings, undivided):
  agent = make_agent(**settings)
  assert_same_training(undivided, train(agent, make_rollout(agent)))


def test_every_stage_is_traced_once():
  agent = make_agent()
  agent.rnd.return_normalizer.build(8)
  for seed in range(3):
    agent.train_rollout(make_rollout(agent, seed=seed))
  assert len(agent._compiled) == 4
  for name, stage in agent._compiled.items():
    assert stage.graph.experimental_get_tracing_count() == 1, name


@pytest.mark.slow
def test_bfloat16_stays_near_float32():
  """One iteration from equal weights: bonus within 5 %, losses within 5 %.

  bfloat16 keeps 8 bits: a relative rounding of 2^-9 in each layer.
  """
  results, weights = [], ()
  for precision in ('float32', 'mixed_bfloat16'):
    agent = make_agent(precision)
    variables = (*agent.trained_variables, *agent.rnd.target.variables)
    for variable, value in zip(variables, weights):
      variable.assign(value)
    weights = [v.numpy() for v in variables]
    rollout = results[0][2] if results else make_rollout(agent)
    agent.rnd.update_observation_statistics(rollout.observations[:, :3])
    bonuses = agent.intrinsic_bonuses(rollout).numpy()
    targets = agent.make_targets(rollout, rollout.rewards)
    info = agent.learn(rollout, targets)
    results.append((bonuses, info.extra, rollout))
  (exact, exact_losses, _), (near, near_losses, _) = results
  np.testing.assert_allclose(near, exact, rtol=.05)
  assert np.abs(near - exact).max() > 0  # It does compute in bfloat16.
  for name in ('value_loss_ext', 'value_loss_int', 'predictor_loss',
               'entropy'):
    np.testing.assert_allclose(
        getattr(near_losses, name), getattr(exact_losses, name), rtol=.05,
        err_msg=name,
    )
  np.testing.assert_allclose(
      near_losses.policy_gradient_loss, exact_losses.policy_gradient_loss,
      atol=.01,
  )


@pytest.mark.skipif(
    not pathlib.Path('/proc/cpuinfo').exists()
    or bool(tf.config.list_physical_devices('GPU')),
    reason='which instructions the processor has is read there',
)
def test_bfloat16_is_slower_where_the_processor_lacks_it():
  instructions = pathlib.Path('/proc/cpuinfo').read_text(encoding='utf-8')
  slowdown = compute.bfloat16_slowdown()
  if 'avx512_bf16' in instructions or 'amx_bf16' in instructions:
    assert .02 < slowdown < 2
  elif 'avx512' not in instructions:
    assert 2 < slowdown < 100


_TWO_DEVICES = '''
import sys
sys.path.insert(0, 'tests/learning')
import tensorflow as tf
cpu = tf.config.list_physical_devices('CPU')[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)
import test_compute as t
results = []
for settings in (dict(lanes=1), dict(devices=['CPU:1', 'CPU:0'],
                                       micro_batch_size=6)):
  agent = t.make_agent(**settings)
  rollout = t.make_rollout(agent)
  results.append(t.train(agent, rollout))
t.assert_same_training(*results)
lanes = agent.lanes
assert lanes.num_lanes == 2 and lanes.device == 'CPU:1', lanes.device
devices = {v.device[-5:] for v in agent.trained_variables}
assert devices == {'CPU:1'}, devices
here, there = lanes.replicas(rollout.rewards)
assert here is rollout.rewards
assert there.device[-5:] == 'CPU:0', there.device
graph = agent._compiled['_learn'].graph.get_concrete_function(
    rollout, agent.make_targets(rollout, rollout.rewards)
).graph
functions = graph.as_graph_def().library.function
where = {
    node.device[-5:]
    for function in functions for node in function.node_def
    if node.op == 'Conv2DBackpropFilter'
}
assert where == {'CPU:0', 'CPU:1'}, where
print('the same')
'''


@pytest.mark.slow
def test_two_devices_share_a_minibatch():
  """The path of several GPUs, on a processor cut into two devices."""
  result = subprocess.run(
      [sys.executable, '-c', _TWO_DEVICES], cwd=_ROOT, capture_output=True,
      text=True, timeout=300,
  )
  assert result.stdout.strip().endswith('the same'), result.stderr[-3000:]


def test_an_unknown_device_is_named():
  with pytest.raises(ValueError, match="no 'GPU:7' among CPU:0"):
    compute.Lanes(config.ComputeConfig(devices=['GPU:7']))


@pytest.mark.parametrize('settings, name', [
    (dict(lanes=0), 'lanes'), (dict(micro_batch_size=-1), 'micro_batch_size'),
    (dict(intra_op_threads=True), 'intra_op_threads'),
    (dict(inter_op_threads=1.5), 'inter_op_threads'),
    (dict(devices='GPU:0'), 'devices'), (dict(devices=()), 'devices'),
])
def test_numbers_that_cannot_be(settings, name):
  with pytest.raises(ValueError, match=f'ComputeConfig.{name} = '):
    config.ComputeConfig(**settings)


_THREADS = '''
from rnd_agent import compute, config
compute.set_threads(config.ComputeConfig({}))
import tensorflow as tf
tf.constant(1) + 1
threading = tf.config.threading
print(threading.get_intra_op_parallelism_threads(),
      threading.get_inter_op_parallelism_threads(),
      compute.Lanes().num_lanes)
'''


@pytest.mark.slow
@pytest.mark.parametrize('settings, expected', [
    ('intra_op_threads=3, inter_op_threads=4', '3 4 4'), ('', None),
])
def test_threads_are_set_and_lanes_follow(settings, expected):
  cores = len(os.sched_getaffinity(0))
  result = subprocess.run(
      [sys.executable, '-c', _THREADS.format(settings)], cwd=_ROOT,
      env=dict(os.environ, CUDA_VISIBLE_DEVICES='-1'), capture_output=True,
      text=True, timeout=120, check=True,
  )
  assert result.stdout.strip() == (expected or f'1 {cores} {cores}')


def test_threads_that_come_too_late_are_an_error():
  tf.constant(1) + 1  # TensorFlow runs.
  now = tf.config.threading.get_inter_op_parallelism_threads()
  compute.set_threads(config.ComputeConfig())  # Nothing asked for: as it is.
  with pytest.raises(ValueError, match='inter_op_threads = 7.*runs already'):
    compute.set_threads(config.ComputeConfig(inter_op_threads=7))
  assert tf.config.threading.get_inter_op_parallelism_threads() == now


# ------------------------------------------------------------- on a GPU only


@pytest.mark.skipif(
    not tf.config.list_physical_devices('GPU'), reason='needs a GPU'
)
@pytest.mark.parametrize('jit_compile', [False, True])
def test_gpu_trains_like_the_processor(jit_compile):
  results = []
  for settings in (
      dict(devices=['CPU:0']), dict(devices=['GPU:0'], jit_compile=jit_compile)
  ):
    agent = make_agent(**settings)
    with agent.lanes.on_device():
      results.append(train(agent, make_rollout(agent)))
    device = settings['devices'][0]
    assert all(device in v.device for v in agent.trained_variables)
  assert_same_training(*results)
