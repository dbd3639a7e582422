"""One checkpoint holds all state of a run, and is restored as a whole.

One of `write_weights` holds networks and statistics alone, and the layers'
kernels in 16 bits: play and initial weights need no more.

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
import tempfile
from typing import Any, Callable, Iterator, NamedTuple

import numpy as np
import tensorflow as tf

from rnd_agent.common import atomic_files
from rnd_agent.common import plain_json
from rnd_agent.common import plain_text

_FOLDER = 'checkpoints'
_LIST = '.sha256.json'
_NAMES = re.compile(r'iteration-(\d+)\.(?:index|sha256\.json|data-.*)')
_FRAGMENTS = re.compile(
    r'iteration-\d+(?:_temp|\..*\.tempstate\d+|\..*\.partial-\d+)'
)
# Characters read of a list of checksums; one has about 200.
_LARGEST_LIST = 2**20
# Bytes read at a time.
_CHUNK = 2**22
# Parts of a checkpoint that are neither networks nor statistics: they belong to
# a run that goes on.
_OF_THE_RUN = (
    'optimizer', 'generator', 'train_step', 'adaptive_kl_beta', 'environments'
)
# In paths that TensorFlow reads.
_PATTERNS = set('*?[]\\')
# Of Keras' layers: what `write_weights` writes in 16 bits.
_KERNEL = re.compile(r'kernel/\.ATTRIBUTES/VARIABLE_VALUE$')


class CheckpointError(ValueError):
  """A checkpoint cannot be restored; one line with cause and remedy."""


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
    """Keeps two functions; neither is called yet.

    Args:
      get_state: returns the state as JSON values.
      set_state: restores such a state.
    """
    super().__init__()
    self._get_state = get_state
    self._set_state = set_state

  def serialize(self) -> str:
    """Returns the state as text; called by TensorFlow when it saves."""
    return json.dumps(self._get_state())

  def deserialize(self, string_value: str) -> None:
    """Restores a saved state; called by TensorFlow when it restores."""
    self._set_state(plain_json.loads(string_value))


class BytesState(tf.train.experimental.PythonState):
  """Bytes inside a TensorFlow checkpoint."""

  def __init__(
      self,
      get_state: Callable[[], bytes],
      set_state: Callable[[bytes], None],
  ):
    """Keeps two functions; neither is called yet.

    Args:
      get_state: returns the bytes.
      set_state: restores the state from such bytes.
    """
    super().__init__()
    self._get_state = get_state
    self._set_state = set_state

  def serialize(self) -> bytes:
    """Returns the bytes; called by TensorFlow when it saves."""
    return self._get_state()

  def deserialize(self, string_value: bytes) -> None:
    """Restores the state; called by TensorFlow when it restores."""
    self._set_state(string_value)


class Checkpoints:
  """The folder `checkpoints/` of a run, numbered by iteration."""

  def __init__(self, root_dir: str, items: dict[str, Any], keep: int):
    """Reads and writes nothing yet.

    Args:
      root_dir: the run's folder.
      items: trackable objects by name, with all state of the run.
      keep: how many of the newest checkpoints stay.
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
    """Saves all items, then removes checkpoints older than the newest `keep`.

    Args:
      iteration: the last one that the state contains.

    Returns:
      The checkpoint's path.

    Raises:
      SavingFailedError: it could not be written; its partial files are removed.
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
    """Removes all checkpoints older than the newest `keep` that have a list."""
    complete = [
        i for i in _iterations(self._folder)
        if os.path.exists(os.path.join(self._folder, f'iteration-{i}{_LIST}'))
    ]
    if len(complete) > self._keep:
      for i in _iterations(self._folder):
        if i < complete[self._keep - 1]:
          _remove(self._folder, i)

  def restore(
      self,
      note: Callable[[str], None] = lambda text: None,
      partial: bool = False,
  ) -> bool:
    """Restores the newest intact checkpoint, whose content must fit the items.

    Damaged checkpoints that are newer are skipped, see `set_damaged_aside`.

    Args:
      note: called with one line for every damaged checkpoint.
      partial: restore only what the items name: the checkpoint may hold more.

    Returns:
      Whether there was one.

    Raises:
      CheckpointError: all are damaged, or the checkpoint has other networks or
        settings.
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
    """Renames the checkpoints that `restore` skipped to `....damaged`."""
    for iteration in self._damaged:
      _set_aside(self._folder, iteration)
    self._damaged = []

  def _restore(self, prefix: str, whole: bool) -> None:
    if whole and not _has_optimizer(prefix):
      raise CheckpointError(
          f'{prefix} holds networks and statistics alone, so that its run '
          'cannot go on: start a new one in another --root_dir, with '
          "train_eval.initial_weights = '...' for this folder"
      )
    try:
      with _in_32_bits(prefix) as readable:
        status = self._root.read(readable)
        status.assert_existing_objects_matched()
        if whole:
          status.assert_consumed()
        else:
          status.expect_partial()
    except AssertionError as error:
      raise CheckpointError(
          f'{prefix} was saved by a run with other parts than this '
          f'configuration has ({plain_text.cause(error)}): restore the '
          'configuration (see operative_config.gin), or choose another '
          '--root_dir'
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
  """Reads a `JsonState` from a run's newest intact checkpoint.

  Args:
    root_dir: the run's folder.
    name: of the item.

  Returns:
    The saved state; empty without a checkpoint, and where the item is missing
    or not a JSON object: `Checkpoints.restore` raises the error for that.
  """
  newest = _newest_intact(os.path.join(root_dir, _FOLDER))
  if newest is None:
    return {}
  try:
    with _reader(newest.prefix) as reader:
      text = reader.get_tensor(f'{name}/.ATTRIBUTES/py_state')
    state = plain_json.loads(text)
  except (tf.errors.OpError, ValueError, TypeError):
    return {}
  return state if isinstance(state, dict) else {}


def newest_first(folder: str) -> Iterator[Saved]:
  """Yields the checkpoints in a folder, and compares each one's checksums.

  Args:
    folder: `checkpoints/` of a run; need not exist.

  Yields:
    The checkpoints, the newest first, damaged ones too.
  """
  for i in _iterations(folder):
    prefix = os.path.join(folder, f'iteration-{i}')
    yield Saved(i, prefix, _damage(prefix))


def _newest_intact(folder: str) -> Saved | None:
  return next((s for s in newest_first(folder) if not s.damage), None)


def _iterations(folder: str) -> list[int]:
  """Iterations of all checkpoints in a folder, the newest first."""
  if not os.path.isdir(folder):
    return []
  matches = map(_NAMES.fullmatch, os.listdir(folder))
  return sorted({int(match[1]) for match in matches if match}, reverse=True)


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
      if os.path.basename(name) != name or not _NAMES.fullmatch(name):
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


def _write_list(prefix: str) -> None:
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
  matches = map(_NAMES.fullmatch, os.listdir(folder))
  return sorted(
      match[0] for match in matches
      if match and int(match[1]) == iteration and not match[0].endswith(_LIST)
  )


def _remove(folder: str, iteration: int) -> None:
  """Removes a checkpoint, its list first: without it the rest is not used."""
  for name in [f'iteration-{iteration}{_LIST}', *_files_of(folder, iteration)]:
    with contextlib.suppress(FileNotFoundError):
      os.remove(os.path.join(folder, name))


def _remove_fragments(folder: str) -> None:
  """Removes the temporary files of a process that was killed while saving."""
  for name in os.listdir(folder):
    path = os.path.join(folder, name)
    if _FRAGMENTS.fullmatch(name) and not os.path.islink(path):
      if os.path.isdir(path):
        shutil.rmtree(path)
      else:
        os.remove(path)


def _set_aside(folder: str, iteration: int) -> None:
  """Renames the files of a damaged checkpoint so that they are not used."""
  for name in [*_files_of(folder, iteration), f'iteration-{iteration}{_LIST}']:
    path = os.path.join(folder, name)
    if os.path.lexists(path):
      os.replace(path, path + '.damaged')


def find(path: str) -> str:
  """Finds the checkpoint of a path.

  Args:
    path: a run's folder, which stands for its newest checkpoint, or the path
      of a checkpoint.

  Returns:
    Path of the checkpoint, without the endings of its files.

  Raises:
    CheckpointError: there is no intact checkpoint.
  """
  path = os.path.expanduser(path)
  if os.path.isfile(path + '.index'):
    return path
  newest = _newest_intact(os.path.join(path, _FOLDER))
  if newest is None:
    raise CheckpointError(
        f'{path} is neither a checkpoint nor a folder with an intact one: '
        "choose a run's folder or one of its checkpoints"
    )
  return newest.prefix


def load_weights(path: str, items: dict[str, Any]) -> None:
  """Restores some items from a checkpoint, which may contain more.

  Args:
    path: of the checkpoint.
    items: trackable objects, or dicts of them, by the names that they have in
      the checkpoint.

  Raises:
    CheckpointError: an item is not in the checkpoint, or has other variables
      there; some of `items` may have changed by then.
  """
  try:
    with _reader(path) as reader:
      stored = list(reader.get_variable_to_shape_map())
    with _in_32_bits(path) as readable:
      tf.train.Checkpoint(**items).read(
          readable
      ).assert_existing_objects_matched()
  except (
      AssertionError, tf.errors.OpError, ValueError, LookupError, RuntimeError,
      OSError,
  ) as error:
    raise _other_weights(path, plain_text.cause(error)) from error
  for name, item in items.items():
    if isinstance(item, dict):
      (part, item), = item.items()
      name = f'{name}/{part}'
    # A smaller network would match some layers of a larger one.
    num_stored = sum(key.startswith(f'{name}/') for key in stored)
    num_wanted = _number_of_variables(item)
    if num_stored != num_wanted:
      raise _other_weights(
          path, f'{name} has {num_stored} variables there and {num_wanted} here'
      )


def write_weights(path: str, root_dir: str) -> str:
  """Writes the networks and statistics of a checkpoint as one of another run.

  Args:
    path: of the checkpoint.
    root_dir: the other run's folder, which exists.

  Returns:
    Path of the new checkpoint, of the same name. What is computed with it
    differs by the rounding of the layers' kernels to 16 bits.
  """
  with _reader(path) as reader:
    tensors = {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if name.partition('/')[0] not in _OF_THE_RUN
    }
  for name in filter(_KERNEL.search, tensors):
    tensors[name] = tensors[name].astype(np.float16)
  prefix = os.path.join(root_dir, _FOLDER, os.path.basename(path))
  os.makedirs(os.path.dirname(prefix), exist_ok=True)
  _write_tensors(prefix, tensors)
  _write_list(prefix)
  return prefix


def _has_optimizer(prefix: str) -> bool:
  with _reader(prefix) as reader:
    names = reader.get_variable_to_shape_map()
  return any(name.startswith('optimizer/') for name in names)


@contextlib.contextmanager
def _reader(prefix: str) -> Iterator[Any]:
  """TensorFlow's reader of a checkpoint's arrays."""
  with _without_patterns(prefix) as plain:
    yield tf.train.load_checkpoint(plain)


@contextlib.contextmanager
def _without_patterns(prefix: str) -> Iterator[str]:
  """A path of a checkpoint that TensorFlow takes as it is written.

  When it reads, it takes `[`, `*` and `?` for patterns, and no path can say
  otherwise: links with other names do.
  """
  if not _PATTERNS & set(prefix):
    yield prefix
    return
  folder, name = os.path.split(os.path.abspath(prefix))
  with tempfile.TemporaryDirectory() as links:
    for file in os.listdir(folder):
      if file.startswith(f'{name}.'):
        os.symlink(os.path.join(folder, file), os.path.join(links, file))
    yield os.path.join(links, name)


@contextlib.contextmanager
def _in_32_bits(prefix: str) -> Iterator[str]:
  """A checkpoint whose arrays have the networks' own type, while it is open."""
  with _without_patterns(prefix) as plain:
    reader = tf.train.load_checkpoint(plain)
    types = reader.get_variable_to_dtype_map()
    if tf.float16 not in types.values():
      yield plain
      return
    tensors = {
        name: reader.get_tensor(name).astype(np.float32)
        if dtype == tf.float16 else reader.get_tensor(name)
        for name, dtype in types.items()
    }
  with tempfile.TemporaryDirectory() as folder:
    copy = os.path.join(folder, os.path.basename(prefix))
    _write_tensors(copy, tensors)
    yield copy


def _write_tensors(prefix: str, tensors: dict[str, Any]) -> None:
  """Writes arrays by name as TensorFlow's index and data."""
  names = list(tensors)
  tf.raw_ops.SaveV2(
      prefix=prefix, tensor_names=names, shape_and_slices=[''] * len(names),
      tensors=[tf.constant(tensors[name]) for name in names],
  )


def _number_of_variables(item: Any) -> int:
  """Counts the distinct variables of a trackable object."""
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
