"""Draws runs: curves, novelty, rooms, memory, a comparison, a report.

python plot.py runs/a runs/b --output=curves.png [--group=config] [--watch]
python plot.py novelty runs/a --output=novelty.png
python plot.py rooms runs/a --output=rooms.png
python plot.py memory runs/a --output=memory.png [--episodes=200]
python plot.py compare runs/a runs/b [--output=compare.md]
python plot.py report runs/a --output=report.html

Curves and memory come with their numbers as CSV and Markdown beside the
picture. Figures end in .png, .svg or .pdf. A mistake is one line on standard
error and exit status 2. TensorFlow is loaded only to play episodes.
"""

import contextlib
import pathlib
import signal
import sys
import time

from absl import flags

from rnd_agent.common import film_files
from rnd_agent.common import path_flags
from rnd_agent.common import plain_text
from rnd_agent.common import terminal
from rnd_agent.common import unforeseen
from rnd_agent.environments import suites
from rnd_agent.runs import metrics as metrics_lib
from rnd_agent.runs import run_folder
from rnd_agent.viewing import comparison
from rnd_agent.viewing import curve_panels
from rnd_agent.viewing import curves
from rnd_agent.viewing import episode_trace
from rnd_agent.viewing import figures
from rnd_agent.viewing import own_files
from rnd_agent.viewing import pictures
from rnd_agent.viewing import report

# Not absl's global flags: tests import several scripts into one process.
_FLAGS = flags.FlagValues()
_HELP = flags.DEFINE_bool(
    'help', False, 'Print this help.', short_name='h', flag_values=_FLAGS
)
_OUTPUT = path_flags.DEFINE_path(
    'output', None, 'Where to write; the ending is the format.',
    flag_values=_FLAGS,
)
_X = flags.DEFINE_enum(
    'x', 'frames', list(curve_panels.X_LABELS),
    'The horizontal axis of curves.',
    flag_values=_FLAGS,
)
_METRICS = flags.DEFINE_multi_string(
    'metric', list(metrics_lib.PANELS),
    'A column of metrics.csv; may repeat, one panel each. By default the most '
    'informative ones that a run has.',
    flag_values=_FLAGS,
)
_GROUP = flags.DEFINE_enum(
    'group', 'none', list(curves.GROUPINGS),
    'config, bonus: one curve for all runs of a config whatever their seeds, '
    'or of a bonus whatever their config: their interquartile mean and a 95 % '
    'bootstrap interval.',
    flag_values=_FLAGS,
)
_WATCH = flags.DEFINE_bool(
    'watch', False,
    'Draw curves again every --interval seconds, until Ctrl-C.',
    flag_values=_FLAGS,
)
_INTERVAL = flags.DEFINE_float(
    'interval', 30.0, 'Seconds between the drawings of --watch.',
    lower_bound=0.1,
    flag_values=_FLAGS,
)
_TRACE = path_flags.DEFINE_path(
    'trace', None,
    'For novelty and report: an episode saved by play.py --trace, instead of '
    'playing one.',
    flag_values=_FLAGS,
)
_EPISODE = flags.DEFINE_bool(
    'episode', True, 'For report: whether to play an episode and show clips.',
    flag_values=_FLAGS,
)
_SEED = flags.DEFINE_integer(
    'seed', 0, 'Seed of the episodes that are played.', lower_bound=0,
    upper_bound=2**31 - 2**20,
    flag_values=_FLAGS,
)
_EPISODES = flags.DEFINE_integer(
    'episodes', 200, 'For memory: how many episodes are played at most.',
    lower_bound=3,
    flag_values=_FLAGS,
)
_TRUST = flags.DEFINE_bool(
    'trust', False,
    "The run is yours: its environment's name may import modules, and its "
    'config may refer to anything.',
    flag_values=_FLAGS,
)
_MOST_STEPS = 18000  # Agent steps of a played episode.
_LONGEST_INTERVAL = 10**6  # Seconds.


class UsageError(ValueError):
  """The arguments ask for the impossible; the message is one line."""


def draw_curves(runs, x, metrics, grouping, output):
  """Draws the learning curves of runs, and writes their tables beside.

  Args:
    runs: of `curves.read`.
    x: column of the horizontal axis.
    metrics: columns to draw.
    grouping: what the runs of a curve have in common, of `curves.GROUPINGS`.
    output: path of the picture.

  Returns:
    The paths that were written.

  Raises:
    RunFolderError, CurvesError, FigureError: the curves cannot be drawn.
  """
  panels = {m: curves.curves(runs, x, m, grouping) for m in metrics}
  output = pathlib.Path(output)
  tables = _table_paths(output)
  figures.save(curve_panels.figure(panels, x, curves.place_word(runs)), output)
  figures.write_text(tables[0], curves.table(panels, x))
  figures.write_text(tables[1], curves.summary(panels, x))
  return [output, *tables]


def _table_paths(picture):
  """The paths of a picture's tables: CSV and Markdown."""
  picture = pathlib.Path(picture)
  return picture.with_suffix('.csv'), picture.with_suffix('.md')


def _curves(arguments):
  output = _OUTPUT.value or 'curves.png'
  figures.check_name(output)
  for path in _table_paths(output):
    own_files.check(path)
  grouping = _GROUP.value
  noted_errors = set()

  def draw():
    runs = _read(arguments, grouping != 'none', noted_errors)
    metrics = list(dict.fromkeys(_METRICS.value))
    if _FLAGS['metric'].using_default_value:
      metrics = curves.known_metrics(runs, metrics) or metrics
    _print_paths(draw_curves(runs, _X.value, metrics, grouping, output))

  if not _WATCH.value:
    draw()
    return
  interrupts = _collect_interrupts()
  while not interrupts:
    try:
      draw()
    except (run_folder.RunFolderError, curves.TooEarlyError) as error:
      _print_lines(f'plot: waiting: {error}')
    due = time.monotonic() + _INTERVAL.value
    while not interrupts and time.monotonic() < due:
      time.sleep(0.1)


def _read(names, with_config=False, noted_errors=None):
  """Reads runs; those that cannot be read are left out, with a note.

  Args:
    names: of folders.
    with_config: whether to leave out runs without an operative config, too.
    noted_errors: messages that have been printed and are not printed again;
      new ones are added.

  Returns:
    `curves.Run`s, at least one.

  Raises:
    RunFolderError, CurvesError: no run can be read; that of the first run.
  """
  noted_errors = set() if noted_errors is None else noted_errors
  runs, errors = [], []
  for name in names:
    try:
      run = curves.read(run_folder.RunFolder(name))
      if with_config:
        curves.check_config(run)
      runs.append(run)
    except (run_folder.RunFolderError, curves.CurvesError) as error:
      errors.append(error)
  if not runs:
    raise errors[0]
  for error in errors:
    if str(error) not in noted_errors:
      print(f'plot: left out: {_printable(error)}', file=sys.stderr, flush=True)
      noted_errors.add(str(error))
  return runs


def _collect_interrupts():
  """Returns a list to which Ctrl-C appends; a second Ctrl-C ends the process.

  KeyboardInterrupt would be lost if it were raised in a callback from C, of
  which drawing makes many. `threading.Event.wait` can deadlock if the handler
  of a signal that interrupts it sets the event.
  """
  interrupts = []

  def note_interrupt(number, frame):
    del frame
    signal.signal(number, signal.SIG_DFL)
    interrupts.append(number)

  signal.signal(signal.SIGINT, note_interrupt)
  return interrupts


def _novelty(arguments):
  output = _OUTPUT.value or 'novelty.png'
  figures.check_name(output)
  figures.check_installed()  # Fails before an episode is played in vain.
  if _TRACE.value:
    trace = episode_trace.load(_TRACE.value)
  else:
    trace, _ = _play(_one_run(arguments))
  figures.save(pictures.novelty(trace), output)
  _print_paths([output])


def _rooms(arguments):
  output = _OUTPUT.value or 'rooms.png'
  figures.check_name(output)
  folder = _one_run(arguments)
  env_name = folder.config().get('train_eval.env_name', '').strip('\'"')
  drawing = pictures.rooms(
      folder.places(), env_name, suites.grid_width(env_name)
  )
  figures.save(drawing, output)
  _print_paths([output])


def _memory(arguments):
  output = pathlib.Path(_OUTPUT.value or 'memory.png')
  figures.check_name(output)
  for path in _table_paths(output):
    own_files.check(path)
  figures.check_installed()  # Fails before episodes are played in vain.
  folder = _one_run(arguments)
  with _player(folder) as player:
    from rnd_agent.viewing import memory_pictures
    from rnd_agent.viewing import memory_trace
    from rnd_agent.viewing import read_outs

    episodes, links = memory_trace.record(player, _EPISODES.value)
    title = (
        f'{player.env_name}, iteration {player.iteration}: what can be told '
        f'from the memory, in {len(episodes)} episodes of which every third '
        'is held out'
    )
    try:
      found = read_outs.fit(episodes)
    except read_outs.ReadOutError as error:
      raise UsageError(str(error)) from error
  figures.save(
      memory_pictures.figure(found, links, pictures.plain(title)), output
  )
  tables = _table_paths(output)
  figures.write_text(tables[0], comparison.as_csv(
      *memory_pictures.table(found, exact=True)
  ))
  figures.write_text(tables[1], curves.markdown(
      *memory_pictures.table(found, exact=False)
  ))
  _print_paths([output, *tables])


def _compare(arguments):
  output = pathlib.Path(_OUTPUT.value or '.md')
  if output.suffix.lower() not in ('.csv', '.md') and _OUTPUT.value:
    raise UsageError(f'{output}: comparisons end in .csv or .md')
  if _OUTPUT.value:
    own_files.check(output)
  runs = _read(_check_some_runs(arguments), with_config=True)
  text = comparison.as_markdown(*comparison.table(runs, exact=False))
  _print_lines(text.rstrip('\n'))
  if not _OUTPUT.value:
    return
  if output.suffix.lower() == '.csv':
    text = comparison.as_csv(*comparison.table(runs))
  figures.write_text(output, text)
  _print_paths([output])


def _report(arguments):
  output = pathlib.Path(_OUTPUT.value or 'report.html')
  if output.suffix.lower() not in ('.html', '.htm'):
    raise UsageError(f'{output}: reports end in .html')
  own_files.check(output)
  figures.check_installed()  # Fails before an episode is played in vain.
  folder = _one_run(arguments)
  # Also fails before an episode is played in vain.
  width = suites.grid_width(curves.env_name(curves.read(folder)))
  episode = _episode(folder)
  if episode.trace is None:
    _print_lines(f'plot: the report has no episode: {episode.reason}')
  figures.write_text(output, report.page(
      folder, _METRICS.value, episode, width
  ))
  _print_paths([output])


def _episode(folder):
  """An episode for the report, or the reason why there is none."""
  if _TRACE.value:
    return report.Episode(episode_trace.load(_TRACE.value))
  if not _EPISODE.value:
    return report.Episode(None, reason='left out with --noepisode.')
  try:
    return report.Episode(*_play(folder))
  except UsageError as error:
    return report.Episode(None, reason=str(error))


def _play(folder):
  """Plays an episode of a run; loads TensorFlow.

  Returns:
    The trace, and the frames per second of the game.

  Raises:
    UsageError: the run cannot be played.
  """
  with _player(folder) as player:
    return player.play(max_steps=_MOST_STEPS).trace, player.frames_per_second


@contextlib.contextmanager
def _player(folder):
  """A run's player, which is closed at the end; loads TensorFlow.

  Raises:
    UsageError: the run cannot be played; also what fails in the block so.
  """
  from rnd_agent.common import startup

  startup.quiet_imports()
  from rnd_agent.viewing import play_lib

  try:
    player = play_lib.Player(folder, seed=_SEED.value, trust=_TRUST.value)
  except play_lib.CANNOT_PLAY as error:
    raise UsageError(plain_text.one_line(error)) from error
  try:
    yield player
  except play_lib.PlayError as error:
    raise UsageError(str(error)) from error
  finally:
    player.close()


def _check_some_runs(arguments):
  if not arguments:
    raise UsageError('name at least one run, such as runs/montezuma')
  return arguments


def _one_run(arguments):
  if len(arguments) != 1:
    raise UsageError('name one run, such as runs/montezuma')
  return run_folder.RunFolder(arguments[0])


def _print_paths(paths):
  for path in paths:
    _print_lines(f'wrote {path}')


_COMMANDS = {
    'curves': lambda arguments: _curves(_check_some_runs(arguments)),
    'novelty': _novelty,
    'rooms': _rooms,
    'memory': _memory,
    'compare': _compare,
    'report': _report,
}


def _print_lines(text):
  """Prints lines, escaped: text of a stranger's file may be part of them."""
  print(plain_text.printable(text), flush=True)


def _fail(error):
  print(f'plot: error: {_printable(error)}', file=sys.stderr)
  sys.exit(2)


def _printable(error):
  """An error in one line, escaped: text of a stranger's file may be in it."""
  return run_folder.printable(' '.join(str(error).split()))


def _parse_flags(argv):
  """Reads the flags and returns the other arguments.

  Ends the process for a mistake or --help.
  """
  try:
    arguments = _FLAGS(argv)
  except flags.Error as error:
    _fail(error)
  if _HELP.value:
    print(f'{__doc__}\n{_FLAGS.get_help()}')
    sys.exit()
  return arguments[1:]


def main(argv):
  """Runs the command that the first argument names, else `curves`."""
  arguments = _parse_flags(argv)
  command = 'curves'
  if arguments and arguments[0] in _COMMANDS:
    command, *arguments = arguments
  try:
    if _WATCH.value and command != 'curves':
      raise UsageError('--watch is for curves')
    if not _INTERVAL.value <= _LONGEST_INTERVAL:  # True for NaN as well.
      raise UsageError(
          f'--interval={_INTERVAL.value}: choose seconds, at most '
          f'{_LONGEST_INTERVAL}'
      )
    _COMMANDS[command](arguments)
  except (
      UsageError, run_folder.RunFolderError, curves.CurvesError,
      figures.FigureError, own_files.NotOwnError, episode_trace.TraceError,
      film_files.FilmError, OSError,
  ) as error:
    _fail(error)
  except Exception as error:  # noqa: BLE001, see `unforeseen`.
    _fail(unforeseen.line(error, ' '.join(arguments) or 'nothing'))
  except KeyboardInterrupt:
    sys.exit(130)


def run():
  """The command `rnd-plot`, and plot.py."""
  terminal.prepare('plot')
  main(sys.argv)
