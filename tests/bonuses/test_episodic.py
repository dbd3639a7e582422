"""Bonuses that remember episodes, against slow transcriptions of the papers."""

import numpy as np
import pytest
import tensorflow as tf
from tf_agents.specs import tensor_spec

from rnd_agent import config as config_lib
from rnd_agent.bonuses import counts
from rnd_agent.bonuses import e3b
from rnd_agent.bonuses import hashing
from rnd_agent.bonuses import noveld
from rnd_agent.learning import rollout as rollout_lib

_FIRST, _MID, _LAST = rollout_lib.FIRST, rollout_lib.MID, rollout_lib.LAST
_SPEC = tf.TensorSpec([2], tf.float32)
_ACTIONS = tensor_spec.BoundedTensorSpec([], tf.int64, 0, 2)
_ENVIRONMENTS, _ROWS = 3, 40


def _history(compact, seed=0):
  """A long rollout with episodes of some steps, few different observations."""
  random = np.random.default_rng(seed)
  step_types = np.full((_ENVIRONMENTS, _ROWS + 1), _MID, np.int32)
  next_types = np.full((_ENVIRONMENTS, _ROWS), _MID, np.int32)
  step_types[:, 0] = _FIRST
  for b in range(_ENVIRONMENTS):
    t = 0
    while (t := t + int(random.integers(2, 9))) < _ROWS - 1:
      next_types[b, t - 1] = _LAST
      if compact:
        step_types[b, t] = _FIRST
      else:
        step_types[b, t], next_types[b, t] = _LAST, _FIRST
        step_types[b, t + 1] = _FIRST
        t += 1
  observations = random.integers(2, size=(_ENVIRONMENTS, _ROWS + 1, 2))
  actions = random.integers(3, size=(_ENVIRONMENTS, _ROWS))
  return rollout_lib.Steps(
      observations.astype(np.float32), actions, step_types, next_types
  )


def _part(steps, begin, end):
  return rollout_lib.Steps(*(
      tf.constant(x[:, begin:end + extra])
      for x, extra in zip(steps, (1, 0, 1, 0))
  ))


def _episodes(steps, b):
  """(row, the observations of its episode) where the next one is of it."""
  so_far = []
  for t in range(_ROWS + 1):
    if steps.step_types[b, t] == _FIRST:
      so_far = []
    so_far = [*so_far, steps.observations[b, t]]
    row = t - 1
    if row >= 0 and len(so_far) > 1:
      yield row, so_far


def _made(name, **kwargs):
  config = config_lib.RNDConfig()
  if name == 'EpisodicCounts':
    return counts.EpisodicCounts(_SPEC, config, **kwargs)
  tf.keras.utils.set_random_seed(1)
  if name == 'NovelD':
    return noveld.NovelD(_SPEC, config, **kwargs)
  return e3b.E3B(_SPEC, config, action_spec=_ACTIONS, feature_dim=5, **kwargs)


def _visits(so_far):
  return sum((x == so_far[-1]).all() for x in so_far)


def _expected(name, bonus, steps):
  result = np.zeros((_ENVIRONMENTS, _ROWS))
  for b in range(_ENVIRONMENTS):
    for row, so_far in _episodes(steps, b):
      if name == 'EpisodicCounts':
        result[b, row] = _visits(so_far) ** -0.5
      elif name == 'NovelD':
        before, now = (_novelty(bonus, x) for x in so_far[-2:])
        if _visits(so_far) == 1:
          result[b, row] = max(now - 0.5 * before, 0)
      else:
        features = bonus.dynamics.features(np.stack(so_far)).numpy()
        matrix = 0.1 * np.eye(5) + sum(
            np.outer(f, f) for f in features[:-1].astype(np.float64)
        )
        result[b, row] = features[-1] @ np.linalg.inv(matrix) @ features[-1]
  return result


def _novelty(bonus, observation):
  x = bonus.observation_normalizer.normalized(observation[np.newaxis])
  return np.linalg.norm(bonus.predictor(x)[0] - bonus.target(x)[0])


_BONUSES = pytest.mark.parametrize('name', ['EpisodicCounts', 'NovelD', 'E3B'])


@_BONUSES
@pytest.mark.parametrize('compact', [True, False])
def test_rewards_are_those_of_the_paper(name, compact):
  steps = _history(compact)
  bonus = _made(name)
  rewards = bonus.rewards(_part(steps, 0, _ROWS)).numpy()
  expected = _expected(name, bonus, steps)
  assert np.count_nonzero(expected) > 15
  np.testing.assert_allclose(rewards, expected, rtol=2e-3, atol=1e-5)


@_BONUSES
@pytest.mark.parametrize('compact', [True, False])
def test_rollouts_of_any_length_give_the_same(name, compact):
  steps = _history(compact)
  bonus = _made(name)
  whole = bonus.rewards(_part(steps, 0, _ROWS)).numpy()
  for ends in ((40,), (1, 2, 3, 40), (10, 20, 30, 40), (7, 23, 40)):
    in_parts, begin = [], 0
    for end in ends:
      part = _part(steps, begin, end)
      in_parts.append(bonus.rewards(part).numpy())
      np.testing.assert_array_equal(bonus.rewards(part), in_parts[-1])
      bonus.advance(part)
      begin = end
    np.testing.assert_allclose(
        np.concatenate(in_parts, axis=1), whole, rtol=1e-3, atol=1e-5
    )


@_BONUSES
def test_it_may_be_compiled_before_it_is_built(name):
  steps = _history(compact=True)
  compiled, eager = _made(name), _made(name)
  rewards, advance = tf.function(compiled.rewards), tf.function(
      compiled.advance)
  for begin in (0, 10, 20):
    part = _part(steps, begin, begin + 10)
    np.testing.assert_allclose(
        rewards(part), eager.rewards(part), rtol=1e-3, atol=1e-5
    )
    advance(part)
    eager.advance(part)


@_BONUSES
def test_a_checkpoint_goes_on_within_the_episode(name, tmp_path):
  steps = _history(compact=True)
  # Within episodes of all environments.
  middle = next(t for t in range(5, 30) if (
      steps.step_types[:, t:t + 2] == _MID).all())
  bonus, other, fresh = _made(name), _made(name), _made(name)
  for each in (bonus, other, fresh):
    each.build(_ENVIRONMENTS)
  bonus.update_statistics(
      _part(steps, 0, middle), bonus.rewards(_part(steps, 0, middle))
  )
  checkpoint = tf.train.Checkpoint(**bonus.checkpoint_items())
  path = checkpoint.write(str(tmp_path / 'saved'))
  tf.train.Checkpoint(**other.checkpoint_items()).read(
      path).assert_consumed().assert_existing_objects_matched()
  rest = _part(steps, middle, _ROWS)
  np.testing.assert_array_equal(bonus.rewards(rest), other.rewards(rest))
  # Weights alone begin other environments' episodes.
  tf.train.Checkpoint(**fresh.weight_items()).read(path).expect_partial()
  assert (fresh.rewards(rest).numpy() != bonus.rewards(rest).numpy()).any()


def test_of_long_episodes_the_last_observations_are_remembered():
  numbers = np.array([[0, 1, 2, 0, 0, 1]], np.float32)[..., np.newaxis]
  steps = rollout_lib.Steps.of_observations(numbers)._replace(
      step_types=np.array([[_FIRST] + [_MID] * 5], np.int32)
  )
  bonus = counts.EpisodicCounts(
      tf.TensorSpec([1], tf.float32), config_lib.RNDConfig(), memory_size=2
  )
  for t, visits in enumerate([1, 1, 1, 2, 1]):
    part = rollout_lib.Steps(
        numbers[:, t:t + 2], (), steps.step_types[:, t:t + 2],
        steps.next_step_types[:, t:t + 1],
    )
    assert bonus.rewards(part).numpy() == pytest.approx(visits ** -0.5)
    bonus.advance(part)


def test_e3b_learns_which_action_it_was():
  bonus = _made('E3B')
  random = np.random.default_rng(1)
  before = random.normal(size=(64, 2)).astype(np.float32)
  actions = random.integers(3, size=64)
  after = before.copy()
  after[:, 0] += actions - 1
  optimizer = tf.keras.optimizers.Adam(1e-2)
  losses = []
  for _ in range(150):
    with tf.GradientTape() as tape:
      loss = tf.reduce_mean(bonus.losses((before, actions, after)))
    variables = bonus.trained_variables
    optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
    losses.append(float(loss))
  assert losses[-1] < 0.3 < losses[0]


def test_e3b_is_not_trained_on_steps_into_another_episode():
  for compact in (True, False):
    steps = _history(compact)
    mask = _made('E3B').training_mask(_part(steps, 0, _ROWS)).numpy()
    begins = steps.step_types[:, 1:] == _FIRST
    assert begins.any() and not mask[begins].any()
    assert mask[~begins].all()


def test_lifelong_counts_are_those_of_all_rollouts_before():
  steps = _history(compact=True)
  bonus = counts.LifelongCounts(_SPEC, config_lib.RNDConfig())
  seen = {}
  for begin, end in ((0, 13), (13, 20), (20, 40)):
    part = _part(steps, begin, end)
    rewards = bonus.rewards(part).numpy()
    following = part.observations.numpy()[:, 1:]
    for b in range(_ENVIRONMENTS):
      for t in range(end - begin):
        before = seen.get(following[b, t].tobytes(), 0)
        assert rewards[b, t] == pytest.approx((1 + before) ** -0.5)
    bonus.update_statistics(part, rewards)
    for observation in following.reshape(-1, 2):
      key = observation.tobytes()
      seen[key] = seen.get(key, 0) + 1
  assert bonus.metrics()['different_observations'] == len(seen) == 4


@pytest.mark.parametrize('dtype', [np.uint8, np.float32, np.int64])
def test_hashes_tell_observations_apart(dtype):
  spec = tf.TensorSpec([3, 3], dtype)
  random = np.random.default_rng(0)
  x = random.integers(3, size=(4, 500, 3, 3)).astype(dtype)
  hashes = hashing.Hash(spec)(tf.constant(x)).numpy().ravel()
  keys = [row.tobytes() for row in x.reshape(-1, 9)]
  assert len(set(hashes)) == len(set(keys)) == len(set(zip(keys, hashes)))


def test_cells_of_floats_count_as_one():
  spec = tf.TensorSpec([1], tf.float32)
  x = np.array([[[0.01], [0.49], [0.51], [-0.01], [-0.0], [0.0]]], np.float32)
  a, b, c, d, e, f = hashing.Hash(spec, 0.5)(tf.constant(x)).numpy()[0]
  assert a == b == e == f and len({a, c, d}) == 3
  e, f = hashing.Hash(spec)(tf.constant(x)).numpy()[0, 4:]
  assert e == f


@pytest.mark.parametrize('make, cause', [
    (lambda: _made('NovelD', alpha=-1.0), 'NovelD.alpha = -1.0: choose 0'),
    (lambda: _made('NovelD', memory_size=0), 'memory_size = 0: choose'),
    (lambda: _made('EpisodicCounts', cell_size=0.0), 'cell_size = 0.0: choose'),
    (lambda: _made('E3B', ridge=0.0), 'E3B.ridge = 0.0: choose'),
    (lambda: e3b.E3B(_SPEC), 'give it the action_spec'),
    (lambda: counts.LifelongCounts(_SPEC, table_size=0), 'table_size = 0'),
    (lambda: counts.EpisodicCounts({'a': _SPEC, 'b': _SPEC}),
     'EpisodicCounts.select'),
])
def test_what_cannot_work_is_one_line(make, cause):
  with pytest.raises(ValueError, match=cause):
    make()


@_BONUSES
def test_another_number_of_environments_is_refused(name):
  bonus = _made(name)
  bonus.build(_ENVIRONMENTS)
  with pytest.raises(ValueError, match='keep the number of env'):
    bonus.build(2)
