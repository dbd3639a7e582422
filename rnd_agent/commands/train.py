"""Trains an agent as a config says, or continues a run.

python train_eval.py --root_dir=runs/x --gin_file=configs/montezuma.gin \
  --gin_bindings='train_eval.num_iterations=10'

A mistake in flags, config or folder is one line on standard error and exit
status 2; a failed environment or a lost worker is status 1, a NaN or infinity
status 3. In each case what has been saved of the run is kept.
"""

import contextlib
import os
import pathlib
import re
import signal
import sys
import textwrap

from absl import app
from absl import flags
from absl import logging

from rnd_agent.common import cluster_task
from rnd_agent.common import path_flags
from rnd_agent.common import plain_text
from rnd_agent.common import terminal

_ROOT_DIR = path_flags.DEFINE_path(
    'root_dir', None, 'Folder of the run; by default runs/<config name>.'
)
_GIN_FILE = flags.DEFINE_multi_string(
    'gin_file', [], 'A config, a file or the name of one in --list; may repeat.'
)
_GIN_BINDINGS = flags.DEFINE_multi_string(
    'gin_bindings', [], 'A binding that overrides the configs; may repeat.'
)
_RESUME = flags.DEFINE_bool(
    'resume', True, 'Whether to continue the run that the folder holds.'
)
_ALLOW_CONFIG_CHANGE = flags.DEFINE_bool(
    'allow_config_change', False, 'Whether to continue a run although its '
    'config now has another environment or other networks.'
)
_LIST = flags.DEFINE_bool(
    'list', False, 'Print the configs and environments that are there.'
)
_WORKERS = flags.DEFINE_integer(
    'workers', 1, 'Processes of this machine that train together, each with '
    'its part of the environments and of the cores. On several machines: start '
    'one on each, with TF_CONFIG.', lower_bound=1,
)
_RESTARTS = flags.DEFINE_integer(
    'restarts', 0, 'How often to start again from the newest checkpoint when '
    'the run fails, or one of its workers is lost.', lower_bound=0,
)
_TRUST = flags.DEFINE_bool(
    'trust', False,
    'The gin files are yours: they may name environments in modules and refer '
    'to anything, as --gin_bindings always may.',
)


def _help():
  """What the command does, and its flags."""
  lines = [__doc__]
  for flag in flags.FLAGS.get_key_flags_for_module(sys.modules[__name__]):
    name = f'--[no]{flag.name}' if flag.boolean else f'--{flag.name}'
    text = flag.help.partition(';\n')[0]  # What absl adds.
    lines += [name, textwrap.indent(textwrap.fill(text, 74), '    ')]
  return '\n'.join(lines)


def _list():
  """The configs that come with the package, and the names of environments."""
  from rnd_agent.environments import suites
  from rnd_agent.settings import shipped_configs

  lines = ['Configs (--gin_file=montezuma.gin):']
  for path in shipped_configs.paths():
    first = path.read_text(encoding='utf-8-sig').partition('\n')[0]
    lines.append(f'  {path.name:28}{first.lstrip("# ")}')
  lines.append("Environments (train_eval.env_name = 'atari:MontezumaRevenge'):")
  for suite, names in suites.names().items():
    text = textwrap.fill(', '.join(names), 74, break_long_words=False)
    lines += [f'  {suite}:', textwrap.indent(text, '    ')]
  return '\n'.join(lines)


def _fail(error, status=2):
  """Ends the process with one line, and a worker's traceback if any."""
  text = plain_text.printable(plain_text.message(error))
  cause, _, details = text.partition('\n\n')
  with contextlib.suppress(OSError):  # The exit status matters more.
    print(f'train_eval: error: {" ".join(cause.split())}', file=sys.stderr)
    if details:
      print(details, file=sys.stderr)
  sys.exit(status)


def _parse_flags(argv):
  """Reads the flags; ends the process for a mistake."""
  try:
    arguments = flags.FLAGS(argv)
  except (flags.Error, ValueError) as error:
    _fail(error)
  if arguments[1:]:
    _fail(f'unexpected argument {arguments[1]!r}')
  return arguments


def _root_dir():
  """The run's folder; by default it is named after the last config."""
  if _ROOT_DIR.value is not None:
    return _ROOT_DIR.value
  last = _GIN_FILE.value[-1] if _GIN_FILE.value else 'default'
  return os.path.join('runs', pathlib.Path(last).stem)


def _machine_errors():
  """TensorFlow's errors for a disk or memory that is full or unusable."""
  from tensorflow import errors

  return (
      errors.ResourceExhaustedError, errors.OutOfRangeError,
      errors.PermissionDeniedError, errors.FailedPreconditionError,
      errors.NotFoundError, errors.UnknownError,
  )


def _first_line(error):
  """The first line of an error, without the operation that TensorFlow names."""
  text = re.sub(r'^\{\{.*?\}\} ', '', str(error))
  return text.partition('\n')[0].rstrip(': ')


def _supervise():
  """Trains in processes of their own; ends with their status."""
  from rnd_agent.commands import supervisor

  if _WORKERS.value > 1 and os.environ.get(cluster_task.VARIABLE):
    _fail(
        f'--workers={_WORKERS.value}: {cluster_task.VARIABLE} is set, so that '
        'this is one worker of several: start each without --workers, or unset '
        'it'
    )
  sys.exit(supervisor.supervise(_WORKERS.value, _RESTARTS.value))


def main(_):
  """Reads the config and trains."""
  here = cluster_task.SUPERVISED in os.environ or _LIST.value
  if not here and (_WORKERS.value > 1 or _RESTARTS.value):
    _supervise()
  # Until the trainer installs its own handler, there is nothing to save.
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
  if _LIST.value:
    print(_list())
    return
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.WARNING)
  try:
    from rnd_agent.common import startup

    with startup.without_collection():
      startup.quiet_imports()
      from rnd_agent.environments import errors
      from rnd_agent.runs import checkpoints
      from rnd_agent.settings import gin_files
      from rnd_agent.training import builders  # noqa: F401, registers for gin
      from rnd_agent.training import cluster
      from rnd_agent.training import train_eval as train_eval_lib
      from rnd_agent.training import trainer

    try:
      gin_files.parse(_GIN_FILE.value, _GIN_BINDINGS.value, _TRUST.value)
      root_dir = _root_dir()
      train_eval_lib.train_eval(
          root_dir=root_dir, resume=_RESUME.value,
          allow_config_change=_ALLOW_CONFIG_CHANGE.value,
      )
    except (
        gin_files.ConfigError, errors.UnknownEnvironmentError,
        checkpoints.CheckpointError,
    ) as error:
      _fail(error)
    except errors.EnvironmentReturnedError as error:
      _fail(error, status=3)
    except (
        errors.EnvironmentWorkerError, checkpoints.SavingFailedError
    ) as error:
      _fail(error, status=1)
    except (cluster.WorkerLostError, cluster.WorkersDifferError) as error:
      _fail(
          f'{error}: what has been saved is kept; the same command continues',
          status=1,
      )
    except trainer.TrainingDivergedError as error:
      _fail(error, status=3)
    except (OSError, *_machine_errors()) as error:
      _fail(
          f'{_first_line(error)}: what has been saved is kept; when this is '
          'mended, the same command continues', status=1,
      )
  except KeyboardInterrupt:
    print('train_eval: interrupted before training began', file=sys.stderr)


def run():
  """The command `rnd-train`, and train_eval.py."""
  terminal.prepare('train_eval')
  if {'--help', '-h'} & set(sys.argv[1:]):
    print(_help())
  else:
    app.run(main, flags_parser=_parse_flags)
