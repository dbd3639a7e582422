"""The progress of a run, as one line that is updated or as lines of a log."""

import collections
import contextlib
import math
import os
import shlex
import sys
import time
from typing import Callable, Mapping, Optional, Sequence, TextIO, Union

from rnd_agent.common import plain_text
from rnd_agent.common import wording
from rnd_agent.runs import metrics as metrics_lib


class Progress:
  """Shows how far the run is.

  On a terminal one line is overwritten, elsewhere a line is added now and then.
  """

  _WINDOW = 20  # Iterations that the time left is estimated from.
  _FIRST_LINES = 3  # Lines that are written whatever the interval.

  def __init__(
      self,
      total: int,
      stream: Optional[TextIO] = None,
      interval_s: float = 10.0,
      clock: Callable[[], float] = time.monotonic,
      enabled: bool = True,
      env_name: str = '',
      prefix: str = '',
  ):
    """Keeps the settings; writes nothing yet.

    Args:
      total: Number of iterations of the whole run, 0 for an endless one.
      stream: Where to write; standard output if None.
      interval_s: Seconds between lines when the stream is not a terminal; the
        first three lines and the last are always written.
      clock: Returns the time in seconds.
      enabled: Whether progress is shown.
      env_name: The environment, which decides whether places are called rooms.
      prefix: What stands before notes.
    """
    self._enabled = enabled
    self._prefix = prefix
    self._env_name = env_name
    self._total = total
    self._stream = sys.stdout if stream is None else stream
    self._interval_s = interval_s
    self._clock = clock
    self._live = self._stream.isatty() and os.environ.get('TERM') != 'dumb'
    self._line = ''
    self._label = None
    self._lines = 0
    self._error = None  # Text of the last error when writing.
    self._last_print = -math.inf
    self._times = collections.deque(maxlen=self._WINDOW)

  def update(
      self,
      row: Mapping[str, Optional[float]],
      metrics: Sequence[metrics_lib.Metric] = metrics_lib.METRICS,
  ):
    """Shows a finished iteration.

    Args:
      row: Its numbers by name, `iteration` among them; None if not known.
      metrics: Rows of the registry; those with `progress` are shown.
    """
    iteration = row['iteration']
    self._times.append((self._clock(), iteration))
    of_total = f'/{self._total}' if self._total else ''
    parts = [f'iteration {iteration}{of_total}']
    if (left_s := self._time_left(iteration)) is not None:
      parts.append(f'{_duration(left_s)} left')
    for metric in metrics:
      value = row.get(metric.name)
      if metric.progress and value is not None:
        parts.append(metric.progress.format(
            value=value, number=wording.number(value),
            places=wording.places(self._env_name),
        ))
    self._show('iteration', parts, is_last=iteration == self._total)

  def bar(self, label: str, done: int, total: int):
    """Shows how much of a known amount of work is done.

    Args:
      label: What the work is, such as 'statistics'.
      done: How much is done, of the same unit as `total`.
      total: How much there is.
    """
    filled = round(20 * done / total) if total else 20
    drawing = f'[{"#" * filled}{"." * (20 - filled)}]'
    parts = [f'{label} {done}/{total}'] + ([drawing] if self._live else [])
    self._show(label, parts, is_last=done == total)

  def note(self, text: str):
    """Prints a line above the one that is updated."""
    text = plain_text.printable(self._prefix + text)
    if self._live and self._line:
      self._write(f'\r\x1b[K{text}\n{self._line}')
    else:
      self._write(f'{text}\n')

  def conclude(
      self,
      root_dir: Union[str, os.PathLike],
      row: Optional[Mapping[str, Optional[float]]],
      interrupted: bool,
      films: bool = True,
  ):
    """Ends the line that is updated, and prints `conclusion`."""
    self.close()
    self.note(conclusion(root_dir, row, interrupted, films, self._env_name))

  def close(self):
    """Ends the line that is updated, so that the next text begins a new one."""
    self._end_line()
    if self._error and self._stream is sys.stdout:
      # Python flushes standard output when it exits, and would fail again.
      nowhere = os.open(os.devnull, os.O_WRONLY)
      os.dup2(nowhere, self._stream.fileno())
      os.close(nowhere)

  def _end_line(self):
    if self._live and self._line:
      self._write('\n')
    self._line = ''

  def _time_left(self, iteration: int) -> Optional[float]:
    """Seconds to the end at the last iterations' speed, None if unknown."""
    then, first = self._times[0]
    if not first < iteration < self._total:
      return None
    pace_s = (self._times[-1][0] - then) / (iteration - first)
    return pace_s * (self._total - iteration)

  def _show(self, label: str, parts: Sequence[str], is_last: bool):
    if not self._enabled:
      return
    if label != self._label:
      self._end_line()
      self._label, self._lines, self._last_print = label, 0, -math.inf
    if self._live:
      self._line = _fitting(parts, self._width() - 1)
      self._write(f'\r\x1b[K{self._line}')
      return
    now = self._clock()
    due = now - self._last_print >= self._interval_s
    if is_last or due or self._lines < self._FIRST_LINES:
      self._write('  '.join(parts) + '\n')
      self._lines += 1
      self._last_print = now

  def _width(self) -> int:
    """Columns of the terminal, 80 if unknown."""
    try:
      return os.get_terminal_size(self._stream.fileno()).columns or 80
    except OSError:
      return 80

  def _write(self, text: str):
    """Writes; an error is reported on standard error once."""
    try:
      self._stream.write(text)
      self._stream.flush()
      self._error = None
    except OSError as error:
      if str(error) != self._error:
        self._error = str(error)
        # If standard error fails too, there is nowhere to report it.
        with contextlib.suppress(OSError):
          print(
              f'progress is not shown ({error.strerror}): the run goes on',
              file=sys.stderr, flush=True,
          )


def conclusion(
    root_dir: Union[str, os.PathLike],
    row: Optional[Mapping[str, Optional[float]]],
    interrupted: bool,
    films: bool = True,
    env_name: str = '',
) -> str:
  """The summary that is printed when training ends.

  Args:
    root_dir: The run's folder.
    row: The last row of metrics.csv that this process wrote; None without one.
    interrupted: Whether training was asked to stop.
    films: Whether the environment can be filmed.
    env_name: The environment, which decides whether places are called rooms.

  Returns:
    A few lines, of at most 80 columns if the folder's name is short.
  """
  if row is None:
    if interrupted:
      return 'stopped before the first iteration'
    return (
        'nothing to do: all iterations are done; for more, raise '
        'train_eval.num_iterations'
    )
  lines = [
      f'{"stopped" if interrupted else "finished"} after iteration '
      f'{row["iteration"]}, {row["frames"]:,} frames, '
      f'{_duration(row["wall_time_s"])} of training'
  ]
  results = []
  if row['episode_return_mean'] is not None:
    count = min(int(row['episodes']), metrics_lib.WINDOW)
    of = f'{count} episodes' if count > 1 else 'episode'
    results.append(
        f'return {wording.number(row["episode_return_mean"])} (best '
        f'{wording.number(row["episode_return_max"])}) in the last {of}'
    )
  if row['rooms_discovered'] is not None:
    count = int(row['rooms_discovered'])
    results.append(f'{count:,} {wording.places(env_name, count)} discovered')
  if row['furthest_x_max'] is not None:
    results.append(f'furthest x {wording.number(row["furthest_x_max"])}')
  if results:
    lines.append(', '.join(results))
  folder = shlex.quote(os.fspath(root_dir))
  if interrupted:
    lines.append('the same command continues')
  play, plot = 'rnd-play', 'rnd-plot'
  if os.path.basename(sys.argv[0]) != 'rnd-train':  # Of a checkout.
    python = shlex.quote(_interpreter())
    play, plot = f'{python} play.py', f'{python} plot.py'
  lines += [
      f'watch:  {play} --root_dir={folder}' + ' --video=episode.mp4' * films,
      f'report: {plot} report {folder}',
  ]
  return '\n'.join(lines)


def _interpreter() -> str:
  """Path of this Python, relative if it lies below the working directory."""
  relative = os.path.relpath(sys.executable)
  return sys.executable if relative.startswith(os.pardir) else relative


def _fitting(parts: Sequence[str], width: int) -> str:
  """Joins as many of the first parts as fit into a width.

  If not all fit, the word 'iteration' is dropped first.
  """
  if len('  '.join(parts)) > width:
    parts = [parts[0].removeprefix('iteration '), *parts[1:]]
  line = parts[0][: max(width, 0)]
  for part in parts[1:]:
    if len(line) + 2 + len(part) > width:
      break
    line += f'  {part}'
  return line


def _duration(seconds: float) -> str:
  """Formats seconds as 42s, 3m05s, 2h07m or 5d03h."""
  seconds = max(0, round(seconds))
  if seconds < 60:
    return f'{seconds}s'
  if seconds < 3600:
    return f'{seconds // 60}m{seconds % 60:02d}s'
  if seconds < 86400:
    return f'{seconds // 3600}h{seconds % 3600 // 60:02d}m'
  return f'{seconds // 86400}d{seconds % 86400 // 3600:02d}h'
