"""Settings that a command makes before it imports TensorFlow."""

import contextlib
import gc
import logging
import os
import sys
import warnings

from gym_notices import notices

from rnd_agent.common import keras_choice


def quiet_imports():
  """Keeps the messages of imported libraries off the terminal.

  TensorFlow's native log shows only fatal errors unless TF_CPP_MIN_LOG_LEVEL is
  set: other errors reach Python as exceptions. TensorFlow 2.16 and later write
  some lines before they read that; they are imported here, with nothing shown.
  TensorFlow's warnings in Python
  are off: restoring a part of a checkpoint would print a page of them. The old
  gym, which TF-Agents requires, does not print that it is no longer maintained.
  Python 3.12 and later warn of lines in TF-Agents whose meaning is clear.
  The pygame of some environments does not look for a sound card.
  """
  level = os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  os.environ.setdefault('SDL_AUDIODRIVER', 'dummy')
  logging.getLogger('tensorflow').setLevel(logging.ERROR)
  warnings.filterwarnings('ignore', category=SyntaxWarning)
  notices.notices.clear()
  if level == '3' and keras_choice.needs_keras_2():
    with _standard_error_closed():
      import tensorflow  # noqa: F401


@contextlib.contextmanager
def without_collection():
  """Keeps the garbage collector from what is imported in the block.

  It would search all modules and functions again and again, for a quarter of
  the time that the imports take, although they stay; nor does it search them
  later. Where TensorFlow is there already, in another program that calls the
  command, this does nothing: that program's garbage would stay as well.
  """
  if 'tensorflow' in sys.modules:
    yield
    return
  gc.disable()
  try:
    yield
  finally:
    gc.freeze()
    gc.enable()


@contextlib.contextmanager
def _standard_error_closed():
  """What libraries write to the terminal is lost, also from native code."""
  sys.stderr.flush()
  terminal = os.dup(2)
  try:
    with open(os.devnull, 'wb') as nothing:
      os.dup2(nothing.fileno(), 2)
    yield
  finally:
    sys.stderr.flush()
    os.dup2(terminal, 2)
    os.close(terminal)
