"""What is not installed is one line that says how to install it."""

import subprocess
import sys

import pytest

from rnd_agent.environments import errors
from rnd_agent.environments import suites

_NEWER = sys.version_info >= (3, 12)
_PLE = (
    'pip install '
    'git+https://github.com/ntasfi/PyGame-Learning-Environment.git'
)


@pytest.mark.parametrize('package, name, command', [
    ('minigrid', 'minigrid:MiniGrid-MultiRoom-N6-v0',
     "pip install -e '.[minigrid]'"),
    ('minigrid', 'MiniGrid-Empty-5x5-v0', "pip install -e '.[minigrid]'"),
    *(pytest.param(
        'gym_super_mario_bros', name, "pip install -e '.[mario]'",
        marks=pytest.mark.skipif(_NEWER, reason='its emulator lacks NumPy 2'))
      for name in ('mario:SuperMarioBros-1-1-v0', 'SuperMarioBros-v0')),
    ('Box2D', 'LunarLander-v2', "pip install -e '.[box2d]'"),
    ('Box2D', 'gymnasium:BipedalWalker-v3', "pip install -e '.[box2d]'"),
    ('ple', 'ple:PixelCopter', _PLE),
    ('ple', 'FlappyBird-v0', _PLE),
    ('gym', 'gym:CartPole-v1', "pip install 'gym==0.23.*'"),
])
def test_the_line(monkeypatch, package, name, command):
  monkeypatch.setitem(sys.modules, package, None)
  for call in (suites.check_name, suites.check_environment, suites.make):
    with pytest.raises(errors.MissingPackageError) as caught:
      call(name)
    message = str(caught.value)
    assert f"needs the package '{package}'" in message
    assert message.endswith(command) and '\n' not in message


@pytest.mark.skipif(not _NEWER, reason='this Python can have Super Mario')
@pytest.mark.parametrize(
    'name', ['mario:SuperMarioBros-1-1-v0', 'SuperMarioBros-v0']
)
def test_what_this_python_cannot_have(name):
  with pytest.raises(errors.MissingPackageError, match='Python 3.10 or 3.11'):
    suites.make(name)


def test_a_typo_comes_before_a_missing_package(monkeypatch):
  monkeypatch.setitem(sys.modules, 'ple', None)
  with pytest.raises(errors.UnknownEnvironmentError, match='PixelCopter'):
    suites.make('ple:PixelCoptr')


def test_gymnasium_says_itself_what_is_missing(monkeypatch):
  import gymnasium

  def lacks(*_, **__):
    raise gymnasium.error.DependencyNotInstalled('run `pip install mujoco`')

  monkeypatch.setattr(gymnasium, 'make', lacks)
  with pytest.raises(errors.MissingPackageError, match='pip install .*mujoco'):
    suites.make('HalfCheetah-v5')


def test_optional_packages_are_imported_when_they_are_asked_for():
  code = (
      f'import sys; sys.path[:] = {sys.path!r}\n'
      'from rnd_agent.environments import suites\n'
      'for name in ("toy:Corridor", "CartPole-v1", "atari:Pong"):\n'
      '  suites.make(name)\n'
      'found = {"minigrid", "ple", "gym", "nes_py", "pygame",\n'
      '         "gym_super_mario_bros", "Box2D"} & set(sys.modules)\n'
      'sys.exit(str(found) if found else 0)'
  )
  subprocess.run([sys.executable, '-c', code], check=True, timeout=60)
