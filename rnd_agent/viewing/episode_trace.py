"""The trace of a played episode: numbers and frames of every observation.

A trace is saved as numpy's .npz, without pickle.
"""

from __future__ import annotations

import os
import pathlib
import stat
import struct
import tokenize
from typing import NamedTuple, Optional, Sequence, Union
import zipfile
import zlib

import cv2
import numpy as np

from rnd_agent.runs import run_folder

NO_PLACE = -1
NO_ACTION = -1

_ARRAYS = {
    'bonus': (np.float32, 1), 'intrinsic_reward': (np.float32, 1),
    'value_ext': (np.float32, 1), 'value_int': (np.float32, 1),
    'score': (np.float64, 1), 'place': (np.int64, 1), 'action': (np.int64, 1),
    'probabilities': (np.float32, 2),
}
_FRAME_BYTES, _FRAME_ENDS = 'frame_bytes', 'frame_ends'
# Bounds on what is read: a trace may come from a stranger.
_LARGEST_ARRAY = 2**31  # Bytes.
_MOST_PIXELS = 2**24  # Of a frame.
_LARGEST_NUMBER = 1e30
_PNG = b'\x89PNG\r\n\x1a\n'
# Observations that a clip shows before its peak, and as many after it.
_AROUND_A_PEAK = 30
_NAMES = ('title', 'action_names')


class TraceError(ValueError):
  """A trace cannot be read or drawn; the message is one line."""


class EpisodeTrace(NamedTuple):
  """n observations of an episode, so n - 1 steps.

  Attributes:
    title: environment and iteration, such as `toy:Corridor, iteration 7`.
    action_names: of each discrete action; () if unknown or continuous.
    bonus: float32 `[n]`, raw, of arriving at each observation; NaN if the run
      has no bonus.
    intrinsic_reward: float32 `[n]`, the bonus as the run normalizes it.
    value_ext: float32 `[n]`, V_ext of each observation; NaN at the end.
    value_int: float32 `[n]`, V_int of each observation; NaN at the end.
    score: float64 `[n]`, game points so far.
    place: int64 `[n]`, room or cell; -1 if unknown.
    action: int64 `[n]`, taken at each observation; -1 at the end, or if
      continuous.
    probabilities: float32 `[n, actions]`; NaN at the end; `[n, 0]` if
      continuous.
    frames: n PNG files as bytes; () if the environment renders nothing.
  """

  title: str
  action_names: Sequence[str]
  bonus: np.ndarray
  intrinsic_reward: np.ndarray
  value_ext: np.ndarray
  value_int: np.ndarray
  score: np.ndarray
  place: np.ndarray
  action: np.ndarray
  probabilities: np.ndarray
  frames: Sequence[bytes]

  @property
  def length(self) -> int:
    """n, the number of observations."""
    return len(self.score)

  def frame(self, i: int) -> np.ndarray:
    """The picture of observation i, RGB, uint8 `[height, width, 3]`."""
    return decode(self.frames[i])

  def save(self, path: Union[str, os.PathLike]) -> None:
    """Writes the trace to a .npz file, which appears when it is whole."""
    ends = np.cumsum([len(frame) for frame in self.frames], dtype=np.int64)
    path = pathlib.Path(path)
    partial = path.with_name(f'.{path.stem}.{os.getpid()}.npz')
    try:
      np.savez_compressed(
          partial,
          title=np.array(self.title),
          action_names=np.array(self.action_names, dtype=np.str_),
          frame_bytes=np.frombuffer(b''.join(self.frames), np.uint8),
          frame_ends=ends,
          **{name: getattr(self, name) for name in _ARRAYS},
      )
      os.replace(partial, path)
    finally:
      partial.unlink(missing_ok=True)


def load(path: Union[str, os.PathLike]) -> EpisodeTrace:
  """Reads a trace; nothing in the file is executed.

  Args:
    path: of a .npz file.

  Returns:
    The trace.

  Raises:
    TraceError: the file cannot be read, or holds no trace.
  """
  try:
    if not stat.S_ISREG(os.stat(path).st_mode):
      raise TraceError(f'{path} is no file')
    with zipfile.ZipFile(path) as archive:
      return _checked({
          name: _array(archive, name)
          for name in (*_ARRAYS, _FRAME_BYTES, _FRAME_ENDS, *_NAMES)
      })
  except OSError as error:
    raise TraceError(
        f'{path} cannot be read ({error.strerror or "no trace"})'
    ) from error
  except TraceError:
    raise
  # What zipfile and numpy raise for a file that is no archive of arrays.
  except (
      ValueError, TypeError, EOFError, KeyError, RuntimeError, OverflowError,
      struct.error, tokenize.TokenError, SyntaxError, zipfile.BadZipFile,
      zlib.error,
  ) as error:
    raise TraceError(
        f'{path} is no trace of an episode: {str(error)[:80]}'
    ) from error


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
  """An array of the archive.

  numpy reserves the memory that the header claims, but fills only what the file
  holds, of which at most `_LARGEST_ARRAY` bytes are read.
  """
  member = archive.getinfo(f'{name}.npy')
  if member.file_size > _LARGEST_ARRAY:
    raise ValueError(f'{name} is too large')
  try:
    with archive.open(member) as file:
      array = np.lib.format.read_array(file, allow_pickle=False)
    if array.size > member.file_size:
      raise ValueError('elements of 0 bytes')
  except (ValueError, MemoryError) as error:
    raise ValueError(
        f'{name} is no array, or smaller than its header says'
    ) from error
  return array


def _checked(contents) -> EpisodeTrace:
  """The trace of a file's arrays; raises ValueError where they do not fit."""
  arrays = {name: contents[name] for name in _ARRAYS}
  for name, (dtype, rank) in _ARRAYS.items():
    if arrays[name].dtype != dtype or arrays[name].ndim != rank:
      raise ValueError(f'{name} has another type or shape')
  if len({len(array) for array in arrays.values()}) > 1 or not len(
      arrays['score']
  ):
    raise ValueError('its parts differ in length')
  for name, array in arrays.items():
    if array.dtype.kind == 'f' and (np.abs(array) > _LARGEST_NUMBER).any():
      raise ValueError(f'{name} has a number that is too large')
  for name in ('place', 'action'):
    if (arrays[name] < -1).any():
      raise ValueError(f'{name} has a number below -1')
  data, ends = contents[_FRAME_BYTES], contents[_FRAME_ENDS]
  title, names = (contents[name] for name in _NAMES)
  if (data.dtype, data.ndim, ends.dtype, ends.ndim) != (
      np.uint8, 1, np.int64, 1
  ) or (title.dtype.kind, title.ndim, names.dtype.kind, names.ndim) != (
      'U', 0, 'U', 1
  ):
    raise ValueError('its frames or names have another type or shape')
  if len(ends) not in (0, len(arrays['score'])):
    raise ValueError('it has more or fewer frames than observations')
  starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)[:len(ends)]
  if (ends < starts).any() or ends[-1:].sum() > len(data):
    raise ValueError('its frames end where they cannot')
  data = data.tobytes()
  frames = tuple(data[a:b] for a, b in zip(starts.tolist(), ends.tolist()))
  if len(set(map(_size, frames))) > 1:
    raise ValueError('its frames differ in size')
  return EpisodeTrace(
      run_folder.printable(str(title)),
      tuple(run_folder.printable(str(name)) for name in names),
      frames=frames, **arrays,
  )


def _size(frame: bytes) -> tuple[int, int]:
  """Width and height of a PNG file, from its header.

  Raises:
    ValueError: it is no PNG file, or has too many pixels.
  """
  if frame[:8] != _PNG or len(frame) < 24:
    raise ValueError('a frame is no PNG file')
  width, height = struct.unpack('>II', frame[16:24])
  if width * height > _MOST_PIXELS:
    raise ValueError('a frame is too large')
  return width, height


def encode(frame: np.ndarray) -> bytes:
  """A picture, RGB uint8 `[height, width, 3]`, as a PNG file's bytes."""
  done, data = cv2.imencode(
      '.png', cv2.cvtColor(frame, cv2.COLOR_RGB2BGR),
      [cv2.IMWRITE_PNG_COMPRESSION, 3],
  )
  if not done:
    raise ValueError(f'a frame of shape {frame.shape} cannot be encoded')
  return data.tobytes()


def decode(data: bytes) -> np.ndarray:
  """The inverse of `encode`.

  Raises:
    TraceError: the bytes are no picture.
  """
  try:
    _size(data)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
  except (ValueError, cv2.error) as error:
    raise TraceError('a frame of the trace is no picture') from error
  if image is None:
    raise TraceError('a frame of the trace is no picture')
  return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def peaks(
    values: np.ndarray, count: int, distance: Optional[int] = None
) -> list[int]:
  """The highest points of a curve that lie apart from each other.

  Args:
    values: `[n]`; NaN is never a peak.
    count: how many at most.
    distance: the least between two peaks, in points; by default
      n / (2 count).

  Returns:
    Indices in ascending order.
  """
  if distance is None:
    distance = max(1, len(values) // (2 * count))
  candidates = np.where(np.isnan(values), -np.inf, values)
  found = []
  while len(found) < count:
    highest = int(np.argmax(candidates))
    if candidates[highest] == -np.inf:
      break
    found.append(highest)
    candidates[max(0, highest - distance + 1):highest + distance] = -np.inf
  return sorted(found)


def clips(trace: EpisodeTrace, count: int) -> list[tuple[int, range]]:
  """The observations around an episode's highest intrinsic rewards.

  Args:
    trace: of the episode.
    count: how many at most.

  Returns:
    `(peak, observations around it)` as indices, in the order of time.
  """
  return [
      (peak, range(max(0, peak - _AROUND_A_PEAK),
                   min(trace.length, peak + _AROUND_A_PEAK + 1)))
      for peak in peaks(trace.intrinsic_reward, count, 2 * _AROUND_A_PEAK)
  ]
