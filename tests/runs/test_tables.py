import errno
import io
import json
import math
import os
import subprocess
import sys

import pytest

from rnd_agent.common import wording
from rnd_agent.runs import episodes
from rnd_agent.runs import metrics as metrics_lib
from rnd_agent.runs import metrics_page
from rnd_agent.runs import progress as progress_lib
from rnd_agent.runs import run_json
from rnd_agent.runs import tables

COLUMNS = ('iteration', 'rooms_mean', 'loss_policy')
METRICS = [metrics_lib.BY_NAME[name] for name in COLUMNS]
HEADER = 'iteration,rooms_mean,loss_policy\n'


def _write(path, iterations, last_iteration=None):
  with tables.MetricsFile(path, METRICS, last_iteration) as metrics:
    for i in iterations:
      metrics.write({'iteration': i, 'rooms_mean': i / 4, 'loss_policy': -i})


def _rows(path):
  lines = path.read_text().splitlines()
  assert lines[0] == ','.join(COLUMNS)
  return [int(line.split(',')[0]) for line in lines[1:]]


def test_default_columns_are_the_documented_ones():
  documented = (
      'iteration, env_steps, frames, wall_time_s, steps_per_second, episodes, '
      'episode_return_mean, episode_return_max, episode_length_mean, '
      'rooms_mean, rooms_discovered, furthest_x_mean, furthest_x_max, '
      'intrinsic_reward_mean, '
      'intrinsic_reward_std, loss_policy, loss_value_ext, loss_value_int, '
      'loss_predictor, entropy, approx_kl, clip_fraction, '
      'explained_variance_ext, explained_variance_int, environment_restarts, '
      'episodes_cut, learning_rate, extrinsic_coefficient, '
      'intrinsic_coefficient, steps_per_second_per_worker'
  )
  assert ', '.join(metrics_lib.COLUMNS) == documented


def test_the_manual_has_the_tables_that_follow_from_the_rows():
  page = metrics_page.PAGE.read_text(encoding='utf-8')
  assert page == metrics_page.with_tables(page), (
      'python -m rnd_agent.runs.metrics_page writes the tables anew'
  )
  for metric in metrics_lib.METRICS:
    assert metric.unit and metric.meaning, metric.name
  with pytest.raises(ValueError, match='0 places for the table of tags'):
    metrics_page.with_tables(page.replace('<!-- tags -->', ''))


class _Bonus:
  """Has two numbers, and a row for one of them."""

  own_metrics = (metrics_lib.Metric('views', since=1, title='views'),)

  def metrics(self):
    return dict(views=3.0, novelty=0.5)


def test_a_bonus_has_rows_of_its_own(tmp_path):
  rows = metrics_lib.rows_with(_Bonus())
  assert metrics_lib.rows_with(None) == metrics_lib.METRICS
  assert rows[:len(metrics_lib.METRICS)] == metrics_lib.METRICS
  views, novelty = rows[len(metrics_lib.METRICS):]
  assert (views.tag, views.since, views.column) == ('bonus/views', 2, True)
  assert (novelty.tag, novelty.column) == ('bonus/novelty', False)
  path = tmp_path / 'metrics.csv'
  with tables.MetricsFile(path, rows) as file:
    file.write({'iteration': 1, **_Bonus().metrics()})
  header, row = path.read_text().splitlines()
  assert header.endswith(',steps_per_second_per_worker,views')
  assert row.endswith(',3')
  # A file that was begun without it goes on without it.
  path.unlink()
  tables.MetricsFile(path).close()
  assert tables.MetricsFile(path, rows).left_out == ('views',)


def test_each_of_several_workers_has_a_row():
  rows = metrics_lib.rows_with(_Bonus(), workers=2)
  assert [row.tag for row in rows[len(metrics_lib.METRICS):][:2]] == [
      'workers/collect_steps_per_second_0', 'workers/collect_steps_per_second_1'
  ]
  assert metrics_lib.columns(rows) == metrics_lib.columns(
      metrics_lib.rows_with(_Bonus())
  )


@pytest.mark.parametrize('row, message', [
    (metrics_lib.Metric('entropy'), 'entropy .* exists'),
    (metrics_lib.Metric('mine', tag='ppo/entropy'), 'ppo/entropy.* exists'),
    (metrics_lib.Metric('a,b'), "'a,b' is not a name"),
])
def test_rows_of_a_bonus_are_checked(row, message):
  bonus = _Bonus()
  bonus.own_metrics = (row,)
  with pytest.raises(ValueError, match=message):
    metrics_lib.rows_with(bonus)


def test_rows_are_on_file_as_soon_as_written(tmp_path):
  path = tmp_path / 'metrics.csv'
  metrics = tables.MetricsFile(path, METRICS)
  metrics.write({'iteration': 1, 'rooms_mean': 1.25, 'loss_policy': 1e-9 / 3})
  assert path.read_text() == HEADER + '1,1.25,3.3333333e-10\n'
  metrics.close()


def test_cells(tmp_path):
  path = tmp_path / 'metrics.csv'
  with tables.MetricsFile(path, METRICS) as metrics:
    metrics.write({'iteration': 1})
    metrics.write({'iteration': 2, 'rooms_mean': math.nan, 'loss_policy': None})
    metrics.write({'iteration': 3, 'loss_policy': math.nan})
    metrics.write({'iteration': 4, 'rooms_mean': 491520000, 'loss_policy': 2.0})
  assert path.read_text() == (
      HEADER + '1,,\n2,,\n3,,nan\n4,491520000,2\n'
  )


def test_resume_continues_without_doubled_or_missing_rows(tmp_path):
  path = tmp_path / 'metrics.csv'
  _write(path, range(1, 8))
  before = path.read_text().splitlines()[:6]
  _write(path, range(6, 9), last_iteration=5)
  assert _rows(path) == [1, 2, 3, 4, 5, 6, 7, 8]
  assert path.read_text().splitlines()[:6] == before
  _write(path, [1], last_iteration=0)  # From the start.
  assert _rows(path) == [1]


def test_reopening_keeps_the_rows(tmp_path):
  path = tmp_path / 'metrics.csv'
  _write(path, [1, 2])
  with tables.MetricsFile(path, METRICS) as metrics:
    assert metrics.last_iteration == 2
    metrics.write({'iteration': 3})
  assert _rows(path) == [1, 2, 3]


@pytest.mark.parametrize('tail', ['3', '3,0.7', '3,0.75,-3'])
def test_partial_last_line_is_cut_off(tmp_path, tail):
  path = tmp_path / 'metrics.csv'
  _write(path, [1, 2])
  path.write_text(path.read_text() + tail)
  _write(path, [3], last_iteration=2)
  assert path.read_text().endswith('2,0.5,-2\n3,0.75,-3\n')


@pytest.mark.parametrize('length', [0, 5, len(HEADER) - 1])
def test_partial_header_is_repaired(tmp_path, length):
  path = tmp_path / 'metrics.csv'
  path.write_text(HEADER[:length])
  _write(path, [1])
  assert path.read_text() == HEADER + '1,0.25,-1\n'


def test_other_columns_are_an_error_and_the_file_stays(tmp_path):
  path = tmp_path / 'metrics.csv'
  path.write_text('iteration,speed\n1,2\n')
  with pytest.raises(ValueError, match='other columns.*iteration,speed'):
    tables.MetricsFile(path, METRICS)
  assert path.read_text() == 'iteration,speed\n1,2\n'


def test_a_file_without_the_later_columns_goes_on_without_them(tmp_path):
  path = tmp_path / 'metrics.csv'
  version_1 = metrics_lib.COLUMNS.index('episodes_cut')
  old = metrics_lib.COLUMNS[:version_1]
  rows = [metrics_lib.BY_NAME[name] for name in old]
  with tables.MetricsFile(path, rows) as metrics:
    metrics.write(dict.fromkeys(old, 1))
  tables.check_tables(tmp_path, 1)
  with tables.MetricsFile(path, last_iteration=1) as metrics:
    assert metrics.left_out == metrics_lib.COLUMNS[version_1:]
    metrics.write({'iteration': 2, 'episodes_cut': 7})
    with pytest.raises(ValueError, match='no column nonsense'):
      metrics.write({'iteration': 3, 'nonsense': 1})
  lines = path.read_text().splitlines()
  assert lines[0] == ','.join(old) and lines[2] == '2' + ',' * (len(old) - 1)
  path.write_text(','.join(old[:-1]) + '\n')
  with pytest.raises(ValueError, match='other columns'):
    tables.check_tables(tmp_path, 1)


class _FullDisk(io.BytesIO):
  """Takes some bytes, then fails until there is room."""

  def __init__(self, room):
    super().__init__()
    self.room = room

  def write(self, data):
    if not self.room:
      raise OSError(errno.ENOSPC, 'No space left on device')
    taken = data[: self.room]
    self.room -= len(taken)
    return super().write(taken)


@pytest.mark.parametrize('room', [0, 5, 12])
def test_a_full_disk_loses_no_row(tmp_path, room):
  places = tables.PlacesFile(tmp_path / 'places.csv')
  places._file.close()
  places._file = disk = _FullDisk(room)
  rows = [
      dict(iteration=1, env_steps=8, place=i, steps=i, episodes=0)
      for i in range(3)
  ]
  for more in (rows, [dict(rows[0], iteration=2)]):
    with pytest.raises(OSError, match='No space'):
      places.write(*more)
  disk.room = 1000
  places.write()
  assert disk.getvalue() == b'1,8,0,0,0\n1,8,1,1,0\n1,8,2,2,0\n2,8,0,0,0\n'


@pytest.mark.parametrize('stdout', ['/dev/full', 'closed pipe'])
def test_output_that_fails_stops_nothing(stdout):
  program = (
      'from rnd_agent.runs.progress import Progress\n'
      'progress = Progress(0)\n'
      'for i in range(1, 999): progress.note("a line"); '
      'progress.update(dict(iteration=i))\n'
      'progress.close()\n'
  )
  if stdout == 'closed pipe':
    reading, stdout = os.pipe()
    os.close(reading)
  else:
    stdout = os.open(stdout, os.O_WRONLY)
  try:
    done = subprocess.run(
        [sys.executable, '-c', program], stdout=stdout, stderr=subprocess.PIPE,
        text=True,
    )
  finally:
    os.close(stdout)
  assert done.returncode == 0
  line, = done.stderr.splitlines()
  assert line.startswith('progress is not shown (')


@pytest.mark.parametrize('line', ['x,1,1', '2,1', '1,1,1', '2,1,1,1'])
def test_foreign_line_is_an_error(tmp_path, line):
  path = tmp_path / 'metrics.csv'
  text = f'{HEADER}1,1,1\n{line}\n5,1,1\n'
  path.write_text(text)
  with pytest.raises(ValueError, match='line 3: not a row'):
    tables.MetricsFile(path, METRICS, last_iteration=4)
  assert path.read_text() == text


def test_write_refuses_unknown_columns_and_repeated_iterations(tmp_path):
  with tables.MetricsFile(tmp_path / 'metrics.csv', METRICS) as metrics:
    metrics.write({'iteration': 1})
    with pytest.raises(ValueError, match='already'):
      metrics.write({'iteration': 1})
    with pytest.raises(ValueError, match='no column speed'):
      metrics.write({'iteration': 2, 'speed': 1})


def test_window_is_unknown_while_empty():
  assert episodes.EpisodeWindow().statistics() == {
      'episodes': 0,
      'episode_return_mean': None,
      'episode_return_max': None,
      'episode_length_mean': None,
      'rooms_mean': None,
      'rooms_discovered': None,
      'furthest_x_mean': None,
      'furthest_x_max': None,
  }


def test_window_forgets_old_episodes_but_not_places():
  window = episodes.EpisodeWindow(size=2)
  window.add(1000.0, 7, places=[1, 9, 9])
  window.add(100.0, 10, places={1})
  window.add(-50.0, 20, places=(1, 2, 3))
  assert window.statistics() == {
      'episodes': 3,
      'episode_return_mean': 25.0,
      'episode_return_max': 100.0,
      'episode_length_mean': 15.0,
      'rooms_mean': 2.0,
      'rooms_discovered': 4,
      'furthest_x_mean': None,
      'furthest_x_max': None,
  }
  assert window.discovered == {1, 2, 3, 9}


def test_furthest_x_is_that_of_the_window_and_of_the_run():
  window = episodes.EpisodeWindow(size=2)
  window.add(0.0, 1, furthest_x=-8.0)
  assert window.statistics()['furthest_x_max'] == -8.0
  assert window.statistics()['rooms_mean'] is None
  for x in (700.0, 40.0, None, 60.0):
    window.add(0.0, 1, furthest_x=x)
  statistics = window.statistics()
  assert statistics['furthest_x_mean'] == 60.0  # The other has none.
  assert statistics['furthest_x_max'] == 700.0


def test_window_state_survives_json():
  window = episodes.EpisodeWindow(size=3)
  for i in range(5):
    window.add(
        float(i), 10 * i, places=[i, 2 * i] if i % 2 else None,
        furthest_x=None if i % 2 else 30.5 - i,
    )
  restored = episodes.EpisodeWindow()
  restored.set_state(json.loads(json.dumps(window.get_state())))
  for each in (window, restored):
    each.add(7.5, 3, places=[77])
  assert restored.statistics() == window.statistics()
  assert restored.get_state() == window.get_state()


class _Terminal(io.StringIO):
  width = 80

  def isatty(self):
    return True

  def fileno(self):
    raise OSError('no terminal size')


class _Clock:
  def __init__(self):
    self.now = 0.0

  def __call__(self):
    return self.now


def test_log_lines_are_limited():
  stream, clock = io.StringIO(), _Clock()
  progress = progress_lib.Progress(100, stream, clock=clock)
  for i in range(1, 101):
    clock.now += 1.0
    progress.update({'iteration': i})
  shown = [int(line.split()[1].split('/')[0])
           for line in stream.getvalue().splitlines()]
  assert shown == [1, 2, 3, 13, 23, 33, 43, 53, 63, 73, 83, 93, 100]
  assert '\r' not in stream.getvalue() and '\x1b' not in stream.getvalue()


def test_line_says_how_far_how_fast_how_long():
  stream, clock = io.StringIO(), _Clock()
  progress = progress_lib.Progress(
      30, stream, clock=clock, env_name='toy:Corridor'
  )
  progress.update({'iteration': 1})
  clock.now = 90.0
  own = metrics_lib.Metric('views', progress='views {number}')
  progress.update(
      dict(
          iteration=10, steps_per_second=1234.5, episode_return_mean=400.0,
          rooms_discovered=7, intrinsic_reward_mean=0.01234,
          furthest_x_max=3161.0, entropy=2.5, views=1000,
      ),
      [*metrics_lib.METRICS, own],
  )
  assert stream.getvalue().splitlines() == [
      'iteration 1/30',
      'iteration 10/30  3m20s left  1,234 steps/s  return 400  places 7  '
      'furthest x 3,161  bonus 0.0123  views 1,000',
  ]


def test_endless_run_has_no_time_left():
  stream = io.StringIO()
  progress = progress_lib.Progress(0, stream)
  progress.update({'iteration': 1})
  progress.update({'iteration': 2, 'rooms_discovered': None})
  assert stream.getvalue() == 'iteration 1\niteration 2\n'


def test_terminal_line_is_rewritten_and_fits(monkeypatch):
  monkeypatch.setenv('TERM', 'xterm')
  stream = _Terminal()
  progress = progress_lib.Progress(1000, stream, clock=_Clock())
  monkeypatch.setattr(progress, '_width', lambda: 40)
  row = dict(steps_per_second=900.0, episode_return_mean=1, rooms_discovered=2)
  progress.update(dict(row, iteration=1))
  progress.update(dict(row, iteration=2))
  progress.note('checkpoint')
  progress.close()
  lines = [line.replace('\x1b[K', '')
           for line in stream.getvalue().replace('\n', '\n\r').split('\r')]
  assert max(map(len, lines)) <= 40
  assert lines == [
      '',
      '1/1000  900 steps/s  return 1  places 2',
      lines[2],
      'checkpoint\n',
      lines[2] + '\n',
      '',
  ]
  assert lines[2].startswith('2/1000  0s left  900 steps/s')


def test_all_of_a_long_run_fits_into_80_columns(monkeypatch):
  monkeypatch.setenv('TERM', 'xterm')
  stream, clock = _Terminal(), _Clock()
  progress = progress_lib.Progress(
      30000, stream, clock=clock, env_name='atari:MontezumaRevenge'
  )
  progress.update({'iteration': 12344})
  clock.now = 75.0
  progress.update(dict(
      iteration=12345, steps_per_second=1234.5, episode_return_mean=12345.6,
      rooms_discovered=15, intrinsic_reward_mean=0.007914123,
  ))
  line = stream.getvalue().rpartition('\x1b[K')[2]
  assert line == (
      '12345/30000  15d07h left  1,234 steps/s  return 12,346  rooms 15  '
      'bonus 0.00791'
  )
  assert len(line) < 80


def test_conclusions(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'executable', str(tmp_path / '.venv/bin/python'))
  row = dict(
      iteration=30000, frames=1966080000, wall_time_s=579000.4, episodes=98765,
      episode_return_mean=16123.25, episode_return_max=28000,
      rooms_discovered=22, furthest_x_max=None,
  )
  montezuma = dict(interrupted=False, env_name='atari:MontezumaRevenge')
  text = progress_lib.conclusion('runs/montezuma', row, **montezuma)
  assert text.splitlines() == [
      'finished after iteration 30000, 1,966,080,000 frames, 6d16h of training',
      'return 16,123 (best 28,000) in the last 100 episodes, 22 rooms '
      'discovered',
      'watch:  .venv/bin/python play.py --root_dir=runs/montezuma '
      '--video=episode.mp4',
      'report: .venv/bin/python plot.py report runs/montezuma',
  ]
  assert 'play.py --root_dir=runs/montezuma\n' in progress_lib.conclusion(
      'runs/montezuma', row, films=False, **montezuma
  )
  row.update(rooms_discovered=1, furthest_x_max=3161.0)
  assert ', 1 place discovered, furthest x 3,161\n' in progress_lib.conclusion(
      'x', row, False, env_name='mario:SuperMarioBros-v0'
  )
  monkeypatch.setattr(sys, 'executable', '/elsewhere/bin/python')
  row.update(iteration=1, episodes=0, episode_return_mean=None,
             rooms_discovered=None, furthest_x_max=None)
  lines = progress_lib.conclusion('a b', row, interrupted=True).splitlines()
  assert lines[0].startswith('stopped after iteration 1,')
  assert lines[1] == 'the same command continues'
  assert lines[3] == "report: /elsewhere/bin/python plot.py report 'a b'"
  assert all(len(line) < 80 for line in text.splitlines() + lines)
  assert 'num_iterations' in progress_lib.conclusion('x', None, False)
  assert 'before the first' in progress_lib.conclusion('x', None, True)


def test_terminal_of_unknown_width_counts_as_80(monkeypatch):
  monkeypatch.setenv('TERM', 'xterm')
  stream = _Terminal()
  progress_lib.Progress(9, stream).bar('x' * 100, 1, 2)
  assert len(stream.getvalue().replace('\r\x1b[K', '')) == 79


def test_bar(monkeypatch):
  monkeypatch.setenv('TERM', 'xterm')
  stream = _Terminal()
  progress = progress_lib.Progress(9, stream)
  progress.bar('statistics', 12, 50)
  progress.update({'iteration': 1})
  assert stream.getvalue() == (
      '\r\x1b[Kstatistics 12/50  [#####...............]\n'
      '\r\x1b[Kiteration 1/9'
  )
  plain = io.StringIO()
  progress = progress_lib.Progress(9, plain, clock=_Clock())
  for i in range(1, 51):
    progress.bar('statistics', i, 50)
  assert plain.getvalue().splitlines() == [
      'statistics 1/50', 'statistics 2/50', 'statistics 3/50',
      'statistics 50/50',
  ]


@pytest.mark.parametrize('seconds, text', [
    (0.4, '0s'), (59, '59s'), (185, '3m05s'), (7620, '2h07m'),
    (5 * 86400 + 3 * 3600, '5d03h'),
])
def test_durations(seconds, text):
  assert progress_lib._duration(seconds) == text


def test_run_json_keeps_every_start(tmp_path):
  run_json.write_run_json(tmp_path, seed=3)
  run_json.write_run_json(tmp_path, seed=3, iteration=40, extra={'gpus': 0})
  content = json.loads((tmp_path / 'run.json').read_text())
  assert [start['iteration'] for start in content['starts']] == [0, 40]
  assert content['seed'] == 3
  assert content['gpus'] == 0 and 'gpus' not in content['starts'][0]
  assert content['python'] == sys.version.split()[0]
  assert content['packages']['tf-agents'] == '0.19.0'
  assert content['machine']['cores'] >= 1
  assert content['machine']['memory_gib'] > 0
  assert 'pytest' in content['command'] or 'python' in content['command']
  assert [path.name for path in tmp_path.iterdir()] == ['run.json']


def test_damaged_run_json_is_an_error(tmp_path):
  (tmp_path / 'run.json').write_text('{"starts": [')
  with pytest.raises(ValueError, match='run.json is damaged'):
    run_json.write_run_json(tmp_path, seed=1)


def test_source_version_tells_commit_and_changes(tmp_path, monkeypatch):
  source = tmp_path / 'module.py'
  monkeypatch.setattr(run_json, '_SOURCE', source)
  source.write_text('1\n')

  def git(*arguments):
    identity = ['-c', 'user.name=n', '-c', 'user.email=e']
    return subprocess.run(
        ['git', *identity, *arguments], cwd=tmp_path, check=True,
        capture_output=True, text=True,
    ).stdout.strip()

  git('init')
  assert run_json._source_version() is None
  git('add', 'module.py')
  git('commit', '-m', 'one')
  commit = git('rev-parse', 'HEAD')
  assert run_json._source_version() == {'commit': commit, 'dirty': False}
  source.write_text('2\n')
  assert run_json._source_version() == {'commit': commit, 'dirty': True}


@pytest.mark.parametrize('value, text', [
    (28000.0, '28,000'), (1234567.8, '1,234,568'), (-12345.6, '-12,346'),
    (999.0, '999'), (0.0, '0'), (0.0123456, '0.01235'), (123.456, '123.5'),
    (float('nan'), '-'), (float('inf'), 'inf'),
])
def test_numbers_have_no_exponents(value, text):
  assert wording.number(value) == text


def test_places_are_rooms_where_they_are():
  assert wording.places('MontezumaRevengeNoFrameskip-v4', 1) == 'room'
  assert wording.places('ALE/Pitfall-v5') == 'rooms'
  assert wording.places('minigrid:MiniGrid-FourRooms-v0', 1) == 'place'
  assert wording.places('toy:Corridor', 0) == 'places'
