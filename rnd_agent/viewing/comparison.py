"""Runs side by side: the hyperparameters that differ, and where they got."""

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
  """What differs between runs, and the last row of each one's metrics.

  Args:
    runs: of `curves.read`, each with its config.
    exact: whether numbers are for programs; otherwise for people.

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
  # What no run has is of no interest, such as rooms where there are none.
  results = [name for name in _RESULTS if not all(map(math.isnan, last[name]))]
  header = ['run', *map(run_folder.printable, names), *results]
  rows = []
  for i, run in enumerate(runs):
    settings = [run.config.get(name, '-') for name in names]
    rows.append([
        run.label, *map(run_folder.printable, settings),
        *(curves.number(last[name][i]) if exact
          else _for_people(name, last[name][i]) for name in results),
    ])
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


def _for_people(name: str, value: float) -> str:
  return (wording.hours if name == 'hours' else wording.number)(value)
