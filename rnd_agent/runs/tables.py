"""metrics.csv and places.csv of a run, to which rows are appended.

Nothing here needs TensorFlow.
"""

import csv
import io
import math
import os
from typing import Any, Mapping, NamedTuple, Optional, Sequence, Union

from rnd_agent.runs import metrics as metrics_lib

PLACES_COLUMNS = ('iteration', 'env_steps', 'place', 'steps', 'episodes')


class _Table:
  """A CSV file: a header, then rows in the order of their iterations.

  Rows are written without buffering. Opening an existing file removes what a
  crash may have left: an incomplete last line and, on resume, the rows after
  the restored iteration.
  """

  def __init__(
      self,
      path: Union[str, os.PathLike],
      form: '_Form',
      last_iteration: Optional[int] = None,
  ):
    """Opens a file for appending, or creates it with its header.

    Args:
      path: The file's path, in an existing folder.
      form: Its columns.
      last_iteration: The iteration that the run is restored to, 0 for a new
        run: later rows are removed. None keeps all rows.

    Raises:
      ValueError: The file has other columns, or a line is not a valid row.
      OSError: The file cannot be opened.
    """
    if not form.columns or form.columns[0] != 'iteration':
      raise ValueError("the first column must be 'iteration'")
    self._path = os.fspath(path)
    self._form = form
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
    """Columns that a file of an older version does not have, nor gets."""
    return tuple(c for c in self._form.columns if c not in self._columns)

  def write(self, *rows: Mapping[str, Any]):
    """Appends rows.

    Args:
      *rows: Numbers by name. A column that is missing, None or NaN becomes an
        empty cell, but a NaN of a loss is written as nan. Numbers that only
        TensorBoard shows are not written.

    Raises:
      ValueError: An unknown column, or an iteration not after the last one.
      OSError: Not all could be written (the disk is full, for example); the
        next `write` or `sync` tries again.
    """
    for row in rows:
      self._queue(row)
    self._write_pending()

  def _queue(self, row: Mapping[str, Any]):
    known = {*self._form.columns, *self._form.left_out}
    unknown = [name for name in row if name not in known]
    if unknown:
      raise ValueError(f'{self._path} has no column {", ".join(unknown)}')
    iteration = int(row['iteration'])
    if iteration < self._last_iteration + (not self._form.repeats):
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
    """Writes all rows through to the disk; call it before a checkpoint."""
    self._write_pending()
    os.fsync(self._file.fileno())

  def close(self):
    """Writes all rows through to the disk and closes the file."""
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
    """Checks the file and removes everything after the last row to keep."""
    self._file.seek(0)
    self._columns, self._last_iteration, length = self._form.kept(
        self._path, self._file.read(), last_iteration
    )
    self._file.truncate(length)
    if not length:
      self._pending = _csv_line(self._columns)
      self._write_pending()


class MetricsFile(_Table):
  """metrics.csv: one row per iteration.

  A file of an older version keeps the columns that it has.
  """

  def __init__(
      self,
      path: Union[str, os.PathLike],
      metrics: Sequence[metrics_lib.Metric] = metrics_lib.METRICS,
      last_iteration: Optional[int] = None,
  ):
    """Opens a file for appending, or creates it with its header.

    Args:
      path: The file's path, in an existing folder.
      metrics: Rows of the registry; those with a column are written, the first
        of them is `iteration`.
      last_iteration: The iteration that the run is restored to, 0 for a new
        run: later rows are removed. None keeps all rows.

    Raises:
      ValueError: The file has other columns, or a line is not a valid row.
      OSError: The file cannot be opened.
    """
    super().__init__(path, _metrics_form(metrics), last_iteration)


class PlacesFile(_Table):
  """places.csv: one row for every place that was visited in an iteration.

  Columns: the iteration; agent steps at its end, over all environments; the
  place; steps of this iteration that ended there; episodes that ended in this
  iteration and visited the place. The rows of an iteration are in the order of
  the places' first visits within it, so a place's first row is its discovery.
  On resume later rows are removed, as in metrics.csv.
  """

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
    super().__init__(path, _PLACES, last_iteration)


def check_tables(
    root_dir: Union[str, os.PathLike],
    last_iteration: Optional[int] = None,
    metrics: Sequence[metrics_lib.Metric] = metrics_lib.METRICS,
):
  """Checks metrics.csv and places.csv of a run before they are opened.

  Args:
    root_dir: The run's folder; the files need not exist.
    last_iteration: As for `MetricsFile`.
    metrics: As for `MetricsFile`.

  Raises:
    ValueError: A file has other columns, or a line is not a valid row.
    OSError: A file cannot be read.
  """
  for name, form in (
      ('metrics.csv', _metrics_form(metrics)), ('places.csv', _PLACES)
  ):
    path = os.path.join(root_dir, name)
    if os.path.exists(path):
      with open(path, 'rb') as file:
        form.kept(path, file.read(), last_iteration)


class _Form(NamedTuple):
  """The columns of a table and its rules.

  Attributes:
    columns: Those that this version writes.
    later: Those of them that a file of an older version may lack.
    left_out: Names of numbers in a row that are not written to the file.
    repeats: Whether an iteration may have several rows.
  """

  columns: Sequence[str]
  later: Sequence[str] = ()
  left_out: Sequence[str] = ()
  repeats: bool = False

  def kept(
      self, path: str, content: bytes, last_iteration: Optional[int]
  ) -> tuple[tuple[str, ...], int, int]:
    """Checks a file's content and finds the part of it to keep.

    Args:
      path: Of the file, for errors.
      content: Of the file.
      last_iteration: Rows of later iterations are not kept; None for all rows.

    Returns:
      Its columns, the iteration of the last row that is kept, and how many
      bytes are kept: 0 if the header is not complete.

    Raises:
      ValueError: It has other columns, or a line is not a valid row.
    """
    header = _csv_line(self.columns)
    if len(content) < len(header) and header.startswith(content):
      return tuple(self.columns), 0, 0
    first, end, _ = content.partition(b'\n')
    found = first.decode('utf-8', 'replace').split(',')
    expected = [c for c in self.columns if c in found or c not in self.later]
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
      if wrong or int(cells[0]) < last + (not self.repeats):
        raise ValueError(
            f'{path}, line {number}: not a row of this file: '
            f'"{",".join(cells)[:60]}"'
        )
      if last_iteration is not None and int(cells[0]) > last_iteration:
        break
      last = int(cells[0])
      length += len(line)
    return tuple(found), last, length


_PLACES = _Form(PLACES_COLUMNS, repeats=True)


def _metrics_form(metrics: Sequence[metrics_lib.Metric]) -> _Form:
  return _Form(
      metrics_lib.columns(metrics),
      later=[m.name for m in metrics if m.column and m.since > 1],
      left_out=[m.name for m in metrics if not m.column],
  )


def _csv_line(cells: Sequence[str]) -> bytes:
  text = io.StringIO()
  csv.writer(text, lineterminator='\n').writerow(cells)
  return text.getvalue().encode('utf-8')


def _cell(name: str, value: Any) -> str:
  """Formats a number: whole numbers in full, others to eight digits."""
  if value is None:
    return ''
  number = float(value)
  if math.isnan(number) and not name.startswith('loss_'):
    return ''
  if number.is_integer() and abs(number) < 2**53:
    return str(int(number))
  return f'{number:.8g}'
