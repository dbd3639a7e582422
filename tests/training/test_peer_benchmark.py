"""The comparison with a peer's script, of which a fake only sleeps."""

import json
import pathlib
import subprocess
import sys
import textwrap

import numpy as np
import peer
import pytest

_BENCHMARKS = pathlib.Path(__file__).resolve().parents[2] / 'benchmarks'
# Prints what ppo_rnd_envpool.py prints, with a speed that is of no use, and
# notes the times: on a busy machine it sleeps longer.
_FAKE = """
import argparse, os, time
parser = argparse.ArgumentParser()
parser.add_argument('--env-id', choices=['MontezumaRevenge-v5'], required=True)
for name in ('envs', 'steps', 'iterations-obs-norm-init'):
  parser.add_argument('--num-' + name, type=int, required=True)
parser.add_argument('--total-timesteps', type=int, required=True)
args = parser.parse_args()
os.makedirs('runs/a')
print('Start to initialize observation normalization parameter.....')
time.sleep(0.2 * args.num_iterations_obs_norm_init)
print('End to initialize...')
batch = args.num_envs * args.num_steps
for i in range(args.total_timesteps // batch):
  time.sleep((1.0, 0.3, 0.3, 0.9)[i])
  print(f'global_step={i * batch}, episodic_return=0.0, curiosity_reward=0.1')
  print('SPS:', 7)
  with open(__file__ + '.times', 'a') as file:
    print(time.monotonic(), file=file)
"""
_FAILING = """
print('Start to initialize observation normalization parameter.....')
import no_such_package
"""
# throughput.py without our training, as if it had made so many steps a second.
_OURS = """
from absl import app
import throughput
throughput._measure_in_process = lambda kind, n, precision, core: dict(
    num_environments=n, precision=precision, core=core, steps_per_second=4000.0
)
app.run(throughput.main)
"""
_GAME = 'atari:MontezumaRevenge'


@pytest.fixture(name='script')
def _script(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.delenv('PYTHONUNBUFFERED', raising=False)
  path = tmp_path / 'ppo_rnd_envpool.py'
  path.write_text(_FAKE)
  return path


def _times(script):
  return np.loadtxt(f'{script}.times')


def _throughput(*flags):
  return subprocess.run(
      [sys.executable, '-c', _OURS, '--precision=float32', '--iterations=2',
       '--peer=ppo_rnd_envpool.py', *flags],
      capture_output=True, text=True, timeout=60,
      env={'PYTHONPATH': str(_BENCHMARKS)},
  )


def test_speed_is_the_median_of_the_iterations_after_the_first(script):
  rate = peer.measure(script.name, sys.executable, _GAME, 8, 4, 16)
  # Near 0.3 s. The mean would be 0.5 s, the median with the first 0.6 s.
  seconds = np.median(np.diff(_times(script)))
  assert rate == pytest.approx(8 * 16 / seconds, rel=0.2)
  assert not (script.parent / 'runs').exists()


def test_ratio_for_every_number_of_environments(script):
  flags = (
      '--only=training', '--num_environments=2', '--num_environments=4'
  )
  result = _throughput('--json', *flags)
  assert result.returncode == 0, result.stderr
  rows = json.loads(result.stdout)['results']
  assert [row['num_environments'] for row in rows] == [2, 4]
  for row, times in zip(rows, _times(script).reshape(2, 2)):
    assert row['peer_steps_per_second'] == pytest.approx(
        128 * row['num_environments'] / (times[1] - times[0]), rel=0.2
    )
    assert row['ratio_to_peer'] == 4000 / row['peer_steps_per_second']
  lines = _throughput(*flags).stdout.splitlines()
  assert len(lines) == 2 and lines[1].startswith('peer, 4 environments: ')
  assert lines[1].endswith(' (float32, core none)')


def test_a_peer_that_fails_is_one_error_with_its_last_lines(script):
  script.write_text(_FAILING)
  result = _throughput('--only=training', '--num_environments=2')
  assert result.returncode == 2 and result.stdout == ''
  assert result.stderr.startswith(
      'throughput: error: ppo_rnd_envpool.py ended with status 1 after 0 of 2 '
      'iterations:\n'
  )
  assert result.stderr.splitlines()[-1] == (
      "ModuleNotFoundError: No module named 'no_such_package'"
  )
  assert result.stderr.count('Traceback') == 1  # The peer's, not ours.


def test_only_the_last_lines_of_a_long_standard_error(script):
  script.write_text(textwrap.dedent("""
      import sys
      for i in range(20000):  # More than a pipe holds.
        print('line', i, file=sys.stderr)
  """))
  with pytest.raises(peer.PeerError, match='status 0 after 0 of 3') as caught:
    peer.measure(script.name, sys.executable, _GAME, 8, 3)
  assert str(caught.value).splitlines()[1:] == [
      f'line {i}' for i in range(19995, 20000)
  ]


@pytest.mark.parametrize('change, message', [
    (dict(script='nowhere.py'), 'no file nowhere.py'),
    (dict(python='nowhere/python'), 'no program nowhere/python'),
    (dict(env_name='toy:Corridor'), 'Atari games only, not toy:Corridor'),
])
def test_wrong_arguments_are_found_before_anything_is_measured(
    script, change, message
):
  right = dict(script=script.name, python=sys.executable, env_name=_GAME)
  peer.check(**right)
  with pytest.raises(peer.PeerError, match=message):
    peer.check(**{**right, **change})


def test_a_peer_without_our_training_is_an_error(script):
  result = _throughput('--only=stock')
  assert result.returncode == 2 and '--only=training' in result.stderr
