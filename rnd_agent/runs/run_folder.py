"""Reads a run's folder, which may come from a stranger, safely.

Only regular files inside the folder are opened, links that lead out of it are
refused, nothing is unpickled and nothing imported. TensorFlow is not needed.
"""

from __future__ import annotations

import collections
import csv
import errno
import io
import math
import os
import pathlib
import re
import stat
from typing import Any, Iterable, Iterator, NamedTuple, Union

from rnd_agent.common import plain_json
from rnd_agent.common import plain_text
from rnd_agent.settings import operative_config

CONFIG = 'operative_config.gin'
METRICS = 'metrics.csv'
PLACES = 'places.csv'
DESCRIPTION = 'run.json'
CHECKPOINTS = 'checkpoints'
VIDEOS = 'videos'

# Largest sizes, bytes: metrics.csv of a run of the paper's length has 10 MB,
# and run.json 2 kB for each start.
_LARGEST_TEXT = {
    CONFIG: 2**20, METRICS: 2**27, PLACES: 2**27, DESCRIPTION: 2**25
}
# Cells of a table; metrics.csv of the paper's length has 1.4 million.
_MOST_CELLS = 10**7
_LONGEST_LINE = 2**16  # characters
# Largest values: of counts and times (exact as a float), of other metrics
# (which are float32).
_LARGEST_COUNT = 2**53
_LARGEST_NUMBER = 1e39
_COUNTS = ('iteration', 'frames', 'env_steps', 'wall_time_s')


class RunFolderError(ValueError):
  """A folder that cannot be used as a run's; one line."""


class Place(NamedTuple):
  """Visits of a run to one place (a room, a cell).

  Attributes:
    place: its number.
    order: 1 for the place that was visited first, and so on.
    first_iteration: the iteration in which it was discovered.
    first_env_steps: agent steps at the end of that iteration.
    steps: agent steps that ended there.
    episodes: finished episodes that visited it.
  """

  place: int
  order: int
  first_iteration: int
  first_env_steps: int
  steps: int
  episodes: int


class RunFolder:
  """Reads the files of a run."""

  def __init__(self, path: Union[str, os.PathLike]):
    """Checks that the folder is a run's.

    Args:
      path: of the folder.

    Raises:
      RunFolderError: there is no such folder, or no run in it.
    """
    self._path = pathlib.Path(path).expanduser()
    if not self._path.is_dir():
      raise RunFolderError(f'{printable(path)}: there is no such folder')
    self._real = self._path.resolve()
    if not any((self._path / n).is_file() for n in (METRICS, CONFIG)):
      raise RunFolderError(
          f'{printable(path)} is not a run: it holds neither {METRICS} nor '
          f'{CONFIG}'
      )

  @property
  def path(self) -> pathlib.Path:
    """The folder, as it was named."""
    return self._path

  @property
  def label(self) -> str:
    """The folder's path as text, free of control characters."""
    return printable(os.path.normpath(self._path))

  def file(self, *names: str) -> pathlib.Path:
    """Checks that a file of the run may be opened.

    Args:
      *names: folders and the file's name.

    Returns:
      Its path.

    Raises:
      RunFolderError: it is missing, not a regular file, or a link that leads
        out of the run's folder.
    """
    path = self._path.joinpath(*names)
    shown = printable(path)
    try:
      real = path.resolve(strict=True)
      mode = os.stat(real).st_mode
    except (OSError, RuntimeError) as error:
      raise RunFolderError(f'{shown}: there is no such file') from error
    if not real.is_relative_to(self._real):
      raise RunFolderError(f'{shown} leads out of the run: not opened')
    if not stat.S_ISREG(mode):
      raise RunFolderError(f'{shown} is not a regular file: not opened')
    return path

  def files(self, *names: str) -> list[pathlib.Path]:
    """Checks that all files in a folder of the run may be opened.

    Args:
      *names: of the folder, from the run's folder on.

    Returns:
      Their paths; none if the folder is missing.

    Raises:
      RunFolderError: the folder or one of its files leads out of the run, or
        is not a folder or file.
    """
    folder = self._path.joinpath(*names)
    if not os.path.lexists(folder):
      return []
    try:
      inside = folder.resolve(strict=True).is_relative_to(self._real)
    except (OSError, RuntimeError) as error:
      # Python 3.13 raises OSError where earlier ones raise RuntimeError.
      if isinstance(error, RuntimeError) or error.errno == errno.ELOOP:
        raise RunFolderError(
            f'{printable(folder)} is a link that leads to itself'
        ) from error
      inside = folder.resolve().is_relative_to(self._real)
    if not inside:
      raise RunFolderError(
          f'{printable(folder)} leads out of the run: not opened'
      )
    if not folder.is_dir():
      raise RunFolderError(f'{printable(folder)} is not a folder')
    return [self.file(*names, name) for name in sorted(os.listdir(folder))]

  def text(self, name: str) -> str:
    """The content of a text file in the run's folder.

    Raises:
      RunFolderError: it cannot be read, is too large, or not text in UTF-8.
    """
    path = self.file(name)
    try:
      if path.stat().st_size > _LARGEST_TEXT[name]:
        raise RunFolderError(f'{printable(path)} is too large for a {name}')
      return path.read_text(encoding='utf-8-sig')
    except OSError as error:
      raise RunFolderError(
          f'{printable(path)} cannot be read ({error.strerror})'
      ) from error
    except UnicodeDecodeError as error:
      raise RunFolderError(
          f'{printable(path)} is not text in UTF-8'
      ) from error

  def metrics(self) -> dict[str, list[float]]:
    """The columns of metrics.csv, and `hours`.

    A last line that is being written is left out.

    Returns:
      Lists of floats by column, NaN for an empty cell.

    Raises:
      RunFolderError: it cannot be read, has no iteration yet, or a cell is not
        a valid number.
    """
    columns = self._columns(METRICS, ('iteration', 'wall_time_s'))
    if not columns['iteration']:
      raise RunFolderError(
          f'{printable(self._path / METRICS)} has no iteration yet'
      )
    for name in set(_COUNTS) & set(columns):
      if any(x < 0 or x > _LARGEST_COUNT for x in columns[name]):
        raise RunFolderError(
            f'{printable(self._path / METRICS)}: a cell of {name} is negative '
            'or too large'
        )
    columns['hours'] = [s / 3600 for s in columns['wall_time_s']]
    return columns

  def places(self) -> list[Place]:
    """The places of the run, in the order of their first visits.

    Raises:
      RunFolderError: places.csv cannot be read, or a cell is not a valid
        number.
    """
    first, steps, episodes = {}, collections.Counter(), collections.Counter()
    names = ('iteration', 'env_steps', 'place', 'steps', 'episodes')
    columns = self._columns(PLACES, names)
    for row in zip(*(columns[name] for name in names)):
      if not all(0 <= x <= _LARGEST_COUNT and x.is_integer() for x in row):
        raise RunFolderError(
            f'{printable(self._path / PLACES)}: a cell is not a whole number '
            'from 0 up, or too large'
        )
      iteration, env_steps, place, row_steps, row_episodes = map(int, row)
      first.setdefault(place, (iteration, env_steps))
      steps[place] += row_steps
      episodes[place] += row_episodes
    return [
        Place(place, order, *start, steps[place], episodes[place])
        for order, (place, start) in enumerate(first.items(), start=1)
    ]

  def config(self) -> dict[str, str]:
    """The values of the operative config by parameter, as text."""
    return operative_config.read(self.text(CONFIG))

  def description(self) -> dict[str, Any]:
    """The content of run.json.

    Raises:
      RunFolderError: it cannot be read, or is not a JSON object.
    """
    try:
      content = plain_json.loads(self.text(DESCRIPTION))
    except ValueError as error:
      if isinstance(error, RunFolderError):
        raise
      raise RunFolderError(
          f'{printable(self._path / DESCRIPTION)} is damaged'
      ) from error
    if not isinstance(content, dict):
      raise RunFolderError(
          f'{printable(self._path / DESCRIPTION)} does not describe a run'
      )
    return content

  def videos(self) -> list[pathlib.Path]:
    """Paths of the trainer's films, the oldest first."""
    numbered = {}
    for path in self.files(VIDEOS):
      number = re.fullmatch(r'iteration-(\d{1,12})\.mp4', path.name)
      if number:
        numbered[int(number[1])] = path
    return [path for _, path in sorted(numbered.items())]

  def _columns(self, name: str, needed) -> dict[str, list[float]]:
    """The columns of a file of numbers."""
    shown = printable(self._path / name)
    text = self.text(name)
    complete = io.StringIO(text[: text.rfind('\n') + 1])
    lines = csv.reader(_short_lines(complete, shown), quoting=csv.QUOTE_NONE)
    try:
      return self._numbers(shown, lines, needed)
    except csv.Error as error:
      raise RunFolderError(
          f'{shown}, line {lines.line_num}: {error}'
      ) from error

  def _numbers(self, shown, lines, needed) -> dict[str, list[float]]:
    header = next(lines, [])
    missing = [column for column in needed if column not in header]
    if missing:
      raise RunFolderError(f'{shown} has no column {missing[0]}')
    columns = [[] for _ in header]
    for number, cells in enumerate(lines, start=2):
      try:
        for column, cell in zip(columns, cells, strict=True):
          column.append(_number(cell))
      except ValueError as error:
        raise RunFolderError(
            f'{shown}, line {number}: not a row of this file: '
            f'"{printable(",".join(cells))[:60]}"'
        ) from error
      if number * len(header) > _MOST_CELLS:
        raise RunFolderError(f'{shown} has more than {_MOST_CELLS} cells')
    return dict(zip(header, columns))


def _short_lines(file: Iterable[str], shown: str) -> Iterator[str]:
  """Yields lines; RunFolderError for one longer than `_LONGEST_LINE`."""
  for number, line in enumerate(file, start=1):
    if len(line) > _LONGEST_LINE:
      raise RunFolderError(f'{shown}, line {number}: is too long')
    yield line


def _number(cell: str) -> float:
  """A cell's number, NaN for an empty one."""
  number = float(cell or 'nan')
  if math.isfinite(number) and abs(number) > _LARGEST_NUMBER:
    raise ValueError('larger than any metric')
  return number


def printable(text: Union[str, os.PathLike]) -> str:
  """The text with control characters escaped, safe to print on a terminal."""
  return plain_text.printable(os.fspath(text)).replace('\n', '\\n')
