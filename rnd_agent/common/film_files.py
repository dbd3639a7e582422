"""MP4 and GIF files, frame by frame; the encoder comes with imageio-ffmpeg."""

from __future__ import annotations

import os
import pathlib
import tempfile
from typing import Iterable

import imageio_ffmpeg
import numpy as np

FORMATS = ('.mp4', '.gif')

# What a small game is enlarged to at most, height and width in pixels.
_LARGEST_ENLARGED = 420, 640
# Of an environment that does not tell its own.
_FRAMES_PER_SECOND = 30.0

# One palette of 256 colours for a whole film; games have fewer.
_PALETTE = 'split[a][b];[a]palettegen=stats_mode=diff[p];[b][p]paletteuse='
_SETTINGS = {
    '.mp4': dict(),
    '.gif': dict(
        codec='gif', pix_fmt_out='pal8',
        output_params=['-vf', f'{_PALETTE}dither=none'],
    ),
}


class FilmError(ValueError):
  """A film cannot be written; one line."""


def check_name(path: str | os.PathLike) -> None:
  """Raises FilmError unless the path's ending is one of `FORMATS`."""
  if pathlib.Path(path).suffix.lower() not in FORMATS:
    raise FilmError(
        f'{os.fspath(path)}: films end in {" or ".join(FORMATS)}'
    )


class FilmFile:
  """A film that appears under its name once it is whole.

  As a context manager it is finished at the end of the block, or given up if
  the block raises.
  """

  def __init__(self, path: str | os.PathLike, frames_per_second: float):
    """Writes nothing yet.

    Args:
      path: of the file, in an existing folder; ends in .mp4 or .gif.
      frames_per_second: of the film. A GIF counts hundredths of a second.

    Raises:
      FilmError: another ending.
    """
    check_name(path)
    self._path = pathlib.Path(path)
    self._partial = self._path.with_name(
        f'.{self._path.stem}.{os.getpid()}{self._path.suffix}'
    )
    self._frames_per_second = frames_per_second
    self._shape = None
    self._encoder = None
    self._count = 0

  @property
  def count(self) -> int:
    """Frames written so far."""
    return self._count

  def write(self, frame: np.ndarray) -> None:
    """Adds a frame.

    Args:
      frame: RGB, uint8 `[height, width, 3]`, all of one size. Encoders want
        even sizes: an odd one gets a black line at its lower or right edge.

    Raises:
      FilmError: a frame of another size.
    """
    if self._encoder is None:
      self._shape = frame.shape
      self._encoder = self._start(*frame.shape[:2])
    if frame.shape != self._shape:
      raise FilmError(
          f'a frame of shape {frame.shape} after frames of {self._shape}'
      )
    height, width, _ = frame.shape
    if height % 2 or width % 2:
      frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)))
    self._encoder.send(np.ascontiguousarray(frame))
    self._count += 1

  def finish(self) -> None:
    """Ends the film and gives it its name.

    Raises:
      FilmError: it has no frame, or the encoder failed.
    """
    if self._encoder is None:
      raise FilmError(f'{self._path}: there is no frame to film')
    self._encoder.close()
    if not self._partial.exists() or not self._partial.stat().st_size:
      raise FilmError(f'{self._path}: the encoder wrote nothing')
    os.replace(self._partial, self._path)

  def give_up(self) -> None:
    """Ends the encoder and leaves no file."""
    if self._encoder is not None:
      self._encoder.close()
    self._partial.unlink(missing_ok=True)

  def __enter__(self) -> 'FilmFile':
    return self

  def __exit__(self, kind, *unused_details) -> None:
    try:
      if kind is None:
        self.finish()
    finally:
      self.give_up()

  def _start(self, height: int, width: int):
    encoder = imageio_ffmpeg.write_frames(
        str(self._partial), (width + width % 2, height + height % 2),
        fps=self._frames_per_second, macro_block_size=2,
        ffmpeg_log_level='error', **_SETTINGS[self._path.suffix.lower()],
    )
    encoder.send(None)
    return encoder


def gif(frames: Iterable[np.ndarray], frames_per_second: float) -> bytes:
  """An animation in memory.

  Args:
    frames: RGB, uint8 `[height, width, 3]`, at least one.
    frames_per_second: of the animation.

  Returns:
    The GIF file's bytes; it repeats for ever.
  """
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'animation.gif'
    with FilmFile(path, frames_per_second) as film:
      for frame in frames:
        film.write(frame)
    return path.read_bytes()


def frames_per_second(metadata, frames_per_step: int) -> float:
  """Observations per second at the speed of the game itself.

  Args:
    metadata: of a gymnasium environment; `render_fps` is of its raw frames.
    frames_per_step: raw frames that an action is held for.

  Returns:
    Frames per second of a film with one frame per observation.
  """
  raw = metadata.get('render_fps') or _FRAMES_PER_SECOND
  return raw / frames_per_step


def enlargement(height: int, width: int) -> int:
  """By how much a small game is enlarged, in whole pixels; a large one is not.

  Twice or more also keeps the encoder's halved colours on the pixels.
  """
  most_high, most_wide = _LARGEST_ENLARGED
  return max(1, min(most_high // height, most_wide // width))


def enlarged(frame: np.ndarray, factor: int) -> np.ndarray:
  """A frame with every pixel as a square of `factor` pixels."""
  return frame.repeat(factor, 0).repeat(factor, 1)
