"""A run that starts from another's weights, and what a resumed run keeps."""

import csv
import json
import shutil

import gin
import numpy as np
import pytest
import tensorflow as tf

from rnd_agent import config as config_lib
from rnd_agent.runs import checkpoints
from rnd_agent.runs import progress as progress_lib
from rnd_agent.runs import publishing
from rnd_agent.runs import run_folder
from rnd_agent.settings import gin_files
from rnd_agent.training import builders
from rnd_agent.training import train_eval as train_eval_lib
from rnd_agent.viewing import play_lib

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('no_export')]

_BINDINGS = (
    "train_eval.env_name = 'toy:Corridor'",
    'train_eval.num_workers = 1',
    'train_eval.rollout_length = 8',
    'train_eval.num_minibatches = 1',
    'train_eval.num_epochs = 1',
    'train_eval.random_rollouts = 1',
    'train_eval.eval_interval = 0',
    'train_eval.checkpoint_interval = 1',
    'ActorCriticNetwork.fc_layer_params = (16, 16)',
    'RandomNetworkDistillation.feature_dim = 8',
    'RandomNetworkDistillation.predictor_hidden_units = (8,)',
    'PPOConfig.learning_rate = 0.01',
)


def _parse(*bindings):
  gin.clear_config()
  gin_files.parse([], [*_BINDINGS, *bindings])


def _train(folder, *bindings, environments=4, iterations=2, seed=1):
  _parse(
      *bindings,
      f'train_eval.num_parallel_environments = {environments}',
      f'train_eval.num_iterations = {iterations}', f'train_eval.seed = {seed}',
  )
  train_eval_lib.train_eval(root_dir=str(folder))


@pytest.fixture(name='other', scope='module')
def _other(tmp_path_factory):
  """A run of three iterations, with checkpoints of the last two."""
  gin.clear_config()
  folder = tmp_path_factory.mktemp('other')
  _train(folder, 'train_eval.checkpoints_to_keep = 2', iterations=3)
  gin.clear_config()
  return folder


def _trainer(folder, weights, environments=6, iterations=1, seed=5):
  """A trainer that has not begun, of another seed and size."""
  folder.mkdir()
  return builders.build_trainer(str(folder), config_lib.TrainConfig(
      env_name='toy:Corridor', num_workers=1,
      num_parallel_environments=environments, rollout_length=8,
      num_iterations=iterations, num_minibatches=1, num_epochs=1, seed=seed,
      random_rollouts=1, eval_interval=0, checkpoint_interval=1,
      initial_weights=str(weights),
  ))


def _stored(checkpoint):
  """Arrays by name."""
  reader = tf.train.load_checkpoint(str(checkpoint))
  return {
      name.removesuffix('/.ATTRIBUTES/VARIABLE_VALUE'): reader.get_tensor(name)
      for name in reader.get_variable_to_shape_map()
      if name.endswith('VARIABLE_VALUE')
  }


def _started(folder, weights, **kwargs):
  """What a checkpoint of a run would hold before its first iteration."""
  _parse()
  run = _trainer(folder, weights, **kwargs)
  try:
    run._session.start()
    assert run._gather_statistics()
    path = tf.train.Checkpoint(**run._agent.checkpoint_items()).save(
        str(folder / 'begin')
    )
    run._recording.close()
    counters = run._session.counters
    assert counters.iteration == counters.env_steps == 0
    assert run._recording.window.total == 0
  finally:
    run._environment.close()
  return _stored(path)


@pytest.mark.parametrize('which', ['run', 'checkpoint'])
def test_weights_and_statistics_are_the_other_runs(tmp_path, other, which):
  iteration = 3 if which == 'run' else 2
  checkpoint = other / 'checkpoints' / f'iteration-{iteration}'
  before = _stored(checkpoint)
  after = _started(
      tmp_path / 'new', other if which == 'run' else checkpoint
  )
  taken = {
      name for name in after
      if name.split('/')[0] in (
          'actor_critic', 'predictor', 'target', 'rnd_observations'
      ) or name.startswith('rnd_returns/_statistics')
  }
  assert len(taken) > 30
  for name in taken:
    np.testing.assert_array_equal(after[name], before[name], err_msg=name)
  assert before['rnd_returns/_statistics/_avg/0'] > 0
  # All else is new.
  fresh = set(after) - taken - {'save_counter'}
  assert {name.split('/')[0] for name in fresh} == {
      'optimizer', 'generator', 'train_step', 'rnd_returns'
  }
  assert after['train_step'] == after['optimizer/_iterations'] == 0
  assert after['optimizer/_learning_rate'] == np.float32(.01)
  np.testing.assert_array_equal(after['rnd_returns/_memory'], np.zeros(6))
  for name in fresh:
    if name.startswith('optimizer/_variables/'):
      assert not after[name].any(), name
  assert (after['generator/_state_var'] != before['generator/_state_var']).any()


def test_it_trains_on_and_says_where_it_comes_from(tmp_path, other, capsys):
  new = tmp_path / 'new'
  bindings = (f"train_eval.initial_weights = '{other}'",
              'train_eval.random_rollouts = 0')
  _train(new, *bindings, seed=2)
  path = other / 'checkpoints' / 'iteration-3'
  out = capsys.readouterr().out
  assert f'starting from the weights and statistics of {path}' in out
  assert 'statistics 1/1' not in out
  with open(new / 'metrics.csv', newline='', encoding='utf-8') as file:
    rows = list(csv.DictReader(file))
  assert [r['iteration'] for r in rows] == ['1', '2']
  assert [r['env_steps'] for r in rows] == ['32', '64']
  starts = json.loads((new / 'run.json').read_text())['starts']
  assert [s.get('initial_weights') for s in starts] == [str(path)]
  # Resumed, it goes on from its own, even where the other run is gone.
  gone = ("train_eval.initial_weights = 'nowhere'",)
  _train(new, *gone, iterations=3, seed=2)
  out = capsys.readouterr().out
  assert f'resuming {new} at iteration 3' in out
  assert "initial_weights = 'nowhere' is left out" in out
  assert 'starting from' not in out
  starts = json.loads((new / 'run.json').read_text())['starts']
  assert [s['iteration'] for s in starts] == [0, 2]
  assert 'initial_weights' not in starts[1]


@pytest.mark.parametrize('binding, part', [
    ('ActorCriticNetwork.fc_layer_params = (16, 24)', 'incompatible'),
    ('ActorCriticNetwork.fc_layer_params = (16,)', 'variables there and'),
    ('ActorCriticNetwork.fc_layer_params = (16, 16, 16)', 'do not fit'),
    ('ActorCriticNetwork.final_layer_params = (16,)', 'do not fit'),
    ('RandomNetworkDistillation.predictor_hidden_units = ()', 'do not fit'),
    ('RandomNetworkDistillation.feature_dim = 9', 'incompatible'),
])
def test_other_networks_are_one_clear_line(tmp_path, other, binding, part):
  with pytest.raises(checkpoints.CheckpointError) as info:
    _train(tmp_path, binding, f"train_eval.initial_weights = '{other}'")
  message = str(info.value).partition('\n  In call')[0]
  assert part in message and str(other) in message and '\n' not in message
  assert not (tmp_path / 'metrics.csv').exists()


@pytest.mark.parametrize('core', ['@GRUCell()', '[@GRUCell(), @GRUCell()]'])
def test_a_core_is_taken_along_or_missed(tmp_path, core):
  recurrent = ('GRUCell.units = 16', f'ActorCriticNetwork.core = {core}')
  weights = f"train_eval.initial_weights = '{tmp_path}/old'"
  _train(tmp_path / 'old', *recurrent, iterations=1)
  _train(tmp_path / 'new', *recurrent, weights, iterations=1)
  with pytest.raises(checkpoints.CheckpointError, match='variables there and'):
    _train(tmp_path / 'without', weights)


def test_a_run_without_a_bonus_has_no_predictor_to_give(tmp_path, other):
  plain = tmp_path / 'plain'
  _train(plain, 'RNDConfig.intrinsic_coefficient = 0.0')
  with pytest.raises(checkpoints.CheckpointError, match='do not fit'):
    _train(tmp_path / 'a', f"train_eval.initial_weights = '{plain}'")
  # The other way round there is enough.
  _train(tmp_path / 'b', 'RNDConfig.intrinsic_coefficient = 0.0',
         f"train_eval.initial_weights = '{other}'")


def test_a_damaged_checkpoint_is_one_clear_line(tmp_path, other):
  broken = tmp_path / 'broken'
  broken.mkdir()
  for source in (other / 'checkpoints').glob('iteration-3.*'):
    content = source.read_bytes()
    (broken / source.name).write_bytes(
        content if source.suffix == '.index' else content[:100]
    )
  with pytest.raises(checkpoints.CheckpointError, match='do not fit'):
    _train(tmp_path / 'run',
           f"train_eval.initial_weights = '{broken}/iteration-3'")


@pytest.mark.parametrize('name', [
    'x=[1,2]', 'exp[1]/x', '*?', 'a\\b', '~', "it's {a, é}",
])
def test_folders_of_any_name(tmp_path, other, name):
  """TensorFlow takes some for patterns, where it reads and where it writes."""
  (tmp_path / 'exp1' / 'x').mkdir(parents=True)  # What a pattern would match.
  run, new = tmp_path / name, tmp_path / 'new' / name
  shutil.copytree(other, run)
  _train(run, iterations=3)  # It is restored, and nothing is left to do.
  assert len(_rows(run)) == 3
  assert checkpoints.read_json(str(run), 'progress')['iteration'] == 3
  gin.clear_config()
  _train(new, f'train_eval.initial_weights = {str(run)!r}', iterations=1)
  player = play_lib.Player(run_folder.RunFolder(run))
  assert player.iteration == 3
  player.close()
  gin.clear_config()
  publishing.publish(run, tmp_path / 'new' / f'{name}2')


def test_find_names_what_is_missing(tmp_path):
  with pytest.raises(checkpoints.CheckpointError, match='nor a folder with'):
    checkpoints.find(str(tmp_path))


# ------------------------------------------------------------ learning rate


def test_a_resumed_run_takes_the_configs_learning_rate(tmp_path):
  """Keras keeps the rate beside the moments in the checkpoint."""
  _train(tmp_path, iterations=1)
  _train(tmp_path, 'PPOConfig.learning_rate = 0.001', iterations=2)
  stored = _stored(tmp_path / 'checkpoints' / 'iteration-2')
  assert stored['optimizer/_learning_rate'] == np.float32(.001)
  assert stored['optimizer/_iterations'] == 2


_SCHEDULES = (
    # Of 32 steps an iteration, 4 environments.
    'PPOConfig.learning_rate_schedule = ((0, 1.0), (64, 0.5), (96, 0.0))',
    'RNDConfig.intrinsic_schedule = ((64, 1.0), (64, 0.25))',
    'RNDConfig.extrinsic_schedule = ((0, 0.0), (128, 1.0))',
)


def _rows(folder):
  with open(folder / 'metrics.csv', newline='') as lines:
    rows = list(csv.DictReader(lines))
  for row in rows:
    del row['wall_time_s'], row['steps_per_second']
  return rows


def test_schedules_are_followed_recorded_and_exact_on_resume(tmp_path):
  for values in ((1,), ()):  # A rate of its own for the values, and none.
    own = [f'PPOConfig.value_learning_rate = 0.0{v}' for v in values]
    whole, parts = (tmp_path / f'{name}{len(own)}' for name in 'ab')
    _train(whole, *own, *_SCHEDULES, iterations=5)
    gin.clear_config()
    for iterations in (2, 3, 5):
      _train(parts, *own, *_SCHEDULES, iterations=iterations)
      gin.clear_config()
    rows = _rows(whole)
    assert _rows(parts) == rows
    for name, expected in (
        ('learning_rate', [.01, .0075, .005, 0, 0]),
        ('intrinsic_coefficient', [1, 1, .25, .25, .25]),
        ('extrinsic_coefficient', [0, .5, 1, 1.5, 2]),
    ):
      values = [float(row[name]) for row in rows]
      np.testing.assert_allclose(values, expected, rtol=1e-6, err_msg=name)
    # The rates really are those: from the fourth iteration on nothing moves.
    third, fifth = (
        _stored(whole / 'checkpoints' / f'iteration-{i}') for i in (3, 5)
    )
    for name in third:
      if name.startswith('actor_critic'):
        np.testing.assert_array_equal(third[name], fifth[name], err_msg=name)


def test_a_run_of_one_rate_is_resumed_with_several_and_back(tmp_path):
  _train(tmp_path, iterations=1)
  before = _stored(tmp_path / 'checkpoints' / 'iteration-1')
  _train(tmp_path, 'PPOConfig.value_learning_rate = 0.0000001',
         'RNDConfig.predictor_learning_rate = 0.0000001', iterations=2)
  after = _stored(tmp_path / 'checkpoints' / 'iteration-2')
  assert set(before) == set(after)
  moved = {
      part: max(
          np.abs(after[name] - before[name]).max()
          for name in after if name.startswith(part)
      ) for part in ('actor_critic/_trunk', 'actor_critic/_value', 'predictor')
  }
  assert moved['actor_critic/_trunk'] > 1e-3
  assert moved['actor_critic/_value'] < 1e-6
  assert moved['predictor'] < 1e-6
  _train(tmp_path, iterations=3)


# ----------------------------------------------------------------- progress


def test_a_run_without_progress_prints_notes_only(tmp_path, capsys):
  _train(tmp_path, 'train_eval.progress = False')
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].startswith('finished after iteration 2')
  _train(tmp_path, 'train_eval.progress = False', iterations=3)
  lines = capsys.readouterr().out.splitlines()
  assert lines[0] == f'resuming {tmp_path} at iteration 3'
  assert lines[1].startswith('finished after iteration 3')


@pytest.mark.parametrize('enabled', [True, False])
def test_notes_are_shown_either_way(capsys, enabled):
  progress = progress_lib.Progress(3, enabled=enabled)
  progress.bar('statistics', 1, 2)
  progress.update(dict(iteration=1, steps_per_second=100.0))
  progress.note('a note')
  progress.close()
  lines = capsys.readouterr().out.splitlines()
  assert (lines == ['a note']) != enabled
  assert lines[-1] == 'a note'
