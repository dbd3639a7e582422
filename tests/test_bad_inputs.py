"""Everything that a user can type wrongly, and the line that answers it.

`docs/bad_inputs.md` is made of it: python tests/test_bad_inputs.py
"""

import contextlib
import html
import io
import os
import pathlib
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
from typing import Callable, NamedTuple
from unittest import mock
import zipfile

import command_line
import numpy as np
import pytest

from rnd_agent.common import startup

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_HUGE = '1' + '0' * 400  # No float holds it.
_DOCUMENT = _ROOT / 'docs' / 'bad_inputs.md'


class Case(NamedTuple):
  """A mistake.

  Attributes:
    typed: arguments of train_eval.py.
    part: of the message.
    where: prepares the working directory; its docstring says what is there.
    tiny: whether the config of a tiny run stands in `tiny.gin` and is typed
      before `typed`.
  """

  typed: tuple[str, ...]
  part: str
  where: Callable[[pathlib.Path], object] | None = None
  tiny: bool = False


# ------------------------------------------------------- what there is before


def _write(name, content):
  """A function that writes a file; its docstring is the file's content."""
  def write(folder):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(data)

  shown = content if isinstance(content, str) else repr(content)[2:-1]
  shown = ' / '.join(shown.strip().splitlines())
  write.__doc__ = f'{name} holds: {shown}'
  return write


def _include_loop(folder):
  """a.gin includes b.gin, which includes a.gin"""
  (folder / 'a.gin').write_text("include 'b.gin'\n")
  (folder / 'b.gin').write_text("include 'a.gin'\n")


def _folder_as_config(folder):
  """game.gin is a folder"""
  (folder / 'game.gin').mkdir()


def _unreadable_config(folder):
  """game.gin may not be read"""
  (folder / 'game.gin').write_text('train_eval.seed = 1\n')
  (folder / 'game.gin').chmod(0)


def _dangling_config(folder):
  """game.gin is a link to nothing"""
  (folder / 'game.gin').symlink_to('nothing')


def _laughs(folder):
  """game.gin: eight macros, each of which names the one before ten times"""
  lines = ['m0 = 1']
  lines += [f'm{i + 1} = [{", ".join([f"%m{i}"] * 10)}]' for i in range(8)]
  lines.append('ActorCriticNetwork.core = %m8')
  (folder / 'game.gin').write_text('\n'.join(lines))


def _endless_config(folder):
  """game.gin has a terabyte"""
  with open(folder / 'game.gin', 'wb') as file:
    file.truncate(2**40)


def _file_as_folder(folder):
  """x is a file"""
  (folder / 'x').write_text('mine\n')


def _locked_folder(folder):
  """x may not be written"""
  (folder / 'x').mkdir(mode=0o500)


def _minigrid_missing(folder):
  """the package minigrid is not installed"""
  del folder
  return mock.patch.dict(sys.modules, {'minigrid': None})


def _own_game(folder):
  """own_game.py registers Own-v0, whose constructor wants a file"""
  (folder / 'own_game.py').write_text(
      'import gymnasium\n'
      'class Own(gymnasium.Env):\n'
      '  def __init__(self):\n'
      '    open("no-such-level.txt")\n'
      'gymnasium.register("Own-v0", entry_point=Own)\n'
  )
  return mock.patch.object(sys, 'path', [str(folder), *sys.path])


def _a_run(folder):
  """x holds a run"""
  shutil.copytree(_finished_run(), folder / 'x', symlinks=True)


def _changed_run(docstring):
  """Decorates a function that is given a run's folder to change."""
  def decorate(change):
    def prepare(folder):
      _a_run(folder)
      change(folder / 'x')
    prepare.__doc__ = docstring
    return prepare
  return decorate


@_changed_run('the files of all checkpoints in x are cut short')
def _damaged_checkpoints(run):
  for path in (run / 'checkpoints').glob('*.data-*'):
    path.write_bytes(path.read_bytes()[:100])


@_changed_run('x has no checkpoints any more')
def _no_checkpoints(run):
  shutil.rmtree(run / 'checkpoints')


@_changed_run('run.json in x is cut short')
def _damaged_run_json(run):
  (run / 'run.json').write_text('{"command": "pyth')


@_changed_run('run.json in x is a list')
def _list_as_run_json(run):
  (run / 'run.json').write_text('[1]')


@_changed_run('run.json in x is no text')
def _binary_run_json(run):
  (run / 'run.json').write_bytes(b'\xff\xfe\x00')


@_changed_run('metrics.csv in x has other columns')
def _foreign_metrics(run):
  (run / 'metrics.csv').write_text('step,loss\n1,0.5\n')


@_changed_run('metrics.csv in x has a line of something else')
def _damaged_metrics(run):
  lines = (run / 'metrics.csv').read_text().splitlines()
  lines.insert(2, 'what is this?')
  (run / 'metrics.csv').write_text('\n'.join(lines) + '\n')


@_changed_run('operative_config.gin in x is no text')
def _binary_operative_config(run):
  (run / 'operative_config.gin').write_bytes(b'\xff\xfe\x00')


@_changed_run('operative_config.gin in x is a folder')
def _folder_as_operative_config(run):
  (run / 'operative_config.gin').unlink()
  (run / 'operative_config.gin').mkdir()


@_changed_run('metrics.csv in x is a folder')
def _folder_as_metrics(run):
  (run / 'metrics.csv').unlink()
  (run / 'metrics.csv').mkdir()


@_changed_run('checkpoints in x is a file')
def _file_as_checkpoints(run):
  shutil.rmtree(run / 'checkpoints')
  (run / 'checkpoints').write_text('mine\n')


@_changed_run('train in x is a file')
def _file_as_train(run):
  shutil.rmtree(run / 'train')
  (run / 'train').write_text('mine\n')


@_changed_run('metrics.csv in x is a link to a file elsewhere')
def _linked_metrics(run):
  (run.parent / 'elsewhere.csv').write_text('mine\n')
  (run / 'metrics.csv').unlink()
  (run / 'metrics.csv').symlink_to(run.parent / 'elsewhere.csv')


@_changed_run('checkpoints in x is a link to a folder elsewhere')
def _linked_checkpoints(run):
  (run / 'checkpoints').rename(run.parent / 'elsewhere')
  (run / 'checkpoints').symlink_to(run.parent / 'elsewhere')


@_changed_run('metrics.csv in x has a field of 200 kB')
def _long_field(run):
  path = run / 'metrics.csv'
  path.write_text(path.read_text() + '9,' + 'x' * 200_000 + '\n')


def _metric(name, value):
  """A function that changes a cell of the last row of x's metrics."""
  @_changed_run(f'the last {name} of metrics.csv in x is {value}')
  def change(run):
    *head, last = (run / 'metrics.csv').read_text().splitlines()
    cells = last.split(',')
    cells[head[0].split(',').index(name)] = value
    (run / 'metrics.csv').write_text('\n'.join([*head, ','.join(cells)]) + '\n')
  return change


def _places(row):
  """A function that gives x a places.csv."""
  @_changed_run(f'places.csv in x has the row {row}')
  def change(run):
    (run / 'places.csv').write_text(
        f'iteration,env_steps,place,steps,episodes\n{row}\n'
    )
  return change


@_changed_run('places.csv in x is a folder')
def _folder_as_places(run):
  (run / 'places.csv').unlink(missing_ok=True)
  (run / 'places.csv').mkdir()


@_changed_run('places.csv in x has a terabyte')
def _endless_places(run):
  with open(run / 'places.csv', 'wb') as file:
    file.truncate(2**40)


@_changed_run('run.json in x is nested 100 000 deep')
def _deep_run_json(run):
  (run / 'run.json').write_text('[' * 100_000)


@_changed_run('run.json in x has a start that is a number')
def _number_as_start(run):
  (run / 'run.json').write_text('{"starts": [1]}')


@_changed_run("run.json in x has a start whose machine is 'x'")
def _text_as_machine(run):
  (run / 'run.json').write_text('{"starts": [{"machine": "x"}]}')


def _circle(name):
  """A function that replaces a folder of x."""
  @_changed_run(f'{name} in x is a link to itself')
  def change(run):
    shutil.rmtree(run / name, ignore_errors=True)
    (run / name).symlink_to(name)
  return change


def _config_line(line, shown=None):
  """A function that adds to x's config."""
  @_changed_run(f'operative_config.gin in x ends in {shown or line}')
  def change(run):
    with open(run / 'operative_config.gin', 'a', encoding='utf-8') as file:
      file.write(f'\n{line}\n')
  return change


def _no_folder(folder):
  """x is an empty folder"""
  (folder / 'x').mkdir()


def _trace(shown, **changes):
  """A function that writes an episode's trace."""
  def write(folder):
    n = 3
    names = ('bonus', 'intrinsic_reward', 'value_ext', 'value_int')
    arrays = {
        **{name: np.zeros(n, np.float32) for name in names},
        'score': np.zeros(n), 'place': np.zeros(n, np.int64),
        'action': np.zeros(n, np.int64),
        'probabilities': np.zeros((n, 2), np.float32),
        'title': np.array('toy'), 'action_names': np.array(['a', 'b']),
        'frame_bytes': np.zeros(0, np.uint8),
        'frame_ends': np.zeros(0, np.int64), **changes,
    }
    with zipfile.ZipFile(folder / 'e.npz', 'w') as archive:
      for name, array in arrays.items():
        data = array
        if not isinstance(array, bytes):
          file = io.BytesIO()
          np.lib.format.write_array(file, array)
          data = file.getvalue()
        archive.writestr(f'{name}.npy', data)

  write.__doc__ = f'e.npz: {shown}'
  return write


def _claiming(shape):
  """An array's file whose header claims more than is there."""
  file = io.BytesIO()
  np.lib.format.write_array_header_1_0(
      file, {'descr': '<f4', 'fortran_order': False, 'shape': shape}
  )
  return file.getvalue()


def _frames(*sizes):
  """PNG files of which there is only the header."""
  data = [
      b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR' + struct.pack('>II', *size)
      for size in sizes
  ]
  return {
      'frame_bytes': np.frombuffer(b''.join(data), np.uint8),
      'frame_ends': np.cumsum([len(part) for part in data]),
  }


# ------------------------------------------------------------- the mistakes


def _bind(*bindings):
  return tuple(f'--gin_bindings={binding}' for binding in bindings)


def _config(text, part):
  return Case(('--gin_file=game.gin',), part, _write('game.gin', text))


def _binding(binding, part):
  return Case(_bind(binding), part)


_FLAGS = (
    Case(('--rot_dir=x',), 'root_dir'),
    Case(('stray',), "unexpected argument 'stray'"),
    Case(('--resume=perhaps',), 'resume'),
    Case(('--noresume=true',), 'noresume'),
    Case(('--allow_config_change=3',), 'allow_config_change'),
    Case(('--gin_file',), 'gin_file'),
    Case(('--gin_bindings',), 'gin_bindings'),
    Case(('-s',), "'s'"),
    Case(('--verbosity=loud',), 'verbosity'),
    Case(('--root_dir=',), 'root_dir'),
    Case(('--gin_file=',), 'no config file'),
    Case(_bind(''), 'gin_bindings'),
    Case(_bind('  '), 'gin_bindings'),
)
_FILES = (
    Case(('--gin_file=gme.gin',), 'nearest: game.gin',
         _write('game.gin', 'train_eval.seed = 1\n')),
    Case(('--gin_file=no/such.gin',), 'no config file no/such.gin'),
    Case(('--gin_file=game.gin',), 'is a folder', _folder_as_config),
    Case(('--gin_file=game.gin',), 'Permission denied', _unreadable_config),
    Case(('--gin_file=game.gin',), 'link to nothing', _dangling_config),
    Case(('--gin_file=game.gin',), 'UTF-8',
         _write('game.gin', b'train_eval.env_name = "\xe9t\xe9"\n')),
    Case(('--gin_file=game.gin',), 'game.gin',
         _write('game.gin', b'\x7fELF\x02\x01\x01\x00\x00\x00')),
    Case(('--gin_file=a.gin',), 'a.gin includes itself', _include_loop),
    _config("include 'bse.gin'\n", 'game.gin:1: no config file bse.gin'),
    _config('include base.gin\n', 'game.gin:1'),
    _config('train_eval.seed = 1\n\ntrain_eval.sed = 2\n',
            'game.gin:3: train_eval has no parameter'),
    _config('train_eval.seed 3\n', 'game.gin:1'),
    _config('train_eval.seed =\n', 'game.gin:1'),
    _config('RNDConfig.discount_int = (1,\n', 'left open'),
    _config("train_eval.env_name = 'atari:Pong\n", 'game.gin:1'),
    _config('train_eval:\n  seed = 1\n epochs = 2\n', 'game.gin'),
    _config('import os\n', 'not os'),
    _config('from os import path\n', 'game.gin:1'),
    _config('import rnd_agent.secrets\n', 'cannot import rnd_agent.secrets'),
    _config('train_eval.seed = 1 + 1\n', 'game.gin:1'),
    _config('<html>\n', 'game.gin:1'),
    _config("train_eval.env_name = 'gymnasium:mine:Own-v0'\n", 'add --trust'),
    _config('ActorCriticNetwork.core = @ShardedPyEnvironment()\n',
            'add --trust'),
    _config("GRUCell.activation = {'module': 'os'}\n", 'any function'),
    _config(f'ActorCriticNetwork.core = {"[" * 30}{"]" * 30}\n', 'nested'),
    Case(('--gin_file=game.gin',), 'too much', _laughs),
    Case(('--gin_file=game.gin',), 'too large', _endless_config),
)
_NAMES = (
    _binding('trian_eval.seed=1', 'nearest: train_eval'),
    _binding('train_eval.num_iteration=3', 'nearest: num_iterations'),
    _binding('train_eval.gae_lambda=1.0', 'nearest: PPOConfig.gae_lambda'),
    _binding('train_eval.colour=1', 'no parameter'),
    _binding('num_iterations=3', 'nearest: train_eval.num_iterations'),
    _binding('train_eval.root_dir="x"', 'cannot be set'),
    _binding('train_eval=3', 'train_eval'),
    _binding('train_eval.seed=%sed', 'never set'),
    _binding('train_eval.seed=@sed', "no configurable named 'sed'"),
    _binding('ActorCriticNetwork.core=@LSTMCel()', 'nearest: LSTMCell'),
    _binding('tf.PPOConfig.gae_lambda=1.0', 'PPOConfig'),
    Case(_bind('a = %a', 'train_eval.seed = %a'), 'refers to itself'),
    Case(_bind('a = %b', 'b = %a', 'train_eval.seed = %a'),
         'refers to itself'),
    _binding('train_eval.seed=@train_eval()', 'wants int'),
    _binding('ActorCriticNetwork.core=@ActorCriticNetwork()',
             'refers to itself'),
    _binding('gin.macro.value=3', 'names no configurable'),
    _binding('train_eval.seed=@a/gin.macro()', 'write %a'),
    *(_binding(f'{name}={value}', f'bind {source}')
      for name, value, source in (
          ('ShardedPyEnvironment.num_groups', 3,
           'ComputeConfig.environment_groups'),
          ('ShardedPyEnvironment.num_environments', 7,
           'train_eval.num_parallel_environments'),
          ('ShardedPyEnvironment.env_name', "'CartPole-v1'",
           'train_eval.env_name'),
          ('ShardedPyEnvironment.seed', 2, 'train_eval.seed'),
          ('ActorCriticNetwork.precision', "'float16'",
           'train_eval.precision'),
          ('RNDPPOAgent.num_epochs', 2, 'train_eval.num_epochs'),
      )),
)
_TYPES = (
    _binding('train_eval.env_name=Pong', 'text in quotes'),
    _binding("train_eval.seed='1'", 'wants int'),
    _binding('train_eval.rollout_length=127.5', 'wants int'),
    _binding('train_eval.num_epochs=None', 'wants int'),
    _binding('train_eval.num_epochs=True', 'wants int'),
    _binding('train_eval.env_name=3', 'wants str'),
    _binding('train_eval.num_minibatches=[4]', 'wants int'),
    _binding('train_eval.progress=1', 'wants bool'),
    _binding("PPOConfig.learning_rate='1e-4'", 'wants float'),
    _binding('PPOConfig.learning_rate=nan', 'cannot read the value nan'),
    _binding('PPOConfig.learning_rate=1e999', 'finite'),
    _binding('train_eval.target_return=1e999', 'finite'),
    _binding('train_eval.seed=@LSTMCell', 'train_eval.seed'),
    _binding('train_eval.env_name=@RNDConfig()', 'train_eval.env_name'),
    _binding('PPOConfig.gae_lambda=@RNDConfig()', 'PPOConfig.gae_lambda'),
    _binding("RNDConfig.episodic_intrinsic='yes'", 'wants bool'),
    Case(_bind("rate = '1e-4'", 'PPOConfig.learning_rate = %rate'),
         'wants float'),
    _binding('ActorCriticNetwork.fc_layer_params=8', 'a list of whole numbers'),
    _binding("ActorCriticNetwork.fc_layer_params=('a',)", 'whole numbers'),
    _binding('ActorCriticNetwork.conv_layer_params=((32, 8), (64, 4))',
             '(filters, kernel, stride)'),
    _binding("ActorCriticNetwork.head_gain='x'", 'a number above 0'),
    _binding('ActorCriticNetwork.head_gain=1e300', 'up to 1000'),
    _binding('ActorCriticNetwork.name=3', 'letters, digits'),
    _binding("ActorCriticNetwork.name='a b/../c'", 'letters, digits'),
    _binding('ActorCriticNetwork.core=[]', 'None for no core'),
    _binding('RandomNetworkDistillation.select=3', 'select wants'),
    _binding('RandomNetworkDistillation.predictor=3', 'predictor wants'),
    _binding('ShardedPyEnvironment.config=7', 'EnvironmentConfig'),
    Case(_bind('ActorCriticNetwork.core=@GRUCell()', 'GRUCell.units=8',
               'GRUCell.activation=3'), "such as 'tanh'"),
    _binding('PPOConfig.learning_rate=%gin.REQUIRED', 'is no value'),
)
_SIZES = (
    _binding('train_eval.num_parallel_environments=0', '1 or more'),
    _binding('train_eval.num_parallel_environments=-8', '1 or more'),
    _binding('train_eval.num_parallel_environments=10', 'not divisible'),
    _binding('train_eval.num_parallel_environments=1000000000', 'memory'),
    _binding('train_eval.rollout_length=0', '1 or more'),
    _binding('train_eval.rollout_length=1000000000', 'memory'),
    _binding('train_eval.rollout_length=99999999999999999999', 'memory'),
    _binding('train_eval.num_minibatches=0', '1 or more'),
    _binding('train_eval.num_minibatches=1000', 'not divisible'),
    _binding('train_eval.num_workers=0', '1 or more'),
    _binding('train_eval.num_workers=100000', 'at most 128'),
    _binding('train_eval.num_epochs=0', '1 or more'),
    _binding('train_eval.num_iterations=-1', '0 (endless) or more'),
    _binding('train_eval.seed=-1', '0 or more'),
    _binding('train_eval.seed=3000000000', 'below 2147483648'),
    _binding('train_eval.random_rollouts=-1', '0 (no statistics) or more'),
    _binding('train_eval.checkpoint_interval=0', '1 or more'),
    _binding('train_eval.checkpoints_to_keep=0', '1 or more'),
    _binding('train_eval.summary_interval=0', '1 or more'),
    _binding('train_eval.eval_interval=-5', '0 (no evaluation) or more'),
    _binding('train_eval.num_eval_episodes=0', '1 or more'),
    _binding('train_eval.num_eval_episodes=1000000000', 'memory'),
    _binding("train_eval.precision='float16'", 'choose float32'),
    _binding("train_eval.parallel_environments='tf-agents'",
             'choose tf_agents'),
    _binding("train_eval.precision='half'", 'float32 or mixed_bfloat16'),
    _binding('PPOConfig.sequence_length=30', 'does not divide'),
    _binding('PPOConfig.sequence_length=0', 'must be 1 or more'),
    _binding('PPOConfig.gae_lambda=1.5', 'must lie in [0, 1]'),
    _binding('PPOConfig.learning_rate=-0.1', 'must be above 0'),
    _binding('PPOConfig.epsilon_greedy=1.0', 'must lie in [0, 1)'),
    _binding('RNDConfig.discount_int=1.01', 'must lie in [0, 1]'),
    _binding('RNDConfig.predictor_proportion=0.0', 'must lie in (0, 1]'),
    _binding("RNDConfig.bonus_at_end='end'", 'bonus_at_end'),
    _binding('ComputeConfig.intra_op_threads=0', 'must be 1 or more'),
    _binding("ComputeConfig.devices='GPU:0'", 'Sequence[str]'),
    _binding('ActorCriticNetwork.fc_layer_params=(0,)', 'from 1 to 65536'),
    _binding('ActorCriticNetwork.fc_layer_params=(1000000000,)',
             'from 1 to 65536'),
    _binding('RandomNetworkDistillation.feature_dim=0', 'from 1 to 65536'),
    _binding('RandomNetworkDistillation.predictor_hidden_units=(-1,)',
             'from 1 to 65536'),
    _binding('GRUCell.units=0', 'from 1 to 65536'),
    _binding('ActorCriticNetwork.conv_layer_params=((32, 8, 0),)',
             'from 1 to 65536'),
    _binding('EnvironmentConfig.frame_skip=0', 'at least 1'),
    _binding('EnvironmentConfig.frame_size=1000000', 'memory'),
    _binding('EnvironmentConfig.frame_size=[84]', '[height, width]'),
    _binding('EnvironmentConfig.stacked_frames=1000000000', 'memory'),
    _binding('EnvironmentConfig.sticky_action_probability=1.0', 'below 1'),
    _binding('EnvironmentConfig.actions=[0, 99]', 'there is no action 99'),
    _binding('EnvironmentConfig.frame_skip=100000', 'at most 1000'),
    _binding('EnvironmentConfig.reward_clip=1e999', 'at most 1e+30'),
    _binding(f'EnvironmentConfig.reward_clip={_HUGE}', 'at most 1e+30'),
    _binding(f'train_eval.target_return={_HUGE}', 'finite'),
    _binding(f'PPOConfig.learning_rate={_HUGE}', 'below 1e30'),
    _binding('train_eval.num_epochs=1000000000', 'at most 1000'),
    _binding('train_eval.num_epochs=100000000000000000000', 'at most 1000'),
    _binding('train_eval.num_iterations=100000000000000000000', 'at most'),
    _binding('PPOConfig.adam_epsilon=0.0', 'above 0'),
    _binding('RNDConfig.variance_epsilon=0.0', 'above 0'),
    _binding('ComputeConfig.inter_op_threads=1000000', 'at most 4096'),
    _binding('ComputeConfig.lanes=1000000', 'at most 4096'),
    _binding('ActorCriticNetwork.fc_layer_params=(65536, 65536)',
             'smaller layers'),
    Case(_bind('ActorCriticNetwork.core=@DNCCell()',
               'DNCCell.memory_size=60000'), 'smaller layers'),
)
_PARTS = tuple(
    Case(_bind(binding), part, tiny=True) for binding, part in (
        ('train_eval.random_rollouts=0', 'random_steps'),
        ('ShardedPyEnvironment.worker_timeout=0', 'worker_timeout'),
        ('ShardedPyEnvironment.worker_timeout=-1.0', 'worker_timeout'),
        ('ComputeConfig.environment_groups=7', 'environment_groups'),
        ("ComputeConfig.devices=['GPU:77']", "there is no 'GPU:77'"),
        ('ActorCriticNetwork.core=7', 'a core is a Keras cell'),
        ('ActorCriticNetwork.core=@LSTMCell', 'core'),
        ('ActorCriticNetwork.fc_layer_params=()', 'must not be empty'),
        ('ActorCriticNetwork.core=@GRUCell()', 'needs GRUCell.units'),
    )
)
_ENVIRONMENTS = (
    _binding("train_eval.env_name=''", 'atari:MontezumaRevenge'),
    _binding("train_eval.env_name='atari:MontezumaRevnge'",
             'MontezumaRevenge'),
    _binding("train_eval.env_name='atri:Pong'", 'atari'),
    _binding("train_eval.env_name='atari:'", 'Atari game'),
    _binding("train_eval.env_name='CartPoole-v1'", 'CartPole-v1'),
    _binding("train_eval.env_name='gymnasium:CartPole-v9'", 'CartPole'),
    _binding("train_eval.env_name='gymnasium:Blackjack-v1'", 'Tuple'),
    _binding("train_eval.env_name='gymnasium:no.such:Own-v0'",
             "'no.such' cannot be imported"),
    _binding("train_eval.env_name='gym:no.such:Own-v0'",
             "'no.such' cannot be imported"),
    _binding("train_eval.env_name='gymnasium:.x:X'", 'relative to nothing'),
    Case(_bind("train_eval.env_name='gymnasium:own_game:Own-v0'"),
         'FileNotFoundError', _own_game),
    _binding("train_eval.env_name='minigrid:MiniGrid-Empy-5x5-v0'",
             'MiniGrid-Empty-5x5-v0'),
    _binding("train_eval.env_name='ple:PixelCoptr'", 'PixelCopter'),
    _binding("train_eval.env_name='os:system'", 'os'),
    Case(_bind("train_eval.env_name='minigrid:MiniGrid-Empty-5x5-v0'"),
         "pip install -e '.[minigrid]'", _minigrid_missing),
    Case(_bind("train_eval.env_name='CartPole-v1'",
               'EnvironmentConfig.frame_size=84'), 'frame_size'),
    _binding('EnvironmentConfig.full_view=True', 'minigrid'),
    Case(_bind("train_eval.env_name='toy:Corridor'",
               'EnvironmentConfig.actions=[0, 7]'), 'there is no action 7'),
)
_FOLDERS = (
    Case(('--root_dir=x',), 'cannot be written', _file_as_folder),
    Case(('--root_dir=x/y',), 'cannot be written', _file_as_folder),
    Case(('--root_dir=x',), 'Permission denied', _locked_folder),
    Case(('--root_dir=x/y',), 'Permission denied', _locked_folder),
    Case(('--root_dir=/proc/x',), 'cannot be written'),
    Case((f'--root_dir={"x" * 300}',), 'too long'),
    Case(('--root_dir=x', '--noresume'), 'already holds a run', _a_run,
         tiny=True),
    Case(_bind("train_eval.initial_weights='y'"), 'no checkpoint there'),
    Case(_bind("train_eval.initial_weights=''"), "a run's folder or None"),
    Case(_bind("train_eval.initial_weights='x'"), 'no checkpoint there',
         _file_as_folder),
    *(Case(('--root_dir=x', *_bind(binding)), part, _a_run, tiny=True)
      for binding, part in (
          ("train_eval.env_name='toy:Recall'", 'holds another run'),
          ('train_eval.num_parallel_environments=8', 'holds another run'),
          ('ActorCriticNetwork.fc_layer_params=(8, 8)', 'holds another run'),
      )),
    Case(('--root_dir=x', '--allow_config_change',
          *_bind('ActorCriticNetwork.fc_layer_params=(16,)')),
         'cannot be restored', _a_run, tiny=True),
    Case(('--root_dir=y', *_bind(
        "train_eval.initial_weights='x'",
        'ActorCriticNetwork.fc_layer_params=(16,)')),
         'do not fit', _a_run, tiny=True),
    *(Case(('--root_dir=x', *_bind('train_eval.num_iterations = 3')), part,
           where, tiny=True)
      for part, where in (
          ('no checkpoint is intact', _damaged_checkpoints),
          ('no checkpoint', _no_checkpoints),
          ('run.json', _damaged_run_json),
          ('run.json', _list_as_run_json),
          ('run.json', _binary_run_json),
          ('run.json', _deep_run_json),
          ('one of its starts is none', _number_as_start),
          ('one of its starts is none', _text_as_machine),
          ('places.csv', _folder_as_places),
          ('places.csv is damaged', _endless_places),
          ('metrics.csv has other columns', _foreign_metrics),
          ('metrics.csv, line 3', _damaged_metrics),
          ('operative_config.gin', _binary_operative_config),
          ('operative_config.gin', _folder_as_operative_config),
          ('metrics.csv', _folder_as_metrics),
          ('checkpoints', _file_as_checkpoints),
          ('train', _file_as_train),
          ('metrics.csv', _linked_metrics),
          ('checkpoints', _linked_checkpoints),
      )),
)
_PLOTS = (
    Case(('plot.py',), 'name at least one run'),
    Case(('plot.py', 'rooms'), 'name one run'),
    Case(('plot.py', 'x'), 'no such folder'),
    Case(('plot.py', 'x'), 'is not a run', _no_folder),
    Case(('plot.py', 'x', '--output=x.txt'), 'x.txt', _a_run),
    Case(('plot.py', 'x', '--metric=loss'), "no column 'loss'", _a_run),
    Case(('plot.py', 'x', '--x=hour'), 'hours', _a_run),
    Case(('plot.py', 'x', '--watch', '--interval=nan'), 'interval', _a_run),
    Case(('plot.py', 'x', '--watch', '--interval=inf'), 'interval', _a_run),
    Case(('plot.py', 'rooms', 'x', '--watch'), '--watch is for curves', _a_run),
    Case(('plot.py', 'compare', 'x', '--output=x.txt'), '.csv or .md', _a_run),
    Case(('plot.py', 'report', 'x', '--output=x.pdf'), '.html', _a_run),
    *(Case(('plot.py', 'x'), part, where) for part, where in (
        ('line 4: is too long', _long_field),
        ('no count', _metric('frames', 'inf')),
        ('not a row', _metric('frames', '1e308')),
        ('no count', _metric('env_steps', '-1')),
        ('metrics.csv', _folder_as_metrics),
        ('leads out of the run', _linked_metrics),
    )),
    *(Case(('plot.py', 'rooms', 'x'), part, where) for part, where in (
        ('no regular file', _folder_as_places),
        ('too large', _endless_places),
        ('no count', _places('1,32,1e17,9,1')),
        ('no count', _places('1,32,0,-9,1')),
        ('no count', _places('1,32,0,nan,1')),
    )),
    *(Case(('plot.py', 'report', 'x', '--noepisode'), part, where)
      for part, where in (
          ('run.json is damaged', _deep_run_json),
          ('describes no run', _list_as_run_json),
          ('videos leads nowhere', _circle('videos')),
      )),
    Case(('plot.py', 'novelty', '--trace=e.npz'), 'cannot be read'),
    *(Case(('plot.py', 'novelty', '--trace=e.npz'), part, where)
      for part, where in (
          ('no trace', _write('e.npz', 'no archive')),
          ('what its header says',
           _trace('its header claims 36 TiB', bonus=_claiming((10**13,)))),
          ('magic string', _trace('an array is text', bonus=b'no array')),
          ('another type or shape',
           _trace('one name', action_names=np.array('a'))),
          ('another type or shape',
           _trace('ends in two dimensions',
                  frame_ends=np.zeros((1, 3), np.int64))),
          ('end where they cannot',
           _trace('ends of nothing', frame_ends=np.arange(9, 12))),
          ('too large', _trace('frames of 60000 x 60000 pixels',
                               **_frames(*[(60000, 60000)] * 3))),
          ('differ in size', _trace('frames of two sizes',
                                    **_frames((9, 9), (9, 9), (8, 9)))),
          ('too large', _trace('an infinite score',
                               score=np.full(3, np.inf))),
          ('below -1', _trace('an action -7', action=np.full(3, -7))),
      )),
)
_PLAYS = (
    Case(('play.py',), "name the run's folder"),
    Case(('play.py', 'x'), "unexpected argument 'x'"),
    Case(('play.py', '--root_dir=x'), 'no such folder'),
    Case(('play.py', '--root_dir=x'), 'is not a run', _no_folder),
    Case(('play.py', '--root_dir=x', '--episodes=0'), 'episodes', _a_run),
    Case(('play.py', '--root_dir=x', '--sticky=1'), 'sticky', _a_run),
    Case(('play.py', '--root_dir=x', '--video=x.avi'), '.mp4', _a_run),
    Case(('play.py', '--root_dir=x', '--video=y/x.mp4'), 'no folder y', _a_run),
    Case(('play.py', '--root_dir=x', '--highlights'), '--video', _a_run),
    Case(('play.py', '--root_dir=x', '--trace=x.txt'), '.npz', _a_run),
    *(Case(('play.py', '--root_dir=x'), part, where) for part, where in (
        ('no checkpoint', _no_checkpoints),
        ('no checkpoint is intact', _damaged_checkpoints),
        ('checkpoints leads nowhere', _circle('checkpoints')),
        ('is no folder', _file_as_checkpoints),
        ('leads out of the run', _linked_checkpoints),
        ('is no text', _binary_operative_config),
        ('add --trust',
         _config_line("train_eval.env_name = 'gymnasium:mine:Own-v0'")),
        ('add --trust',
         _config_line('ActorCriticNetwork.core = @ShardedPyEnvironment()')),
        ('rnd_agent only', _config_line('import os')),
        ('another file', _config_line("include '/etc/passwd'")),
        ('nested', _config_line(
            f'ActorCriticNetwork.core = {"[" * 3000}{"]" * 3000}',
            '3000 brackets')),
        ('no run has that many',
         _config_line('train_eval.num_parallel_environments = 10000000000')),
        ('smaller layers', _config_line(
            f'ActorCriticNetwork.fc_layer_params = {(65536,) * 40}',
            '40 layers of 65536 units')),
        ('cannot be restored', _config_line(
            'ActorCriticNetwork.fc_layer_params = (16,)')),
    )),
)
_GROUPS = {
    'Flags': _FLAGS,
    'Config files': _FILES,
    'Names in bindings': _NAMES,
    'Types of values': _TYPES,
    'Numbers and sizes': _SIZES,
    'What only shows when the parts are built': _PARTS,
    'Environments': _ENVIRONMENTS,
    'Folders and runs': _FOLDERS,
}
_GROUPS_OF_PICTURES = {'plot.py': _PLOTS, 'play.py': _PLAYS}
_ALL_GROUPS = {**_GROUPS, **_GROUPS_OF_PICTURES}
_CASES = [case for cases in _ALL_GROUPS.values() for case in cases]


# -------------------------------------------------------- how they are tried


class Outcome(NamedTuple):
  """How it ended: exit status, standard error, what has changed in files."""

  status: object
  lines: list[str]
  changed: list[str]


_finished = None


@pytest.fixture(autouse=True, scope='module')
def _remove_the_finished_run():
  yield
  if _finished is not None:
    shutil.rmtree(_finished.parent)


def _finished_run() -> pathlib.Path:
  """The folder of a run that was trained for this; do not write there."""
  global _finished
  if _finished is None:
    _finished = pathlib.Path(tempfile.mkdtemp(prefix='bad-inputs-')) / 'run'
    result = command_line.main(
        [f'--root_dir={_finished}', *_bind(*command_line.TINY)]
    )
    assert result.status == 0, result.error
  return _finished


@contextlib.contextmanager
def _without_privileges():
  """As an ordinary user: nothing is forbidden to the superuser."""
  if os.geteuid() != 0:
    yield
    return
  os.seteuid(65534)
  try:
    yield
  finally:
    os.seteuid(0)


def _not_refused(*unused_arguments, **unused_settings):
  raise AssertionError('this mistake was not refused')


def _try(case: Case) -> Outcome:
  """Makes a mistake in a folder of its own."""
  folder = pathlib.Path(tempfile.mkdtemp(prefix='bad-inputs-'))
  before = pathlib.Path.cwd()
  try:
    folder.chmod(0o777)
    os.chdir(folder)
    arguments = list(case.typed)
    if case.tiny:
      (folder / 'tiny.gin').write_text('\n'.join(command_line.TINY) + '\n')
      arguments.insert(0, '--gin_file=tiny.gin')
    with contextlib.ExitStack() as stack:
      context = case.where(folder) if case.where else None
      if context is not None:
        stack.enter_context(context)
      files = command_line.files(folder)
      if not case.tiny:  # What is not refused would train for days.
        stack.enter_context(mock.patch(
            'rnd_agent.training.builders.build_trainer', _not_refused
        ))
      if case.part == 'Permission denied':
        stack.enter_context(_without_privileges())
      status, error, _ = _run(arguments)
    after = command_line.files(folder)
    changed = [
        name for name in sorted(files.keys() | after.keys())
        if files.get(name) != after.get(name)
        and not (name not in files and after[name] == 'folder')
    ]
    lines = error.replace(str(folder) + '/', '').splitlines()
    return Outcome(status, [line for line in lines if line], changed)
  finally:
    os.chdir(before)
    shutil.rmtree(folder)


def _run(arguments: list[str]) -> command_line.Result:
  if arguments and arguments[0].endswith('.py'):
    return command_line.script(arguments[0], arguments[1:])
  return command_line.main(arguments)


def _program(case: Case) -> str:
  """The name that its messages begin with."""
  first, = case.typed[:1] or ('',)
  return first.removesuffix('.py') if first.endswith('.py') else 'train_eval'


_outcomes = {}


def _outcome(case: Case) -> Outcome:
  """How it ended; it is tried once."""
  if case not in _outcomes:
    _outcomes[case] = _try(case)
  return _outcomes[case]


def _where(case: Case) -> str:
  return case.where.__doc__ if case.where else ''


def _name(case: Case) -> str:
  return ' '.join((*case.typed, _where(case)))


# ------------------------------------------------------------- the document

_HEAD = """# Bad inputs

What was typed after `python train_eval.py`, and the one line that answers it
(on standard error, after `train_eval: error: `; exit status 2); below, the
same for `plot.py` and `play.py`, whose names are typed there. In none of
these cases a file is changed. `tests/test_bad_inputs.py` tries them all and
compares this document; `python tests/test_bad_inputs.py` writes it.
"""


def document() -> str:
  """The table of all mistakes and messages, as markdown."""
  text = [_HEAD]
  for group, cases in _ALL_GROUPS.items():
    text.append(f'\n## {group}\n')
    if any(case.tiny for case in cases):
      text.append(
          'Those marked with * come after the config of a run that takes a '
          'moment.\n'
      )
    text.append('| typed | where | message |\n|---|---|---|')
    for case in cases:
      typed = ' '.join(map(_shown, case.typed)) + (' *' if case.tiny else '')
      message = _outcome(case).lines[-1].removeprefix(
          f'{_program(case)}: error: '
      )
      text.append(
          f'| {typed} | {_escaped(_where(case))} | {_escaped(message)} |'
      )
  return '\n'.join(text) + '\n'


def _shown(argument: str) -> str:
  argument = argument.replace(_HUGE, '1000...')
  if len(argument) > 100:
    argument = argument[:40] + '...'
  quoted = shlex.quote(argument).replace('|', '\\|')
  return f'`{quoted}`'


def _escaped(text: str) -> str:
  """Of this machine nothing is told: its memory, its devices, its folders."""
  text = text.replace('x' * 300, 'x...').replace(_HUGE, '1000...')
  text = re.sub(r'here are [\d.e+]+ GiB: choose [^|]*', 'here are ...', text)
  text = re.sub(r'GiB of memory, .* are free: choose [^|]*',
                'GiB of memory, ... are free: choose ...', text)
  text = re.sub(r"(there is no 'GPU:77' among) .*", r'\1 ...', text)
  text = re.sub(r'"2,64,[^"]*"', '"2,64,..."', text)  # It has times.
  text = re.sub(r'operative_config.gin:\d+', 'operative_config.gin:...', text)
  text = re.sub(r'(there are: iteration), .*', r'\1, ...', text)
  text = re.sub(r'has \d+ bytes instead of \d+', 'has 100 bytes instead of ...',
                text)
  text = text.replace(f'{_ROOT}/', '')
  return html.escape(text, quote=False).replace('|', '\\|').replace('*', '\\*')


def test_the_document_is_what_the_code_says():
  # In a process in which no test has registered anything with gin.
  result = subprocess.run(
      [sys.executable, __file__, '--print'], capture_output=True, text=True,
      timeout=400, check=True, env={**os.environ, 'PYTHONPATH': str(_ROOT)},
  )
  assert _DOCUMENT.read_text(encoding='utf-8') == result.stdout, (
      'python tests/test_bad_inputs.py writes it anew'
  )


# ----------------------------------------------------------------- the tests


def test_there_are_enough():
  assert len(set(map(_name, _CASES))) == len(_CASES) >= 60


@pytest.mark.parametrize('case', _CASES, ids=_name)
def test_is_answered_by_one_line(case):
  outcome = _outcome(case)
  assert outcome.status == 2, outcome
  assert len(outcome.lines) == 1, outcome.lines
  line, = outcome.lines
  assert line.startswith(f'{_program(case)}: error: ')
  assert case.part in line
  assert len(line) < 700
  assert not outcome.changed


@pytest.mark.parametrize('case', [
    _FLAGS[0], _FILES[5], _NAMES[0], _ENVIRONMENTS[1], _FOLDERS[0],
], ids=_name)
def test_so_it_is_from_the_command_line(case, tmp_path):
  if case.where:
    case.where(tmp_path)
  result = subprocess.run(
      [sys.executable, str(_ROOT / 'train_eval.py'), *case.typed],
      cwd=tmp_path, capture_output=True, text=True, timeout=120,
      env={**os.environ, 'PYTHONPATH': str(_ROOT)},
  )
  assert result.returncode == 2
  assert result.stderr.splitlines() == _outcome(case).lines
  assert result.stdout == ''


if __name__ == '__main__':
  startup.quiet_imports()
  if sys.argv[1:] == ['--print']:
    print(document(), end='')
  else:
    _DOCUMENT.write_text(document(), encoding='utf-8')
