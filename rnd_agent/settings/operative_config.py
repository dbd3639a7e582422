"""operative_config.gin as data: the value of every parameter a run used.

Reads the bindings that gin writes: no `import` or `include` is followed,
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
    The text of each value by the parameter's current name, in the order of the
    file; spaces and line breaks within a value become one space.
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
  """Parses a value for TensorBoard's table of hyperparameters.

  Args:
    text: of one value, as gin writes it.

  Returns:
    A bool, a number or a text. The text itself for anything else, such as a
    reference, a list or None.
  """
  try:
    value = ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text
  return value if isinstance(value, (bool, int, float, str)) else text
