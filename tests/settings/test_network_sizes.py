"""The networks' weights, estimated and as they are built."""

import gin
from gymnasium import spaces
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.specs import tensor_spec

from rnd_agent import networks
from rnd_agent.bonuses import rnd
from rnd_agent.common import machine
from rnd_agent.environments import specs
from rnd_agent.settings import gin_files
from rnd_agent.settings import network_sizes
from rnd_agent.training import builders  # noqa: F401, registers for gin
from rnd_agent.training import train_eval  # noqa: F401, registers for gin

_GRU = ('ActorCriticNetwork.core = @GRUCell()', 'GRUCell.units = 512')
_LSTM = ('ActorCriticNetwork.core = [@LSTMCell(), @LSTMCell()]',
         'LSTMCell.units = 300')
_DNC = ('ActorCriticNetwork.core = @DNCCell()',
        'DNCCell.controller_units = 400')


_VECTOR = spaces.Box(-1, 1, (40,))
_IMAGE = spaces.Box(0, 255, (84, 84, 4), np.uint8)
_BOTH = spaces.Dict(camera=_IMAGE, state=_VECTOR)


@pytest.mark.parametrize('space, bindings', [
    (_VECTOR, ()), (_IMAGE, ()), (_BOTH, ()),
    (_VECTOR, ('ActorCriticNetwork.fc_layer_params = (1000, 2000, 300)',
               'ActorCriticNetwork.final_layer_params = (700,)')),
    (_VECTOR, (
        'RandomNetworkDistillation.predictor_hidden_units = (2000, 2000)',
        'RandomNetworkDistillation.feature_dim = 900')),
    (_IMAGE, (
        'ActorCriticNetwork.conv_layer_params = ((32, 8, 4), (16, 4, 2))',)),
    (_VECTOR, _GRU), (_VECTOR, _LSTM), (_VECTOR, _DNC),
    (_VECTOR, ('RandomNetworkDistillation.encoder = @RandomEncoder',
               'RandomEncoder.fc_layer_params = (3000,)',
               'RNDNetwork.fc_layer_params = (900, 500)')),
    (_IMAGE, ('RandomNetworkDistillation.encoder = @RandomEncoder',
              'RandomEncoder.conv_layer_params = ((64, 5, 5), (64, 2, 2))',
              'RNDNetwork.fc_layer_params = (300, 400)')),
], ids=['vector', 'image', 'both', 'dense', 'predictor', 'convolutions', 'gru',
        'lstm', 'dnc', 'encoded', 'encoded-image'])
def test_the_estimate_is_near_what_is_built(space, bindings):
  gin_files.parse([], bindings)
  observation = tensor_spec.from_spec(specs.observation_spec(space))
  action = tensor_spec.BoundedTensorSpec((), tf.int64, 0, 3)
  network = networks.ActorCriticNetwork(observation, action)
  network.create_variables()
  bonus = rnd.RandomNetworkDistillation(observation)
  variables = [*network.variables, *bonus.trained_variables,
               *bonus.target.variables]
  built = sum(int(np.prod(variable.shape)) for variable in variables)
  assert 0.8 * built < network_sizes.weights(space) < 2.2 * built


@gin.configurable(module='test_network_sizes')
class _Counts:
  """A bonus without networks, for its name alone."""


def test_only_distillation_has_networks_to_count():
  both = network_sizes.weights(_VECTOR)
  gin_files.parse([], ['train_eval.bonus = @RandomNetworkDistillation'])
  assert network_sizes.weights(_VECTOR) == both
  gin.clear_config()
  gin_files.parse([], ['train_eval.bonus = @_Counts'])
  assert network_sizes.weights(_VECTOR) < both / 2


def test_what_finds_no_room_is_refused(monkeypatch):
  monkeypatch.setattr(machine, 'available_memory', lambda: 2**30)
  network_sizes.check(_IMAGE, 128)
  gin_files.parse([], ['ActorCriticNetwork.fc_layer_params = (9000, 9000)'])
  network_sizes.check(_VECTOR, copies=1)
  with pytest.raises(gin_files.ConfigError, match='smaller layers'):
    network_sizes.check(_VECTOR)
  gin.clear_config()
  gin_files.parse([], ['ActorCriticNetwork.core = @DNCCell()'])
  network_sizes.check(_VECTOR, 128)
  with pytest.raises(gin_files.ConfigError, match='smaller layers'):
    network_sizes.check(_VECTOR, 4096)
