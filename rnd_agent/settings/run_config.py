"""The config of a run that is to be played, bound with gin.

The run may come from a stranger: a config may bind numbers and refer to parts
of this package, and nothing else.
"""

from __future__ import annotations

import inspect
import re
from typing import NamedTuple

import gin
from gin import config as gin_config

from rnd_agent import config as config_lib
from rnd_agent import train_eval_lib
from rnd_agent.environments import suites
from rnd_agent.runs import run_folder
from rnd_agent.settings import gin_files

_PACKAGE = __name__.partition('.')[0]
_OF_GIN = ('gin.macro', 'gin.constant', 'gin.singleton')
_ENDS_IN_IMPORT = (
    'its environment is imported from a module of its own: add --trust if the '
    'run is yours'
)


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
  """

  env_name: str
  num_parallel_environments: int
  num_minibatches: int
  num_epochs: int
  precision: str


def read(
    folder: run_folder.RunFolder, trust: bool = False
) -> Settings:
  """Binds a run's operative config with gin.

  Args:
    folder: the run.
    trust: whether its environment may import modules of its own.

  Returns:
    Its `Settings`.

  Raises:
    RunFolderError: the config is missing, or leads out of the folder.
    ConfigError: it is damaged, or asks for what this version does not have.
    RefusedConfigError: it asks for more than a config may.
  """
  text = folder.text(run_folder.CONFIG)
  if re.search(r'^\s*include\b', text, re.MULTILINE):
    raise RefusedConfigError(
        f'{folder.label}: its {run_folder.CONFIG} includes another file, which '
        'no run writes: not opened'
    )
  gin.clear_config()
  gin_files.parse([str(folder.file(run_folder.CONFIG))])
  _check_references(folder)
  train_eval_lib.check_configs()
  parameters = inspect.signature(train_eval_lib.train_eval).parameters
  settings = {
      name: parameter.default for name, parameter in parameters.items()
      if name not in ('root_dir', 'resume')
  }
  settings.update(gin.get_bindings('train_eval'))
  train_eval_lib.check_sizes(
      sequence_length=config_lib.PPOConfig().sequence_length, **settings
  )
  env_name = settings['env_name']
  if env_name.count(':') > 1 and not trust:
    raise RefusedConfigError(
        f'{folder.label}: {run_folder.printable(env_name)}: {_ENDS_IN_IMPORT}'
    )
  suites.check_name(env_name)
  return Settings(**{name: settings[name] for name in Settings._fields})


def _check_references(folder: run_folder.RunFolder) -> None:
  """Raises RefusedConfigError where a value refers to other packages.

  Gin knows every configurable of TF-Agents; of those a config could have any
  called. What a run writes refers to this package only.
  """
  for name, parameters in gin_config._CONFIG.items():
    for value in parameters.values():
      for reference in _leaves(value):
        if not isinstance(reference, gin_config.ConfigurableReference):
          continue
        selector = reference.configurable.selector
        own = selector.partition('.')[0] == _PACKAGE or selector in _OF_GIN
        if not own or selector.endswith('.train_eval'):
          raise RefusedConfigError(
              f'{folder.label}: its {run_folder.CONFIG} refers to '
              f'@{run_folder.printable(reference.selector)} in '
              f'{run_folder.printable(name[1])}: only parts of {_PACKAGE} may '
              'be'
          )


def _leaves(value):
  """Yields what a value of a config is made of."""
  if isinstance(value, dict):
    value = [*value, *value.values()]
  if isinstance(value, (list, tuple)):
    for part in value:
      yield from _leaves(part)
  else:
    yield value
