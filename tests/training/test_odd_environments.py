"""A fuzz of the door: what 330 environments of other people do to a run.

Each either trains two iterations on exactly what it returned, or ends with one
line and the status of its kind. `ODD_ENVIRONMENTS=330` trains all of them;
without it every twentieth is trained, and all are stepped.
"""

import os

import command_line
from gymnasium import spaces
import numpy as np
import odd_environments
import pytest

from rnd_agent.environments import suites

_TRAINED = int(os.environ.get('ODD_ENVIRONMENTS', 16))


def _name(number):
  return f'gymnasium:odd_environments:Odd{number}-v0'


def _plain(observation, space):
  """What networks should read of an observation, written independently."""
  while isinstance(space, (spaces.Dict, spaces.Tuple)) and len(space) == 1:
    key = next(iter(space.spaces)) if isinstance(space, spaces.Dict) else 0
    observation, space = observation[key], space[key]
  if isinstance(space, spaces.Dict) and 'camera' in space.spaces:
    parts = {'camera': _plain(observation['camera'], space['camera'])}
    state, seen = space['state'], observation['state']
    if isinstance(state, spaces.Box) and len(state.shape) == 3:
      parts['state'] = _plain(seen, state)
    else:
      parts['vector'] = spaces.flatten(state, seen)
    return parts
  if not isinstance(space, spaces.Box) or not space.shape:
    return spaces.flatten(space, observation)
  if space.shape == (4, 84, 84):
    return np.transpose(observation, (1, 2, 0))
  return observation


def _assert_equal(steps, expected):
  if isinstance(steps[0], dict):
    for name in expected[0]:
      _assert_equal([x[name] for x in steps], [x[name] for x in expected])
    assert set(steps[0]) == set(expected[0])
    return
  np.testing.assert_array_equal(
      np.float64(steps), np.float64(np.asarray(expected, steps[0].dtype))
  )


@pytest.mark.parametrize('number', range(odd_environments.COUNT))
def test_it_gives_what_it_gave_or_one_line(number):
  try:
    suites.check_environment(_name(number))
    env = suites.make(_name(number), seed=1)
  except ValueError as error:
    assert '\n' not in str(error)
    return
  odd = env.unwrapped
  env.action_space.seed(0)
  try:
    for _ in range(3):
      odd.given.clear()
      steps = [env.reset()[0]]
      ended = False
      while not ended:
        observation, _, terminated, truncated, _ = env.step(
            env.action_space.sample())
        steps.append(observation)
        ended = terminated or truncated
      expected = [_plain(x, odd.observation_space) for x in odd.given]
      _assert_equal(steps, expected)
  except (ValueError, RuntimeError) as error:
    assert '\n' not in str(error) or 'out of' in str(error)


@pytest.mark.slow
@pytest.mark.usefixtures('no_export')
@pytest.mark.parametrize(
    'number', sorted({
        *range(0, odd_environments.COUNT, odd_environments.COUNT // _TRAINED),
        66, 265,  # The old interface, and observations that are changed.
    }))
def test_it_trains_or_ends_with_one_line(number, tmp_path):
  result = command_line.main([
      f'--root_dir={tmp_path / "run"}',
      *(f'--gin_bindings={binding}' for binding in (
          *command_line.TINY, f"train_eval.env_name = '{_name(number)}'")),
  ])
  if result.status == 0:
    assert 'finished after iteration 2' in result.output
    return
  told = [
      line for line in result.error.splitlines()
      if line.startswith('train_eval: error: ')
  ]
  assert len(told) == 1 and result.status in (1, 2, 3)
  # Status 1, with its traceback, is for what the environment's code raised.
  if result.status == 1:
    assert 'RuntimeError: out of memory' in told[0]
  else:
    assert 'Traceback' not in result.error
