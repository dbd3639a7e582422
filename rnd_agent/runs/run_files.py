"""Checks a run's folder before anything in it is written, and locks it.

The folder may come from a stranger. A run writes only inside its folder: links
are refused, since they could lead elsewhere, and so is anything in the place of
a run's file or folder that is of another kind.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import stat
from typing import Iterator

import filelock

from rnd_agent.common import plain_json
from rnd_agent.runs import checkpoint_files
from rnd_agent.settings.gin_files import ConfigError

# Largest sizes, bytes: a run of the paper's length has 10 MB of metrics, and
# 2 kB in run.json for each of its starts.
_FILES = {
    'run.json': 2**25, 'metrics.csv': 2**27, 'places.csv': 2**27,
    'operative_config.gin': 2**20,
}
_FOLDERS = ('checkpoints', 'train', 'eval', 'videos', 'policy')
_LOCK = '.lock'
_FILE, _FOLDER = 'a file', 'a folder'
# A link in the place of a checkpoint's file is not refused here: `checkpoints`
# treats the checkpoint as damaged.
_CHECKPOINT_FILES = re.compile(
    checkpoint_files.NAMES.pattern + r'(?:\.damaged)?'
)


def check(folder: str | os.PathLike):
  """Checks the files and folders that a run will write.

  Args:
    folder: Of the run; exists.

  Raises:
    ConfigError: One is a link or of another kind, too large, damaged, or
      cannot be read.
  """
  root = pathlib.Path(folder)
  for path in sorted(root.iterdir()):
    kind = _FOLDER if path.name in _FOLDERS else None
    _check_kind(path, _FILE if path.name in (*_FILES, _LOCK) else kind)
    if kind:
      _check_below(path)
  for name in _FILES:
    if (root / name).exists():
      _check_readable(root / name)
  if (root / 'run.json').exists():
    _check_run_json(root / 'run.json')


@contextlib.contextmanager
def locked(folder: str | os.PathLike) -> Iterator[None]:
  """Keeps other processes from training in a folder during the block.

  The kernel releases the lock when the process ends, even if it is killed. The
  file `.lock` stays; that it exists does not mean that the folder is in use.

  Args:
    folder: Of the run; exists.

  Raises:
    ConfigError: Another process trains there, or the file cannot be locked.
  """
  path = pathlib.Path(folder, _LOCK)
  lock = filelock.FileLock(path, timeout=0)
  try:
    if os.path.lexists(path):
      _check_kind(path, _FILE)
    lock.acquire()
  except filelock.Timeout as error:
    raise ConfigError(
        f'--root_dir={path.parent} is in use: another process trains there (it '
        f'holds {path}): wait for its end, end it, or choose another folder'
    ) from error
  except OSError as error:
    raise ConfigError(
        f'{path} cannot be locked against a second process ({error.strerror}): '
        'choose another --root_dir'
    ) from error
  try:
    yield
  finally:
    lock.release()


def check_not_in_use(folder: str | os.PathLike):
  """Checks that no process trains in a folder.

  Args:
    folder: Of a run; exists.

  Raises:
    ConfigError: As `locked`.
  """
  if os.path.lexists(pathlib.Path(folder, _LOCK)):
    with locked(folder):
      pass


def check_nothing_is_lost(folder: str | os.PathLike, checkpoint_interval: int):
  """Checks that a run without a checkpoint has not lost its checkpoints.

  A run that was killed before its first checkpoint starts again from nothing,
  and its rows are overwritten. If metrics.csv has more rows than there are
  iterations before a first checkpoint, the checkpoints have been removed.

  Args:
    folder: Of a run without checkpoints.
    checkpoint_interval: Iterations between checkpoints.

  Raises:
    ConfigError: There are so many rows, which would be overwritten.
  """
  path = pathlib.Path(folder, 'metrics.csv')
  if not path.exists():
    return
  rows = path.read_bytes().count(b'\n') - 1
  if rows > checkpoint_interval:
    raise ConfigError(
        f'{path} has {rows} rows, but there is no checkpoint to continue from: '
        'put checkpoints/ back, move the file away, or choose another '
        '--root_dir'
    )


def _check_kind(path: pathlib.Path, kind: str | None):
  """Refuses links, pipes and the like.

  Args:
    path: Of what is checked.
    kind: `_FILE` or `_FOLDER` if only that is allowed; None for either.

  Raises:
    ConfigError: It is something else.
  """
  mode = path.lstat().st_mode
  if stat.S_ISLNK(mode):
    raise ConfigError(
        f'{path} is a link to {os.readlink(path)!r}: a run writes into its own '
        'folder only; put the original there, or choose another --root_dir'
    )
  found = _FILE if stat.S_ISREG(mode) else _FOLDER
  if (kind or found) != found or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
    raise ConfigError(
        f'{path} is not {kind or "a file or folder"}: move it away, or choose '
        'another --root_dir'
    )


def _check_readable(path: pathlib.Path):
  try:
    if path.stat().st_size > _FILES[path.name]:
      raise ValueError(
          f'{path.stat().st_size} bytes, at most {_FILES[path.name]} are read'
      )
    path.read_text(encoding='utf-8')
  except OSError as error:
    raise ConfigError(
        f'{path} cannot be read ({error.strerror}): choose another --root_dir'
    ) from error
  except ValueError as error:
    raise ConfigError(
        f'{path} is damaged ({error}): move it away to continue this run'
    ) from error


def _check_below(folder: pathlib.Path):
  """Refuses links and the like anywhere below a folder."""
  for parent, folders, files in os.walk(folder):
    for name in (*folders, *files):
      path = pathlib.Path(parent, name)
      if not (path.is_symlink() and _CHECKPOINT_FILES.fullmatch(name)):
        _check_kind(path, None)


def _check_run_json(path: pathlib.Path):
  """Checks the list of starts in run.json, to which every start is added."""
  try:
    content = plain_json.loads(path.read_text(encoding='utf-8'))
    if not isinstance(content, dict) or not isinstance(
        content.get('starts'), list
    ):
      raise ValueError("it has no list of 'starts'")
    for start in content['starts']:
      if not isinstance(start, dict) or not isinstance(
          start.get('machine'), (dict, type(None))
      ):
        raise ValueError("one of its 'starts' does not describe a start")
  except ValueError as error:
    raise ConfigError(
        f'{path} is damaged ({error}): move it away to continue this run'
    ) from error
