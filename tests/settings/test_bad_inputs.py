"""What a user can type wrongly, and the line that answers it.

The cases are the rows of `docs/bad_inputs.md`: what was typed, what was there,
and the message, in which `...` stands for what differs from machine to machine.
A new case is a new row. `python tests/settings/test_bad_inputs.py` writes the
messages anew that have changed.
"""

import contextlib
import html
import io
import os
import pathlib
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
from typing import NamedTuple
from unittest import mock
import zipfile

if __name__ == '__main__':  # Under pytest conftest.py does it.
  sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import command_line
import numpy as np
import pytest

from rnd_agent.common import startup

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_DOCUMENT = _ROOT / 'docs' / 'bad_inputs.md'
_TERABYTE = 2**40


class Case(NamedTuple):
  """A row of the document.

  Attributes:
    row: its text.
    typed: the program's arguments; of plot.py and play.py, after their name.
    where: what is there before.
    message: after the program's name; `...` stands for anything.
    tiny: whether the config of a tiny run comes first.
  """

  row: str
  typed: tuple[str, ...]
  where: str
  message: str
  tiny: bool

  def answers(self, message: str) -> bool:
    """Whether a message is the one of the row."""
    parts = map(re.escape, self.message.split('...'))
    return re.fullmatch('.*'.join(parts), message) is not None


def _case(row: str) -> Case:
  typed, where, message = re.split(
      r'(?<!\\) \| ', row.removeprefix('| ').removesuffix(' |')
  )
  words = [
      word for quoted in re.findall('`([^`]*)`', typed)
      for word in shlex.split(quoted.replace('\\|', '|'))
  ]
  return Case(
      row,
      tuple(word.replace('=x...', f'={"x" * 300}')
            .replace('1000...', '1' + '0' * 400) for word in words),
      html.unescape(where), _plain(message), typed.endswith(' *'),
  )


def _plain(cell: str) -> str:
  return html.unescape(cell.replace('\\|', '|').replace('\\*', '*'))


def _escaped(text: str) -> str:
  return html.escape(text, quote=False).replace('|', '\\|').replace('*', '\\*')


_CASES = [
    _case(line) for line in _DOCUMENT.read_text(encoding='utf-8').splitlines()
    if line.startswith('| `')
]

# ------------------------------------------------------- what there is before


def _content(text: str) -> bytes:
  if '\\x' in text:
    return text.encode().decode('unicode_escape').encode('latin-1')
  return '\n'.join([*text.split(' / '), '']).encode()


def _large(path):
  with open(path, 'wb') as file:
    file.truncate(_TERABYTE)


def _remove(path):
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path)
  else:
    path.unlink(missing_ok=True)


def _elsewhere(path):
  target = path.parent.parent / 'elsewhere'
  path.rename(target)
  path.symlink_to(target)


# What a file or folder is replaced by.
_REPLACED = {
    'is a file': lambda path: path.write_text('mine\n'),
    'is a folder': lambda path: path.mkdir(),
    'is an empty folder': lambda path: path.mkdir(),
    'may not be written': lambda path: path.mkdir(mode=0o500),
    'is a link to nothing': lambda path: path.symlink_to('nothing'),
    'is a link to itself': lambda path: path.symlink_to(path.name),
    'has a terabyte': _large,
    'is a list': lambda path: path.write_text('[1]'),
    'is no text': lambda path: path.write_bytes(b'\xff\xfe\x00'),
    'is cut short': lambda path: path.write_text('{"command": "pyth'),
    'is nested 100 000 deep': lambda path: path.write_text('[' * 100_000),
    'has a start that is a number':
        lambda path: path.write_text('{"starts": [1]}'),
    "has a start whose machine is 'x'":
        lambda path: path.write_text('{"starts": [{"machine": "x"}]}'),
    'has other columns': lambda path: path.write_text('step,loss\n1,0.5\n'),
}
_LINES = {
    '3000 brackets': f'ActorCriticNetwork.core = {"[" * 3000}{"]" * 3000}',
    '40 layers of 65536 units':
        f'ActorCriticNetwork.fc_layer_params = {(65536,) * 40}',
}


def _append(path, text):
  with open(path, 'a', encoding='utf-8') as file:
    file.write(text)


def _change_cell(path, column, value):
  *head, last = path.read_text().splitlines()
  cells = last.split(',')
  cells[head[0].split(',').index(column)] = value
  path.write_text('\n'.join([*head, ','.join(cells)]) + '\n')


def _insert_line(path):
  lines = path.read_text().splitlines()
  path.write_text('\n'.join([*lines[:2], 'what is this?', *lines[2:], '']))


def _cut_checkpoints(run):
  for path in (run / 'checkpoints').glob('*.data-*'):
    path.write_bytes(path.read_bytes()[:100])


def _write_game(folder):
  (folder / 'own_game.py').write_text(
      'import gymnasium\n'
      'class Own(gymnasium.Env):\n'
      '  def __init__(self):\n'
      '    open("no-such-level.txt")\n'
      'gymnasium.register("Own-v0", entry_point=Own)\n'
  )
  return mock.patch.object(sys, 'path', [str(folder), *sys.path])


def _write_macros(folder):
  lines = ['m0 = 1']
  lines += [f'm{i + 1} = [{", ".join([f"%m{i}"] * 10)}]' for i in range(8)]
  lines.append('ActorCriticNetwork.core = %m8')
  (folder / 'game.gin').write_text('\n'.join(lines))


def _write_circle(folder):
  (folder / 'a.gin').write_text("include 'b.gin'\n")
  (folder / 'b.gin').write_text("include 'a.gin'\n")


def _claiming(shape, descr='<f4'):
  """An array's file whose header claims more than is there."""
  file = io.BytesIO()
  np.lib.format.write_array_header_1_0(
      file, {'descr': descr, 'fortran_order': False, 'shape': shape}
  )
  return file.getvalue()


def _frames(*sizes):
  """PNG files of which there is only the header."""
  data = [
      b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR' + struct.pack('>II', *size)
      for size in sizes
  ]
  return {
      'frame_bytes': np.frombuffer(b''.join(data), np.uint8),
      'frame_ends': np.cumsum([len(part) for part in data]),
  }


_TRACES = {
    'its header claims 36 TiB': {'bonus': _claiming((10**13,))},
    'a thousand million names of 0 bytes': {
        'action_names': _claiming((10**9,), '<U0')
    },
    'an array is text': {'bonus': b'no array'},
    'one name': {'action_names': np.array('a')},
    'ends in two dimensions': {'frame_ends': np.zeros((1, 3), np.int64)},
    'ends of nothing': {'frame_ends': np.arange(9, 12)},
    'frames of 60000 x 60000 pixels': _frames(*[(60000, 60000)] * 3),
    'frames of two sizes': _frames((9, 9), (9, 9), (8, 9)),
    'an infinite score': {'score': np.full(3, np.inf)},
    'an action -7': {'action': np.full(3, -7)},
}


def _write_trace(path, changes):
  n = 3
  names = ('bonus', 'intrinsic_reward', 'value_ext', 'value_int')
  arrays = {
      **{name: np.zeros(n, np.float32) for name in names},
      'score': np.zeros(n), 'place': np.zeros(n, np.int64),
      'action': np.zeros(n, np.int64),
      'probabilities': np.zeros((n, 2), np.float32),
      'title': np.array('toy'), 'action_names': np.array(['a', 'b']),
      'frame_bytes': np.zeros(0, np.uint8),
      'frame_ends': np.zeros(0, np.int64), **changes,
  }
  with zipfile.ZipFile(path, 'w') as archive:
    for name, array in arrays.items():
      file = io.BytesIO()
      if isinstance(array, bytes):
        file.write(array)
      else:
        np.lib.format.write_array(file, array)
      archive.writestr(f'{name}.npy', file.getvalue())


# What the second column says, and what makes it so: given the working
# directory and the pattern's groups. A context is entered for the case.
_SITUATIONS = {
    '': lambda folder: None,
    'x holds a run': lambda folder: None,
    r'(\S+) holds: (.*)':
        lambda folder, name, text: (folder / name).write_bytes(_content(text)),
    r'a.gin includes b.gin, which includes a.gin': _write_circle,
    r'game.gin may not be read': lambda folder: (
        (folder / 'game.gin').write_text(''), (folder / 'game.gin').chmod(0)
    ),
    r'game.gin: eight macros, .*': _write_macros,
    r'own_game.py registers .*': _write_game,
    r'the package (\S+) is not installed':
        lambda folder, name: mock.patch.dict(sys.modules, {name: None}),
    r'e.npz: (.*)': lambda folder, name: _write_trace(
        folder / 'e.npz', _TRACES[name]
    ),
    r'x has no checkpoints any more':
        lambda folder: shutil.rmtree(folder / 'x' / 'checkpoints'),
    r'the files of all checkpoints in x are cut short':
        lambda folder: _cut_checkpoints(folder / 'x'),
    r'the last (\S+) of (\S+) in x is (\S+)':
        lambda folder, column, name, value: _change_cell(
            folder / 'x' / name, column, value
        ),
    r'places.csv in x has the row (\S+)':
        lambda folder, row: (folder / 'x' / 'places.csv').write_text(
            f'iteration,env_steps,place,steps,episodes\n{row}\n'
        ),
    r'(\S+) in x has a line of something else':
        lambda folder, name: _insert_line(folder / 'x' / name),
    r'(\S+) in x has a field of 200 kB': lambda folder, name: _append(
        folder / 'x' / name, f'9,{"x" * 200_000}\n'
    ),
    r'(\S+) in x ends in (.*)': lambda folder, name, line: _append(
        folder / 'x' / name, f'\n{_LINES.get(line, line)}\n'
    ),
    r'(\S+) in x is a link to a f\w+ elsewhere':
        lambda folder, name: _elsewhere(folder / 'x' / name),
}


def _prepare(where: str, folder: pathlib.Path):
  """Makes it so; returns a context where the case needs one."""
  if re.search(r'\bin x\b|^x (holds|has)', where):
    shutil.copytree(_finished_run(), folder / 'x', symlinks=True)
  name, in_x, state = re.fullmatch(r'(\S*)( in x)?(?: (.*))?', where).groups()
  if state in _REPLACED:
    path = folder / 'x' / name if in_x else folder / name
    _remove(path)
    _REPLACED[state](path)
    return None
  for pattern, make in _SITUATIONS.items():
    if match := re.fullmatch(pattern, where):
      context = make(folder, *match.groups())
      return context if hasattr(context, '__enter__') else None
  raise AssertionError(f'nothing makes it so: {where}')


# -------------------------------------------------------- how they are tried

_finished = None


@pytest.fixture(autouse=True, scope='module')
def _remove_the_finished_run():
  yield
  if _finished is not None:
    shutil.rmtree(_finished.parent)


def _finished_run() -> pathlib.Path:
  """The folder of a run that was trained for this; do not write there."""
  global _finished
  if _finished is None:
    _finished = pathlib.Path(tempfile.mkdtemp(prefix='bad-inputs-')) / 'run'
    result = command_line.main([
        f'--root_dir={_finished}',
        *(f'--gin_bindings={binding}' for binding in command_line.TINY),
    ])
    assert result.status == 0, result.error
  return _finished


class Outcome(NamedTuple):
  """How it ended: exit status, standard error, what has changed in files."""

  status: object
  lines: list[str]
  changed: list[str]


@contextlib.contextmanager
def _without_privileges():
  """As an ordinary user: nothing is forbidden to the superuser."""
  if os.geteuid() != 0:
    yield
    return
  os.seteuid(65534)
  try:
    yield
  finally:
    os.seteuid(0)


def _not_refused(*unused_arguments, **unused_settings):
  raise AssertionError('this mistake was not refused')


def _try(case: Case) -> Outcome:
  """Makes a mistake in a folder of its own."""
  folder = pathlib.Path(tempfile.mkdtemp(prefix='bad-inputs-'))
  before = pathlib.Path.cwd()
  try:
    folder.chmod(0o777)
    os.chdir(folder)
    arguments = list(case.typed)
    if case.tiny:
      (folder / 'tiny.gin').write_text('\n'.join(command_line.TINY) + '\n')
      arguments.insert(0, '--gin_file=tiny.gin')
    with contextlib.ExitStack() as stack:
      context = _prepare(case.where, folder)
      if context is not None:
        stack.enter_context(context)
      files = command_line.files(folder)
      if not case.tiny:  # What is not refused would train for days.
        stack.enter_context(mock.patch(
            'rnd_agent.training.builders.build_trainer', _not_refused
        ))
      if 'Permission denied' in case.message:
        stack.enter_context(_without_privileges())
      if _program(case) == 'train_eval':
        status, error, _ = command_line.main(arguments)
      else:
        status, error, _ = command_line.script(arguments[0], arguments[1:])
    after = command_line.files(folder)
    changed = [
        name for name in sorted(files.keys() | after.keys())
        if files.get(name) != after.get(name)
        and not (name not in files and after[name] == 'folder')
        and os.path.basename(name) != '.lock'  # Empty, and it stays behind.
    ]
    text = error.replace(f'{folder}/', '').replace(f'{_ROOT}/', '')
    return Outcome(status, [n for n in text.splitlines() if n], changed)
  finally:
    os.chdir(before)
    shutil.rmtree(folder)


def _program(case: Case) -> str:
  """The name that its messages begin with."""
  script = re.fullmatch(r'(play|plot)\.py', (*case.typed, '')[0])
  return script[1] if script else 'train_eval'


@pytest.mark.parametrize(
    'case', _CASES, ids=lambda case: ' '.join((*case.typed, case.where))[:90]
)
def test_is_answered_by_the_line_in_the_document(case):
  outcome = _try(case)
  assert outcome.status == 2, outcome
  line, = outcome.lines
  prefix, _, message = line.partition(': error: ')
  assert prefix == _program(case)
  assert case.answers(message), f'{message}\nis not\n{case.message}'
  assert len(line) < 700
  assert not outcome.changed


def test_the_document_has_all_cases_once():
  assert len(set(case.row for case in _CASES)) == len(_CASES) >= 200


@pytest.mark.parametrize(
    'case', [_CASES[1], *(c for c in _CASES if 'gme.gin' in c.row)],
    ids=lambda case: case.typed[0],
)
def test_so_it_is_from_the_command_line(case, tmp_path):
  _prepare(case.where, tmp_path)
  result = subprocess.run(
      [sys.executable, str(_ROOT / 'train_eval.py'), *case.typed],
      cwd=tmp_path, capture_output=True, text=True, timeout=120,
      env={**os.environ, 'PYTHONPATH': str(_ROOT)},
  )
  assert result.returncode == 2
  assert result.stderr == f'train_eval: error: {case.message}\n'
  assert result.stdout == ''


def _write_document():
  """Replaces the messages that are no longer what the document says."""
  text = _DOCUMENT.read_text(encoding='utf-8')
  for case in _CASES:
    outcome = _try(case)
    message = (outcome.lines or ['nothing'])[-1].partition(': error: ')[2]
    if outcome.status != 2 or not case.answers(message):
      head, _, _ = case.row.removesuffix(' |').rpartition(
          f' | {_escaped(case.message)}'
      )
      new = f'{head} | {_escaped(message or repr(outcome))} |'
      print(f'- {case.row}\n+ {new}')
      text = text.replace(case.row, new)
  _DOCUMENT.write_text(text, encoding='utf-8')


if __name__ == '__main__':
  startup.quiet_imports()
  _write_document()
