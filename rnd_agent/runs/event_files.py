"""TensorBoard's event files of a run that is resumed.

A process that is killed has written events after its last checkpoint, and the
process that continues the run writes the same steps again. The old events are
removed, so that every step is there once. (TensorBoard's own mark of a restart,
a `SessionLog.START` event, is not enough: its `EventAccumulator`, which people
use to export runs, does not apply it to the tensors that TensorFlow 2 writes.)
"""

from __future__ import annotations

import os
import pathlib
import struct
from typing import BinaryIO, Iterator

from google.protobuf import message
import tensorflow as tf

# A record: length of the data (8 bytes), checksum (4), data, checksum (4).
# They are read here because TensorFlow's reader aborts the process when a
# broken record has an impossible length.
_HEADER, _CHECKSUM = 12, 4
_LARGEST_EVENT = 2**28  # bytes; a film of several hours takes less


def cut(folder: str | os.PathLike, last_step: int) -> None:
  """Removes events after a step, and all from a broken record on, from files.

  Args:
    folder: with event files; need not exist. Links in it are not followed.
    last_step: the last step whose events stay.
  """
  for path in _paths(folder):
    if path.is_symlink():
      continue
    with open(path, 'r+b') as file:
      kept = 0
      for end, event in _events(file):
        if event.step > last_step:
          break
        kept = end
      file.truncate(kept)


def holds(folder: str | os.PathLike, step: int) -> bool:
  """Whether the event files of a folder have a summary of a step.

  Args:
    folder: with event files; need not exist.
    step: of the summary.
  """
  for path in _paths(folder):
    with open(path, 'rb') as file:
      for _, event in _events(file):
        if event.step == step and event.HasField('summary'):
          return True
  return False


def _paths(folder: str | os.PathLike) -> list[pathlib.Path]:
  return sorted(pathlib.Path(folder).glob('events.out.tfevents.*'))


def _events(file: BinaryIO) -> Iterator[tuple[int, tf.compat.v1.Event]]:
  """Yields each event's end (byte) and the event, up to a broken record."""
  while len(header := file.read(_HEADER)) == _HEADER:
    length, = struct.unpack('<Q', header[:8])
    if not 0 < length <= _LARGEST_EVENT:  # No event is empty: it has a time.
      return
    data = file.read(length + _CHECKSUM)
    if len(data) < length + _CHECKSUM:
      return
    try:
      event = tf.compat.v1.Event.FromString(data[:length])
    except message.DecodeError:
      return
    yield file.tell(), event
