"""Flags that are paths of this machine."""

from __future__ import annotations

import os
import re

from absl import flags

_URL = re.compile(r'[A-Za-z][A-Za-z0-9+.-]*://')


class _PathParser(flags.ArgumentParser):
  """Expands `~`, which no shell does behind `=`, and refuses URLs."""

  syntactic_help = 'a path'

  def parse(self, argument):
    if _URL.match(argument):
      raise ValueError(
          'is no folder or file of this machine: mount it, or copy it here'
      )
    return os.path.expanduser(argument)

  def flag_type(self):
    return 'string'


def DEFINE_path(  # noqa: N802, as absl names them.
    name: str, default, help_text: str, flag_values=flags.FLAGS
):
  """Defines a flag that is a path; see `flags.DEFINE_string`.

  Args:
    name: of the flag.
    default: its value.
    help_text: what it is.
    flag_values: where it is defined.

  Returns:
    The flag's `FlagHolder`.
  """
  return flags.DEFINE(
      _PathParser(), name, default, help_text, flag_values,
      serializer=flags.ArgumentSerializer(),
  )
