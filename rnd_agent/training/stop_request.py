"""Signals that ask a run to save and stop."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Iterator


class StopRequest:
  """Whether the run was asked to stop.

  Attributes:
    requested: True from the first signal on.
  """

  def __init__(self):
    self.requested = False

  def __call__(self) -> bool:
    return self.requested

  @contextlib.contextmanager
  def listening(self) -> Iterator[None]:
    """Listens to SIGINT, SIGTERM and SIGHUP; at the end restores the handlers.

    A second one, unless it is SIGHUP, ends the process at once.

    Yields:
      Nothing.
    """
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # As nohup sets it.
      numbers.append(signal.SIGHUP)
    previous = {n: signal.signal(n, self._handle) for n in numbers}
    try:
      yield
    finally:
      for number, handler in previous.items():
        signal.signal(number, handler)

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
