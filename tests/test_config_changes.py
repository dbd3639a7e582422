"""What a run was started with, compared with what it is resumed with."""

from rnd_agent.settings import config_changes
from rnd_agent.settings import operative_config

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
