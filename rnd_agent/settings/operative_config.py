"""operative_config.gin as data: the value of every parameter a run used.

Reads what gin writes, and nothing else: no `import` or `include` is followed,
nothing is bound or built, and TensorFlow is not needed.
"""

from __future__ import annotations

import ast
from typing import Union

from rnd_agent.settings import known_parameters

Value = Union[bool, int, float, str]


def read(text: str) -> dict[str, str]:
  """Splits an operative config into its bindings.

  Args:
    text: as `gin.operative_config_str` gives it: `name = value`, with further
      lines of a value indented.

  Returns:
    Each value's text by its name of today, in the order of the file; spaces and
    line ends within a value become one space.
  """
  values = {}
  name = None
  for line in text.splitlines():
    if line[:1].isspace():
      if name:
        values[name].append(line)
      continue
    name = None
    head, equals, rest = line.partition('=')
    if equals and not line.startswith('#'):
      name = head.strip()
      name = known_parameters.FORMER_NAMES.get(name, name)
      values[name] = [rest]
  return {
      name: ' '.join(' '.join(part.strip().removesuffix('\\')
                              for part in parts).split())
      for name, parts in values.items()
  }


def plain(text: str) -> Value:
  """A value as TensorBoard's table of hyperparameters can show it.

  Args:
    text: of one value.

  Returns:
    A bool, a number or a text; a reference, a list or None as its text.
  """
  try:
    value = ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text
  return value if isinstance(value, (bool, int, float, str)) else text
