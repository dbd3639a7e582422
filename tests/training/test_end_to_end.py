"""The command line on the real game, as a new user runs it."""

import csv
import json
import os
import pathlib
import subprocess
import sys

import gin
import psutil
import pytest

pytestmark = pytest.mark.slow

_ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(name='folder', scope='module')
def _run_twice(tmp_path_factory):
  """Two iterations of configs/smoke.gin, then the same folder up to four."""
  folder = tmp_path_factory.mktemp('montezuma')
  outputs = []
  for iterations in (2, 4):
    result = subprocess.run(
        [
            sys.executable, 'train_eval.py', f'--root_dir={folder}',
            '--gin_file=configs/smoke.gin',
            f'--gin_bindings=train_eval.num_iterations={iterations}',
            '--gin_bindings=train_eval.eval_interval=4',
            '--gin_bindings=train_eval.num_eval_episodes=2',
            '--gin_bindings=EnvironmentConfig.max_episode_steps=20',
        ],
        cwd=_ROOT, capture_output=True, text=True, timeout=300,
        env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3'},
    )
    assert result.returncode == 0, result.stderr
    outputs.append(result)
  return folder, outputs


def _rows(folder):
  with open(folder / 'metrics.csv', newline='', encoding='utf-8') as file:
    return list(csv.DictReader(file))


def test_metrics_have_every_iteration_once(folder):
  rows = _rows(folder[0])
  assert [r['iteration'] for r in rows] == ['1', '2', '3', '4']
  # 8 environments, 16 steps each, 4 frames per step.
  assert [int(r['env_steps']) for r in rows] == [128, 256, 384, 512]
  assert [int(r['frames']) for r in rows] == [512, 1024, 1536, 2048]
  assert all(float(r['wall_time_s']) > 0 for r in rows)


def test_the_figures_are_those_of_a_game_that_begins(folder):
  rows = _rows(folder[0])
  for row in rows:
    assert float(row['intrinsic_reward_mean']) > 0
    assert 2.5 < float(row['entropy']) < 2.8904  # Below ln 18.
    assert int(row['rooms_discovered']) >= 1
    assert 0 <= float(row['clip_fraction']) < 0.5
  # All 8 environments end their episodes after 20, 40 and 60 agent steps,
  # iterations after 16, 32, 48 and 64: resuming goes on within the episode.
  assert [int(r['episodes']) for r in rows] == [0, 8, 16, 24]
  assert float(rows[3]['episode_length_mean']) == 20
  assert float(rows[3]['rooms_mean']) >= 1
  assert rows[0]['episode_return_mean'] == ''


def test_the_folder_holds_what_it_should(folder):
  root = folder[0]
  for name in ('operative_config.gin', 'run.json',
               'checkpoints/iteration-4.sha256.json',
               'policy/greedy/saved_model.pb', 'policy/collect/saved_model.pb',
               'videos/iteration-4.mp4', 'metrics.csv'):
    assert (root / name).stat().st_size > 0, name
  for name in ('train', 'eval'):
    assert list((root / name).glob('events*')), name
  starts = json.loads((root / 'run.json').read_text())['starts']
  assert [s['iteration'] for s in starts] == [0, 2]
  assert starts[0]['packages']['tf-agents'] == '0.19.0'


def test_the_operative_config_trains_again(folder):
  """What it wrote parses, and holds the numbers of the paper."""
  from rnd_agent.settings import gin_files
  from rnd_agent.training import builders  # noqa: F401, registers for gin
  from rnd_agent.training import train_eval as train_eval_lib  # noqa: F401, registers train_eval

  gin.clear_config()
  gin_files.parse([str(folder[0] / 'operative_config.gin')], [])
  assert gin.query_parameter('RNDConfig.discount_ext') == 0.999
  assert gin.query_parameter('train_eval.num_iterations') == 4
  gin.clear_config()


def test_a_log_reads_well(folder):
  first, second = folder[1]
  lines = first.stdout.splitlines()
  assert lines[0].startswith('statistics 1/2')
  assert [x for x in lines if x.startswith('iteration 2/2')]
  assert 'resuming' in second.stdout and 'iteration 3' in second.stdout
  assert not any(x.startswith('statistics') for x in second.stdout.splitlines())
  assert 'Traceback' not in first.stderr + second.stderr


def test_no_process_is_left(folder):
  root = str(folder[0])
  left = [
      p.pid for p in psutil.process_iter(['cmdline'])
      if any(root in part for part in p.info['cmdline'] or ())
  ]
  assert not left


def test_videos_have_a_frame_per_observation(folder):
  """Episodes are 20 steps: 21 observations, 320 x 420 pixels, in colour."""
  import cv2

  capture = cv2.VideoCapture(str(folder[0] / 'videos' / 'iteration-4.mp4'))
  frames = []
  while True:
    read, frame = capture.read()
    if not read:
      break
    frames.append(frame)
  assert len(frames) == 21
  assert frames[0].shape == (420, 320, 3)
  assert frames[0].std(axis=-1).mean() > 5  # Not grey.
