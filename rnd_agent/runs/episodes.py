"""Counts of what is played: the last episodes, the places of an iteration.

Nothing here needs TensorFlow.
"""

import collections
import statistics
from typing import Any, Iterable, Mapping, Optional, Sequence

from rnd_agent.runs import metrics


class PlaceVisits:
  """Counts where the steps of an iteration lead."""

  def __init__(self):
    self._steps = {}
    self._episodes = {}

  def count_steps(self, place: int, steps: int = 1):
    """Counts steps that ended at a place."""
    self._steps[place] = self._steps.get(place, 0) + steps

  def count_episode(self, places: Iterable[int]):
    """Counts an episode that ended, by the distinct places it had visited."""
    for place in places:
      # Seen before its last step was: the place of a last step is the next
      # episode's first.
      self._steps.setdefault(place, 0)
      self._episodes[place] = self._episodes.get(place, 0) + 1

  def reset(self):
    """Begins to count anew: the iteration is collected once more."""
    self._steps, self._episodes = {}, {}

  def end_iteration(
      self, iteration: int, env_steps: int
  ) -> Sequence[Mapping[str, int]]:
    """Gives what was counted in an iteration, and begins to count anew.

    Args:
      iteration: Its number.
      env_steps: Agent steps at its end, over all environments.

    Returns:
      Its rows for `PlacesFile`.
    """
    rows = [
        dict(
            iteration=iteration, env_steps=env_steps, place=place, steps=steps,
            episodes=self._episodes.get(place, 0),
        )
        for place, steps in self._steps.items()
    ]
    self.reset()
    return rows


class EpisodeWindow:
  """Statistics of the last episodes, and what was discovered in all."""

  def __init__(self, size: int = metrics.WINDOW):
    """Creates an empty window.

    Args:
      size: How many of the last episodes count.

    Raises:
      ValueError: The size is below 1.
    """
    if size < 1:
      raise ValueError(f'a window of {size} episodes holds nothing')
    self._episodes = collections.deque(maxlen=size)
    self._discovered = set()
    self._furthest_x = None
    self._total = 0

  def add(
      self,
      episode_return: float,
      length: int,
      places: Optional[Iterable[int]] = None,
      furthest_x: Optional[float] = None,
  ):
    """Adds a finished episode.

    Args:
      episode_return: Sum of its raw rewards, the game's score.
      length: Its length, agent steps.
      places: The places (rooms) it visited; None where there is no such thing.
      furthest_x: The furthest it got in a level; None likewise.
    """
    rooms = None
    if places is not None:
      visited = {int(place) for place in places}
      self._discovered |= visited
      rooms = len(visited)
    if furthest_x is not None:
      best = self._furthest_x
      self._furthest_x = furthest_x if best is None else max(best, furthest_x)
    self._episodes.append(
        (float(episode_return), int(length), rooms, furthest_x)
    )
    self._total += 1

  def add_places(self, places: Iterable[int]):
    """Adds places seen in episodes that go on; they count for the run."""
    self._discovered.update(int(place) for place in places)

  @property
  def is_full(self) -> bool:
    """Whether as many episodes were added as the window holds."""
    return len(self._episodes) == self._episodes.maxlen

  @property
  def total(self) -> int:
    """Episodes added since the run began."""
    return self._total

  @property
  def discovered(self) -> frozenset:
    """All places visited since the run began."""
    return frozenset(self._discovered)

  def statistics(self) -> dict[str, Optional[float]]:
    """The columns about episodes; None for what is not known yet."""
    returns = [episode[0] for episode in self._episodes]
    lengths = [episode[1] for episode in self._episodes]
    rooms, furthest = (
        [episode[i] for episode in self._episodes if episode[i] is not None]
        for i in (2, 3)
    )
    return {
        'episodes': self._total,
        'episode_return_mean': statistics.fmean(returns) if returns else None,
        'episode_return_max': max(returns, default=None),
        'episode_length_mean': statistics.fmean(lengths) if lengths else None,
        'rooms_mean': statistics.fmean(rooms) if rooms else None,
        'rooms_discovered': len(self._discovered) or None,
        'furthest_x_mean': statistics.fmean(furthest) if furthest else None,
        'furthest_x_max': self._furthest_x,
    }

  def get_state(self) -> dict[str, Any]:
    """Everything the window holds, as plain JSON values."""
    return {
        'size': self._episodes.maxlen,
        'episodes': [list(episode) for episode in self._episodes],
        'discovered': sorted(self._discovered),
        'furthest_x': self._furthest_x,
        'total': self._total,
    }

  def set_state(self, state: Mapping[str, Any]):
    """Replaces what the window holds by what `get_state` returned."""
    episodes = [
        (float(score), int(length), _number_or_none(rooms),
         _number_or_none(furthest_x))
        for score, length, rooms, furthest_x in state['episodes']
    ]
    self._episodes = collections.deque(episodes, maxlen=int(state['size']))
    self._discovered = {int(place) for place in state['discovered']}
    self._furthest_x = _number_or_none(state['furthest_x'])
    self._total = int(state['total'])


def _number_or_none(value: Any) -> Optional[float]:
  """The value, if it is a number or None; ValueError for anything else."""
  if value is not None and not isinstance(value, (int, float)):
    raise ValueError(f'{value!r:.40} is no number')
  return value
