"""A bonus in a user's own file: `examples/own_bonus.py`, named in gin."""

import csv
import pathlib
import shutil

import command_line
import numpy as np
import pytest
import tensorflow as tf

from examples import own_bonus
from rnd_agent import config as config_lib
from rnd_agent.learning import rollout as rollout_lib

pytestmark = pytest.mark.usefixtures('no_export')

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_FIRST, _MID = rollout_lib.FIRST, rollout_lib.MID
_BONUS = 'train_eval.bonus = @examples.own_bonus.ViewCounts'
_SMALL = (
    'train_eval.num_parallel_environments = 4',
    'train_eval.num_workers = 1',
    'train_eval.rollout_length = 32',
    'train_eval.eval_interval = 0',
    'train_eval.checkpoint_interval = 1',
)


def _train(root_dir, num_iterations, *bindings, config=None):
  config = config or _ROOT / 'configs' / 'minigrid_multiroom.gin'
  return command_line.main([
      f'--root_dir={root_dir}', f'--gin_file={config}',
      *(f'--gin_bindings={binding}' for binding in (
          *_SMALL, f'train_eval.num_iterations = {num_iterations}', *bindings
      )),
  ])


def _rows(root_dir):
  with open(root_dir / 'metrics.csv', newline='') as file:
    return list(csv.DictReader(file))


@pytest.fixture(name='runs', scope='module')
def _runs(tmp_path_factory):
  """A run of three iterations, and one that was resumed after the first."""
  folder = tmp_path_factory.mktemp('runs')
  for name, lengths in (('whole', [3]), ('resumed', [1, 3])):
    for length in lengths:
      result = _train(folder / name, length, _BONUS)
      assert result.status == 0, result.error
  return folder


@pytest.mark.slow
def test_it_trains(runs):
  rows = _rows(runs / 'whole')
  bonuses = [float(row['intrinsic_reward_mean']) for row in rows]
  assert [row['iteration'] for row in rows] == ['1', '2', '3']
  assert bonuses[0] > bonuses[1] > 0
  assert float(rows[0]['loss_value_int']) > 0
  assert {row['loss_predictor'] for row in rows} == {''}  # It has none.
  events, = (runs / 'whole' / 'train').glob('events*')
  assert 'bonus/different_views' in {
      value.tag for event in tf.compat.v1.train.summary_iterator(str(events))
      for value in event.summary.value
  }


@pytest.mark.slow
def test_it_resumes_where_it_was(runs):
  """The counters travel with the checkpoint: all numbers are the same."""
  clock = ('wall_time_s', 'steps_per_second')
  whole, resumed = (
      [{k: v for k, v in row.items() if k not in clock} for row in _rows(path)]
      for path in (runs / 'whole', runs / 'resumed')
  )
  assert whole == resumed


@pytest.mark.slow
def test_it_plays_and_plots(runs, tmp_path):
  folder = shutil.copytree(runs / 'whole', tmp_path / 'whole')
  arguments = [f'--root_dir={folder}', '--episodes=1', '--max_steps=20']
  refused = command_line.script('play.py', arguments)
  assert refused.status and '--trust' in refused.error
  played = command_line.script('play.py', [*arguments, '--trust'])
  assert played.status == 0, played.error
  assert 'intrinsic reward' in played.output
  plotted = command_line.script(
      'plot.py', [str(folder), f'--output={tmp_path}/curves.png']
  )
  assert plotted.status == 0, plotted.error
  assert (tmp_path / 'curves.png').stat().st_size > 10_000


def test_a_config_that_names_it_needs_trust(tmp_path):
  config = tmp_path / 'mine.gin'
  base = _ROOT / 'configs' / 'minigrid_multiroom.gin'
  config.write_text(f"include '{base}'\n{_BONUS}\n")
  refused = _train(tmp_path / 'run', 1, config=config)
  assert refused.status == 2 and 'add --trust' in refused.error
  assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_another_bonus_is_another_run(runs, tmp_path):
  folder = shutil.copytree(runs / 'whole', tmp_path / 'whole')
  before = command_line.files(folder)
  refused = _train(folder, 4)
  assert refused.status == 2 and 'train_eval.bonus' in refused.error
  assert command_line.files(folder) == before


def _steps(*views):
  """One environment, within an episode."""
  views = np.array([views], np.uint8)[..., np.newaxis]
  step_types = np.array([[_FIRST] + [_MID] * (views.shape[1] - 1)], np.int32)
  return rollout_lib.Steps(
      views, np.zeros([1, views.shape[1] - 1], np.int64), step_types,
      step_types[:, 1:],
  )


def test_the_reward_falls_with_the_count():
  """Views 5, 7, 5, 9: all are new; then 5 was seen twice, 7 once, 8 never."""
  bonus = own_bonus.ViewCounts(
      tf.TensorSpec([1], tf.uint8), config_lib.RNDConfig()
  )
  bonus.build(1)
  first = _steps(1, 5, 7, 5, 9)
  np.testing.assert_allclose(bonus.rewards(first), [[1, 1, 1, 1]])
  bonus.update_statistics(first, bonus.rewards(first))
  np.testing.assert_allclose(
      bonus.rewards(_steps(9, 5, 7, 8, 8)), [[3**-.5, 2**-.5, 1, 1]], rtol=1e-6
  )
  assert float(bonus.metrics()['different_views']) == 3
