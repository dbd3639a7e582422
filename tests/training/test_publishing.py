"""A run cut down to networks and statistics: what is left, what it is for."""

import csv
import json
import os

import gin
import numpy as np
import pytest
import short_runs
import tensorflow as tf

from rnd_agent.runs import checkpoints
from rnd_agent.runs import publishing
from rnd_agent.runs import run_folder
from rnd_agent.viewing import play_lib

pytestmark = pytest.mark.slow

_BINDINGS = (
    "train_eval.env_name = 'toy:Corridor'",
    'train_eval.num_workers = 1',
    'train_eval.num_parallel_environments = 4',
    'train_eval.rollout_length = 8',
    'train_eval.num_minibatches = 1',
    'train_eval.random_rollouts = 1',
    'train_eval.eval_interval = 0',
    'train_eval.checkpoint_interval = 2',
    'RandomNetworkDistillation.feature_dim = 128',
    'ActorCriticNetwork.core = @GRUCell()',
    'GRUCell.units = 8',
)
_KERNEL = 'kernel/.ATTRIBUTES/VARIABLE_VALUE'


def _train(folder, *bindings):
  return short_runs.train(folder, *_BINDINGS, *bindings)


@pytest.fixture(name='whole', scope='module')
def _whole(tmp_path_factory):
  folder = tmp_path_factory.mktemp('whole') / 'run'
  return _train(folder, 'train_eval.num_iterations = 4')


@pytest.fixture(name='published')
def _published(whole, tmp_path):
  publishing.main([str(whole), str(tmp_path / 'published')])
  return tmp_path / 'published'


def _tensors(folder, iteration=4):
  reader = tf.train.load_checkpoint(
      str(folder / 'checkpoints' / f'iteration-{iteration}')
  )
  return {
      name: reader.get_tensor(name)
      for name in reader.get_variable_to_shape_map()
  }


def test_networks_and_statistics_are_left_and_small(whole, published):
  before, after = _tensors(whole), _tensors(published)
  gone = {name.partition('/')[0] for name in set(before) - set(after)}
  assert gone == {
      'optimizer', 'generator', 'train_step', 'environments', 'core_states',
  }
  assert set(after) < set(before)
  halves = [name for name in after if name.endswith(_KERNEL)]
  assert len(halves) > 10
  for name, tensor in after.items():
    if name in halves:
      assert tensor.dtype == np.float16
      np.testing.assert_allclose(tensor, before[name], rtol=1e-3, atol=1e-6)
    else:
      np.testing.assert_array_equal(tensor, before[name], err_msg=name)
  sizes = [
      sum(p.stat().st_size for p in (f / 'checkpoints').iterdir())
      for f in (whole, published)
  ]
  assert sizes[1] < sizes[0] / 5  # Of 3 to 4 copies in 32 bits, 1 in 16.


def test_the_files_are_those_of_the_run_without_its_paths(whole, published):
  assert sorted(p.name for p in published.iterdir()) == [
      'checkpoints', 'metrics.csv', 'operative_config.gin', 'places.csv',
      'run.json',
  ]
  for name in ('metrics.csv', 'places.csv', 'operative_config.gin'):
    assert (published / name).read_bytes() == (whole / name).read_bytes()
  description = json.loads((published / 'run.json').read_text())
  assert description['packages'] and len(description['starts']) == 1
  assert 'command' not in (published / 'run.json').read_text()


def test_rows_after_the_checkpoint_are_left_out(whole, tmp_path):
  """The newest checkpoint may be damaged, or older than the last row."""
  older = tmp_path / 'older'
  older.mkdir()
  (older / 'checkpoints').mkdir()
  for path in whole.iterdir():
    if path.is_file():
      os.link(path, older / path.name)
  for path in (whole / 'checkpoints').glob('iteration-2.*'):
    os.link(path, older / 'checkpoints' / path.name)
  publishing.publish(older, tmp_path / 'new')
  for name in ('metrics.csv', 'places.csv'):
    with open(tmp_path / 'new' / name, newline='') as lines:
      iterations = [row['iteration'] for row in csv.DictReader(lines)]
    assert set(iterations) == {'1', '2'}


def test_it_plays_as_the_run_does(whole, published):
  traces = []
  for folder in (whole, published):
    player = play_lib.Player(run_folder.RunFolder(folder), seed=3)
    assert player.iteration == 4
    traces.append(player.play(max_steps=40).trace)
    player.close()
    gin.clear_config()
  np.testing.assert_array_equal(traces[0].action, traces[1].action)
  for name in ('value_ext', 'value_int', 'bonus', 'intrinsic_reward'):
    a, b = (getattr(trace, name) for trace in traces)
    np.testing.assert_allclose(a, b, rtol=.02, atol=1e-3, err_msg=name)


def test_a_new_run_starts_from_it_and_it_cannot_go_on(
    whole, published, tmp_path
):
  new = _train(
      tmp_path / 'new', 'train_eval.num_iterations = 2',
      'PPOConfig.learning_rate = 1e-12',
      f"train_eval.initial_weights = '{published}'",
  )
  before, after = _tensors(whole), _tensors(new, iteration=2)
  kernels = [n for n in after if n.endswith(_KERNEL)]
  for name in kernels:
    assert after[name].dtype == np.float32
    np.testing.assert_allclose(after[name], before[name], rtol=1e-3, atol=1e-6)
  with pytest.raises(checkpoints.CheckpointError) as error:
    _train(published, 'train_eval.num_iterations = 6')
  assert 'networks and statistics alone' in str(error.value)
  assert 'train_eval.initial_weights' in str(error.value)


@pytest.mark.parametrize('source, target, line', [
    ('run', '.', 'choose a new folder'),
    ('nowhere', 'new', 'there is no such folder'),
])
def test_what_cannot_be_published_is_one_line(
    whole, tmp_path, capsys, source, target, line
):
  with pytest.raises(SystemExit) as end:
    publishing.main([str(whole.parent / source), str(tmp_path / target)])
  assert end.value.code == 2 and line in capsys.readouterr().err
  assert not (tmp_path / 'new').exists()


def test_without_a_checkpoint_nothing_is_left_behind(whole, tmp_path, capsys):
  source = tmp_path / 'source'
  source.mkdir()
  for path in whole.iterdir():
    if path.is_file():
      os.link(path, source / path.name)
  with pytest.raises(SystemExit):
    publishing.main([str(source), str(tmp_path / 'new')])
  assert 'choose a run' in capsys.readouterr().err
  assert not (tmp_path / 'new').exists()
