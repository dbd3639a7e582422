"""The soak itself works: it kills, compares, counts and cleans up."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
from unittest import mock

import command_line
import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[2]

import run_comparison  # noqa: E402

pytestmark = pytest.mark.slow


def test_a_few_kills_and_nothing_is_left(tmp_path):
  plain = (
      'frame_skip', 'sticky_action_probability', 'frame_size', 'stacked_frames'
  )
  result = subprocess.run(
      [sys.executable, str(_ROOT / 'benchmarks' / 'soak.py'), '--json',
       '--minutes=2', '--kills=3', '--pause=1', '--seed=2',
       '--env_name=toy:Corridor',
       *(f'--gin_bindings=EnvironmentConfig.{name} = None' for name in plain)],
      capture_output=True, text=True, timeout=600,
      env={**os.environ, 'TMPDIR': str(tmp_path), 'PYTHONPATH': str(_ROOT)},
  )
  assert result.stdout, result.stderr
  counts = json.loads(result.stdout)
  assert result.returncode == 0 and counts['faults'] == [], counts
  assert counts['kills'] == 3 and counts['bit-identical'] is True
  assert counts['rows'] == counts['iterations'] > 10
  assert counts['rows_lost'] == counts['rows_doubled'] == 0
  assert counts['arrays'] > 50
  assert counts['shared memory seen'] > 0 == counts['shared memory left']
  assert not [p for p in tmp_path.iterdir() if p.name.startswith('soak-')]


@pytest.fixture(name='run', scope='module')
def _run(tmp_path_factory):
  folder = tmp_path_factory.mktemp('compared') / 'run'
  with mock.patch('rnd_agent.training.export.export_policies'):
    result = command_line.main([
        f'--root_dir={folder}',
        *(f'--gin_bindings={b}' for b in command_line.TINY),
    ])
  assert result.status == 0, result.error
  return folder


def test_a_run_is_equal_to_itself(run):
  comparison = run_comparison.compare(run, run, 2)
  assert comparison.faults() == []
  assert comparison.rows == 2 and comparison.arrays > 30


@pytest.mark.parametrize('change, fault', [
    (lambda lines: lines[:2], 'rows_lost: 1'),
    (lambda lines: [*lines, lines[-1]], 'rows_doubled: 1'),
    (lambda lines: [*lines[:2], lines[2].replace('64', '65', 1)],
     'rows_different: 1'),
])
def test_a_row_that_is_not_the_twins_is_found(run, tmp_path, change, fault):
  shutil.copytree(run, tmp_path / 'other')
  path = tmp_path / 'other' / 'metrics.csv'
  lines = path.read_text().splitlines(keepends=True)
  path.write_text(''.join(change(lines)))
  assert fault in run_comparison.compare(tmp_path / 'other', run, 2).faults()


def test_other_weights_and_doubled_steps_are_found(run, tmp_path):
  other = tmp_path / 'other'
  shutil.copytree(run, other)
  for path in (other / 'checkpoints').glob('iteration-1.*'):
    os.replace(path, path.with_name(path.name.replace('-1.', '-2.', 1)))
  for path in list((other / 'train').glob('events*')):
    shutil.copy(path, path.with_name(f'{path.name}.again'))
  comparison = run_comparison.compare(other, run, 2)
  assert any('actor_critic' in name for name in comparison.arrays_different)
  assert any('optimizer' in name for name in comparison.arrays_different)
  assert comparison.steps_doubled > 10
