"""The config of a run that is to be played, bound with gin.

The run may come from a stranger: see `gin_files.parse` for what its config may
ask for.
"""

from __future__ import annotations

import re
from typing import Any, Callable, NamedTuple, Optional

import gin

from rnd_agent.environments import suites
from rnd_agent.runs import run_folder
from rnd_agent.settings import gin_files
from rnd_agent.training import train_eval as train_eval_lib

# The checkpoint has a number for each.
_MOST_ENVIRONMENTS = 10**6


class RefusedConfigError(ValueError):
  """A config that asks for more than it may; one line."""


class Settings(NamedTuple):
  """What a run's config says that playing needs.

  Attributes:
    env_name: of the environment.
    num_parallel_environments: of the training.
    num_minibatches: of the training.
    num_epochs: of the training.
    precision: of the networks.
    bonus: class of the intrinsic reward; None: Random Network Distillation.
  """

  env_name: str
  num_parallel_environments: int
  num_minibatches: int
  num_epochs: int
  precision: str
  bonus: Optional[Callable[..., Any]]


def read(
    folder: run_folder.RunFolder, trust: bool = False
) -> Settings:
  """Binds a run's operative config with gin.

  Args:
    folder: the run.
    trust: whether it is the user's own: its environment may be imported from a
      module, and its config refer to anything.

  Returns:
    Its `Settings`.

  Raises:
    RunFolderError: the config is missing, or leads out of the folder.
    ConfigError: it is damaged, or asks for what this version does not have.
    UntrustedError: it asks for code to be run.
    RefusedConfigError: it includes another file.
  """
  text = folder.text(run_folder.CONFIG)
  if re.search(r'^\s*include\b', text, re.MULTILINE):
    raise RefusedConfigError(
        f'{folder.label}: its {run_folder.CONFIG} includes another file, which '
        'no run writes: not opened'
    )
  gin.clear_config()
  gin_files.parse([str(folder.file(run_folder.CONFIG))], trust=trust)
  config = train_eval_lib.checked_config(gin.get_bindings('train_eval'))
  environments = config.num_parallel_environments
  if environments > _MOST_ENVIRONMENTS:
    raise gin_files.ConfigError(
        f'train_eval.num_parallel_environments = {environments}: no run has '
        'that many'
    )
  suites.check_name(config.env_name)
  return Settings(*(getattr(config, name) for name in Settings._fields))
