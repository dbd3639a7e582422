"""Runs that tests train in their own process."""

from unittest import mock

import gin

from rnd_agent.settings import gin_files
from rnd_agent.training import builders  # noqa: F401, registers for gin
from rnd_agent.training import train_eval as train_eval_lib


def train(folder, *bindings, files=()):
  """Trains as `train_eval.py` does, but exports no policies, to save time.

  Args:
    folder: of the run.
    *bindings: of gin.
    files: paths of gin files.

  Returns:
    The folder.
  """
  gin.clear_config()
  gin_files.parse([str(path) for path in files], bindings)
  with mock.patch('rnd_agent.training.export.export_policies'):
    train_eval_lib.train_eval(root_dir=str(folder))
  gin.clear_config()
  return folder
