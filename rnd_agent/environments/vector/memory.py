"""Arrays in memory that parent and worker processes share.

The memory is an anonymous file: since it has no name, no file is left behind,
and the kernel frees it when the last process that maps it ends.
"""

from collections.abc import Mapping
import mmap
import os
import tempfile

import numpy as np

# Shape and dtype of an array.
Field = tuple[tuple[int, ...], np.dtype]

_CACHE_LINE = 64  # bytes; every array starts at a multiple of it.


def name_of_part(name: str, part: str) -> str:
  """Name of the array that holds a part of observations."""
  return f'{name}/{part}'


def create_file() -> int:
  """Returns the descriptor of a new anonymous file; the caller closes it."""
  if hasattr(os, 'memfd_create'):
    return os.memfd_create('rnd_environments', os.MFD_CLOEXEC)
  with tempfile.TemporaryFile() as file:  # Unlinked from the beginning.
    return os.dup(file.fileno())


def allocate(file: int, fields: Mapping[str, Field]):
  """Sets the size of an anonymous file to what its arrays need."""
  os.ftruncate(file, _offsets(fields)['end'])


def map_arrays(
    file: int, fields: Mapping[str, Field]
) -> dict[str, np.ndarray]:
  """Maps the arrays of an allocated file into this process.

  Args:
    file: Descriptor of the file; it may be closed afterwards.
    fields: Shape and dtype of every array, in the same order in every process.

  Returns:
    The arrays by name. The mapping lives as long as one of them does.
  """
  offsets = _offsets(fields)
  memory = mmap.mmap(file, offsets['end'])
  return {
      name: np.ndarray(shape, dtype, memory, offsets[name])
      for name, (shape, dtype) in fields.items()
  }


def _offsets(fields: Mapping[str, Field]) -> dict[str, int]:
  """Returns the byte at which each array begins, and the size as 'end'."""
  offsets = {}
  position = 0
  for name, (shape, dtype) in fields.items():
    offsets[name] = position
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    position += -(-size // _CACHE_LINE) * _CACHE_LINE
  offsets['end'] = max(position, _CACHE_LINE)
  return offsets
