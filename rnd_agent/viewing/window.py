"""A window that shows the game while it is played, made with tkinter."""

from __future__ import annotations

import os
import sys
import time

import numpy as np

from rnd_agent.common import film_files
from rnd_agent.common import wording

_LEAST_HEIGHT = 420


class WindowError(RuntimeError):
  """The window cannot be opened; the message is one line."""


def check_display() -> None:
  """Raises WindowError if there is no display."""
  on_x11 = sys.platform not in ('darwin', 'win32')
  if on_x11 and not os.environ.get('DISPLAY'):
    raise WindowError(
        '--render needs a display, and DISPLAY is not set: use '
        '--video=out.mp4 instead'
    )


class Window:
  """Shows frames at a steady rate until the user closes it."""

  def __init__(self, title: str, frames_per_second: float):
    """Opens a window.

    Args:
      title: of the window.
      frames_per_second: the rate at which `show` shows frames.

    Raises:
      WindowError: there is no display, or Python has no tkinter.
    """
    check_display()
    try:
      import tkinter  # Not in every Python.
    except ImportError as error:
      raise WindowError(
          '--render needs tkinter (Debian and Ubuntu: python3-tk), or use '
          '--video=out.mp4 instead'
      ) from error
    self._tkinter = tkinter
    try:
      self._root = tkinter.Tk()
    except tkinter.TclError as error:
      raise WindowError(
          f'--render cannot open a window ({error}): use --video=out.mp4 '
          'instead'
      ) from error
    self._title = title
    self._root.title(title)
    self._root.protocol('WM_DELETE_WINDOW', self._on_close)
    self._label = tkinter.Label(self._root)
    self._label.pack()
    self._open = True
    self._pause_s = 1.0 / frames_per_second
    self._due = time.monotonic()

  @property
  def is_open(self) -> bool:
    """Whether the window has not been closed."""
    return self._open

  def show(self, frame: np.ndarray, score: float) -> bool:
    """Waits until the frame is due, and shows it.

    Args:
      frame: RGB, uint8 `[height, width, 3]`.
      score: game points so far, shown in the title.

    Returns:
      False once the window has been closed.
    """
    if not self._open:
      return False
    time.sleep(max(0.0, self._due - time.monotonic()))
    self._due = max(self._due, time.monotonic() - 1.0) + self._pause_s
    frame = film_files.enlarged(frame, max(1, _LEAST_HEIGHT // frame.shape[0]))
    height, width, _ = frame.shape
    picture = f'P6 {width} {height} 255 '.encode() + frame.tobytes()
    self._image = self._tkinter.PhotoImage(data=picture, format='PPM')
    self._label.configure(image=self._image)
    self._root.title(f'{self._title}: score {wording.number(score)}')
    self._root.update()
    return self._open

  def close(self) -> None:
    """Closes the window; may be called again."""
    if self._open:
      self._on_close()

  def _on_close(self) -> None:
    self._open = False
    self._root.destroy()
