"""One checkpoint holds all state of a run, and is restored as a whole.

One of `write_weights` holds networks and statistics alone, and the layers'
kernels in 16 bits: play and initial weights need no more.

`checkpoint_files` knows its files and whether they are intact.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from typing import Any, Callable, Iterable, Iterator

import numpy as np
import tensorflow as tf

from rnd_agent.common import plain_json
from rnd_agent.common import plain_text
from rnd_agent.runs import checkpoint_files

# Parts of a checkpoint that are neither networks nor statistics: they belong to
# a run that goes on.
_OF_THE_RUN = (
    'optimizer', 'generator', 'train_step', 'adaptive_kl_beta', 'environments',
    'core_states',
)
# In paths that TensorFlow reads.
_PATTERNS = set('*?[]\\')
# Of Keras' layers: what `write_weights` writes in 16 bits.
_KERNEL = re.compile(r'kernel/\.ATTRIBUTES/VARIABLE_VALUE$')


class CheckpointError(ValueError):
  """A checkpoint cannot be restored; one line with cause and remedy."""


class SavingFailedError(OSError):
  """A checkpoint could not be written; those before it are intact."""


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
    self._folder = os.path.join(root_dir, checkpoint_files.FOLDER)
    self._root = tf.train.Checkpoint(**items)
    self._keep = keep
    self._damaged = []

  @property
  def latest(self) -> str | None:
    """Path of the newest intact checkpoint, or None."""
    newest = checkpoint_files.newest_intact(self._folder)
    return newest and newest.prefix

  def save(self, iteration: int) -> str:
    """Saves all items.

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
      checkpoint_files.remove_fragments(self._folder)
      self._root.write(prefix)
      checkpoint_files.write_list(prefix)
    except (tf.errors.OpError, OSError) as error:
      with contextlib.suppress(OSError):  # The cause is the first error.
        checkpoint_files.remove(self._folder, iteration)
      raise SavingFailedError(
          f'the checkpoint of iteration {iteration} could not be written '
          f'({plain_text.cause(error)})'
      ) from error
    return prefix

  def remove_old(self) -> None:
    """Removes all checkpoints older than the newest `keep` that have a list.

    Raises:
      OSError: one cannot be removed.
    """
    checkpoint_files.remove_old(self._folder, self._keep)

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
    for s in checkpoint_files.newest_first(self._folder):
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
      checkpoint_files.set_aside(self._folder, iteration)
    self._damaged = []

  def _restore(self, prefix: str, whole: bool) -> None:
    try:
      if whole and not _has_optimizer(prefix):
        raise CheckpointError(
            f'{prefix} holds networks and statistics alone, so that its run '
            'cannot go on: start a new one in another --root_dir, with '
            "train_eval.initial_weights = '...' for this folder"
        )
      with _in_32_bits(prefix) as readable:
        status = self._root.read(readable)
        status.assert_existing_objects_matched()
        if whole:
          status.assert_consumed()
        else:
          status.expect_partial()
    except CheckpointError:
      raise
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


def read_json(root_dir: str, name: str) -> dict[str, Any]:
  """Reads a `JsonState` from a run's newest intact checkpoint.

  Args:
    root_dir: the run's folder.
    name: of the item.

  Returns:
    The saved state; empty without a checkpoint, and where the item is missing
    or not a JSON object: `Checkpoints.restore` raises the error for that.
  """
  newest = checkpoint_files.newest_intact(
      os.path.join(root_dir, checkpoint_files.FOLDER)
  )
  if newest is None:
    return {}
  try:
    with _reader(newest.prefix) as reader:
      text = reader.get_tensor(f'{name}/.ATTRIBUTES/py_state')
    state = plain_json.loads(text)
  except (tf.errors.OpError, ValueError, TypeError):
    return {}
  return state if isinstance(state, dict) else {}


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
  if os.path.isfile(path + checkpoint_files.INDEX):
    return path
  newest = checkpoint_files.newest_intact(
      os.path.join(path, checkpoint_files.FOLDER)
  )
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
    items: trackable objects, or nested dicts of them, by the names that they
      have in the checkpoint.

  Raises:
    CheckpointError: an item is not in the checkpoint, or has other variables
      there; some of `items` may have changed by then.
  """
  # Before TensorFlow puts wrappers into the dicts.
  parts_of = {name: dict(_parts(name, item)) for name, item in items.items()}
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
  # A smaller network would match some layers of a larger one.
  for name, parts in parts_of.items():
    num_stored = sum(
        key.startswith(tuple(f'{part}/' for part in parts)) for key in stored
    )
    num_wanted = _number_of_variables(parts.values())
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
  prefix = os.path.join(
      root_dir, checkpoint_files.FOLDER, os.path.basename(path)
  )
  os.makedirs(os.path.dirname(prefix), exist_ok=True)
  _write_tensors(prefix, tensors)
  checkpoint_files.write_list(prefix)
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


def _parts(path: str, item: Any) -> Iterator[tuple[str, Any]]:
  """The trackable objects of nested dicts, with their paths."""
  if isinstance(item, tf.__internal__.tracking.Trackable):
    yield path, item
  else:
    for name, part in item.items():
      yield from _parts(f'{path}/{name}', part)


def _number_of_variables(items: Iterable[Any]) -> int:
  """Counts the distinct variables of trackable objects."""
  return len({
      id(x) for item in items
      for x in tf.train.TrackableView(item).descendants()
      if isinstance(x, tf.Variable)
  })


def _other_weights(path: str, cause: str) -> CheckpointError:
  return CheckpointError(
      f'the weights of {path} do not fit this configuration ({cause}): choose '
      "the networks' settings of that run, see its operative_config.gin, or "
      'another train_eval.initial_weights'
  )
