"""Estimates how many weights a config's networks have, before they are built.

Convolutions are not counted: only dense layers between two large ones, or a
DNC's memory with very many rows, can fill a machine's memory.
"""

from __future__ import annotations

import math
from typing import Any, Optional, Sequence

import gin
import gymnasium

from rnd_agent.common import machine
from rnd_agent.settings import gin_parameters
from rnd_agent.settings.gin_files import ConfigError

# The default convolutions shrink each side of an image by this factor and have
# this many channels at last.
_SHRUNK_BY, _CHANNELS = 8, 64
_GATES = {'GRUCell': 3, 'LSTMCell': 4}
# In training: each weight, its gradient, and Adam's two averages.
_COPIES = 4
_BYTES = 4  # float32
# Bonuses whose networks are RND's.
_DISTILLATION = (None, 'RandomNetworkDistillation', 'NovelD')


def parts(space: gymnasium.Space) -> dict[str, gymnasium.spaces.Box]:
  """The parts of an observation by their names; '' where there is only one.

  Args:
    space: a Box, or a Dict of Boxes.
  """
  if isinstance(space, gymnasium.spaces.Dict):
    return dict(space.spaces)
  return {'': space}


def check(
    space: gymnasium.Space, num_environments: int = 1, copies: int = _COPIES
) -> None:
  """Checks that the networks fit into the memory that is free.

  Args:
    space: of observations, a Box or a Dict of Boxes.
    num_environments: each of which has a recurrent state.
    copies: of each weight; 1 where nothing is trained.

  Raises:
    ConfigError: they do not; the message says what to lower.
  """
  needed = _BYTES * (
      copies * weights(space) + num_environments * _state_size()
  )
  free = machine.available_memory()
  if needed > free:
    raise ConfigError(
        f'the networks need about {needed / 2**30:.3g} GiB of memory, '
        f'{free / 2**30:.3g} are free: choose smaller layers, see '
        'ActorCriticNetwork.fc_layer_params, the core\'s sizes and '
        'RandomNetworkDistillation.predictor_hidden_units'
    )


def weights(space: gymnasium.Space) -> int:
  """Estimates the number of weights from what gin binds.

  Args:
    space: of observations, a Box or a Dict of Boxes.

  Returns:
    The weights of the dense layers and the recurrent core.
  """
  shapes = [part.shape for part in parts(space).values()]
  final = _value('ActorCriticNetwork.final_layer_params', ())
  # Of none at all the network itself says that there must be some.
  first, *dense = _value(
      'ActorCriticNetwork.fc_layer_params', (256, 448)
  ) or (0,)
  total = sum(
      _dense([_flat(shape, 'ActorCriticNetwork.conv_layer_params'), first])
      for shape in shapes
  )
  trunk = [len(shapes) * first, *dense]
  total += _dense(trunk)
  width = trunk[-1]
  for name in _cells():
    units = _units(name)
    gates = _GATES.get(name, 4)
    total += gates * units * (width + units + _words_read(name))
    width = units
  total += _dense([width, *final])
  width = [width, *final][-1]
  total += 2 * width * width  # The branches.
  if _reference('train_eval.bonus') not in _DISTILLATION:
    return total  # The size of another bonus is not known.
  # It looks at one part.
  return total + max(map(_weights_of_distillation, shapes))


def _weights_of_distillation(shape: Sequence[int]) -> int:
  """Of predictor and target, for an observation of this shape."""
  features = _value('RandomNetworkDistillation.feature_dim', 512)
  hidden = _value(
      'RandomNetworkDistillation.predictor_hidden_units', (512, 512)
  )
  encoded = _reference('RandomNetworkDistillation.encoder') is not None
  owner = 'RandomEncoder' if encoded else 'RNDNetwork'
  encoder = [_flat(shape, f'{owner}.conv_layer_params')]
  if encoded and len(shape) == 1:
    encoder = _value('RandomEncoder.fc_layer_params', (256,))[-1:]
  if encoded or len(shape) == 1:
    encoder += _value('RNDNetwork.fc_layer_params', (256,))
  return sum(  # Target and predictor.
      _dense([*encoder, *layers, features]) for layers in ((), hidden)
  )


def _state_size() -> int:
  """Entries of a DNC's link matrix; other recurrent states are small."""
  if 'DNCCell' not in _cells():
    return 0
  return 2 * _value('DNCCell.memory_size', 256) ** 2


def _cells() -> list[str]:
  """The names of the recurrent core's cells, from below."""
  core = _value('ActorCriticNetwork.core', None)
  references = core if isinstance(core, (list, tuple)) else [core]
  return [
      r.configurable.name for r in references
      if isinstance(r, gin.config.ConfigurableReference)
  ]


def _units(name: str) -> int:
  if name == 'DNCCell':
    return _value('DNCCell.controller_units', 256)
  return _value(f'{name}.units', 0)


def _words_read(name: str) -> int:
  if name != 'DNCCell':
    return 0
  return _value('DNCCell.num_read_heads', 4) * _value('DNCCell.word_size', 64)


def _flat(shape: Sequence[int], name: str) -> int:
  """Inputs of the first dense layer.

  Args:
    shape: of an observation, a vector or an image.
    name: of the parameter with the convolutions.
  """
  if len(shape) == 1:
    return shape[0]
  height, width = shape[:2]
  layers = _value(name, None)
  if layers is None:
    return math.ceil(height / _SHRUNK_BY) * math.ceil(
        width / _SHRUNK_BY) * _CHANNELS
  for _, kernel, stride in layers:
    height, width = (
        max(1, (side - kernel) // stride + 1) for side in (height, width)
    )
  return height * width * (layers[-1][0] if layers else 1)


def _dense(sizes: Sequence[int]) -> int:
  """Weights of dense layers of these sizes, the first one the input."""
  return sum(a * b for a, b in zip(sizes, sizes[1:]))


def _reference(name: str) -> Optional[str]:
  """Name of the class that gin binds a parameter to; None for no class."""
  value = gin_parameters.bound(name)
  if isinstance(value, gin.config.ConfigurableReference):
    return value.configurable.name
  return None


def _value(name: str, default: Any) -> Optional[Any]:
  """The value that gin binds a parameter to; the default for a reference."""
  value = gin_parameters.bound(name, default)
  if name.endswith('.core') or not isinstance(
      value, gin.config.ConfigurableReference
  ):
    return value
  return default
