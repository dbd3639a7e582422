import csv
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
from unittest import mock

import cv2
import gin
import numpy as np
import pytest
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2
import tensorflow as tf

from rnd_agent import config as config_lib
from rnd_agent.runs import checkpoint_files
from rnd_agent.runs import checkpoints
from rnd_agent.runs import metrics as metrics_lib
from rnd_agent.settings import gin_files
from rnd_agent.training import builders
from rnd_agent.training import summaries
from rnd_agent.training import train_eval as train_eval_lib
from rnd_agent.training import trainer

pytestmark = pytest.mark.usefixtures('no_export')

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_NETWORKS = (
    'ActorCriticNetwork.fc_layer_params = (16, 16)',
    'RandomNetworkDistillation.feature_dim = 8',
    'RandomNetworkDistillation.predictor_hidden_units = (8,)',
)
_BINDINGS = (
    "train_eval.env_name = 'toy:Corridor'",
    'train_eval.num_parallel_environments = 4',
    'train_eval.num_workers = 1',
    'train_eval.rollout_length = 8',
    'train_eval.num_iterations = 2',
    'train_eval.num_minibatches = 2',
    'train_eval.num_epochs = 2',
    'train_eval.random_rollouts = 1',
    'train_eval.eval_interval = 2',
    'train_eval.num_eval_episodes = 2',
    'train_eval.checkpoint_interval = 1',
    *_NETWORKS,
)
_SETTINGS = dict(
    env_name='toy:Corridor', num_parallel_environments=4, num_workers=1,
    rollout_length=8, num_iterations=2, num_minibatches=2, num_epochs=2,
    seed=1, random_rollouts=1, eval_interval=0, num_eval_episodes=1,
    checkpoint_interval=1, checkpoints_to_keep=2, summary_interval=1,
    target_return=None, precision='float32',
)


@pytest.fixture(name='finished', scope='module')
def _finished(tmp_path_factory):
  """A run of two iterations. Do not write there."""
  folder = tmp_path_factory.mktemp('finished')
  with mock.patch('rnd_agent.training.export.export_policies'):
    _train(folder)
  return folder


@pytest.fixture(name='run_folder')
def _run_folder(finished, tmp_path):
  """A copy of a run of two iterations."""
  return shutil.copytree(finished, tmp_path / 'run')


def _trainer(folder, **settings):
  folder.mkdir(exist_ok=True)
  gin_files.parse([], _NETWORKS)
  return builders.build_trainer(
      str(folder), config_lib.TrainConfig(**{**_SETTINGS, **settings})
  )


def _train(folder, *bindings):
  gin.clear_config()
  gin_files.parse([], [*_BINDINGS, *bindings])
  train_eval_lib.train_eval(root_dir=str(folder))


def _rows(folder):
  with open(folder / 'metrics.csv', newline='', encoding='utf-8') as file:
    return list(csv.DictReader(file))


def _tags(folder):
  tags = set()
  for path in folder.glob('events*'):
    for event in tf.compat.v1.train.summary_iterator(str(path)):
      tags |= {value.tag for value in event.summary.value}
  return tags


@pytest.mark.exports
def test_a_run_writes_its_folder_and_resumes(tmp_path):
  _train(tmp_path)
  assert [r['iteration'] for r in _rows(tmp_path)] == ['1', '2']
  for name in ('operative_config.gin', 'run.json', 'checkpoints', 'train',
               'eval', 'policy/greedy', 'policy/collect', 'metrics.csv'):
    assert (tmp_path / name).exists(), name
  _train(tmp_path, 'train_eval.num_iterations = 4')
  rows = _rows(tmp_path)
  assert [r['iteration'] for r in rows] == ['1', '2', '3', '4']
  assert [int(r['env_steps']) for r in rows] == [32, 64, 96, 128]
  assert list(rows[0]) == list(metrics_lib.COLUMNS)
  starts = json.loads((tmp_path / 'run.json').read_text())['starts']
  assert [s['iteration'] for s in starts] == [0, 2]
  config = (tmp_path / 'operative_config.gin').read_text()
  assert 'train_eval.num_iterations = 4' in config
  assert 'RNDConfig.discount_ext = 0.999' in config


def _custom_scalars_and_trial(folder):
  """The layout of the first screen, and the trial's name among the HParams."""
  found = {}
  for path in folder.glob('events*'):
    for event in tf.compat.v1.train.summary_iterator(str(path)):
      found |= {value.tag: value for value in event.summary.value}
  layout = layout_pb2.Layout.FromString(
      found['custom_scalars__config__'].tensor.string_val[0]
  )
  session = plugin_data_pb2.HParamsPluginData.FromString(
      found['_hparams_/session_start_info'].metadata.plugin_data.content
  ).session_start_info
  return layout, session.group_name


def test_tensorboard_holds_the_tags_of_the_rows_and_no_more(tmp_path):
  _train(tmp_path, 'train_eval.num_iterations = 30',
         'train_eval.eval_interval = 30')
  manual = (_ROOT / 'docs' / 'metrics.md').read_text(encoding='utf-8')
  expected = dict(
      # The corridor has cells, but no level to get far in; one process trains.
      train={m.tag for m in metrics_lib.METRICS if m.tag} - {
          'explore/furthest_x_mean', 'explore/furthest_x_max',
          'time/steps_per_second_per_worker',
      } | {
          'config', 'custom_scalars__config__', '_hparams_/experiment',
          '_hparams_/session_start_info',
      },
      eval={
          'return/episode_return_mean', 'return/episode_return_max',
          'return/episode_length_mean', 'explore/rooms_mean', 'episode',
      },
  )
  for name, tags in expected.items():
    written = _tags(tmp_path / name)
    assert written == tags, (name, written ^ tags)
    assert not [tag for tag in tags if f'`{tag}`' not in manual]
  layout, trial = _custom_scalars_and_trial(tmp_path / 'train')
  first, second = layout.category  # The first one fits a screen.
  assert 'learning' in first.title and len(first.chart) == 4
  assert list(first.chart[0].multiline.tag) == [
      '^return/episode_return_mean$', '^return/episode_return_max$']
  for chart in (*first.chart, *second.chart):
    assert '100' not in chart.title  # Evaluations are in it, too.
    for tag in chart.multiline.tag:
      assert tag[1:-1] in {m.tag for m in metrics_lib.METRICS}, chart.title
  assert trial == tmp_path.name
  values = summaries.hyperparameters(
      (tmp_path / 'operative_config.gin').read_text()
  )
  assert values['train_eval.num_epochs'] == 2
  assert values['RNDConfig.discount_ext'] == 0.999
  assert values['train_eval.env_name'] == 'toy:Corridor'
  assert not any(name.startswith('ActorCritic') for name in values)


@pytest.mark.slow
@pytest.mark.parametrize('interval, films', [
    ('0', []),
    ('1', ['iteration-1.mp4', 'iteration-2.mp4']),
])
def test_films_at_their_own_interval(tmp_path, interval, films):
  _train(tmp_path, f'train_eval.video_interval = {interval}',
         'EnvironmentConfig.max_episode_steps = 6')
  found = sorted(p.name for p in (tmp_path / 'videos').glob('*'))
  assert found == films
  images = []
  for path in (tmp_path / 'eval').glob('events*'):
    for event in tf.compat.v1.train.summary_iterator(str(path)):
      images += [v.tensor.string_val for v in event.summary.value
                 if v.tag == 'episode']
  assert len(images) == len(films)
  for name in films:  # The corridor's own speed; twice its size.
    film = cv2.VideoCapture(str(tmp_path / 'videos' / name))
    assert film.get(cv2.CAP_PROP_FPS) == 10
    assert film.get(cv2.CAP_PROP_FRAME_WIDTH) == 640
  for width, height, data in images:
    assert data.startswith(b'GIF8') and int(width) > int(height) > 0


@pytest.mark.slow
@pytest.mark.parametrize('environment, line', [
    ('Undrawable', 'no films of this environment: pygame is not installed'),
    ('FatalToDraw', 'film left out: environment worker 0 '),
])
def test_an_environment_that_cannot_be_drawn_here_still_trains(
    tmp_path, capfd, environment, line
):
  """Even if drawing it ends the process."""
  _trainer(
      tmp_path, env_name=f'gymnasium:toy_environments:{environment}-v0',
      video_interval=1,
  ).run()
  assert capfd.readouterr().out.count(line) == 1
  assert len(_rows(tmp_path)) == 2 and not list((tmp_path / 'videos').iterdir())


@pytest.mark.slow
def test_places_hold_every_step(tmp_path):
  _train(tmp_path, 'EnvironmentConfig.max_episode_steps = 5')
  _train(tmp_path, 'EnvironmentConfig.max_episode_steps = 5',
         'train_eval.num_iterations = 4')
  with open(tmp_path / 'places.csv', newline='', encoding='utf-8') as file:
    rows = [{k: int(v) for k, v in r.items()} for r in csv.DictReader(file)]
  assert {row['iteration'] for row in rows} == {1, 2, 3, 4}
  for i in range(1, 5):
    # 4 environments, 8 steps each.
    assert sum(r['steps'] for r in rows if r['iteration'] == i) == 32
  assert {row['env_steps'] for row in rows} == {32, 64, 96, 128}
  last = _rows(tmp_path)[-1]
  assert len({row['place'] for row in rows}) == int(last['rooms_discovered'])
  # All episodes begin in the first cell.
  assert sum(r['episodes'] for r in rows if r['place'] == 0) == int(
      last['episodes'])


def _variables(agent):
  arrays = [v.numpy() for v in agent.trained_variables]
  arrays += [v.numpy() for v in agent.rnd.target.variables]
  arrays += [v.numpy() for v in agent._optimizer.variables]
  arrays += [v.numpy() for v in agent.rnd.observation_normalizer._statistics()]
  arrays += [agent.rnd.return_normalizer.memory.numpy(),
             agent.rnd.return_normalizer.variance.numpy(),
             agent._generator.state.numpy(), agent.train_step_counter.numpy()]
  return arrays


def test_a_checkpoint_restores_everything(tmp_path):
  """Into a trainer of another seed, so that nothing agrees beforehand."""
  first = _trainer(tmp_path)
  first.run()
  second = _trainer(tmp_path, seed=5)
  before = _variables(second._agent)
  expected = _variables(first._agent)
  assert not all(np.array_equal(a, b) for a, b in zip(before, expected))
  second.run()  # Both iterations are done: it restores and ends.
  after = _variables(second._agent)
  assert len(after) == len(expected) > 40
  for a, b in zip(after, expected):
    np.testing.assert_array_equal(a, b)
  assert second._session._get_state() == first._session._get_state()


def test_checkpoints_hold_the_target_and_both_statistics(finished):
  names = {name for name, _ in tf.train.list_variables(
      str(finished / 'checkpoints' / 'iteration-2'))}
  for part in ('actor_critic', 'predictor', 'target', 'optimizer', 'generator',
               'rnd_observations', 'rnd_returns', 'progress', 'train_step',
               'environments'):
    assert any(name.startswith(part + '/') for name in names), part


def test_another_architecture_is_one_clear_error(run_folder):
  before = (run_folder / 'metrics.csv').read_bytes()
  with pytest.raises(gin_files.ConfigError) as error:
    _train(run_folder, 'ActorCriticNetwork.fc_layer_params = (16, 24)')
  assert 'fc_layer_params = (16, 24) (was (16, 16))' in str(error.value)
  assert '--allow_config_change' in str(error.value)
  assert '\n' not in str(error.value).partition('\n  In call')[0]
  # Insisting does not help where the weights do not fit.
  gin_files.parse([], ['ActorCriticNetwork.fc_layer_params = (16, 24)'])
  with pytest.raises(checkpoints.CheckpointError, match='cannot be restored'):
    train_eval_lib.train_eval(str(run_folder), allow_config_change=True)
  assert (run_folder / 'metrics.csv').read_bytes() == before


def _truncate(path):
  path.write_bytes(path.read_bytes()[:100])


def _flip_a_bit(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


def _replace_by_a_link(path):
  target = path.with_name('elsewhere')
  path.rename(target)
  path.symlink_to(target)


@pytest.mark.parametrize('damage, cause', [
    (_truncate, 'has 100 bytes instead of'), (_flip_a_bit, 'has changed'),
    (lambda path: path.unlink(), 'is missing'), (_replace_by_a_link, 'a link'),
])
@pytest.mark.parametrize('file', ['data-00000-of-00001', 'index'])
def test_damage_to_a_checkpoint_is_seen(run_folder, damage, cause, file):
  folder = run_folder / 'checkpoints'
  damage(folder / f'iteration-2.{file}')
  newest, older = checkpoint_files.newest_first(str(folder))
  assert newest.iteration == 2 and cause in newest.damage
  assert older.iteration == 1 and older.damage is None


def test_a_damaged_checkpoint_is_named_and_passed_over(run_folder, capsys):
  before = _rows(run_folder)
  _flip_a_bit(run_folder / 'checkpoints' / 'iteration-2.data-00000-of-00001')
  _train(run_folder, 'train_eval.num_iterations = 3')
  output = capsys.readouterr().out
  assert 'iteration-2 is damaged' in output and 'has changed' in output
  assert 'at iteration 2' in output
  rows = _rows(run_folder)
  assert [r['iteration'] for r in rows] == ['1', '2', '3']
  assert rows[1]['loss_policy'] == before[1]['loss_policy']
  assert rows[0] == before[0]


def test_nothing_is_overwritten_where_no_checkpoint_is_intact(run_folder):
  folder = run_folder / 'checkpoints'
  for path in folder.glob('*.json'):
    path.write_text('{"../run.json": [1, "x"]}')
  before = sorted(p.name for p in folder.iterdir())
  for _ in range(2):
    with pytest.raises(checkpoints.CheckpointError, match='none|no checkpoint'):
      _train(run_folder)
  assert sorted(p.name for p in folder.iterdir()) == before
  assert len(_rows(run_folder)) == 2


@pytest.mark.slow
def test_what_an_interrupted_save_leaves_does_not_count(run_folder, capsys):
  folder = run_folder / 'checkpoints'
  (folder / 'iteration-3.data-00000-of-00001').write_bytes(b'half')
  (folder / 'iteration-3.sha256.json.partial-7').write_bytes(b'')
  (folder / 'iteration-3_temp').mkdir()
  _train(run_folder, 'train_eval.num_iterations = 4')
  assert 'iteration-3.sha256.json is missing' in capsys.readouterr().out
  names = sorted(p.name for p in folder.iterdir())
  assert not [n for n in names if 'temp' in n or 'partial' in n]
  assert 'iteration-3.sha256.json' in names
  assert checkpoint_files.latest_iteration(str(run_folder)) == 4
  assert [r['iteration'] for r in _rows(run_folder)] == list('1234')


@pytest.mark.slow
def test_only_the_last_checkpoints_are_kept(tmp_path):
  _train(tmp_path, 'train_eval.num_iterations = 5',
         'train_eval.checkpoints_to_keep = 2')
  names = {p.name.split('.')[0] for p in (tmp_path / 'checkpoints').iterdir()}
  assert names == {'iteration-4', 'iteration-5'}


@pytest.mark.slow
def test_another_game_is_refused_and_other_numbers_are_named(
    run_folder, capsys
):
  for binding in ("train_eval.env_name = 'toy:Recall'",
                  'train_eval.num_parallel_environments = 8'):
    with pytest.raises(gin_files.ConfigError, match='holds another run'):
      _train(run_folder, binding)
  capsys.readouterr()
  _train(run_folder, 'train_eval.num_iterations = 3', 'train_eval.seed = 7',
         'RNDConfig.discount_int = 0.9')
  output = capsys.readouterr().out
  assert 'train_eval.seed = 7 (was 1)' in output
  assert 'RNDConfig.discount_int = 0.9 (was 0.99)' in output
  assert 'num_iterations' not in output
  assert len(_rows(run_folder)) == 3


def _steps(folder, tag='return/episode_return_mean'):
  return [
      event.step for path in sorted(folder.glob('events*'))
      for event in tf.compat.v1.train.summary_iterator(str(path))
      for value in event.summary.value
      if value.tag == tag
  ]


@pytest.mark.slow
def test_tensorboard_continues_without_a_doubled_step(tmp_path):
  # Long enough that an episode has ended at the first record.
  limit = 'EnvironmentConfig.max_episode_steps = 4'
  _train(tmp_path, 'train_eval.checkpoint_interval = 3',
         'train_eval.num_iterations = 5', limit)
  for path in (tmp_path / 'checkpoints').glob('iteration-5*'):
    path.unlink()
  with open(next((tmp_path / 'train').glob('events*')), 'ab') as file:
    file.write(b'half a record')
  _train(tmp_path, 'train_eval.num_iterations = 7', limit)
  assert _steps(tmp_path / 'train') == [32 * i for i in range(1, 8)]


def _failing(error, calls=None):
  """A function that notes its calls and raises."""
  def fail(*unused_arguments, **unused_settings):
    if calls is not None:
      calls.append(None)
    raise error

  return fail


@pytest.mark.exports
def test_what_is_not_training_may_fail(tmp_path, monkeypatch, capsys):
  """Each is told of once, and training goes on."""
  run = _trainer(
      tmp_path, num_iterations=4, eval_interval=1,
      checkpoint_interval=2,
  )
  saved = []

  def evaluate(**unused_settings):
    saved.append(checkpoint_files.latest_iteration(str(tmp_path)))
    raise ValueError('no such thing\nin an evaluation')

  full = tf.errors.ResourceExhaustedError(None, None, 'No space left')
  cable = OSError('the cable is loose')
  showing = run._showing
  monkeypatch.setattr(showing._evaluator, 'run', evaluate)
  monkeypatch.setattr(
      showing._episode_recorder, '_make_environment', _failing(cable)
  )
  written = []
  monkeypatch.setattr(summaries.Summaries, 'iteration', _failing(full, written))
  monkeypatch.setattr(
      'rnd_agent.training.export.export_policies', _failing(full)
  )
  run.run()
  lines = capsys.readouterr().out.splitlines()
  for line in (
      'evaluation left out: ValueError: no such thing',
      'film left out: OSError: the cable is loose',
      'TensorBoard left out: ResourceExhaustedError: No space left',
      'export of policy/ left out: ResourceExhaustedError: No space left',
  ):
    assert lines.count(line) == 1, (line, lines)
  assert [r['iteration'] for r in _rows(tmp_path)] == list('1234')
  # What was due was saved before anything else was tried.
  assert saved == [0, 2, 2, 4]
  # After an error TensorBoard is tried again with the next checkpoint.
  assert len(written) == 2


@pytest.mark.slow
def test_an_evaluation_that_a_kill_has_cut_short_is_made_up_for(tmp_path):
  class Killed(BaseException):
    pass

  settings = dict(eval_interval=2, video_interval=0)
  run = _trainer(tmp_path, **settings)
  run._showing._evaluator.run = _failing(Killed())
  with pytest.raises(Killed):
    run.run()
  for iterations in (2, 3, 3):
    _trainer(tmp_path, **{**settings, 'num_iterations': iterations}).run()
  # That of iteration 2 once, and at the end the last one.
  assert _steps(tmp_path / 'eval', 'return/episode_length_mean') == [64, 96]


@pytest.mark.slow
def test_any_other_error_ends_the_run_saved(tmp_path, monkeypatch, capsys):
  run = _trainer(
      tmp_path, num_iterations=5, checkpoint_interval=100,
  )
  learn = run._agent.learn

  def learning(*arguments):
    if run._session.counters.iteration == 2:
      raise MemoryError('no more')
    return learn(*arguments)

  monkeypatch.setattr(run._agent, 'learn', learning)
  with pytest.raises(MemoryError):
    run.run()
  assert checkpoint_files.latest_iteration(str(tmp_path)) == 2
  assert 'in the middle of iteration 3' in capsys.readouterr().out
  _trainer(
      tmp_path, num_iterations=4,
  ).run()
  assert [r['iteration'] for r in _rows(tmp_path)] == list('1234')


@pytest.mark.slow
def test_the_end_of_a_terminal_saves(tmp_path, monkeypatch):
  """The shell and the kernel both tell of it; nohup says not to mind."""
  settings = dict(num_iterations=5, checkpoint_interval=100)
  before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
  try:
    for handler, saved in ((signal.SIG_DFL, 2), (signal.SIG_IGN, 5)):
      signal.signal(signal.SIGHUP, handler)
      run = _trainer(tmp_path, **settings)
      learn = run._agent.learn

      def learning(*arguments, run=run, learn=learn, handler=handler):
        if run._session.counters.iteration == 1 or handler == signal.SIG_IGN:
          os.kill(os.getpid(), signal.SIGHUP)
          os.kill(os.getpid(), signal.SIGHUP)
        return learn(*arguments)

      monkeypatch.setattr(run._agent, 'learn', learning)
      run.run()
      assert checkpoint_files.latest_iteration(str(tmp_path)) == saved
      assert signal.getsignal(signal.SIGHUP) == handler
  finally:
    signal.signal(signal.SIGHUP, before)


def _contents(folder):
  return {
      path.relative_to(folder): path.read_bytes()
      for path in sorted(folder.rglob('*')) if path.is_file()
  }


@pytest.mark.slow
@pytest.mark.parametrize('file', ['places.csv', 'metrics.csv'])
def test_a_refused_start_changes_nothing(tmp_path, file):
  """Rows, TensorBoard's steps and a damaged checkpoint stay as they are."""
  settings = dict(num_iterations=3)
  _trainer(tmp_path, **settings).run()
  _truncate(tmp_path / 'checkpoints' / 'iteration-3.index')
  header, *rows = (tmp_path / file).read_text().splitlines(keepends=True)
  (tmp_path / file).write_text(''.join([header, '1,nonsense\n', *rows]))
  before = _contents(tmp_path)
  with pytest.raises(checkpoints.CheckpointError, match=f'{file}, line '):
    _trainer(tmp_path, **settings).run()
  assert _contents(tmp_path) == before


@pytest.mark.slow
def test_a_full_disk_stops_no_run(tmp_path, monkeypatch, capsys):
  save, full_at = tf.train.Checkpoint.write, {'iteration-2'}

  def full(self, path):
    if pathlib.Path(path).name in full_at:
      save(self, path)
      raise tf.errors.ResourceExhaustedError(None, None, 'No space left')
    return save(self, path)

  monkeypatch.setattr(tf.train.Checkpoint, 'write', full)
  remove = checkpoint_files.remove

  def removing(folder, iteration):
    if iteration == 1:
      raise PermissionError('not permitted')
    remove(folder, iteration)

  monkeypatch.setattr(checkpoint_files, 'remove', removing)
  _train(
      tmp_path, 'train_eval.num_iterations = 3',
      'train_eval.checkpoints_to_keep = 1',
  )
  output = capsys.readouterr().out
  assert 'an old checkpoint cannot be removed (not permitted)' in output
  assert 'iteration 2 could not be written (No space left): the' in output
  assert 'iteration-1' in output
  assert checkpoint_files.latest_iteration(str(tmp_path)) == 3
  names = {p.name.split('.')[0] for p in (tmp_path / 'checkpoints').iterdir()}
  assert names == {'iteration-1', 'iteration-3'}
  full_at.add('iteration-4')
  with pytest.raises(checkpoints.SavingFailedError, match='make room'):
    _train(tmp_path, 'train_eval.num_iterations = 4')
  assert checkpoint_files.latest_iteration(str(tmp_path)) == 3


def test_a_nan_stops_the_run_and_keeps_the_last_checkpoint(tmp_path):
  run = _trainer(tmp_path, num_iterations=5)
  collect, count = run._collector._collector.collect, 0

  def poisoned():
    nonlocal count
    count += 1
    rollout = collect()
    if count == 3:
      rollout = rollout._replace(rewards=rollout.rewards * float('nan'))
    return rollout

  run._collector._collector.collect = poisoned
  with pytest.raises(trainer.TrainingDivergedError) as error:
    run.run()
  assert 'iteration 3' in str(error.value) and 'iteration-2' in str(error.value)
  assert re.search(r'the gradients of \S+, .* and \d+ more;', str(error.value))
  for variable in run._agent.trained_variables:
    assert np.isfinite(variable.numpy()).all()
  assert [r['iteration'] for r in _rows(tmp_path)] == ['1', '2']


@pytest.mark.slow
def test_target_return_stops_the_run(tmp_path):
  _train(tmp_path, 'train_eval.num_iterations = 0',
         'train_eval.target_return = -1.0', 'train_eval.eval_interval = 0',
         'EnvironmentConfig.max_episode_steps = 5')
  rows = _rows(tmp_path)
  # Episodes last 5 steps: the 100th, of 4 environments, ends with step 125 of
  # each, in the 16th iteration of 8.
  assert len(rows) == 16
  assert int(rows[-1]['episodes']) == 100


def test_the_bonus_needs_statistics(tmp_path):
  with pytest.raises(gin_files.ConfigError, match='random_rollouts'):
    _train(tmp_path, 'train_eval.random_rollouts = 0')
  _train(tmp_path, 'train_eval.random_rollouts = 0',
         'RNDConfig.intrinsic_coefficient = 0.0')


def test_the_environments_are_reset_after_the_random_agent(tmp_path):
  run = _trainer(tmp_path)
  collect, rollouts = run._collector._collector.collect, []
  def keep():
    rollouts.append(collect())
    return rollouts[-1]
  run._collector._collector.collect = keep
  run.run()
  first = rollouts[0]
  assert (first.step_types[:, 0].numpy() == 0).all()
  assert (first.observations[:, 0, 0].numpy() == 1).all()  # The first cell.
  # 1 rollout of 8 steps of 4 environments, then 2 iterations of 32.
  assert run._agent.rnd.observation_normalizer.count.numpy() == 32 * 3


@pytest.mark.slow
def test_a_resumed_run_does_not_repeat_its_beginning(tmp_path, monkeypatch):
  """Environments that do not come back get other seeds.

  And the policy goes on sampling.
  """
  rollouts = []
  for iterations in (1, 2):
    run = _trainer(
      tmp_path, env_name='CartPole-v1', num_iterations=iterations,
  )
    monkeypatch.setattr(run._collector, '_can_restore', False)
    collect = run._collector._collector.collect

    def keep(collect=collect):
      rollouts.append(collect())
      return rollouts[-1]

    run._collector._collector.collect = keep
    run.run()
  first, second = rollouts
  assert (second.step_types[:, 0].numpy() == 0).all()
  for name in ('observations', 'actions'):
    assert not np.array_equal(getattr(first, name), getattr(second, name))
  starts = [r.observations[:, 0].numpy() for r in rollouts]
  assert not np.isclose(starts[0], starts[1]).any()


@pytest.mark.slow
def test_groups_of_environments_train_and_evaluate(tmp_path):
  _train(tmp_path, 'ComputeConfig.environment_groups = 2')
  assert len(_rows(tmp_path)) == 2
  assert _tags(tmp_path / 'eval')


def test_equal_seeds_train_equally(tmp_path):
  for name in ('a', 'b'):
    (tmp_path / name).mkdir()
    _trainer(tmp_path / name).run()
  a, b = _rows(tmp_path / 'a'), _rows(tmp_path / 'b')
  assert len(a) == len(b) == 2
  for row_a, row_b in zip(a, b):
    for column in set(row_a) - {'wall_time_s', 'steps_per_second'}:
      # Threads may sum floats in another order under load: not to the bit.
      np.testing.assert_allclose(
          float(row_a[column] or 'nan'), float(row_b[column] or 'nan'),
          rtol=1e-3, atol=1e-6, err_msg=column,
      )


@pytest.mark.slow
def test_other_seeds_train_otherwise(tmp_path):
  for seed in (1, 2):
    (tmp_path / str(seed)).mkdir()
    _trainer(tmp_path / str(seed), seed=seed).run()
  a, b = _rows(tmp_path / '1'), _rows(tmp_path / '2')
  assert a[0]['intrinsic_reward_mean'] != b[0]['intrinsic_reward_mean']


def _start(folder, *bindings):
  flags = [f'--gin_bindings={b}' for b in (*_BINDINGS, *bindings)]
  return subprocess.Popen(
      [sys.executable, 'train_eval.py', f'--root_dir={folder}', *flags],
      cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
      env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3'},
  )


def _wait_for_rows(folder, number, process):
  deadline = time.monotonic() + 60
  while time.monotonic() < deadline and process.poll() is None:
    path = folder / 'metrics.csv'
    if path.exists() and len(path.read_text().splitlines()) > number:
      return
    time.sleep(0.1)
  raise AssertionError(process.communicate())


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_exits_with_status_0(tmp_path, number):
  process = _start(
      tmp_path, 'train_eval.num_iterations = 0',
      'train_eval.checkpoint_interval = 100000', 'train_eval.eval_interval = 0',
  )
  _wait_for_rows(tmp_path, 5, process)
  process.send_signal(number)
  out, err = process.communicate(timeout=60)
  assert process.returncode == 0, err
  assert 'saving and stopping' in out and 'stopped after iteration' in out
  last = int(_rows(tmp_path)[-1]['iteration'])
  assert last >= 5
  assert (tmp_path / 'checkpoints' / f'iteration-{last}.index').exists()
  # The same command continues after the last row.
  process = _start(
      tmp_path, f'train_eval.num_iterations = {last + 2}',
      'train_eval.eval_interval = 0',
  )
  out, err = process.communicate(timeout=120)
  assert process.returncode == 0, err
  assert f'resuming {tmp_path} at iteration {last + 1}' in out
  assert [int(r['iteration']) for r in _rows(tmp_path)] == list(
      range(1, last + 3)
  )


@pytest.mark.slow
def test_a_killed_worker_is_one_line_and_the_run_goes_on(tmp_path):
  import psutil

  process = _start(
      tmp_path, 'train_eval.num_iterations = 0',
      'train_eval.checkpoint_interval = 100000', 'train_eval.eval_interval = 0',
  )
  _wait_for_rows(tmp_path, 3, process)
  workers = psutil.Process(process.pid).children()
  assert len(workers) == 1
  workers[0].kill()
  _wait_for_rows(tmp_path, len(_rows(tmp_path)) + 5, process)
  process.send_signal(signal.SIGTERM)
  out, err = process.communicate(timeout=60)
  assert process.returncode == 0
  assert 'Traceback' not in out + err
  assert out.count('was killed by SIGKILL') == 1, out
  assert _rows(tmp_path)[-1]['environment_restarts'] == '1'


@pytest.mark.parametrize('env_name, precision, threshold, is_said', [
    ('gymnasium:toy_environments:Robot-v0', 'mixed_bfloat16', 0., True),
    ('gymnasium:toy_environments:Robot-v0', 'mixed_bfloat16', 1000., False),
    ('gymnasium:toy_environments:Robot-v0', 'float32', 0., False),
    ('toy:Corridor', 'mixed_bfloat16', 0., False),
], ids=['slow', 'fast', 'float32', 'no images'])
def test_of_a_bfloat16_that_is_slower_a_run_warns(
    tmp_path, monkeypatch, env_name, precision, threshold, is_said
):
  monkeypatch.setattr(builders, '_SLOW_BFLOAT16', threshold)
  with mock.patch.object(builders.logging, 'warning') as warning:
    run = _trainer(tmp_path, env_name=env_name, precision=precision)
    run._environment.close()
  said = [call.args[0] % call.args[1:] for call in warning.call_args_list]
  assert len(said) == is_said
  if said:
    assert re.fullmatch(
        r"train_eval\.precision = 'mixed_bfloat16': convolutions learn "
        r"\d+\.\d times slower here than with 'float32'", said[0]
    )
