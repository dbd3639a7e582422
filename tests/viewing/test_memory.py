"""plot.py memory: what a trained core holds, and an untrained one does not."""

import csv
import pathlib

import numpy as np
import pytest
import short_runs

from rnd_agent.commands import plot
from rnd_agent.runs import run_folder
from rnd_agent.viewing import memory_trace
from rnd_agent.viewing import play_lib

pytestmark = pytest.mark.slow

_CONFIG = pathlib.Path(__file__).resolve().parents[2] / 'configs' / 'recall.gin'
_ROWS, _HEADS = 8, 2
_STEPS = 7  # Of an episode.
_DNC = (
    'ActorCriticNetwork.core = @DNCCell()', f'DNCCell.memory_size = {_ROWS}',
    'DNCCell.word_size = 8', f'DNCCell.num_read_heads = {_HEADS}',
    'DNCCell.controller_units = 32',
)


def _train(folder, *bindings):
  return short_runs.train(
      folder, 'train_eval.num_workers = 1', *bindings, files=[_CONFIG]
  )


@pytest.fixture(name='dnc', scope='module')
def _dnc(tmp_path_factory):
  return _train(
      tmp_path_factory.mktemp('recall') / 'dnc', *_DNC,
      'train_eval.num_iterations = 150', 'train_eval.target_return = 0.98',
  )


@pytest.fixture(name='command')
def _command():
  plot._FLAGS.mark_as_parsed()
  before = plot._FLAGS.flag_values_dict()
  yield lambda *arguments: plot.main(['plot.py', *map(str, arguments)])
  for name, value in before.items():
    plot._FLAGS[name].value = value
    plot._FLAGS[name].using_default_value = True


def _scores(path):
  """By source, the cue's accuracy at each delay."""
  with open(path, newline='', encoding='utf-8') as file:
    rows = [row for row in csv.DictReader(file) if row['fact'] == 'cue']
  assert [int(row['delay']) for row in rows] == list(range(_STEPS + 1))
  assert all(.15 < float(row['chance']) < .45 for row in rows)
  return {
      name: np.array([float(row[name]) for row in rows])
      for name in rows[0]
      if name not in ('fact', 'delay', 'held-out samples', 'score', 'chance')
  }


def test_a_trained_memory_tells_the_cue_at_every_delay(
    dnc, tmp_path, command, capsys
):
  (tmp_path / 'memory.md').write_text('# Mine\n')
  arguments = 'memory', dnc, f'--output={tmp_path / "memory.png"}'
  with pytest.raises(SystemExit):
    command(*arguments)  # In vain, before an episode is played.
  (tmp_path / 'memory.md').unlink()
  with pytest.raises(SystemExit):
    command(*arguments, '--episodes=3')
  assert '3 episodes of at most 8 observations' in capsys.readouterr().err
  command(*arguments, '--episodes=30')
  command(*arguments, '--episodes=120')  # Its own tables are replaced.
  assert (tmp_path / 'memory.png').stat().st_size > 10_000
  assert '| cue ' in (tmp_path / 'memory.md').read_text(encoding='utf-8')
  scores = _scores(tmp_path / 'memory.csv')
  assert set(scores) == {
      'observation', 'controller', 'read vectors', 'memory rows',
      'controller, untrained', 'read vectors, untrained',
      'memory rows, untrained',
  }
  assert scores['observation'][0] == 1
  assert (scores['observation'][1:] < .5).all()
  assert (scores['memory rows'] > .8).all()
  assert (scores['memory rows'][1:] > .9).all()
  assert scores['read vectors'][-1] > .9
  for name, of_delay in scores.items():
    if name.endswith('untrained'):
      assert of_delay[-1] < .75, name


def test_where_a_dnc_writes_and_reads(dnc):
  player = play_lib.Player(run_folder.RunFolder(dnc))
  try:
    episodes, links = memory_trace.record(player, 3)
  finally:
    player.close()
  assert len(episodes) == 3
  n = _STEPS + 1  # Observations.
  assert links.write_weighting.shape == links.usage.shape == (n, _ROWS)
  assert links.read_weightings.shape == (n, _HEADS, _ROWS)
  assert links.link.shape == (_ROWS, _ROWS)
  assert (np.diag(links.link) == 0).all()
  for weights in (links.write_weighting, links.read_weightings):
    assert (weights >= 0).all() and (weights.sum(-1) <= 1 + 1e-5).all()
  # The row that the first observation is written to is in use from then on.
  row = links.write_weighting[0].argmax()
  assert links.write_weighting[0, row] > .2 and links.usage[1, row] > .2
  # The facts belong to the observations that the core has just seen.
  cue = episodes[0].facts['cue'].values
  assert np.isnan(cue[1:]).all()
  assert episodes[0].sources['observation'][0, int(cue[0])] == 1


def test_a_policy_without_a_memory(tmp_path, command, capsys):
  folder = _train(
      tmp_path / 'run', 'ActorCriticNetwork.core = None',
      'train_eval.num_iterations = 1',
  )
  with pytest.raises(SystemExit) as exit_:
    command('memory', folder, f'--output={tmp_path / "memory.png"}')
  assert exit_.value.code == 2
  assert 'no memory to look into' in capsys.readouterr().err
  assert not (tmp_path / 'memory.png').exists()
