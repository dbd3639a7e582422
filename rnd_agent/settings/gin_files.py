"""Strict reading of gin files and of bindings from the command line.

Gin alone lets three mistakes pass: a name without a dot silently defines a
macro, a value may have any type, and an error does not name similar parameters
that exist. Here every mistake is a `ConfigError` of one line that names the
place, the cause and the nearest existing names. Nothing is bound until all
files and bindings have been read and checked.
"""

import importlib
import importlib.util
import os
import re
import sys
import tokenize
from typing import Any, NamedTuple, Optional, Sequence

import gin
from gin import config as gin_config
from gin import config_parser

from rnd_agent.settings import gin_parameters
from rnd_agent.settings import gin_references
from rnd_agent.settings import known_parameters
from rnd_agent.settings import shipped_configs
from rnd_agent.settings import shipped_parts

_PACKAGE = __name__.partition('.')[0]
# Characters of a gin file; the files in configs/ have about 2000, an operative
# config 6000.
_LARGEST_FILE = 2**20
_MOST_INCLUDES = 20
_DEEPEST_VALUE = 20
_OPEN_QUOTE = 'a quote is left open'
_TOO_DEEP = f'a value is nested more than {_DEEPEST_VALUE} deep'
# What a file without --trust may refer to. Gin would let it call everything
# that is registered, TF-Agents' functions included.
_ALLOWED_REFERENCES = (gin_references.MACRO, *(
    f'{_PACKAGE}.{name}' for name in (
        *shipped_parts.BONUSES, *shipped_parts.CELLS, *shipped_parts.ENCODERS
    )
))


class ConfigError(ValueError):
  """A mistake in a config, in one line that says what to change."""


class UntrustedError(ConfigError):
  """A file that may come from a stranger asks for code to be run."""


class _Origin(NamedTuple):
  """The file or the --gin_bindings flag that a text comes from.

  Attributes:
    label: what errors call it.
    path: of the file, None for a flag.
  """

  label: str
  path: Optional[str] = None

  def at(self, line: Optional[int]) -> str:
    """What errors call a line of it."""
    return f'{self.label}:{line}' if self.path and line else self.label


class _Binding(NamedTuple):
  """A binding that was read.

  Attributes:
    typed: whether it comes from the command line.
    place: what errors call the line that it comes from.
    scope: gin's scope, '' for none; for a macro, the macro's name.
    selector: of the configurable, as written.
    parameter: name of the parameter.
    value: as gin parses it.
  """

  typed: bool
  place: str
  scope: str
  selector: str
  parameter: str
  value: Any


def parse(
    gin_files: Sequence[str],
    bindings: Sequence[str] = (),
    trust: bool = False,
):
  """Reads config files, then bindings, and binds their values in gin.

  Later bindings override earlier ones. The modules that register configurables
  must have been imported. An `include` is looked for beside the including file
  first, then in the working directory; a bare name that is in neither stands
  for a config of the package. An `import` may name modules of this
  package only; a class of the user's own is named with its module, which is
  imported: `train_eval.bonus = @my_module.MyBonus`.

  A file may come from a stranger, as the operative config of a run does.
  Without `trust` a file may therefore bind numbers, texts and lists, and refer
  to macros and to this package's recurrent cells, bonuses and encoder only.
  Bindings of the command line may refer to anything, since the user has typed
  them.

  Args:
    gin_files: Paths of gin files.
    bindings: Lines of gin, such as `train_eval.num_iterations = 10`.
    trust: Whether the files are the user's own and may refer to anything.

  Raises:
    ConfigError: For an unknown configurable, parameter, reference or macro, a
      macro that nothing uses, a value of the wrong type, a syntax error, a file
      that is missing or includes itself, an import of another package, values
      that are nested too deep or refer to themselves.
    UntrustedError: For a file that refers to something else without `trust`.
  """
  reader = _Reader(trust)
  for path in gin_files:
    reader.read_file(path, place='--gin_file', base=None)
  for text in bindings:
    label = f"--gin_bindings='{' '.join(text.split())}'"
    if not text.strip():
      raise ConfigError(
          f'{label}: is empty: give a binding such as train_eval.seed=2'
      )
    reader.read_text(text, _Origin(label))
  for _, place, scope, selector, parameter, value in reader.finish():
    try:
      gin.bind_parameter((scope, selector, parameter), value)
    except ValueError as error:
      cause = str(error).partition('\n')[0]
      raise ConfigError(f'{place}: {cause}') from error


class _Delegate(gin_config.ParserDelegate):
  """Resolves references while gin parses a value; lists the macros used."""

  def __init__(self, may_import: bool):
    super().__init__()
    self._may_import = may_import
    self.macros_used = []

  def configurable_reference(self, scoped_selector, evaluate):
    scope, _, name = scoped_selector.rpartition('/')
    if _is_of_users_module(name):
      if not self._may_import:
        raise UntrustedError(_runs_code(f'{name} is imported from a module'))
      _import_configurable(name)
    if gin_parameters.find_configurable(name).selector == gin_references.MACRO:
      # Its value would depend on the scope in which it is evaluated.
      raise gin_parameters.NameProblem(
          f'@{scoped_selector}: write %{scope or "name"}'
      )
    return super().configurable_reference(scoped_selector, evaluate)

  def macro(self, name):
    reference = super().macro(name)
    if reference.selector == gin_references.MACRO:
      self.macros_used.append(name)
    elif gin_config._CONSTANTS.get_match(name) is gin.REQUIRED:
      raise gin_parameters.NameProblem(f'%{name} is not a value: bind one')
    return reference


class _Reader:
  """Collects and checks the statements of all files and bindings."""

  def __init__(self, trust: bool):
    self._trust = trust
    self._bindings = []
    self._macros_set = {}
    self._macros_used = {}
    self._open_files = []
    self._names_used = {}  # As written, by source and today's name.
    self._former_names_noted = set()

  def finish(self) -> Sequence[_Binding]:
    """Checks what needs all files to be read; returns the bindings in order."""
    self._check_macros()
    final = {}
    for binding in self._bindings:
      selector = binding.selector
      if selector != gin_references.MACRO:
        selector = gin_parameters.find_configurable(selector).selector
      key = gin_references.Key(binding.scope, selector, binding.parameter)
      final[key] = binding
    values = {key: binding.value for key, binding in final.items()}
    circle = gin_references.find_circle(values)
    if circle:
      raise ConfigError(
          f'{final[circle.key].place}: refers to itself: {circle.text}'
      )
    endless = gin_references.find_endless(values)
    if endless:
      raise ConfigError(
          f'{final[endless].place}: the value is too large once its macros are '
          'expanded: write it out'
      )
    lacking = gin_references.missing(values, gin_parameters.required)
    if lacking:
      key, name, parameter = lacking
      raise ConfigError(
          f'{final[key].place}: @{name}() needs {name}.{parameter}: bind it '
          f'too, or name the class alone: @{name}'
      )
    self._check_scopes(final)
    self._check_values_of_macros(final)
    self._check_environment(final)
    return self._bindings

  def _check_scopes(self, final):
    """Refuses a binding in a scope that no reference enters: it does nothing.

    `foo/Name.x = 1` holds for `@foo/Name`, and for what that refers to.
    """
    entered = gin_references.entered_scopes(
        {key: binding.value for key, binding in final.items()}
    )
    for key, binding in final.items():
      if key.selector == gin_references.MACRO or key.scope in ('', *entered):
        continue
      name = f'{binding.selector}.{binding.parameter}'
      raise ConfigError(
          f'{binding.place}: {key.scope}/{name} does nothing, since nothing '
          f'refers to @{key.scope}/...: write {name}'
      )

  def _check_environment(self, final):
    """Refuses a file's env_name that makes gymnasium import a user's module."""
    for key, binding in final.items():
      if key.parameter != 'env_name' or key.selector == gin_references.MACRO:
        continue
      while (name := gin_references.macro_name(binding.value)) is not None:
        binding = final[
            gin_references.Key(name, gin_references.MACRO, 'value')
        ]
      # 'suite:module:id', see `suites`.
      if isinstance(binding.value, str) and binding.value.count(':') > 1:
        self._refuse(
            binding, f'the environment {binding.value!r} is imported from a '
            'module of its own'
        )

  def _refuse(self, binding: _Binding, cause: str):
    if not (self._trust or binding.typed):
      raise UntrustedError(f'{binding.place}: {_runs_code(cause)}')

  def _check_file_value(self, binding: _Binding):
    """Refuses values that may run code, in files that are not trusted."""
    for leaf in gin_references.leaves(binding.value):
      if isinstance(leaf, dict):
        # Keras builds objects from dicts that name a module and a class.
        self._refuse(binding, 'a value with {...} can name any function')
      if isinstance(leaf, gin_config.ConfigurableReference) and (
          leaf.config_key[1] not in _ALLOWED_REFERENCES
      ):
        self._refuse(
            binding, f'it refers to @{leaf.selector}, not to a macro or to a '
            'recurrent core, bonus or encoder of this package'
        )

  def _check_values_of_macros(self, final):
    """Checks the type of each parameter with its macros expanded."""
    macros = {
        key.scope: binding.value for key, binding in final.items()
        if key.selector == gin_references.MACRO
    }
    for key, binding in final.items():
      if key.selector != gin_references.MACRO:
        value = gin_references.without_macros(binding.value, macros)
        try:
          gin_parameters.check(key.selector, key.parameter, value)
        except gin_parameters.NameProblem as error:
          raise ConfigError(f'{binding.place}: {error}') from None

  def _check_macros(self):
    """Checks that each macro that is used is set, and the reverse."""
    for name, place in self._macros_used.items():
      if name not in self._macros_set:
        raise ConfigError(
            f'{place}: the macro %{name} is never set'
            + gin_parameters.suggestion(name, self._macros_set)
        )
    for name, place in self._macros_set.items():
      if name not in self._macros_used:
        raise ConfigError(
            f"{place}: '{name}' names no configurable and nothing uses it as a "
            'macro' + gin_parameters.suggested_owners(name)
        )

  def read_file(self, name: str, place: str, base: Optional[str]):
    """Reads a file, looked for in the folder `base` first if one is given."""
    path = _locate(name, place, base)
    identity = os.path.realpath(path)
    if identity in self._open_files:
      raise ConfigError(f'{place}: {name} includes itself')
    if len(self._open_files) >= _MOST_INCLUDES:
      raise ConfigError(
          f'{place}: more than {_MOST_INCLUDES} files include each other'
      )
    try:
      # Some editors begin a file with a byte-order mark.
      with open(path, encoding='utf-8-sig') as file:
        text = file.read(_LARGEST_FILE + 1)
    except OSError as error:
      raise ConfigError(
          f'{place}: cannot read {path} ({error.strerror})'
      ) from error
    except UnicodeDecodeError as error:
      raise ConfigError(
          f'{place}: {path} is not text in UTF-8 ({error.reason} at byte '
          f'{error.start})'
      ) from error
    if len(text) > _LARGEST_FILE:
      raise ConfigError(f'{place}: {path} is too large for a config')
    if '\0' in text:
      raise ConfigError(f'{place}: {path} is not text (it has null bytes)')
    self._open_files.append(identity)
    self.read_text(text, _Origin(path, path))
    self._open_files.pop()

  def read_text(self, text: str, origin: _Origin):
    """Reads statements and keeps their bindings."""
    delegate = _Delegate(may_import=self._trust or origin.path is None)
    for statement in _statements(text, origin, delegate):
      place = origin.at(statement.location.line_num)
      for name in delegate.macros_used:
        self._macros_used.setdefault(name, place)
      delegate.macros_used.clear()
      try:
        self._handle(statement, place, origin)
      except gin_parameters.NameProblem as error:
        raise ConfigError(f'{place}: {error}') from None

  def _handle(self, statement, place: str, origin: _Origin):
    if isinstance(statement, config_parser.IncludeStatement):
      base = os.path.dirname(origin.path) if origin.path else None
      self.read_file(statement.filename, place, base)
    elif isinstance(statement, config_parser.ImportStatement):
      _import(statement, place)
    elif isinstance(statement, config_parser.BlockDeclaration):
      gin_parameters.find_configurable(statement.selector)
    else:
      self._add_binding(statement, place, typed=origin.path is None)

  def _add_binding(self, statement, place: str, typed: bool):
    scope, selector, parameter, value, _ = statement
    if gin_references.depth(value) > _DEEPEST_VALUE:
      raise gin_parameters.NameProblem(_TOO_DEEP)
    if not parameter or selector in ('macro', gin_references.MACRO):
      name = scope if parameter else '/'.join(filter(None, (scope, selector)))
      name = name or selector
      self._macros_set[name] = place
      binding = _Binding(
          typed, place, name, gin_references.MACRO, 'value', value
      )
    else:
      parameter = self._current_name(selector, parameter, place, typed)
      gin_parameters.check(selector, parameter, value)
      binding = _Binding(typed, place, scope, selector, parameter, value)
    self._check_file_value(binding)
    self._bindings.append(binding)

  def _current_name(
      self, selector: str, parameter: str, place: str, typed: bool
  ) -> str:
    """Translates a parameter's former name; prints a note when it does."""
    owner = gin_parameters.find_configurable(selector).name
    written = f'{owner}.{parameter}'
    name = known_parameters.FORMER_NAMES.get(written, written)
    source = '--gin_bindings' if typed else place.rpartition(':')[0]
    earlier = self._names_used.setdefault((source, name), written)
    if earlier != written:
      raise gin_parameters.NameProblem(
          f'{written} and {earlier} are the same parameter: give {name} alone'
      )
    if written != name and written not in self._former_names_noted:
      self._former_names_noted.add(written)
      print(f'note: {written} is called {name} now', file=sys.stderr)
    return name.rpartition('.')[2]


def _statements(text: str, origin: _Origin, delegate: _Delegate):
  """Yields the statements of a gin text; ConfigError for a syntax error."""
  parser = None
  try:
    parser = config_parser.ConfigParser(text, delegate)
    while (statement := parser.parse_statement()) is not None:
      yield statement
  except SyntaxError as error:
    raise ConfigError(
        f'{origin.at(error.lineno)}: {_syntax_cause(error)}'
    ) from None
  except tokenize.TokenError as error:
    cause, (line, _) = error.args
    if 'unterminated string' in cause:  # From Python 3.12 on.
      line_of_text = text.splitlines()[line - 1].strip()
      raise ConfigError(
          f'{origin.at(line)}: {_OPEN_QUOTE}: {line_of_text}'
      ) from None
    if 'too many nested' in cause:  # Likewise.
      raise ConfigError(f'{origin.at(line)}: {_TOO_DEEP}') from None
    raise ConfigError(f'{origin.label}: a bracket is left open') from None
  except (RecursionError, MemoryError):  # Python's parser raises either.
    line = parser.current_token.start[0] if parser else None
    raise ConfigError(f'{origin.at(line)}: {_TOO_DEEP}') from None
  except (gin_parameters.NameProblem, ValueError) as error:
    # Gin appends the place to an error's message, after a line break.
    line = parser.current_token.start[0] if parser else None
    cause = str(error).partition('\n')[0]
    kind = UntrustedError if isinstance(error, UntrustedError) else ConfigError
    raise kind(f'{origin.at(line)}: {cause}') from None


def _syntax_cause(error: SyntaxError) -> str:
  token = re.search(r"Failed to parse token '(.*)'", error.msg, re.DOTALL)
  if token and token.group(1):
    word = token.group(1).strip()
    return (
        f'cannot read the value {word}: neither a number, True, False or None, '
        "nor text in quotes, '...'"
    )
  line = (error.text or '').strip()
  if any(line.count(quote) % 2 for quote in '\'"'):
    return f'{_OPEN_QUOTE}: {line}'
  cause = ' '.join(error.msg.split()).rstrip('.')
  return f'{cause}: {line}' if line else cause


def _locate(name: str, place: str, base: Optional[str]) -> str:
  """Returns the path of a config file, or raises with the nearest ones."""
  name = os.path.expanduser(name)
  choices = [name] if base is None else [os.path.join(base, name), name]
  for path in choices:
    if os.path.isfile(path):
      return path
  shipped = shipped_configs.find(name)
  if shipped is not None:
    return shipped
  for path in choices:
    if os.path.isdir(path) and name:
      raise ConfigError(f'{place}: {path} is a folder, not a config file')
    if os.path.islink(path):
      raise ConfigError(
          f'{place}: {path} is a link to {os.readlink(path)}, where no file is'
      )
  nearby = {}
  for path in choices:
    folder = os.path.dirname(path)
    if os.path.isdir(folder or '.'):
      for entry in sorted(os.listdir(folder or '.')):
        if entry.endswith('.gin'):
          nearby[entry] = os.path.join(folder, entry)
  shipped = {path.name: path.name for path in shipped_configs.paths()}
  for names in (nearby, shipped):
    near = gin_parameters.nearest(os.path.basename(name), names)
    near = [names[entry] for entry in near]
    if near:
      break
  hint = f'; nearest: {", ".join(near)}' if near else ''
  raise ConfigError(f"{place}: no config file {name or repr('')}{hint}")


def _import(statement, place: str):
  module = statement.module
  if module.partition('.')[0] != _PACKAGE:
    raise ConfigError(
        f'{place}: a config may import modules of {_PACKAGE} only, not {module}'
    )
  try:
    importlib.import_module(module)
  except ImportError as error:
    raise ConfigError(f'{place}: cannot import {module}: {error}') from error


def _runs_code(cause: str) -> str:
  return f'{cause}, which runs code: add --trust if the file is yours'


def _is_of_users_module(selector: str) -> bool:
  """Whether a reference is 'module.Class' and not registered with gin yet."""
  return (
      '.' in selector and selector.partition('.')[0] != _PACKAGE
      and not gin_config._REGISTRY.matching_selectors(selector)
  )


def _import_configurable(selector: str):
  """Imports the module of a user's class, `module.Class`, which registers it.

  Raises:
    NameProblem: It cannot be imported, or does not register the class.
  """
  module, _, name = selector.rpartition('.')
  try:
    importlib.import_module(module)
  except Exception as error:  # The module is the user's code.
    raise gin_parameters.NameProblem(
        f'@{selector}: cannot import {module}: {type(error).__name__}: '
        f'{" ".join(str(error).split())}'
    ) from error
  if not gin_config._REGISTRY.matching_selectors(selector):
    raise gin_parameters.NameProblem(
        f'@{selector}: {module} has no configurable {name}: write '
        '@gin.configurable above the class'
    )
