"""TensorBoard's event files of a run that is resumed.

What a killed process has written after its last checkpoint is written once
more by the process that continues: it is cut off, so that every step stands
there once.
"""

from __future__ import annotations

import os
import pathlib
import struct
from typing import BinaryIO, Iterator

from google.protobuf import message
import tensorflow as tf

# A record: length of the data (8 bytes), checksum (4), data, checksum (4).
_HEADER, _FOOTER = 12, 4
_LARGEST_EVENT = 2**28  # bytes


def cut(folder: str | os.PathLike, last_step: int) -> int:
  """Removes the events after a step from all event files of a folder.

  Args:
    folder: with event files; need not exist.
    last_step: the last one that stays.

  Returns:
    Bytes that were removed, records that were not whole among them.
  """
  removed = 0
  for path in sorted(pathlib.Path(folder).glob('events.out.tfevents.*')):
    if path.is_symlink():
      continue
    with open(path, 'r+b') as file:
      end = _end_of(file, last_step)
      removed += file.seek(0, os.SEEK_END) - end
      file.truncate(end)
  return removed


def holds(folder: str | os.PathLike, step: int) -> bool:
  """Whether there is an event of a step.

  Args:
    folder: with event files; need not exist.
    step: of the event.
  """
  for path in sorted(pathlib.Path(folder).glob('events.out.tfevents.*')):
    with open(path, 'rb') as file:
      for _, data in _records(file):
        try:
          event = tf.compat.v1.Event.FromString(data)
        except message.DecodeError:
          break
        if event.step == step and event.HasField('summary'):
          return True
  return False


def _end_of(file: BinaryIO, last_step: int) -> int:
  """Where the first event after a step begins, or the first broken record."""
  end = 0
  for start, data in _records(file):
    try:
      event = tf.compat.v1.Event.FromString(data)
    except message.DecodeError:
      return start
    if event.step > last_step:
      return start
    end = start + _HEADER + len(data) + _FOOTER
  return end


def _records(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
  """Where each whole record begins, and its data."""
  size = file.seek(0, os.SEEK_END)
  start = 0
  while start + _HEADER <= size:
    file.seek(start)
    length, = struct.unpack('<Q', file.read(8))
    following = start + _HEADER + length + _FOOTER
    # Every event has a time, and none is as large as a film of hours.
    if not 0 < length <= _LARGEST_EVENT or following > size:
      return
    file.seek(start + _HEADER)
    yield start, file.read(length)
    start = following
