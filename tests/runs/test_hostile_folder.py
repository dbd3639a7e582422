"""A run's folder from a stranger: nothing is executed, nothing else written."""

import json
import os
import pickle
import shutil
import struct
import sys
import zlib

import command_line
import pytest
import tensorflow as tf

from rnd_agent.environments import states
from rnd_agent.runs import checkpoint_files
from rnd_agent.runs import event_files

pytestmark = pytest.mark.usefixtures('no_export')

_STATE = 'environments/.ATTRIBUTES/py_state'
_PROGRESS = 'progress/.ATTRIBUTES/py_state'
_ESCAPES = '\x1b[2J\x1b]0;owned\x07<script>alert(1)</script>'
_EVIL = "'gymnasium:evil:X-v0'"
_WRITTEN = (
    'metrics.csv', 'run.json', 'operative_config.gin', 'train', 'eval',
    'videos', 'policy', 'checkpoints',
)


@pytest.fixture(name='finished', scope='module')
def _finished(tmp_path_factory):
  """A run of two iterations."""
  folder = tmp_path_factory.mktemp('finished') / 'run'
  result = _resume(folder, iterations=2)
  assert result.status == 0, result.error
  return folder


@pytest.fixture(name='run')
def _run(finished, tmp_path):
  """A copy, in a folder that holds nothing else."""
  shutil.copytree(finished, tmp_path / 'run')
  return tmp_path / 'run'


def _resume(folder, iterations=3):
  bindings = (*command_line.TINY, f'train_eval.num_iterations = {iterations}')
  return command_line.main([
      f'--root_dir={folder}', *(f'--gin_bindings={b}' for b in bindings)
  ])


class _Bomb:
  """Leaves a mark where it is unpickled."""

  def __init__(self, mark):
    self._mark = mark

  def __reduce__(self):
    return os.mkdir, (str(self._mark),)


def _plant(run, name, value):
  """Replaces a value in the newest checkpoint, whose checksums then fit."""
  prefix = str(run / 'checkpoints' / 'iteration-2')
  reader = tf.train.load_checkpoint(prefix)
  tensors = {
      key: tf.constant(reader.get_tensor(key))
      for key in reader.get_variable_to_shape_map()
  }
  assert name in tensors
  tensors[name] = tf.constant(value)
  names = sorted(tensors)
  tf.raw_ops.SaveV2(
      prefix=prefix, tensor_names=names, shape_and_slices=[''] * len(names),
      tensors=[tensors[key] for key in names],
  )
  checkpoint_files.write_list(prefix)


def _assert_refused(result, *parts):
  lines = [line for line in result.error.splitlines() if line]
  assert result.status == 2, result
  assert len(lines) == 1 and lines[0].startswith('train_eval: error: '), lines
  for part in parts:
    assert part in lines[0]


# -------------------------------------------------------------------- links


@pytest.mark.parametrize('name', _WRITTEN)
def test_a_link_out_of_the_folder_is_refused(run, tmp_path, name):
  outside = tmp_path / 'outside'
  if (run / name).exists():
    (run / name).rename(outside)
  else:
    outside.mkdir()
  (run / name).symlink_to(outside)
  before = command_line.files(tmp_path)
  _assert_refused(_resume(run), f'run/{name} is a link to')
  assert command_line.files(tmp_path) == before


@pytest.mark.parametrize('name', [
    'policy/greedy/saved_model.pb', 'videos/iteration-3.mp4',
    'train/events.out.tfevents.1.host', 'run.json.1.tmp', '.probe-1', '.lock',
    'checkpoints/iteration-3_temp', 'checkpoints/checkpoint',
    'checkpoints/iteration-3.sha256.json.partial-1',
])
def test_so_is_a_link_below(run, tmp_path, name):
  target = tmp_path / 'mine'
  target.write_text('mine')
  (run / name).parent.mkdir(parents=True, exist_ok=True)
  (run / name).unlink(missing_ok=True)
  (run / name).symlink_to(target)
  _assert_refused(_resume(run), f'{name} is a link to')
  assert target.read_text() == 'mine'


def test_a_linked_checkpoint_is_passed_over(run, tmp_path):
  target = tmp_path / 'mine'
  target.write_text('mine')
  for name in ('iteration-3.index', 'iteration-3.sha256.json'):
    (run / 'checkpoints' / name).symlink_to(target)
  result = _resume(run)
  assert result.status == 0, result.error
  assert 'iteration-3 is damaged' in result.output
  assert target.read_text() == 'mine'
  assert (run / 'checkpoints' / 'iteration-3.index').is_file()


@pytest.mark.parametrize('name', ['metrics.csv', 'train/events.out.tfevents.1'])
def test_a_pipe_is_refused(run, name):
  (run / name).unlink(missing_ok=True)
  os.mkfifo(run / name)
  _assert_refused(_resume(run), f'{name} is not a file')


# ------------------------------------------------------------------ configs


@pytest.fixture(name='mark')
def _mark(tmp_path, monkeypatch):
  """A folder that appears when `evil` is imported, which Python would find."""
  mark = tmp_path / 'mark'
  (tmp_path / 'evil.py').write_text(f'import os; os.mkdir({str(mark)!r})\n')
  (tmp_path / 'evil.gin').write_text('import evil\n')
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.delitem(sys.modules, 'evil', raising=False)
  return mark


def test_what_the_recorded_config_imports_is_not_imported(run, tmp_path, mark):
  path = run / 'operative_config.gin'
  path.write_text(
      f"import evil\nimport os\ninclude '{tmp_path}/evil.gin'\n"
      f"os.mkdir.path = '{mark}'\ntrain_eval.progress = @os.mkdir()\n"
      + path.read_text()
  )
  result = _resume(run)
  assert result.status == 0, result.error
  assert not mark.exists()


@pytest.mark.parametrize('line, part', [
    ('import os', 'modules of rnd_agent only'),
    ('import rnd_agentx.evil', 'modules of rnd_agent only'),
    ('from subprocess import run', 'modules of rnd_agent only'),
    ('import evil', 'modules of rnd_agent only, not evil'),
    ("include '{folder}/evil.gin'", 'modules of rnd_agent only, not evil'),
    (f'train_eval.env_name = {_EVIL}', 'add --trust'),
    (f'name = {_EVIL}\ntrain_eval.env_name = %name', 'add --trust'),
    ('ActorCriticNetwork.core = @ShardedPyEnvironment()\n'
     f'ShardedPyEnvironment.env_name = {_EVIL}\n'
     'ShardedPyEnvironment.num_environments = 1', '@ShardedPyEnvironment'),
    ('train_eval.seed = @os.getpid()', 'os.getpid is imported from a module'),
    ("subprocess.run.args = 'true'", "no configurable named 'subprocess.run'"),
    ("include '/etc/passwd'", '/etc/passwd:1'),
])
def test_a_config_from_the_folder_runs_nothing(run, mark, line, part):
  path = run / 'operative_config.gin'
  line = line.replace('{folder}', str(mark.parent))
  path.write_text(f'{path.read_text()}\n{line}\n')
  _assert_refused(command_line.main(
      [f'--gin_file={path}', f'--root_dir={run}2']
  ), part)
  assert not run.with_name('run2').exists()
  assert not mark.exists()


@pytest.mark.parametrize('arguments', [
    ('--trust',), (f'--gin_bindings=train_eval.env_name={_EVIL}',),
], ids=['trusted', 'typed'])
def test_what_the_user_asks_for_is_imported(run, mark, arguments):
  path = run / 'operative_config.gin'
  path.write_text(f'{path.read_text()}\ntrain_eval.env_name = {_EVIL}\n')
  _assert_refused(command_line.main(
      [f'--gin_file={path}', f'--root_dir={run}2', *arguments]
  ), "'X-v0'")
  assert mark.exists()


# ------------------------------------------------------------------ pickles


@pytest.mark.parametrize('name', _WRITTEN[:3])
def test_a_pickle_in_place_of_a_text(run, tmp_path, name):
  mark = tmp_path / 'mark'
  (run / name).write_bytes(pickle.dumps(_Bomb(mark)))
  _assert_refused(_resume(run), name)
  assert not mark.exists()


def _nested(depth):
  return zlib.compress(b'[' * depth)


@pytest.mark.parametrize('make', [
    lambda mark: pickle.dumps(_Bomb(mark)),
    lambda mark: zlib.compress(pickle.dumps(_Bomb(mark))),
    lambda mark: states.encode([]),
    lambda mark: states.encode({}),
    lambda mark: states.encode({'environments': 7}),
    lambda mark: states.encode({'environments': {'environments': [0]}}),
    lambda mark: _nested(100_000),
    lambda mark: states.encode({'a': 1})[:-3],
], ids=['pickle', 'compressed pickle', 'list', 'empty', 'number', 'one',
        'nested', 'cut off'])
def test_a_planted_state_of_the_environments(run, tmp_path, make):
  mark = tmp_path / 'mark'
  _plant(run, _STATE, make(mark))
  before = command_line.files(run)
  _assert_refused(_resume(run), 'checkpoint')
  assert not mark.exists()
  after = command_line.files(run)
  assert {k: v for k, v in after.items() if k in before} == before


def test_a_state_that_unpacks_without_end(run, monkeypatch):
  monkeypatch.setattr(states, '_LARGEST_OF_ALL', 2**20)
  monkeypatch.setattr(states, '_LARGEST_SHARE', 1)
  _plant(run, _STATE, zlib.compress(b'0' * 2**24))
  _assert_refused(_resume(run), 'too large')


@pytest.mark.slow
@pytest.mark.parametrize('change', [
    lambda parts: parts.__setitem__(0, pickle.dumps(_Bomb('/nothing'))),
    lambda parts: parts.__setitem__(0, states.encode([None])),
    lambda parts: parts.__setitem__(0, states.encode([None, 7, 'x'])),
], ids=['pickle', 'short', 'other'])
def test_a_planted_state_of_one_environment_begins_its_episode_anew(
    run, change
):
  prefix = str(run / 'checkpoints' / 'iteration-2')
  reader = tf.train.load_checkpoint(prefix)
  state = states.decode(reader.get_tensor(_STATE))
  change(state['environments']['environments'])
  _plant(run, _STATE, states.encode(state))
  result = _resume(run)
  assert result.status == 0, result.error
  assert '1 of 4 environments begin new episodes' in result.output


@pytest.mark.slow
@pytest.mark.parametrize('text', [
    '[]', '{}', 'null', '[' * 100_000, '\x1b[2J',
    *(lambda state, name=name, value=value: {**state, name: value}
      for name, value in (
          ('iteration', 'x'), ('iteration', -1), ('iteration', 10**30),
          ('env_steps', None), ('wall_time_s', 'x'), ('wall_time_s', 1e999),
          ('environment_restarts', []), ('episodes', {}),
      )),
    *(lambda state, name=name, value=value: {
        **state, 'episodes': {**state['episodes'], name: value}}
      for name, value in (
          ('size', 10**30), ('episodes', [[1, 2, 'x', None]]),
          ('discovered', 7), ('furthest_x', 'x'), ('total', 1e999),
      )),
])
def test_a_planted_progress(run, text):
  if callable(text):
    reader = tf.train.load_checkpoint(str(run / 'checkpoints' / 'iteration-2'))
    text = json.dumps(text(json.loads(reader.get_tensor(_PROGRESS))))
  _plant(run, _PROGRESS, text)
  _assert_refused(_resume(run), 'cannot be restored')


# ------------------------------------------------------------ lists of files


@pytest.mark.parametrize('content', [
    json.dumps({'../run.json': [1, 'x']}),
    json.dumps({'/etc/passwd': [1, 'x']}),
    json.dumps({'iteration-2.index': [10**400, 'x']}),
    json.dumps({'iteration-2.index': [1]}),
    json.dumps({'iteration-2.index': 'x'}),
    json.dumps({'iteration-2.index\x1b[2J': [1, 'x']}),
    '[' * 100_000, '{}', '\x00',
])
def test_a_planted_list_of_files_makes_a_checkpoint_damaged(run, content):
  (run / 'checkpoints' / 'iteration-2.sha256.json').write_text(content)
  newest, other = checkpoint_files.newest_first(run / 'checkpoints')
  assert (newest.iteration, other.iteration) == (2, 1)
  assert newest.damage and not other.damage
  assert checkpoint_files.latest_iteration(run) == 1


def _unlisted(run, name):
  path = run / 'checkpoints' / 'iteration-2.sha256.json'
  content = json.loads(path.read_text())
  content.pop(name)
  path.write_text(json.dumps(content))


def test_data_that_lie_elsewhere_and_are_not_listed(run, tmp_path):
  """TensorFlow would follow the link."""
  data, = (run / 'checkpoints').glob('iteration-2.data-*')
  _unlisted(run, data.name)
  assert 'not in the list' in next(
      checkpoint_files.newest_first(run / 'checkpoints')).damage
  data.rename(tmp_path / 'elsewhere')
  data.symlink_to(tmp_path / 'elsewhere')
  newest, other = checkpoint_files.newest_first(run / 'checkpoints')
  assert 'is a link' in newest.damage and not other.damage


@pytest.mark.parametrize('name', ['index', 'sha256.json'])
def test_a_pipe_in_a_checkpoint_is_not_waited_for(run, name):
  path = run / 'checkpoints' / f'iteration-2.{name}'
  path.unlink()
  os.mkfifo(path)
  newest, other = checkpoint_files.newest_first(run / 'checkpoints')
  assert 'is not a file' in newest.damage and not other.damage


def test_a_list_may_name_its_own_checkpoint_only(run):
  folder = run / 'checkpoints'
  shutil.copy(folder / 'iteration-1.sha256.json',
              folder / 'iteration-2.sha256.json')
  newest, other = checkpoint_files.newest_first(folder)
  assert newest.damage and not other.damage


def test_what_a_planted_list_says_cannot_steer_the_terminal(run):
  (run / 'checkpoints' / 'iteration-2.sha256.json').write_text(
      json.dumps({_ESCAPES: [1, 'x']})
  )
  result = _resume(run)
  assert result.status == 0, result.error
  assert 'iteration-2 is damaged' in result.output
  assert '\x1b' not in result.output
  assert 'at iteration 2' in result.output


# -------------------------------------------------------------- event files


def _broken(length, size):
  """A record that claims a length, in a file of a size, of which little is."""
  def write(path):
    with open(path, 'ab') as file:
      file.write(struct.pack('<Q', length))
      file.truncate(size)
  return write


@pytest.mark.parametrize('write', [
    _broken(60 * 10**9, 2**37), _broken(0, 2**36), _broken(2**64 - 1, 2**20),
], ids=['60 GB', 'empty records', 'all there is'])
def test_event_files_that_claim_more_than_there_is(run, tmp_path, write):
  path = tmp_path / 'events.out.tfevents.1'
  original, = (run / 'train').glob('events*')
  shutil.copy(original, path)
  whole = path.read_bytes()
  write(path)
  assert path.stat().st_size > len(whole)
  event_files.cut(tmp_path, 10**6)
  assert path.read_bytes() == whole


# ---------------------------------------------------------------- terminals


def test_texts_of_the_folder_cannot_steer_the_terminal(run):
  (run / 'metrics.csv').write_text(f'iteration,{_ESCAPES}\n')
  result = _resume(run)
  _assert_refused(result, '\\x1b[2J')
  assert '\x1b' not in result.error + result.output


def test_nor_can_its_config(run):
  path = run / 'operative_config.gin'
  path.write_text(path.read_text().replace(
      'train_eval.seed = 1', f'train_eval.seed = {_ESCAPES}'
  ))
  result = _resume(run)
  assert result.status == 0, result.error
  assert '\\x1b[2J' in result.output and '\x1b' not in result.output


def test_nor_can_the_name_of_a_folder(tmp_path):
  folder = tmp_path / _ESCAPES.replace('/', '')
  folder.write_text('')
  result = _resume(folder)
  _assert_refused(result, '\\x1b[2J')
  assert '\x1b' not in result.error + result.output


def test_plot_shows_what_is_there_and_nothing_else(tmp_path, capsys):
  from rnd_agent.commands import plot

  for name, content in (
      ('none', _ESCAPES), ('pickle', pickle.dumps(_Bomb(tmp_path / 'mark'))),
      ('short', 'iteration,wall_time_s\n1\n'), ('text', f'a\n{_ESCAPES}\n'),
  ):
    folder = tmp_path / f'{name}{_ESCAPES}'.replace('/', '')
    folder.mkdir()
    data = content if isinstance(content, bytes) else content.encode()
    (folder / 'metrics.csv').write_bytes(data)
    with pytest.raises(SystemExit) as ended:
      plot.main(['plot.py', str(folder)])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith('plot: error: ') and error.count('\n') == 1
    assert '\x1b' not in error
  assert not (tmp_path / 'mark').exists()
