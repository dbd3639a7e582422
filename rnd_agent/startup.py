"""What a command line does before it loads TensorFlow."""

import os

from gym_notices import notices


def quiet_imports():
  """Keeps the messages of imported libraries off the terminal.

  TensorFlow's native log starts at fatal errors, unless TF_CPP_MIN_LOG_LEVEL is
  set: errors reach Python as exceptions anyhow. The old gym, which TF-Agents
  asks for, does not print that it is old. The pygame of some environments looks
  for no sound card.
  """
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  os.environ.setdefault('SDL_AUDIODRIVER', 'dummy')
  notices.notices.clear()
