"""Settings that a command makes before it imports TensorFlow."""

import logging
import os

from gym_notices import notices


def quiet_imports():
  """Keeps the messages of imported libraries off the terminal.

  TensorFlow's native log shows only fatal errors unless TF_CPP_MIN_LOG_LEVEL is
  set: other errors reach Python as exceptions. TensorFlow's warnings in Python
  are off: restoring a part of a checkpoint would print a page of them. The old
  gym, which TF-Agents requires, does not print that it is no longer maintained.
  The pygame of some environments does not look for a sound card.
  """
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  os.environ.setdefault('SDL_AUDIODRIVER', 'dummy')
  logging.getLogger('tensorflow').setLevel(logging.ERROR)
  notices.notices.clear()
