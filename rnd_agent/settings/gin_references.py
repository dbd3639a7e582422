"""Macros and references inside gin's values: cycles, sizes, what they lack.

Gin evaluates `%macro` and `@configurable()` only when a parameter is read, and
does not detect cycles: a value that refers to itself recurses until Python
raises RecursionError.
"""

from __future__ import annotations

import graphlib
from typing import Any, Callable, Iterable, Mapping, NamedTuple, Optional

from gin import config as gin_config

MACRO = 'gin.macro'
# Limits on a value once its macros are expanded: the number of items, and how
# many macros in a row refer to the next one.
_MOST_LEAVES = 10_000
_LONGEST_CHAIN = 50


class Key(NamedTuple):
  """Identifies a binding.

  Attributes:
    scope: gin's scope, '' for none; for a macro, the macro's name.
    selector: the complete selector of the configurable.
    parameter: name of the parameter.
  """

  scope: str
  selector: str
  parameter: str


class Circle(NamedTuple):
  """A cycle of references.

  Attributes:
    key: of one of the bindings in the cycle.
    text: such as '%a needs %b needs %a'.
  """

  key: Key
  text: str


def without_macros(value: Any, macros: Mapping[str, Any]) -> Any:
  """Replaces the macros in a value by the values that they are bound to.

  Args:
    value: as gin parses it, nested.
    macros: values by the macro's name, without cycles.

  Returns:
    The value; macros that are not in `macros` stay.
  """
  if isinstance(value, gin_config.ConfigurableReference):
    name = macro_name(value)
    return without_macros(macros[name], macros) if name in macros else value
  if type(value) in (list, tuple):
    return type(value)(without_macros(item, macros) for item in value)
  return value


def find_circle(values: Mapping[Key, Any]) -> Optional[Circle]:
  """Returns a cycle of references among all bound values, None without one."""
  needs = {}  # What each macro and configurable refers to, and where.
  for key, value in values.items():
    if key.selector == MACRO:
      source = f'%{key.scope}'
    elif not key.scope:
      source = key.selector
    else:
      continue  # A scoped binding does not hold for references without scope.
    for reference in _references(value):
      target = _evaluated_by(reference, key, values)
      if target:
        needs.setdefault(source, {})[target] = key
  try:
    graphlib.TopologicalSorter(needs).prepare()
  except graphlib.CycleError as error:
    return _described(needs, error.args[1])
  return None


def _described(
    needs: Mapping[str, Mapping[str, Key]], cycle: list[str]
) -> Circle:
  """Describes a cycle, beginning with the member that was bound first.

  Args:
    needs: the bindings by what refers, then by what is referred to.
    cycle: as `graphlib` gives it: each entry is needed by the one after it,
      the first equals the last.
  """
  names = cycle[:0:-1]
  first = names.index(min(names, key=list(needs).index))
  names = [*names[first:], *names[:first], names[first]]
  shown = [
      n if n.startswith('%') else f'@{n.rpartition(".")[2]}()' for n in names
  ]
  return Circle(needs[names[-2]][names[-1]], ' needs '.join(shown))


def find_endless(values: Mapping[Key, Any]) -> Optional[Key]:
  """Finds a value that is too large once its macros are expanded.

  Ten macros, each a list of ten times the next one, expand to 10^10 items.

  Args:
    values: all that are bound, without cycles.

  Returns:
    The key of the first such value, None without one.
  """
  macros = {key: _macro_keys(value) for key, value in values.items()}
  sizes: dict[Key, tuple[int, int]] = {}  # Items; length of the longest chain.
  for key in graphlib.TopologicalSorter(macros).static_order():
    if key not in values:
      continue
    parts = [sizes.get(k, (1, 0)) for k in macros[key]]
    count = 1 + len(list(leaves(values[key]))) + sum(n for n, _ in parts)
    chain = 1 + max((n for _, n in parts), default=0)
    if count > _MOST_LEAVES or chain > _LONGEST_CHAIN:
      return key
    sizes[key] = count, chain
  return None


def _macro_keys(value: Any) -> list[Key]:
  names = map(macro_name, leaves(value))
  return [Key(name, MACRO, 'value') for name in names if name is not None]


def entered_scopes(values: Mapping[Key, Any]) -> set[str]:
  """The scopes in which references are evaluated.

  Args:
    values: all that are bound.

  Returns:
    Of `@a/b/Name()` the scopes 'a' and 'a/b', of `%macro` the macro's name.
  """
  return {
      '/'.join(reference.scopes[: n + 1])
      for value in values.values() for reference in _references(value)
      for n in range(len(reference.scopes))
  }


def missing(
    values: Mapping[Key, Any], required: Callable[[Any], Iterable[str]]
) -> Optional[tuple[Key, str, str]]:
  """Finds a reference with () whose configurable lacks a required parameter.

  Args:
    values: all that are bound.
    required: gives the names of the parameters without a default, for gin's
      entry of a configurable.

  Returns:
    The key of the value with the reference, the configurable's name and the
    parameter's; None if nothing is missing.
  """
  for key, value in values.items():
    for reference in _references(value):
      if not reference.evaluate or macro_name(reference):
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


def _evaluated_by(
    reference, key: Key, values: Mapping[Key, Any]
) -> Optional[str]:
  """The macro or configurable that gin evaluates for a reference, or None.

  Args:
    reference: in the value of `key`.
    key: of a binding.
    values: all that are bound.
  """
  name = macro_name(reference)
  if name:
    return f'%{name}'
  overridden = key._replace(scope='/'.join(reference.scopes)) in values
  if not reference.evaluate or (reference.scopes and overridden):
    return None
  return reference.config_key[1]


def _references(value: Any) -> list[gin_config.ConfigurableReference]:
  """The references in a nested value."""
  return [
      leaf for leaf in leaves(value)
      if isinstance(leaf, gin_config.ConfigurableReference)
  ]


def leaves(value: Any) -> Iterable[Any]:
  """Yields what a nested value holds: a dict itself, then its keys and values.

  Lists, tuples and sets are not yielded, only what they hold.
  """
  waiting = [value]
  while waiting:
    part = waiting.pop()
    if isinstance(part, (list, tuple, set)):
      waiting += reversed(list(part))
      continue
    if isinstance(part, dict):
      waiting += reversed([*part, *part.values()])
    yield part


def depth(value: Any) -> int:
  """How deep lists, tuples, sets and dicts are nested in a value."""
  deepest, waiting = 0, [(value, 0)]
  while waiting:
    part, level = waiting.pop()
    deepest = max(deepest, level)
    if isinstance(part, dict):
      part = [*part, *part.values()]
    if isinstance(part, (list, tuple, set)):
      waiting += [(inner, level + 1) for inner in part]
  return deepest


def macro_name(value: Any) -> Optional[str]:
  """The macro's name if a value is a reference to a macro, else None."""
  if not isinstance(value, gin_config.ConfigurableReference):
    return None
  scope, selector = value.config_key
  return scope if selector == MACRO else None
