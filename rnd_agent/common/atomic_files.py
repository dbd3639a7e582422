"""Text files that are there whole or not at all."""

import contextlib
import os
from typing import Iterator, TextIO


@contextlib.contextmanager
def replacing(path: str) -> Iterator[TextIO]:
  """Opens a text file that appears under its name only if the block succeeds.

  Args:
    path: of the file; one that exists is replaced.

  Yields:
    A file with another name, which is renamed at the end.
  """
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
