"""run.json: command, versions and machine of every start of a run."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import shlex
import subprocess
import sys
from typing import Any, Mapping, Optional, Union

import psutil

from rnd_agent.common import atomic_files
from rnd_agent.common import machine

_PACKAGES = (
    'rnd-agent', 'tf-agents', 'tensorflow', 'tensorflow-probability', 'keras',
    'numpy', 'gin-config', 'gym', 'gymnasium', 'ale-py',
    'opencv-python-headless', 'minigrid', 'box2d-py', 'gym-super-mario-bros',
    'dm-reverb',
)
_SOURCE = pathlib.Path(__file__).resolve()


def write_run_json(
    root_dir: Union[str, os.PathLike],
    seed: int,
    iteration: int = 0,
    extra: Optional[Mapping[str, Any]] = None,
) -> dict[str, Any]:
  """Adds a start or resume of a run to its run.json.

  The top level describes the latest start: command, versions, source, machine,
  seed. `starts` has the same for every start, with its time and iteration.

  Args:
    root_dir: The run's folder, which exists.
    seed: The run's seed.
    iteration: The iteration the run starts from, 0 for a new one.
    extra: Further JSON values about this start, such as the devices.

  Returns:
    What was written.

  Raises:
    ValueError: There is a run.json that cannot be read.
    OSError: The folder cannot be written.
  """
  path = pathlib.Path(root_dir) / 'run.json'
  starts = []
  if path.exists():
    try:
      starts = json.loads(path.read_text(encoding='utf-8'))['starts']
    except (ValueError, KeyError, TypeError) as error:
      raise ValueError(
          f'{path} is damaged ({error!r}): move it away to continue this run'
      ) from error
  record = {
      'command': shlex.join(sys.orig_argv),
      'seed': seed,
      'python': platform.python_version(),
      'packages': _package_versions(),
      'source': _source_version(),
      'machine': _machine(),
      **(extra or {}),
  }
  now = datetime.datetime.now(datetime.timezone.utc)
  start = {'time': now.isoformat(timespec='seconds'), 'iteration': iteration}
  content = {**record, 'starts': [*starts, {**start, **record}]}
  with atomic_files.replacing(str(path)) as file:
    file.write(json.dumps(content, indent=2) + '\n')
  return content


def _package_versions() -> dict[str, str]:
  """Returns the versions of those packages that are installed."""
  installed = {
      (distribution.metadata['Name'] or '').lower(): distribution.version
      for distribution in importlib.metadata.distributions()
  }
  return {name: installed[name] for name in _PACKAGES if name in installed}


def _source_version() -> Optional[dict[str, Any]]:
  """Returns the commit of the source and whether files differ from it.

  None if the source is not in a git repository, or git is not installed.
  """
  tracked = _git('ls-files', '--error-unmatch', _SOURCE.name)
  commit = _git('rev-parse', 'HEAD')
  if tracked is None or commit is None:
    return None
  changes = _git('status', '--porcelain', '--untracked-files=no')
  dirty = None if changes is None else bool(changes)
  return {'commit': commit, 'dirty': dirty}


def _git(*arguments: str) -> Optional[str]:
  """Returns what git prints in the source's folder, None if it fails."""
  environment = {
      name: value
      for name, value in os.environ.items()
      if not name.startswith('GIT_')
  }
  try:
    result = subprocess.run(
        ['git', *arguments],
        cwd=_SOURCE.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
  except (OSError, subprocess.SubprocessError):
    return None
  return result.stdout.strip()


def _machine() -> dict[str, Any]:
  return {
      'cpu': _cpu_model(),
      'cores': os.cpu_count(),
      'usable_cores': machine.available_cores(),
      'memory_gib': round(psutil.virtual_memory().total / 2**30, 1),
      'os': platform.platform(),
  }


def _cpu_model() -> str:
  information = pathlib.Path('/proc/cpuinfo')
  if information.exists():
    for line in information.read_text(encoding='utf-8').splitlines():
      if line.startswith('model name'):
        return line.partition(':')[2].strip()
  return platform.processor() or platform.machine()
