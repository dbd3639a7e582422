"""Random Network Distillation for TF-Agents.

The public names are imported on first use, so that a process which only steps
environments can import the package without loading TensorFlow.
"""

import importlib

__version__ = '0.1.0'

_MODULES = {
    'ActorCriticNetwork': 'networks',
    'ComputeConfig': 'config',
    'DNCCell': 'dnc',
    'GymnasiumPyEnvironment': 'environments.single',
    'PPOConfig': 'config',
    'RNDConfig': 'config',
    'RNDNetwork': 'networks',
    'RNDPPOAgent': 'rnd_ppo_agent',
    'RNDPPOPolicy': 'rnd_ppo_policy',
    'RandomNetworkDistillation': 'rnd',
    'Rollout': 'rollout',
    'ShardedPyEnvironment': 'environments.sharded',
    'Trainer': 'trainer',
}

__all__ = [*sorted(_MODULES), '__version__']


def __getattr__(name):
  """Imports the module of a public name when the name is first used."""
  if name not in _MODULES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  module = importlib.import_module(f'{__name__}.{_MODULES[name]}')
  value = getattr(module, name)
  globals()[name] = value
  return value


def __dir__():
  """Returns the module's names, the public ones not yet imported included."""
  return sorted({*globals(), *__all__})
