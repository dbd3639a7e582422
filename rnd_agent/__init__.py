"""Random Network Distillation for TF-Agents.

The public names are imported on first use, so that a process which only steps
environments can import the package without loading TensorFlow.
"""

import importlib

from rnd_agent.common import keras_choice

keras_choice.choose_keras_2()

__version__ = '0.1.0'

_MODULES = {
    'ActorCriticNetwork': 'networks',
    'Bonus': 'bonuses.base',
    'ComputeConfig': 'config',
    'DNCCell': 'layers.dnc',
    'DRND': 'bonuses.drnd',
    'DynamicsBonus': 'bonuses.dynamics',
    'E3B': 'bonuses.e3b',
    'EpisodicCounts': 'bonuses.counts',
    'GymnasiumPyEnvironment': 'environments.single',
    'LifelongCounts': 'bonuses.counts',
    'NovelD': 'bonuses.noveld',
    'PPOConfig': 'config',
    'ProductOfBonuses': 'bonuses.mixtures',
    'RNDConfig': 'config',
    'RNDNetwork': 'networks',
    'RNDPPOAgent': 'rnd_ppo_agent',
    'RNDPPOPolicy': 'hosting.policy',
    'RandomNetworkDistillation': 'bonuses.rnd',
    'Rollout': 'learning.rollout',
    'Steps': 'learning.rollout',
    'ShardedPyEnvironment': 'environments.vector.sharded',
    'SumOfBonuses': 'bonuses.mixtures',
    'Trainer': 'training.trainer',
}
# Modules that were in this folder in former versions, by today's place.
_MOVED = {
    'builders': 'training.builders',
    'collector': 'training.collector',
    'compute': 'learning.compute',
    'dnc': 'layers.dnc',
    'evaluation': 'training.evaluation',
    'host': 'hosting.trajectories',
    'losses': 'learning.losses',
    'normalizers': 'bonuses.normalizers',
    'optimizers': 'learning.optimizers',
    'returns': 'learning.returns',
    'rnd': 'bonuses.rnd',
    'rnd_ppo_policy': 'hosting.policy',
    'rollout': 'learning.rollout',
    'targets': 'learning.targets',
    'train_eval_lib': 'training.train_eval',
    'trainer': 'training.trainer',
}

__all__ = [*sorted(_MODULES), '__version__']


def __getattr__(name):
  """Imports the module of a public name when the name is first used."""
  if name in _MOVED:
    return importlib.import_module(f'{__name__}.{_MOVED[name]}')
  if name not in _MODULES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  module = importlib.import_module(f'{__name__}.{_MODULES[name]}')
  value = getattr(module, name)
  globals()[name] = value
  return value


def __dir__():
  """Returns the module's names, also the public ones not imported yet."""
  return sorted({*globals(), *__all__})
