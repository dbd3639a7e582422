"""The package as it is installed: a wheel in an environment of its own."""

import csv
import pathlib
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile

import pytest

pytestmark = pytest.mark.slow

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_CONFIGS = {path.name for path in (_ROOT / 'configs').glob('*.gin')}


@pytest.fixture(name='archives', scope='module')
def _archives(tmp_path_factory):
  """An sdist, and the wheel that is built from it; of what git would hold."""
  source, built = (
      tmp_path_factory.mktemp(name) for name in ('source', 'built')
  )
  paths = [
      p for p in _ROOT.iterdir()
      if p.name not in ('.venv', '.git', 'runs') and not p.suffix == '.egg-info'
  ]
  subprocess.run(['cp', '-r', *paths, source], check=True)
  subprocess.run(
      [sys.executable, 'setup.py', '-q', 'sdist', '-d', built], cwd=source,
      check=True, capture_output=True,
  )
  sdist, = built.glob('*.tar.gz')
  subprocess.run(
      [sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps',
       '--no-build-isolation', '-w', built, sdist],
      check=True, capture_output=True,
  )
  wheel, = built.glob('*.whl')
  return sdist, wheel


@pytest.fixture(name='bin_folder', scope='module')
def _bin_folder(archives, tmp_path_factory):
  """Commands of an environment with the wheel, and the packages it needs.

  These are those of the tests; their editable install of this package is not
  seen there, since it works through a file that only their own folder reads.
  """
  folder = tmp_path_factory.mktemp('environment')
  venv.create(folder, with_pip=False)
  python = folder / 'bin' / 'python'
  site = pathlib.Path(subprocess.run(
      [python, '-c', "import sysconfig; print(sysconfig.get_path('purelib'))"],
      check=True, capture_output=True, text=True,
  ).stdout.strip())
  (site / 'needed.pth').write_text(sysconfig.get_path('purelib') + '\n')
  subprocess.run(
      [sys.executable, '-m', 'pip', '--python', python, 'install', '-q',
       '--no-deps', '--ignore-installed', archives[1]],
      check=True, capture_output=True,
  )
  return folder / 'bin'


def test_the_wheel_holds_the_package_and_its_configs_alone(archives):
  with zipfile.ZipFile(archives[1]) as wheel:
    names = wheel.namelist()
  assert {n.partition('/')[0] for n in names if '.dist-info/' not in n} == {
      'rnd_agent'
  }
  modules = {
      str(path.relative_to(_ROOT))
      for path in (_ROOT / 'rnd_agent').rglob('*.py')
  }
  configs = {f'rnd_agent/configs/{name}' for name in _CONFIGS}
  assert {n for n in names if n.startswith('rnd_agent/')} == modules | configs


def test_the_sdist_holds_what_builds_the_wheel(archives):
  with tarfile.open(archives[0]) as sdist:
    names = {name.partition('/')[2] for name in sdist.getnames()}
  assert {'setup.py', 'README.md', 'LICENSE', 'requirements-no-deps.txt'} < (
      names
  )
  assert {n for n in names if n.startswith('configs/')} == {
      f'configs/{name}' for name in _CONFIGS
  }
  assert not {n for n in names if n.startswith(('tests', 'docs', 'pretrained'))}


def _run(command, cwd):
  result = subprocess.run(
      list(map(str, command)), cwd=cwd, capture_output=True, text=True,
      timeout=300, check=False,
  )
  assert result.returncode == 0, result.stderr
  return result.stdout


def test_it_trains_plays_and_draws_from_another_folder(bin_folder, tmp_path):
  where = _run([bin_folder / 'python', '-c',
                'import rnd_agent; print(rnd_agent.__file__)'], tmp_path)
  assert where.startswith(str(bin_folder.parent))
  out = _run(
      [bin_folder / 'rnd-train', '--gin_file=smoke.gin', '--root_dir=run',
       '--gin_bindings=train_eval.num_iterations = 2'], tmp_path,
  )
  assert 'watch:  rnd-play --root_dir=run' in out
  with open(tmp_path / 'run' / 'metrics.csv', newline='') as lines:
    assert [r['iteration'] for r in csv.DictReader(lines)] == ['1', '2']
  out = _run([bin_folder / 'rnd-play', '--root_dir=run', '--max_steps=20'],
             tmp_path)
  assert 'after iteration 2' in out
  _run([bin_folder / 'rnd-plot', 'run', '--output=curves.png'], tmp_path)
  assert (tmp_path / 'curves.png').stat().st_size > 10_000


def test_a_file_of_the_working_directory_comes_first(bin_folder, tmp_path):
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'smoke.gin').write_text("include 'montezuma.gin'\nnonsense = 1")
  (tmp_path / 'other.gin').write_text("include 'atari.gin'\nnonsense = 1")
  for folder, name, line in (
      ('.', 'smoke.gin', 'smoke.gin:2'), ('.', 'other.gin', 'other.gin:2'),
      ('empty', 'montezume.gin', 'nearest: montezuma.gin'),
  ):
    result = subprocess.run(
        [bin_folder / 'rnd-train', f'--gin_file={name}'], cwd=tmp_path / folder,
        capture_output=True, text=True, check=False,
    )
    assert result.returncode == 2 and line in result.stderr, result.stderr


def test_list_names_every_config(bin_folder, tmp_path):
  out = _run([bin_folder / 'rnd-train', '--list'], tmp_path)
  for name in (*_CONFIGS, 'atari:MontezumaRevenge', 'ple:PixelCopter'):
    assert name in out
  assert len(_run([bin_folder / 'rnd-train', '--help'],
                  tmp_path).splitlines()) < 40
