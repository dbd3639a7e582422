"""Every example runs to its end, with less to do than by default."""

import csv
import os
import pathlib
import re
import subprocess
import sys
from unittest import mock

import nbclient
import nbformat
import pytest

pytestmark = pytest.mark.slow

_ROOT = pathlib.Path(__file__).resolve().parents[1]


def _run(name, *arguments, program=None, cwd=_ROOT):
  command = [sys.executable]
  command += ['-c', program] if program else [str(_ROOT / 'examples' / name)]
  result = subprocess.run(
      [*command, *arguments], cwd=cwd, capture_output=True, text=True,
      timeout=300,
      env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3',
           'PYTHONPATH': str(_ROOT)},
  )
  assert result.returncode == 0, result.stderr
  return result.stdout


@pytest.mark.parametrize('name, iterations, solved', [
    ('ppo_corridor', 20, False), ('rnd_corridor', 60, True),
])
def test_a_ppo_script_before_and_after(name, iterations, solved):
  output = _run(f'{name}.py', f'--iterations={iterations}')
  found = re.search(rf'iteration {iterations}  return (\d\.\d\d)', output)
  assert found and (float(found[1]) > 0.9) == solved


def test_the_scripts_differ_by_what_the_docs_show():
  """One import and a constructor, as docs/tf_agents.md says."""
  before, after = (
      (_ROOT / 'examples' / f'{name}_corridor.py').read_text()
      for name in ('ppo', 'rnd')
  )
  # Nothing differs behind the constructor.
  assert before.partition('num_epochs=10')[2] == (
      after.partition('num_epochs=10')[2]
  )
  manual = (_ROOT / 'docs' / 'tf_agents.md').read_text()
  added = set(after.splitlines()) - set(before.splitlines())
  code = [x for x in added if '=' in x and not x.startswith(('"', '#'))]
  assert code and all(x.strip() in manual for x in code), code


def test_the_notebook_runs_from_its_first_cell_to_its_last(tmp_path):
  """Its curves and its film are shown; what is committed has no outputs."""
  path = _ROOT / 'examples' / 'rnd_agent.ipynb'
  notebook = nbformat.read(path, as_version=4)
  nbformat.validate(notebook)
  code = [cell for cell in notebook.cells if cell.cell_type == 'code']
  assert not any(cell.outputs or cell.execution_count for cell in code)
  with mock.patch.dict(os.environ, PYTHONPATH=str(_ROOT)):
    nbclient.NotebookClient(
        notebook, timeout=300, resources={'metadata': {'path': str(tmp_path)}},
    ).execute()
  shown = [
      kind for cell in code for output in cell.outputs
      for kind in output.get('data', ())
  ]
  assert 'image/png' in shown and 'text/html' in shown
  with open(tmp_path / 'curves.csv', newline='') as lines:
    assert len(list(csv.reader(lines))) > 2
  for folder, solved in (('corridor', True), ('no_bonus', False)):
    with open(tmp_path / 'runs' / folder / 'metrics.csv', newline='') as lines:
      *_, last = csv.DictReader(lines)
    assert (float(last['episode_return_mean']) > 0.9) == solved


def test_dqn_with_the_bonus():
  """The first 50 iterations: far beyond what epsilon-greedy finds."""
  output = _run('dqn_with_bonus.py', '--iterations=50')
  assert re.search(r'iteration 50  steps 6400 .* furthest cell \d+', output)


def test_an_exported_policy(tmp_path):
  program = '''
import sys
import tensorflow as tf
from tf_agents.policies import policy_saver
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts
from rnd_agent.training import builders
agent = builders.build_agent(
    ts.time_step_spec(tf.TensorSpec([3], tf.float32)),
    tensor_spec.BoundedTensorSpec([], tf.int64, 0, 3),
    num_epochs=1, num_minibatches=1,
)
policy_saver.PolicySaver(agent.policy).save(sys.argv[1])
'''
  _run(None, str(tmp_path / 'greedy'), program=program)
  # No trace of this package: another folder, and the import refused.
  runner = f'''
import sys
sys.modules['rnd_agent'] = None
sys.argv[0] = 'run_exported_policy.py'
exec(open(r'{_ROOT}/examples/run_exported_policy.py').read())
'''
  output = _run(
      None, f'--policy={tmp_path}/greedy', program=runner, cwd=tmp_path
  )
  assert len(re.findall(r'^action [0-3] [0-3]$', output, re.M)) == 5
