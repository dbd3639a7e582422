"""One checkpoint root: everything that a run is, saved and restored whole."""

from __future__ import annotations

import json
import os
from typing import Any, Callable

import tensorflow as tf

_FOLDER = 'checkpoints'

def latest_iteration(root_dir: str) -> int:
  """The iteration of a run's newest checkpoint, 0 where there is none.

  Args:
    root_dir: the run's folder.

  Returns:
    The number in the checkpoint's name.
  """
  path = tf.train.latest_checkpoint(os.path.join(root_dir, _FOLDER))
  return int(path.rpartition('-')[2]) if path else 0


class CheckpointError(ValueError):
  """A checkpoint cannot be restored; one line with cause and mend."""


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
    self._set_state(json.loads(string_value))


class Checkpoints:
  """The folder `checkpoints/` of a run, numbered by iteration."""

  def __init__(self, root_dir: str, items: dict[str, Any], keep: int):
    """Looks at the folder; saves and restores nothing yet.

    Args:
      root_dir: the run's folder.
      items: trackable objects by name: all that a run is.
      keep: how many of the last checkpoints stay.
    """
    self._folder = os.path.join(root_dir, _FOLDER)
    self._root = tf.train.Checkpoint(**items)
    self._manager = tf.train.CheckpointManager(
        self._root, self._folder, max_to_keep=keep, checkpoint_name='iteration'
    )

  @property
  def latest(self) -> str | None:
    """Path of the newest checkpoint, or None."""
    return self._manager.latest_checkpoint

  def save(self, iteration: int) -> str:
    """Saves everything; the files appear under their names only when whole.

    Args:
      iteration: the last one that the state contains.

    Returns:
      The checkpoint's path.
    """
    return self._manager.save(checkpoint_number=iteration)

  def restore(self) -> bool:
    """Restores the newest checkpoint, and insists that all of it fits.

    Returns:
      Whether there was one.

    Raises:
      CheckpointError: it is damaged, or that of another network or setting.
    """
    path = self.latest
    if path is None:
      if os.path.isdir(self._folder) and any(
          name.endswith('.index') for name in os.listdir(self._folder)
      ):
        raise CheckpointError(
            f'{self._folder} holds checkpoints, but its index file '
            "'checkpoint' is missing or damaged: restore that file, or choose "
            'another --root_dir'
        )
      return False
    try:
      status = self._root.restore(path)
      status.assert_existing_objects_matched()
      status.assert_consumed()
    except AssertionError as error:
      raise CheckpointError(
          f'{path} is that of a run with other parts than this configuration '
          f'has ({_first_line(error)}): restore the configuration (see '
          'operative_config.gin), or choose another --root_dir'
      ) from error
    except (
        tf.errors.OpError, ValueError, LookupError, RuntimeError, OSError
    ) as error:
      raise CheckpointError(
          f'{path} cannot be restored ({_first_line(error)}): if it is '
          'damaged, move its files away; if the networks were '
          'changed, restore the configuration or choose another --root_dir'
      ) from error
    return True


def _first_line(error: BaseException) -> str:
  """The start of an error's message, at most 160 characters."""
  lines = str(error).strip().splitlines()
  text = lines[0] if lines else type(error).__name__
  return text if len(text) <= 160 else text[:157] + '...'
