"""`train_eval`: the run that a config describes, checked and then trained."""

import difflib
import os
import pathlib
import sys
from typing import Any, Optional

import gin
import gymnasium
import numpy as np

from rnd_agent.common import machine
from rnd_agent.config import ComputeConfig
from rnd_agent.config import PPOConfig
from rnd_agent.config import RNDConfig
from rnd_agent.environments import errors as environment_errors
from rnd_agent.environments import suites
from rnd_agent.environments.errors import MissingPackageError
from rnd_agent.environments.errors import UnknownEnvironmentError
from rnd_agent.runs import run_files
from rnd_agent.settings import config_checks
from rnd_agent.settings import network_sizes
from rnd_agent.settings.gin_files import ConfigError

PRECISIONS = ('float32', 'mixed_bfloat16')
PARALLEL_ENVIRONMENTS = ('sharded', 'tf_agents')
# The smallest allowed value of each whole number.
_SMALLEST = {
    'num_parallel_environments': 1,
    'num_workers': 1,
    'rollout_length': 1,
    'num_iterations': 0,
    'num_minibatches': 1,
    'num_epochs': 1,
    'seed': 0,
    'random_steps': 0,
    'eval_interval': 0,
    'num_eval_episodes': 1,
    'checkpoint_interval': 1,
    'checkpoints_to_keep': 1,
    'summary_interval': 1,
    'video_interval': 0,
}
# The largest of those whose size nothing else limits. Epochs are unrolled.
_LARGEST = {
    'num_epochs': 1000,
    **dict.fromkeys((
        'num_iterations', 'random_steps', 'eval_interval',
        'checkpoint_interval', 'checkpoints_to_keep', 'summary_interval',
        'video_interval',
    ), 10**9),
}
# Bytes: processes and libraries; an emulator; values and features of a step.
_MEMORY_STANDING_BY = 500 * 2**20
_MEMORY_PER_ENVIRONMENT = 2**20
_MEMORY_PER_STEP = 2200
_MAY_BE_NONE = ('num_workers', 'video_interval')
# What a checkpoint's files are called, and TensorFlow's list of them.
_INDEX_OF_CHECKPOINT = '.index'
_LISTS_OF_CHECKSUMS = 'iteration-*.sha256.json'
_ADDED_BY_GIN = '\n  In call to'
_MEANING_OF_ZERO = {
    'num_iterations': 'endless',
    'random_steps': 'no statistics',
    'eval_interval': 'no evaluation',
    'video_interval': 'no films',
}


@gin.configurable(denylist=['root_dir', 'resume', 'allow_config_change'])
def train_eval(
    root_dir: str,
    resume: bool = True,
    allow_config_change: bool = False,
    env_name: str = 'atari:MontezumaRevenge',
    num_parallel_environments: int = 128,
    num_workers: Optional[int] = None,
    parallel_environments: str = 'sharded',
    rollout_length: int = 128,
    num_iterations: int = 30000,
    num_minibatches: int = 4,
    num_epochs: int = 4,
    seed: int = 1,
    random_steps: int = 50,
    eval_interval: int = 100,
    num_eval_episodes: int = 5,
    checkpoint_interval: int = 50,
    checkpoints_to_keep: int = 3,
    summary_interval: int = 1,
    video_interval: Optional[int] = None,
    target_return: Optional[float] = None,
    precision: str = 'float32',
    initial_weights: Optional[str] = None,
    progress: bool = True,
):
  """Trains an agent, or continues a run, and evaluates it along the way.

  Args:
    root_dir: The run's folder; created if it does not exist.
    resume: Whether to continue a run that the folder holds. If False, such a
      folder is an error.
    allow_config_change: Whether to continue a run although the environment or
      the networks are configured otherwise than it was.
    env_name: The environment, `suite:name`.
    num_parallel_environments: B, environments stepped together.
    num_workers: Processes that step them; None for one per core.
    parallel_environments: What steps them: 'sharded', our
      `ShardedPyEnvironment`, or 'tf_agents', for comparison, TF-Agents'
      `ParallelPyEnvironment`: a process for each, whatever `num_workers` is
      (evaluations keep to it), no saved environments, so that a run which is
      continued begins new episodes, and no failure survived.
    rollout_length: T, agent steps of each environment in an iteration.
    num_iterations: Rollouts of each environment; 0 for an endless run.
    num_minibatches: Parts of a rollout, in whole environments.
    num_epochs: Passes over a rollout.
    seed: Of everything random in the run.
    random_steps: Rollouts of a random agent that start the statistics.
    eval_interval: Iterations between evaluations; 0 for none.
    num_eval_episodes: Episodes of an evaluation.
    checkpoint_interval: Iterations between checkpoints.
    checkpoints_to_keep: How many of the last checkpoints stay.
    summary_interval: Iterations between summaries for TensorBoard.
    video_interval: Iterations between films of an episode; None for one at
      every evaluation, 0 for none.
    target_return: Mean score of the last episodes at which to stop, or None.
    precision: 'float32', or 'mixed_bfloat16' for the networks' torsos.
    initial_weights: What a new run starts from: the folder of another run, or a
      checkpoint such as 'runs/x/checkpoints/iteration-50'. Taken are networks
      and statistics; optimizer, counters and environments are new, and there
      is no random agent. A run that is continued goes on from its own.
    progress: Whether the course of the run is shown; notes always are.

  Raises:
    ConfigError: A size that cannot work or a folder that cannot be used; one
      line that says what to change.
    UnknownEnvironmentError: No environment has this name.
  """
  settings = dict(locals())
  for name in ('root_dir', 'resume', 'allow_config_change'):
    del settings[name]
  check_configs()
  check_sizes(sequence_length=PPOConfig().sequence_length, **settings)
  space = _check_environment(env_name)
  observation_bytes = int(np.prod(space.shape)) * space.dtype.itemsize
  network_sizes.check(space.shape, num_parallel_environments)
  check_memory(observation_bytes, num_parallel_environments, rollout_length)
  config_checks.check_evaluation(
      observation_bytes, num_eval_episodes if eval_interval else 0
  )
  if initial_weights is not None and not _holds_checkpoints(root_dir):
    check_initial_weights(initial_weights)
  prepare_root_dir(root_dir, resume)
  with run_files.locked(root_dir):
    _run(root_dir, allow_config_change, settings)


def _run(root_dir: str, allow_config_change: bool, settings: dict[str, Any]):
  """Builds and trains what has been checked, in a folder of its own."""
  if not _holds_checkpoints(root_dir):
    run_files.check_nothing_is_lost(root_dir, settings['checkpoint_interval'])

  # Here, so that the checks above can be used without loading TensorFlow.
  from rnd_agent.training import builders

  try:
    run = builders.build_trainer(
        root_dir, allow_config_change=allow_config_change, **settings
    )
  except (ConfigError, UnknownEnvironmentError):
    raise
  except ValueError as error:  # What only shows when the parts are built.
    raise ConfigError(_in_one_line(error)) from error
  run.run()


def check_sizes(sequence_length: Optional[int] = None, **settings: Any):
  """Checks the parameters of `train_eval` on their own and together.

  Args:
    sequence_length: `PPOConfig.sequence_length`.
    **settings: All parameters of `train_eval` but the folder and `resume`.

  Raises:
    ConfigError: For the first one that cannot work, with values that would.
  """
  for name, smallest in _SMALLEST.items():
    _check_whole_number(name, settings[name], smallest)
  for name, largest in _LARGEST.items():
    if (settings[name] or 0) > largest:
      raise _wrong(name, settings[name], f'choose at most {largest}')
  if settings['seed'] >= 2**31:
    raise _wrong('seed', settings['seed'], 'choose one below 2147483648')
  environments = settings['num_parallel_environments']
  minibatches = settings['num_minibatches']
  sequences = _sequences_per_rollout(
      settings['rollout_length'], sequence_length
  )
  if environments * sequences % minibatches:
    each = f'with {sequences} sequences each ' if sequences > 1 else ''
    raise _wrong(
        'num_parallel_environments', environments,
        f'{each}not divisible by train_eval.num_minibatches = {minibatches}: '
        f'choose {_divisible(environments, minibatches)}',
    )
  workers = settings['num_workers']
  if workers is not None and workers > environments:
    raise _wrong(
        'num_workers', workers,
        f'more processes than environments: choose at most {environments}',
    )
  _check_names(settings)
  if not isinstance(settings['progress'], bool):
    raise _wrong('progress', settings['progress'], 'choose True or False')
  target = settings['target_return']
  if target is not None and not _is_finite_number(target):
    raise _wrong('target_return', target, 'choose a finite number or None')


def check_initial_weights(path: str):
  """Checks that there is a checkpoint to start from; does not read it.

  Args:
    path: A run's folder, or a checkpoint without the ending of its files.

  Raises:
    ConfigError: There is none.
  """
  if os.path.isfile(path + _INDEX_OF_CHECKPOINT) or _holds_checkpoints(path):
    return
  raise _wrong(
      'initial_weights', path,
      "no checkpoint there: choose a run's folder, such as 'runs/x', or one of "
      "its checkpoints, such as 'runs/x/checkpoints/iteration-50'",
  )


def _holds_checkpoints(root_dir: str) -> bool:
  folder = pathlib.Path(root_dir, 'checkpoints')
  return any(folder.glob(_LISTS_OF_CHECKSUMS))


def check_configs():
  """Builds the algorithm's and the environments' numbers, as gin binds them.

  Raises:
    ConfigError: For the first number out of its range.
  """
  for config in (
      PPOConfig, RNDConfig, ComputeConfig, suites.EnvironmentConfig
  ):
    try:
      config()
    except ValueError as error:
      raise ConfigError(_in_one_line(error)) from error
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


def _check_environment(env_name: str) -> gymnasium.spaces.Box:
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
      cause = _in_one_line(error)
    else:
      cause = environment_errors.in_one_line(error)
    raise ConfigError(f'train_eval.env_name = {env_name!r}: {cause}') from error


def _in_one_line(error: Exception) -> str:
  """The message without what gin appends, the configurables' names."""
  return ' '.join(str(error).partition(_ADDED_BY_GIN)[0].split())


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


def _check_whole_number(name: str, value: Any, smallest: int):
  if value is None and name in _MAY_BE_NONE:
    return
  if isinstance(value, bool) or not isinstance(value, int):
    nearest = ''
    if _is_finite_number(value):
      nearest = f', such as {max(smallest, round(value))}'
    raise _wrong(name, value, f'choose a whole number{nearest}')
  if value < smallest:
    meaning = ''
    if smallest == 0 and name in _MEANING_OF_ZERO:
      meaning = f' ({_MEANING_OF_ZERO[name]})'
    raise _wrong(name, value, f'choose {smallest}{meaning} or more')


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


def _check_names(settings):
  env_name = settings['env_name']
  if not isinstance(env_name, str) or not env_name:
    raise _wrong(
        'env_name', env_name, "choose a name such as 'atari:MontezumaRevenge'"
    )
  weights = settings['initial_weights']
  if weights is not None and (not isinstance(weights, str) or not weights):
    raise _wrong(
        'initial_weights', weights, "choose a run's folder or None"
    )
  for name, choices in (
      ('precision', PRECISIONS),
      ('parallel_environments', PARALLEL_ENVIRONMENTS),
  ):
    value = settings[name]
    if value not in choices:
      choices = (
          difflib.get_close_matches(str(value), choices, 1, 0.5) or choices
      )
      raise _wrong(name, value, f'choose {" or ".join(choices)}')


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


def _is_finite_number(value: Any) -> bool:
  if isinstance(value, bool) or not isinstance(value, (int, float)):
    return False
  return abs(value) <= sys.float_info.max  # A whole number may be larger.
