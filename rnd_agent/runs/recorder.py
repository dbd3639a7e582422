"""What a run leaves for its reader: metrics.csv and statistics of episodes.

`Progress` and `write_run_json` belong to it and have files of their own.
Nothing here needs TensorFlow.
"""

import collections
import csv
import io
import math
import os
import statistics
from typing import Any, Iterable, Mapping, Optional, Sequence, Union

from rnd_agent.runs.progress import Progress
from rnd_agent.runs.run_json import write_run_json

__all__ = [
    'COLUMNS',
    'EpisodeWindow',
    'MetricsFile',
    'PLACES_COLUMNS',
    'PlaceVisits',
    'PlacesFile',
    'Progress',
    'write_run_json',
]

COLUMNS = (
    'iteration',
    'env_steps',
    'frames',
    'wall_time_s',
    'steps_per_second',
    'episodes',
    'episode_return_mean',
    'episode_return_max',
    'episode_length_mean',
    'rooms_mean',
    'rooms_discovered',
    'furthest_x_mean',
    'furthest_x_max',
    'intrinsic_reward_mean',
    'intrinsic_reward_std',
    'loss_policy',
    'loss_value_ext',
    'loss_value_int',
    'loss_predictor',
    'entropy',
    'approx_kl',
    'clip_fraction',
    'explained_variance_ext',
    'explained_variance_int',
    'environment_restarts',
    'episodes_cut',
)
# Those that a run of an older version may lack.
_LATER_COLUMNS = ('episodes_cut',)
PLACES_COLUMNS = ('iteration', 'env_steps', 'place', 'steps', 'episodes')


class MetricsFile:
  """metrics.csv: a header, then one row per iteration, in order, once each.

  Rows are appended and handed to the operating system at once. Opening a file
  again cuts off what a crash left behind: a last line without its end and, on
  resume, the rows after the restored iteration. A file of an older version goes
  on with the columns that it has.
  """

  _REPEATS = False

  def __init__(
      self,
      path: Union[str, os.PathLike],
      columns: Sequence[str] = COLUMNS,
      last_iteration: Optional[int] = None,
  ):
    """Opens a file for appending, or creates it with its header.

    Args:
      path: The file's path, in an existing folder.
      columns: Names of the columns, `iteration` first.
      last_iteration: The iteration that the run is restored to, 0 for none:
        later rows are cut off. None keeps all rows.

    Raises:
      ValueError: The file has other columns, or a line that is no row of it.
      OSError: The file cannot be opened.
    """
    if not columns or columns[0] != 'iteration':
      raise ValueError("the first column must be 'iteration'")
    self._path = os.fspath(path)
    self._known_columns = tuple(columns)
    self._pending = b''
    self._file = open(self._path, 'a+b', buffering=0)
    try:
      self._repair(last_iteration)
    except ValueError:
      self._file.close()
      raise

  @property
  def last_iteration(self) -> int:
    """The iteration of the last row, 0 before the first."""
    return self._last_iteration

  @property
  def left_out(self) -> tuple[str, ...]:
    """Columns that a file of an older version goes on without."""
    return tuple(c for c in self._known_columns if c not in self._columns)

  def write(self, *rows: Mapping[str, Any]):
    """Appends rows.

    Args:
      *rows: Numbers by column. A column that is left out, None or NaN becomes
        an empty cell, but a NaN among the losses is written as nan.

    Raises:
      ValueError: An unknown column, or an iteration not after the last one.
      OSError: Not all could be written (the disk is full, say); the next
        `write` or `sync` tries again.
    """
    for row in rows:
      self._queue(row)
    self._write_pending()

  def _queue(self, row: Mapping[str, Any]):
    unknown = [name for name in row if name not in self._known_columns]
    if unknown:
      raise ValueError(f'{self._path} has no column {", ".join(unknown)}')
    iteration = int(row['iteration'])
    if iteration < self._last_iteration + (not self._REPEATS):
      raise ValueError(
          f'{self._path} has a row for iteration {self._last_iteration} '
          f'already; {iteration} cannot follow'
      )
    cells = [_cell(name, row.get(name)) for name in self._columns]
    self._pending += _csv_line(cells)
    self._last_iteration = iteration

  def _write_pending(self):
    while self._pending:
      self._pending = self._pending[self._file.write(self._pending):]

  def sync(self):
    """Returns once all rows are on the disk; call it before a checkpoint."""
    self._write_pending()
    os.fsync(self._file.fileno())

  def close(self):
    """Puts all rows on the disk and closes the file."""
    if not self._file.closed:
      try:
        self.sync()
      finally:
        self._file.close()

  def __enter__(self):
    return self

  def __exit__(self, *unused_exception):
    self.close()

  def _repair(self, last_iteration: Optional[int]):
    """Checks the file and cuts off everything after the last row to keep."""
    self._file.seek(0)
    self._columns, self._last_iteration, length = _to_keep(
        self._path, self._file.read(), self._known_columns, last_iteration,
        self._REPEATS,
    )
    self._file.truncate(length)
    if not length:
      self._pending = _csv_line(self._columns)
      self._write_pending()


def check_tables(
    root_dir: Union[str, os.PathLike], last_iteration: Optional[int] = None
):
  """Checks metrics.csv and places.csv of a run before they are opened.

  Args:
    root_dir: The run's folder; the files need not exist.
    last_iteration: As for `MetricsFile`.

  Raises:
    ValueError: A file has other columns, or a line that is no row of it.
    OSError: A file cannot be read.
  """
  for name, columns, repeats in (
      ('metrics.csv', COLUMNS, MetricsFile._REPEATS),
      ('places.csv', PLACES_COLUMNS, PlacesFile._REPEATS),
  ):
    path = os.path.join(root_dir, name)
    if os.path.exists(path):
      with open(path, 'rb') as file:
        _to_keep(path, file.read(), columns, last_iteration, repeats)


def _to_keep(
    path: str,
    content: bytes,
    columns: Sequence[str],
    last_iteration: Optional[int],
    repeats: bool,
) -> tuple[tuple[str, ...], int, int]:
  """What stays of a file.

  Args:
    path: Of the file, for errors.
    content: Of the file.
    columns: Those that this version writes.
    last_iteration: After which rows are cut off; None for all rows.
    repeats: Whether an iteration may have several rows.

  Returns:
    Its columns, the iteration of the last row, and how many bytes stay: none
    where there is no whole header yet.

  Raises:
    ValueError: It has other columns, or a line that is no row of it.
  """
  header = _csv_line(columns)
  if len(content) < len(header) and header.startswith(content):
    return tuple(columns), 0, 0
  first, end, _ = content.partition(b'\n')
  found = first.decode('utf-8', 'replace').split(',')
  expected = [c for c in columns if c in found or c not in _LATER_COLUMNS]
  if found != expected or not end:
    raise ValueError(
        f'{path} has other columns than this version writes: '
        f'"{",".join(found).strip()[:200]}"; move the file away or choose '
        'another folder'
    )
  length, last = len(first) + 1, 0
  complete = content[length : content.rfind(b'\n') + 1]
  for number, line in enumerate(complete.splitlines(keepends=True), start=2):
    cells = line.decode('utf-8', 'replace').strip().split(',')
    wrong = len(cells) != len(found) or not cells[0].isdecimal()
    if wrong or int(cells[0]) < last + (not repeats):
      raise ValueError(
          f'{path}, line {number}: not a row of this file: '
          f'"{",".join(cells)[:60]}"'
      )
    if last_iteration is not None and int(cells[0]) > last_iteration:
      break
    last = int(cells[0])
    length += len(line)
  return tuple(found), last, length


def _csv_line(cells: Sequence[str]) -> bytes:
  text = io.StringIO()
  csv.writer(text, lineterminator='\n').writerow(cells)
  return text.getvalue().encode('utf-8')


def _cell(name: str, value: Any) -> str:
  """A number as text: whole numbers in full, others to eight digits."""
  if value is None:
    return ''
  number = float(value)
  if math.isnan(number) and not name.startswith('loss_'):
    return ''
  if number.is_integer() and abs(number) < 2**53:
    return str(int(number))
  return f'{number:.8g}'


class PlacesFile(MetricsFile):
  """places.csv: a row for every place that an iteration came to, if any.

  Columns: the iteration; agent steps at its end, over all environments; the
  place; steps of this iteration that ended there; episodes that ended in this
  iteration and had been there. The rows of an iteration are in the order of the
  places' first visits within it, so that a place's first row tells when it was
  discovered. Cut off on resume as metrics.csv is.
  """

  _REPEATS = True

  def __init__(
      self,
      path: Union[str, os.PathLike],
      last_iteration: Optional[int] = None,
  ):
    """Opens a file for appending, or creates it with its header.

    Args:
      path: The file's path, in an existing folder.
      last_iteration: As for `MetricsFile`.

    Raises:
      ValueError: The file has other columns, or a line that is no row of it.
      OSError: The file cannot be opened.
    """
    super().__init__(path, PLACES_COLUMNS, last_iteration)


class PlaceVisits:
  """Counts where the steps of an iteration lead."""

  def __init__(self):
    self._steps = {}
    self._episodes = {}

  def see(self, place: int, steps: int = 1):
    """Counts steps that ended at a place."""
    self._steps[place] = self._steps.get(place, 0) + steps

  def finish(self, places: Iterable[int]):
    """Counts an episode that ended, by the distinct places it had visited."""
    for place in places:
      # Seen before its last step was: the place of a last step is the next
      # episode's first.
      self._steps.setdefault(place, 0)
      self._episodes[place] = self._episodes.get(place, 0) + 1

  def forget(self):
    """Begins to count anew: the iteration is collected once more."""
    self._steps, self._episodes = {}, {}

  def take(self, iteration: int, env_steps: int) -> Sequence[Mapping[str, int]]:
    """Ends an iteration.

    Args:
      iteration: Its number.
      env_steps: Agent steps at its end, over all environments.

    Returns:
      Its rows for `PlacesFile`; counting starts anew.
    """
    rows = [
        dict(
            iteration=iteration, env_steps=env_steps, place=place, steps=steps,
            episodes=self._episodes.get(place, 0),
        )
        for place, steps in self._steps.items()
    ]
    self.forget()
    return rows


class EpisodeWindow:
  """Statistics of the last episodes, and what was discovered in all."""

  def __init__(self, size: int = 100):
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

  def discover(self, places: Iterable[int]):
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
  """A value of a file that may come from anywhere, as it is."""
  if value is not None and not isinstance(value, (int, float)):
    raise ValueError(f'{value!r:.40} is no number')
  return value
