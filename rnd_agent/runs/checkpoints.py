"""One checkpoint root: everything that a run is, saved and restored whole.

A checkpoint is three files: TensorFlow's index and data, and a list of their
checksums, which is written last. Without an intact list it does not count: a
process that is killed while it saves, a full disk or a flipped bit leave the
checkpoints before it to be used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
from typing import Any, Callable, Iterator, NamedTuple

import tensorflow as tf

from rnd_agent.common import plain_json
from rnd_agent.common import plain_text

_FOLDER = 'checkpoints'
_LIST = '.sha256.json'
_NAMES = re.compile(r'iteration-(\d+)\.(?:index|sha256\.json|data-.*)')
_FRAGMENTS = re.compile(
    r'iteration-\d+(?:_temp|\..*\.tempstate\d+|\..*\.partial-\d+)'
)
# Of a list of checksums, bytes: one has some 200.
_LARGEST_LIST = 2**20
# Bytes read at a time.
_CHUNK = 2**22


class CheckpointError(ValueError):
  """A checkpoint cannot be restored; one line with cause and mend."""


class SavingFailedError(OSError):
  """A checkpoint could not be written; those before it are intact."""


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


class JsonState(tf.train.experimental.PythonState):
  """Plain Python state inside a TensorFlow checkpoint, as JSON text."""

  def __init__(
      self,
      get_state: Callable[[], dict[str, Any]],
      set_state: Callable[[dict[str, Any]], None],
  ):
    """Takes how the state is read and put back.

    Args:
      get_state: gives JSON values.
      set_state: takes them back.
    """
    super().__init__()
    self._get_state = get_state
    self._set_state = set_state

  def serialize(self) -> str:
    """The state as text; called by TensorFlow when it saves."""
    return json.dumps(self._get_state())

  def deserialize(self, string_value: str) -> None:
    """Puts a saved state back; called by TensorFlow when it restores."""
    self._set_state(plain_json.loads(string_value))


class BytesState(tf.train.experimental.PythonState):
  """Bytes inside a TensorFlow checkpoint."""

  def __init__(
      self,
      get_state: Callable[[], bytes],
      set_state: Callable[[bytes], None],
  ):
    """Takes how the bytes are made and where they go.

    Args:
      get_state: gives them.
      set_state: takes them back.
    """
    super().__init__()
    self._get_state = get_state
    self._set_state = set_state

  def serialize(self) -> bytes:
    """The bytes; called by TensorFlow when it saves."""
    return self._get_state()

  def deserialize(self, string_value: bytes) -> None:
    """Puts saved bytes back; called by TensorFlow when it restores."""
    self._set_state(string_value)


class Checkpoints:
  """The folder `checkpoints/` of a run, numbered by iteration."""

  def __init__(self, root_dir: str, items: dict[str, Any], keep: int):
    """Saves and restores nothing yet.

    Args:
      root_dir: the run's folder.
      items: trackable objects by name: all that a run is.
      keep: how many of the last checkpoints stay.
    """
    self._folder = os.path.join(root_dir, _FOLDER)
    self._root = tf.train.Checkpoint(**items)
    self._keep = keep
    self._damaged = []

  @property
  def latest(self) -> str | None:
    """Path of the newest intact checkpoint, or None."""
    newest = _newest_intact(self._folder)
    return newest and newest.prefix

  def save(self, iteration: int) -> str:
    """Saves everything, then removes what is older than is to be kept.

    Args:
      iteration: the last one that the state contains.

    Returns:
      The checkpoint's path.

    Raises:
      SavingFailedError: it could not be written; what it left is removed.
    """
    prefix = os.path.join(self._folder, f'iteration-{iteration}')
    try:
      os.makedirs(self._folder, exist_ok=True)
      _remove_fragments(self._folder)
      self._root.write(prefix)
      _write_list(prefix)
    except (tf.errors.OpError, OSError) as error:
      _remove(self._folder, iteration)
      raise SavingFailedError(
          f'the checkpoint of iteration {iteration} could not be written '
          f'({plain_text.cause(error)})'
      ) from error
    self._remove_old()
    return prefix

  def _remove_old(self) -> None:
    """Leaves the last whole checkpoints and what is newer than the oldest."""
    whole = [
        i for i in _iterations(self._folder)
        if os.path.exists(os.path.join(self._folder, f'iteration-{i}{_LIST}'))
    ]
    if len(whole) > self._keep:
      for i in _iterations(self._folder):
        if i < whole[self._keep - 1]:
          _remove(self._folder, i)

  def restore(
      self,
      note: Callable[[str], None] = lambda text: None,
      partial: bool = False,
  ) -> bool:
    """Restores the newest intact checkpoint; insists that all of it fits.

    Damaged ones that are newer are named; see `set_damaged_aside`.

    Args:
      note: told of every damaged checkpoint, one line each.
      partial: restore only what the items name: the checkpoint may hold more.

    Returns:
      Whether there was one.

    Raises:
      CheckpointError: all are damaged, or it is that of another network or
        setting.
    """
    damaged = []
    for s in newest_first(self._folder):
      if s.damage:
        damaged.append(s)
        continue
      self._restore(s.prefix, whole=not partial)
      self._damaged = [d.iteration for d in damaged]
      for d in damaged:
        note(f'{d.prefix} is damaged ({d.damage}): passed over')
      return True
    if damaged:
      raise CheckpointError(
          f'{self._folder}: no checkpoint is intact, the newest is damaged '
          f'({damaged[0].damage}): put a copy back, or choose another '
          '--root_dir'
      )
    return False

  def set_damaged_aside(self) -> None:
    """Gives what `restore` passed over the ending `.damaged`."""
    for iteration in self._damaged:
      _set_aside(self._folder, iteration)
    self._damaged = []

  def _restore(self, prefix: str, whole: bool) -> None:
    try:
      status = self._root.read(prefix)
      status.assert_existing_objects_matched()
      if whole:
        status.assert_consumed()
      else:
        status.expect_partial()
    except AssertionError as error:
      raise CheckpointError(
          f'{prefix} is that of a run with other parts than this configuration '
          f'has ({plain_text.cause(error)}): restore the configuration (see '
          'operative_config.gin), or choose another --root_dir'
      ) from error
    except (
        tf.errors.OpError, ValueError, LookupError, RuntimeError, OSError,
        TypeError, AttributeError, ArithmeticError,
    ) as error:
      raise CheckpointError(
          f'{prefix} cannot be restored ({plain_text.cause(error)}): if the '
          'networks were changed, restore the configuration (see '
          'operative_config.gin), or choose another --root_dir'
      ) from error


def latest_iteration(root_dir: str) -> int:
  """The iteration of a run's newest intact checkpoint, 0 without one.

  Args:
    root_dir: the run's folder.

  Returns:
    The number in the checkpoint's name.
  """
  newest = _newest_intact(os.path.join(root_dir, _FOLDER))
  return newest.iteration if newest else 0


def read_json(root_dir: str, name: str) -> dict[str, Any]:
  """A `JsonState` of a run's newest intact checkpoint, before it is restored.

  Args:
    root_dir: the run's folder.
    name: of the item.

  Returns:
    What was saved; empty without a checkpoint, or where something else stands
    there, which `Checkpoints.restore` will say.
  """
  newest = _newest_intact(os.path.join(root_dir, _FOLDER))
  if newest is None:
    return {}
  try:
    reader = tf.train.load_checkpoint(newest.prefix)
    state = plain_json.loads(reader.get_tensor(f'{name}/.ATTRIBUTES/py_state'))
  except (tf.errors.OpError, ValueError, TypeError):
    return {}
  return state if isinstance(state, dict) else {}


def newest_first(folder: str) -> Iterator[Saved]:
  """The checkpoints in a folder; checksums are compared as they come.

  Args:
    folder: `checkpoints/` of a run; need not exist.

  Yields:
    The newest first.
  """
  for i in _iterations(folder):
    prefix = os.path.join(folder, f'iteration-{i}')
    yield Saved(i, prefix, _damage(prefix))


def _newest_intact(folder: str) -> Saved | None:
  return next((s for s in newest_first(folder) if not s.damage), None)


def _iterations(folder: str) -> list[int]:
  """Of all checkpoints in a folder, whole or not, the newest first."""
  if not os.path.isdir(folder):
    return []
  matches = map(_NAMES.fullmatch, os.listdir(folder))
  return sorted({int(match[1]) for match in matches if match}, reverse=True)


def _damage(prefix: str) -> str | None:
  """What is wrong with the files of a checkpoint; None: nothing."""
  folder = os.path.dirname(prefix)
  iteration = int(prefix.rpartition('-')[2])
  try:
    there = _files_of(folder, iteration)
    for name in [os.path.basename(prefix + _LIST), *there]:
      mode = os.lstat(os.path.join(folder, name)).st_mode
      if not stat.S_ISREG(mode):
        return f'{name} is {"a link" if stat.S_ISLNK(mode) else "no file"}'
    with open(prefix + _LIST, encoding='utf-8') as file:
      expected = plain_json.loads(file.read(_LARGEST_LIST))
    if not isinstance(expected, dict) or not expected:
      raise ValueError('not a list of files')
    for name in there:
      if name not in expected:
        return f'{name} is not in the list of its files'
    for name, (size, checksum) in expected.items():
      if os.path.basename(name) != name or not _NAMES.fullmatch(name):
        raise ValueError(f'{name!r} is no name')
      path = os.path.join(folder, name)
      if name not in there:
        return f'{name} is missing, or of another checkpoint'
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


def _write_list(prefix: str) -> None:
  """Puts a checkpoint's files on the disk, and then their checksums."""
  folder = os.path.dirname(prefix)
  checksums = {}
  for name in _files_of(folder, int(prefix.rpartition('-')[2])):
    path = os.path.join(folder, name)
    with open(path, 'rb') as file:
      os.fsync(file.fileno())
    checksums[name] = [os.path.getsize(path), _checksum(path)]
  with replacing(prefix + _LIST) as file:
    json.dump(checksums, file)


@contextlib.contextmanager
def replacing(path: str) -> Iterator[Any]:
  """A text file that appears under its name when it is whole, or not at all."""
  partial = f'{path}.partial-{os.getpid()}'
  try:
    with open(partial, 'w', encoding='utf-8') as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(partial, path)
    folder = os.open(os.path.dirname(path) or '.', os.O_RDONLY)
    try:
      os.fsync(folder)
    finally:
      os.close(folder)
  except BaseException:
    with contextlib.suppress(FileNotFoundError):
      os.remove(partial)
    raise


def _files_of(folder: str, iteration: int) -> list[str]:
  """Names of the files of a checkpoint, its list aside."""
  matches = map(_NAMES.fullmatch, os.listdir(folder))
  return sorted(
      match[0] for match in matches
      if match and int(match[1]) == iteration and not match[0].endswith(_LIST)
  )


def _remove(folder: str, iteration: int) -> None:
  """Removes a checkpoint, its list first: what is left does not count."""
  for name in [f'iteration-{iteration}{_LIST}', *_files_of(folder, iteration)]:
    with contextlib.suppress(FileNotFoundError):
      os.remove(os.path.join(folder, name))


def _remove_fragments(folder: str) -> None:
  """Removes what a process that was killed while saving has left."""
  for name in os.listdir(folder):
    path = os.path.join(folder, name)
    if _FRAGMENTS.fullmatch(name) and not os.path.islink(path):
      if os.path.isdir(path):
        shutil.rmtree(path)
      else:
        os.remove(path)


def _set_aside(folder: str, iteration: int) -> None:
  """Gives a damaged checkpoint names under which it is not found again."""
  for name in [*_files_of(folder, iteration), f'iteration-{iteration}{_LIST}']:
    path = os.path.join(folder, name)
    if os.path.lexists(path):
      os.replace(path, path + '.damaged')


def find(path: str) -> str:
  """The checkpoint that a path means.

  Args:
    path: a run's folder, for its newest one, or a checkpoint's own path.

  Returns:
    Path of the checkpoint, without the ending of its files.

  Raises:
    CheckpointError: there is none.
  """
  if os.path.isfile(path + '.index'):
    return path
  newest = _newest_intact(os.path.join(path, _FOLDER))
  if newest is None:
    raise CheckpointError(
        f"{path} holds no intact checkpoint, and is none: choose a run's "
        'folder or one of its checkpoints'
    )
  return newest.prefix


def load_weights(path: str, items: dict[str, Any]) -> None:
  """Takes over some parts of a checkpoint, each of them whole.

  Args:
    path: of the checkpoint.
    items: trackable objects, or dicts of them, by the names that they have in
      the checkpoint.

  Raises:
    CheckpointError: a part is not in the checkpoint, or is of another shape;
      what `items` hold then is undefined.
  """
  try:
    stored = [name for name, _ in tf.train.list_variables(path)]
    tf.train.Checkpoint(**items).read(path).assert_existing_objects_matched()
  except (
      AssertionError, tf.errors.OpError, ValueError, LookupError, RuntimeError,
      OSError,
  ) as error:
    raise _other_weights(path, plain_text.cause(error)) from error
  for name, item in items.items():
    if isinstance(item, dict):
      (part, item), = item.items()
      name = f'{name}/{part}'
    # Of a larger network some layers would match.
    there = sum(key.startswith(f'{name}/') for key in stored)
    here = _number_of_variables(item)
    if there != here:
      raise _other_weights(
          path, f'{name} has {there} variables there and {here} here'
      )


def _number_of_variables(item: Any) -> int:
  """Distinct variables below a trackable object."""
  return len({
      id(x) for x in tf.train.TrackableView(item).descendants()
      if isinstance(x, tf.Variable)
  })


def _other_weights(path: str, cause: str) -> CheckpointError:
  return CheckpointError(
      f'the weights of {path} do not fit this configuration ({cause}): choose '
      "the networks' settings of that run, see its operative_config.gin, or "
      'another train_eval.initial_weights'
  )
