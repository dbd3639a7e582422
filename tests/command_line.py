"""train_eval.py run inside the tests' process, and what it does to files."""

import contextlib
import hashlib
import importlib
import io
import os
import pathlib
import signal
import sys
from typing import NamedTuple

from absl import flags
from absl import logging
from absl.testing import flagsaver
import gin

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from rnd_agent.commands import train  # noqa: E402

# A run that is over in a moment.
TINY = (
    "train_eval.env_name = 'toy:Corridor'",
    'train_eval.num_parallel_environments = 4',
    'train_eval.num_workers = 1',
    'train_eval.rollout_length = 8',
    'train_eval.num_iterations = 2',
    'train_eval.num_minibatches = 2',
    'train_eval.num_epochs = 1',
    'train_eval.random_rollouts = 1',
    'train_eval.eval_interval = 0',
    'train_eval.checkpoint_interval = 1',
    'ActorCriticNetwork.fc_layer_params = (8,)',
    'RandomNetworkDistillation.feature_dim = 4',
    'RandomNetworkDistillation.predictor_hidden_units = (4,)',
)


class Result(NamedTuple):
  """Exit status, standard error and standard output."""

  status: object
  error: str
  output: str


def main(arguments) -> Result:
  """Runs train_eval.py's own code in this process."""
  error, output = io.StringIO(), io.StringIO()
  handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
  verbosity = logging.get_verbosity()
  gin.clear_config()
  try:
    with contextlib.ExitStack() as stack:
      stack.enter_context(flagsaver.flagsaver())
      stack.enter_context(contextlib.redirect_stderr(error))
      stack.enter_context(contextlib.redirect_stdout(output))
      flags.FLAGS.unparse_flags()
      status = 0
      try:
        train.main(train._parse_flags(['train_eval.py', *arguments]))
      except SystemExit as exit_:
        status = exit_.code
  finally:
    gin.clear_config()
    logging.set_verbosity(verbosity)
    for number, handler in handlers.items():
      signal.signal(number, handler)
  return Result(status, error.getvalue(), output.getvalue())


def script(name, arguments) -> Result:
  """Runs play.py or plot.py in this process."""
  module = importlib.import_module(
      f'rnd_agent.commands.{name.removesuffix(".py")}'
  )
  values = module._FLAGS
  values.mark_as_parsed()
  before = values.flag_values_dict()
  error, output = io.StringIO(), io.StringIO()
  verbosity = logging.get_verbosity()
  gin.clear_config()
  status = 0
  try:
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(output):
      module.main([name, *arguments])
  except SystemExit as exit_:
    status = exit_.code
  finally:
    gin.clear_config()
    logging.set_verbosity(verbosity)
    for flag, value in before.items():
      values[flag].value = value
      values[flag].using_default_value = True
  return Result(status, error.getvalue(), output.getvalue())


def files(folder) -> dict[str, str]:
  """What every file, folder and link below a folder is and holds."""
  found = {}
  for path in sorted(folder.rglob('*')):
    name = str(path.relative_to(folder))
    if path.is_symlink():
      found[name] = f'link to {os.readlink(path)}'
    elif path.is_dir():
      found[name] = 'folder'
    elif path.stat().st_size > 2**30:  # Empty ones that claim a terabyte.
      found[name] = f'{path.stat().st_size} bytes'
    else:
      found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
  return found
