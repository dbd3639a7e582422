"""Writes MP4 and GIF files frame by frame, with imageio-ffmpeg's encoder."""

from __future__ import annotations

import os
import pathlib
import tempfile
from typing import Iterable

import imageio_ffmpeg
import numpy as np

FORMATS = ('.mp4', '.gif')

# A small game is enlarged to at most this height and width, in pixels.
_LARGEST_ENLARGED = 420, 640
# Of an environment whose metadata has no `render_fps`.
_FRAMES_PER_SECOND = 30.0

# One palette of 256 colours for a whole film: games have fewer colours.
_PALETTE = 'split[a][b];[a]palettegen=stats_mode=diff[p];[b][p]paletteuse='
_SETTINGS = {
    '.mp4': dict(),
    '.gif': dict(
        codec='gif', pix_fmt_out='pal8',
        output_params=['-vf', f'{_PALETTE}dither=none'],
    ),
}


class FilmError(ValueError):
  """A film cannot be written; the message is one line."""


def check_name(path: str | os.PathLike) -> None:
  """Raises FilmError unless the path's ending is one of `FORMATS`."""
  if pathlib.Path(path).suffix.lower() not in FORMATS:
    raise FilmError(
        f'{os.fspath(path)}: films end in {" or ".join(FORMATS)}'
    )


class FilmFile:
  """Writes a film; the file appears under its name once it is complete.

  As a context manager it finishes the film at the end of the block, and removes
  what was written if the block raises.
  """

  def __init__(self, path: str | os.PathLike, frames_per_second: float):
    """Prepares a film; the first `write` starts the encoder.

    Args:
      path: of the file, in an existing folder; ends in .mp4 or .gif.
      frames_per_second: of the film. A GIF rounds the time of a frame to
        hundredths of a second.

    Raises:
      FilmError: the path has another ending.
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
      frame: RGB, uint8 `[height, width, 3]`, of the size of all others. As
        encoders want even sizes, an odd height or width gets one black line.

    Raises:
      FilmError: the frame has another size than the first one.
    """
    if self._encoder is None:
      self._shape = frame.shape
      self._encoder = self._start_encoder(*frame.shape[:2])
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
    """Ends the film and moves the file to its path.

    Raises:
      FilmError: the film has no frame, or the encoder failed.
    """
    if self._encoder is None:
      raise FilmError(f'{self._path}: there is no frame to film')
    self._encoder.close()
    if not self._partial.exists() or not self._partial.stat().st_size:
      raise FilmError(f'{self._path}: the encoder wrote nothing')
    os.replace(self._partial, self._path)

  def give_up(self) -> None:
    """Ends the encoder and removes the incomplete file."""
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

  def _start_encoder(self, height: int, width: int):
    encoder = imageio_ffmpeg.write_frames(
        str(self._partial), (width + width % 2, height + height % 2),
        fps=self._frames_per_second, macro_block_size=2,
        ffmpeg_log_level='error', **_SETTINGS[self._path.suffix.lower()],
    )
    encoder.send(None)
    return encoder


def encoded(
    frames: Iterable[np.ndarray], frames_per_second: float, ending: str
) -> bytes:
  """Encodes a film in memory.

  Args:
    frames: RGB, uint8 `[height, width, 3]`, at least one.
    frames_per_second: of the film.
    ending: of the file's name, such as '.gif', which repeats for ever.

  Returns:
    The bytes of the file.
  """
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / f'film{ending}'
    with FilmFile(path, frames_per_second) as film:
      for frame in frames:
        film.write(frame)
    return path.read_bytes()


def frames_per_second(metadata, frames_per_step: int) -> float:
  """Observations per second at the speed of the game itself.

  Args:
    metadata: of a gymnasium environment; `render_fps` counts raw frames.
    frames_per_step: raw frames for which an action is repeated.

  Returns:
    Frames per second of a film with one frame per observation.
  """
  raw = metadata.get('render_fps') or _FRAMES_PER_SECOND
  return raw / frames_per_step


def enlargement(height: int, width: int) -> int:
  """The whole factor by which a game is enlarged; 1 for a large one.

  Encoders halve the resolution of colours: from a factor of 2 on every pixel of
  the game keeps its own colour.
  """
  most_high, most_wide = _LARGEST_ENLARGED
  return max(1, min(most_high // height, most_wide // width))


def enlarged(frame: np.ndarray, factor: int) -> np.ndarray:
  """A frame with every pixel as a square of `factor` pixels."""
  return frame.repeat(factor, 0).repeat(factor, 1)
