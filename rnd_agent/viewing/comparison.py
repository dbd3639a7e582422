"""Runs side by side: the hyperparameters that differ, and where they got."""

from __future__ import annotations

import csv
import io
from typing import Sequence

from rnd_agent.runs import run_folder
from rnd_agent.viewing import curves

_RESULTS = (
    'iteration', 'env_steps', 'hours', 'episode_return_mean',
    'episode_return_max', 'rooms_discovered',
)


def table(runs: Sequence[curves.Run]) -> tuple[list[str], list[list[str]]]:
  """What differs between runs, and the last row of each one's metrics.

  Args:
    runs: of `curves.read`, each with its config.

  Returns:
    The header and a row per run, as text.

  Raises:
    CurvesError: a run has no operative config.
  """
  for run in runs:
    if run.config is None:
      raise curves.CurvesError(
          f'{run.label} has no {run_folder.CONFIG} to compare'
      )
  names = curves.differing([run.config for run in runs])
  if len({run.config.get('train_eval.seed') for run in runs}) > 1:
    names.append('train_eval.seed')
  header = ['run', *map(run_folder.printable, names), *_RESULTS]
  rows = []
  for run in runs:
    last = [run.columns[name][-1] if name in run.columns else float('nan')
            for name in _RESULTS]
    settings = [run.config.get(name, '-') for name in names]
    rows.append([run.label, *map(run_folder.printable, settings),
                 *map(_number, last)])
  return header, rows


def as_csv(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """The table as CSV."""
  text = io.StringIO()
  csv.writer(text, lineterminator='\n').writerows([header, *rows])
  return text.getvalue()


def as_markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """The table as Markdown, a column per run where that is the narrower way."""
  cells = [
      [cell.replace('|', '\\|') or '-' for cell in row]
      for row in (header, *rows)
  ]
  if len(header) > len(rows) + 1:
    cells = [list(column) for column in zip(*cells)]
  return curves.markdown(cells[0], cells[1:])


def _number(value: float) -> str:
  return '' if value != value else f'{value:.8g}'
