"""Turns an error that no check has foreseen into one line.

A stranger's folder may cause it, or a fault of this package:
RND_AGENT_TRACEBACK=1 shows the traceback.
"""

from __future__ import annotations

import os
import pathlib
import traceback

_TRACEBACK = 'RND_AGENT_TRACEBACK'


def line(error: Exception, where: str) -> str:
  """The line to print instead of a traceback.

  Args:
    error: that nothing else has caught.
    where: the name of what was being read, such as a folder.

  Returns:
    One line: `where`, the error's type and message, and the file and line that
    raised it.

  Raises:
    Exception: the error itself, if RND_AGENT_TRACEBACK is set.
  """
  if os.environ.get(_TRACEBACK):
    raise error
  frame = traceback.extract_tb(error.__traceback__)[-1]
  cause = ' '.join(str(error).split())[:160] or 'no cause is given'
  return (
      f'{where}: {type(error).__name__}: {cause} '
      f'({pathlib.Path(frame.filename).name}:{frame.lineno}): this program is '
      f'at fault, or a file there is damaged: {_TRACEBACK}=1 shows where'
  )
