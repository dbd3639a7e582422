"""For comparison: CleanRL's RND with EnvPool, a copy of the user's, unmodified.

The script reports a mean over everything since its start. Here the times at
which these reports arrive, one after each iteration, give the speed instead.
"""

import os
import shutil
import statistics
import subprocess
import tempfile
import time

_LINES = 5  # of a failed script's standard error that are shown


class PeerError(RuntimeError):
  """The peer cannot be run, or it failed."""


def check(script, python, env_name):
  """Raises `PeerError` if one of the arguments of `measure` cannot be right."""
  if not os.path.isfile(script):
    raise PeerError(f'--peer: there is no file {script}')
  if not shutil.which(python):
    raise PeerError(f'--peer_python: there is no program {python}')
  if not env_name.startswith('atari:'):
    raise PeerError(f'--peer plays Atari games only, not {env_name}')


def measure(
    script, python, env_name, num_environments, iterations, rollout_length=128
):
  """Trains some iterations in a temporary folder; the first is not timed.

  Args:
    script: path of ppo_rnd_envpool.py.
    python: the interpreter that has the script's packages.
    env_name: `atari:Name`.
    num_environments: B.
    iterations: how many, at least 2.
    rollout_length: T.

  Returns:
    Agent steps per second, the median over the iterations.

  Raises:
    PeerError: the script failed, or reported other than once per iteration.
  """
  steps = num_environments * rollout_length
  command = [
      os.path.abspath(shutil.which(python)), '-u', os.path.abspath(script),
      f"--env-id={env_name.partition(':')[2]}-v5",
      f'--num-envs={num_environments}', f'--num-steps={rollout_length}',
      f'--total-timesteps={iterations * steps}',
      '--num-iterations-obs-norm-init=1',  # Random steps, which are not timed.
  ]
  with (
      tempfile.TemporaryDirectory() as folder,
      tempfile.TemporaryFile('w+', errors='replace') as stderr,
  ):
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=stderr, text=True,
        errors='replace',
    ) as process:
      times = [
          time.monotonic() for line in process.stdout if line.startswith('SPS:')
      ]
    stderr.seek(0)
    last_lines = ''.join(stderr.readlines()[-_LINES:]).rstrip()
  if process.returncode or len(times) != iterations:
    raise PeerError(
        f'{script} ended with status {process.returncode} after {len(times)} '
        f'of {iterations} iterations:\n{last_lines}'
    )
  return steps / statistics.median(
      after - before for before, after in zip(times, times[1:])
  )
