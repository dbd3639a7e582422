"""Agent steps per second of every suite with random actions, no learning.

Compares this package (a few processes over shared memory) with TF-Agents'
ParallelPyEnvironment (a process per environment): the same number of
environments, seeds and preprocessing, measured in turn in one run. A suite that
is not installed is named, not measured.

python benchmarks/environment_suites.py [environments [name ...]]
"""

import statistics
import time

from absl import logging
import numpy as np

from rnd_agent.common import startup  # isort: skip  (it chooses Keras 2)
from tf_agents.system import system_multiprocessing

from rnd_agent.environments import errors
from rnd_agent.environments import single
from rnd_agent.environments import suites
from rnd_agent.environments.vector import sharded

_NAMES = (
    'gymnasium:MountainCar-v0',
    'gym:MountainCar-v0',
    'gymnasium:MountainCarContinuous-v0',
    'gymnasium:LunarLander-v3',
    'minigrid:MiniGrid-MultiRoom-N6-v0',
    'minigrid:MiniGrid-KeyCorridorS3R3-v0',
    'ple:PixelCopter',
    'mario:SuperMarioBros-1-1-v0',
    'atari:MontezumaRevenge',
)
_SECONDS = 1.0  # per measurement
_REPETITIONS = 5


def measure(name, num_environments):
  """Measures this package and TF-Agents in turn, several times.

  Args:
    name: of the environment.
    num_environments: how many are stepped together.

  Returns:
    Two medians of agent steps per second, over all environments: of this
    package and of TF-Agents.

  Raises:
    MissingPackageError: the suite is not installed.
  """
  suites.check_name(name)
  ours = sharded.ShardedPyEnvironment(name, num_environments)
  theirs = single.make_parallel(name, num_environments)
  try:
    rates = [
        (_rate(ours), _rate(theirs)) for _ in range(_REPETITIONS + 1)
    ]
  finally:
    ours.close()
    theirs.close()
  return [statistics.median(r) for r in zip(*rates[1:])]  # The first warms up.


def _rate(environment):
  """Agent steps per second through TF-Agents' interface, which both have."""
  rng = np.random.default_rng(0)
  spec = environment.action_spec()
  shape = (environment.batch_size, *spec.shape)
  # Actions between the bounds; a whole number may also be the upper one.
  end = spec.maximum + (spec.dtype == np.int64)
  environment.reset()
  steps, start = 0, time.monotonic()
  while time.monotonic() - start < _SECONDS:
    actions = rng.uniform(spec.minimum, end, shape)
    environment.step(actions.astype(spec.dtype))
    steps += environment.batch_size
  return steps / (time.monotonic() - start)


def main(arguments):
  startup.quiet_imports()
  logging.set_verbosity(logging.WARNING)
  num_environments = int(arguments[1]) if arguments[1:] else 16
  print(f'{num_environments} environments, agent steps per second\n')
  print('| environment | rnd_agent | TF-Agents | ratio |')
  print('|---|---|---|---|')
  for name in arguments[2:] or _NAMES:
    try:
      ours, theirs = measure(name, num_environments)
    except errors.MissingPackageError as error:
      print(f'| `{name}` | - | - | {error} |', flush=True)
      continue
    print(
        f'| `{name}` | {ours:,.0f} | {theirs:,.0f} | {ours / theirs:.2f} |',
        flush=True,
    )


if __name__ == '__main__':
  system_multiprocessing.handle_main(main)
