"""Agent steps per second of vector environments, random actions, no learning.

Compares this package with ale-py's vector environment and EnvPool (`pip install
envpool`), each with as much of the paper's preprocessing as it offers. What is
not installed is left out.
"""

import importlib.util
import re
import statistics
import time

import numpy as np

_STEPS = 128
_REPETITIONS = 5


def measure(env_name, num_environments):
  """Measures every implementation in turn, several times.

  Args:
    env_name: `atari:Name`.
    num_environments: how many are stepped together.

  Returns:
    `{implementation: median of agent steps per second}`.
  """
  makers = {'rnd_agent': _ours}
  if env_name.startswith('atari:'):
    makers['ale_py'] = _ale_py
    if importlib.util.find_spec('envpool'):
      makers['envpool'] = _envpool
  steppers = {
      name: maker(env_name, num_environments)
      for name, maker in makers.items()
  }
  rates = {name: [] for name in steppers}
  for _ in range(_REPETITIONS):
    for name, (step, num_actions, _) in steppers.items():
      rng = np.random.default_rng(0)
      start = time.monotonic()
      for _ in range(_STEPS):
        step(rng.integers(num_actions, size=num_environments))
      rates[name].append(
          _STEPS * num_environments / (time.monotonic() - start)
      )
  for _, _, close in steppers.values():
    close()
  return {name: statistics.median(r) for name, r in rates.items()}


def _ours(env_name, num_environments):
  from rnd_agent.environments.vector import sharded

  environment = sharded.ShardedPyEnvironment(
      env_name, num_environments, num_groups=1
  )
  environment.reset()
  return (
      environment.step_and_reset,
      int(environment.action_spec().maximum) + 1,
      environment.close,
  )


def _ale_py(env_name, num_environments):
  from ale_py import vector_env

  game = env_name.partition(':')[2]
  environment = vector_env.AtariVectorEnv(
      re.sub('(?<=[a-z])(?=[A-Z])', '_', game).lower(), num_environments,
      repeat_action_probability=0.25, noop_max=0, use_fire_reset=False,
      max_num_frames_per_episode=18000,
  )
  environment.reset(seed=0)
  return (
      environment.step, environment.single_action_space.n, environment.close
  )


def _envpool(env_name, num_environments):
  import envpool

  environment = envpool.make_gymnasium(
      f"{env_name.partition(':')[2]}-v5", num_envs=num_environments,
      repeat_action_probability=0.25, episodic_life=False,
      max_episode_steps=4500,
  )
  environment.reset()
  return environment.step, environment.action_space.n, environment.close
