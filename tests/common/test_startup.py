import gc
import subprocess
import sys

import tensorflow as tf  # noqa: F401, as in a program that calls a command

from rnd_agent.common import startup


def test_nothing_is_collected_while_modules_are_imported():
  program = """
import gc
from rnd_agent.common import startup
with startup.without_collection():
  assert not gc.isenabled()
  assert not gc.get_freeze_count()
assert gc.isenabled()
assert gc.get_freeze_count()
"""
  subprocess.run([sys.executable, '-c', program], check=True)


def test_an_import_that_fails_turns_the_collector_on_again():
  program = """
import gc
from rnd_agent.common import startup
try:
  with startup.without_collection():
    import no_such_module
except ImportError:
  assert gc.isenabled()
else:
  raise AssertionError
"""
  subprocess.run([sys.executable, '-c', program], check=True)


def test_the_garbage_of_a_program_that_has_tensorflow_is_left_to_it():
  frozen = gc.get_freeze_count()
  with startup.without_collection():
    assert gc.isenabled()
  assert gc.get_freeze_count() == frozen
