"""Draws learning curves: one panel per metric, one legend."""

from __future__ import annotations

import os
from typing import Mapping, Sequence

import numpy as np

from rnd_agent.runs import metrics as metrics_lib
from rnd_agent.viewing import curves
from rnd_agent.viewing import figures

# Columns that may be the horizontal axis, and its labels.
X_LABELS = {
    name: metrics_lib.BY_NAME[name].title
    for name in ('frames', 'env_steps', 'hours', 'iteration')
}
_COLUMNS = 2
_STYLES = ('-', '--', ':', '-.')  # Each for ten lines, of ten colours.
_LEGEND_TITLE = 'interquartile mean, 95 % bootstrap interval'


def figure(
    panels: Mapping[str, Sequence[curves.Curve]], x: str,
    places: str = 'places',
):
  """Draws one panel per metric.

  Args:
    panels: curves by metric.
    x: column of the horizontal axis.
    places: the word for the counted places, 'rooms' or 'places'.

  Returns:
    A matplotlib figure.
  """
  metrics = list(panels)
  columns = min(_COLUMNS, len(metrics))
  rows = -(-len(metrics) // columns)
  lines = panels[metrics[0]]
  names = _names(lines) if len(lines) > 1 or lines[0].runs > 1 else []
  # How many names fit beside each other: a line and 15 letters to the inch.
  per_row = max(1, int(5.2 * columns * 15) // (max(map(len, names), default=0)
                                                + 8))
  legend_rows = -(-len(names) // per_row)
  drawing = figures.new_figure(
      layout='constrained',
      figsize=(5.2 * columns, 2.3 * rows + 0.3 + 0.18 * (legend_rows + 1)),
  )
  axes = drawing.subplots(rows, columns, squeeze=False, sharex=True)
  for axis, metric in zip(axes.flat, metrics):
    _draw_panel(axis, panels[metric], metric)
    axis.set_title(_title(metric, places), fontsize=9, loc='left')
    figures.tidy(axis, x == 'hours')
  for axis in axes.flat[len(metrics):]:
    axis.set_visible(False)
  for i, axis in enumerate(axes.flat[:len(metrics)]):
    if i + columns >= len(metrics):
      axis.set_xlabel(X_LABELS.get(x, x), fontsize=9)
      axis.tick_params(labelbottom=True)
  if names:
    drawing.legend(
        axes[0, 0].get_lines()[:len(names)], names, fontsize=8,
        loc='outside lower center', ncols=min(len(names), per_row),
        frameon=False, title=_LEGEND_TITLE if any(
            line.low is not None for line in lines
        ) else None, title_fontsize=8,
    )
  return drawing


def _title(metric: str, places: str) -> str:
  """A panel's title: the metric's own, or the column if it is not known."""
  row = metrics_lib.BY_NAME.get(metric)
  return row.titled(places) if row else metric


def _draw_panel(axis, lines: Sequence[curves.Curve], metric: str) -> None:
  from matplotlib import ticker

  for i, line in enumerate(lines):
    color, style = f'C{i % 10}', _STYLES[i // 10 % len(_STYLES)]
    axis.plot(line.x, line.y, linewidth=1.3, color=color, linestyle=style)
    if line.low is not None:
      axis.fill_between(line.x, line.low, line.high, alpha=0.2, linewidth=0,
                        color=color)
  if metric in metrics_lib.BY_NAME and metrics_lib.BY_NAME[metric].whole:
    axis.yaxis.set_major_locator(ticker.MaxNLocator(integer=True))
  known = np.concatenate([line.y for line in lines])
  known = known[np.isfinite(known)]
  if known.size and known.min() == known.max():  # A flat line, such as 0.
    axis.set_ylim(min(1.2 * known[0], -0.05), max(1.2 * known[0], 1.0))
  if not known.size:
    axis.text(0.5, 0.5, 'nothing yet', ha='center', va='center',
              transform=axis.transAxes, color='grey')


def _names(lines: Sequence[curves.Curve]) -> list[str]:
  """The names in the legend; the folder that all runs share is left out."""
  labels = [line.label for line in lines]
  if len(labels) > 1 and all(line.runs == 1 for line in lines):
    folders = {os.path.dirname(label) for label in labels}
    if len(folders) == 1:
      labels = [os.path.basename(label) for label in labels]
  return [
      label.replace('$', r'\$') + (
          f', {line.runs} runs' if line.runs > 1 else ''
      )
      for label, line in zip(labels, lines)
  ]
