"""Checkpoints on a disk that does not do what it should."""

import pytest
import tensorflow as tf

from rnd_agent.runs import checkpoint_files
from rnd_agent.runs import checkpoints


def _checkpoints(folder):
  return checkpoints.Checkpoints(
      str(folder), dict(number=tf.Variable(1.0), optimizer=tf.Variable(2.0)), 2
  )


def test_the_cause_of_a_failed_first_save_is_said(tmp_path):
  (tmp_path / 'checkpoints').write_text('a file where the folder should be')
  with pytest.raises(checkpoints.SavingFailedError, match='File exists'):
    _checkpoints(tmp_path).save(1)


def test_an_index_that_cannot_be_read_is_said_in_one_line(tmp_path):
  saved = _checkpoints(tmp_path)
  prefix = saved.save(1)
  assert saved.restore()
  with open(f'{prefix}.index', 'wb') as file:
    file.write(b'no table' * 40)
  checkpoint_files.write_list(prefix)
  with pytest.raises(checkpoints.CheckpointError, match='cannot be restored'):
    saved.restore()
