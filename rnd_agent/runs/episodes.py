"""Statistics of the last episodes, and visits to places in an iteration.

Nothing here needs TensorFlow.
"""

import collections
import statistics
from typing import Any, Iterable, Mapping, Optional, Sequence

from rnd_agent.runs import metrics


class PlaceVisits:
  """Counts the steps and episodes of an iteration by place (room, cell)."""

  def __init__(self):
    self._steps = {}
    self._episodes = {}

  def count_steps(self, place: int, steps: int = 1):
    """Counts steps that ended at a place."""
    self._steps[place] = self._steps.get(place, 0) + steps

  @property
  def steps(self) -> dict[int, int]:
    """Steps of the iteration by place."""
    return dict(self._steps)

  def count_episode(self, places: Iterable[int]):
    """Counts an episode that ended, by the distinct places it had visited."""
    for place in places:
      # The last step of an episode counts where the next episode begins, so
      # the place where this one ended may have no steps.
      self._steps.setdefault(place, 0)
      self._episodes[place] = self._episodes.get(place, 0) + 1

  def reset(self):
    """Sets all counts to 0, as when an iteration is collected once more."""
    self._steps, self._episodes = {}, {}

  def end_iteration(
      self, iteration: int, env_steps: int
  ) -> Sequence[Mapping[str, int]]:
    """Returns the counts of an iteration and resets them.

    Args:
      iteration: Its number.
      env_steps: Agent steps at its end, over all environments.

    Returns:
      Rows for `PlacesFile`, in the order of the first visits.
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
  """Statistics of the last episodes, and all places discovered in the run."""

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
      places: The places (rooms) it visited; None where they are not known.
      furthest_x: The furthest it got in a level, pixels; None likewise.
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
    """Adds places seen in unfinished episodes to those of the run."""
    self._discovered.update(int(place) for place in places)

  @property
  def is_full(self) -> bool:
    """Whether the window holds as many episodes as it can."""
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
    """The values of the columns about episodes; None if not known yet."""
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
    """The window's state as JSON values."""
    return {
        'size': self._episodes.maxlen,
        'episodes': [list(episode) for episode in self._episodes],
        'discovered': sorted(self._discovered),
        'furthest_x': self._furthest_x,
        'total': self._total,
    }

  def set_state(self, state: Mapping[str, Any]):
    """Restores a state that `get_state` returned."""
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
  """Returns the value; ValueError unless it is a number or None."""
  if value is not None and not isinstance(value, (int, float)):
    raise ValueError(f'{value!r:.40} is not a number')
  return value
