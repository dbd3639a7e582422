"""Training on TF-Agents' own ParallelPyEnvironment, for comparison.

In a process of its own: it forks, which a process that has tested much else
should not.
"""

import csv
import pathlib
import subprocess
import sys

import pytest

_TESTS = pathlib.Path(__file__).resolve().parents[1]
_TRAIN = """
import gin
from rnd_agent.training import builders
from rnd_agent.training import train_eval as train_eval_lib
from rnd_agent.training import export
from rnd_agent.settings import gin_files
export.export_policies = lambda *unused: None  # Slow, and not looked at here.
for iterations in (2, 3):
  gin.clear_config()
  gin_files.parse([], [
      *command_line.TINY, 'EnvironmentConfig.max_episode_steps = 5',
      "train_eval.parallel_environments = 'tf_agents'",
      f'train_eval.num_iterations = {iterations}',
  ])
  train_eval_lib.train_eval(root_dir=sys.argv[1])
"""
_FAIL = """
import functools, os, signal
import numpy as np
import toy_environments
from rnd_agent.environments import errors, sharded, single

def step_until_it_fails(source, before=lambda env: None):
  env = single.make_parallel(source, 2)
  env.reset()
  before(env)
  try:
    for _ in range(30):
      env.step(np.zeros(2, np.int64))
  except errors.EnvironmentWorkerError as error:
    print(str(error).splitlines()[0])
  else:
    print('no failure')
  finally:
    env.close()

def signalled(number, env):
  for process in env.envs:
    os.kill(process._process.pid, number)

os.mkdir(sys.argv[1])
step_until_it_fails('toy:Recall', functools.partial(signalled, signal.SIGINT))
step_until_it_fails('toy:Recall', functools.partial(signalled, signal.SIGKILL))
class Loose(toy_environments.Walk):
  def step(self, action):
    raise OSError('the cable is loose')
step_until_it_fails(lambda seed: Loose())

theirs = single.make_parallel(toy_environments.walk, 3, seed=4)
ours = sharded.ShardedPyEnvironment(toy_environments.walk, 3, 1, seed=4)
for env in (theirs, ours):
  env.reset()
rng = np.random.default_rng(0)
for _ in range(40):
  actions = rng.integers(0, 3, 3)
  for one, other in zip(theirs.step(actions), ours.step(actions)):
    np.testing.assert_array_equal(one, other)
episodes = theirs.episodes()
assert episodes == ours.episodes() and len(episodes) > 5
assert theirs.episodes() == []
for env in (theirs, ours):
  env.close()
"""


def _run(code, folder):
  path = [str(_TESTS), str(_TESTS / 'environments'), *sys.path]
  result = subprocess.run(
      [sys.executable, '-c',
       f'import sys; sys.path[:] = {path!r}\nimport command_line\n{code}',
       str(folder)],
      capture_output=True, text=True, timeout=120, check=False,
  )
  assert result.returncode == 0, result.stderr
  return result.stdout


@pytest.mark.slow
def test_two_iterations_and_one_more(tmp_path):
  _run(_TRAIN, tmp_path / 'run')
  with open(tmp_path / 'run' / 'metrics.csv', encoding='utf-8') as file:
    rows = list(csv.DictReader(file))
  assert [row['iteration'] for row in rows] == ['1', '2', '3']
  # Of 32 rows in an iteration some lead from an episode to the next.
  assert 2 * 24 <= int(rows[1]['env_steps']) < 64
  assert float(rows[1]['episode_length_mean']) == 5
  assert int(rows[1]['episodes']) >= 8
  assert float(rows[1]['rooms_mean']) >= 1
  assert all(float(row['intrinsic_reward_mean']) > 0 for row in rows)


def test_same_episodes_as_ours_and_errors_that_name_a_cause(tmp_path):
  lines = _run(_FAIL, tmp_path / 'x').splitlines()
  assert lines[1].startswith(
      "a process of TF-Agents' ParallelPyEnvironment has died ("
  )
  assert [lines[0], *lines[2:]] == [
      'no failure',
      "an environment of TF-Agents' ParallelPyEnvironment failed: OSError: the "
      'cable is loose',
  ]
