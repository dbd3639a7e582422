"""Environments fail while a run goes on."""

import csv
import os
import shutil
import signal

import gin
import numpy as np
import pytest

from rnd_agent import config as config_lib
from rnd_agent.environments import errors
from rnd_agent.settings import gin_files
from rnd_agent.training import builders
from rnd_agent.training import resume

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('no_export')]

_SETTINGS = dict(
    env_name='CartPole-v1', num_parallel_environments=4, num_workers=2,
    rollout_length=8, num_iterations=6, num_minibatches=2, num_epochs=1,
    seed=1, random_rollouts=1, eval_interval=0, num_eval_episodes=1,
    checkpoint_interval=3, checkpoints_to_keep=2, summary_interval=1,
    target_return=None, precision='float32',
)
_BINDINGS = (
    'ActorCriticNetwork.fc_layer_params = (16,)',
    'RandomNetworkDistillation.feature_dim = 8',
    'RandomNetworkDistillation.predictor_hidden_units = (8,)',
)
_TIMING = ('wall_time_s', 'steps_per_second', 'environment_restarts')


@pytest.fixture(autouse=True)
def _bindings():
  gin_files.parse([], _BINDINGS)


def _trainer(folder, **settings):
  folder.mkdir(exist_ok=True)
  allow_config_change = settings.pop('allow_config_change', False)
  return builders.build_trainer(
      str(folder), config_lib.TrainConfig(**{**_SETTINGS, **settings}),
      allow_config_change,
  )


def _rows(folder):
  with open(folder / 'metrics.csv', newline='', encoding='utf-8') as file:
    return list(csv.DictReader(file))


def _assert_same_rows(one, other):
  rows, others = _rows(one), _rows(other)
  assert len(rows) == len(others) == 6
  for row, other_row in zip(rows, others):
    assert {k: v for k, v in row.items() if k not in _TIMING} == {
        k: v for k, v in other_row.items() if k not in _TIMING
    }


@pytest.fixture(name='undisturbed', scope='module')
def _undisturbed(tmp_path_factory):
  gin.clear_config()
  gin_files.parse([], _BINDINGS)
  folder = tmp_path_factory.mktemp('undisturbed')
  _trainer(folder).run()
  return folder


def _disturb(run, at, disturb):
  """Calls `disturb` before the environments' steps with these numbers."""
  environment = run._environment
  send, calls = environment.send, 0

  def sending(*arguments):
    nonlocal calls
    calls += 1
    if calls in at:
      disturb(environment)
    return send(*arguments)

  environment.send = sending


def _kill(environment, number=signal.SIGKILL):
  os.kill(environment._pool._processes[1].process.pid, number)


def test_a_killed_worker_changes_nothing(undisturbed, tmp_path, capsys):
  run = _trainer(tmp_path / 'run')
  _disturb(run, {30, 31, 60}, _kill)
  run.run()
  _assert_same_rows(undisturbed, tmp_path / 'run')
  output = capsys.readouterr().out
  assert 'killed by SIGKILL' in output and 'collected again' in output
  assert 'new episodes' not in output
  assert int(_rows(tmp_path / 'run')[-1]['environment_restarts']) >= 2


def test_a_worker_killed_between_rollouts_changes_nothing(
    undisturbed, tmp_path
):
  run = _trainer(tmp_path / 'run')
  learn, count = run._agent.learn, 0

  def learning(*arguments):
    nonlocal count
    count += 1
    if count in (2, 4):
      _kill(run._environment)
      run._environment._pool._processes[1].process.wait()
    return learn(*arguments)

  run._agent.learn = learning
  run.run()
  _assert_same_rows(undisturbed, tmp_path / 'run')
  assert _rows(tmp_path / 'run')[-1]['environment_restarts'] == '2'


def test_a_worker_killed_before_a_checkpoint_changes_nothing(
    undisturbed, tmp_path
):
  """Its states are asked for while a checkpoint is written."""
  run = _trainer(tmp_path / 'run')
  save, count = run._session._checkpoints.save, 0

  def saving(iteration):
    nonlocal count
    count += 1
    _kill(run._environment)
    run._environment._pool._processes[1].process.wait()
    return save(iteration)

  run._session._checkpoints.save = saving
  run.run()
  assert count == 2
  _assert_same_rows(undisturbed, tmp_path / 'run')
  # ... and what was saved is where the run was.
  for path in (tmp_path / 'run' / 'checkpoints').glob('iteration-6*'):
    path.unlink()
  _trainer(tmp_path / 'run').run()
  _assert_same_rows(undisturbed, tmp_path / 'run')


def _half(undisturbed, folder):
  """A run that has made half of its iterations."""
  shutil.copytree(undisturbed, folder)
  for path in (folder / 'checkpoints').glob('iteration-6*'):
    path.unlink()
  return folder


def _kill_and_wait(environment):
  _kill(environment)
  environment._pool._processes[1].process.wait()


def test_a_worker_killed_while_a_run_resumes_changes_nothing(
    undisturbed, tmp_path, monkeypatch, capsys
):
  """Before its environments are set, and after that."""
  run = _trainer(_half(undisturbed, tmp_path / 'run'))
  set_state, compare = run._environment.set_state, resume.compare_machine
  killed = []

  def setting(state):
    if not killed:
      killed.append('before')
      _kill_and_wait(run._environment)
    return set_state(state)

  def comparing(*arguments):
    killed.append('after')
    _kill_and_wait(run._environment)
    return compare(*arguments)

  monkeypatch.setattr(run._environment, 'set_state', setting)
  monkeypatch.setattr(resume, 'compare_machine', comparing)
  run.run()
  assert killed == ['before', 'after']
  _assert_same_rows(undisturbed, tmp_path / 'run')
  assert _rows(tmp_path / 'run')[-1]['environment_restarts'] == '2'
  assert 'new episodes' not in capsys.readouterr().out


def test_environments_that_do_not_fit_begin_anew_where_that_is_asked_for(
    undisturbed, tmp_path, capsys
):
  run = _trainer(
      _half(undisturbed, tmp_path / 'run'), allow_config_change=True
  )

  def setting(state):
    raise ValueError('the state is that of other environments')

  run._environment.set_state = setting
  run.run()
  assert 'the environments begin new episodes' in capsys.readouterr().out
  rows = _rows(tmp_path / 'run')
  assert len(rows) == 6 and rows[-1]['episodes_cut'] == '4'


def test_groups_stay_when_the_workers_change(tmp_path, capsys):
  """In their order random numbers are drawn."""
  for name, workers in (('one', 4), ('two', 1)):
    _trainer(tmp_path / name, num_workers=4, num_iterations=3).run()
    _trainer(tmp_path / name, num_workers=workers).run()
  _assert_same_rows(tmp_path / 'one', tmp_path / 'two')
  assert 'groups of environments' not in capsys.readouterr().out
  _trainer(tmp_path / 'three', num_workers=2, num_iterations=1).run()
  _trainer(tmp_path / 'three', num_workers=4, num_iterations=2).run()
  assert 'groups of environments: 1 instead of 2' in capsys.readouterr().out


def test_environments_that_fail_at_every_checkpoint_end_the_run_saved(
    undisturbed, tmp_path, monkeypatch
):
  run = _trainer(tmp_path / 'run')
  get_state = run._environment.get_state

  def failing():
    if (
        run._session.counters.iteration == 3
        and run._recording._metrics.last_iteration == 3
    ):
      _kill(run._environment)
      run._environment._pool._processes[1].process.wait()
    return get_state()

  monkeypatch.setattr(run._environment, 'get_state', failing)
  with pytest.raises(errors.EnvironmentWorkerError, match='SIGKILL'):
    run.run()
  _trainer(tmp_path / 'run').run()
  _assert_same_rows(undisturbed, tmp_path / 'run')


def test_a_hung_worker_changes_nothing(undisturbed, tmp_path, capsys):
  gin_files.parse([], ['ShardedPyEnvironment.worker_timeout = 2.0'])
  run = _trainer(tmp_path / 'run')
  _disturb(run, {40}, lambda e: _kill(e, signal.SIGSTOP))
  run.run()
  _assert_same_rows(undisturbed, tmp_path / 'run')
  assert 'has not answered for 2 s' in capsys.readouterr().out


def test_a_worker_killed_during_the_warm_up(tmp_path, capsys):
  run = _trainer(tmp_path / 'run', random_rollouts=3, num_iterations=2)
  _disturb(run, {20}, _kill)
  restart, fails_at_once = run._environment.restart, iter([True])

  def restarting():
    restart()
    if next(fails_at_once, False):
      raise errors.EnvironmentWorkerError('it failed at once', 1)

  run._environment.restart = restarting
  run.run()
  assert len(_rows(tmp_path / 'run')) == 2
  output = capsys.readouterr().out
  assert 'with new episodes' in output and 'made anew once more' in output
  count = run._agent.rnd.observation_normalizer.count.numpy()
  assert count == pytest.approx((3 + 2) * 8 * 4, abs=0.5)


def test_of_a_step_that_fails_in_the_warm_up_nothing_is_observed(tmp_path):
  """Several workers observe together: each must call as often."""
  run = _trainer(tmp_path / 'run', random_rollouts=3, num_iterations=1)
  assert len(run._environment.groups) == 2
  receive, last_group_fails = run._environment.receive, iter([True])

  def receiving(group=0):
    transition = receive(group)
    if group == 1 and next(last_group_fails, False):
      raise errors.EnvironmentWorkerError('it failed after the first', 1)
    return transition

  run._environment.receive = receiving
  run.run()
  count = run._agent.rnd.observation_normalizer.count.numpy()
  assert count == pytest.approx((3 + 1) * 8 * 4, abs=0.5)


def test_an_environment_that_always_fails_ends_the_run_saved(tmp_path):
  """It raises at the same place each time that the rollout is repeated."""
  run = _trainer(tmp_path / 'run')
  _disturb(run, range(60, 10_000), _kill)
  with pytest.raises(errors.EnvironmentWorkerError, match='SIGKILL'):
    run.run()
  rows = len(_rows(tmp_path / 'run'))
  assert 0 < rows < 6
  folder = tmp_path / 'run' / 'checkpoints'
  assert (folder / f'iteration-{rows}.sha256.json').exists()


def test_the_run_saved_after_failures_goes_on_exactly(undisturbed, tmp_path):
  run = _trainer(tmp_path / 'run')
  _disturb(run, range(60, 10_000), _kill)
  with pytest.raises(errors.EnvironmentWorkerError):
    run.run()
  _trainer(tmp_path / 'run').run()
  _assert_same_rows(undisturbed, tmp_path / 'run')


def test_episodes_that_cannot_be_repeated_are_cut_and_said(tmp_path, capsys):
  run = _trainer(
      tmp_path / 'run', env_name='gymnasium:toy_environments:Unrepeatable-v0',
      num_workers=1, num_iterations=3,
  )
  _disturb(
      run, {30}, lambda e: os.kill(e._pool._processes[0].process.pid, 9)
  )
  run.run()
  rows = _rows(tmp_path / 'run')
  assert len(rows) == 3 and rows[-1]['environment_restarts'] == '1'
  assert rows[-1]['episodes_cut'] == '4'
  output = capsys.readouterr().out
  assert '4 of 4 environments begin new episodes' in output
  assert np.isfinite(float(rows[-1]['loss_policy']))
