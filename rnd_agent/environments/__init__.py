"""Environments: names to environments, preprocessing, many in parallel.

  games/    a file for every suite; none knows how it is preprocessed or named
  vector/   many environments at once, in worker processes
  suites    a name to one environment, preprocessed

Only `single`, `specs` and `vector.sharded` import TensorFlow, because they
speak TF-Agents' protocol. A worker process imports `vector.worker`, which
needs none of them; names are therefore loaded here when they are first used.
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
# Modules that users imported from here before there were folders.
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
