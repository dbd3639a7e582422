"""Checks of bound values that need no networks, before any is built.

TensorFlow answers wrong sizes with long tracebacks, by running out of memory,
or by aborting the process.
"""

from __future__ import annotations

import math
import re
from typing import Any

import gin
import psutil

from rnd_agent.environments import suites
from rnd_agent.settings import gin_parameters
from rnd_agent.settings import shipped_parts
from rnd_agent.settings.gin_files import ConfigError

# Sizes of layers: 0 a number, 1 a list of numbers, 2 a list of lists.
_LAYERS = {
    'ActorCriticNetwork.fc_layer_params': 1,
    'ActorCriticNetwork.final_layer_params': 1,
    'ActorCriticNetwork.conv_layer_params': 2,
    'RNDNetwork.hidden_units': 1,
    'RNDNetwork.feature_dim': 0,
    'RNDNetwork.fc_layer_params': 1,
    'RNDNetwork.conv_layer_params': 2,
    'RandomEncoder.fc_layer_params': 1,
    'RandomEncoder.conv_layer_params': 2,
    'RandomNetworkDistillation.feature_dim': 0,
    'RandomNetworkDistillation.predictor_hidden_units': 1,
    'E3B.feature_dim': 0,
    'E3B.hidden_units': 0,
    'DynamicsBonus.feature_dim': 0,
    'DynamicsBonus.hidden_units': 1,
    'GRUCell.units': 0,
    'LSTMCell.units': 0,
    'DNCCell.memory_size': 0,
    'DNCCell.word_size': 0,
    'DNCCell.num_read_heads': 0,
    'DNCCell.controller_units': 0,
    'DNCCell.output_units': 0,
}
_EXAMPLES = (
    'a whole number, such as 256',
    'a list of whole numbers, such as (256, 448)',
    'a list of (filters, kernel, stride), such as ((32, 8, 4), (64, 4, 2))',
)
# Parameters that the trainer passes itself, so that gin would ignore a binding
# of them, and the parameter that each is taken from.
_PASSED_BY_TRAINER = {
    'ShardedPyEnvironment.env_name': 'train_eval.env_name',
    'ShardedPyEnvironment.num_environments':
        'train_eval.num_parallel_environments',
    'ShardedPyEnvironment.num_workers': 'train_eval.num_workers',
    'ShardedPyEnvironment.seed': 'train_eval.seed',
    'ShardedPyEnvironment.first_environment': 'train_eval.seed',
    'ShardedPyEnvironment.num_groups': 'ComputeConfig.environment_groups',
    'ActorCriticNetwork.precision': 'train_eval.precision',
    **{f'{name}.precision': 'train_eval.precision'
       for name in shipped_parts.BONUSES},
    **{f'{name}.frame_channels': 'EnvironmentConfig.stacked_frames'
       for name in shipped_parts.BONUSES},
    'RNDNetwork.precision': 'train_eval.precision',
    'RandomEncoder.precision': 'train_eval.precision',
    'RNDNetwork.feature_dim': 'RandomNetworkDistillation.feature_dim',
    'RNDNetwork.hidden_units':
        'RandomNetworkDistillation.predictor_hidden_units',
    'RNDPPOAgent.num_epochs': 'train_eval.num_epochs',
    'RNDPPOAgent.num_minibatches': 'train_eval.num_minibatches',
    'RNDPPOAgent.normalize_advantages': 'PPOConfig.normalize_advantages',
    'RNDPPOAgent.shuffle_minibatches': 'PPOConfig.shuffle_minibatches',
    'RNDPPOAgent.sequence_length': 'PPOConfig.sequence_length',
    'RNDPPOAgent.epsilon_greedy': 'PPOConfig.epsilon_greedy',
}
_LARGEST_GAIN = 1000
_NAME = re.compile(r'[A-Za-z0-9]\w*', re.ASCII)
# Parameters that take a function of Keras, or its name.
_FUNCTIONS = (
    'RNDNetwork.activation', 'RNDNetwork.output_activation',
    'RandomEncoder.activation',
) + tuple(
    f'{cell}.{name}' for cell in ('GRUCell', 'LSTMCell') for name in (
        'activation', 'recurrent_activation', 'kernel_initializer',
        'recurrent_initializer', 'bias_initializer', 'kernel_regularizer',
        'recurrent_regularizer', 'bias_regularizer', 'kernel_constraint',
        'recurrent_constraint', 'bias_constraint',
    )
)
_LARGEST_LAYER = 2**16
_LARGEST_OBSERVATION = 2**27  # numbers


def check_values():
  """Checks values that the networks' constructors do not check themselves.

  Raises:
    ConfigError: A gain, a name, a core or a function of a cell is not valid.
  """
  gain = gin_parameters.bound('ActorCriticNetwork.head_gain')
  if gain is not None and not (
      isinstance(gain, (int, float)) and not isinstance(gain, bool)
      and 0 < gain <= _LARGEST_GAIN
  ):
    raise ConfigError(
        f'ActorCriticNetwork.head_gain = {gain!r:.40}: choose a number above 0 '
        f'and up to {_LARGEST_GAIN} (the paper: 0.01)'
    )
  for owner in shipped_parts.NETWORKS:
    name = gin_parameters.bound(f'{owner}.name')
    if name is not None and not (
        isinstance(name, str) and _NAME.fullmatch(name)
    ):
      raise ConfigError(
          f'{owner}.name = {name!r:.40}: choose letters, digits and _'
      )
  if gin_parameters.bound('ActorCriticNetwork.core') in ([], ()):
    raise ConfigError(
        'ActorCriticNetwork.core is an empty list: choose None for no core'
    )
  for name in _FUNCTIONS:
    value = gin_parameters.bound(name)
    if value is not None and not isinstance(
        value, (str, gin.config.ConfigurableReference)
    ):
      raise ConfigError(
          f"{name} = {value!r:.40}: choose a name in quotes, such as 'tanh'"
      )


def check_given():
  """Checks that no parameter is bound whose binding would have no effect.

  Raises:
    ConfigError: One is; the message says what to bind instead.
  """
  for name, source in _PASSED_BY_TRAINER.items():
    value = gin_parameters.bound(name)
    if value is not None:
      raise ConfigError(
          f'{name} = {value!r} has no effect, the trainer passes another '
          f'value: bind {source} instead'
      )


def check_layers():
  """Checks the sizes of layers that gin binds.

  Raises:
    ConfigError: One is not a whole number from 1 to `_LARGEST_LAYER`.
  """
  for name, depth in _LAYERS.items():
    value = gin_parameters.bound(name)
    if value is None or isinstance(value, gin.config.ConfigurableReference):
      continue
    for size in _sizes(name, value, value, depth):
      if not 1 <= size <= _LARGEST_LAYER:
        raise ConfigError(
            f'{name} = {value!r}: choose sizes from 1 to {_LARGEST_LAYER}'
        )


def _sizes(name: str, value: Any, part: Any, depth: int) -> list[int]:
  """Flattens lists that are nested `depth` deep.

  Args:
    name: Of the parameter.
    value: Of the parameter, for errors.
    part: The part of `value` that is left to flatten.
    depth: 0 if the part must be a number.

  Raises:
    ConfigError: The lists are nested differently, or hold something else.
  """
  if depth and isinstance(part, (list, tuple)):
    if depth == 1 and name.endswith('conv_layer_params') and len(part) != 3:
      raise ConfigError(f'{name} = {value!r}: choose {_EXAMPLES[2]}')
    return [n for item in part for n in _sizes(name, value, item, depth - 1)]
  if depth or isinstance(part, bool) or not isinstance(part, int):
    raise ConfigError(f'{name} = {value!r}: choose {_EXAMPLES[_LAYERS[name]]}')
  return [part]


def check_observation(config: suites.EnvironmentConfig):
  """Checks the size of an observation, before an environment is made.

  Args:
    config: How environments are preprocessed.

  Raises:
    ConfigError: It has more than `_LARGEST_OBSERVATION` numbers.
  """
  pixels = math.prod(config.image_size or (1,))
  frames = config.stacked_frames or 1
  if pixels * frames > _LARGEST_OBSERVATION:
    name = 'frame_size' if pixels > frames else 'stacked_frames'
    raise ConfigError(
        f'EnvironmentConfig.{name} = {getattr(config, name)!r}: an observation '
        f'would have {pixels * frames} numbers and need too much memory: '
        'choose a smaller one (images of the paper: 84 x 84, 4 in a stack)'
    )


def check_evaluation(observation_bytes: int, episodes: int):
  """Checks that the environments of an evaluation fit into memory.

  Args:
    observation_bytes: Bytes of one observation.
    episodes: Of an evaluation, each in an environment of its own.

  Raises:
    ConfigError: They do not.
  """
  total = psutil.virtual_memory().total
  # Current and final observation, in shared memory and in the environment.
  needed = 4 * observation_bytes * episodes
  if needed > total:
    raise ConfigError(
        f'train_eval.num_eval_episodes = {episodes}: that many environments '
        f'would need {_gib(needed)} of memory, this machine has {_gib(total)}: '
        'choose some 5 to 100'
    )


def _gib(number_of_bytes: int) -> str:
  return f'{number_of_bytes / 2**30:.3g} GiB'
