"""Learning curves of runs: grouped, aggregated, drawn, and as tables.

A group of runs is summed up by the interquartile mean and a percentile
bootstrap interval (`aggregate`, rliable's definitions). matplotlib is imported
when a figure is drawn.
"""

from __future__ import annotations

import csv
import io
import math
from typing import Mapping, NamedTuple, Optional, Sequence

import numpy as np

from rnd_agent.runs import run_folder
from rnd_agent.viewing import aggregate
from rnd_agent.viewing import figures

X_LABELS = {
    'frames': 'frames of the game',
    'env_steps': 'agent steps',
    'hours': 'hours of training',
    'iteration': 'iterations',
}
# What the panels are called; other columns by their own name.
_TITLES = {
    'episode_return_mean': 'score, mean of the last 100 episodes',
    'episode_return_max': 'score, best of the last 100 episodes',
    'episode_length_mean': 'length of episodes, agent steps',
    'rooms_discovered': 'rooms discovered',
    'rooms_mean': 'rooms per episode',
    'intrinsic_reward_mean': 'intrinsic reward',
    'entropy': 'entropy of the policy, nats',
    'explained_variance_int': 'explained variance of V_int',
    'explained_variance_ext': 'explained variance of V_ext',
    'loss_predictor': 'loss of the predictor',
    'loss_value_int': 'loss of V_int',
    'approx_kl': 'KL of an update, nats',
    'steps_per_second': 'agent steps per second',
}
_COLUMNS = 2
# Of an aggregated curve; a single run is drawn in full.
_MOST_POINTS = 200
_REPETITIONS = 2000

# What does not tell one config from another.
_NO_DIFFERENCE = (
    'train_eval.seed', 'train_eval.num_iterations', 'train_eval.num_workers',
    'train_eval.eval_interval', 'train_eval.num_eval_episodes',
    'train_eval.checkpoint_interval', 'train_eval.checkpoints_to_keep',
    'train_eval.summary_interval', 'train_eval.video_interval',
)
_MACHINES_OWN = ('ComputeConfig.', 'ShardedPyEnvironment.')


class CurvesError(ValueError):
  """What was asked for cannot be drawn; one line."""


class TooEarlyError(CurvesError):
  """The runs of a group have no point in common, yet."""


class Run(NamedTuple):
  """A run as it is drawn.

  Attributes:
    label: its name.
    columns: of metrics.csv and `hours`, lists of floats.
    config: its operative config's values by name; None if there is none.
  """

  label: str
  columns: Mapping[str, Sequence[float]]
  config: Optional[Mapping[str, str]]


class Curve(NamedTuple):
  """A line of a panel.

  Attributes:
    label: of the run or group.
    runs: how many are in it.
    x: float64 `[n]`.
    y: float64 `[n]`: the run's numbers, or the interquartile mean of the runs;
      NaN where one of them has none.
    low: float64 `[n]`, lower end of the interval; None for one run.
    high: the upper end likewise.
  """

  label: str
  runs: int
  x: np.ndarray
  y: np.ndarray
  low: Optional[np.ndarray]
  high: Optional[np.ndarray]


def read(folder: run_folder.RunFolder) -> Run:
  """Reads what is drawn of a run.

  Raises:
    RunFolderError: a file is missing or damaged.
  """
  config = None
  if (folder.path / run_folder.CONFIG).exists():
    config = folder.config()
  return Run(folder.label, folder.metrics(), config)


def curves(
    runs: Sequence[Run], x: str, metric: str, by_config: bool = False
) -> list[Curve]:
  """The lines of a panel.

  Args:
    runs: at least one.
    x: column of the horizontal axis.
    metric: column of the vertical axis.
    by_config: whether runs of one config, whatever their seeds, make one line.

  Returns:
    A `Curve` per run or group, in their order.

  Raises:
    CurvesError: a column is missing, or runs of a group have nothing in common.
  """
  for run in runs:
    for name in (x, metric):
      if name not in run.columns:
        raise CurvesError(
            f"{run.label} has no column '{name}'; there are: "
            + ', '.join(run_folder.printable(c) for c in run.columns)
        )
  groups = group(runs) if by_config else {run.label: [run] for run in runs}
  return [
      _curve(label, members, x, metric) for label, members in groups.items()
  ]


def group(runs: Sequence[Run]) -> dict[str, list[Run]]:
  """Runs by config, labelled with what tells the configs apart.

  Seeds, lengths, intervals and the machine's own settings do not count.

  Raises:
    CurvesError: a run without operative config.
  """
  for run in runs:
    if run.config is None:
      raise CurvesError(
          f'{run.label} has no {run_folder.CONFIG} to group it by'
      )
  names = differing([run.config for run in runs])
  groups = {}
  for run in runs:
    key = tuple(run.config.get(name, '-') for name in names)
    groups.setdefault(key, []).append(run)
  shown = [
      name for name in names if name.rpartition('.')[2] != 'name'
  ]
  labels = {}
  for key, members in groups.items():
    values = dict(zip(names, key))
    text = ', '.join(
        f'{name.rpartition(".")[2]}={values[name]}' for name in shown
    ) or members[0].config.get('train_eval.env_name', 'all runs').strip("'\"")
    text = run_folder.printable(text)
    text = text if len(text) <= 60 else text[:57] + '...'
    while text in labels:
      text += "'"
    labels[text] = members
  return labels


def differing(configs: Sequence[Mapping[str, str]]) -> list[str]:
  """Names of the settings in which configs differ, as far as they matter."""
  names = dict.fromkeys(name for config in configs for name in config)
  return [
      name for name in names
      if name not in _NO_DIFFERENCE
      and not name.startswith(_MACHINES_OWN)
      and len({config.get(name) for config in configs}) > 1
  ]


def _curve(label: str, runs: Sequence[Run], x: str, metric: str) -> Curve:
  columns = [
      (np.asarray(run.columns[x]), np.asarray(run.columns[metric]))
      for run in runs
  ]
  if len(runs) == 1:
    return Curve(label, 1, *columns[0], None, None)
  grid = _common_grid([xs for xs, _ in columns])
  if not grid.size:
    raise TooEarlyError(
        f'the runs of {label} have no part of {x} in common: wait, or choose '
        'another --x'
    )
  scores = np.stack([_at(grid, xs, ys) for xs, ys in columns])
  known = ~np.isnan(scores).any(0)
  middle, low, high = np.full([3, grid.size], np.nan)
  if known.any():
    scores = scores[:, np.newaxis, known]  # [runs, 1 task, points]
    middle[known] = aggregate.interquartile_mean(scores, axis=(0, 1))
    low[known], high[known] = aggregate.bootstrap_interval(
        scores, repetitions=_REPETITIONS
    )
  return Curve(label, len(runs), grid, middle, low, high)


def _common_grid(all_x: Sequence[np.ndarray]) -> np.ndarray:
  """Points of the shortest run that all the others have reached."""
  first = max(xs[0] for xs in all_x)
  last = min(xs[-1] for xs in all_x)
  shortest = min(all_x, key=lambda xs: xs[-1])
  grid = shortest[(shortest >= first) & (shortest <= last)]
  if grid.size > _MOST_POINTS:
    grid = grid[np.linspace(0, grid.size - 1, _MOST_POINTS).round().astype(int)]
  return grid


def _at(grid: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
  """A run's numbers at points: those of the last row up to each."""
  return ys[np.searchsorted(xs, grid, side='right') - 1]


def table(
    panels: Mapping[str, Sequence[Curve]], x: str
) -> str:
  """Every point of a figure, as CSV.

  Args:
    panels: curves by metric.
    x: column of the horizontal axis.

  Returns:
    Text with the columns metric, curve, runs, x, value, low, high.
  """
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(['metric', 'curve', 'runs', x, 'value', 'low', 'high'])
  for metric, lines in panels.items():
    for line in lines:
      for i, position in enumerate(line.x):
        bounds = ('', '')
        if line.low is not None:
          bounds = (_number(line.low[i]), _number(line.high[i]))
        writer.writerow([
            metric, line.label, line.runs, _number(position),
            _number(line.y[i]), *bounds,
        ])
  return text.getvalue()


def summary(panels: Mapping[str, Sequence[Curve]], x: str) -> str:
  """The last points of a figure, as a Markdown table."""
  metrics = list(panels)
  rows = []
  for lines in zip(*panels.values()):
    cells = [_escape(lines[0].label), str(lines[0].runs),
             _number(lines[0].x[-1])]
    for line in lines:
      cell = _short(line.y[-1])
      if line.low is not None and not math.isnan(line.y[-1]):
        cell += f' [{_short(line.low[-1])}, {_short(line.high[-1])}]'
      cells.append(cell)
    rows.append(cells)
  return markdown(['curve', 'runs', x, *metrics], rows) + (
      '\nThe last point of every curve. Of more than one run: interquartile '
      'mean [95 % bootstrap interval].\n'
  )


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A Markdown table whose columns stand below each other as text, too."""
  widths = [max(map(len, column)) for column in zip(header, *rows)]
  lines = [header, ['-' * width for width in widths], *rows]
  return ''.join(
      '| ' + ' | '.join(c.ljust(w) for c, w in zip(cells, widths)) + ' |\n'
      for cells in lines
  )


def figure(panels: Mapping[str, Sequence[Curve]], x: str):
  """Draws one panel per metric.

  Args:
    panels: curves by metric.
    x: column of the horizontal axis.

  Returns:
    A matplotlib figure.
  """
  plt = figures.pyplot()
  metrics = list(panels)
  columns = min(_COLUMNS, len(metrics))
  rows = -(-len(metrics) // columns)
  drawing, axes = plt.subplots(
      rows, columns, figsize=(5.2 * columns, 2.3 * rows + 0.3), squeeze=False,
      sharex=True, layout='constrained',
  )
  for axis, metric in zip(axes.flat, metrics):
    for line in panels[metric]:
      drawn, = axis.plot(line.x, line.y, linewidth=1.3, label=_legend(line))
      if line.low is not None:
        axis.fill_between(line.x, line.low, line.high, alpha=0.2, linewidth=0,
                          color=drawn.get_color())
    axis.set_title(_TITLES.get(metric, metric), fontsize=9, loc='left')
    known = np.concatenate([line.y for line in panels[metric]])
    known = known[np.isfinite(known)]
    if known.size and known.min() == known.max():  # A flat line, such as 0.
      axis.set_ylim(min(1.2 * known[0], -0.05), max(1.2 * known[0], 1.0))
    if not known.size:
      axis.text(0.5, 0.5, 'nothing yet', ha='center', va='center',
                transform=axis.transAxes, color='grey')
    figures.tidy(axis, x == 'hours')
  for axis in axes.flat[len(metrics):]:
    axis.set_visible(False)
  for i, axis in enumerate(axes.flat[:len(metrics)]):
    if i + columns >= len(metrics):
      axis.set_xlabel(X_LABELS.get(x, x), fontsize=9)
      axis.tick_params(labelbottom=True)
  lines = panels[metrics[0]]
  if len(lines) > 1 or lines[0].runs > 1:
    handles, labels = axes[0, 0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc='outside lower center', fontsize=8,
                   ncols=min(len(lines), 3), frameon=False)
  return drawing


def _legend(line: Curve) -> str:
  # A label that begins with _ would be left out of the legend.
  label = line.label.lstrip('_').replace('$', r'\$') or 'run'
  return f'{label}, {line.runs} runs' if line.runs > 1 else label


def _escape(text: str) -> str:
  return text.replace('|', '\\|')


def _number(value: float) -> str:
  """A number as metrics.csv has it; empty for NaN."""
  if math.isnan(value):
    return ''
  if float(value).is_integer() and abs(value) < 2**53:
    return str(int(value))
  return f'{value:.8g}'


def _short(value: float) -> str:
  return '-' if math.isnan(value) else f'{value:.4g}'
