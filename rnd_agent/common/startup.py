"""What a command line does before it loads TensorFlow."""

import logging
import os

from gym_notices import notices


def quiet_imports():
  """Keeps the messages of imported libraries off the terminal.

  TensorFlow's native log starts at fatal errors, unless TF_CPP_MIN_LOG_LEVEL is
  set: errors reach Python as exceptions anyhow. The old gym, which TF-Agents
  asks for, does not print that it is old. TensorFlow's warnings, such as a page
  of what a checkpoint holds beside the weights that were asked for, stay off.
  The pygame of some environments looks for no sound card.
  """
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  os.environ.setdefault('SDL_AUDIODRIVER', 'dummy')
  logging.getLogger('tensorflow').setLevel(logging.ERROR)
  notices.notices.clear()
