"""What gin's configurables take: names and types of their parameters."""

import collections.abc
import dataclasses
import difflib
import inspect
import types
import typing
from typing import Any, Callable, Sequence, Union

import gin
from gin import config as gin_config

from rnd_agent.settings import gin_references

_PACKAGE = __name__.partition('.')[0]
_MAX_SUGGESTIONS = 3
_SEQUENCES = (list, tuple, collections.abc.Sequence, collections.abc.Iterable)


class NameProblem(Exception):
  """A wrong name or value; who catches it adds the place."""


def _registry() -> dict[str, gin_config.Configurable]:
  """Returns gin's configurables by their complete selectors."""
  return dict(gin_config._REGISTRY.items())


def bound(name: str, default: Any = None) -> Any:
  """The value that gin binds a parameter to, a default if it is not bound."""
  try:
    return gin.query_parameter(name)
  except ValueError:  # Gin raises it for a parameter that is not bound.
    return default


def own_configurables() -> Sequence[gin_config.Configurable]:
  """Those of this package, by name."""
  entries = sorted(_registry().items())
  return [entry for name, entry in entries if name.startswith(f'{_PACKAGE}.')]


def find_configurable(selector: str) -> gin_config.Configurable:
  """The configurable that a selector names; else NameProblem."""
  matches = gin_config._REGISTRY.matching_selectors(selector)
  if len(matches) == 1:
    return _registry()[matches[0]]
  if matches:
    raise NameProblem(
        f"'{selector}' is ambiguous: write one of {', '.join(sorted(matches))}"
    )
  own = [entry.name for entry in own_configurables()]
  others = [entry.name.rpartition('.')[2] for entry in _registry().values()]
  near = nearest(selector, own) + nearest(selector, others)
  near = list(dict.fromkeys(near))[:_MAX_SUGGESTIONS]
  hint = f'nearest: {", ".join(near)}' if near else f'known: {", ".join(own)}'
  raise NameProblem(f"no configurable named '{selector}'; {hint}")


def check(selector: str, parameter: str, value: Any) -> None:
  """Checks a binding.

  Args:
    selector: of the configurable, as written.
    parameter: name of the parameter.
    value: as gin parses it.

  Raises:
    NameProblem: there is no such parameter, or its annotation rules the value
      out.
  """
  entry = find_configurable(selector)
  parameters = parameters_of(entry)
  accepts_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
  settable = [
      name
      for name, p in parameters.items()
      if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
      and (not entry.allowlist or name in entry.allowlist)
      and name not in (entry.denylist or ())
  ]
  if parameter in settable:
    _check_value(entry, parameters[parameter], value)
  elif parameter in parameters:
    raise NameProblem(f'{entry.name}.{parameter} cannot be set in a config')
  elif not accepts_any:
    hint = (
        suggestion(parameter, settable)
        or suggested_owners(parameter)
        or f'; it has: {", ".join(settable)}'
    )
    raise NameProblem(f"{entry.name} has no parameter '{parameter}'{hint}")


def parameters_of(
    entry: gin_config.Configurable,
) -> dict[str, inspect.Parameter]:
  """Returns all parameters, with those that **kwargs passes to a base."""
  parameters = {}
  for constructor in _constructors(entry.wrapped):
    own = list(inspect.signature(constructor).parameters.values())
    for parameter in own[inspect.isclass(entry.wrapped) :]:
      parameters.setdefault(parameter.name, parameter)
  if inspect.isclass(entry.wrapped):
    return {n: p for n, p in parameters.items() if p.kind is not p.VAR_KEYWORD}
  return parameters


def required(entry: gin_config.Configurable) -> list[str]:
  """Names of the parameters that have no default."""
  return [
      name for name, p in parameters_of(entry).items()
      if p.default in (p.empty, gin.REQUIRED)
      and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
  ]


def _constructors(function_or_class) -> Sequence[Callable[..., Any]]:
  """The function, or the constructors of a class and of bases given **kwargs.

  `inspect.signature` of the class itself would not do: a metaclass may hide it.
  """
  if not inspect.isclass(function_or_class):
    return [function_or_class]
  found = []
  for base in inspect.getmro(function_or_class)[:-1]:
    constructor = vars(base).get('__init__') or vars(base).get('__new__')
    if constructor:
      found.append(constructor)
      if inspect.getfullargspec(inspect.unwrap(constructor)).varkw is None:
        break
  return found


def _check_value(entry, parameter: inspect.Parameter, value: Any):
  """Raises NameProblem if the annotation rules the value out."""
  default = parameter.default
  if type(value) is type(default) and value == default:
    return
  hint = Any
  for constructor in reversed(_constructors(entry.wrapped)):
    try:
      hint = typing.get_type_hints(constructor).get(parameter.name, hint)
    except NameError:
      # An annotation uses a name that is imported for type checkers only.
      continue
  if not _fits(value, hint) or _is_object_for_plain_value(value, hint):
    wanted = getattr(hint, '__name__', None)
    if typing.get_origin(hint) or not wanted:
      wanted = str(hint).replace('typing.', '')
    shown = f'{value!r} ({type(value).__name__})'
    if isinstance(value, gin_config.ConfigurableReference):
      shown = repr(value)
    raise NameProblem(
        f'{entry.name}.{parameter.name} wants {wanted}, not {shown}'
    )


def _is_object_for_plain_value(value: Any, hint: Any) -> bool:
  """Whether a reference gives a class or an object for a number or text."""
  if not isinstance(value, gin_config.ConfigurableReference):
    return False
  wanted = typing.get_args(hint) or (hint,)
  if not set(wanted) <= {int, float, bool, str, type(None)}:
    return False
  if value.config_key[1] == gin_references.MACRO:
    return False  # `gin_files` checks the macro's value.
  entry = find_configurable(value.selector)
  made_by_us = entry.selector.startswith(f'{_PACKAGE}.')
  return inspect.isclass(entry.wrapped) or made_by_us or not value.evaluate


def _fits(value: Any, hint: Any) -> bool:
  """Whether a value has the type of an annotation; True where unknown."""
  if isinstance(value, gin_config.ConfigurableReference):
    return True
  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if origin in (Union, types.UnionType):
    return any(_fits(value, argument) for argument in arguments)
  if origin is typing.Literal:
    return value in arguments
  if hint is None or hint is type(None):
    return value is None
  if hint is float:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
  if hint is int:
    return isinstance(value, int) and not isinstance(value, bool)
  if hint in (bool, str):
    return isinstance(value, hint)
  if hint in _SEQUENCES or origin in _SEQUENCES:
    if not isinstance(value, (list, tuple)):
      return False
    alike = len(arguments) == 1 or arguments[1:] == (Ellipsis,)
    return not alike or all(_fits(item, arguments[0]) for item in value)
  if dataclasses.is_dataclass(hint):
    return isinstance(value, hint)
  if isinstance(value, (bool, int, float)):
    return not _is_function_or_object(hint, origin)
  return True


def _is_function_or_object(hint: Any, origin: Any) -> bool:
  """Whether a type is a function or a class of a package, never a number."""
  if origin is collections.abc.Callable:
    return True
  return inspect.isclass(hint) and hint.__module__.partition('.')[0] in (
      _PACKAGE, 'tf_agents', 'keras'
  )


def nearest(name: str, candidates) -> list[str]:
  """The names most like `name`, ignoring case, best first."""
  by_lower = {candidate.lower(): candidate for candidate in candidates}
  close = difflib.get_close_matches(
      name.lower(), by_lower, n=_MAX_SUGGESTIONS, cutoff=0.6
  )
  return [by_lower[candidate] for candidate in close]


def suggestion(name: str, candidates) -> str:
  """A hint with the candidates most like a name, '' if there is none."""
  near = nearest(name, candidates)
  return f'; nearest: {", ".join(near)}' if near else ''


def suggested_owners(parameter: str) -> str:
  """A hint with this package's parameters that have this or a similar name."""
  owners = {}
  for entry in own_configurables():
    for name in parameters_of(entry):
      owners.setdefault(name, []).append(f'{entry.name}.{name}')
  near = [owner for n in nearest(parameter, owners) for owner in owners[n]]
  return f'; nearest: {", ".join(near[:_MAX_SUGGESTIONS])}' if near else ''
