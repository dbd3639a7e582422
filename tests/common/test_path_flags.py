"""Paths on the command line."""

from absl import flags
import pytest

from rnd_agent.common import path_flags
from rnd_agent.runs import checkpoints
from rnd_agent.runs import run_folder


def _value(text):
  values = flags.FlagValues()
  path = path_flags.DEFINE_path('folder', None, 'A folder.', values)
  values(['program', f'--folder={text}'])
  return path.value


def test_home_is_expanded_and_nothing_else(monkeypatch):
  monkeypatch.setenv('HOME', '/somewhere')
  assert _value('~/runs/x') == '/somewhere/runs/x'
  for text in ('runs/~x', 'x', 'C:x', '/a b/[1]', "it's", '', 'a://b:c'[2:]):
    assert _value(text) == text


@pytest.mark.parametrize('url', ['gs://b/x', 's3://x', 'https://x/y', 'file:///'])
def test_urls_are_refused_in_one_line(url):
  with pytest.raises(flags.IllegalFlagValueError) as error:
    _value(url)
  assert 'mount it, or copy it here' in str(error.value)


def test_home_of_runs_and_checkpoints(monkeypatch, tmp_path):
  monkeypatch.setenv('HOME', str(tmp_path))
  (tmp_path / 'x').mkdir()
  (tmp_path / 'x' / 'metrics.csv').touch()
  assert run_folder.RunFolder('~/x').path == tmp_path / 'x'
  (tmp_path / 'x' / 'a.index').touch()
  assert checkpoints.find('~/x/a') == str(tmp_path / 'x' / 'a')
