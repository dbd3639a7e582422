"""Records what a recurrent core holds while the run's agent plays.

Beside the trained core, one with new weights sees the same observations: what
it holds as well is no merit of training.
"""

from __future__ import annotations

import numbers
from typing import Any, Callable, Iterator, NamedTuple, Optional

import numpy as np
import tensorflow as tf
from tf_agents.utils import common

from rnd_agent.layers import dnc_memory
from rnd_agent.viewing import episode_trace
from rnd_agent.viewing import play_lib
from rnd_agent.viewing import read_outs

# Of all episodes together, in agent steps: a DNC of the default size holds
# 33 kB at each as it is kept here.
_MOST_STEPS = 6000
# Of one episode, so that endless ones still leave some to be held out.
_MOST_STEPS_OF_ONE = 1000


class Links(NamedTuple):
  """Where a DNC wrote and read in an episode of n observations.

  Letters as in `dnc_memory`, without the batch.

  Attributes:
    write_weighting: w^w, float32 `[n, N]`.
    read_weightings: w^r, float32 `[n, R, N]`.
    usage: u, float32 `[n, N]`.
    link: L after the last observation, float32 `[N, N]`.
  """

  write_weighting: np.ndarray
  read_weightings: np.ndarray
  usage: np.ndarray
  link: np.ndarray


def record(
    player: play_lib.Player, most_episodes: int
) -> tuple[list[read_outs.Episode], Optional[Links]]:
  """Plays episodes until there are enough of them, or of their steps.

  Args:
    player: of the run.
    most_episodes: how many at most.

  Returns:
    The episodes, and where a DNC wrote and read in the first; None if the core
    is no DNC.

  Raises:
    PlayError: the policy has no recurrent core.
  """
  untrained = player.untrained_policy()
  if not tf.nest.flatten(untrained.policy_state_spec):
    raise play_lib.PlayError(
        'the policy has no memory to look into: '
        'ActorCriticNetwork.core = None'
    )
  advance = common.function(
      lambda *inputs: untrained.evaluate(*inputs)[1]
  )
  episodes, links, steps = [], None, 0
  while len(episodes) < most_episodes and steps < _MOST_STEPS:
    recorder = _Recorder(
        player, advance, untrained.get_initial_state(1), not episodes
    )
    trace = player.play(
        max_steps=_MOST_STEPS_OF_ONE, frames=False, observe=recorder
    ).trace
    if not episodes:
      links = recorder.links()
    episodes.append(recorder.episode(trace))
    steps += trace.length
  return episodes, links


class _Recorder:
  """Is called with every observation of one episode."""

  def __init__(self, player, advance: Callable[..., Any], state, is_first):
    self._player = player
    self._advance = advance
    self._untrained_state = state
    self._keeps_links = is_first
    self._rows = []
    self._facts = []
    self._dnc_states = []

  def __call__(self, observation, step_type, state) -> None:
    """Notes an observation and the core's state after it."""
    self._untrained_state = self._advance(
        *play_lib.batch_of_one(observation, step_type), self._untrained_state
    )
    self._rows.append({
        'observation': np.concatenate([
            np.ravel(x) for x in tf.nest.flatten(observation)
        ]),
        **_parts(state),
        **{name + read_outs.UNTRAINED: x
           for name, x in _parts(self._untrained_state).items()},
    })
    self._facts.append(self._player.facts())
    if self._keeps_links:
      dnc = next(_dnc_states(state), None)
      if dnc is not None:
        self._dnc_states.append(dnc._replace(memory=None))

  def episode(self, trace: episode_trace.EpisodeTrace) -> read_outs.Episode:
    """What was noted, with the facts that the trace has."""
    columns = {
        name: read_outs.Fact(
            np.array([_number(facts.get(name)) for facts in self._facts]),
            all(isinstance(facts.get(name, 0), numbers.Integral)
                for facts in self._facts),
        ) for name in sorted(set().union(*self._facts))
    }
    columns['action'] = read_outs.Fact(
        _known(trace.action, episode_trace.NO_ACTION), True
    )
    columns['place'] = read_outs.Fact(
        _known(trace.place, episode_trace.NO_PLACE), True
    )
    columns['steps since points'] = read_outs.Fact(
        _steps_since_points(trace.score), False
    )
    return read_outs.Episode(
        {name: np.stack([row[name] for row in self._rows])
         for name in self._rows[0]},
        columns,
    )

  def links(self) -> Optional[Links]:
    """Where a DNC wrote and read; None if there is none."""
    states = self._dnc_states
    if not states:
      return None
    return Links(
        *(np.stack([getattr(state, name)[0] for state in states])
          for name in ('write_weighting', 'read_weightings', 'usage')),
        states[-1].link[0].numpy(),
    )


def _parts(state) -> dict[str, np.ndarray]:
  """A state of one environment in parts of a name, each a vector."""
  def vector(*tensors):
    return np.concatenate([np.ravel(x) for x in tensors])

  dnc = next(_dnc_states(state), None)
  if dnc is None:
    return {'core state': vector(*tf.nest.flatten(state))}
  return {
      'controller': vector(dnc.controller_output, dnc.controller_state),
      'read vectors': vector(dnc.read_vectors),
      # Half the bytes: it is by far the largest part.
      'memory rows': vector(dnc.memory).astype(np.float16),
  }


def _dnc_states(state) -> Iterator[dnc_memory.DNCState]:
  """The DNCs' states in a nest of tuples."""
  if isinstance(state, dnc_memory.DNCState):
    yield state
  elif isinstance(state, tuple):
    for part in state:
      yield from _dnc_states(part)


def _number(value) -> float:
  return np.nan if value is None else float(value)


def _known(values: np.ndarray, unknown: int) -> np.ndarray:
  return np.where(values == unknown, np.nan, values.astype(np.float64))


def _steps_since_points(score: np.ndarray) -> np.ndarray:
  """log2(1 + steps since the score last changed); NaN before it does."""
  steps = np.arange(len(score))
  changed = np.diff(score, prepend=score[0]) != 0
  last = np.maximum.accumulate(np.where(changed, steps, -1))
  return np.where(last < 0, np.nan, np.log2(1.0 + steps - last))
