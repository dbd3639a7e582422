"""Draws the frames of an episode's film: the game and a panel beside it.

The panel charts intrinsic reward, values and the probabilities of the actions.
Numpy and OpenCV only.
"""

from __future__ import annotations

from typing import Iterator, Optional, Sequence

import cv2
import numpy as np

from rnd_agent.common import film_files
from rnd_agent.common import wording
from rnd_agent.viewing import episode_trace

_WIDTH = 380  # Of the panel, in pixels.
_LEAST_HEIGHT = 420
_MARGIN = 14
_BACKGROUND = (24, 26, 32)
_TEXT = (225, 225, 225)
_DIM = (135, 140, 150)
_GRID = (58, 62, 72)
_BONUS = (255, 176, 59)
_VALUE_EXT = (98, 174, 255)
_VALUE_INT = (132, 222, 142)
_ACTION = (235, 120, 140)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_MOST_BARS = 18
_BARS_IN_ONE_COLUMN = 6
# The name of an action before its bar: width in pixels, letters that fit.
_NAMES_WIDTH = 92
_LETTERS = 14


class Panel:
  """Draws the frames of one episode: the game and a panel beside it."""

  def __init__(self, trace: episode_trace.EpisodeTrace, episode: str = ''):
    """Draws the parts that are the same in all frames.

    Args:
      trace: of the episode, with frames.
      episode: a heading such as 'episode 2/5'.

    Raises:
      TraceError: the trace has no frames.
    """
    if not trace.frames:
      raise episode_trace.TraceError(
          'there is nothing to film: the environment renders no frames'
      )
    self._trace = trace
    # The title ends in the iteration: see `EpisodeTrace`.
    iteration = trace.title.rpartition(', ')[2][:_LETTERS + 4]
    self._heading = ', '.join(filter(None, [episode, iteration]))
    height, width, _ = trace.frame(0).shape
    self._factor = film_files.enlargement(height, width)
    self._game = (height * self._factor, width * self._factor)
    self._height = max(_LEAST_HEIGHT, self._game[0])
    places = trace.place[trace.place != episode_trace.NO_PLACE]
    self._has_places = bool(places.size)
    self._background = self._draw_background()

  @property
  def shape(self) -> tuple[int, int, int]:
    """The shape of every frame: `(height, width, 3)`."""
    return (self._height, self._game[1] + _WIDTH, 3)

  def frames(
      self, indices: Optional[Sequence[int]] = None
  ) -> Iterator[np.ndarray]:
    """Yields the frame, uint8 `shape`, of every observation or those given."""
    for i in range(self._trace.length) if indices is None else indices:
      yield self.frame(i)

  def frame(self, i: int) -> np.ndarray:
    """The frame of observation i, RGB, uint8 `shape`."""
    trace = self._trace
    picture = self._background.copy()
    game = film_files.enlarged(trace.frame(i), self._factor)
    top = (self._height - self._game[0]) // 2
    picture[top:top + game.shape[0], :game.shape[1]] = game
    self._write_numbers(picture, i)
    for curve, colour, box, limits in self._curves():
      _draw_curve(picture, curve[:i + 1], len(curve), colour, box, limits)
      _draw_dot(picture, i, curve, colour, box, limits)
    self._draw_probabilities(picture, i)
    return picture

  def _curves(self):
    """The charts: values, colour, box (left, top, right, bottom), limits."""
    left = self._game[1] + _MARGIN
    right = self._game[1] + _WIDTH - _MARGIN
    trace = self._trace
    for n, (curve, colour) in enumerate((
        (trace.intrinsic_reward, _BONUS),
        (trace.value_ext, _VALUE_EXT),
        (trace.value_int, _VALUE_INT),
    )):
      top = 84 + 74 * n
      yield (curve, colour, (left, top, right, top + 48),
             _limits(curve, from_zero=n == 0))

  def _draw_background(self) -> np.ndarray:
    """What all frames share: boxes, headings, whole curves in dark colours."""
    picture = np.full(self.shape, _BACKGROUND, np.uint8)
    picture[:, :self._game[1]] = 0
    names = ('intrinsic reward', 'V_ext', 'V_int')
    for name, (curve, colour, box, (low, high)) in zip(names, self._curves()):
      left, top, right, bottom = box
      cv2.rectangle(picture, (left, top), (right, bottom), _GRID, 1)
      if low < 0 < high:
        y = int(_points(np.zeros(1), 1, box, (low, high))[0, 1].round())
        cv2.line(picture, (left, y), (right, y), _GRID, 1)
      _write(picture, name, (left, top - 6), colour)
      if np.isnan(curve).all():
        _write(picture, 'none', (left + 6, bottom - 18), _DIM)
        continue
      _write(picture, f'{low:.3g} to {high:.3g}', (right, top - 6), _DIM,
             from_right=True)
      shade = tuple(c // 3 + 12 for c in colour)
      _draw_curve(picture, curve, len(curve), shade, box, (low, high))
    return picture

  def _write_numbers(self, picture: np.ndarray, i: int) -> None:
    trace = self._trace
    left = self._game[1] + _MARGIN
    right = self._game[1] + _WIDTH - _MARGIN
    score = wording.number(trace.score[i])
    _write(picture, f'score {score}', (left, 26), _TEXT, 0.62)
    _write(picture, f'step {i}/{trace.length - 1}', (right, 24), _DIM,
           from_right=True)
    if self._has_places:
      visited = set(trace.place[:i + 1].tolist()) - {episode_trace.NO_PLACE}
      place = f'{wording.places(trace.title, 1)} {trace.place[i]}'
      _write(picture, f'{place}, {len(visited)} so far', (left, 50), _TEXT)
    _write(picture, self._heading, (right, 50), _DIM, from_right=True)

  def _name(self, action: int) -> str:
    names = self._trace.action_names
    return names[action] if action < len(names) else str(action)

  def _draw_probabilities(self, picture: np.ndarray, i: int) -> None:
    """Draws names and bars of the actions, in one column or two."""
    probabilities = self._trace.probabilities[i]
    chosen = int(self._trace.action[i])
    left, top = self._game[1] + _MARGIN, 306
    if not probabilities.size:
      return
    highest = max(float(np.nanmax(self._trace.probabilities)), 1e-6)
    shown = probabilities[:_MOST_BARS]
    heading = f'probability of each action, 0 to {highest:.0%}'
    if len(probabilities) > len(shown):
      heading = f'the first {len(shown)} of {len(probabilities)} actions'
    _write(picture, heading, (left, top - 6), _ACTION)
    if np.isnan(probabilities).any():
      return  # No action follows the last observation.
    columns = 1 if len(shown) <= _BARS_IN_ONE_COLUMN else 2
    per_column = -(-len(shown) // columns)
    width = (_WIDTH - 2 * _MARGIN) // columns
    names_width = _NAMES_WIDTH if self._trace.action_names else 24
    height = min(18, (_LEAST_HEIGHT - 4 - top) // per_column)
    for action, share in enumerate(shown):
      column, row = divmod(action, per_column)
      x, y = left + column * width, top + row * height
      colour = _ACTION if action == chosen else tuple(c // 2 for c in _ACTION)
      ink = _TEXT if action == chosen else _DIM
      _write(picture, self._name(action)[:_LETTERS], (x, y + height - 3), ink,
             0.33)
      x += names_width
      length = round(float(share) / highest * (width - names_width - 8))
      cv2.rectangle(picture, (x, y + 2), (x + max(length, 1), y + height - 3),
                    colour, -1)


def _limits(curve: np.ndarray, from_zero: bool = False) -> tuple[float, float]:
  """The values at a chart's lower and upper edge.

  Args:
    curve: `[n]`, NaN where unknown.
    from_zero: whether the lower edge is 0: for curves that are never negative.

  Returns:
    `(low, high)`, low < high.
  """
  finite = curve[np.isfinite(curve)]
  if not finite.size:
    return 0.0, 1.0
  low = 0.0 if from_zero else float(finite.min())
  high = float(finite.max())
  if high > low:
    return low, high
  room = abs(low) / 10 or 1.0  # Puts a flat line in the middle.
  return low - room * (not from_zero), high + room


def _points(values, length, box, limits) -> np.ndarray:
  """Pixels `[n, 2]` of a chart's first n values, of `length` in all."""
  left, top, right, bottom = box
  low, high = limits
  x = left + np.arange(len(values)) * (right - left) / max(length - 1, 1)
  y = bottom - 1 - (values - low) / (high - low) * (bottom - top - 2)
  return np.stack([x, y], -1)


def _draw_curve(picture, values, length, colour, box, limits) -> None:
  points = _points(values, length, box, limits)
  points = points[np.isfinite(points).all(-1)]
  if len(points) > 1:
    cv2.polylines(picture, [np.round(points).astype(np.int32)], False, colour,
                  1, cv2.LINE_AA)


def _draw_dot(picture, i, curve, colour, box, limits) -> None:
  if np.isfinite(curve[i]):
    x, y = np.round(_points(curve, len(curve), box, limits)[i]).astype(int)
    cv2.circle(picture, (int(x), int(y)), 3, colour, -1, cv2.LINE_AA)


def _write(
    picture, text, position, colour, size=0.42, from_right=False
) -> None:
  """Writes a text in ASCII, the only letters that OpenCV's fonts have."""
  text = text.encode('ascii', 'replace').decode()
  x, y = position
  if from_right:
    x -= cv2.getTextSize(text, _FONT, size, 1)[0][0]
  cv2.putText(picture, text, (int(x), int(y)), _FONT, size, colour, 1,
              cv2.LINE_AA)
