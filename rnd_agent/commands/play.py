"""Plays episodes with a trained run: prints their scores, films or shows them.

python play.py --root_dir=runs/x --episodes=5
python play.py --root_dir=runs/x --video=out.mp4 --highlights

Nothing but the run's operative config and its newest checkpoint is restored;
the folder may come from a stranger. A mistake is one line on standard error and
exit status 2.
"""

import pathlib
import signal
import sys

from absl import flags
from absl import logging

from rnd_agent.common import path_flags
from rnd_agent.common import plain_text
from rnd_agent.common import terminal

# Not absl's global flags: tests import several scripts into one process.
_FLAGS = flags.FlagValues()
_HELP = flags.DEFINE_bool(
    'help', False, 'Print this help.', short_name='h', flag_values=_FLAGS
)
_ROOT_DIR = path_flags.DEFINE_path(
    'root_dir', None, 'Folder of the run.',
    flag_values=_FLAGS,
)
_EPISODES = flags.DEFINE_integer(
    'episodes', 1, 'How many episodes to play.', lower_bound=1,
    flag_values=_FLAGS,
)
_VIDEO = path_flags.DEFINE_path(
    'video', None,
    'Film of all episodes: the game, and beside it the intrinsic reward, the '
    'values and the actions; .mp4 or .gif.',
    flag_values=_FLAGS,
)
_HIGHLIGHTS = flags.DEFINE_bool(
    'highlights', False,
    'With --video: also clips around the three highest peaks of novelty.',
    flag_values=_FLAGS,
)
_TRACE = path_flags.DEFINE_path(
    'trace', None,
    'Where to save the first episode, all its numbers and frames; .npz.',
    flag_values=_FLAGS,
)
_GREEDY = flags.DEFINE_bool(
    'greedy', False, 'Take the likeliest action instead of a sampled one.',
    flag_values=_FLAGS,
)
_STICKY = flags.DEFINE_float(
    'sticky', None,
    'Probability that a frame repeats the previous action, 0 for never; by '
    'default that of the training.', lower_bound=0.0, upper_bound=0.99,
    flag_values=_FLAGS,
)
_SEED = flags.DEFINE_integer(
    'seed', 0, 'Seed of the environment and of the sampled actions.',
    lower_bound=0, upper_bound=2**31 - 2**20,
    flag_values=_FLAGS,
)
_MAX_STEPS = flags.DEFINE_integer(
    'max_steps', 18000,
    'Agent steps after which an episode is cut; 0 for no limit but the '
    "environment's.", lower_bound=0,
    flag_values=_FLAGS,
)
_RENDER = flags.DEFINE_bool(
    'render', False, 'Show the game in a window.',
    flag_values=_FLAGS,
)
_TRUST = flags.DEFINE_bool(
    'trust', False,
    "The run is yours: its environment's name may import modules, and its "
    'config may refer to anything.',
    flag_values=_FLAGS,
)
_CLIPS = 3  # Of --highlights.


def _fail(error, status=2):
  """Ends the process with one line."""
  from rnd_agent.runs import run_folder

  # Text of a stranger's file may be part of an error: it is escaped.
  text = run_folder.printable(plain_text.one_line(error))
  print(f'play: error: {text}', file=sys.stderr)
  sys.exit(status)


def _print_line(text):
  """Prints a line, escaped: text of a stranger's file may be part of it."""
  from rnd_agent.runs import run_folder

  print(run_folder.printable(text), flush=True)


def _parse_flags(argv):
  """Reads the flags; ends the process for a mistake or --help."""
  try:
    arguments = _FLAGS(argv)
  except flags.Error as error:
    _fail(error)
  if _HELP.value:
    print(f'{__doc__}\n{_FLAGS.get_help()}')
    sys.exit()
  if arguments[1:]:
    _fail(f'unexpected argument {arguments[1]!r}')


def _check_flags():
  """Checks paths and the display, before TensorFlow is loaded."""
  from rnd_agent.common import film_files
  from rnd_agent.viewing import window as window_lib

  if not _ROOT_DIR.value:
    _fail("name the run's folder: --root_dir=runs/montezuma")
  if _VIDEO.value:
    film_files.check_name(_VIDEO.value)
  elif _HIGHLIGHTS.value:
    _fail('--highlights needs --video=out.mp4, whose name the clips get')
  if _RENDER.value:
    window_lib.check_display()
  if _TRACE.value and not _TRACE.value.endswith('.npz'):
    _fail(f'--trace={_TRACE.value}: traces end in .npz')
  for path in (_VIDEO.value, _TRACE.value):
    if path and not pathlib.Path(path).absolute().parent.is_dir():
      _fail(f'{path}: there is no folder {pathlib.Path(path).parent}')


def _play(player):
  """Plays all episodes and prints each.

  Ctrl-C cuts the episode and skips the rest; what has been played is returned.
  A second Ctrl-C ends the process.

  Returns:
    The outcomes, and whether Ctrl-C was pressed.
  """
  from rnd_agent.viewing import window as window_lib

  window = None
  if _RENDER.value and player.shows_pictures:
    window = window_lib.Window(player.env_name, player.frames_per_second)
  outcomes = []
  interrupts = []
  previous = signal.signal(
      signal.SIGINT, lambda number, _: _note_interrupt(number, interrupts)
  )
  try:
    for number in range(1, _EPISODES.value + 1):
      outcome = player.play(
          greedy=_GREEDY.value, max_steps=_MAX_STEPS.value,
          frames=bool(_VIDEO.value or _TRACE.value),
          watch=window.show if window else None, stop=lambda: bool(interrupts),
      )
      outcomes.append(outcome)
      _print_line(f'episode {number}: {_described(outcome, player.env_name)}')
      if interrupts or window and not window.is_open:
        break
  finally:
    signal.signal(signal.SIGINT, previous)
    if window:
      window.close()
  return outcomes, bool(interrupts)


def _note_interrupt(number, interrupts):
  signal.signal(number, signal.SIG_DFL)  # The next one ends the process.
  interrupts.append(number)


def _described(outcome, env_name):
  """An episode's results in a line."""
  import numpy as np

  from rnd_agent.common import wording

  parts = [f'score {wording.number(outcome.score)}',
           f'{wording.number(outcome.length)} steps']
  if outcome.rooms is not None:
    places = wording.places(env_name, outcome.rooms)
    parts.append(f'{wording.number(outcome.rooms)} {places}')
  if outcome.furthest_x is not None:
    parts.append(f'furthest x {wording.number(outcome.furthest_x)}')
  rewards = outcome.trace.intrinsic_reward
  if not np.isnan(rewards).all():
    parts.append(
        f'intrinsic reward {np.nanmean(rewards):.3g}, highest '
        f'{np.nanmax(rewards):.3g} at step {np.nanargmax(rewards)}'
    )
  if not outcome.complete:
    parts.append('cut')
  return ', '.join(parts)


def _summarized(outcomes, env_name):
  """The mean results of several episodes, in a line."""
  from rnd_agent.common import wording

  count, number = len(outcomes), wording.number
  scores = [outcome.score for outcome in outcomes]
  text = (
      f'mean of {count} episodes: score {number(sum(scores) / count)} '
      f'({number(min(scores))} to {number(max(scores))}), '
      f'{sum(o.length for o in outcomes) / count:,.0f} steps'
  )
  if all(outcome.rooms is not None for outcome in outcomes):
    mean = sum(o.rooms for o in outcomes) / count
    text += f', {wording.places(env_name)} {number(mean)}'
  if all(outcome.furthest_x is not None for outcome in outcomes):
    mean = sum(o.furthest_x for o in outcomes) / count
    text += f', furthest x {number(mean)}'
  return text


def _film(outcomes, frames_per_second):
  """Writes the film, and with --highlights the clips; returns their paths."""
  from rnd_agent.common import film_files
  from rnd_agent.viewing import panel

  path = pathlib.Path(_VIDEO.value)
  panels = [
      panel.Panel(outcome.trace, f'episode {number}/{len(outcomes)}')
      for number, outcome in enumerate(outcomes, start=1)
  ]
  with film_files.FilmFile(path, frames_per_second) as film:
    for drawer in panels:
      for frame in drawer.frames():
        film.write(frame)
  written = [path]
  if _HIGHLIGHTS.value:
    for number, (episode, steps) in enumerate(_clips(outcomes), start=1):
      clip = path.with_name(f'{path.stem}-peak-{number}{path.suffix}')
      with film_files.FilmFile(clip, frames_per_second) as film:
        for frame in panels[episode].frames(steps):
          film.write(frame)
      written.append(clip)
  return written


def _clips(outcomes):
  """`(episode, steps)` of every clip, that of the highest peak first."""
  from rnd_agent.viewing import episode_trace

  clips = []
  for episode, outcome in enumerate(outcomes):
    rewards = outcome.trace.intrinsic_reward
    for peak, steps in episode_trace.clips(outcome.trace, _CLIPS):
      clips.append((-rewards[peak], episode, steps))
  clips.sort(key=lambda clip: clip[:2])
  return [(episode, steps) for _, episode, steps in clips[:_CLIPS]]


def _run():
  """Restores the run, plays the episodes, writes trace and films."""
  from rnd_agent.runs import run_folder
  from rnd_agent.viewing import play_lib

  folder = run_folder.RunFolder(_ROOT_DIR.value)
  player = play_lib.Player(
      folder, sticky=_STICKY.value, seed=_SEED.value, trust=_TRUST.value
  )
  try:
    if not player.shows_pictures and (_VIDEO.value or _RENDER.value):
      raise play_lib.PlayError(
          f'{player.env_name} renders no frames: leave out --video and --render'
      )
    actions = 'likeliest' if _GREEDY.value else 'sampled'
    _print_line(
        f'{folder.label}: {player.env_name} after iteration '
        f'{player.iteration}, {actions} actions'
    )
    outcomes, interrupted = _play(player)
  finally:
    player.close()
  if len(outcomes) > 1:
    _print_line(_summarized(outcomes, player.env_name))
  written = []
  if _TRACE.value:
    outcomes[0].trace.save(_TRACE.value)
    written.append(_TRACE.value)
  if _VIDEO.value:
    written += _film(outcomes, player.frames_per_second)
  for path in written:
    _print_line(f'wrote {path}')
  if interrupted:
    raise KeyboardInterrupt


def main(argv):
  """Plays a run as the flags say."""
  _parse_flags(argv)
  logging.set_verbosity(logging.WARNING)
  from rnd_agent.common import film_files
  from rnd_agent.common import startup
  from rnd_agent.common import unforeseen
  from rnd_agent.runs import run_folder
  from rnd_agent.viewing import window as window_lib

  try:
    _check_flags()
    run_folder.RunFolder(_ROOT_DIR.value)  # Fails before TensorFlow is loaded.
    with startup.without_collection():
      startup.quiet_imports()
      from rnd_agent.viewing import play_lib

    try:
      _run()
    except play_lib.CANNOT_PLAY as error:
      _fail(error)
  except (
      film_files.FilmError, run_folder.RunFolderError, window_lib.WindowError,
      OSError,
  ) as error:
    _fail(error)
  except Exception as error:  # noqa: BLE001, see `unforeseen`.
    _fail(unforeseen.line(error, str(_ROOT_DIR.value)))
  except KeyboardInterrupt:
    print('play: interrupted', file=sys.stderr)
    sys.exit(130)


def run():
  """The command `rnd-play`, and play.py."""
  terminal.prepare('play')
  main(sys.argv)
