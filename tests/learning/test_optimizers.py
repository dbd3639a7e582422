"""Adam with rates per group: the steps, the moments, the checkpoints."""

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts

from rnd_agent import config
from rnd_agent.learning import optimizers
from rnd_agent.learning import rollout as rollout_lib
from rnd_agent.training import builders

_GRADIENTS = ([.5, -2.0], [3.0], [-1.0, 1.0, .25])
_SECOND = ([-1.5, .5], [1.0], [2.0, -.5, 1.0])


def _variables():
  return [tf.Variable(tf.zeros([n]), name=f'v{n}') for n in (2, 1, 3)]


def _plain(rate=.01):
  return tf.keras.optimizers.Adam(rate, epsilon=1e-8)


def _apply(optimizer, variables, compiled=True):
  optimizer.build(variables)
  # Keras compiles every variable's step by XLA where there is a GPU.
  optimizer.jit_compile = compiled == 'xla'

  def step(gradients):
    optimizer.apply_gradients(list(zip(gradients, variables)))

  step = tf.function(step) if compiled else step
  for gradients in (_GRADIENTS, _SECOND):
    step([tf.constant(g) for g in gradients])
  return [v.numpy() for v in variables]


@pytest.mark.parametrize('compiled', [False, True, 'xla'])
def test_each_group_moves_as_adam_at_its_rate_does(compiled):
  """In every coordinate what plain Adam of that rate does."""
  variables = _variables()
  moved = _apply(optimizers.GroupedAdam(
      .01, [(.03, variables[1:2]), (.001, variables[2:])], epsilon=1e-8
  ), variables, compiled)
  for i, rate in enumerate((.01, .03, .001)):
    expected = _apply(_plain(rate), _variables(), compiled)[i]
    np.testing.assert_allclose(moved[i], expected, rtol=1e-6)
    assert np.abs(moved[i]).max() > rate / 2


def test_moments_and_count_are_those_of_plain_adam():
  variables = _variables()
  grouped = optimizers.GroupedAdam(.01, [(.5, variables[:1])], epsilon=1e-8)
  plain = _plain()
  _apply(grouped, variables)
  _apply(plain, _variables())
  assert len(grouped.variables) == len(plain.variables) == 7
  for a, b in zip(grouped.variables, plain.variables):
    np.testing.assert_array_equal(a, b)


def test_without_groups_it_is_adam_to_the_bit():
  for a, b in zip(
      _apply(optimizers.GroupedAdam(.01, [], epsilon=1e-8), _variables()),
      _apply(_plain(), _variables()),
  ):
    np.testing.assert_array_equal(a, b)


def test_the_rate_that_is_assigned_scales_all():
  variables = _variables()
  optimizer = optimizers.GroupedAdam(
      .01, [(.03, variables[1:2])], epsilon=1e-8
  )
  optimizer.learning_rate = .001
  assert optimizer.learning_rate.numpy() == pytest.approx(.001)
  moved = _apply(optimizer, variables)
  for i, rate in enumerate((.001, .003, .001)):
    np.testing.assert_allclose(
        moved[i], _apply(_plain(rate), _variables())[i], rtol=1e-6
    )
  assert optimizer.learning_rate.numpy() == pytest.approx(.001)


@pytest.mark.parametrize('first_is_plain', [False, True])
def test_checkpoints_restore_into_either(tmp_path, first_is_plain):
  def build(plain):
    variables = _variables()
    if plain:
      return _plain(), variables
    return optimizers.GroupedAdam(
        .01, [(.03, variables[1:])], epsilon=1e-8
    ), variables

  old, variables = build(first_is_plain)
  _apply(old, variables)
  path = tf.train.Checkpoint(optimizer=old).save(str(tmp_path / 'c'))
  new, others = build(not first_is_plain)
  new.build(others)
  status = tf.train.Checkpoint(optimizer=new).restore(path)
  status.assert_existing_objects_matched()
  status.assert_consumed()
  for a, b in zip(old.variables, new.variables):
    np.testing.assert_array_equal(a, b)


def test_a_variable_in_two_groups_is_refused():
  variables = _variables()
  with pytest.raises(ValueError, match='two groups'):
    optimizers.GroupedAdam(.01, [(.1, variables), (.2, variables[:1])])


# ------------------------------------------------------------ in the agent


def _agent(ppo=None, rnd=None):
  tf.keras.utils.set_random_seed(3)
  return builders.build_agent(
      ts.time_step_spec(tf.TensorSpec([3], tf.float32)),
      tensor_spec.BoundedTensorSpec([], tf.int64, 0, 3),
      num_epochs=1, num_minibatches=1,
      ppo_config=config.PPOConfig(**(ppo or {})),
      rnd_config=config.RNDConfig(predictor_proportion=1.0, **(rnd or {})),
  )


def _rollout(batch=2, length=8):
  rng = np.random.default_rng(0)

  def normal(*shape):
    return tf.constant(rng.normal(size=shape), tf.float32)

  types = tf.ones([batch, length + 1], tf.int32)
  return rollout_lib.Rollout(
      observations=normal(batch, length + 1, 3), step_types=types,
      next_step_types=types[:, 1:],
      actions=tf.constant(rng.integers(0, 4, [batch, length])),
      rewards=normal(batch, length), discounts=tf.ones([batch, length]),
      dist_params={'logits': tf.zeros([batch, length, 4])},
      values_ext=normal(batch, length + 1),
      values_int=normal(batch, length + 1),
      final_values_ext=tf.zeros([batch, length]),
  )


def _moves(agent):
  """Largest change of each variable in one update, by group."""
  values = {v.ref() for v in agent.actor_critic_net.value_variables}
  predictor = {v.ref() for v in agent.rnd.trained_variables}
  variables = agent.trained_variables
  before = [v.numpy() for v in variables]
  agent.train_rollout(_rollout())
  moves = {'policy': [], 'values': [], 'predictor': []}
  for variable, old in zip(variables, before):
    group = (
        'values' if variable.ref() in values
        else 'predictor' if variable.ref() in predictor else 'policy'
    )
    moves[group].append(np.abs(variable.numpy() - old).max())
  return moves


def test_rates_of_policy_values_and_predictor():
  """Adam's first step is as long as its rate, whatever the gradient."""
  agent = _agent(
      dict(learning_rate=1e-3, value_learning_rate=2e-2),
      dict(predictor_learning_rate=3e-5),
  )
  moves = _moves(agent)
  # Two dense layers, branch, head; branch and two heads; four layers.
  assert [len(moves[k]) for k in ('policy', 'values', 'predictor')] == [8, 6, 8]
  for group, rate in (('policy', 1e-3), ('values', 2e-2), ('predictor', 3e-5)):
    np.testing.assert_allclose(moves[group], rate, rtol=.02, err_msg=group)


@pytest.mark.slow
@pytest.mark.parametrize('ppo, rnd, rates', [
    (dict(learning_rate=1e-3), {}, (1e-3, 1e-3, 1e-3)),
    (dict(learning_rate=1e-3, value_learning_rate=1e-2), {},
     (1e-3, 1e-2, 1e-3)),
    (dict(learning_rate=1e-3), dict(predictor_learning_rate=1e-2),
     (1e-3, 1e-3, 1e-2)),
])
def test_rates_that_are_not_given_are_the_policys(ppo, rnd, rates):
  moves = _moves(_agent(ppo, rnd))
  for group, rate in zip(('policy', 'values', 'predictor'), rates):
    np.testing.assert_allclose(moves[group], rate, rtol=.02, err_msg=group)


def test_by_default_no_variable_has_a_rate_of_its_own():
  assert _agent()._optimizer._scales == {1.0}
  assert _agent(dict(value_learning_rate=1e-3))._optimizer._scales > {1.0}


def test_the_step_is_counted_once_for_all_variables():
  def operations(optimizer):
    variables = _variables()
    optimizer.build(variables)

    @tf.function
    def step():
      optimizer.apply_gradients([(tf.ones(v.shape), v) for v in variables])

    graph = step.get_concrete_function().graph
    return [operation.type for operation in graph.get_operations()]

  assert operations(_plain()).count('Pow') == 6
  assert operations(optimizers.GroupedAdam(.01)).count('Pow') == 2


@pytest.mark.slow
def test_groups_of_equal_rates_train_as_one_rate_does():
  results = []
  for groups in (False, True):
    agent = _agent(
        dict(value_learning_rate=1e-4) if groups else {},
        dict(predictor_learning_rate=1e-4) if groups else {},
    )
    for _ in range(2):
      agent.train_rollout(_rollout())
    results.append([v.numpy() for v in agent.trained_variables])
  for a, b in zip(*results):
    np.testing.assert_array_equal(a, b)


def test_learning_rate_of_the_agent_is_the_optimizers():
  agent = _agent(dict(learning_rate=1e-3, value_learning_rate=1e-2))
  assert agent.learning_rate.numpy() == pytest.approx(1e-3)


@pytest.mark.parametrize('name, build', [
    ('PPOConfig.value_learning_rate',
     lambda rate: config.PPOConfig(value_learning_rate=rate)),
    ('RNDConfig.predictor_learning_rate',
     lambda rate: config.RNDConfig(predictor_learning_rate=rate)),
])
@pytest.mark.parametrize('rate', [0.0, -1e-4, float('nan')])
def test_a_rate_that_cannot_be_is_one_clear_line(name, build, rate):
  with pytest.raises(ValueError) as info:
    build(rate)
  message = str(info.value).partition('\n  In call')[0]
  assert message.startswith(f'{name} = {rate}: ') and '\n' not in message
