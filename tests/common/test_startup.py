import gc

import pytest

from rnd_agent.common import startup


@pytest.fixture(autouse=True)
def _nothing_left_frozen():
  yield
  gc.unfreeze()


def test_nothing_is_collected_while_modules_are_imported():
  frozen = gc.get_freeze_count()
  with startup.without_collection():
    assert not gc.isenabled()
    assert gc.get_freeze_count() == frozen
  assert gc.isenabled()
  assert gc.get_freeze_count() > frozen


def test_an_import_that_fails_turns_the_collector_on_again():
  with pytest.raises(ImportError), startup.without_collection():
    raise ImportError('broken')
  assert gc.isenabled()
