"""Linear read-outs: what can be told from a vector, on episodes held out.

A read-out of the vectors at time t says what a fact was `delay` steps before.
Categories are read by logistic regression, numbers by ridge regression.

In exact arithmetic even a core with random weights keeps every input, however
faintly (an echo state, Jaeger 2001). Vectors are therefore read with noise of
a tenth of their scale, the root mean square of what varies; those of an
untrained core with that of the trained one. The rule decides what is found in
untrained cores: docs/recurrent.md compares it with others.
"""

from __future__ import annotations

from typing import Mapping, NamedTuple, Sequence

import numpy as np

# Vectors are reduced to as many principal components, of the episodes that
# train.
_MOST_FEATURES = 128
_MOST_ROWS = 1500  # That decide which components these are.
_NOISE = 0.1  # Its standard deviation, in units of the scale.
_MOST_SAMPLES = 3000  # Of either half, evenly taken from all.
_LEAST_SAMPLES = 8  # Of either half.
_HELD_OUT = 3  # Every third episode.
_MOST_CLASSES = 64
_MOST_DELAYS = 16


# Ends the names of sources that are read with the noise of those without it.
UNTRAINED = ', untrained'


class Fact(NamedTuple):
  """What is true at each of n observations.

  Attributes:
    values: float64 `[n]`, NaN where unknown.
    is_category: whether the values are names, such as rooms' numbers.
  """

  values: np.ndarray
  is_category: bool


class Episode(NamedTuple):
  """n observations.

  Attributes:
    sources: by name `[n, k]`: what may tell the facts.
    facts: by name.
  """

  sources: Mapping[str, np.ndarray]
  facts: Mapping[str, Fact]


class ReadOut(NamedTuple):
  """How well a fact of `delay` steps before can be told.

  Attributes:
    fact: its name.
    is_category: whether scores are accuracies; otherwise they are R^2, the
      share of the variance that is explained, below 0 where the read-out is
      worse than the mean.
    delay: in agent steps.
    samples: held-out observations.
    chance: score of the most frequent category or of the mean, which the
      episodes that train have.
    scores: by source.
  """

  fact: str
  is_category: bool
  delay: int
  samples: int
  chance: float
  scores: Mapping[str, float]


class ReadOutError(ValueError):
  """Nothing can be read out; the message is one line."""


def fit(episodes: Sequence[Episode]) -> list[ReadOut]:
  """Fits all read-outs.

  Args:
    episodes: with the same sources and facts; every third is held out.

  Returns:
    One `ReadOut` for each fact and delay of which both the episodes that train
    and those held out have enough; a fact that never changes has none.

  Raises:
    ReadOutError: there is none.
  """
  halves = [
      [e for i, e in enumerate(episodes) if (i % _HELD_OUT == 2) == held_out]
      for held_out in (False, True)
  ]
  if not all(halves):
    raise ReadOutError(
        f'{len(episodes)} episodes are too few: every third is held out'
    )
  halves = _prepared(*halves)
  longest = max(_length(episode) for episode in episodes)
  names = list(dict.fromkeys(
      name for episode in episodes for name in episode.facts
  ))
  all_read_outs = [
      _fit_one(*halves, name, delay)
      for name in names for delay in _delays(longest)
  ]
  found = [read_out for read_out in all_read_outs if read_out is not None]
  if not found:
    raise ReadOutError(
        f'{len(episodes)} episodes of at most {longest} observations hold '
        'nothing to read out: no fact varies often enough in them'
    )
  return found


def _length(episode: Episode) -> int:
  return len(next(iter(episode.sources.values())))


def _delays(longest: int) -> list[int]:
  """All delays of short episodes, powers of two of long ones."""
  if longest <= _MOST_DELAYS:
    return list(range(longest))
  powers = 2 ** np.arange(9)
  return [0, *powers[powers < longest].tolist()]


def _prepared(*halves: Sequence[Episode]) -> list[list[Episode]]:
  """Makes vectors noisy, standardized, and `_MOST_FEATURES` long at most.

  Args:
    *halves: the episodes that train, which decide how, and those held out.

  Returns:
    The same with other sources.
  """
  from sklearn import decomposition
  from sklearn import preprocessing

  rng = np.random.default_rng(0)
  train = halves[0]
  prepared = [[{} for _ in half] for half in halves]
  for name, vectors in train[0].sources.items():
    rows = _rows(train, name)
    deviations = _rows(train, name.removesuffix(UNTRAINED)).std(axis=0)
    noise = _NOISE * np.sqrt(np.mean(np.square(deviations)))

    def noisy(vectors, noise=noise):
      vectors = vectors.astype(np.float32)
      return vectors + noise * rng.standard_normal(vectors.shape, np.float32)

    reduction = preprocessing.StandardScaler()
    if vectors.shape[1] > _MOST_FEATURES < len(rows):
      reduction = decomposition.PCA(
          _MOST_FEATURES, whiten=True, svd_solver='randomized',
          iterated_power=2, random_state=0,
      )
    reduction.fit(noisy(rows))
    for half, sources in zip(halves, prepared):
      for episode, new in zip(half, sources):
        new[name] = reduction.transform(noisy(episode.sources[name]))
  return [
      [episode._replace(sources=new) for episode, new in zip(half, sources)]
      for half, sources in zip(halves, prepared)
  ]


def _rows(episodes: Sequence[Episode], name: str) -> np.ndarray:
  """Some of a source's vectors, float32 `[m, k]`."""
  rows = np.concatenate([e.sources[name] for e in episodes])
  return _evenly(rows, _MOST_ROWS).astype(np.float32)


def _evenly(rows: np.ndarray, most: int = _MOST_SAMPLES) -> np.ndarray:
  """At most so many of the rows, from all parts alike."""
  if len(rows) <= most:
    return rows
  chosen = np.linspace(0, len(rows) - 1, most).astype(int)
  return rows[chosen]


def _fit_one(train, held_out, name: str, delay: int):
  """One fact at one delay; None if the samples do not suffice."""
  (train_facts, train_sources), (facts, sources) = (
      _samples(half, name, delay) for half in (train, held_out)
  )
  if min(len(train_facts), len(facts)) < _LEAST_SAMPLES:
    return None
  if len(np.unique(train_facts)) < 2 or len(np.unique(facts)) < 2:
    return None
  is_category = all(e.facts[name].is_category for e in (*train, *held_out)
                    if name in e.facts)
  score, chance = _SCORES[is_category](train_facts, facts)
  return ReadOut(
      name, is_category, delay, len(facts), chance,
      {source: score(train_sources[source], sources[source])
       for source in sources},
  )


def _samples(episodes, name: str, delay: int):
  """Facts `[m]` where known, and the vectors of `delay` steps later."""
  facts, sources = [], {name: [] for name in episodes[0].sources}
  for episode in episodes:
    if name not in episode.facts:
      continue
    values = episode.facts[name].values
    values = values[:max(0, len(values) - delay)]
    known = ~np.isnan(values)
    facts.append(values[known])
    for source, rows in sources.items():
      rows.append(episode.sources[source][delay:][known])
  return (
      _evenly(np.concatenate(facts)) if facts else np.zeros(0),
      {source: _evenly(np.concatenate(rows)) if rows else None
       for source, rows in sources.items()},
  )


def _accuracy(train_facts: np.ndarray, facts: np.ndarray):
  """`(score of (rows that train, rows), chance)` of a category."""
  from sklearn import linear_model

  names, counts = np.unique(train_facts, return_counts=True)
  most_frequent = names[np.argmax(counts)]
  # Rare categories cannot be learned; they count as mistakes.
  learned = np.isin(train_facts, names[np.argsort(-counts)[:_MOST_CLASSES]])

  def score(train_rows, rows):
    model = linear_model.LogisticRegression(max_iter=2000)
    model.fit(train_rows[learned], train_facts[learned])
    return float(np.mean(model.predict(rows) == facts))

  return score, float(np.mean(facts == most_frequent))


def _explained(train_facts: np.ndarray, facts: np.ndarray):
  """`(score of (rows that train, rows), chance)` of a number."""
  from sklearn import linear_model

  def share(predicted):
    error = np.sum(np.square(facts - predicted))
    return float(1 - error / np.sum(np.square(facts - facts.mean())))

  def score(train_rows, rows):
    model = linear_model.RidgeCV(alphas=10.0 ** np.arange(-2, 6))
    return share(model.fit(train_rows, train_facts).predict(rows))

  return score, share(train_facts.mean())


_SCORES = {True: _accuracy, False: _explained}
