import dataclasses
import inspect
import os
import pathlib
import re
import subprocess
import sys

import command_line
import gin
import gymnasium
import pytest

from rnd_agent import config
from rnd_agent.environments import suites
from rnd_agent.environments.errors import UnknownEnvironmentError
from rnd_agent.settings.gin_files import ConfigError
from rnd_agent.training import train_eval as train_eval_lib

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_SIZES = {
    'env_name': 'atari:Venture',
    'num_parallel_environments': 12,
    'rollout_length': 5,
    'num_epochs': 1,
    'num_iterations': 0,
    'random_rollouts': 0,
    'eval_interval': 0,
    'seed': 0,
}


def _error(**changes):
  sequence_length = changes.pop('sequence_length', None)
  gin.bind_parameter('PPOConfig.sequence_length', sequence_length)
  with pytest.raises(ConfigError) as caught:
    train_eval_lib.checked_config({**_SIZES, **changes})
  message = str(caught.value)
  assert '\n' not in message
  return message


def test_sizes_that_work():
  train_eval_lib.checked_config(_SIZES)
  train_eval_lib.checked_config({
      **_SIZES, 'num_workers': 12, 'target_return': -5,
      'precision': 'mixed_bfloat16', 'num_minibatches': 12,
  })


def test_environments_are_divisible_by_minibatches():
  assert _error(num_parallel_environments=10) == (
      'train_eval.num_parallel_environments = 10: not divisible by '
      'train_eval.num_minibatches = 4: choose 8 or 12 environments, or 2 or 5 '
      'minibatches'
  )
  message = _error(num_parallel_environments=3)
  assert message.endswith('choose 4 environments, or 3 minibatches')
  for environments in range(1, 30):
    for minibatches in range(1, 12):
      if environments % minibatches:
        message = _error(
            num_parallel_environments=environments, num_minibatches=minibatches
        )
        choices = message.partition('choose ')[2]
        these, those = choices.split(' environments, or ')
        for n in these.split(' or '):
          assert int(n) % minibatches == 0
        for n in those.removesuffix(' minibatches').split(' or '):
          assert environments % int(n) == 0


@pytest.mark.parametrize('name, value, part', [
    ('rollout_length', 0, 'choose a whole number from 1'),
    ('num_parallel_environments', -4, 'choose a whole number from 1'),
    ('num_minibatches', 0, 'choose a whole number from 1'),
    ('num_epochs', 0, 'choose a whole number from 1'),
    ('num_iterations', -1, 'from 0 (endless) to 1000000000 ('),
    ('eval_interval', -1, 'from 0 (no evaluation)'),
    ('num_eval_episodes', 0, 'choose a whole number from 1'),
    ('checkpoint_interval', 0, 'choose a whole number from 1'),
    ('checkpoints_to_keep', 0, 'choose a whole number from 1'),
    ('summary_interval', 0, 'choose a whole number from 1'),
    ('random_rollouts', -1, 'from 0 (no statistics)'),
    ('num_workers', 0, 'choose a whole number from 1'),
    ('num_workers', 13, 'choose at most 12'),
    ('seed', 2**31, 'from 0 to below 2147483648'),
    ('seed', -1, 'from 0 to below'),
    ('rollout_length', '128', "'128': choose a whole number"),
    ('rollout_length', 127.6, 'a whole number from 1 up'),
    ('rollout_length', True, 'a whole number'),
    ('rollout_length', None, 'a whole number'),
    ('num_epochs', float('nan'), 'a whole number'),
    ('target_return', 'x', 'choose a finite number, or None'),
    ('target_return', float('inf'), 'choose a finite number, or None'),
    ('precision', 'bfloat16', "choose 'float32' or 'mixed_bfloat16'"),
    ('precision', 'half', "choose 'float32' or 'mixed_bfloat16'"),
    ('initial_weights', '', "a run's folder, or None"),
    ('initial_weights', 3, "a run's folder, or None"),
    ('progress', 1, 'choose True or False'),
    ('env_name', '', 'atari:MontezumaRevenge'),
    ('env_name', 3, 'atari:MontezumaRevenge'),
])
def test_size_that_cannot_work(name, value, part):
  message = _error(**{name: value})
  assert message.startswith(f'train_eval.{name} = {value!r}: ')
  assert part in message


def test_sequences_divide_the_rollout_and_minibatches_them():
  assert _error(rollout_length=128, sequence_length=30) == (
      'PPOConfig.sequence_length = 30: does not divide '
      'train_eval.rollout_length = 128: choose 32, or None for the whole '
      'rollout'
  )
  sizes = dict(
      num_parallel_environments=2, num_minibatches=8, rollout_length=128
  )
  gin.bind_parameter('PPOConfig.sequence_length', 32)
  train_eval_lib.checked_config({**_SIZES, **sizes, 'num_workers': 1})
  assert 'with 2 sequences each not divisible' in _error(
      **sizes, num_workers=1, sequence_length=64
  )
  gin.bind_parameter('PPOConfig.sequence_length', 0)
  with pytest.raises(ConfigError, match='length = 0: choose a whole'):
    train_eval_lib.check_configs()


def test_memory_that_the_machine_has_not(monkeypatch):
  monkeypatch.setattr(
      train_eval_lib.machine, 'available_memory', lambda: 4 * 2**30
  )
  train_eval_lib.check_memory(84 * 84 * 4, 128, 128)
  with pytest.raises(ConfigError) as error:
    train_eval_lib.check_memory(84 * 84 * 4, 800, 128)
  assert re.search(r'about 7.\d* GiB of memory, 4 are free', str(error.value))
  fitting = int(str(error.value).partition('choose about ')[2].split()[0])
  assert 250 < fitting < 800
  train_eval_lib.check_memory(84 * 84 * 4, fitting, 128)
  with pytest.raises(ConfigError):
    train_eval_lib.check_memory(84 * 84 * 4, fitting * 2, 128)


def test_python_and_gin_see_every_parameter():
  parameters = inspect.signature(train_eval_lib.train_eval).parameters
  fields = dataclasses.fields(config.TrainConfig)
  assert list(parameters) == [
      'root_dir', 'resume', 'allow_config_change', *(f.name for f in fields)
  ]
  assert all(parameters[f.name].default == f.default for f in fields)
  with pytest.raises(TypeError, match='random_stops'):
    train_eval_lib.train_eval('x', random_stops=1)


def test_number_of_the_algorithm_out_of_its_range():
  gin.bind_parameter('PPOConfig.gae_lambda', 1.5)
  with pytest.raises(ConfigError, match='PPOConfig.gae_lambda = 1.5') as caught:
    train_eval_lib.check_configs()
  assert '\n' not in str(caught.value)


def test_weights_that_are_not_there_leave_no_folder(tmp_path):
  for path in (tmp_path / 'other', tmp_path, tmp_path / 'file-3'):
    with pytest.raises(ConfigError, match='no checkpoint there') as caught:
      train_eval_lib.train_eval(
          str(tmp_path / 'run'), initial_weights=str(path)
      )
    message = str(caught.value).partition('\n  In call')[0]
    assert message.startswith(f'train_eval.initial_weights = {str(path)!r}: ')
    assert '\n' not in message
    assert not list(tmp_path.iterdir())


def test_unknown_environment_leaves_no_folder(tmp_path):
  with pytest.raises(UnknownEnvironmentError, match='MontezumaRevenge'):
    train_eval_lib.train_eval(
        str(tmp_path / 'run'), env_name='atari:MontezumaRevnge'
    )
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('entry', ['run.json', 'checkpoints', 'metrics.csv'])
def test_folder_that_holds_a_run(tmp_path, entry):
  if entry == 'checkpoints':
    (tmp_path / entry).mkdir()
  else:
    (tmp_path / entry).write_text('{"starts": []}')
  train_eval_lib.prepare_root_dir(str(tmp_path), resume=True)
  with pytest.raises(ConfigError, match='already holds a run'):
    train_eval_lib.prepare_root_dir(str(tmp_path), resume=False)


def test_new_folder(tmp_path):
  folder = tmp_path / 'a' / 'b'
  train_eval_lib.prepare_root_dir(str(folder), resume=False)
  assert folder.is_dir() and not list(folder.iterdir())


def test_folder_that_cannot_be_used(tmp_path):
  (tmp_path / 'file').write_text('')
  for path in ('file', 'file/run'):
    with pytest.raises(ConfigError, match='cannot be written'):
      train_eval_lib.prepare_root_dir(str(tmp_path / path), resume=True)


def test_a_folder_whose_name_is_no_text(tmp_path):
  name = os.fsdecode(os.fsencode(tmp_path) + b'/r\xff')
  result = command_line.main([f'--root_dir={name}', *(
      f'--gin_bindings={binding}' for binding in command_line.TINY)])
  assert result.status == 2 and result.error.count('\n') == 1
  assert 'not text in UTF-8' in result.error and '\\udcff' in result.error
  assert not list(tmp_path.iterdir())


def _run(cwd, *arguments):
  return subprocess.run(
      [sys.executable, str(_ROOT / 'train_eval.py'), *arguments],
      cwd=cwd, capture_output=True, text=True, timeout=120,
      env={**os.environ, 'PYTHONPATH': str(_ROOT)},
  )


def _assert_one_line(result, *parts):
  assert result.returncode == 2, result.stderr
  lines = [line for line in result.stderr.splitlines() if line]
  assert lines[-1].startswith('train_eval: error: ')
  assert 'Traceback' not in result.stderr
  for part in parts:
    assert part in lines[-1]
  return lines


@pytest.mark.parametrize('arguments, parts', [
    (['--rot_dir=x'], ["'rot_dir'", 'root_dir']),
    (['stray'], ["unexpected argument 'stray'"]),
    (['--resume=perhaps'], ['resume']),
])
def test_mistake_in_the_flags(tmp_path, arguments, parts):
  lines = _assert_one_line(_run(tmp_path, *arguments), *parts)
  assert len(lines) == 1
  assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize('arguments, parts', [
    (['--gin_file=configs/montezma.gin'], ['no config file']),
    (['--gin_bindings=train_eval.num_iteration=3'],
     ['nearest: num_iterations']),
    (['--gin_bindings=train_eval.num_parallel_environments=10'],
     ['choose 8 or 12 environments']),
    (['--gin_bindings=train_eval.root_dir="x"'], ['cannot be set']),
    (['--root_dir=/proc/nothing/run'], ['cannot be written']),
])
def test_mistake_in_the_config(tmp_path, arguments, parts):
  lines = _assert_one_line(_run(tmp_path, *arguments), *parts)
  assert len(lines) == 1
  assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize('binding, part', [
    ("ComputeConfig.devices=['GPU:77']", "there is no 'GPU:77' among CPU:0"),
    ('ComputeConfig.environment_groups=3', 'choose at most 2'),
    ('ActorCriticNetwork.core=7', 'a core is a Keras cell'),
])
def test_mistake_that_shows_when_the_parts_are_built(tmp_path, binding, part):
  lines = _assert_one_line(_run(
      tmp_path, "--gin_bindings=train_eval.env_name='toy:Corridor'",
      '--gin_bindings=train_eval.num_parallel_environments=4',
      '--gin_bindings=train_eval.num_workers=2', f'--gin_bindings={binding}',
  ), part)
  assert len(lines) == 1


def test_noresume_refuses_the_default_folder_of_a_run(tmp_path):
  (tmp_path / 'game.gin').write_text("train_eval.env_name = 'atari:Venture'\n")
  (tmp_path / 'runs' / 'game').mkdir(parents=True)
  (tmp_path / 'runs' / 'game' / 'run.json').write_text('{}')
  result = _run(tmp_path, '--gin_file=game.gin', '--noresume')
  _assert_one_line(result, 'runs/game already holds a run')
  assert os.listdir(tmp_path / 'runs' / 'game') == ['run.json']


def _refusal(tmp_path, **bindings):
  """The error of a run that is refused before it leaves anything."""
  for name, value in bindings.items():
    gin.bind_parameter(f'EnvironmentConfig.{name}', value)
  with pytest.raises(ConfigError) as caught:
    train_eval_lib.train_eval(str(tmp_path / 'run'), env_name='toy:Corridor')
  message = str(caught.value).partition('\n  In call to')[0]  # Gin's.
  assert '\n' not in message and not list(tmp_path.iterdir())
  assert message.startswith("train_eval.env_name = 'toy:Corridor': ")
  return message


@pytest.mark.parametrize('option, value, part', [
    ('frame_size', 84, 'are not images'),
    ('grayscale', True, 'are not images'),
    ('actions', [0, 7], 'there is no action 7'),
    ('full_view', True, "for environments 'minigrid:...'"),
])
def test_preprocessing_that_the_environment_cannot_have(
    tmp_path, option, value, part
):
  assert part in _refusal(tmp_path, **{option: value})


class _Odd(gymnasium.Env):
  """With parts in its observations, or actions that no head gives."""

  def __init__(self, **spaces):
    self.observation_space = gymnasium.spaces.Box(0, 1, (2,))
    self.action_space = gymnasium.spaces.Discrete(2)
    vars(self).update(spaces)

  def reset(self, *, seed=None, options=None):
    return self.observation_space.sample(), {}


@pytest.mark.parametrize('spaces, part', [
    ({'observation_space': gymnasium.spaces.Text(3)}, 'observations are Text'),
    ({'observation_space': gymnasium.spaces.Box(0, 1, (3, 4))},
     'observations have shape (3, 4)'),
    ({'action_space': gymnasium.spaces.MultiBinary(2)},
     'actions are MultiBinary'),
])
def test_spaces_that_no_network_takes(tmp_path, monkeypatch, spaces, part):
  monkeypatch.setitem(
      suites._TOYS, 'Corridor', (lambda: _Odd(**spaces), None)
  )
  assert part in _refusal(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize('bindings, parts', [
    (["train_eval.env_name='ple:PixelCoptr'"], ['PixelCopter']),
    (["train_eval.env_name='CartPole-v1'", 'EnvironmentConfig.frame_size=84'],
     ['frame_size', 'must be None here']),
])
def test_mistake_in_the_environment_is_one_line(tmp_path, bindings, parts):
  arguments = [f'--gin_bindings={binding}' for binding in bindings]
  lines = _assert_one_line(_run(tmp_path, *arguments), *parts)
  assert len(lines) == 1
  assert not list(tmp_path.iterdir())


def test_missing_package_is_one_line(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'minigrid', None)
  with pytest.raises(ConfigError, match=r"pip install -e '.\[minigrid\]'"):
    train_eval_lib.train_eval(
        str(tmp_path / 'run'), env_name='minigrid:MiniGrid-Empty-5x5-v0'
    )
  assert not list(tmp_path.iterdir())
