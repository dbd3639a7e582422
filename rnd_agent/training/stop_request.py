"""Signals that ask a run to save and stop."""

from __future__ import annotations

import contextlib
import os
import signal

from rnd_agent.common import stop_signals


class StopRequest:
  """Whether the run was asked to stop.

  Attributes:
    requested: True from the first signal on.
  """

  def __init__(self):
    self.requested = False

  def __call__(self) -> bool:
    return self.requested

  def listening(self) -> contextlib.AbstractContextManager:
    """A context that listens to the signals of `stop_signals.handled`.

    A second one, unless it is SIGHUP, ends the process at once.
    """
    return stop_signals.handled(self._handle)

  def _handle(self, number, frame) -> None:
    del frame
    if self.requested:
      if number == signal.SIGHUP:
        return  # A shell and the kernel both tell of a terminal's end.
      os._exit(128 + number)
    self.requested = True
    # Not through the progress display: it may be in the middle of a write.
    _write_line((
        f'\n{signal.Signals(number).name}: saving and stopping '
        '(once more: stop at once)\n'
    ).encode())


def _write_line(line: bytes) -> None:
  """Writes to standard output, or error where that has gone."""
  for file in (1, 2):
    with contextlib.suppress(OSError):  # There is nowhere else to say it.
      os.write(file, line)
      return
