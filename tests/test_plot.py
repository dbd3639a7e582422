import csv
import math

import pytest

import plot
from rnd_agent import recorder

_ROWS = (
    dict(iteration=1, env_steps=8, frames=32, wall_time_s=1800, entropy=2.5),
    dict(iteration=2, env_steps=16, frames=64, wall_time_s=3600, entropy=2.25,
         episode_return_mean=100),
)


def _run(folder, rows=_ROWS):
  folder.mkdir()
  with recorder.MetricsFile(folder / 'metrics.csv') as file:
    for row in rows:
      file.write(row)
  return folder


def test_a_run_is_read_as_it_was_written(tmp_path):
  columns = plot.read_run(_run(tmp_path / 'a'))
  assert columns['frames'] == [32, 64]
  assert columns['hours'] == [0.5, 1.0]
  assert columns['entropy'] == [2.5, 2.25]
  assert math.isnan(columns['episode_return_mean'][0])
  assert columns['episode_return_mean'][1] == 100
  with open(tmp_path / 'a' / 'metrics.csv', encoding='utf-8') as file:
    assert len(list(csv.reader(file))) == 3


def test_what_cannot_be_drawn_is_one_line(tmp_path):
  with pytest.raises(plot.UsageError, match='cannot be read'):
    plot.read_run(tmp_path / 'none')
  with pytest.raises(plot.UsageError, match='no iteration yet'):
    plot.read_run(_run(tmp_path / 'empty', ()))


def test_a_picture_of_two_runs(tmp_path):
  pytest.importorskip('matplotlib')
  cv2 = pytest.importorskip('cv2')
  runs = {
      name: plot.read_run(_run(tmp_path / name)) for name in ('a', 'b')
  }
  path = tmp_path / 'curves.png'
  plot.draw(runs, 'frames', ['entropy', 'frames', 'env_steps'], path)
  image = cv2.imread(str(path))
  assert image.shape[1] == 1100 and image.std() > 10
  with pytest.raises(plot.UsageError, match="no column 'score'"):
    plot.draw(runs, 'frames', ['score'], path)
