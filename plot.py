"""Draws runs as learning curves.

python plot.py runs/a runs/b --output=curves.png
"""

import csv
import os
import pathlib
import sys

from absl import app
from absl import flags

_OUTPUT = flags.DEFINE_string(
    'output', 'curves.png', 'Where to write; the ending tells the format.'
)
_X = flags.DEFINE_enum(
    'x', 'frames', ['frames', 'env_steps', 'hours', 'iteration'],
    'The horizontal axis.',
)
_METRICS = flags.DEFINE_multi_string(
    'metric',
    ['episode_return_mean', 'rooms_discovered', 'intrinsic_reward_mean',
     'entropy', 'explained_variance_int', 'explained_variance_ext',
     'loss_predictor', 'loss_value_int', 'approx_kl', 'steps_per_second'],
    'A column of metrics.csv; may repeat, one panel each.',
)
_COLUMNS = 2


class UsageError(ValueError):
  """What was asked for cannot be drawn; one line."""


def read_run(folder):
  """Reads a run's metrics.csv.

  Args:
    folder: the run's folder.

  Returns:
    A dict of lists by column: floats, NaN for an empty cell.

  Raises:
    UsageError: there is no run, or it has no iteration yet.
  """
  path = pathlib.Path(folder) / 'metrics.csv'
  try:
    with open(path, newline='', encoding='utf-8') as file:
      rows = list(csv.DictReader(file))
  except OSError as error:
    raise UsageError(f'{path} cannot be read ({error.strerror})') from error
  if not rows:
    raise UsageError(f'{path} has no iteration yet')
  columns = {
      name: [float(row[name] or 'nan') for row in rows] for name in rows[0]
  }
  columns['hours'] = [s / 3600 for s in columns['wall_time_s']]
  return columns


def draw(runs, x, metrics, output):
  """Draws one panel per metric, one line per run.

  Args:
    runs: dict of `read_run` results by label.
    x: column of the horizontal axis.
    metrics: columns to draw.
    output: path of the picture.

  Raises:
    UsageError: a metric that the runs do not have.
  """
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot as plt

  for label, columns in runs.items():
    for metric in metrics:
      if metric not in columns:
        raise UsageError(
            f"{label} has no column '{metric}'; there are: "
            + ', '.join(columns)
        )
  rows = -(-len(metrics) // _COLUMNS)
  figure, axes = plt.subplots(
      rows, _COLUMNS, figsize=(5 * _COLUMNS, 2.2 * rows), squeeze=False,
      sharex=True, layout='constrained',
  )
  for axis, metric in zip(axes.flat, metrics):
    for label, columns in runs.items():
      axis.plot(columns[x], columns[metric], linewidth=1, label=label)
    axis.set_title(metric, fontsize=9)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)
  for axis in axes.flat[len(metrics):]:
    axis.set_visible(False)
  for axis in axes[-1]:
    axis.set_xlabel(x)
  if len(runs) > 1:
    axes[0, 0].legend(fontsize=8)
  figure.savefig(output, dpi=110)
  plt.close(figure)


def main(argv):
  """Reads the runs and draws them."""
  try:
    if len(argv) < 2:
      raise UsageError('name at least one run, such as runs/montezuma')
    runs = {os.path.normpath(f): read_run(f) for f in argv[1:]}
    draw(runs, _X.value, _METRICS.value, _OUTPUT.value)
  except ModuleNotFoundError as error:
    print(f"plot: error: {error}: pip install -e '.[plot]'", file=sys.stderr)
    sys.exit(2)
  except (UsageError, OSError) as error:
    print(f'plot: error: {error}', file=sys.stderr)
    sys.exit(2)
  print(f'wrote {_OUTPUT.value}')


if __name__ == '__main__':
  app.run(main)
