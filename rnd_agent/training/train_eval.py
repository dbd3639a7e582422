"""`train_eval`: the run that a config describes, checked and then trained."""

import dataclasses
import inspect
import os
import pathlib
import typing
from typing import Any, Mapping, Optional

import gin
import gymnasium
import numpy as np

from rnd_agent.common import cluster_task
from rnd_agent.common import machine
from rnd_agent.common import plain_text
from rnd_agent.config import PPOConfig
from rnd_agent.config import TrainConfig
from rnd_agent.environments import errors as environment_errors
from rnd_agent.environments import suites
from rnd_agent.environments.errors import MissingPackageError
from rnd_agent.environments.errors import UnknownEnvironmentError
from rnd_agent.runs import checkpoint_files
from rnd_agent.runs import run_files
from rnd_agent.settings import config_checks
from rnd_agent.settings import known_parameters
from rnd_agent.settings import network_sizes
from rnd_agent.settings.gin_files import ConfigError

# Bytes: processes and libraries; an emulator; values and features of a step.
_MEMORY_STANDING_BY = 500 * 2**20
_MEMORY_PER_ENVIRONMENT = 2**20
_MEMORY_PER_STEP = 2200


def _with_parameters_of(config_class):
  """Decorator: shows a dataclass's fields in place of **settings.

  Gin and users see one keyword argument for each field.
  """
  def decorate(function):
    *own, _ = inspect.signature(function).parameters.values()
    hints = typing.get_type_hints(config_class)
    function.__signature__ = inspect.Signature([*own, *(
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default,
            annotation=hints[field.name],
        ) for field in dataclasses.fields(config_class)
    )])
    function.__annotations__ = {**function.__annotations__, **hints}
    return function
  return decorate


@gin.configurable(denylist=['root_dir', 'resume', 'allow_config_change'])
@_with_parameters_of(TrainConfig)
def train_eval(
    root_dir: str,
    resume: bool = True,
    allow_config_change: bool = False,
    **settings,
):
  """Trains an agent, or continues a run, and evaluates it along the way.

  Args:
    root_dir: The run's folder; created if it does not exist.
    resume: Whether to continue a run that the folder holds. If False, such a
      folder is an error.
    allow_config_change: Whether to continue a run although the environment or
      the networks are configured otherwise than it was.
    **settings: Fields of `TrainConfig`, which explains them.

  Raises:
    ConfigError: A size that cannot work or a folder that cannot be used; one
      line that says what to change.
    UnknownEnvironmentError: No environment has this name.
  """
  config = checked_config(settings)
  task = _check_task(config)
  space = _check_environment(config.env_name)
  observation_bytes = sum(
      int(np.prod(part.shape)) * part.dtype.itemsize
      for part in network_sizes.parts(space).values()
  )
  network_sizes.check(space, config.num_parallel_environments)
  check_memory(
      observation_bytes, config.num_parallel_environments // task.number,
      config.rollout_length,
  )
  config_checks.check_evaluation(
      observation_bytes, config.num_eval_episodes if config.eval_interval else 0
  )
  if config.initial_weights is not None and not _holds_checkpoints(root_dir):
    check_initial_weights(config.initial_weights)
  if not task.is_chief:  # The first worker alone writes.
    _run(root_dir, allow_config_change, config)
    return
  prepare_root_dir(root_dir, resume)
  with run_files.locked(root_dir):
    if not _holds_checkpoints(root_dir):
      run_files.check_nothing_is_lost(root_dir, config.checkpoint_interval)
    _run(root_dir, allow_config_change, config)


def _run(root_dir: str, allow_config_change: bool, config: TrainConfig):
  """Builds and trains what has been checked, in a folder of its own."""
  # Here, so that the checks above can be used without loading TensorFlow.
  from rnd_agent.training import builders

  try:
    run = builders.build_trainer(root_dir, config, allow_config_change)
  except (ConfigError, UnknownEnvironmentError):
    raise
  except ValueError as error:  # What only shows when the parts are built.
    raise ConfigError(plain_text.one_line(error)) from error
  run.run()


def checked_config(settings: Mapping[str, Any]) -> TrainConfig:
  """Checks all parameters, those of the other configs as gin binds them.

  Args:
    settings: Fields of `TrainConfig` that differ from their defaults.

  Returns:
    All of its fields.

  Raises:
    ConfigError: For the first one that cannot work, with values that would.
  """
  check_configs()
  try:
    config = TrainConfig(**settings)
  except ValueError as error:
    raise ConfigError(str(error)) from error
  check_sizes(config, PPOConfig().sequence_length)
  return config


def check_sizes(config: TrainConfig, sequence_length: Optional[int] = None):
  """Checks the parameters of `train_eval` together.

  Args:
    config: The parameters.
    sequence_length: `PPOConfig.sequence_length`.

  Raises:
    ConfigError: For the first one that cannot work, with values that would.
  """
  environments = config.num_parallel_environments
  minibatches = config.num_minibatches
  sequences = _sequences_per_rollout(config.rollout_length, sequence_length)
  if environments * sequences % minibatches:
    each = f'with {sequences} sequences each ' if sequences > 1 else ''
    raise _wrong(
        'num_parallel_environments', environments,
        f'{each}not divisible by train_eval.num_minibatches = {minibatches}: '
        f'choose {_divisible(environments, minibatches)}',
    )
  if config.num_workers is not None and config.num_workers > environments:
    raise _wrong(
        'num_workers', config.num_workers,
        f'more processes than environments: choose at most {environments}',
    )


def _check_task(config: TrainConfig) -> cluster_task.Task:
  """This process's place in a cluster, for which the sizes must fit.

  Raises:
    ConfigError: They do not, or the cluster is described wrongly.
  """
  try:
    task = cluster_task.task()
  except ValueError as error:
    raise ConfigError(str(error)) from error
  environments, each = config.num_parallel_environments, config.num_minibatches
  sequences = _sequences_per_rollout(
      config.rollout_length, PPOConfig().sequence_length
  )
  if environments % task.number or (
      environments // task.number * sequences % each
  ):
    whole = task.number * each
    raise _wrong(
        'num_parallel_environments', environments,
        f'{task.number} workers cannot share them evenly in '
        f'train_eval.num_minibatches = {each}: choose '
        f'{_divisible(environments, whole)}',
    )
  return task


def check_initial_weights(path: str):
  """Checks that there is a checkpoint to start from; does not read it.

  Args:
    path: A run's folder, or a checkpoint without the ending of its files.

  Raises:
    ConfigError: There is none, or it cannot be read.
  """
  there = os.path.expanduser(path)
  try:
    if os.path.isfile(there + checkpoint_files.INDEX) or (
        _holds_checkpoints(there)
    ):
      return
  except OSError as error:
    raise _wrong(
        'initial_weights', path, f'cannot be read ({error.strerror})'
    ) from error
  raise _wrong(
      'initial_weights', path,
      "no checkpoint there: choose a run's folder, such as 'runs/x', or one of "
      "its checkpoints, such as 'runs/x/checkpoints/iteration-50'",
  )


def _holds_checkpoints(root_dir: str) -> bool:
  return bool(checkpoint_files.complete(
      os.path.join(root_dir, checkpoint_files.FOLDER)
  ))


def check_configs():
  """Builds the algorithm's and the environments' numbers, as gin binds them.

  Raises:
    ConfigError: For the first number out of its range.
  """
  for owner, config_class in known_parameters.CONFIGS.items():
    try:
      if owner != 'train_eval':
        config_class()
    except ValueError as error:
      raise ConfigError(plain_text.one_line(error)) from error
  config_checks.check_observation(suites.EnvironmentConfig())
  config_checks.check_layers()
  config_checks.check_given()
  config_checks.check_values()


def check_memory(
    observation_bytes: int, num_environments: int, rollout_length: int
):
  """Estimates what a run needs before any of it is taken.

  Two rollouts (one is collected while the last is trained on), the frames that
  the bonus looks at and what stands by, as measured: 1.8 GiB at 128 x 128
  frames of 84 x 84 x 4, of which this estimates 1.7.

  Args:
    observation_bytes: Of one observation.
    num_environments: B.
    rollout_length: T, agent steps.

  Raises:
    ConfigError: The machine has not as much; with what to lower.
  """
  steps = num_environments * (rollout_length + 1)
  needed = (
      _MEMORY_STANDING_BY + num_environments * _MEMORY_PER_ENVIRONMENT
      + steps * (9 * observation_bytes // 4 + _MEMORY_PER_STEP)
  )
  free = machine.available_memory()
  if needed <= free:
    return
  room = free - _MEMORY_STANDING_BY
  fitting = max(1, int(num_environments * room / (needed - free + room)))
  raise ConfigError(
      f'train_eval.num_parallel_environments = {num_environments} with '
      f'train_eval.rollout_length = {rollout_length} needs about '
      f'{needed / 2**30:.3g} GiB of memory, {free / 2**30:.3g} are free: '
      f'choose about {fitting} environments, or shorter rollouts'
  )


def _check_environment(env_name: str) -> gymnasium.Space:
  """Makes the environment once, as gin binds its preprocessing.

  Returns:
    The space of its observations.

  Raises:
    ConfigError: It cannot be made or learned from, or a package is missing.
    UnknownEnvironmentError: No environment has this name.
  """
  try:
    return suites.check_environment(env_name)
  except UnknownEnvironmentError:
    raise
  except Exception as error:  # Environments are other people's code.
    if isinstance(error, (ValueError, MissingPackageError)):
      cause = plain_text.one_line(error)
    else:
      cause = environment_errors.in_one_line(error)
    raise ConfigError(f'train_eval.env_name = {env_name!r}: {cause}') from error


def prepare_root_dir(root_dir: str, resume: bool):
  """Creates a run's folder, and checks that it can be written.

  Args:
    root_dir: The folder.
    resume: Whether it may already hold a run.

  Raises:
    ConfigError: It cannot be created or written, is in use, holds a run
      unasked, or a run whose files are none or lie elsewhere.
  """
  if not root_dir:
    raise ConfigError('--root_dir= is empty: name a folder, such as runs/x')
  try:
    root_dir.encode()
  except UnicodeEncodeError as error:
    raise ConfigError(
        f'--root_dir={root_dir}: the name is not text in UTF-8: choose another'
    ) from error
  folder = pathlib.Path(root_dir)
  try:
    folder.mkdir(parents=True, exist_ok=True)
    if not resume:
      _check_unused(folder)
    run_files.check_not_in_use(folder)
    run_files.check(folder)
    probe = folder / f'.probe-{os.getpid()}'
    probe.touch(exist_ok=False)
    probe.unlink()
  except OSError as error:
    raise ConfigError(
        f'--root_dir={root_dir} cannot be written ({error.strerror}): choose '
        'another folder'
    ) from error


def _check_unused(folder: pathlib.Path):
  if any(
      os.path.lexists(folder / name)
      for name in ('run.json', 'checkpoints', 'metrics.csv')
  ):
    raise ConfigError(
        f'--root_dir={folder} already holds a run: choose another folder, or '
        'drop --noresume to continue it'
    )


def _wrong(name: str, value: Any, cause: str) -> ConfigError:
  return ConfigError(f'train_eval.{name} = {value!r}: {cause}')


def _sequences_per_rollout(
    rollout_length: int, sequence_length: Optional[int]
) -> int:
  """How many sequences an environment's part of a rollout is cut into."""
  if sequence_length is None or sequence_length >= rollout_length:
    return 1
  if rollout_length % sequence_length:
    divisors = [n for n in range(1, rollout_length) if rollout_length % n == 0]
    near = min(divisors, key=lambda n: abs(n - sequence_length))
    raise ConfigError(
        f'PPOConfig.sequence_length = {sequence_length}: does not divide '
        f'train_eval.rollout_length = {rollout_length}: choose {near}, or None '
        'for the whole rollout'
    )
  return rollout_length // sequence_length


def _divisible(environments: int, minibatches: int) -> str:
  """Names the nearest sizes that divide without a rest."""
  below = environments // minibatches * minibatches
  choices = [str(n) for n in (below, below + minibatches) if n]
  divisors = [n for n in range(1, environments + 1) if environments % n == 0]
  lower = max((n for n in divisors if n < minibatches), default=None)
  upper = min((n for n in divisors if n > minibatches), default=None)
  others = [str(n) for n in (lower, upper) if n]
  return (
      f'{" or ".join(choices)} environments, or {" or ".join(others)} '
      'minibatches'
  )
