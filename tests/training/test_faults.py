"""What happens to the machine while a run goes on: expected line and status."""

import contextlib
import csv
import functools
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from unittest import mock

import command_line
import pytest
import toy_environments

from rnd_agent.environments.vector import sharded
from rnd_agent.runs import checkpoint_files
from rnd_agent.runs import checkpoints
from rnd_agent.runs import run_files
from rnd_agent.training import collector

_ROOT = pathlib.Path(__file__).resolve().parents[2]


pytestmark = pytest.mark.slow

_SMALL_FILES = 4096  # bytes, with which a disk counts as full


def _arguments(folder, *bindings):
  return [f'--root_dir={folder}', *(
      f'--gin_bindings={binding}'
      for binding in (*command_line.TINY, *bindings)
  )]


def _rows(folder):
  path = folder / 'metrics.csv'
  if not path.exists():
    return []
  with open(path, newline='', encoding='utf-8') as file:
    return [int(row['iteration']) for row in csv.DictReader(file)]


@contextlib.contextmanager
def _endless(folder, stdout=subprocess.PIPE):
  """A run in a process of its own, when it has made some iterations."""
  process = subprocess.Popen(
      [sys.executable, str(_ROOT / 'train_eval.py'),
       *_arguments(folder, 'train_eval.num_iterations = 0')],
      stdout=stdout, stderr=subprocess.PIPE, text=True, cwd=_ROOT,
      env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3'},
  )
  try:
    _wait_for(lambda: len(_rows(folder)) >= 3, process)
    yield process
  finally:
    process.kill()
    process.communicate()


def _ended(process):
  output, error = process.communicate(timeout=120)
  lines = [line for line in error.splitlines() if line]
  assert 'Traceback' not in error, error
  return process.returncode, output, lines


def _wait_for(condition, process):
  deadline = time.monotonic() + 120
  while not condition():
    assert process.poll() is None, process.communicate()
    assert time.monotonic() < deadline
    time.sleep(0.02)


def _assert_continues(folder, last):
  end = last + 2
  with mock.patch('rnd_agent.training.export.export_policies'):
    result = command_line.main(
        _arguments(folder, f'train_eval.num_iterations = {end}')
    )
  assert result.status == 0, result.error
  assert f'at iteration {last + 1}' in result.output
  assert _rows(folder) == list(range(1, end + 1))


def _places(folder):
  """How many steps places.csv has of every iteration."""
  steps = {}
  with open(folder / 'places.csv', newline='', encoding='utf-8') as file:
    for row in csv.DictReader(file):
      iteration = int(row['iteration'])
      steps[iteration] = steps.get(iteration, 0) + int(row['steps'])
  return steps


def test_a_reward_that_is_no_number_ends_the_run_and_keeps_it(tmp_path):
  """Status 3 at once: the same actions would lead there again."""
  result = command_line.main([
      f'--root_dir={tmp_path}/run', *(
          f'--gin_bindings={binding}' for binding in (
              *command_line.TINY, 'train_eval.num_iterations = 3',
              "train_eval.env_name = 'gymnasium:toy_environments:NotFinite-v0'",
          )
      ),
  ])
  assert result.status == 3
  lines = result.error.splitlines()
  assert len(lines) == 1 and lines[0].startswith(
      'train_eval: error: environment 0 of gymnasium:toy_environments:NotFinite'
      '-v0: step 10 of its episode gave the reward nan: mend the environment'
  ), lines
  with open(tmp_path / 'run' / 'metrics.csv', newline='') as file:
    assert [row['iteration'] for row in csv.DictReader(file)] == ['1']
  assert checkpoint_files.latest_iteration(str(tmp_path / 'run')) == 1


def test_files_that_cannot_grow(tmp_path):
  """As with a quota: the kernel refuses, for whoever runs it.

  The run goes on, with nobody to read what it prints; where it has to end so,
  it says what is kept.
  """
  folder, (reading, stdout) = tmp_path / 'run', os.pipe()
  os.close(reading)
  with _endless(folder, stdout) as process:
    os.close(stdout)
    # Meanwhile no other process gets in.
    status, error, _ = command_line.main(_arguments(folder))
    assert status == 2 and f'--root_dir={folder} is in use' in error
    limits = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(
        process.pid, resource.RLIMIT_FSIZE, (_SMALL_FILES, limits[1])
    )
    time.sleep(1.0)
    process.terminate()
    status, _, lines = _ended(process)
  last = checkpoint_files.latest_iteration(str(folder))
  assert status == 1 and last >= 1
  assert lines[0].startswith('progress is not shown (Broken pipe)')
  assert lines[1].startswith('SIGTERM: saving') and len(lines) == 3
  assert lines[2].startswith('train_eval: error: ')
  assert f'the newest is {folder}/checkpoints/iteration-{last};' in lines[2]
  assert 'File too large' in lines[2]
  _assert_continues(folder, last)


def test_two_processes_do_not_share_a_folder(tmp_path):
  folder = tmp_path / 'run'
  folder.mkdir()
  with run_files.locked(folder):
    before = command_line.files(folder)
    status, error, _ = command_line.main(_arguments(folder))
    assert command_line.files(folder) == before
  assert status == 2 and len(error.splitlines()) == 1
  assert str(folder / '.lock') in error and 'another process' in error


@contextlib.contextmanager
def _forbidden(folder):
  """Nothing can be written there, not even by the superuser."""
  folder.chmod(0o555)
  user = os.geteuid()
  if user == 0:
    os.seteuid(65534)
  try:
    yield
  finally:
    os.seteuid(user)
    folder.chmod(0o755)


def test_a_folder_that_cannot_be_written_for_a_while():
  """The run goes on, and saves again as soon as it can."""
  with contextlib.ExitStack() as stack:
    temporary = tempfile.TemporaryDirectory(prefix='test-faults-')
    root = pathlib.Path(stack.enter_context(temporary))
    root.chmod(0o755)
    folder = root / 'run'
    save = checkpoints.Checkpoints.save

    def saving(self, iteration):
      if iteration not in (3, 4):
        return save(self, iteration)
      with _forbidden(folder / 'checkpoints'):
        return save(self, iteration)

    stack.enter_context(mock.patch('rnd_agent.training.export.export_policies'))
    stack.enter_context(
        mock.patch.object(checkpoints.Checkpoints, 'save', saving)
    )
    status, error, output = command_line.main(
        _arguments(folder, 'train_eval.num_iterations = 6')
    )
    assert status == 0 and not error
    lines = [x for x in output.splitlines() if 'could not be written' in x]
    assert len(lines) == 2
    assert 'the checkpoint of iteration 3' in lines[0]
    assert 'Permission denied' in lines[0]
    assert lines[0].endswith('checkpoints/iteration-2')
    assert _rows(folder) == list(range(1, 7))
    assert checkpoint_files.latest_iteration(str(folder)) == 6


@pytest.fixture(name='small_disk')
def _small_disk(tmp_path):
  """A disk of 4 MiB, where the test may mount one."""
  disk = tmp_path / 'disk'
  disk.mkdir()
  mounted = subprocess.run(
      ['mount', '-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', str(disk)],
      capture_output=True,
  )
  if mounted.returncode:
    pytest.skip('a file system cannot be mounted here')
  yield disk
  subprocess.run(['umount', '-l', str(disk)], check=True)


def _fill(disk):
  with open(disk / 'ballast', 'wb', buffering=0) as file:
    with contextlib.suppress(OSError):
      while True:
        file.write(bytes(4096))


def test_a_full_disk(small_disk, tmp_path):
  """The run goes on, and what could not be written is written later."""
  folder, log = small_disk / 'run', tmp_path / 'log'
  with open(log, 'wb') as stdout, _endless(folder, stdout) as process:
    _fill(small_disk)
    _wait_for(
        lambda: 'checkpoint of iteration' in log.read_text()
        and 'metrics.csv could not be written' in log.read_text(), process
    )
    rows = len(_rows(folder))
    (small_disk / 'ballast').unlink()
    _wait_for(lambda: len(_rows(folder)) > rows + 10, process)
    process.terminate()
    status, _, lines = _ended(process)
  assert status == 0, lines
  text = log.read_text()
  assert 'No space left on device' in text
  assert text.count('metrics.csv could not be written') <= 3
  last = checkpoint_files.latest_iteration(str(folder))
  assert _rows(folder) == list(range(1, last + 1))
  assert _places(folder) == dict.fromkeys(range(1, last + 1), 32)
  _assert_continues(folder, last)


def _poisoned(iteration):
  """Rewards are NaN in an iteration."""
  collect, count = collector.Collector.collect, 0

  def poisoned(self):
    nonlocal count
    count += 1
    rollout = collect(self)
    if count == iteration:
      rollout = rollout._replace(rewards=rollout.rewards * float('nan'))
    return rollout

  return mock.patch.object(collector.Collector, 'collect', poisoned)


def test_a_nan_before_there_is_a_checkpoint(tmp_path):
  with _poisoned(1):
    status, error, _ = command_line.main(_arguments(tmp_path / 'run'))
  assert status == 3 and error.count('\n') == 1
  assert 'no checkpoint yet: begin again with a lower' in error
  assert 'None' not in error


def test_a_nan_in_a_reward(tmp_path):
  """The status is 3, and the line says what the last checkpoint is."""
  folder = tmp_path / 'run'
  with _poisoned(3):
    status, error, _ = command_line.main(
        _arguments(folder, 'train_eval.num_iterations = 5')
    )
  assert status == 3
  lines = error.splitlines()
  assert len(lines) == 1 and lines[0].startswith(
      'train_eval: error: iteration 3 gave NaN or infinity in '
  )
  assert str(folder / 'checkpoints' / 'iteration-2') in lines[0]
  assert 'PPOConfig.learning_rate' in lines[0]
  _assert_continues(folder, 2)


def _main_with(environment, folder, *bindings):
  """Trains on an environment that no name stands for."""
  make = sharded.ShardedPyEnvironment

  def making(env_name, *arguments, **settings):
    del env_name
    return make(environment, *arguments, **settings)

  with (
      mock.patch.object(sharded, 'ShardedPyEnvironment', making),
      mock.patch('rnd_agent.training.export.export_policies'),
  ):
    return command_line.main(_arguments(folder, *bindings))


def test_an_environment_that_always_raises(tmp_path):
  """Status 1, its traceback, and what was trained before is saved."""
  folder, mark = tmp_path / 'run', tmp_path / 'failures'
  mark.mkdir()
  status, error, output = _main_with(
      functools.partial(toy_environments.fragile, str(mark), 10**6),
      folder, 'train_eval.num_iterations = 20',
      'train_eval.checkpoint_interval = 1000',
  )
  assert status == 1
  lines = error.splitlines()
  assert lines[0].startswith('train_eval: error: environment ')
  assert 'OSError: the cable is loose' in lines[0]
  assert sum(line.startswith('train_eval: error') for line in lines) == 1
  assert 'Traceback in the worker process:' in error
  assert 'toy_environments.py' in error
  assert output.count('the rollout is collected again') == 2
  rows = _rows(folder)
  assert rows and checkpoint_files.latest_iteration(str(folder)) == rows[-1]


def test_an_environment_that_raises_once(tmp_path):
  folders = []
  for failures in (0, 1):
    mark = tmp_path / str(failures)
    mark.mkdir()
    folders.append(tmp_path / f'run-{failures}')
    status, error, output = _main_with(
        functools.partial(toy_environments.fragile, str(mark), failures),
        folders[-1], 'train_eval.num_iterations = 6',
    )
    assert status == 0, error
    assert output.count('the rollout is collected again') == failures
    assert 'new episodes' not in output
  tables = []
  for folder in folders:
    with open(folder / 'metrics.csv', newline='', encoding='utf-8') as file:
      tables.append([
          {k: v for k, v in row.items() if k not in (
              'wall_time_s', 'steps_per_second', 'environment_restarts'
          )} for row in csv.DictReader(file)
      ])
  assert tables[0] == tables[1] and len(tables[0]) == 6
