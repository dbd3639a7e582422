"""The files of a run's checkpoints: names, checksums, damage, removal.

A checkpoint is three files: TensorFlow's index and data, and a list of their
checksums, which is written last. A checkpoint without an intact list is not
used: after a process was killed while saving, after a full disk or a flipped
bit, the run resumes from the checkpoint before.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
from typing import Iterator, NamedTuple

from rnd_agent.common import atomic_files
from rnd_agent.common import plain_json
from rnd_agent.common import plain_text

FOLDER = 'checkpoints'
INDEX = '.index'
_LIST = '.sha256.json'
NAMES = re.compile(r'iteration-(\d+)\.(?:index|sha256\.json|data-.*)')
_FRAGMENTS = re.compile(
    r'iteration-\d+(?:_temp|\..*\.tempstate\d+|\..*\.partial-\d+)'
)
# Characters read of a list of checksums; one has about 200.
_LARGEST_LIST = 2**20
# Bytes read at a time.
_CHUNK = 2**22


class Saved(NamedTuple):
  """A checkpoint in a folder.

  Attributes:
    iteration: the number in its name.
    prefix: its path, without the endings of its files.
    damage: why it cannot be used, None if it is intact.
  """

  iteration: int
  prefix: str
  damage: str | None


def latest_iteration(root_dir: str) -> int:
  """The iteration of a run's newest intact checkpoint, 0 without one.

  Args:
    root_dir: the run's folder.

  Returns:
    The number in the checkpoint's name.
  """
  newest = newest_intact(os.path.join(root_dir, FOLDER))
  return newest.iteration if newest else 0


def newest_first(folder: str) -> Iterator[Saved]:
  """Yields the checkpoints in a folder, and compares each one's checksums.

  Args:
    folder: `checkpoints/` of a run; need not exist.

  Yields:
    The checkpoints, the newest first, damaged ones too.
  """
  for i in iterations(folder):
    prefix = os.path.join(folder, f'iteration-{i}')
    yield Saved(i, prefix, _damage(prefix))


def newest_intact(folder: str) -> Saved | None:
  """The newest checkpoint in a folder that is not damaged."""
  return next((s for s in newest_first(folder) if not s.damage), None)


def iterations(folder: str) -> list[int]:
  """Iterations of all checkpoints in a folder, the newest first."""
  return sorted({int(match[1]) for match in _matches(folder)}, reverse=True)


def complete(folder: str) -> list[int]:
  """Iterations of the checkpoints that have a list, the newest first."""
  return [
      i for i in iterations(folder)
      if os.path.exists(os.path.join(folder, f'iteration-{i}{_LIST}'))
  ]


def _matches(folder: str) -> list[re.Match[str]]:
  """The names of all checkpoints' files in a folder, if there is one."""
  if not os.path.isdir(folder):
    return []
  return list(filter(None, map(NAMES.fullmatch, os.listdir(folder))))


def _damage(prefix: str) -> str | None:
  """Describes what is wrong with the files of a checkpoint, None if intact."""
  folder = os.path.dirname(prefix)
  iteration = int(prefix.rpartition('-')[2])
  try:
    found = _files_of(folder, iteration)
    for name in [os.path.basename(prefix + _LIST), *found]:
      mode = os.lstat(os.path.join(folder, name)).st_mode
      if not stat.S_ISREG(mode):
        return f'{name} is {"a link" if stat.S_ISLNK(mode) else "not a file"}'
    with open(prefix + _LIST, encoding='utf-8') as file:
      expected = plain_json.loads(file.read(_LARGEST_LIST))
    if not isinstance(expected, dict) or not expected:
      raise ValueError('not a list of files')
    for name in found:
      if name not in expected:
        return f'{name} is not in the list of its files'
    for name, (size, checksum) in expected.items():
      if os.path.basename(name) != name or not NAMES.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a checkpoint's file")
      path = os.path.join(folder, name)
      if name not in found:
        return f'{name} is missing, or belongs to another checkpoint'
      if os.path.getsize(path) != size:
        return f'{name} has {os.path.getsize(path)} bytes instead of {size}'
      if _checksum(path) != checksum:
        return f'{name} has changed since it was written'
  except FileNotFoundError as error:
    return f'{os.path.basename(error.filename)} is missing'
  except (OSError, ValueError, TypeError) as error:
    return f'{os.path.basename(prefix)}{_LIST}: {plain_text.cause(error)}'
  return None


def _checksum(path: str) -> str:
  sha = hashlib.sha256()
  with open(path, 'rb') as file:
    while chunk := file.read(_CHUNK):
      sha.update(chunk)
  return sha.hexdigest()


def write_list(prefix: str) -> None:
  """Syncs a checkpoint's files to the disk, then writes their checksums."""
  folder = os.path.dirname(prefix)
  checksums = {}
  for name in _files_of(folder, int(prefix.rpartition('-')[2])):
    path = os.path.join(folder, name)
    with open(path, 'rb') as file:
      os.fsync(file.fileno())
    checksums[name] = [os.path.getsize(path), _checksum(path)]
  with atomic_files.replacing(prefix + _LIST) as file:
    json.dump(checksums, file)


def _files_of(folder: str, iteration: int) -> list[str]:
  """Names of a checkpoint's files except its list."""
  return sorted(
      match[0] for match in _matches(folder)
      if int(match[1]) == iteration and not match[0].endswith(_LIST)
  )


def remove(folder: str, iteration: int) -> None:
  """Removes a checkpoint, its list first: without it the rest is not used."""
  for name in [f'iteration-{iteration}{_LIST}', *_files_of(folder, iteration)]:
    with contextlib.suppress(FileNotFoundError):
      os.remove(os.path.join(folder, name))


def remove_old(folder: str, keep: int) -> None:
  """Removes all checkpoints older than the newest `keep` that have a list."""
  newest = complete(folder)
  if len(newest) > keep:
    for i in iterations(folder):
      if i < newest[keep - 1]:
        remove(folder, i)


def remove_fragments(folder: str) -> None:
  """Removes the temporary files of a process that was killed while saving."""
  for name in os.listdir(folder):
    path = os.path.join(folder, name)
    if _FRAGMENTS.fullmatch(name) and not os.path.islink(path):
      if os.path.isdir(path):
        shutil.rmtree(path)
      else:
        os.remove(path)


def set_aside(folder: str, iteration: int) -> None:
  """Renames the files of a damaged checkpoint so that they are not used."""
  for name in [*_files_of(folder, iteration), f'iteration-{iteration}{_LIST}']:
    path = os.path.join(folder, name)
    if os.path.lexists(path):
      os.replace(path, path + '.damaged')
