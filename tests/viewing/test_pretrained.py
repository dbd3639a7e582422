"""The policy that comes with the repository: played, reported, trained on."""

import csv
import pathlib

import gin
import numpy as np
import pytest

from rnd_agent.runs import run_folder
from rnd_agent.settings import gin_files
from rnd_agent.training import train_eval as train_eval_lib
from rnd_agent.viewing import play_lib

_POLICY = pathlib.Path(__file__).resolve().parents[2] / 'pretrained/montezuma'


def test_it_is_small_and_has_what_is_needed():
  names = {p.name for p in _POLICY.iterdir()}
  assert names == {
      'README.md', 'checkpoints', 'metrics.csv', 'operative_config.gin',
      'places.csv', 'run.json',
  }
  files = [p for p in _POLICY.rglob('*') if p.is_file()]
  assert sum(p.stat().st_size for p in files) <= 15e6
  folder = run_folder.RunFolder(_POLICY)
  last = {name: values[-1] for name, values in folder.metrics().items()}
  newest, = {int(p.name.split('.')[0].split('-')[1])
             for p in (_POLICY / 'checkpoints').iterdir()}
  assert newest == last['iteration']
  assert len(folder.places()) == last['rooms_discovered']


@pytest.mark.slow
def test_it_scores():
  player = play_lib.Player(run_folder.RunFolder(_POLICY), seed=1)
  outcomes = [player.play(frames=False) for _ in range(2)]
  player.close()
  assert np.mean([o.score for o in outcomes]) >= 200
  assert max(o.rooms for o in outcomes) >= 2


@pytest.mark.slow
@pytest.mark.usefixtures('no_export')
def test_a_run_that_starts_from_it_starts_at_its_score(tmp_path):
  gin_files.parse([], [
      "train_eval.env_name = 'atari:MontezumaRevenge'",
      f"train_eval.initial_weights = '{_POLICY}'",
      'train_eval.num_parallel_environments = 8',
      'train_eval.rollout_length = 256',
      'train_eval.num_iterations = 5',
      'train_eval.num_epochs = 1',
      'train_eval.eval_interval = 0',
      'train_eval.checkpoint_interval = 1000',
      # Its episodes are longer than all that it is trained here.
      'EnvironmentConfig.max_episode_steps = 600',
  ])
  train_eval_lib.train_eval(root_dir=str(tmp_path))
  gin.clear_config()
  with open(tmp_path / 'metrics.csv', newline='') as lines:
    *_, last = csv.DictReader(lines)
  # An untrained agent ends its episodes within some 150 steps, without a
  # point and in the first room.
  assert float(last['episode_return_max']) >= 300
  assert int(last['rooms_discovered']) >= 3
