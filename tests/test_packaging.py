import ast
import importlib
import importlib.metadata
import importlib.util
import inspect
import pathlib
import re
import shutil
import subprocess
import sys

import gin
import pytest

import rnd_agent
from rnd_agent import environments
from rnd_agent.settings import gin_files
from rnd_agent.settings import gin_parameters

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_PACKAGE = _ROOT / 'rnd_agent'
_CONFIGS = sorted((_ROOT / 'configs').glob('**/*.gin'))

def _module_name(path):
  parts = path.relative_to(_ROOT).with_suffix('').parts
  return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def _sources():
  scripts = [_ROOT / f'{name}.py' for name in ('train_eval', 'play', 'plot')]
  paths = [*_PACKAGE.rglob('*.py'), *(p for p in scripts if p.exists())]
  return {_module_name(path): path for path in paths}


def _imports(path, known, top_level_only=False):
  """Returns the modules that a file imports, as precisely as it says."""
  names = set()
  tree = ast.parse(path.read_text())
  for node in tree.body if top_level_only else ast.walk(tree):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{path} imports relatively'
      for alias in node.names:
        inner = f'{node.module}.{alias.name}'
        names.add(inner if inner in known else node.module)
  return names


def _own_imports(top_level_only=False):
  sources = _sources()
  return {
      name: _imports(path, sources, top_level_only) & set(sources)
      for name, path in sources.items()
  }


def _lint_imports(config):
  return subprocess.run(
      [sys.executable, '-c', 'from importlinter.cli import lint_imports_command'
       '; lint_imports_command()', '--config', str(config), '--no-cache'],
      cwd=_ROOT, capture_output=True, text=True, check=False,
  )


def test_folders_are_layers_that_import_only_from_below():
  result = _lint_imports('pyproject.toml')
  assert result.returncode == 0, result.stdout + result.stderr


def test_the_check_of_layers_can_fail(tmp_path):
  text = (_ROOT / 'pyproject.toml').read_text()
  first, second = '"rnd_agent.training",', '"rnd_agent.learning",'
  assert first in text and second in text
  config = tmp_path / 'pyproject.toml'
  config.write_text(text.replace(first, '@').replace(second, first)
                    .replace('@', second))
  result = _lint_imports(config)
  assert result.returncode, 'layers the wrong way round were accepted'


def test_imports_at_the_top_have_no_cycle():
  imports = _own_imports(top_level_only=True)
  done, open_ = set(), []

  def visit(name):
    assert name not in open_, ' -> '.join([*open_, name])
    if name not in done:
      open_.append(name)
      for other in sorted(imports[name]):
        visit(other)
      open_.pop()
      done.add(name)

  for name in sorted(imports):
    visit(name)


def _loads_tensorflow(statement):
  code = f"{statement}\nimport sys; print('tensorflow' in sys.modules)"
  result = subprocess.run(
      [sys.executable, '-c', code], cwd=_ROOT, capture_output=True, text=True,
      check=True, timeout=120,
  )
  return result.stdout.strip() == 'True'


@pytest.mark.parametrize('statement', [
    'import rnd_agent; dir(rnd_agent); rnd_agent.__version__',
    'from rnd_agent import PPOConfig, RNDConfig',
    'import rnd_agent.runs.tables, rnd_agent.runs.episodes',
    'import rnd_agent.settings.gin_files',
    'import rnd_agent.training.train_eval',
    'import rnd_agent.environments.suites, rnd_agent.environments.wrappers',
    'import train_eval',
    'import play, rnd_agent.viewing.panel, rnd_agent.viewing.window',
    'import plot',
])
def test_no_tensorflow(statement):
  assert not _loads_tensorflow(statement)


def test_worker_loads_no_tensorflow():
  assert not _loads_tensorflow('import rnd_agent.environments.vector.worker')


def test_modules_are_importable_from_where_they_were_before_the_folders():
  for package in (rnd_agent, environments):
    for old, new in package._MOVED.items():
      if old == 'mario_suite' and not importlib.util.find_spec(
          'gym_super_mario_bros'
      ):
        continue
      module = importlib.import_module(f'{package.__name__}.{new}')
      assert getattr(package, old) is module


def test_unknown_public_name():
  with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
    _ = rnd_agent.Nothing


def test_public_names_are_listed():
  assert set(rnd_agent.__all__) <= set(dir(rnd_agent))
  assert len(rnd_agent.__all__) == 24


def test_public_names_resolve():
  for name in rnd_agent.__all__:
    assert getattr(rnd_agent, name) is not None


@pytest.mark.parametrize('path', _CONFIGS, ids=lambda path: path.stem)
def test_config_is_read_strictly(path):
  importlib.import_module('rnd_agent.training.builders')
  train_eval_lib = importlib.import_module('rnd_agent.training.train_eval')
  gin.clear_config()
  try:
    gin_files.parse([str(path)])
    train_eval_lib.checked_config(gin.get_bindings('train_eval'))
  finally:
    gin.clear_config()


def test_base_recipe_equals_the_defaults():
  from rnd_agent.config import PPOConfig
  from rnd_agent.config import RNDConfig
  from rnd_agent.training.train_eval import train_eval
  gin.clear_config()
  defaults = PPOConfig(), RNDConfig()
  gin_files.parse([str(_ROOT / 'configs' / 'rnd_ppo.gin')])
  try:
    assert (PPOConfig(), RNDConfig()) == defaults
    signature = inspect.signature(train_eval)
    for name, value in gin.get_bindings('train_eval').items():
      assert signature.parameters[name].default == value, name
  finally:
    gin.clear_config()


def test_own_configurables_can_be_checked_strictly():
  importlib.import_module('rnd_agent.training.builders')
  for entry in gin_parameters.own_configurables():
    if not entry.selector.startswith('rnd_agent.testing.'):
      kinds = {p.kind for p in gin_parameters.parameters_of(entry).values()}
      assert inspect.Parameter.VAR_KEYWORD not in kinds, entry.selector


def test_what_plot_draws_with_is_an_ordinary_requirement():
  names = [
      re.match(r'[\w-]+', requirement)[0]
      for requirement in importlib.metadata.requires('rnd-agent')
      if 'extra ==' not in requirement
  ]
  assert 'matplotlib' in names and 'tf-agents' in names


@pytest.mark.parametrize('compiler, builds, note', [
    (True, True, ''),
    (True, False, 'nes-py could not be built'),
    (False, True, 'there is no g++'),
])
def test_make_test_installs_super_mario_where_it_can(
    tmp_path, compiler, builds, note
):
  make, touch = shutil.which('make'), shutil.which('touch')
  if not (make and touch):
    pytest.skip('there is no make')
  for name in ('Makefile', 'setup.py', 'requirements-no-deps.txt'):
    shutil.copy(_ROOT / name, tmp_path)
  tools, venv = tmp_path / 'tools', tmp_path / '.venv'
  for path, script in (
      (venv / 'bin' / 'python', 'echo "$*" >> calls; case "$*" in '
                                f'*mario*) exit {int(not builds)};; esac'),
      (tools / 'touch', f'exec {touch} "$@"'),
      *([(tools / 'g++', '')] if compiler else []),
  ):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n{script}\n')
    path.chmod(0o755)
  (venv / '.installed').touch()
  result = subprocess.run(
      [make, '.venv/.installed-test'], cwd=tmp_path, env={'PATH': str(tools)},
      capture_output=True, text=True, check=True, timeout=60,
  )
  assert (venv / '.installed-test').exists()
  extras = re.findall(r'\[(\w+)\]', (tmp_path / 'calls').read_text())
  assert extras == ['test', 'mario'] if compiler else ['test']
  assert result.stderr.count('note:') == bool(note)
  assert note in result.stderr
