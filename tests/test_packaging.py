import ast
import importlib
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
from rnd_agent.settings import gin_files

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_PACKAGE = _ROOT / 'rnd_agent'
_CONFIGS = sorted((_ROOT / 'configs').glob('**/*.gin'))

# From the outside in: a module may import from later layers, never from earlier
# ones. A module that is in none of them may be imported by all.
_LAYERS = (
    (
        'train_eval', 'play', 'plot', 'rnd_agent.train_eval_lib',
        'rnd_agent.builders', 'rnd_agent.settings.config_checks',
        'rnd_agent.settings.network_sizes',
        'rnd_agent.settings.run_config', 'rnd_agent.viewing.play_lib',
    ),
    (
        'rnd_agent.trainer', 'rnd_agent.evaluation', 'rnd_agent.summaries',
        'rnd_agent.runs.checkpoints', 'rnd_agent.runs.event_files',
        'rnd_agent.runs.export', 'rnd_agent.runs.recovery',
        'rnd_agent.runs.resume', 'rnd_agent.viewing.video', 'rnd_agent.warm_up',
    ),
    (
        'rnd_agent.rnd_ppo_agent', 'rnd_agent.rollout', 'rnd_agent.updates',
        'rnd_agent.collector', 'rnd_agent.minibatch_agent', 'rnd_agent.host',
        'rnd_agent.targets', 'rnd_agent.compute', 'rnd_agent.distillation',
    ),
    ('rnd_agent.rnd_ppo_policy', 'rnd_agent.rnd'),
    ('rnd_agent.networks',),
    ('rnd_agent.dnc',),
)
_LEAVES = (
    'rnd_agent.returns', 'rnd_agent.losses', 'rnd_agent.normalizers',
    'rnd_agent.config', 'rnd_agent.machine', 'rnd_agent.plain_json',
    'rnd_agent.runs.plain_text', 'rnd_agent.runs.run_folder',
    'rnd_agent.runs.progress', 'rnd_agent.runs.run_json',
    'rnd_agent.runs.unforeseen', 'rnd_agent.runs.wording',
    'rnd_agent.settings.config_changes', 'rnd_agent.settings.operative_config',
    'rnd_agent.viewing.aggregate', 'rnd_agent.viewing.episode_trace',
    'rnd_agent.viewing.figures', 'rnd_agent.viewing.film_files',
)
_ENVIRONMENT_LAYERS = (
    ('rnd_agent.environments.sharded', 'rnd_agent.environments.single'),
    ('rnd_agent.environments.pool',),
    ('rnd_agent.environments.shares',),
    ('rnd_agent.environments.worker',),
    ('rnd_agent.environments.suites',),
    (
        'rnd_agent.environments.atari', 'rnd_agent.environments.gym_suite',
        'rnd_agent.environments.mario_suite',
        'rnd_agent.environments.minigrid_suite',
        'rnd_agent.environments.ple_suite',
    ),
    (
        'rnd_agent.environments.environment_config',
        'rnd_agent.environments.wrappers', 'rnd_agent.environments.states',
    ),
)
# What environments and agent both use.
_FOR_BOTH = {'rnd_agent', 'rnd_agent.machine', 'rnd_agent.plain_json'}
# Those that may know both the environments and the agent.
_MEETING_POINTS = _LAYERS[0] + _LAYERS[1]


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


def _layer_violations(imports, layers):
  layer_of = {name: i for i, layer in enumerate(layers) for name in layer}
  return [
      f'{name} -> {other}'
      for name in imports
      for other in imports[name]
      if layer_of.get(other, len(layers)) < layer_of.get(name, len(layers))
  ]


def test_imports_point_one_way():
  imports = _own_imports()
  assert len(imports) > 10
  assert not _layer_violations(imports, _LAYERS)
  inner = {n: i for n, i in imports.items() if '.environments.' in n}
  assert not _layer_violations(inner, _ENVIRONMENT_LAYERS)


def test_the_check_of_layers_can_fail():
  imports = {
      'rnd_agent.networks': {'rnd_agent.trainer'},
      'rnd_agent.trainer': {'rnd_agent.networks'},
      'rnd_agent.helper': {'rnd_agent.rnd'},
  }
  assert _layer_violations(imports, _LAYERS) == [
      'rnd_agent.networks -> rnd_agent.trainer',
      'rnd_agent.helper -> rnd_agent.rnd',
  ]


def test_leaves_import_leaves_only():
  imports = _own_imports()
  for name in _LEAVES:
    assert imports.get(name, set()) <= set(_LEAVES), name


def test_agent_and_environments_never_import_each_other():
  for name, others in _own_imports().items():
    if name in _MEETING_POINTS:
      continue
    for other in others - _FOR_BOTH:
      inside = name.startswith('rnd_agent.environments')
      assert inside == other.startswith('rnd_agent.environments'), (
          f'{name} -> {other}'
      )


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
    'import rnd_agent.runs.recorder, rnd_agent.settings.gin_files',
    'import rnd_agent.train_eval_lib',
    'import rnd_agent.environments.suites, rnd_agent.environments.wrappers',
    'import train_eval',
    'import play, rnd_agent.viewing.panel, rnd_agent.viewing.window',
    'import plot',
])
def test_no_tensorflow(statement):
  assert not _loads_tensorflow(statement)


def test_worker_loads_no_tensorflow():
  if importlib.util.find_spec('rnd_agent.environments.worker') is None:
    pytest.skip('rnd_agent.environments.worker does not exist')
  assert not _loads_tensorflow('import rnd_agent.environments.worker')


def test_unknown_public_name():
  with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
    _ = rnd_agent.Nothing


def test_public_names_are_listed():
  assert set(rnd_agent.__all__) <= set(dir(rnd_agent))
  assert len(rnd_agent.__all__) == 14


def test_public_names_resolve():
  for name in rnd_agent.__all__:
    assert getattr(rnd_agent, name) is not None


@pytest.mark.parametrize('path', _CONFIGS, ids=lambda path: path.stem)
def test_config_is_read_strictly(path):
  importlib.import_module('rnd_agent.builders')
  train_eval_lib = importlib.import_module('rnd_agent.train_eval_lib')
  gin.clear_config()
  try:
    gin_files.parse([str(path)])
    train_eval_lib.check_configs()
    settings = {
        name: parameter.default
        for name, parameter in inspect.signature(
            train_eval_lib.train_eval
        ).parameters.items()
        if name not in ('root_dir', 'resume')
    }
    bound = gin.get_bindings('train_eval')
    train_eval_lib.check_sizes(**{**settings, **bound})
  finally:
    gin.clear_config()


def test_base_recipe_equals_the_defaults():
  from rnd_agent.config import PPOConfig
  from rnd_agent.config import RNDConfig
  from rnd_agent.train_eval_lib import train_eval
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
  importlib.import_module('rnd_agent.builders')
  for entry in gin_files._own_configurables():
    if not entry.selector.startswith('rnd_agent.testing.'):
      kinds = {p.kind for p in gin_files._parameters(entry).values()}
      assert inspect.Parameter.VAR_KEYWORD not in kinds, entry.selector


def test_what_plot_draws_with_is_an_ordinary_requirement():
  tree = ast.parse((_ROOT / 'setup.py').read_text())
  lists = [keyword.value for keyword in ast.walk(tree)
           if isinstance(keyword, ast.keyword)
           and keyword.arg == 'install_requires']
  names = [re.split(r'[<>=~!]', name)[0] for name in ast.literal_eval(lists[0])]
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
  for name in ('Makefile', 'setup.py'):
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
