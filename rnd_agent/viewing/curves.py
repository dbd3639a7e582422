"""Learning curves of runs: reads, groups, aggregates and tabulates them.

A group of runs is one curve: its interquartile mean and a percentile bootstrap
interval (`aggregate`). `curve_panels` draws the curves.
"""

from __future__ import annotations

import csv
import io
import math
from typing import Mapping, NamedTuple, Optional, Sequence

import numpy as np

from rnd_agent.common import wording
from rnd_agent.runs import metrics as metrics_lib
from rnd_agent.runs import run_folder
from rnd_agent.settings import operative_config
from rnd_agent.viewing import aggregate

# Points of an aggregated curve at most; a single run keeps all of its points.
_MOST_POINTS = 200
_REPETITIONS = 2000  # Of the bootstrap.

# Configs that differ only in these are one config.
_IGNORED = (
    'train_eval.seed', 'train_eval.num_iterations', 'train_eval.num_workers',
    'train_eval.eval_interval', 'train_eval.num_eval_episodes',
    'train_eval.checkpoint_interval', 'train_eval.checkpoints_to_keep',
    'train_eval.summary_interval', 'train_eval.video_interval',
    'train_eval.progress',
)
# Settings that differ are listed in this order, then all others.
_ORDER = ('train_eval.env_name', 'train_eval.', 'RNDConfig.', 'PPOConfig.',
          'EnvironmentConfig.')
_SCORE = 'episode_return_mean'
_ENV_NAME = 'train_eval.env_name'
_BONUS = 'train_eval.bonus'
_COEFFICIENT = 'RNDConfig.intrinsic_coefficient'
_FIRST_BONUS = '@RandomNetworkDistillation'  # Of runs before one could choose.
_MIXTURES = {'ProductOfBonuses': ' x ', 'SumOfBonuses': ' + '}
_IGNORED_PREFIXES = ('ComputeConfig.', 'ShardedPyEnvironment.')


class CurvesError(ValueError):
  """The curves cannot be drawn; the message is one line."""


class TooEarlyError(CurvesError):
  """The runs of a group have no iterations in common yet."""


class Run(NamedTuple):
  """What is read of a run to draw it.

  Attributes:
    label: its folder, as figures show it.
    columns: the columns of metrics.csv, and `hours`, as lists of floats.
    config: values of the operative config by name; None if there is no config.
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
    low: float64 `[n]`, lower end of the interval; None for a single run.
    high: float64 `[n]`, upper end of the interval; None for a single run.
  """

  label: str
  runs: int
  x: np.ndarray
  y: np.ndarray
  low: Optional[np.ndarray]
  high: Optional[np.ndarray]


def read(folder: run_folder.RunFolder) -> Run:
  """Reads a run's metrics and config.

  Raises:
    RunFolderError: a file is missing or damaged.
  """
  config = None
  if (folder.path / run_folder.CONFIG).exists():
    config = folder.config()
  return Run(folder.label, folder.metrics(), config)


def known_metrics(
    runs: Sequence[Run], metrics: Sequence[str]
) -> list[str]:
  """Those metrics of which at least one run has a number."""
  return [
      name for name in metrics
      if not all(np.isnan(run.columns.get(name, math.nan)).all()
                 for run in runs)
  ]


def env_name(run: Run) -> str:
  """The name of a run's environment; '' if its config does not say."""
  return (run.config or {}).get(_ENV_NAME, '').strip('\'"')


def place_word(runs: Sequence[Run]) -> str:
  """'rooms' where the places of all runs are rooms, else 'places'."""
  rooms = all(wording.has_rooms(env_name(run)) for run in runs)
  return 'rooms' if rooms else 'places'


def curves(
    runs: Sequence[Run], x: str, metric: str, grouping: str = 'none'
) -> list[Curve]:
  """The lines of a panel.

  Args:
    runs: at least one.
    x: column of the horizontal axis.
    metric: column of the vertical axis.
    grouping: what the runs of one line have in common, see `GROUPINGS`.

  Returns:
    A `Curve` per run or group, in their order; NaN everywhere for a run
    without the metric.

  Raises:
    CurvesError: a run has no column x, or no run has the metric, or a run of a
      group has no operative config.
    TooEarlyError: the runs of a group have no part of x in common.
  """
  for name, required in ((x, all), (metric, any)):
    lacking = [run for run in runs if name not in run.columns]
    if lacking and not required(name in run.columns for run in runs):
      raise CurvesError(
          f"{lacking[0].label} has no column '{name}'; its columns: "
          + ', '.join(run_folder.printable(c) for c in lacking[0].columns)
      )
  return [
      _curve(label, members, x, metric)
      for label, members in GROUPINGS[grouping](runs).items()
  ]


def each(runs: Sequence[Run]) -> dict[str, list[Run]]:
  """Every run by itself, by its label."""
  return {run.label: [run] for run in runs}


def by_bonus(runs: Sequence[Run]) -> dict[str, list[Run]]:
  """Groups runs by their bonus, and by environment where there are several.

  Whatever else differs is not looked at.

  Raises:
    CurvesError: a run without operative config.
  """
  for run in runs:
    check_config(run)
  several = len({env_name(run) for run in runs}) > 1
  groups = {}
  for run in runs:
    label = bonus_name(run.config)
    if several:
      label = f'{env_name(run)}, {label}'
    groups.setdefault(run_folder.printable(label), []).append(run)
  return groups


def bonus_name(config: Mapping[str, str]) -> str:
  """What a run of an operative config calls its bonus.

  Args:
    config: values as text, by name.

  Returns:
    'NovelD', 'LifelongCounts x EpisodicCounts' or with '+' for a mixture, 'no
    bonus' where it has none or its coefficient is 0.
  """
  bonus = config.get(_BONUS, _FIRST_BONUS)
  coefficient = operative_config.plain(config.get(_COEFFICIENT, '1.0'))
  if bonus == 'None' or coefficient == 0:
    return 'no bonus'
  name = _last_name(bonus)
  if name not in _MIXTURES:
    return name
  parts = config.get(f'{name}.bonuses', '').strip('()').split(',')
  return _MIXTURES[name].join(_last_name(p) for p in parts if p.strip())


def _last_name(reference: str) -> str:
  """'NovelD' of '@rnd_agent.NovelD'."""
  return reference.strip().lstrip('@').rpartition('.')[2]


def by_config(runs: Sequence[Run]) -> dict[str, list[Run]]:
  """Groups runs of equal configs; labels name the settings that differ.

  Seeds, lengths, intervals and the settings for the machine (threads, devices,
  workers) are not compared.

  Raises:
    CurvesError: a run without operative config.
  """
  for run in runs:
    check_config(run)
  names = differing([run.config for run in runs])
  groups = {}
  for run in runs:
    key = tuple(run.config.get(name, '-') for name in names)
    groups.setdefault(key, []).append(run)
  labels = {}
  for text, members in zip(_labels(list(groups.values()), names),
                           groups.values()):
    while text in labels:
      text += "'"
    labels[text] = members
  return labels


# What the runs of one curve have in common, by the value of --group.
GROUPINGS = {'none': each, 'config': by_config, 'bonus': by_bonus}


def _labels(
    groups: Sequence[Sequence[Run]], names: Sequence[str]
) -> list[str]:
  """A line for each group that tells it from the others.

  Only settings that all groups have are named, if these suffice: where one
  config has no bonus, the settings of the bonus's networks need no mention.
  """
  configs = [members[0].config for members in groups]
  shown = [name for name in names if name.rpartition('.')[2] != 'name']
  in_all = [n for n in shown if all(n in config for config in configs)]
  if len({tuple(map(config.get, in_all)) for config in configs}) == len(groups):
    shown = in_all
  texts = []
  for members in groups:
    parts = [
        f'{name.rpartition(".")[2]}={members[0].config.get(name, "-")}'
        for name in shown if name != _ENV_NAME
    ]
    if _ENV_NAME in shown or not parts:
      parts.insert(0, env_name(members[0]) or 'all runs')
    text = run_folder.printable(', '.join(parts))
    texts.append(text if len(text) <= 70 else text[:67] + '...')
  return texts


def check_config(run: Run) -> None:
  """Raises CurvesError for a run without operative config."""
  if run.config is None:
    raise CurvesError(
        f'{run.label} has no {run_folder.CONFIG}: its settings are unknown'
    )


def differing(configs: Sequence[Mapping[str, str]]) -> list[str]:
  """Names of the settings in which configs differ.

  Seeds, lengths, intervals and the settings for the machine are left out.

  Args:
    configs: values by name.

  Returns:
    Names: the environment's first, then those of the trainer, RND, PPO and the
    environment's preprocessing, then all others.
  """
  names = dict.fromkeys(name for config in configs for name in config)
  return sorted(
      (
          name for name in names
          if name not in _IGNORED
          and not name.startswith(_IGNORED_PREFIXES)
          and len({config.get(name) for config in configs}) > 1
      ),
      key=lambda name: next(
          (i for i, part in enumerate(_ORDER) if name.startswith(part)),
          len(_ORDER),
      ),
  )


def has_reached(
    columns: Mapping[str, Sequence[float]], target: Optional[float]
) -> bool:
  """Whether a run has reached its train_eval.target_return, and so stopped.

  Args:
    columns: of its metrics.csv.
    target: mean score of the last episodes; None for no target.

  Returns:
    True if the last row's score reaches the target and is the mean of a full
    window of episodes.
  """
  if target is None or not all(n in columns for n in ('episodes', _SCORE)):
    return False
  is_full = columns['episodes'][-1] >= metrics_lib.WINDOW
  return is_full and columns[_SCORE][-1] >= target


def _stopped_at_its_target(run: Run) -> bool:
  target = operative_config.plain(
      (run.config or {}).get('train_eval.target_return', 'None')
  )
  is_number = isinstance(target, (int, float))
  return has_reached(run.columns, target if is_number else None)


def _curve(label: str, runs: Sequence[Run], x: str, metric: str) -> Curve:
  all_x = [np.asarray(run.columns[x]) for run in runs]
  all_y = [
      np.asarray(run.columns.get(metric, np.full(xs.size, np.nan)))
      for run, xs in zip(runs, all_x)
  ]
  if len(runs) == 1:
    return Curve(label, 1, all_x[0], all_y[0], None, None)
  goes_on = [_stopped_at_its_target(run) for run in runs]
  grid, scores = aligned(all_x, all_y, goes_on)
  if not grid.size:
    raise TooEarlyError(
        f'the runs of {label} have no part of {x} in common: wait, or choose '
        'another --x'
    )
  known = ~np.isnan(scores).any(0)
  middle, low, high = np.full([3, grid.size], np.nan)
  if known.any():
    scores = scores[:, np.newaxis, known]  # [runs, 1 task, points]
    middle[known] = aggregate.interquartile_mean(scores, axis=(0, 1))
    low[known], high[known] = aggregate.bootstrap_interval(
        scores, repetitions=_REPETITIONS
    )
  return Curve(label, len(runs), grid, middle, low, high)


def aligned(
    all_x: Sequence[np.ndarray],
    all_y: Sequence[np.ndarray],
    goes_on: Sequence[bool],
) -> tuple[np.ndarray, np.ndarray]:
  """The numbers of several runs at common points.

  Args:
    all_x: float64 `[n]` of each run, ascending.
    all_y: float64 `[n]` of each run.
    goes_on: for each run, whether its last number stands for all later points,
      because it stopped when it had reached its target.

  Returns:
    Points, `[m]`, and each run's numbers at them, `[runs, m]`.
  """
  grid = _common_grid(all_x, goes_on)
  return grid, np.stack([_at(grid, xs, ys) for xs, ys in zip(all_x, all_y)])


def _common_grid(
    all_x: Sequence[np.ndarray], goes_on: Sequence[bool]
) -> np.ndarray:
  """Points of the shortest run that does not go on, else of the longest."""
  first = max(xs[0] for xs in all_x)
  ending = [xs for xs, continues in zip(all_x, goes_on) if not continues]
  chosen = min(ending, key=lambda xs: xs[-1]) if ending else max(
      all_x, key=lambda xs: xs[-1]
  )
  grid = chosen[chosen >= first]
  if grid.size > _MOST_POINTS:
    grid = grid[np.linspace(0, grid.size - 1, _MOST_POINTS).round().astype(int)]
  return grid


def _at(grid: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
  """A run's number at each point: that of the last row up to the point."""
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
          bounds = (number(line.low[i]), number(line.high[i]))
        writer.writerow([
            metric, line.label, line.runs, number(position),
            number(line.y[i]), *bounds,
        ])
  return text.getvalue()


def summary(panels: Mapping[str, Sequence[Curve]], x: str) -> str:
  """The last points of a figure, as a Markdown table."""
  metrics = list(panels)
  rows = []
  for lines in zip(*panels.values()):
    last_x = lines[0].x[-1]
    cells = [_escape(lines[0].label), str(lines[0].runs),
             wording.hours(last_x) if x == 'hours' else wording.number(last_x)]
    for line in lines:
      cell = wording.number(line.y[-1])
      if line.low is not None and not math.isnan(line.y[-1]):
        cell += (f' [{wording.number(line.low[-1])}, '
                 f'{wording.number(line.high[-1])}]')
      cells.append(cell)
    rows.append(cells)
  return markdown(['curve', 'runs', x, *metrics], rows) + (
      '\nThe last point of every curve. Of more than one run: interquartile '
      'mean [95 % bootstrap interval].\n'
  )


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A Markdown table, padded so that columns line up in plain text."""
  widths = [max(map(len, column)) for column in zip(header, *rows)]
  lines = [header, ['-' * width for width in widths], *rows]
  return ''.join(
      '| ' + ' | '.join(c.ljust(w) for c, w in zip(cells, widths)) + ' |\n'
      for cells in lines
  )


def _escape(text: str) -> str:
  return text.replace('|', '\\|')


def number(value: float) -> str:
  """A number as metrics.csv writes it; empty for NaN."""
  if math.isnan(value):
    return ''
  if float(value).is_integer() and abs(value) < 2**53:
    return str(int(value))
  return f'{value:.8g}'

