import csv
import html.parser
import io
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from rnd_agent.commands import plot
from rnd_agent.common import film_files
from rnd_agent.environments import suites
from rnd_agent.runs import run_folder
from rnd_agent.runs import tables
from rnd_agent.viewing import aggregate
from rnd_agent.viewing import comparison
from rnd_agent.viewing import curve_panels
from rnd_agent.viewing import curves
from rnd_agent.viewing import episode_trace
from rnd_agent.viewing import figures
from rnd_agent.viewing import panel
from rnd_agent.viewing import pictures
from rnd_agent.viewing import report

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_HOSTILE = '<script>alert(1)</script>\'"&$x_$'


def _run(
    folder, seed=1, rate='0.0001', iterations=7, offset=0.0, more='',
    scores=None,
):
  """A run whose entropy and score are known; its first score is missing."""
  if scores is None:
    scores = [100 * i + 7 * seed if i > 1 else None
              for i in range(1, iterations + 1)]
  folder.mkdir(parents=True)
  (folder / 'operative_config.gin').write_text(
      f"PPOConfig.learning_rate = {rate}\ntrain_eval.seed = {seed}\n"
      f"train_eval.env_name = 'atari:MontezumaRevenge'\n{more}\n"
  )
  with tables.MetricsFile(folder / 'metrics.csv') as file:
    for i in range(1, iterations + 1):
      file.write(dict(
          iteration=i, env_steps=8 * i, frames=32 * i, wall_time_s=1800 * i,
          entropy=2.5 - offset - i / 7 * seed, episodes=100 + i,
          episode_return_mean=scores[i - 1],
      ))
  return folder


def _trace(length=50, **changes):
  steps = np.arange(length)
  reward = np.sin(steps / 3).astype(np.float32) ** 2
  values = dict(
      title=_HOSTILE, action_names=('NOOP', 'UP'), bonus=reward * 2,
      intrinsic_reward=reward, value_ext=reward, value_int=-reward,
      score=np.where(steps > 20, 100.0, 0.0), place=steps // 20,
      action=steps % 2, probabilities=np.full((length, 2), 0.5, np.float32),
      frames=tuple(episode_trace.encode(np.full((21, 31, 3), i % 256, np.uint8))
                   for i in range(length)),
  )
  return episode_trace.EpisodeTrace(**{**values, **changes})


def _read(*folders):
  return [curves.read(run_folder.RunFolder(folder)) for folder in folders]


def _frames(path):
  import cv2

  capture, frames = cv2.VideoCapture(str(path)), []
  while True:
    read, frame = capture.read()
    if not read:
      return frames
    frames.append(frame)


# ------------------------------------------------------------------- curves


def test_the_table_of_a_figure_is_metrics_csv(tmp_path):
  folder = _run(tmp_path / 'a')
  output = tmp_path / 'curves.svg'
  written = plot.draw_curves(
      _read(folder), 'frames',
      ['entropy', 'episode_return_mean'], 'none', output,
  )
  assert [path.suffix for path in written] == ['.svg', '.csv', '.md']
  with open(folder / 'metrics.csv', encoding='utf-8') as file:
    rows = list(csv.DictReader(file))
  with open(tmp_path / 'curves.csv', encoding='utf-8') as file:
    points = list(csv.DictReader(file))
  for metric in ('entropy', 'episode_return_mean'):
    assert [(p['frames'], p['value']) for p in points
            if p['metric'] == metric] == [
                (row['frames'], row[metric]) for row in rows]
  assert output.read_text().lstrip().startswith('<?xml')
  assert f'| {float(rows[-1]["entropy"]):.4g}' in (
      tmp_path / 'curves.md').read_text()


def test_a_group_is_its_interquartile_mean_and_interval(tmp_path):
  folders = [_run(tmp_path / str(s), seed=s, iterations=4 + s)
             for s in (1, 2, 3, 4, 5)]
  runs = _read(*folders)
  curve, = curves.curves(runs, 'frames', 'entropy', grouping='config')
  assert curve.runs == 5 and curve.label == 'atari:MontezumaRevenge'
  np.testing.assert_array_equal(curve.x, runs[0].columns['frames'])
  scores = np.array([run.columns['entropy'][:5] for run in runs])
  # Of five runs the lowest and the highest are left out.
  expected = np.sort(scores, axis=0)[1:4].mean(0)
  np.testing.assert_allclose(curve.y, expected, rtol=1e-12)
  interval = aggregate.bootstrap_interval(
      scores[:, np.newaxis], repetitions=2000
  )
  np.testing.assert_array_equal(curve.low, interval.low)
  np.testing.assert_array_equal(curve.high, interval.high)
  assert (curve.low < curve.y).all() and (curve.y < curve.high).all()


def test_a_point_that_a_run_lacks_is_left_out(tmp_path):
  runs = _read(_run(tmp_path / 'a'), _run(tmp_path / 'b', seed=2))
  runs[1].columns['episode_return_mean'][0] = 50.0
  curve, = curves.curves(runs, 'frames', 'episode_return_mean', 'config')
  assert np.isnan([curve.y[0], curve.low[0], curve.high[0]]).all()
  np.testing.assert_allclose(curve.y[1], 200 + 7 * 1.5)


def test_runs_that_write_at_other_steps_meet_at_the_last_row_before():
  xs, ys = np.array([2.0, 4.0, 8.0]), np.array([1.0, 2.0, 3.0])
  np.testing.assert_array_equal(
      curves._at(np.array([2.0, 3.9, 4.0, 7.0, 9.0]), xs, ys), [1, 1, 2, 2, 3]
  )
  grid = curves._common_grid(
      [np.arange(1.0, 1001), np.arange(5.0, 2001)], [False, False]
  )
  assert (grid[0], grid[-1], grid.size) == (5, 1000, 200)


def test_groups_are_named_by_what_differs(tmp_path):
  runs = _read(
      _run(tmp_path / 'a'),
      _run(tmp_path / 'b', seed=2, more='train_eval.progress = False'),
      _run(tmp_path / 'c', rate='0.0003'),
  )
  groups = curves.by_config(runs)
  assert {label: len(members) for label, members in groups.items()} == {
      'learning_rate=0.0001': 2, 'learning_rate=0.0003': 1,
  }


def test_groups_are_named_by_their_environment_first_and_networks_last():
  def run(env_name, units, rate, coefficient):
    return curves.Run('x', {'frames': [1.0]}, {
        'ActorCriticNetwork.units': units, 'PPOConfig.gae_lambda': rate,
        'RNDConfig.intrinsic_coefficient': coefficient,
        'train_eval.env_name': f"'{env_name}'",
    })

  assert list(curves.by_config([
      run('toy:Corridor', '8', '0.1', '1.0'),
      run('toy:Recall', '16', '0.2', '0.5'),
  ])) == [
      'toy:Corridor, intrinsic_coefficient=1.0, gae_lambda=0.1, units=8',
      'toy:Recall, intrinsic_coefficient=0.5, gae_lambda=0.2, units=16',
  ]


def test_settings_that_only_some_runs_have_name_a_group_if_nothing_else_does():
  def run(**config):
    return curves.Run('x', {'frames': [1.0]}, config)

  a = run(coefficient='1.0', dropout='None')
  assert list(curves.by_config([a, run(coefficient='0.0')])) == [
      'coefficient=1.0', 'coefficient=0.0']
  assert list(curves.by_config([a, run(coefficient='1.0')])) == [
      'dropout=None', 'dropout=-']


def test_runs_are_grouped_by_their_bonus():
  def run(label, env_name='Corridor-v0', **config):
    config = {f'train_eval.{k}': v for k, v in config.items()}
    config['train_eval.env_name'] = f"'{env_name}'"
    return curves.Run(label, {}, config)

  old = run('old')  # Before there was a choice.
  rnd = run('rnd', bonus='@RandomNetworkDistillation', seed='2')
  noveld = run('noveld', bonus='@rnd_agent.NovelD')
  product = run('product', bonus='@ProductOfBonuses')
  product.config['ProductOfBonuses.bonuses'] = '(@NovelD, @rnd_agent.E3B,)'
  without = run('without', bonus='@NovelD')
  without.config['RNDConfig.intrinsic_coefficient'] = '0.0'
  none = run('none', bonus='None')
  runs = [old, rnd, noveld, product, without, none]
  assert curves.by_bonus(runs) == {
      'RandomNetworkDistillation': [old, rnd], 'NovelD': [noveld],
      'NovelD x E3B': [product], 'no bonus': [without, none],
  }
  recall = run('recall', 'Recall-v0', bonus='@NovelD')
  assert list(curves.by_bonus([noveld, recall])) == [
      'Corridor-v0, NovelD', 'Recall-v0, NovelD'
  ]
  with pytest.raises(curves.CurvesError, match='bare has no'):
    curves.by_bonus([curves.Run('bare', {}, None)])


def test_a_run_that_reached_its_target_goes_on(tmp_path):
  """Of three, one succeeds at 3, one at 5; the third goes on without."""
  target = 'train_eval.target_return = 0.6'

  def run(name, scores, more=target):
    return _run(tmp_path / name, more=more, iterations=len(scores),
                scores=scores)

  runs = _read(run('a', [0.0, 0.0, 0.9]), run('b', [0.0, 0.0, 0.1, 0.2, 0.6]))
  curve, = curves.curves(runs, 'frames', 'episode_return_mean', 'config')
  np.testing.assert_array_equal(curve.x, runs[1].columns['frames'])
  np.testing.assert_allclose(curve.y, [0.0, 0.0, 0.5, 0.55, 0.75])
  runs += _read(run('c', [0.0, 0.0, 0.0, 0.3]))  # The shortest that goes on.
  curve, = curves.curves(runs, 'frames', 'episode_return_mean', 'config')
  np.testing.assert_array_equal(curve.x, runs[2].columns['frames'])
  np.testing.assert_allclose(curve.y[-1], (0.9 + 0.2 + 0.3) / 3)
  others = [r._replace(config=dict(
      r.config, **{'train_eval.target_return': 'None'})) for r in runs[:2]]
  curve, = curves.curves(others, 'frames', 'episode_return_mean', 'config')
  assert len(curve.x) == 3
  # 50 episodes: their score is no mean of 100 yet, and training went on.
  early = {'episodes': [50.0], 'episode_return_mean': [0.9]}
  assert not curves.has_reached(early, 0.6)


def test_what_cannot_be_drawn_is_one_line(tmp_path):
  runs = _read(_run(tmp_path / 'a'), _run(tmp_path / 'b', seed=2))
  with pytest.raises(curves.CurvesError, match="no column 'score'"):
    curves.curves(runs, 'frames', 'score')
  bare = [run._replace(config=None) for run in runs]
  with pytest.raises(curves.CurvesError, match='its settings are unknown'):
    curves.curves(bare, 'frames', 'entropy', grouping='config')
  apart = [run._replace(columns=dict(run.columns, frames=[f] * 7))
           for run, f in zip(runs, (1.0, 2.0))]
  with pytest.raises(curves.CurvesError, match='in common'):
    curves.curves(apart, 'frames', 'entropy', grouping='config')
  with pytest.raises(figures.FigureError, match='end in .png'):
    figures.check_name('curves.jpeg')
  with pytest.raises(figures.FigureError, match='no folder'):
    figures.check_name(tmp_path / 'none' / 'x.png')


def test_what_is_drawn_is_the_table(tmp_path):
  folders = [_run(tmp_path / str(seed), seed) for seed in (1, 2, 3)]
  for grouping in curves.GROUPINGS:
    metrics = ['entropy', 'episode_return_mean']
    panels = {m: curves.curves(_read(*folders), 'frames', m, grouping)
              for m in metrics}
    drawing = curve_panels.figure(panels, 'frames', 'rooms')
    points = list(csv.DictReader(io.StringIO(curves.table(panels, 'frames'))))
    for axis, metric in zip(drawing.axes, metrics):
      for line, curve in zip(axis.lines, panels[metric], strict=True):
        rows = [p for p in points
                if (p['metric'], p['curve']) == (metric, curve.label)]
        x, y = (np.array([float(row[name] or 'nan') for row in rows])
                for name in ('frames', 'value'))
        np.testing.assert_allclose(line.get_xdata(), x)
        np.testing.assert_allclose(line.get_ydata(), y, rtol=1e-7)
      assert len(axis.collections) == (grouping != 'none')  # The band.
    if grouping != 'none':
      band = drawing.axes[0].collections[0].get_paths()[0].vertices
      low, high = (np.array([float(p[name]) for p in points
                             if p['metric'] == 'entropy'])
                   for name in ('low', 'high'))
      assert (low < high).all()
      np.testing.assert_allclose(band[1:8, 1], low, rtol=1e-6)
      np.testing.assert_allclose(band[15:8:-1, 1], high, rtol=1e-6)
    figures.png(drawing)


def test_a_legend_of_many_runs_tells_them_apart(tmp_path):
  folders = [_run(tmp_path / 'runs' / f'seed-{i}-of-a-long-name')
             for i in range(12)]
  panels = {'entropy': curves.curves(_read(*folders), 'frames', 'entropy')}
  drawing = curve_panels.figure(panels, 'frames')
  looks = {(line.get_color(), line.get_linestyle())
           for line in drawing.axes[0].lines}
  assert len(looks) == 12
  legend, = drawing.legends
  assert [t.get_text() for t in legend.texts] == [f.name for f in folders]
  drawing.canvas.draw()
  inside = drawing.bbox
  box = legend.get_window_extent()
  assert inside.x0 <= box.x0 < box.x1 <= inside.x1
  assert inside.y0 <= box.y0 < box.y1 < drawing.axes[0].bbox.y0
  assert drawing.axes[0].bbox.height / drawing.dpi > 1.5  # Inches.
  figures.png(drawing)


def test_the_legend_says_what_a_band_is_and_counts_are_whole(tmp_path):
  runs = _read(_run(tmp_path / 'a'), _run(tmp_path / 'b', seed=2))
  for run in runs:
    run.columns['rooms_discovered'] = [1.0, 1, 1, 2, 2, 3, 3]
  metrics = ['rooms_discovered']
  panels = {m: curves.curves(runs, 'frames', m, 'config') for m in metrics}
  drawing = curve_panels.figure(panels, 'frames', curves.place_word(runs))
  legend, = drawing.legends
  assert legend.get_title().get_text() == (
      'interquartile mean, 95 % bootstrap interval')
  axis = drawing.axes[0]
  assert axis.get_title('left') == 'rooms discovered'
  drawing.canvas.draw()
  assert all(tick == round(tick) for tick in axis.get_yticks())
  figures.png(drawing)


def test_a_picture_of_two_runs_and_names_that_are_no_mathematics(tmp_path):
  cv2 = pytest.importorskip('cv2')
  folders = [_run(tmp_path / n) for n in ('_$a', '$x^{')]
  path = tmp_path / 'curves.png'
  plot.draw_curves(
      _read(*folders), 'frames',
      ['entropy', 'frames', 'episode_return_mean'], 'none', path,
  )
  image = cv2.imread(str(path))
  assert image.shape[1] == 1144 and image.std() > 10


def test_the_comparison_names_what_differs(tmp_path):
  runs = _read(
      _run(tmp_path / 'a'), _run(tmp_path / 'b', seed=2, rate='0.0003')
  )
  header, rows = comparison.table(runs)
  column = {name: [row[i] for row in rows] for i, name in enumerate(header)}
  assert column['PPOConfig.learning_rate'] == ['0.0001', '0.0003']
  assert column['train_eval.seed'] == ['1', '2']
  assert column['episode_return_mean'] == ['707', '714']
  assert 'train_eval.env_name' not in column
  parsed = list(csv.reader(io.StringIO(comparison.as_csv(header, rows))))
  assert parsed == [header, *rows]
  runs[0].columns['env_steps'][-1] = 12345678.0
  header, rows = comparison.table(runs, exact=False)
  assert '12,345,678' in rows[0] and '3.5' in rows[0]  # Hours.
  assert '12345678' in comparison.table(runs)[1][0]
  assert 'learning_rate' in comparison.as_markdown(header, rows)


# ------------------------------------------------------------------- traces


def test_a_trace_is_saved_and_read_without_pickle(tmp_path):
  trace = _trace()
  trace.save(tmp_path / 'out.npz')
  again = episode_trace.load(tmp_path / 'out.npz')
  assert again.title == trace.title and again.action_names == ('NOOP', 'UP')
  assert again.frames == trace.frames
  for name in episode_trace._ARRAYS:
    np.testing.assert_array_equal(getattr(again, name), getattr(trace, name))
  assert (again.frame(7) == 7).all() and again.frame(7).shape == (21, 31, 3)


def test_files_that_are_no_trace_are_one_line(tmp_path):
  path = tmp_path / 'out.npz'
  with pytest.raises(episode_trace.TraceError, match='cannot be read'):
    episode_trace.load(path)
  path.write_bytes(b'no zip at all')
  with pytest.raises(episode_trace.TraceError, match='is no trace'):
    episode_trace.load(path)
  np.savez(path, score=np.array([print], dtype=object))  # Would be unpickled.
  with pytest.raises(episode_trace.TraceError, match='is no trace'):
    episode_trace.load(path)
  _trace(score=np.zeros(3)).save(path)
  with pytest.raises(episode_trace.TraceError, match='differ in length'):
    episode_trace.load(path)
  _trace(frames=_trace().frames[:3]).save(path)
  with pytest.raises(episode_trace.TraceError, match='frames'):
    episode_trace.load(path)
  with pytest.raises(episode_trace.TraceError, match='no picture'):
    episode_trace.decode(b'PNG')


def test_peaks_keep_their_distance():
  values = np.array([0, 5, 4.9, 1, 3, np.nan, 0, 4], np.float32)
  assert episode_trace.peaks(values, 3, 2) == [1, 4, 7]
  assert episode_trace.peaks(values, 2, 2) == [1, 7]
  assert episode_trace.peaks(values, 8, 100) == [1]
  assert episode_trace.peaks(np.full(4, np.nan), 3) == []


@pytest.mark.parametrize('suffix', ['.mp4', '.gif'])
def test_a_film_has_as_many_frames_as_the_episode(tmp_path, suffix):
  trace = _trace()
  drawn = panel.Panel(trace)
  path = tmp_path / f'film{suffix}'
  with film_files.FilmFile(path, 12.5) as film:
    for frame in drawn.frames():
      film.write(frame)
  frames = _frames(path)
  assert len(frames) == film.count == trace.length == 50
  assert frames[0].shape == drawn.shape
  # The game's grey value of each frame, on the left.
  for i in (0, 30, 49):
    assert abs(frames[i][200, 40].astype(int) - i).max() <= 6, i
  assert [path.name for path in tmp_path.iterdir()] == [f'film{suffix}']


def test_a_film_that_fails_leaves_nothing(tmp_path):
  with pytest.raises(film_files.FilmError, match='films end in .mp4 or .gif'):
    film_files.check_name('film.avi')
  with pytest.raises(film_files.FilmError, match='no frame'):
    with film_files.FilmFile(tmp_path / 'film.mp4', 10):
      pass
  with pytest.raises(film_files.FilmError, match='of shape'):
    with film_files.FilmFile(tmp_path / 'film.mp4', 10) as film:
      film.write(np.zeros((8, 8, 3), np.uint8))
      film.write(np.zeros((8, 10, 3), np.uint8))
  assert not list(tmp_path.iterdir())


def _box(frame, game_width=600):
  """Where a frame's panel is, without the game."""
  return frame[:, game_width:].astype(int)


def test_a_panel_writes_numbers_and_draws_bars():
  """Each number changes its own part of the panel, and nothing else."""
  trace = _trace(title='atari:MontezumaRevenge, iteration 26')
  width = panel.Panel(trace).shape[1] - 380
  frame = panel.Panel(trace, 'episode 2/5').frame(30)
  for change, rows, columns in (
      (dict(score=trace.score + 5), (10, 32), (0, 190)),
      (dict(place=trace.place + 3), (38, 56), (0, 190)),
      (dict(action=1 - trace.action), (300, 420), (0, 380)),
      (dict(probabilities=np.tile(np.float32([0.9, 0.1]), (50, 1))),
       (290, 420), (0, 380)),
      (dict(action_names=('LEFT', 'RIGHT')), (300, 420), (0, 380)),
      (dict(title='atari:Venture, iteration 27'), (38, 56), (0, 380)),
  ):
    other = panel.Panel(trace._replace(**change), 'episode 2/5').frame(30)
    y, x = np.nonzero((_box(frame, width) != _box(other, width)).any(-1))
    assert y.size > 5, change
    assert rows[0] <= y.min() and y.max() < rows[1], change
    assert columns[0] <= x.min() and x.max() < columns[1], change
  other = panel.Panel(trace, 'episode 3/5').frame(30)
  assert (other != frame).any()


def test_bars_are_as_long_as_probabilities():
  trace = _trace(probabilities=np.tile(np.float32([0.8, 0.2]), (50, 1)))
  frame = panel.Panel(trace).frame(30)  # Action 0 is taken.
  length = [((frame == colour).all(-1)).sum(1).max() for colour in (
      panel._ACTION, tuple(c // 2 for c in panel._ACTION))]
  assert length[0] > 200 and length[1] == pytest.approx(length[0] / 4, abs=2)


def test_values_fill_their_chart_and_the_bonus_stands_on_zero():
  assert panel._limits(np.array([1.48, np.nan, 1.73])) == (1.48, 1.73)
  assert panel._limits(np.array([0.2, 0.5]), from_zero=True) == (0.0, 0.5)
  low, high = panel._limits(np.array([3.0, 3.0]))
  assert low < 3.0 < high and (low + high) / 2 == pytest.approx(3.0)
  trace = _trace(value_int=np.linspace(1.0, 2.0, 50, dtype=np.float32))
  frame = panel.Panel(trace).frame(49)
  like_it = np.abs(frame - np.array(panel._VALUE_INT)).max(-1) < 40
  y, _ = np.nonzero(like_it[:285])
  grey = (panel.Panel(_trace(value_ext=np.linspace(-1, 3, 50))).frame(49)
          == panel._GRID).all(-1)
  assert np.flatnonzero(grey[162:202].sum(1) > 200) == 194 - 162  # Zero.
  inside = y[y > 232]
  assert inside.min() < 238 and inside.max() > 274  # Of 232 to 280.


def test_a_panel_without_bonus_places_or_discrete_actions():
  nothing = np.full(50, np.nan, np.float32)
  trace = _trace(
      bonus=nothing, intrinsic_reward=nothing, place=np.full(50, -1),
      action=np.full(50, -1), probabilities=np.zeros((50, 0), np.float32),
      action_names=(),
  )
  assert panel.Panel(trace).frame(49).shape == panel.Panel(trace).shape
  with pytest.raises(episode_trace.TraceError, match='no bonus'):
    pictures.novelty(trace)
  with pytest.raises(episode_trace.TraceError, match='renders no frames'):
    panel.Panel(trace._replace(frames=()))


# ----------------------------------------------------------------- pictures


def test_the_pyramid_has_every_room_once():
  cells = pictures._layout([1, 23, 40], pyramid=True)
  assert sorted(cells) == [*range(24), 40]
  assert len(set(cells.values())) == 25
  rows = [[room for room in sorted(cells) if cells[room][0] == row]
          for row in range(5)]
  assert [len(row) for row in rows] == [3, 5, 7, 9, 1]
  assert cells[1] == (0, 4) and cells[19] == (3, 4)  # One below the other.
  assert pictures.is_montezuma('MontezumaRevengeNoFrameskip-v4')
  assert not pictures.is_montezuma('atari:Pitfall')


@pytest.mark.parametrize('env_name', ['atari:MontezumaRevenge', 'toy:Corridor'])
def test_rooms_are_drawn_as_they_were_counted(env_name):
  places = [run_folder.Place(1, 1, 1, 128, 999, 3),
            run_folder.Place(6, 2, 4, 51200, 1, 1)]
  drawing = pictures.rooms(places, env_name)
  texts = [text.get_text() for text in drawing.axes[0].texts]
  for text in ('1.', '999 steps', '3 episodes', 'by 128', '2.', '1 step',
               '1 episode', 'by 51.2k'):
    assert text in texts, texts
  title = drawing.axes[0].get_title('left')
  what = '2 rooms' if 'atari' in env_name else '2 places'
  assert f'{env_name}: {what}, in the order' in title
  assert len(drawing.axes[0].patches) == (24 if 'atari' in env_name else 2)
  figures.png(drawing)
  with pytest.raises(run_folder.RunFolderError, match='no places yet'):
    pictures.rooms([], env_name)
  drawing = pictures.rooms(places[:1], env_name)
  assert f'{what[2:-1]};' in drawing.axes[0].get_title('left')
  figures.png(drawing)


def test_the_ink_stands_out_from_the_room():
  shares = 4.0 ** -np.arange(12)
  places = [run_folder.Place(i, i + 1, 1, 8, int(4**12 * share), 1)
            for i, share in enumerate(shares)]
  drawing = pictures.rooms(places, 'atari:MontezumaRevenge')
  axis = drawing.axes[0]
  inks = {text.get_text(): text.get_color() for text in axis.texts
          if text.get_fontsize() == 13}
  # Patches are drawn in the pyramid's order, which is that of the numbers.
  for number, patch in zip(range(12), axis.patches):
    light = np.dot((0.2126, 0.7152, 0.0722), patch.get_facecolor()[:3])
    ink = 1.0 if inks[str(number)] == 'white' else 0.13
    assert abs(light - ink) > 0.35, number
  assert set(inks.values()) >= {'white', '#222222'}
  figures.png(drawing)


def test_the_cells_of_a_grid_lie_where_they_lie():
  places = [run_folder.Place(cell, order, 1, 8, 5, 1)
            for order, cell in enumerate((57, 58, 82), start=1)]
  drawing = pictures.rooms(places, 'minigrid:MiniGrid-MultiRoom-N6-v0', 25)
  at = {text.get_text(): text.get_position() for text in drawing.axes[0].texts}
  assert at == {'1': (0.5, -0.5), '2': (1.5, -0.5), '3': (0.5, -1.5)}
  figures.png(drawing)


def test_minigrid_tells_its_width():
  pytest.importorskip('minigrid')
  assert suites.grid_width('minigrid:MiniGrid-MultiRoom-N6-v0') == 25
  assert suites.grid_width('MiniGrid-Empty-5x5-v0') == 5
  assert suites.grid_width('toy:Corridor') is None
  assert suites.grid_width('minigrid:Nothing') is None
  assert suites.grid_width('minigrid:MiniGrid-Nothing-v0') is None
  before = set(sys.modules)
  for name in ('gymnasium:antigravity:X-v0', 'minigrid:antigravity:X-v0',
               'MiniGrid-antigravity:X-v0'):
    assert suites.grid_width(name) is None
  assert 'antigravity' not in set(sys.modules) - before


def test_novelty_shows_the_frames_of_its_peaks():
  trace = _trace(score=np.where(np.arange(50) > 20, 12345678.0, 0.0))
  drawing = pictures.novelty(trace)
  *pictures_, axis = drawing.axes
  peaks = episode_trace.peaks(trace.intrinsic_reward, 6)
  assert len(pictures_) == len(peaks) > 2
  for i, (shown, step) in enumerate(zip(pictures_, peaks), start=1):
    np.testing.assert_array_equal(shown.images[0].get_array(),
                                  trace.frame(step))
    assert shown.get_title() == f'{i}: step {step}, place {step // 20}'
  np.testing.assert_array_equal(axis.lines[0].get_ydata(),
                                trace.intrinsic_reward)
  dotted = [line.get_xdata()[0] for line in axis.lines
            if line.get_linestyle() == ':']
  assert dotted == [21]
  assert axis.get_title('left').endswith('score 12,345,678 (dotted: points)')
  figures.png(drawing)


def test_points_at_every_step_are_not_drawn():
  drawing = pictures.novelty(_trace(score=-np.arange(50.0)))
  axis = drawing.axes[-1]
  assert all(line.get_linestyle() != ':' for line in axis.lines)
  assert 'dotted' not in axis.get_title('left')
  figures.png(drawing)


# ------------------------------------------------------------------- report


class _Links(html.parser.HTMLParser):
  """Collects tags, and attributes that could load something."""

  def __init__(self):
    super().__init__()
    self.tags, self.links = [], []

  def handle_starttag(self, tag, attributes):
    self.tags.append(tag)
    self.links += [value for name, value in attributes
                   if name in ('src', 'href', 'srcset', 'data', 'action')]


def _page(folder, trace=None):
  episode = report.Episode(trace, reason='there is none.')
  return report.page(run_folder.RunFolder(folder), ['entropy'], episode)


def test_the_report_needs_nothing_else_and_escapes_all(tmp_path):
  folder = _run(tmp_path / _HOSTILE.replace('/', '_'))
  with open(folder / 'operative_config.gin', 'a', encoding='utf-8') as file:
    file.write(f'x.y = "{_HOSTILE}"\n')
  (folder / 'run.json').write_text(
      '{"command": "<img src=http://a.b/c>", "packages": {"<b>": "<i>"}, '
      '"source": {"commit": "</table><script>"}}'
  )
  with tables.PlacesFile(folder / 'places.csv') as file:
    file.write(dict(iteration=1, env_steps=8, place=1, steps=8, episodes=0))
  (folder / 'videos').mkdir()
  with film_files.FilmFile(folder / 'videos' / 'iteration-7.mp4', 10) as film:
    film.write(np.zeros((8, 8, 3), np.uint8))
  text = _page(folder, _trace(400))
  links = _Links()
  links.feed(text)
  # Curves, rooms, novelty; three clips and the trainer's film.
  assert links.tags.count('img') == 3 and links.tags.count('video') == 4
  assert len(links.links) == 7
  assert all(re.fullmatch(r'data:(image/png|video/mp4);base64,[\w+/=]+', link)
             for link in links.links)
  assert not {'script', 'i', 'link', 'iframe'} & set(links.tags)
  assert '<script' not in text and '<img src=http' not in text
  assert '&lt;script&gt;alert(1)' in text
  assert "default-src 'none'" in text
  assert not re.search(r'url\(|@import', text)


def test_the_report_says_what_it_lacks(tmp_path):
  text = _page(_run(tmp_path / 'a'))
  for part in ('No episode: there is none.', 'The run has no places.csv.',
               'The trainer has filmed nothing yet.',
               'The run has no run.json.'):
    assert part in text
  assert text.count('<img') == 1


# ------------------------------------------------------------- command line


@pytest.mark.parametrize('backend', ['nonsense', 'module://nowhere.inline'])
def test_a_notebooks_backend_is_neither_needed_nor_changed(tmp_path, backend):
  """A process that a notebook starts has its MPLBACKEND, not its packages."""
  _run(tmp_path / 'a')
  (tmp_path / 'a' / 'places.csv').write_text(
      'iteration,env_steps,place,steps,episodes\n1,8,1,8,0\n'
  )
  program = ("import os, sys; from rnd_agent.commands import plot; "
             "plot.main(['plot', *sys.argv[1:]]); "
             "assert 'matplotlib.pyplot' not in sys.modules; "
             f"assert os.environ['MPLBACKEND'] == {backend!r}")
  for arguments in (['a', '--output=a.png'], ['rooms', 'a', '--output=b.pdf'],
                    ['report', 'a', '--noepisode', '--output=c.html']):
    result = subprocess.run(
        [sys.executable, '-c', program, *arguments], cwd=tmp_path, text=True,
        capture_output=True, check=False,
        env={**os.environ, 'MPLBACKEND': backend, 'PYTHONPATH': str(_ROOT)},
    )
    assert result.returncode == 0, result.stderr


@pytest.fixture(name='command')
def _command(tmp_path, monkeypatch):
  """Runs plot.main in this process, since a start takes a second."""
  monkeypatch.chdir(tmp_path)
  plot._FLAGS.mark_as_parsed()
  before = plot._FLAGS.flag_values_dict()

  def run(*arguments):
    try:
      plot.main(['plot.py', *map(str, arguments)])
    finally:
      for name, value in before.items():
        plot._FLAGS[name].value = value
        plot._FLAGS[name].using_default_value = True

  return run


def test_nothing_but_its_own_files_is_replaced(tmp_path, command, capsys):
  a = _run(tmp_path / 'a')
  (tmp_path / 'README.md').write_text('# Mine\n')
  (tmp_path / 'mine.html').write_text('<!DOCTYPE html>\n<html>mine</html>')
  before = {p: p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()}
  for arguments, part in (
      ((a, '--output=a/metrics.png'), 'metrics.csv is a file of the run'),
      ((a, '--output=a/places.svg'), 'places.csv is a file of the run'),
      ((a, '--output=README.png'), 'README.md would be replaced'),
      (('compare', a, '--output=a/metrics.csv'), 'a file of the run'),
      (('compare', a, '--output=README.md'), 'README.md would be replaced'),
      (('report', a, '--output=mine.html'), 'mine.html would be replaced'),
  ):
    with pytest.raises(SystemExit) as error:
      command(*arguments)
    assert error.value.code == 2 and part in capsys.readouterr().err
  assert before == {
      p: p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()}
  for arguments in (
      (a, '--metric=entropy', '--output=a/curves.png'),
      (a, '--metric=entropy', '--output=x.png', '--x=hours'),
      ('compare', a, '--output=c.csv'), ('compare', a, '--output=c.md'),
      ('compare', a, a, a, a, a, a, a, a, a, '--output=d.md'),
      ('report', a, '--noepisode', '--metric=entropy', '--output=r.html'),
  ):
    command(*arguments)
    command(*arguments)  # Its own are.


def test_what_is_printed_cannot_steer_the_terminal(
    tmp_path, command, capsys, monkeypatch
):
  def play(*unused_arguments):
    raise plot.UsageError('line 3: \x1b]0;owned\x07')

  monkeypatch.setattr(plot, '_play', play)
  folder = _run(tmp_path / 'a', more="x = '\x1b[2J'")
  other = _run(tmp_path / 'b', more="x = '\x1b[3J'")
  command('report', folder, '--metric=entropy')
  command('compare', folder, other)
  output = capsys.readouterr().out
  assert 'no episode: line 3: \\x1b]0;owned\\x07' in output
  assert '\\x1b[2J' in output and '\x1b' not in output
  assert 'owned' in (tmp_path / 'report.html').read_text()


def test_texts_that_cannot_be_written_are_escaped(tmp_path, command):
  folder = _run(tmp_path / 'a')
  (folder / 'run.json').write_text('{"command": "\\ud800", "starts": []}')
  command('report', folder, '--noepisode', '--metric=entropy')
  assert '\\ud800' in (tmp_path / 'report.html').read_text()


def test_the_unforeseen_is_one_line_but_for_developers(
    tmp_path, command, capsys, monkeypatch
):
  def read(*unused_arguments):
    raise ZeroDivisionError('by zero')

  monkeypatch.delenv('RND_AGENT_TRACEBACK', raising=False)
  monkeypatch.setattr(curves, 'read', read)
  with pytest.raises(SystemExit) as ended:
    command(_run(tmp_path / 'a\x1b'))
  assert ended.value.code == 2
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 1 and 'ZeroDivisionError: by zero' in lines[0]
  assert lines[0].startswith(f'plot: error: {tmp_path}/a\\x1b')
  monkeypatch.setenv('RND_AGENT_TRACEBACK', '1')
  with pytest.raises(ZeroDivisionError):
    command(_run(tmp_path / 'a'))


def test_too_many_places_are_no_map(tmp_path, command, capsys):
  folder = _run(tmp_path / 'a')
  rows = [f'1,8,{i},1,1' for i in range(2001)]
  (folder / 'places.csv').write_text(
      '\n'.join(['iteration,env_steps,place,steps,episodes', *rows, '']))
  with pytest.raises(SystemExit):
    command('rooms', folder)
  assert '2001 places are too many' in capsys.readouterr().err


def test_a_run_that_is_not_ready_is_left_out(tmp_path, command, capsys):
  a, b = _run(tmp_path / 'a'), _run(tmp_path / 'b', seed=2)
  (b / 'operative_config.gin').unlink()
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'notes.txt').write_text('')
  for arguments, names in (
      (('--metric=entropy',), ('empty', 'notes.txt')),
      (('--group=config',), ('empty', 'notes.txt', 'b')),
  ):
    command('empty', 'notes.txt', a, b, *arguments)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(': ')[2].split()[0] for line in lines] == [
        name if name != 'b' else str(b) for name in names]
    assert all(line.startswith('plot: left out: ') for line in lines)
  with open(tmp_path / 'curves.csv', encoding='utf-8') as file:
    points = list(csv.DictReader(file))
  # No column of places or of a furthest x has a number.
  assert {p['metric'] for p in points} == {'episode_return_mean', 'entropy'}
  with pytest.raises(SystemExit):
    command('empty', 'notes.txt')
  assert 'plot: error: empty is not a run' in capsys.readouterr().err


def test_commands(tmp_path, command, capsys):
  a, b = _run(tmp_path / 'a'), _run(tmp_path / 'b', seed=2)
  _trace().save(tmp_path / 'out.npz')
  with tables.PlacesFile(a / 'places.csv') as file:
    file.write(dict(iteration=1, env_steps=8, place=1, steps=8, episodes=0))
  for arguments, names in (
      ((a, b, '--group=config', '--metric=entropy', '--output=c.pdf'),
       ('c.pdf', 'c.csv', 'c.md')),
      (('novelty', '--trace=out.npz', '--output=n.png'), ('n.png',)),
      (('rooms', a), ('rooms.png',)),
      (('compare', a, b, '--output=c.csv'), ('c.csv',)),
      (('report', a, '--noepisode', '--metric=entropy', '--output=r.html'),
       ('r.html',)),
  ):
    command(*arguments)
    out = capsys.readouterr().out
    for name in names:
      assert f'wrote {name}' in out
      assert (tmp_path / name).stat().st_size > 50
  assert (tmp_path / 'c.pdf').read_bytes().startswith(b'%PDF')


@pytest.mark.parametrize('arguments, part', [
    ((), 'name at least one run'),
    (('none',), 'no such folder'),
    (('compare',), 'name at least one run'),
    (('rooms', 'a', 'b'), 'name one run'),
    (('a', '--output=x.bmp'), 'figures end in'),
    (('a', '--metric=score'), "no column 'score'"),
    (('rooms', 'a', '--watch'), '--watch is for curves'),
    (('a', '--x=days'), 'value should be one of'),
    (('a', '--outptu=x.png'), 'Unknown command line flag'),
    (('report', 'a', '--output=x.pdf'), 'reports end in .html'),
    (('novelty', '--trace=none.npz'), 'cannot be read'),
])
def test_mistakes_are_one_line_and_status_2(
    tmp_path, command, capsys, arguments, part
):
  _run(tmp_path / 'a')
  with pytest.raises(SystemExit) as error:
    command(*arguments)
  assert error.value.code == 2
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 1 and re.search(part, lines[0]), lines


def test_watching_draws_again(tmp_path):
  process = subprocess.Popen(
      [sys.executable, str(_ROOT / 'plot.py'), 'a', '--watch',
       '--interval=0.2', '--metric=entropy'],
      cwd=tmp_path, stdout=subprocess.PIPE, text=True,
      env={**os.environ, 'PYTHONPATH': str(_ROOT)},
  )
  assert 'waiting' in process.stdout.readline()
  _run(tmp_path / 'a')
  deadline = time.monotonic() + 60
  seen = 0
  while seen < 2 and time.monotonic() < deadline:
    seen += 'wrote curves.png' in process.stdout.readline()
  process.send_signal(signal.SIGINT)
  assert process.wait(timeout=30) == 0 and seen == 2
