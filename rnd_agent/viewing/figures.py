"""The style of figures and their files; imports matplotlib only to draw."""

from __future__ import annotations

import io
import os
import pathlib
from typing import Union

from rnd_agent.common import atomic_files

FORMATS = ('.png', '.svg', '.pdf')
_DOTS_PER_INCH = 110


class FigureError(ValueError):
  """A figure cannot be drawn or saved; the message is one line."""


def new_figure(**settings):
  """An empty figure of matplotlib, drawn without a display.

  It stands apart from pyplot, so that a notebook that draws keeps its backend.

  Args:
    **settings: of `matplotlib.figure.Figure`.

  Raises:
    FigureError: matplotlib is not installed.
  """
  check_installed()
  from matplotlib import figure
  from matplotlib.backends import backend_agg

  new = figure.Figure(**settings)
  backend_agg.FigureCanvasAgg(new)
  return new


def check_installed() -> None:
  """Raises FigureError where matplotlib is not installed."""
  # Of another program: matplotlib refuses a backend that this process lacks.
  backend = os.environ.pop('MPLBACKEND', None)
  try:
    import matplotlib  # noqa: F401
  except ImportError as error:
    raise FigureError(
        "figures need matplotlib: pip install -e ."
    ) from error
  finally:
    if backend is not None:
      os.environ['MPLBACKEND'] = backend


def check_name(path: Union[str, os.PathLike]) -> None:
  """Raises FigureError for an ending not in `FORMATS`, or a missing folder."""
  path = pathlib.Path(path)
  if path.suffix.lower() not in FORMATS:
    raise FigureError(f'{path}: figures end in {", ".join(FORMATS)}')
  if not path.absolute().parent.is_dir():
    raise FigureError(f'{path}: there is no folder {path.parent}')


def tidy(axis, plain_x: bool = False) -> None:
  """Gives an axis a light grid, no box, and numbers in k, M and G.

  Args:
    axis: of matplotlib.
    plain_x: whether the horizontal axis is labelled without k, M and G.
  """
  from matplotlib import ticker

  axis.grid(alpha=0.25)
  axis.spines[['top', 'right']].set_visible(False)
  axis.tick_params(labelsize=8)
  if not plain_x:
    axis.xaxis.set_major_formatter(ticker.EngFormatter(sep=''))


def save(figure, path: Union[str, os.PathLike]) -> None:
  """Writes a figure to a file, which appears once it is complete."""
  path = pathlib.Path(path)
  partial = path.with_name(f'.{path.stem}.{os.getpid()}{path.suffix}')
  try:
    figure.savefig(partial, dpi=_DOTS_PER_INCH)
    os.replace(partial, path)
  finally:
    partial.unlink(missing_ok=True)


def png(figure) -> bytes:
  """A figure as a PNG file's bytes."""
  data = io.BytesIO()
  figure.savefig(data, format='png', dpi=_DOTS_PER_INCH)
  return data.getvalue()


def write_text(path: Union[str, os.PathLike], text: str) -> None:
  """Writes a text file, which appears once it is complete."""
  with atomic_files.replacing(os.fspath(path)) as file:
    file.write(text)
