"""Compares runs in a table: settings that differ, and their latest metrics."""

from __future__ import annotations

import csv
import io
import math
from typing import Sequence

from rnd_agent.common import wording
from rnd_agent.runs import metrics as metrics_lib
from rnd_agent.runs import run_folder
from rnd_agent.viewing import curves

_RESULTS = ('iteration', 'env_steps', 'hours', *metrics_lib.RESULTS)


def table(
    runs: Sequence[curves.Run], exact: bool = True
) -> tuple[list[str], list[list[str]]]:
  """The settings in which runs differ, and the last row of each run's metrics.

  Args:
    runs: of `curves.read`, each with its config.
    exact: whether numbers are written in full, for programs; otherwise they
      are rounded, for people.

  Returns:
    The header and a row per run, as text.

  Raises:
    CurvesError: a run has no operative config.
  """
  for run in runs:
    curves.check_config(run)
  names = curves.differing([run.config for run in runs])
  if len({run.config.get('train_eval.seed') for run in runs}) > 1:
    names.append('train_eval.seed')
  last = {
      name: [run.columns.get(name, [math.nan])[-1] for run in runs]
      for name in _RESULTS
  }
  # Leaves out metrics that no run has, such as rooms in a game without any.
  results = [name for name in _RESULTS if not all(map(math.isnan, last[name]))]
  header = ['run', *map(run_folder.printable, names), *results]
  rows = []
  for i, run in enumerate(runs):
    settings = [run.config.get(name, '-') for name in names]
    rows.append([
        run.label, *map(run_folder.printable, settings),
        *(curves.number(last[name][i]) if exact
          else _rounded(name, last[name][i]) for name in results),
    ])
  return header, rows


def as_csv(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """The table as CSV."""
  text = io.StringIO()
  csv.writer(text, lineterminator='\n').writerows([header, *rows])
  return text.getvalue()


def as_markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """The table as Markdown; a column per run if there are more settings."""
  cells = [
      [cell.replace('|', '\\|') or '-' for cell in row]
      for row in (header, *rows)
  ]
  if len(header) > len(rows) + 1:
    cells = [list(column) for column in zip(*cells)]
  return curves.markdown(cells[0], cells[1:])


def _rounded(name: str, value: float) -> str:
  return (wording.hours if name == 'hours' else wording.number)(value)
