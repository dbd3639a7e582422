"""Environments: names to environments, preprocessing, many in parallel.

Nothing here imports TensorFlow except `sharded`, `single` and `specs`, which
speak TF-Agents' protocol; their names are therefore loaded when first used.
Worker processes import `worker`, `suites` and `wrappers` only.
"""

import importlib

_MODULE_OF = {
    'Corridor': 'corridor',
    'EnvironmentConfig': 'environment_config',
    'EnvironmentWorkerError': 'errors',
    'Episode': 'worker',
    'GymnasiumPyEnvironment': 'single',
    'MissingPackageError': 'errors',
    'ShardedPyEnvironment': 'sharded',
    'Transition': 'sharded',
    'UnknownEnvironmentError': 'errors',
    'make': 'suites',
    'make_parallel': 'single',
}

__all__ = list(_MODULE_OF)


def __getattr__(name):
  if name not in _MODULE_OF:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  module = importlib.import_module(f'{__name__}.{_MODULE_OF[name]}')
  return getattr(module, name)


def __dir__():
  return sorted(set(globals()) | set(__all__))
