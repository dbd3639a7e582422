"""Commands print whatever the encoding, and say where they do not run."""

import io
import os
import pathlib
import subprocess
import sys

import pytest

from rnd_agent.common import terminal

_ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_text_that_the_encoding_has_not(monkeypatch):
  written = io.BytesIO()
  stream = io.TextIOWrapper(written, 'ascii')
  monkeypatch.setattr(sys, 'stdout', stream)
  terminal.prepare('train_eval')
  print('läuft →', flush=True)
  assert written.getvalue() == b'l\\xe4uft \\u2192\n'


@pytest.mark.parametrize('command', ['train_eval', 'play', 'plot'])
def test_windows_is_one_line(monkeypatch, command):
  monkeypatch.setattr(sys, 'platform', 'win32')
  with pytest.raises(SystemExit) as caught:
    terminal.prepare(command)
  assert caught.value.code.startswith(f'{command}: error: Windows')
  assert 'WSL' in caught.value.code


@pytest.mark.parametrize('command, arguments', [
    ('train_eval.py', ['--gin_file=läuft.gin', '--root_dir=runs/läuft']),
    ('play.py', ['--root_dir=läuft']), ('plot.py', ['läuft']),
])
def test_commands_prepare_it(tmp_path, command, arguments):
  result = subprocess.run(
      [sys.executable, str(_ROOT / command), *arguments], text=True,
      capture_output=True, cwd=tmp_path, timeout=60,
      env={**os.environ, 'PYTHONIOENCODING': 'ascii:strict'},
  )
  assert result.returncode == 2
  assert 'l\\xe4uft' in result.stderr and 'Unicode' not in result.stderr
  assert len(result.stderr.splitlines()) == 1
