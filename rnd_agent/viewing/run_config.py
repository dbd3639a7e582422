"""Reads the config of a run that is to be played, and binds it with gin.

The run may come from a stranger: `gin_files.parse` says what its config may
refer to.
"""

from __future__ import annotations

import re
from typing import Any, Callable, NamedTuple, Optional

import gin

from rnd_agent.environments import suites
from rnd_agent.runs import run_folder
from rnd_agent.settings import gin_files
from rnd_agent.training import train_eval as train_eval_lib

# Bounds memory: the agent has a number for each environment.
_MOST_ENVIRONMENTS = 10**6


class RefusedConfigError(ValueError):
  """The config includes another file; the message is one line."""


class Settings(NamedTuple):
  """The part of a run's config that playing needs.

  Attributes:
    env_name: of the environment.
    num_parallel_environments: in training.
    num_minibatches: in training.
    num_epochs: in training.
    precision: of the networks, such as 'float32'.
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
    trust: whether the run is the user's own: then its environment may come from
      any module, and its config may refer to anything.

  Returns:
    Its `Settings`.

  Raises:
    RunFolderError: the config is missing, or leads out of the folder.
    ConfigError: the config is damaged, or names what this version does not
      have.
    UntrustedError: the config asks for code to be run.
    RefusedConfigError: the config includes another file.
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
