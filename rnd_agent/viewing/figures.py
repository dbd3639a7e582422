"""How figures look and how they are saved; matplotlib is imported late."""

from __future__ import annotations

import io
import os
import pathlib
from typing import Union

FORMATS = ('.png', '.svg', '.pdf')
_DOTS_PER_INCH = 110


class FigureError(ValueError):
  """A figure cannot be drawn or saved; one line."""


def pyplot():
  """matplotlib's pyplot, without a display.

  Raises:
    FigureError: matplotlib is not installed.
  """
  try:
    import matplotlib
  except ImportError as error:
    raise FigureError(
        "figures need matplotlib: pip install -e ."
    ) from error
  matplotlib.use('Agg')
  from matplotlib import pyplot as plt

  return plt


def check_name(path: Union[str, os.PathLike]) -> None:
  """Raises FigureError unless the path's ending is one of `FORMATS`."""
  path = pathlib.Path(path)
  if path.suffix.lower() not in FORMATS:
    raise FigureError(f'{path}: figures end in {", ".join(FORMATS)}')
  if not path.absolute().parent.is_dir():
    raise FigureError(f'{path}: there is no folder {path.parent}')


def tidy(axis, plain_x: bool = False) -> None:
  """A light grid, no box, a horizontal axis in k, M and G.

  Args:
    axis: of matplotlib.
    plain_x: whether the horizontal axis keeps its numbers as they are.
  """
  from matplotlib import ticker

  axis.grid(alpha=0.25)
  axis.spines[['top', 'right']].set_visible(False)
  axis.tick_params(labelsize=8)
  if not plain_x:
    axis.xaxis.set_major_formatter(ticker.EngFormatter(sep=''))


def save(figure, path: Union[str, os.PathLike]) -> None:
  """Writes a figure to a file, which appears when it is whole."""
  path = pathlib.Path(path)
  partial = path.with_name(f'.{path.stem}.{os.getpid()}{path.suffix}')
  try:
    figure.savefig(partial, dpi=_DOTS_PER_INCH)
    os.replace(partial, path)
  finally:
    partial.unlink(missing_ok=True)
    pyplot().close(figure)


def png(figure) -> bytes:
  """A figure as a PNG file's bytes."""
  data = io.BytesIO()
  figure.savefig(data, format='png', dpi=_DOTS_PER_INCH)
  pyplot().close(figure)
  return data.getvalue()


def write_text(path: Union[str, os.PathLike], text: str) -> None:
  """Writes a text file, which appears when it is whole."""
  path = pathlib.Path(path)
  partial = path.with_name(f'.{path.name}.{os.getpid()}')
  try:
    partial.write_text(text, encoding='utf-8')
    os.replace(partial, path)
  finally:
    partial.unlink(missing_ok=True)
