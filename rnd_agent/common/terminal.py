"""What the commands need of the system and the terminal that they run in."""

import sys


def prepare(command: str):
  """Ends on systems that cannot run this; makes all text printable.

  Args:
    command: its name, for the error.
  """
  if sys.platform == 'win32':
    sys.exit(
        f'{command}: error: Windows is not supported: run it in the Windows '
        'Subsystem for Linux (WSL), see README.md'
    )
  for stream in (sys.stdout, sys.stderr):
    if hasattr(stream, 'reconfigure'):  # Notebooks have streams of their own.
      # A folder may have a name that the terminal's encoding has not.
      stream.reconfigure(errors='backslashreplace')
