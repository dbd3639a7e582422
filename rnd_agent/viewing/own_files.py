"""Keeps plot.py from replacing a table or page that it did not write itself.

The user names a picture, but not the tables that are written beside it: those
of `--output=RUN/metrics.png` would replace the run's metrics.csv.
"""

from __future__ import annotations

import os
import pathlib
import re
from typing import Union

from rnd_agent.runs import run_folder

# How the files begin that `curves`, `comparison`, `report` and
# `memory_pictures` write.
_OWN = re.compile(
    r'metric,curve,runs,\w+,value,low,high\n'
    r'|\| curve +\| runs +\| \w+ +\|'
    r'|run,[^\n]*iteration,env_steps,'
    r'|\| run +\|.*\biteration\b.*\benv_steps\b'
    r'|fact,delay,held-out samples,'
    r'|\| fact +\| delay +\| held-out samples +\|'
    r'|<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    r'<meta http-equiv="Content-Security-Policy"',
    re.DOTALL,
)
_LENGTH_OF_BEGINNING = 2**16
_FILES_OF_RUNS = (run_folder.METRICS, run_folder.PLACES)


class NotOwnError(ValueError):
  """A file would be overwritten; the message is one line."""


def check(path: Union[str, os.PathLike]) -> None:
  """Checks that writing a text file overwrites nothing but plot.py's own.

  Args:
    path: of a table or page.

  Raises:
    NotOwnError: there is a file that plot.py did not write, or the path is a
      file of a run.
  """
  path = pathlib.Path(path)
  shown = run_folder.printable(path)
  in_a_run = any((path.parent / name).exists()
                 for name in (run_folder.METRICS, run_folder.CONFIG))
  if path.name in _FILES_OF_RUNS and in_a_run:
    raise NotOwnError(
        f'{shown} is a file of the run in this folder: choose another --output'
    )
  if not os.path.lexists(path):
    return
  if not path.is_file() or not _is_own(path):
    raise NotOwnError(
        f'{shown} would be replaced, and plot.py did not write it: move it '
        'away, or choose another --output'
    )


def _is_own(path: pathlib.Path) -> bool:
  with open(path, 'rb') as file:
    beginning = file.read(_LENGTH_OF_BEGINNING)
  text = beginning.decode('utf-8', 'replace')
  return not text or bool(_OWN.match(text))
