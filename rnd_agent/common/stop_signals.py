"""Signals that ask a process to stop."""

from __future__ import annotations

import contextlib
import signal
from typing import Any, Callable, Iterator


@contextlib.contextmanager
def handled(handle: Callable[[int, Any], None]) -> Iterator[None]:
  """Handles SIGINT, SIGTERM and SIGHUP; at the end restores the handlers.

  SIGHUP, which tells of a terminal's end, stays ignored where it is: `nohup`
  wants it so.

  Args:
    handle: of the signal's number and the frame, as for `signal.signal`.

  Yields:
    Nothing.
  """
  numbers = [signal.SIGINT, signal.SIGTERM]
  if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
    numbers.append(signal.SIGHUP)
  previous = {number: signal.signal(number, handle) for number in numbers}
  try:
    yield
  finally:
    for number, handler in previous.items():
      signal.signal(number, handler)
