"""What a run was started with, compared with what it is resumed with."""

from rnd_agent.runs import checkpoint_files
from rnd_agent.settings import config_changes
from rnd_agent.settings import operative_config
from rnd_agent.training import resume

_THEN = """
# Parameters for train_eval:
# ==============================================================================
train_eval.env_name = 'atari:Pong'
train_eval.num_iterations = 5
train_eval.seed = 1
ActorCriticNetwork.core = @GRUCell()
GRUCell.units = 256
RNDNetwork.conv_layer_params = \\
    ((32, 8, 4),
     (64, 4, 2))
"""


def test_parameters_are_read_with_their_further_lines():
  assert operative_config.read(_THEN) == {
      'train_eval.env_name': "'atari:Pong'",
      'train_eval.num_iterations': '5',
      'train_eval.seed': '1',
      'ActorCriticNetwork.core': '@GRUCell()',
      'GRUCell.units': '256',
      'RNDNetwork.conv_layer_params': '((32, 8, 4), (64, 4, 2))',
  }


def test_changes_leave_out_what_is_harmless_or_new():
  now = _THEN.replace('= 5', '= 9').replace('seed = 1', 'seed = 2')
  now = now.replace('256', '128').replace('64, 4', '64, 3')
  now += 'PPOConfig.new = 1\n'
  differences = config_changes.changes(_THEN, now)
  assert differences == {
      'GRUCell.units': ('256', '128'),
      'RNDNetwork.conv_layer_params': (
          '((32, 8, 4), (64, 4, 2))', '((32, 8, 4), (64, 3, 2))'
      ),
      'train_eval.seed': ('1', '2'),
  }
  assert set(config_changes.of_another_run(differences)) == {
      'GRUCell.units', 'RNDNetwork.conv_layer_params'
  }
  assert config_changes.described(
      {'GRUCell.units': ('256', '128')}
  ) == 'GRUCell.units = 128 (was 256)'


def test_a_parameter_under_its_former_name_has_not_changed():
  then = 'train_eval.random_steps = 2\n'
  now = 'train_eval.random_rollouts = 2\n'
  assert not config_changes.changes(then, now)
  assert config_changes.changes(then, now.replace('2', '3')) == {
      'train_eval.random_rollouts': ('2', '3')
  }


def test_a_byte_order_mark_is_no_change(tmp_path, monkeypatch):
  monkeypatch.setattr(checkpoint_files, 'latest_iteration', lambda root: 1)
  text = 'train_eval.seed = 1\n'
  path = tmp_path / 'operative_config.gin'
  path.write_text(text, encoding='utf-8-sig')
  notes = []
  resume.compare_config(tmp_path, text, False, notes.append)
  assert not notes
  resume.compare_config(tmp_path, text.replace('1', '2'), False, notes.append)
  assert notes == ['the configuration has changed: train_eval.seed = 2 (was 1)']


def test_what_each_parameter_s_change_means():
  def outcome(name):
    changes = config_changes.changes(f'{name} = 1\n', f'{name} = 2\n')
    return bool(changes), bool(config_changes.of_another_run(changes))

  for name in ('train_eval.num_iterations', 'train_eval.progress'):
    assert outcome(name) == (False, False), name
  for name in ('train_eval.seed', 'PPOConfig.gae_lambda', 'Foreign.name'):
    assert outcome(name) == (True, False), name
  for name in ('train_eval.env_name', 'EnvironmentConfig.frame_skip',
               'DNCCell.word_size', 'a/b/RNDNetwork.feature_dim'):
    assert outcome(name) == (True, True), name
