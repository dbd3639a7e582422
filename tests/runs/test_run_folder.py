"""A run's folder from a stranger: what is read, and what is refused."""

import os

import pytest

from rnd_agent.runs import episodes
from rnd_agent.runs import run_folder
from rnd_agent.runs import tables
from rnd_agent.settings import operative_config

_CONFIG = """\
# Parameters for PPOConfig:
# ====================================
PPOConfig.learning_rate = 0.0001
PPOConfig.normalize_advantages = False

# Parameters for train_eval:
# ====================================
ActorCriticNetwork.conv_layer_params = \\
    ((32, 8, 4),
     (64, 4, 2))
scope/train_eval.env_name = 'atari:MontezumaRevenge'
ActorCriticNetwork.core = @GRUCell()
# None.
"""


@pytest.fixture(name='folder')
def _folder(tmp_path):
  path = tmp_path / 'run'
  path.mkdir()
  (path / 'operative_config.gin').write_text(_CONFIG)
  with tables.MetricsFile(path / 'metrics.csv') as file:
    file.write(dict(iteration=1, wall_time_s=1800, entropy=2.5))
    file.write(dict(iteration=2, wall_time_s=3600, episode_return_mean=100))
  return path


def test_an_operative_config_as_gin_writes_it():
  values = operative_config.read(_CONFIG)
  assert values == {
      'PPOConfig.learning_rate': '0.0001',
      'PPOConfig.normalize_advantages': 'False',
      'ActorCriticNetwork.conv_layer_params': '((32, 8, 4), (64, 4, 2))',
      'scope/train_eval.env_name': "'atari:MontezumaRevenge'",
      'ActorCriticNetwork.core': '@GRUCell()',
  }
  plain = [operative_config.plain(value) for value in values.values()]
  assert plain == [
      0.0001, False, '((32, 8, 4), (64, 4, 2))', 'atari:MontezumaRevenge',
      '@GRUCell()',
  ]
  assert operative_config.plain('__import__("os").getcwd()').startswith('__')


def test_metrics_are_read_as_they_were_written(folder):
  columns = run_folder.RunFolder(folder).metrics()
  assert columns['hours'] == [0.5, 1.0]
  assert columns['entropy'][0] == 2.5 and columns['entropy'][1] != 2.5
  assert columns['episode_return_mean'][1] == 100


def test_a_line_that_is_being_written_is_left_out(folder):
  with open(folder / 'metrics.csv', 'a', encoding='utf-8') as file:
    file.write('3,12')
  assert run_folder.RunFolder(folder).metrics()['iteration'] == [1, 2]


@pytest.mark.parametrize('line, part', [
    ('3,1\n', 'line 4: not a row'), ('a,b\n', 'line 4'),
    ('\x1b]0;x\x07' + ',' * 21 + '\n', r'\\x1b\]0;x\\x07'),
])
def test_a_foreign_line_is_one_line(folder, line, part):
  with open(folder / 'metrics.csv', 'a', encoding='utf-8') as file:
    file.write(line)
  with pytest.raises(run_folder.RunFolderError, match=part) as error:
    run_folder.RunFolder(folder).metrics()
  assert '\n' not in str(error.value) and '\x1b' not in str(error.value)


def test_what_is_no_run(tmp_path, folder):
  with pytest.raises(run_folder.RunFolderError, match='no such folder'):
    run_folder.RunFolder(tmp_path / 'none\x1b[2J')
  with pytest.raises(run_folder.RunFolderError, match='is not a run'):
    run_folder.RunFolder(tmp_path)
  (folder / 'metrics.csv').write_text('iteration,wall_time_s\n')
  with pytest.raises(run_folder.RunFolderError, match='no iteration yet'):
    run_folder.RunFolder(folder).metrics()
  (folder / 'metrics.csv').write_bytes(b'\xff\xfe\n')
  with pytest.raises(run_folder.RunFolderError, match='is not text'):
    run_folder.RunFolder(folder).metrics()
  (folder / 'run.json').write_text('[' * 100000)
  with pytest.raises(run_folder.RunFolderError, match='damaged'):
    run_folder.RunFolder(folder).description()
  assert run_folder.printable('a\x1b[2J\nb') == r'a\x1b[2J\nb'


@pytest.mark.parametrize('name', [
    'operative_config.gin', 'metrics.csv', 'run.json', 'places.csv',
])
def test_links_that_lead_out_are_refused(tmp_path, folder, name):
  secret = tmp_path / 'secret'
  secret.write_text('iteration,wall_time_s\n1,2\n')
  (folder / name).unlink(missing_ok=True)
  (folder / name).symlink_to(secret)
  run = run_folder.RunFolder(folder)
  with pytest.raises(run_folder.RunFolderError, match='leads out of the run'):
    run.text(name)


def test_folders_that_lead_out_are_refused(tmp_path, folder):
  (tmp_path / 'outside').mkdir()
  (tmp_path / 'outside' / 'iteration-1.mp4').write_text('x')
  (folder / 'videos').symlink_to(tmp_path / 'outside')
  run = run_folder.RunFolder(folder)
  with pytest.raises(run_folder.RunFolderError, match='leads out of the run'):
    run.videos()
  with pytest.raises(run_folder.RunFolderError, match='leads out of the run'):
    run.file('..', 'outside', 'iteration-1.mp4')
  (folder / 'videos').unlink()
  (folder / 'videos').mkdir()
  (folder / 'videos' / 'iteration-2.mp4').symlink_to(
      tmp_path / 'outside' / 'iteration-1.mp4'
  )
  with pytest.raises(run_folder.RunFolderError, match='leads out of the run'):
    run.videos()


def test_a_pipe_is_not_waited_for(folder):
  (folder / 'metrics.csv').unlink()
  os.mkfifo(folder / 'metrics.csv')
  with pytest.raises(run_folder.RunFolderError, match='not a regular file'):
    run_folder.RunFolder(folder).metrics()


def test_films_are_in_the_order_of_iterations(folder):
  (folder / 'videos').mkdir()
  for name in ('iteration-100.mp4', 'iteration-20.mp4', 'other.mp4', '.x.mp4'):
    (folder / 'videos' / name).write_text('x')
  names = [path.name for path in run_folder.RunFolder(folder).videos()]
  assert names == ['iteration-20.mp4', 'iteration-100.mp4']


def test_places_are_counted_in_the_order_of_their_first_visits(folder):
  with tables.PlacesFile(folder / 'places.csv') as file:
    visits = episodes.PlaceVisits()
    visits.count_steps(7, 3)
    visits.count_steps(2, 5)
    visits.count_episode([2, 7, 9])
    for row in visits.end_iteration(1, 100):
      file.write(row)
    visits.count_steps(2, 4)
    visits.count_steps(0, 1)
    visits.count_episode([2])
    for row in visits.end_iteration(3, 300):
      file.write(row)
    assert not visits.end_iteration(4, 400)
  assert run_folder.RunFolder(folder).places() == [
      run_folder.Place(7, 1, 1, 100, 3, 1),
      run_folder.Place(2, 2, 1, 100, 9, 2),
      run_folder.Place(9, 3, 1, 100, 0, 1),
      run_folder.Place(0, 4, 3, 300, 1, 0),
  ]


def test_places_are_cut_off_on_resume(tmp_path):
  path = tmp_path / 'places.csv'
  rows = [dict(iteration=i, env_steps=10 * i, place=p, steps=1, episodes=0)
          for i, p in ((1, 1), (1, 2), (2, 1), (3, 1), (3, 4))]
  with tables.PlacesFile(path) as file:
    for row in rows:
      file.write(row)
    with pytest.raises(ValueError, match='already'):
      file.write(rows[0])
  with open(path, 'a', encoding='utf-8') as file:
    file.write('3,3')  # Of a crash.
  with tables.PlacesFile(path, last_iteration=2) as file:
    file.write(dict(rows[3], place=5))
  assert path.read_text().splitlines() == [
      'iteration,env_steps,place,steps,episodes',
      '1,10,1,1,0', '1,10,2,1,0', '2,20,1,1,0', '3,30,5,1,0',
  ]
