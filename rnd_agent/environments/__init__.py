"""Environments: made from a name, preprocessed, many in parallel.

  games/    a file for every suite, without names and preprocessing
  vector/   many environments at once, in worker processes
  suites    makes one environment from its name and preprocesses it

Only `single`, `specs` and `vector.sharded` import TensorFlow, because they
implement TF-Agents' interface. A worker process imports `vector.worker`, which
needs none of them: a public name's module is imported when it is first used.
"""

import importlib

_MODULE_OF = {
    'Corridor': 'games.corridor',
    'EnvironmentConfig': 'environment_config',
    'EnvironmentWorkerError': 'errors',
    'Episode': 'vector.worker',
    'GymnasiumPyEnvironment': 'single',
    'MissingPackageError': 'errors',
    'ShardedPyEnvironment': 'vector.sharded',
    'Transition': 'vector.sharded',
    'UnknownEnvironmentError': 'errors',
    'make': 'suites',
    'make_parallel': 'single',
}
# Modules that were in this folder in former versions, by today's place.
_MOVED = {
    'atari': 'games.atari',
    'corridor': 'games.corridor',
    'gym_suite': 'games.gym_suite',
    'mario_suite': 'games.mario_suite',
    'memory': 'vector.memory',
    'minigrid_suite': 'games.minigrid_suite',
    'ple_suite': 'games.ple_suite',
    'pool': 'vector.pool',
    'recall': 'games.recall',
    'sharded': 'vector.sharded',
    'shares': 'vector.shares',
    'worker': 'vector.worker',
}

__all__ = list(_MODULE_OF)


def __getattr__(name):
  """Imports the module of a public name when the name is first used."""
  if name in _MOVED:
    return importlib.import_module(f'{__name__}.{_MOVED[name]}')
  if name not in _MODULE_OF:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  module = importlib.import_module(f'{__name__}.{_MODULE_OF[name]}')
  return getattr(module, name)


def __dir__():
  return sorted(set(globals()) | set(__all__))
