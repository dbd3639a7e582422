"""A parameter: a dataclass field that also holds its range, unit and source.

From the field follow the check of its value, the error message, and what a
resumed run does about a changed value. A test compares README's table with it.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import numbers
import types
import typing
from typing import Any, NamedTuple, Optional, Sequence, Union

PAPER = 'the paper'
CODE = "the authors' code"

_TOO_LARGE = 1e30  # Floats must stay well within float32.
_KINDS = {
    bool: (bool, 'True or False'),
    int: (numbers.Integral, 'a whole number'),
    float: (numbers.Real, 'a number'),
    str: (str, 'a text'),
}


class Change(enum.Enum):
  """What a resumed run does about another value than before."""

  ANOTHER_RUN = 'another environment or agent: the run is refused'
  NOTED = 'other results from here on: a note is printed'
  HARMLESS = 'length, speed or recording: nothing is printed'


class Parameter(NamedTuple):
  """What is known about a parameter; see `parameter`."""

  above: Optional[float] = None
  at_least: Optional[float] = None
  below: Optional[float] = None
  at_most: Optional[float] = None
  choices: Sequence[str] = ()
  wanted: Optional[str] = None
  none: Optional[str] = None
  zero: Optional[str] = None
  unit: Optional[str] = None
  source: Optional[str] = None
  change: Change = Change.NOTED
  suite: Optional[str] = None
  former_name: Optional[str] = None


def parameter(default: Any, **known: Any) -> Any:
  """A dataclass field that is a parameter.

  Args:
    default: its value unless a config sets another.
    **known: fields of `Parameter`: the bounds `above`, `at_least`, `below`,
      `at_most`; the `choices` of a text; `wanted`, the words that messages use
      instead of these; what `none` and `zero` mean; the `unit`; the `source` of
      the default; the `change` that another value is to a resumed run; the
      `suite` of environments, if only one has this parameter; the `former_name`
      that gin files may still use.

  Returns:
    A `dataclasses.field`.
  """
  return dataclasses.field(
      default=default, metadata={'parameter': Parameter(**known)}
  )


def parameters_of(config: Any) -> dict[str, Parameter]:
  """The parameters of a config, or of its class, by name."""
  return {
      field.name: field.metadata['parameter']
      for field in dataclasses.fields(config)
  }


def check(config: Any, owner: Optional[str] = None) -> None:
  """Checks every parameter's value; for `__post_init__`.

  Args:
    config: of a dataclass whose fields are parameters.
    owner: the name before the dot in messages; by default that of the class.

  Raises:
    ValueError: a value is not allowed; the message is one line that says what
      to choose.
  """
  for field in dataclasses.fields(config):
    value = getattr(config, field.name)
    known = field.metadata['parameter']
    kinds = _kinds(type(config))[field.name]
    if not _fits(value, known, kinds):
      raise ValueError(
          f'{owner or type(config).__name__}.{field.name} = '
          f'{shortened(value)}: choose {_choice(field.default, known, kinds)}'
      )


def shortened(value: Any) -> str:
  """A value as messages show it: a long one is cut."""
  text = repr(value)
  return text if len(text) <= 100 else f'{text[:40]}...'


@functools.cache
def _kinds(config_class: type) -> dict[str, tuple[type, ...]]:
  """The plain types that each parameter may have."""
  kinds = {}
  for name, hint in typing.get_type_hints(config_class).items():
    union = typing.get_origin(hint) in (Union, types.UnionType)
    kinds[name] = typing.get_args(hint) if union else (hint,)
  return kinds


def _fits(value: Any, known: Parameter, kinds: tuple[type, ...]) -> bool:
  if value is None:
    return type(None) in kinds
  kind, *others = (k for k in kinds if k is not type(None))
  if others or kind not in _KINDS:  # The class itself checks such values.
    return True
  if not isinstance(value, _KINDS[kind][0]) or (
      isinstance(value, bool) and kind is not bool
  ):
    return False
  if kind is str:
    return value in known.choices if known.choices else bool(value)
  return kind is bool or (
      (known.above is None or value > known.above)
      and (known.at_least is None or value >= known.at_least)
      and (known.below is None or value < known.below)
      and (known.at_most is None or value <= known.at_most)
      and (kind is int or abs(value) < _TOO_LARGE)
  )


def _choice(default: Any, known: Parameter, kinds: tuple[type, ...]) -> str:
  """The words after 'choose' in a message."""
  kind = next((k for k in kinds if k is not type(None)), None)
  alternatives = [
      known.wanted or ' or '.join(map(repr, known.choices))
      or f'{_KINDS[kind][1]}{_range(known)}'
  ]
  if kind is float and known.at_most is None and known.below is None:
    alternatives[0] = alternatives[0].replace('a number', 'a finite number')
  if type(None) in kinds:
    meaning = f' for {known.none}' if known.none else ''
    alternatives.append(f'or None{meaning}')
  remarks = [known.unit] if known.unit else []
  if known.source and default is not None:
    remarks.append(f'{known.source}: {default!r}')
  remark = f' ({"; ".join(remarks)})' if remarks else ''
  return ', '.join(alternatives) + remark


def _range(known: Parameter) -> str:
  """The bounds in words, after a space; empty if there are none."""
  low, high = '', ''
  if known.above is not None:
    low = f' above {known.above}'
  elif known.at_least is not None:
    zero = f' ({known.zero})' if known.zero and known.at_least == 0 else ''
    low = f' from {known.at_least}{zero}'
    high = ' up'
  if known.below is not None:
    high = f' to below {known.below}'
  elif known.at_most is not None:
    high = f' to {known.at_most}'
  return low + high.replace(' to', ' and up to' if known.above == 0 else ' to')
