"""Errors of the environments package."""

import difflib
import importlib.util
from typing import Iterable, Optional


class UnknownEnvironmentError(ValueError):
  """The name of an environment, game or suite is not known."""


class MissingPackageError(ImportError):
  """An environment needs a package that is not installed."""


class EnvironmentWorkerError(RuntimeError):
  """A worker process died, hung, or one of its environments raised.

  Attributes:
    worker: Index of the worker process.
    environment: Index of the environment it was busy with, None if unknown.
    worker_traceback: Text of the traceback inside the worker, '' if none.
  """

  def __init__(
      self,
      message: str,
      worker: int,
      environment: Optional[int] = None,
      worker_traceback: str = '',
  ):
    full = message
    if worker_traceback:
      full += f'\n\nTraceback in the worker process:\n{worker_traceback}'
    super().__init__(full)
    self.worker = worker
    self.environment = environment
    self.worker_traceback = worker_traceback


def unknown_name(
    kind: str, name: str, known: Iterable[str]
) -> UnknownEnvironmentError:
  """Returns the error for an unknown name, with the nearest known ones.

  Args:
    kind: What the name was taken for, for example 'Atari game'.
    name: The name that is not known.
    known: All names that would have been.
  """
  by_lower = {candidate.lower(): candidate for candidate in known}
  nearest = difflib.get_close_matches(name.lower(), by_lower, n=4, cutoff=0.5)
  if nearest:
    hint = 'the nearest names: ' + ', '.join(by_lower[n] for n in nearest)
  else:
    examples = sorted(by_lower.values())[:6]
    hint = 'no name is near it; known are, for example: ' + ', '.join(examples)
  return UnknownEnvironmentError(f"unknown {kind} '{name}'; {hint}")


def require_package(package: str, command: str, what: str):
  """Checks that an optional package is installed, without importing it.

  Args:
    package: Name that Python imports, such as 'minigrid'.
    command: Command line that installs it.
    what: What needs it.

  Raises:
    MissingPackageError: It is not; one line with the command.
  """
  if importlib.util.find_spec(package) is None:
    raise MissingPackageError(
        f"{what} needs the package '{package}', which is not installed: "
        f'{command}'
    )
