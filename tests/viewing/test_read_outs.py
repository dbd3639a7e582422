"""Linear read-outs: they tell what is there, of episodes held out, no more."""

import numpy as np
import pytest

from rnd_agent.viewing import read_outs

_LENGTH = 12


def _episodes(sources_and_facts, number=60):
  rng = np.random.default_rng(0)
  return [read_outs.Episode(*sources_and_facts(rng)) for _ in range(number)]


def _by_delay(found, fact):
  return {r.delay: r for r in found if r.fact == fact}


def _shifted(values, delay):
  """One-hot vectors of what the values were `delay` steps before."""
  vectors = np.zeros([len(values), 4])
  late = np.arange(delay, len(values))
  vectors[late, values[:len(values) - delay]] = 1
  return vectors


def test_a_category_is_read_at_the_delay_at_which_it_is_held():
  def episode(rng):
    values = rng.integers(0, 4, _LENGTH)
    return (
        {'holds': _shifted(values, 3), 'noise': rng.normal(size=[_LENGTH, 4])},
        {'letter': read_outs.Fact(values.astype(float), True)},
    )

  letters = _by_delay(read_outs.fit(_episodes(episode)), 'letter')
  assert sorted(letters) == list(range(_LENGTH))
  assert letters[3].scores['holds'] == 1
  for delay in (0, 2, 4):
    assert letters[delay].scores['holds'] < .45
  assert all(letters[d].scores['noise'] < .45 for d in range(8))
  assert .2 < letters[0].chance < .35
  assert letters[0].is_category and letters[0].samples == 20 * _LENGTH


def test_a_number_is_read_as_the_share_of_variance():
  def episode(rng):
    values = rng.normal(size=_LENGTH)
    noise = rng.normal(size=_LENGTH)
    return (
        {'half': (values + noise)[:, np.newaxis],
         'all': np.stack([noise, 3 * values], axis=1)},
        {'height': read_outs.Fact(values, False)},
    )

  now = _by_delay(read_outs.fit(_episodes(episode, 300)), 'height')[0]
  assert not now.is_category
  assert now.scores['all'] == pytest.approx(1, abs=.02)
  # The best linear estimate of v from v + e explains 1 / 2 of its variance.
  assert now.scores['half'] == pytest.approx(.5, abs=.08)
  assert now.chance == pytest.approx(0, abs=.05)


def test_episodes_are_held_out_as_a_whole():
  """What only names the episode tells nothing of one that was not seen."""
  def episode(rng):
    name = rng.normal(size=40)
    return (
        {'name': np.tile(name, [_LENGTH, 1])},
        {'letter': read_outs.Fact(
            np.full(_LENGTH, float(rng.integers(0, 4))), True
        )},
    )

  now = _by_delay(read_outs.fit(_episodes(episode)), 'letter')[0]
  assert now.scores['name'] < .55


def test_a_fact_that_is_known_once_has_a_sample_of_each_episode():
  def episode(rng):
    cue = int(rng.integers(0, 4))
    values = np.full(_LENGTH, np.nan)
    values[0] = cue
    held = np.zeros([_LENGTH, 4])
    held[:6, cue] = 1  # Then it is forgotten.
    return {'core': held}, {'cue': read_outs.Fact(values, True)}

  cues = _by_delay(read_outs.fit(_episodes(episode)), 'cue')
  assert {r.samples for r in cues.values()} == {20}
  assert [cues[d].scores['core'] for d in range(6)] == [1] * 6
  assert all(cues[d].scores['core'] < .6 for d in range(6, _LENGTH))


def test_what_is_far_fainter_than_the_rest_counts_as_forgotten():
  def episode(rng):
    cue = int(rng.integers(0, 4))
    held = rng.normal(size=[_LENGTH, 4])
    held[:, cue] += 4
    fading = np.zeros([_LENGTH, 4])
    fading[:, cue] = 10.0 ** -np.arange(_LENGTH)
    values = np.full(_LENGTH, np.nan)
    values[0] = cue
    return (
        {'held': held, 'fading': fading},
        {'cue': read_outs.Fact(values, True)},
    )

  cues = _by_delay(read_outs.fit(_episodes(episode, 300)), 'cue')
  assert all(cues[d].scores['held'] > .9 for d in range(_LENGTH))
  assert cues[0].scores['fading'] == 1
  assert all(cues[d].scores['fading'] < .45 for d in range(3, _LENGTH))


def test_wide_vectors_are_reduced():
  def episode(rng):
    values = rng.integers(0, 4, _LENGTH)
    wide = rng.normal(size=[_LENGTH, 200]).astype(np.float16)
    wide[:, :40] += 3 * np.repeat(_shifted(values, 0), 10, axis=1)
    return {'wide': wide}, {'letter': read_outs.Fact(values * 1., True)}

  found = read_outs.fit(_episodes(episode))
  assert _by_delay(found, 'letter')[0].scores['wide'] > .95


def test_long_episodes_have_delays_of_powers_of_two():
  assert read_outs._delays(16) == list(range(16))
  assert read_outs._delays(40) == [0, 1, 2, 4, 8, 16, 32]
  assert read_outs._delays(10_000)[-1] == 256


def test_what_cannot_be_read_is_an_error_or_left_out():
  def episode(rng):
    return (
        {'core': rng.normal(size=[_LENGTH, 4])},
        {'constant': read_outs.Fact(np.zeros(_LENGTH), True),
         'unknown': read_outs.Fact(np.full(_LENGTH, np.nan), False)},
    )

  with pytest.raises(read_outs.ReadOutError, match='no fact varies'):
    read_outs.fit(_episodes(episode))
  with pytest.raises(read_outs.ReadOutError, match='2 episodes are too few'):
    read_outs.fit(_episodes(episode, 2))
