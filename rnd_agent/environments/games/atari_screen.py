"""The screens of Atari games, as frames of `wrappers.SkipAndMax`.

Grey ones are made from the emulator's colour numbers, which take 1 us to read
instead of 22 for the RGB screen. The loop over pixels is compiled by Numba.
"""

from typing import Callable, Optional

import cv2
import gymnasium
import numba
import numpy as np

from rnd_agent.environments.games import atari

_COLORS = 256
_NOT_KNOWN = -1


def _compiled(function: Callable) -> Callable:
  """Compiles a function once per machine, or else once per process."""
  try:
    return numba.njit(function, cache=True)
  except RuntimeError:  # There is no folder that Numba could write to.
    return numba.njit(function)


class RgbScreen:
  """Screens in colour."""

  def __init__(self, game: atari.AtariGame):
    """Takes the screens of a game, not wrapped."""
    self._game = game
    self.space = gymnasium.spaces.Box(0, 255, game.render().shape, np.uint8)

  def read(self) -> np.ndarray:
    """Returns the current screen, uint8 [210, 160, 3]."""
    return self._game.render()

  def image(self, before: Optional[np.ndarray]) -> np.ndarray:
    """Returns the maximum of the current screen and one before, if given."""
    screen = self._game.render()
    return screen if before is None else np.maximum(screen, before)


class GreyScreen:
  """Screens in grey and, where that is worth it, resized.

  The maximum of two screens is that per pixel and colour. The result equals
  that of `np.maximum`, `cv2.cvtColor` and `cv2.resize` with `INTER_AREA` on
  RGB screens. Which grey belongs to which two colour numbers is learned from
  the RGB screen whenever a colour is first seen: the emulator has more than one
  palette and tells none of them.
  """

  def __init__(
      self, game: atari.AtariGame, size: Optional[tuple[int, int]] = None
  ):
    """Takes the screens of a game.

    Args:
      game: The game, not wrapped.
      size: Height and width of the images, pixels. OpenCV enlarges, and
        divides by whole numbers, in ways of its own: for such sizes and for
        None the images keep the screen's size.
    """
    self._game = game
    height, width = game.color_numbers().shape
    if size is None or not _is_weighted_area((height, width), size):
      size = height, width
    self.space = gymnasium.spaces.Box(0, 255, size, np.uint8)
    self._rows = _area_weights(height, size[0])
    self._columns = _area_weights(width, size[1])
    self._rgb = np.zeros((_COLORS, 3), np.uint8)
    self._is_known = np.zeros(_COLORS, bool)
    # Grey of the maximum of two colours; _NOT_KNOWN where one is not known.
    self._grey_of_two = np.full((_COLORS, _COLORS), _NOT_KNOWN, np.float32)

  def read(self) -> np.ndarray:
    """Returns the current screen: colour numbers, uint8 [210, 160]."""
    screen = self._game.color_numbers()
    if not _are_known(screen, self._is_known):
      self._learn_colors(screen)
    return screen

  def image(self, before: Optional[np.ndarray]) -> np.ndarray:
    """Computes the image of the current screen and one before.

    Args:
      before: What `read` returned last; None: the current screen alone.

    Returns:
      Grey, uint8 [height, width]; a new array.
    """
    screen = self._game.color_numbers()
    first = screen if before is None else before
    image = np.empty(self.space.shape, np.uint8)
    arguments = (
        first, screen, self._grey_of_two, *self._rows, *self._columns, image
    )
    if not _compute(*arguments):
      self._learn_colors(screen)
      _compute(*arguments)
    return image

  def _learn_colors(self, numbers: np.ndarray):
    """Learns all colours of the screen that is shown now, given its numbers."""
    shown, pixels = np.unique(numbers, return_index=True)
    self._rgb[shown] = self._game.render().reshape(-1, 3)[pixels]
    self._is_known[shown] = True
    known = np.flatnonzero(self._is_known)
    pairs = np.maximum(self._rgb[known][:, np.newaxis], self._rgb[known])
    self._grey_of_two[np.ix_(known, known)] = cv2.cvtColor(
        pairs, cv2.COLOR_RGB2GRAY
    )


def _is_weighted_area(
    shape: tuple[int, int], size: tuple[int, int]
) -> bool:
  """Whether OpenCV weighs pixels by the area that they share."""
  ratios = [before / after for before, after in zip(shape, size)]
  return min(ratios) >= 1 and not all(map(float.is_integer, ratios))


def _area_weights(before: int, after: int) -> tuple[np.ndarray, np.ndarray]:
  """The weights of area interpolation along one axis, as OpenCV computes them.

  Args:
    before: Pixels of the axis.
    after: Pixels of the result, at most as many.

  Returns:
    For every pixel of the result, the indices of the pixels that it is made of
    and their weights, float32: both [pixels, after]. Where a pixel is made of
    fewer, the last are repeated with weight 0.
  """
  ratio = before / after
  all_taps = []
  for i in range(after):
    low, high = i * ratio, (i + 1) * ratio
    area = min(ratio, before - low)
    taps = []
    for pixel in range(int(low), min(int(np.ceil(high)), before)):
      share = min(high, pixel + 1) - max(low, pixel)
      if share > 1e-3 or share == 1:
        taps.append((pixel, min(share, area) / area))
    all_taps.append(taps)
  most = max(map(len, all_taps))
  all_taps = [
      taps + [(taps[-1][0], 0.0)] * (most - len(taps)) for taps in all_taps
  ]
  taps = np.array(all_taps).T.copy()  # [2, pixels, after]
  return taps[0].astype(np.uintp), taps[1].astype(np.float32)


@_compiled
def _is_repeated(screen, y):
  """Whether a row, after the first, equals the one above: most of them do."""
  different = np.uint8(0)
  for x in range(screen.shape[1]):
    different |= screen[y, x] ^ screen[y - 1, x]
  return different == 0


@_compiled
def _are_known(screen, is_known):
  """Whether all colours of a screen are known.

  Args:
    screen: uint8 [height, width], colour numbers.
    is_known: bool [256].
  """
  result = True
  for y in range(screen.shape[0]):
    if y and _is_repeated(screen, y):
      continue
    for x in range(screen.shape[1]):
      result &= is_known[screen[y, x]]
  return result


@_compiled
def _compute(
    first, second, grey_of_two, row_pixels, row_weights, column_pixels,
    column_weights, image,
):
  """Computes an image; returns whether all its colours are known.

  Args:
    first: uint8 [height, width], colour numbers of one screen.
    second: That of the other.
    grey_of_two: float32 [256, 256]; negative if a colour is not known.
    row_pixels: These two are of `_area_weights`.
    row_weights: See above.
    column_pixels: These are, too.
    column_weights: See above.
    image: uint8; changed.
  """
  width = first.shape[1]
  all_known = True
  grey = np.empty(width, np.float32)
  # Sums in OpenCV's order: along a row, then over the rows.
  row_sums = np.zeros(image.shape[1], np.float32)
  sums = np.empty(image.shape[1], np.float32)
  row = first.shape[0]  # That of `row_sums`.
  for i in range(image.shape[0]):
    sums[:] = 0
    for k in range(row_pixels.shape[0]):
      y = row_pixels[k, i]
      is_done = row == y or (
          row + 1 == y and _is_repeated(first, y) and _is_repeated(second, y)
      )
      row = y
      if not is_done:
        for x in range(width):
          grey[x] = grey_of_two[first[y, x], second[y, x]]
        for x in range(width):
          all_known &= grey[x] >= 0
        row_sums[:] = 0
        for m in range(column_pixels.shape[0]):
          for j in range(image.shape[1]):
            row_sums[j] += grey[column_pixels[m, j]] * column_weights[m, j]
      for j in range(image.shape[1]):
        sums[j] += row_weights[k, i] * row_sums[j]
    for j in range(image.shape[1]):
      image[i, j] = np.rint(sums[j])
  return all_known
