"""`docs/predecessors.md` against the code: names, defaults, completeness."""

import ast
import importlib
import pathlib
import re

import gin
import pytest

from rnd_agent.environments import suites
from rnd_agent.settings import gin_files
from rnd_agent.settings import gin_parameters

_ROOT = pathlib.Path(__file__).resolve().parents[1]
# What no source tells.
_NOT_STATED = 'not stated'
# What the flags are called, with their defaults.
_FLAGS = {
    'Chainer RL-RND': {
        'data_dir': '/data/rl_rnd', 'game': 'PixelCopter-v0',
        'experiment_name': 'experiment_1',
        'frame_resize': 84, 'initial_normalization_num_trials': 8,
        'num_trials': 128, 'portion_experience_train_rnd_predictor': .25,
        'z_dim': 32, 'rnn_hidden_dim': 256, 'rnn_hidden_layers': 1,
        'rnn_single_record_training': False, 'final_hidden_dim': 0,
        'final_hidden_layers': 0, 'epochs_per_iteration': 4,
        'sequence_length': 64, 'minibatches': 4, 'stacked_frames': 4,
        'stacked_frames_rnd': 1, 'sticky_action_probability': .25,
        'intrinsic_coefficient': 1, 'extrinsic_coefficient': 2,
        'extrinsic_reward_clip': 1, 'gamma_intrinsic': .99,
        'gamma_extrinsic': .999, 'lambda_gae': .95, 'epsilon_ppo': .1,
        'rnd_obs_norm_clip': 5, 'beta_entropy': .001, 'epsilon_greedy': 0,
        'model_policy_lr': 1e-4, 'model_value_lr': 1e-4,
        'model_rnd_predictor_lr': 1e-4, 'model': False,
        'keep_past_x_snapshots': 10, 'no_resume': False,
        'disable_progress_bar': False, 'gpu': -1, 'gradient_clip': 0,
        'rng_seed': 31337, 'num_threads': 10,
        'target_cumulative_rewards_extrinsic': 100, 'dnc': '',
    },
    'PPO-RND (PyTorch)': {
        'n_workers': 2, 'interval': 50, 'do_test': True, 'render': False,
        'train_from_scratch': True,
    },
    'The TF-Agents attempt': {
        'root_dir': _NOT_STATED,
        'env_name': 'PongDeterministic-v0, VentureDeterministic-v0',
        'num_parallel_environments': 16, 'num_environment_steps': 2e9,
        'num_epochs': 4, 'num_eval_episodes': 30, 'use_rnns': False,
        'use_rnd': False, 'rnd_ext_reward_factor': _NOT_STATED,
        'rnd_int_reward_factor': _NOT_STATED,
        'observation_clip_value': _NOT_STATED, 'norm_init_episodes': 5,
        'gin_file': _NOT_STATED, 'gin_param': _NOT_STATED,
    },
    "The paper's code": {
        'use_news': 0, 'update_ob_stats_every_step': 0, 'policy': 'rnn',
        'int_coeff': 1, 'ext_coeff': 2, 'max_episode_steps': 4500,
        'dynamics_bonus': 0,
    },
}
# Numbers that are others here, on purpose: episodes there and rollouts here,
# one layer there and several here, another unit, another size of a run.
_OTHER_NUMBERS = {
    'initial_normalization_num_trials', 'z_dim', 'keep_past_x_snapshots',
    'rng_seed', 'n_workers', 'interval', 'num_parallel_environments',
    'num_environment_steps', 'num_eval_episodes', 'norm_init_episodes',
}
# Of numbers that several parameters share, the one that is meant.
_MEANT = {
    'gamma_intrinsic': 'RNDConfig.discount_int',
    'gamma_extrinsic': 'RNDConfig.discount_ext',
    'lambda_gae': 'PPOConfig.gae_lambda',
    'epsilon_ppo': 'PPOConfig.importance_ratio_clipping',
    'intrinsic_coefficient': 'RNDConfig.intrinsic_coefficient',
    'extrinsic_reward_clip': 'EnvironmentConfig.reward_clip',
    'stacked_frames_rnd': 'RandomNetworkDistillation.stacked_frames',
    'epochs_per_iteration': 'train_eval.num_epochs',
    'minibatches': 'train_eval.num_minibatches',
    'int_coeff': 'RNDConfig.intrinsic_coefficient',
    'ext_coeff': 'RNDConfig.extrinsic_coefficient',
}
_ABSENT = {
    'rnn_single_record_training', 'update_ob_stats_every_step',
}
_HEADER = ['flag', 'default there', 'here, with its default', 'remark']


def _tables(text):
  """Rows `[flag, default, here, remark]` by heading."""
  tables = {}
  for section in re.split(r'^## ', text, flags=re.MULTILINE)[1:]:
    title, *lines = section.splitlines()
    rows = [
        [cell.strip() for cell in line.strip('|').split('|')]
        for line in lines if line.startswith('|')
    ]
    assert rows[0] == _HEADER, title
    assert all(len(row) == 4 for row in rows), title
    tables[title] = rows[2:]
  return tables


def _document():
  return _tables((_ROOT / 'docs' / 'predecessors.md').read_text('utf-8'))


def _rows():
  return [row for rows in _document().values() for row in rows]


def _unquoted(cell):
  flag, = re.findall(r'^`(\w+)`$', cell)
  return flag


def _entries(column=2):
  """`(flag, what stands in backticks, the cell)` of one column."""
  return [
      (_unquoted(row[0]), entry, row[column])
      for row in _rows() for entry in re.findall(r'`([^`]+)`', row[column])
  ]


def _bindings():
  return [e for e in _entries() if ' = ' in e[1]]


@pytest.fixture(autouse=True)
def _registered():
  for module in ('builders', 'train_eval'):
    importlib.import_module(f'rnd_agent.training.{module}')
  gin.clear_config()
  yield
  gin.clear_config()


def _default(name):
  """Of a gin parameter; ConfigError where there is none of that name."""
  try:
    gin_files.parse([], [f'{name} = %anything', 'anything = 0'])
  except gin_files.ConfigError as error:
    if ' wants ' not in str(error):  # It is there, of another type.
      raise
  gin.clear_config()
  owner, parameter = name.split('.')
  if owner == 'EnvironmentConfig':
    return getattr(
        suites.resolved_config('atari:MontezumaRevenge'), parameter
    )
  entry = gin_parameters.find_configurable(owner)
  return gin_parameters.parameters_of(entry)[parameter].default


def _is_binding_of(path, name):
  gin.clear_config()
  gin_files.parse([str(path)])
  return gin.query_parameter(name)


def _has_flag(command):
  """Whether `script.py --flag` exists; `--noflag` of a boolean does."""
  script, flag = command.split(' --')
  if not (_ROOT / script).exists():
    return False
  command = {'train_eval.py': 'train.py'}.get(script, script)
  path = _ROOT / 'rnd_agent' / 'commands' / command
  defined = dict(
      (name, kind) for kind, name in re.findall(
          r"flags\.DEFINE_(\w+)\(\s*'(\w+)'", path.read_text('utf-8')
      )
  )
  return flag in defined or (
      flag.startswith('no') and defined.get(flag[2:]) in ('bool', 'boolean')
  )


@pytest.mark.parametrize('title', list(_FLAGS))
def test_every_flag_has_its_row_once(title):
  rows = _document()[title]
  flags = [_unquoted(row[0]) for row in rows]
  assert sorted(flags) == sorted(_FLAGS[title])
  for flag, row in zip(flags, rows):
    default = _FLAGS[title][flag]
    if isinstance(default, str):
      assert row[1].replace('`', '') == (default or 'empty'), flag
    else:
      there = ast.literal_eval(row[1])
      assert there == default, flag
      assert isinstance(there, bool) == isinstance(default, bool), flag


def _check_meaning(row):
  """Raises AssertionError where a flag's number is not its parameter's."""
  flag, there, here, remark = _unquoted(row[0]), *row[1:]
  bound = dict(
      entry.split(' = ') for entry in re.findall(r'`([^`]+ = [^`]+)`', here)
  )
  if flag in _MEANT:
    assert set(bound) == {_MEANT[flag]}, flag
  try:
    there = ast.literal_eval(there)
  except (SyntaxError, ValueError):
    return  # Text.
  if isinstance(there, bool):
    return
  values = [ast.literal_eval(value) for value in bound.values()]
  if None in values:
    assert '`None`' in remark, flag
  numbers = [
      value for value in values if isinstance(value, (int, float))
      and (len(values) == 1 or not isinstance(value, bool))
  ]
  differ = any(value != there for value in numbers)
  assert differ == (flag in _OTHER_NUMBERS), flag


def test_numbers_are_equal_or_known_to_differ():
  for row in _rows():
    _check_meaning(row)


@pytest.mark.parametrize('flag, wrong', [
    ('gamma_intrinsic', '`RNDConfig.discount_ext = 0.999`'),
    ('gamma_intrinsic', '`RNDConfig.discount_ext = 0.99`'),
    ('epsilon_ppo', '`PPOConfig.gae_lambda = 0.95`'),
    ('rnd_obs_norm_clip', '`EnvironmentConfig.reward_clip = 1.0`'),
    ('stacked_frames', '`RandomNetworkDistillation.stacked_frames = 1`'),
    ('gradient_clip', '`PPOConfig.learning_rate = 1e-4`'),
    ('rng_seed', '`train_eval.seed = 31337`'),
])
def test_the_check_of_meaning_can_fail(flag, wrong):
  row, = [row for row in _rows() if _unquoted(row[0]) == flag]
  _check_meaning(row)
  with pytest.raises(AssertionError):
    _check_meaning([*row[:2], wrong, row[3]])


def test_every_row_names_something_or_says_why_not():
  assert set(_document()) == set(_FLAGS)
  for flag, _, here, remark in _rows():
    if _unquoted(flag) in _ABSENT:
      assert here == 'none' and len(remark) > 40, flag
    else:
      assert '`' in here, flag


def test_every_gin_parameter_exists_with_its_default():
  assert len(_bindings()) > 50
  for flag, entry, cell in _bindings():
    name, value = entry.split(' = ')
    config = re.search(r'` in `(configs/\w+\.gin)`', cell)
    if config:
      actual = _is_binding_of(_ROOT / config[1], name)
    else:
      actual = _default(name)
    expected = ast.literal_eval(value)
    assert actual == expected and type(actual) is type(expected), (flag, name)


def test_every_binding_is_one_that_gin_takes():
  """Typed as it stands: name, parameter and value pass the strict reading."""
  for _, entry, _ in _bindings():
    gin_files.parse([], [entry])


def test_every_command_exists():
  commands = [e for e in _entries() if '.py --' in e[1]]
  assert len(commands) > 8
  for flag, command, _ in commands:
    assert _has_flag(command), (flag, command)


def test_nothing_else_stands_in_the_column():
  for flag, entry, _ in _entries():
    assert (
        ' = ' in entry or '.py --' in entry or entry.startswith('configs/')
    ), (flag, entry)


def test_remarks_name_what_exists():
  for flag, entry, _ in _entries(3):
    path = re.match(r'(configs|docs|tests)/\w+\.(gin|md|py)$', entry)
    if path:
      assert (_ROOT / entry).exists(), (flag, entry)
    elif re.match(r'[A-Za-z]\w+\.\w+ = ', entry):
      gin_files.parse([], [entry])
    elif re.match(r'[A-Z]\w+\.[a-z_]+$', entry):
      _default(entry)


@pytest.mark.parametrize('name', [
    'PPOConfig.gae_lamda', 'PPOConfg.gae_lambda', 'train_eval.root_dir',
])
def test_the_check_of_names_can_fail(name):
  with pytest.raises(gin_files.ConfigError):
    _default(name)


def test_the_checks_of_flags_can_fail():
  assert _has_flag('train_eval.py --root_dir')
  assert _has_flag('train_eval.py --noresume')
  for command in ('train_eval.py --rootdir', 'train_eval.py --noroot_dir',
                  'trian_eval.py --root_dir'):
    assert not _has_flag(command)


def test_a_stack_of_cells_is_a_binding():
  """The document says how `rnn_hidden_layers` above 1 is written."""
  from rnd_agent import networks

  gin_files.parse([], [
      'ActorCriticNetwork.core = [@GRUCell(), @GRUCell()]',
      'GRUCell.units = 6', 'ActorCriticNetwork.fc_layer_params = (8,)',
  ])
  import tensorflow as tf
  from tf_agents.specs import tensor_spec

  net = networks.ActorCriticNetwork(
      tf.TensorSpec([5], tf.float32),
      tensor_spec.BoundedTensorSpec([], tf.int64, 0, 3),
  )
  net.create_variables()
  assert [s.shape for s in tf.nest.flatten(net.state_spec)] == [[6], [6]]
  assert sum('gru' in v.name for v in net.variables) == 6
