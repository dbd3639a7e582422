"""Macros and references inside gin's values: what they need, and in circles.

Gin evaluates `%macro` and `@configurable()` when a parameter is asked for: a
value that needs itself recurses until Python gives up.
"""

from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping, NamedTuple, Optional

from gin import config as gin_config

MACRO = 'gin.macro'


class Key(NamedTuple):
  """What a value is bound to; of a macro the scope is its name.

  Attributes:
    scope: of the binding, '' for everywhere.
    selector: complete, of the configurable.
    parameter: its name.
  """

  scope: str
  selector: str
  parameter: str


class Circle(NamedTuple):
  """A value that needs itself.

  Attributes:
    key: of a binding in the circle.
    text: such as '%a needs %b needs %a'.
  """

  key: Key
  text: str


def without_macros(value: Any, macros: Mapping[str, Any]) -> Any:
  """A value with the macros in it replaced by what they stand for.

  Args:
    value: as gin reads it, nested.
    macros: their values by name, without circles.

  Returns:
    The value; macros that are not known stay.
  """
  if isinstance(value, gin_config.ConfigurableReference):
    name = _macro_name(value)
    return without_macros(macros[name], macros) if name in macros else value
  if type(value) in (list, tuple):
    return type(value)(without_macros(item, macros) for item in value)
  return value


def find_circle(values: Mapping[Key, Any]) -> Optional[Circle]:
  """The first circle among all values that are bound, or None."""
  needs = {}
  for key, value in values.items():
    if key.selector == MACRO:
      source = f'%{key.scope}'
    elif not key.scope:
      source = key.selector
    else:
      continue  # It holds in some places only: not where it leads to.
    for reference in _references(value):
      target = _needed(reference, key, values)
      if target:
        needs.setdefault(source, {})[target] = key
  for source in needs:
    circle = _follow(source, needs, ())
    if circle:
      return circle
  return None


def missing(
    values: Mapping[Key, Any], required: Callable[[Any], Iterable[str]]
) -> Optional[tuple[Key, str, str]]:
  """The first parameter that a reference with () would lack.

  Args:
    values: all that are bound.
    required: names of the parameters without a default of a configurable
      (gin's entry).

  Returns:
    The key of the value with the reference, the configurable's name and the
    parameter's; None where nothing is missing.
  """
  for key, value in values.items():
    for reference in _references(value):
      if not reference.evaluate or _macro_name(reference):
        continue
      selector = reference.config_key[1]
      scopes = [
          '/'.join(reference.scopes[:n])
          for n in range(len(reference.scopes) + 1)
      ]
      for name in required(reference.configurable):
        if not any(Key(scope, selector, name) in values for scope in scopes):
          return key, reference.configurable.name, name
  return None


def _needed(reference, key: Key, values: Mapping[Key, Any]) -> Optional[str]:
  """What evaluating a reference evaluates; None for nothing."""
  name = _macro_name(reference)
  if name:
    return f'%{name}'
  overridden = key._replace(scope='/'.join(reference.scopes)) in values
  if not reference.evaluate or (reference.scopes and overridden):
    return None
  return reference.config_key[1]


def _follow(node, needs, path) -> Optional[Circle]:
  """A circle that a way from the end of a path closes."""
  if node in path:
    names = [*path[path.index(node):], node]
    shown = [
        n if n.startswith('%') else f'@{n.rpartition(".")[2]}()' for n in names
    ]
    return Circle(needs[path[-1]][node], ' needs '.join(shown))
  for target in needs.get(node, ()):
    circle = _follow(target, needs, (*path, node))
    if circle:
      return circle
  return None


def _references(value: Any) -> list[gin_config.ConfigurableReference]:
  """The references in a nest of gin's values."""
  if isinstance(value, gin_config.ConfigurableReference):
    return [value]
  if isinstance(value, dict):
    value = [*value, *value.values()]
  if isinstance(value, (list, tuple, set)):
    return [found for item in value for found in _references(item)]
  return []


def _macro_name(reference) -> Optional[str]:
  scope, selector = reference.config_key
  return scope if selector == MACRO else None
