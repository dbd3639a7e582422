"""DRND, the dynamics bonus and mixtures, against slow transcriptions."""

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.specs import tensor_spec

from rnd_agent import config as config_lib
from rnd_agent.bonuses import counts
from rnd_agent.bonuses import drnd
from rnd_agent.bonuses import dynamics
from rnd_agent.bonuses import e3b
from rnd_agent.bonuses import mixtures
from rnd_agent.bonuses import rnd
from rnd_agent.learning import rollout as rollout_lib

_FIRST, _MID, _LAST = rollout_lib.FIRST, rollout_lib.MID, rollout_lib.LAST
_SPEC = tf.TensorSpec([3], tf.float32)
_DISCRETE = tensor_spec.BoundedTensorSpec([], tf.int64, 0, 2)
_CONTINUOUS = tensor_spec.BoundedTensorSpec([2], tf.float32, -1, 1)


def _steps(actions=_DISCRETE, rows=6, seed=0):
  """Two environments; the first one's episode ends in row 2, compact."""
  random = np.random.default_rng(seed)
  step_types = np.full((2, rows + 1), _MID, np.int32)
  step_types[:, 0] = _FIRST
  step_types[0, 3] = _FIRST
  next_types = np.full((2, rows), _MID, np.int32)
  next_types[0, 2] = _LAST
  if actions is _DISCRETE:
    taken = random.integers(3, size=(2, rows))
  else:
    taken = random.uniform(-1, 1, size=(2, rows, 2)).astype(np.float32)
  return rollout_lib.Steps(
      tf.constant(random.normal(size=(2, rows + 1, 3)), tf.float32),
      tf.constant(taken), tf.constant(step_types), tf.constant(next_types),
  )


def _small(cls, **kwargs):
  tf.keras.utils.set_random_seed(1)
  return cls(_SPEC, config_lib.RNDConfig(), action_spec=_DISCRETE, **kwargs)


# --------------------------------------------------------------------- DRND


def test_drnd_rewards_are_those_of_the_paper():
  bonus = _small(drnd.DRND, num_targets=4, alpha=0.7)
  steps = _steps()
  bonus.observe_random_agent(steps.observations)
  rewards = bonus.rewards(steps).numpy()
  for b in range(2):
    for t in range(6):
      x = bonus.observation_normalizer.normalized(
          steps.observations[b, t + 1][tf.newaxis]
      )
      f = bonus.predictor(x)[0][0].numpy().astype(np.float64)
      targets = np.array([
          target(x)[0][0] for target in (bonus.target, *bonus._more_targets)
      ], np.float64)
      assert targets.shape == (4, 512)
      mean, square = targets.mean(0), (targets**2).mean(0)
      ratio = np.clip(np.abs(f**2 - mean**2) / (square - mean**2), 1e-3, 1)
      expected = 0.7 * ((f - mean) ** 2).sum() + 0.3 * np.sqrt(ratio).mean()
      assert rewards[b, t] == pytest.approx(expected, rel=1e-3)


def test_drnd_draws_all_targets_and_the_same_again_after_a_resume(tmp_path):
  bonus, other = (_small(drnd.DRND, num_targets=3) for _ in range(2))
  x = tf.random.stateless_normal([200, 3], [1, 2])
  targets = bonus._all_targets(bonus._prepared(x)).numpy()

  def drawn(each):
    features = each.target_features(x).numpy()
    same = (features[:, np.newaxis] == targets).all(-1)
    assert (same.sum(1) == 1).all()
    return same.argmax(1)

  first = drawn(bonus)
  assert np.bincount(first, minlength=3).min() > 40
  np.testing.assert_array_equal(first, drawn(bonus))
  steps = _steps()
  bonus.observation_normalizer.update_masked = lambda *_: None
  bonus.update_statistics(steps, bonus.rewards(steps))
  second = drawn(bonus)
  assert 0.2 < np.mean(second == first) < 0.5
  other.build(2)
  path = tf.train.Checkpoint(**bonus.checkpoint_items()).write(
      str(tmp_path / 'saved'))
  tf.train.Checkpoint(**other.checkpoint_items()).read(path).assert_consumed()
  np.testing.assert_array_equal(second, drawn(other))


def test_drnd_trains_the_predictor_alone():
  bonus = _small(drnd.DRND)
  names = {v.ref() for v in bonus.trained_variables}
  assert names == {v.ref() for v in bonus.predictor.trainable_variables}
  selected, features = bonus.training_inputs(bonus.select(_steps()), 0.5)
  losses = bonus.losses((selected[0], features[0])).numpy()
  # Where nothing was added, as in processed batches.
  np.testing.assert_allclose(losses, bonus.losses(selected[0]), rtol=1e-4)
  np.testing.assert_allclose(losses, bonus.loss(selected[0]), rtol=1e-4)
  prediction = bonus.predictor(bonus._prepared(selected[0]))[0].numpy()
  np.testing.assert_allclose(
      losses, ((prediction - features[0].numpy()) ** 2).mean(-1), rtol=1e-4
  )


# ----------------------------------------------------------------- dynamics


@pytest.mark.parametrize('actions', [_DISCRETE, _CONTINUOUS])
def test_dynamics_rewards_are_errors_within_episodes(actions):
  tf.keras.utils.set_random_seed(1)
  bonus = dynamics.DynamicsBonus(
      _SPEC, config_lib.RNDConfig(), action_spec=actions, feature_dim=5,
      hidden_units=(7, 6),
  )
  steps = _steps(actions)
  rewards = bonus.rewards(steps).numpy()
  for b in range(2):
    for t in range(6):
      f, after = (
          bonus._encoder(bonus.observation_normalizer.normalized(
              steps.observations[b, i][tf.newaxis]))[0].numpy()[0]
          for i in (t, t + 1)
      )
      a = steps.actions[b, t].numpy()
      code = np.eye(3, dtype=np.float32)[a] if actions is _DISCRETE else a
      prediction, _ = bonus._model(np.concatenate([f, code])[np.newaxis])
      expected = ((prediction.numpy()[0] - after) ** 2).mean()
      if (b, t) == (0, 2):  # The next observation is another episode's.
        expected = 0
      assert rewards[b, t] == pytest.approx(expected, rel=1e-4)
  mask = bonus.training_mask(steps).numpy()
  assert mask[0, 2] == 0 and mask.sum() == 11
  losses = bonus.losses(tf.nest.map_structure(
      rollout_lib.in_steps, bonus.select(steps))).numpy()
  np.testing.assert_allclose(
      losses[mask.ravel() > 0], rewards.ravel()[mask.ravel() > 0], rtol=1e-4
  )
  assert len(bonus.trained_variables) == 6  # The features stay as they are.


def test_dynamics_become_known():
  bonus = _small(
      dynamics.DynamicsBonus, feature_dim=4, hidden_units=(32, 32)
  )
  random = np.random.default_rng(1)
  before = random.normal(size=(64, 3)).astype(np.float32)
  actions = random.integers(3, size=64)
  inputs = (before, actions, before + actions[:, np.newaxis] - 1)
  optimizer = tf.keras.optimizers.Adam(1e-2)
  losses = []
  for _ in range(200):
    with tf.GradientTape() as tape:
      loss = tf.reduce_mean(bonus.losses(dynamics.base.Transition(*inputs)))
    variables = bonus.trained_variables
    optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
    losses.append(float(loss))
  assert losses[-1] < 0.1 * losses[0]


# ----------------------------------------------------------------- mixtures


_PARTS = (rnd.RandomNetworkDistillation, e3b.E3B, counts.EpisodicCounts)


def _mixture(cls, weights=None, parts=_PARTS):
  return _small(cls, bonuses=parts, weights=weights)


@pytest.mark.parametrize('cls', [
    mixtures.SumOfBonuses, mixtures.ProductOfBonuses
])
def test_parts_are_normalized_and_mixed(cls):
  weights = (1.0, 0.5, 2.0)
  mixture = _mixture(cls, weights)
  mixture.build(2)
  alone = list(mixture.parts.values())
  for seed in range(3):
    steps = _steps(seed=seed)
    expected = []
    for part in alone:
      expected.append(
          part.normalized_after_update(steps, part.rewards(steps)).numpy()
      )
    if cls is mixtures.SumOfBonuses:
      expected = sum(w * x for w, x in zip(weights, expected))
    else:
      expected = np.prod([x**w for w, x in zip(weights, expected)], axis=0)
    rewards = mixture.rewards(steps)
    np.testing.assert_allclose(rewards, expected, rtol=1e-4, atol=1e-6)
    means = [float(tf.reduce_mean(part.rewards(steps))) for part in alone]
    mixture.update_statistics(steps, rewards)
    logged = mixture.metrics()
    for name, mean in zip(mixture.parts, means):
      assert float(logged[f'{name}_mean']) == pytest.approx(mean, rel=1e-4)
  # Each part has seen all three rollouts, once.
  for part in alone:
    assert part.return_normalizer.statistics.count == 3 * 12
  assert mixture.return_normalizer.statistics.count == 3 * 12


def test_all_parts_that_learn_are_trained():
  mixture = _mixture(mixtures.SumOfBonuses)
  steps = _steps()
  rows = tf.nest.map_structure(
      rollout_lib.in_steps,
      mixture.training_inputs(mixture.select(steps), 4.0),
  )
  losses = mixture.losses(rows).numpy()
  distillation, inverse, _ = mixture.parts.values()
  first = distillation.losses(rollout_lib.in_steps(distillation.select(steps)))
  second = inverse.losses(tf.nest.map_structure(
      rollout_lib.in_steps, inverse.select(steps)))
  mask = tf.reshape(inverse.training_mask(steps), [-1])
  np.testing.assert_allclose(losses, first + mask * second, rtol=1e-4)
  assert {v.ref() for v in mixture.trained_variables} == {
      v.ref() for part in (distillation, inverse)
      for v in part.trained_variables
  }
  assert mixture.training_proportion(128) == 1.0  # E3B's.


def test_a_mixture_trains_on_what_any_of_its_parts_does():
  steps = _steps()
  # As TF-Agents' drivers record it: row 3 leads from the end to a beginning.
  types = steps.step_types.numpy()
  types[0, 3:5] = _LAST, _FIRST
  steps = steps._replace(step_types=tf.constant(types))
  mixture = _mixture(mixtures.SumOfBonuses)
  distillation, inverse, _ = mixture.parts.values()
  np.testing.assert_array_equal(mixture.training_mask(steps), np.maximum(
      distillation.training_mask(steps), inverse.training_mask(steps)
  ))
  assert distillation.training_mask(steps).numpy()[0, 3] == 1
  assert inverse.training_mask(steps).numpy()[0, 3] == 0


def test_the_dynamics_bonus_says_that_it_needs_actions():
  steps = rollout_lib.Steps.of_observations(tf.zeros([2, 4, 3]))
  with pytest.raises(ValueError, match='train with agent.train'):
    _small(dynamics.DynamicsBonus).rewards(steps)


def test_a_mixture_goes_on_from_a_checkpoint(tmp_path):
  mixture, other = (_mixture(mixtures.ProductOfBonuses) for _ in range(2))
  for each in (mixture, other):
    each.build(2)
  steps = _steps()
  mixture.update_statistics(steps, mixture.rewards(steps))
  path = tf.train.Checkpoint(**mixture.checkpoint_items()).write(
      str(tmp_path / 'saved'))
  tf.train.Checkpoint(**other.checkpoint_items()).read(
      path).assert_consumed().assert_existing_objects_matched()
  rest = _steps(seed=5)._replace(step_types=tf.fill([2, 7], _MID))
  np.testing.assert_array_equal(mixture.rewards(rest), other.rewards(rest))
  assert not any('isits' in str(key) for key in mixture.weight_items()[
      'EpisodicCounts_bonus'])


@pytest.mark.parametrize('make, cause', [
    (lambda: _mixture(mixtures.SumOfBonuses, parts=_PARTS[:1]), 'two or more'),
    (lambda: _mixture(mixtures.SumOfBonuses, parts=_PARTS[:1] * 2), 'two or m'),
    (lambda: _mixture(mixtures.SumOfBonuses, parts=(1, 2)), 'classes of Bonus'),
    (lambda: _mixture(mixtures.SumOfBonuses, parts=(
        e3b.E3B, type('E3B', (e3b.E3B,), {}))), 'different classes'),
    (lambda: _mixture(mixtures.SumOfBonuses, (1.0,)), 'for each of the 3'),
    (lambda: _mixture(mixtures.SumOfBonuses, (1.0, 1.0, 0.0)), 'above 0'),
    (lambda: _small(drnd.DRND, num_targets=1), 'num_targets = 1: choose 2'),
    (lambda: _small(drnd.DRND, alpha=1.5), 'DRND.alpha = 1.5'),
    (lambda: dynamics.DynamicsBonus(_SPEC), 'give it the action_spec'),
])
def test_what_cannot_work_is_one_line(make, cause):
  with pytest.raises(ValueError, match=cause):
    make()
