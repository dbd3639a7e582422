"""What a stranger's folder causes that nobody has foreseen: one line as well.

It may also be a fault of this package: developers set RND_AGENT_TRACEBACK=1 and
get the traceback.
"""

from __future__ import annotations

import os
import pathlib
import traceback

_TRACEBACK = 'RND_AGENT_TRACEBACK'


def line(error: Exception, where: str) -> str:
  """What to tell instead of a traceback.

  Args:
    error: that nothing else has caught.
    where: what was being read.

  Returns:
    One line: what was read, the error's kind and cause, and where it came from.

  Raises:
    Exception: the error itself, where RND_AGENT_TRACEBACK is set.
  """
  if os.environ.get(_TRACEBACK):
    raise error
  frame = traceback.extract_tb(error.__traceback__)[-1]
  cause = ' '.join(str(error).split())[:160] or 'no cause is given'
  return (
      f'{where} cannot be read: {type(error).__name__}: {cause} '
      f'({pathlib.Path(frame.filename).name}:{frame.lineno}): a file is '
      f'damaged, or this program at fault: {_TRACEBACK}=1 shows where'
  )
