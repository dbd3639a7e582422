"""Compares two runs: rows of metrics.csv, checkpoint, steps of TensorBoard."""

import collections
import csv
import json
import pathlib
import re
from typing import Any, NamedTuple

import numpy as np

# Tags of TensorBoard that every start of a run writes: config, layout, HParams.
_AT_EVERY_START = re.compile('config$|custom_scalars__config__$|_hparams_/')
# Columns that equal runs need not share: times, and restarts of workers.
NOT_COMPARED = (
    'wall_time_s', 'steps_per_second', 'steps_per_second_per_worker',
    'environment_restarts',
)


class Comparison(NamedTuple):
  """How a run differs from its twin.

  Attributes:
    rows: how many the run's metrics.csv has.
    rows_lost: iterations without a row.
    rows_doubled: rows beyond the first of an iteration.
    rows_different: rows with other values than the twin's.
    arrays: how many the last checkpoints of run and twin hold.
    arrays_different: names of those that are not equal bit by bit.
    steps_doubled: entries of TensorBoard beyond the first of a tag and step.
    steps_lost: entries of TensorBoard that only the twin has.
  """

  rows: int
  rows_lost: int
  rows_doubled: int
  rows_different: int
  arrays: int
  arrays_different: list[str]
  steps_doubled: int
  steps_lost: int

  def faults(self) -> list[str]:
    """The counts that should be 0 and are not, one text each."""
    return [
        f'{name}: {value}' for name, value in self._asdict().items()
        if name not in ('rows', 'arrays') and value
    ]


def compare(folder, twin, iterations: int) -> Comparison:
  """Compares a run with its twin.

  Args:
    folder: of the run.
    twin: folder of a run with the same configuration.
    iterations: number of iterations that both have made.

  Returns:
    Their `Comparison`.
  """
  folder, twin = pathlib.Path(folder), pathlib.Path(twin)
  rows, twin_rows = read_rows(folder), read_rows(twin)
  numbers = collections.Counter(int(row['iteration']) for row in rows)
  expected = range(1, iterations + 1)
  by_number = {int(row['iteration']): row for row in twin_rows}
  arrays, twin_arrays = (read_arrays(f, iterations) for f in (folder, twin))
  names = sorted(arrays.keys() | twin_arrays.keys())
  steps, twin_steps = (_count_steps(f / 'train') for f in (folder, twin))
  return Comparison(
      rows=len(rows),
      rows_lost=sum(i not in numbers for i in expected),
      rows_doubled=sum(n - 1 for n in numbers.values()),
      rows_different=sum(
          _compared(row) != _compared(by_number.get(int(row['iteration']), {}))
          for row in rows
      ),
      arrays=len(names),
      arrays_different=[
          name for name in names
          if not _equal(arrays.get(name), twin_arrays.get(name))
      ],
      steps_doubled=sum(n - 1 for n in steps.values()),
      steps_lost=len(twin_steps.keys() - steps.keys()),
  )


def read_rows(folder) -> list[dict[str, str]]:
  """The rows of a run's metrics.csv; none if there is no such file."""
  path = pathlib.Path(folder, 'metrics.csv')
  if not path.exists():
    return []
  with open(path, newline='', encoding='utf-8') as file:
    return list(csv.DictReader(file))


def read_arrays(folder, iteration: int) -> dict[str, Any]:
  """Reads all state in a checkpoint that equal runs must share.

  Args:
    folder: of the run.
    iteration: of the checkpoint.

  Returns:
    By name, arrays, and progress and environments as decoded data.
  """
  import tensorflow as tf

  reader = tf.train.load_checkpoint(
      str(pathlib.Path(folder, 'checkpoints', f'iteration-{iteration}'))
  )
  arrays = {
      name: reader.get_tensor(name)
      for name in reader.get_variable_to_shape_map()
      if not name.startswith('_CHECKPOINTABLE')
  }
  for name, value in arrays.items():
    if name.startswith('progress/'):
      arrays[name] = {
          k: v for k, v in json.loads(value).items() if k not in NOT_COMPARED
      }
    elif name.startswith('environments/'):
      arrays[name] = _decode_environments(value)
  return arrays


def _decode_environments(data: bytes) -> Any:
  """The decoded states of the environments."""
  from rnd_agent.environments import states

  state = states.decode(data)
  inner = state['environments']
  inner['environments'] = [states.decode(x) for x in inner['environments']]
  return state


def _compared(row: dict[str, str]) -> dict[str, str]:
  return {k: v for k, v in row.items() if k not in NOT_COMPARED}


def _equal(one: Any, other: Any) -> bool:
  """Whether two nests are the same, arrays bit by bit."""
  if isinstance(one, dict):
    return (
        isinstance(other, dict) and one.keys() == other.keys()
        and all(_equal(one[key], other[key]) for key in one)
    )
  if isinstance(one, list):
    return (
        isinstance(other, list) and len(one) == len(other)
        and all(map(_equal, one, other))
    )
  if isinstance(one, np.ndarray):
    return (
        isinstance(other, np.ndarray) and one.dtype == other.dtype
        and one.shape == other.shape and one.tobytes() == other.tobytes()
    )
  return type(one) is type(other) and one == other


def _count_steps(folder: pathlib.Path) -> collections.Counter:
  """How often each `(tag, step)` occurs in TensorBoard's files."""
  import tensorflow as tf

  counts = collections.Counter()
  for path in sorted(folder.glob('events*')):
    for event in tf.compat.v1.train.summary_iterator(str(path)):
      counts.update(
          (value.tag, event.step) for value in event.summary.value
          if not _AT_EVERY_START.match(value.tag)
      )
  return counts
