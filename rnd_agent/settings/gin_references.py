"""Macros and references inside gin's values: what they need, and in circles.

Gin evaluates `%macro` and `@configurable()` when a parameter is asked for: a
value that needs itself recurses until Python gives up.
"""

from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping, NamedTuple, Optional

from gin import config as gin_config

MACRO = 'gin.macro'
# What a value may become when macros are replaced: numbers in it, macros that
# lead to each other.
_MOST_LEAVES = 10_000
_LONGEST_CHAIN = 50


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
    name = macro_name(value)
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
  return _circle_in(needs)


def _circle_in(
    needs: Mapping[str, Mapping[str, Key]]
) -> Optional[Circle]:
  """The first circle in what needs what."""
  done = set()
  for source in needs:
    path, ways = [source], [iter(needs[source])]
    while path:
      target = next(ways[-1], None)
      if target is None:
        ways.pop()
        done.add(path.pop())
      elif target in path:
        return _described(needs, [*path[path.index(target):], target])
      elif target not in done:
        path.append(target)
        ways.append(iter(needs.get(target, ())))
  return None


def _described(needs, names: list[str]) -> Circle:
  shown = [
      n if n.startswith('%') else f'@{n.rpartition(".")[2]}()' for n in names
  ]
  return Circle(needs[names[-2]][names[-1]], ' needs '.join(shown))


def find_endless(values: Mapping[Key, Any]) -> Optional[Key]:
  """The first value whose macros stand for more than gin could work through.

  Ten macros, each of which names the next ten times, are 10^10 values.

  Args:
    values: all that are bound, without circles.

  Returns:
    Its key, None where there is none.
  """
  sizes: dict[Key, tuple[int, int]] = {}

  def size(key: Key) -> tuple[int, int]:
    """Leaves, and the length of the longest chain."""
    return sizes.get(key, (1, 0))

  for key in _innermost_first(values):
    parts = [size(k) for k in _macro_keys(values[key])]
    count = 1 + len(list(leaves(values[key]))) + sum(n for n, _ in parts)
    chain = 1 + max((n for _, n in parts), default=0)
    if count > _MOST_LEAVES or chain > _LONGEST_CHAIN:
      return key
    sizes[key] = count, chain
  return None


def _macro_keys(value: Any) -> list[Key]:
  names = map(macro_name, leaves(value))
  return [Key(name, MACRO, 'value') for name in names if name is not None]


def _innermost_first(values: Mapping[Key, Any]) -> Iterable[Key]:
  """Keys, each after those of the macros in its value."""
  done, waiting = set(), list(reversed(list(values)))
  while waiting:
    key = waiting[-1]
    needed = {
        k for k in _macro_keys(values[key]) if k in values and k not in done
    }
    if key in done or not needed:
      waiting.pop()
      if key not in done:
        done.add(key)
        yield key
    else:
      waiting += needed


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


def _needed(reference, key: Key, values: Mapping[Key, Any]) -> Optional[str]:
  """What evaluating a reference evaluates; None for nothing."""
  name = macro_name(reference)
  if name:
    return f'%{name}'
  overridden = key._replace(scope='/'.join(reference.scopes)) in values
  if not reference.evaluate or (reference.scopes and overridden):
    return None
  return reference.config_key[1]


def _references(value: Any) -> list[gin_config.ConfigurableReference]:
  """The references in a nest of gin's values."""
  return [
      leaf for leaf in leaves(value)
      if isinstance(leaf, gin_config.ConfigurableReference)
  ]


def leaves(value: Any) -> Iterable[Any]:
  """What a nest of gin's values is made of; a dict, then what is in it."""
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
  """How many lists or the like stand within each other."""
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
  """The name of the macro that a value is; None: it is none."""
  if not isinstance(value, gin_config.ConfigurableReference):
    return None
  scope, selector = value.config_key
  return scope if selector == MACRO else None
