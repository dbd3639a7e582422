"""Errors of the environments package."""

import contextlib
import difflib
import importlib
import importlib.util
import pathlib
import traceback
from typing import Any, Iterable, Iterator, Optional

import gymnasium


class UnknownEnvironmentError(ValueError):
  """The name of an environment, game or suite is not known."""


class MissingPackageError(ImportError):
  """An environment needs a package that is not installed."""


class EnvironmentFailedError(ValueError):
  """An environment's code raised when it was made or reset; one line."""


class EnvironmentWorkerError(RuntimeError):
  """A worker process died, hung, or one of its environments raised.

  Attributes:
    worker: Index of the worker process, -1 if unknown.
    environment: Index of the environment it was working on, None if unknown.
    worker_traceback: Text of the traceback inside the worker, '' if none.
    died: Whether the process had ended.
  """

  def __init__(
      self,
      message: str,
      worker: int,
      environment: Optional[int] = None,
      worker_traceback: str = '',
      died: bool = False,
  ):
    full = message
    if worker_traceback:
      full += f'\n\nTraceback in the worker process:\n{worker_traceback}'
    super().__init__(full)
    self.worker = worker
    self.environment = environment
    self.worker_traceback = worker_traceback
    self.died = died


class EnvironmentReturnedError(EnvironmentWorkerError):
  """An environment returned what cannot be trained on; one line says what.

  NaN, for example, or a value that its space forbids.
  """


def unknown_name(
    kind: str, name: str, known: Iterable[str]
) -> UnknownEnvironmentError:
  """Returns the error for an unknown name, with the nearest known ones.

  Args:
    kind: The kind of name that was expected, for example 'Atari game'.
    name: The name that is not known.
    known: All names that are known.
  """
  by_lower = {candidate.lower(): candidate for candidate in known}
  nearest = difflib.get_close_matches(name.lower(), by_lower, n=4, cutoff=0.5)
  if nearest:
    hint = 'the nearest names: ' + ', '.join(by_lower[n] for n in nearest)
  else:
    examples = sorted(by_lower.values())[:6]
    hint = 'no name is near it; known are, for example: ' + ', '.join(examples)
  return UnknownEnvironmentError(f"unknown {kind} '{name}'; {hint}")


def spelt_as_known(name: str, known: Iterable[str]) -> str:
  """Corrects upper and lower case in a name.

  Args:
    name: As the user wrote it.
    known: All names.

  Returns:
    The known name that differs from `name` only in case, if there is exactly
    one; else `name`.
  """
  known = set(known)
  if name in known:
    return name
  same = [candidate for candidate in known if candidate.lower() == name.lower()]
  return same[0] if len(same) == 1 else name


def import_module(module: str, name: str):
  """Imports the module that the name of an environment begins with.

  Args:
    module: 'package.module'.
    name: The environment's name.

  Raises:
    UnknownEnvironmentError: It cannot be imported; one line with the cause.
  """
  try:
    if module.startswith('.'):
      raise ImportError('a module name must not begin with a dot')
    importlib.import_module(module)
  except Exception as error:  # A user's module can raise anything.
    hint = ''
    if isinstance(error, ModuleNotFoundError):
      hint = ': it must lie in the working directory or on the PYTHONPATH'
    raise UnknownEnvironmentError(
        f"{name}: the module '{module}' cannot be imported, "
        f'{in_one_line(error)}{hint}'
    ) from error


def check_is_one_environment(env: Any):
  """Checks that an object is one environment with gymnasium's interface.

  Args:
    env: What somebody gave for one.

  Raises:
    ValueError: It is something else; one line that says what to give.
  """
  if isinstance(env, (list, tuple)):
    mend = 'give one environment, or its maker to ShardedPyEnvironment'
  elif isinstance(env, gymnasium.vector.VectorEnv):
    mend = 'give one of its environments: ShardedPyEnvironment makes many'
  elif not isinstance(
      getattr(env, 'observation_space', None), gymnasium.Space
  ):
    mend = (
        'an environment of the old gym is wrapped with '
        'rnd_agent.environments.games.gym_suite.OldGymEnv'
    )
  else:
    return
  raise ValueError(
      f"{type(env).__name__} is no environment of gymnasium's: {mend}"
  )


@contextlib.contextmanager
def one_line_of_any() -> Iterator[None]:
  """Replaces any exception of an environment's code by an error of one line.

  Raises:
    EnvironmentFailedError: Names the exception's type, message and place.
  """
  try:
    yield
  except (UnknownEnvironmentError, MissingPackageError, EnvironmentFailedError):
    raise
  except Exception as error:
    raise EnvironmentFailedError(
        f'it cannot be made: {in_one_line(error)}'
    ) from error


def in_one_line(error: Exception) -> str:
  """Returns type, message and place of an exception of other people's code."""
  text = ': '.join(
      part for part in (type(error).__name__, ' '.join(str(error).split()))
      if part
  )
  for frame in reversed(traceback.extract_tb(error.__traceback__)):
    path = pathlib.Path(frame.filename)
    if frame.filename.startswith('<') or 'importlib' in path.parts:
      continue  # Python's import machinery.
    if frame.filename != __file__:
      parts = 2 if path.name == '__init__.py' else 1
      name = '/'.join(path.parts[-parts:])
      text += f' ({name}, line {frame.lineno})'
    break
  return text


def require_package(package: str, command: str, what: str):
  """Checks that an optional package is installed, without importing it.

  Args:
    package: Name that Python imports, such as 'minigrid'.
    command: Command line that installs it.
    what: Name of the environment that needs it.

  Raises:
    MissingPackageError: It is not installed; one line with the command.
  """
  if importlib.util.find_spec(package) is None:
    raise MissingPackageError(
        f"{what} needs the package '{package}', which is not installed: "
        f'{command}'
    )
