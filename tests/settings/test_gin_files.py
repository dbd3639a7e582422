import dataclasses
import os
from typing import Optional, Sequence

import gin
import pytest

from rnd_agent import config  # noqa: F401, registers PPOConfig and RNDConfig
from rnd_agent.settings import gin_files
from rnd_agent.training import train_eval  # noqa: F401, registers it


@gin.configurable(module='rnd_agent.testing')
def robot(legs: int = 2, name: str = 'bolt', gaits: Sequence[int] = (1,)):
  return legs, name, gaits


@gin.configurable(module='rnd_agent.testing', denylist=['secret'])
@dataclasses.dataclass(frozen=True)
class Motor:
  power: float = 1.0
  limit: Optional[float] = None
  part: object = None
  secret: int = 0


@gin.configurable(module='rnd_agent.testing.one')
def twin(x=1):
  return x


gin.external_configurable(lambda x=2: x, 'twin', module='rnd_agent.testing.two')


class _Hiding(type):
  """A metaclass that hides constructors' signatures, as tf.Module's does."""

  def __call__(cls, *args, **kwargs):
    return super().__call__(*args, **kwargs)


@gin.configurable(module='rnd_agent.testing')
class Hidden(metaclass=_Hiding):
  def __init__(self, width: int = 3):
    self.width = width


class _Base:
  def __init__(self, size: int = 1):
    self.size = size


@gin.configurable(module='rnd_agent.testing')
class Derived(_Base):
  def __init__(self, coating: str = 'red', **kwargs):
    super().__init__(**kwargs)
    self.coating = coating


def _error(*bindings, files=()):
  with pytest.raises(gin_files.ConfigError) as caught:
    gin_files.parse(files, bindings)
  message = str(caught.value)
  assert '\n' not in message
  return message


def test_files_come_first_and_later_bindings_win(tmp_path):
  (tmp_path / 'a.gin').write_text('robot.legs = 4\nrobot.name = "a"\n')
  (tmp_path / 'b.gin').write_text('robot:\n  name = "b"\n  gaits = [1, 2]\n')
  gin_files.parse(
      [str(tmp_path / 'a.gin'), str(tmp_path / 'b.gin')], ['robot.legs=6']
  )
  assert robot() == (6, 'b', [1, 2])


def test_dataclass_scope_reference_and_macro():
  gin_files.parse([], [
      'strength = 3', 'Motor.power = %strength', 'fast/Motor.power = 9.5',
      'Motor.part = @fast/Motor()', 'fast/Motor.part = @robot()',
  ])
  assert Motor().power == 3
  assert Motor().part.power == 9.5
  assert Motor().part.part == (2, 'bolt', (1,))


@pytest.mark.parametrize('line, scope', [
    ('fast/Motor.power = 9.5', 'fast'),
    ('fast/very/Motor.power = 9.5', 'fast/very'),
    ('slow/fast/Motor:\n  power = 9.5', 'slow/fast'),
    ('robot.gaits = [@slow/Motor]\nfast/Motor.power = 9.5', 'fast'),
])
def test_a_scope_that_nothing_enters(tmp_path, line, scope):
  (tmp_path / 'a.gin').write_text(line)
  with pytest.raises(gin_files.ConfigError) as caught:
    gin_files.parse([str(tmp_path / 'a.gin')], trust=True)
  message = str(caught.value)
  assert (
      f'{scope}/Motor.power does nothing, since nothing refers to '
      f'@{scope}/...: write Motor.power'
  ) in message
  assert 'a.gin:' in message
  if '\n' not in line:
    assert '--gin_bindings' in _error(line)


def test_a_reference_leaves_the_scope_in_which_it_stands():
  bindings = [
      'robot.gaits = [@slow/Motor()]', 'slow/Motor.power = 2',
      'slow/Motor.part = @very/fast/Motor()',
  ]
  gin_files.parse([], [
      *bindings, 'very/Motor.limit = 3', 'very/fast/Motor.power = 5',
      'very/fast/Motor.part = None',
  ])
  motor, = robot()[2]
  assert motor == Motor(2, None, Motor(5, 3, None))
  for scope in ('slow/very', 'slow/very/fast', 'fast', 'very/slow'):
    assert f'@{scope}/...' in _error(*bindings, f'{scope}/Motor.power = 1')


def test_a_macro_is_evaluated_in_the_scope_of_its_name(tmp_path):
  gin_files.parse([], [
      'tall = @robot()', 'tall/robot.legs = 9', 'Motor.part = %tall',
  ])
  assert Motor().part == (9, 'bolt', (1,))
  path = tmp_path / 'operative_config.gin'
  path.write_text(gin.operative_config_str())
  gin.clear_config()
  gin_files.parse([str(path)], trust=True)
  assert Motor().part == (9, 'bolt', (1,))


@pytest.mark.parametrize('name', ['top.gin', 'base.gin'])
def test_a_byte_order_mark_is_skipped(tmp_path, name):
  (tmp_path / 'base.gin').write_text('robot.legs = 8\n')
  (tmp_path / 'top.gin').write_text("include 'base.gin'\n")
  file = tmp_path / name
  file.write_text(file.read_text(), encoding='utf-8-sig')
  assert file.read_bytes().startswith(b'\xef\xbb\xbf')
  gin_files.parse([str(tmp_path / 'top.gin')])
  assert robot()[0] == 8


def test_include_beside_the_including_file(tmp_path, monkeypatch):
  (tmp_path / 'sub').mkdir()
  (tmp_path / 'sub' / 'base.gin').write_text('robot.legs = 8\n')
  (tmp_path / 'sub' / 'top.gin').write_text("include 'base.gin'\n")
  (tmp_path / 'base.gin').write_text('robot.legs = 1\n')
  monkeypatch.chdir(tmp_path)
  gin_files.parse(['sub/top.gin'])
  assert robot()[0] == 8


def test_include_from_the_working_directory(tmp_path, monkeypatch):
  (tmp_path / 'sub').mkdir()
  (tmp_path / 'base.gin').write_text('robot.legs = 5\n')
  (tmp_path / 'sub' / 'top.gin').write_text("include 'base.gin'\n")
  monkeypatch.chdir(tmp_path)
  gin_files.parse(['sub/top.gin'])
  assert robot()[0] == 5


def test_what_an_include_binds_can_be_overridden_after_it(tmp_path):
  (tmp_path / 'base.gin').write_text('robot.legs = 8\n')
  top = tmp_path / 'top.gin'
  top.write_text("include 'base.gin'\nrobot.legs = 9\n")
  gin_files.parse([str(top)])
  assert robot()[0] == 9


def test_include_of_itself(tmp_path):
  (tmp_path / 'a.gin').write_text("include 'b.gin'\n")
  (tmp_path / 'b.gin').write_text("\ninclude 'a.gin'\n")
  message = _error(files=[str(tmp_path / 'a.gin')])
  assert 'b.gin:2: a.gin includes itself' in message


@pytest.mark.parametrize('binding, parts', [
    ('robt.legs=1', ["no configurable named 'robt'", 'nearest: robot']),
    ('PPOconfg.gae_lambda=1', ['nearest: PPOConfig']),
    ('qqqqqqqq.x=1', ['known: ', 'PPOConfig', 'robot']),
    ('robot.leggs=1', ["robot has no parameter 'leggs'", 'nearest: legs']),
    ('Motor.powr=1', ["Motor has no parameter 'powr'", 'nearest: power']),
    ('robot.gae_lambda=1', ['nearest: PPOConfig.gae_lambda']),
    ('robot.zzzz=1', ['it has: legs, name, gaits']),
    ('Motor.secret=1', ['Motor.secret cannot be set in a config']),
    ('twin.x=1', ['ambiguous', 'testing.one.twin', 'testing.two.twin']),
    ('learning_rate=1', ['names no configurable', 'PPOConfig.learning_rate']),
    ('robot.legs=%lgs', ['the macro %lgs is never set']),
    ('Motor.part=@robt()', ["'robt'", 'nearest: robot']),
    ('robt:\n  legs = 3', ["'robt'", 'nearest: robot']),
    ('robot.legs="4"', ["robot.legs wants int, not '4' (str)"]),
    ('robot.legs=4.5', ['wants int, not 4.5 (float)']),
    ('robot.legs=True', ['wants int, not True (bool)']),
    ('robot.name=3', ['wants str']),
    ('robot.gaits=3', ['wants Sequence[int]']),
    ('robot.gaits=["a"]', ['wants Sequence[int]']),
    ('Motor.limit="x"', ['wants Optional[float]']),
    ('Motor.power=None', ['wants float']),
    ('robot.name=bolt', ['cannot read the value bolt', 'quotes']),
    ('robot.legs=[1', ['left open']),
    ('robot.legs=', ['Unable to parse value']),
    ('robot.legs 3', ['robot.legs 3']),
    ('Hidden.widht=1', ["Hidden has no parameter 'widht'", 'nearest: width']),
    ('Hidden.width="a"', ['Hidden.width wants int']),
    ('Hidden.self=1', ["Hidden has no parameter 'self'"]),
    ('Derived.sze=1', ["Derived has no parameter 'sze'", 'nearest: size']),
    ('Derived.size="a"', ['Derived.size wants int']),
    ('Derived.kwargs=1', ["Derived has no parameter 'kwargs'"]),
    ('import os', ['modules of rnd_agent only, not os']),
    ('from os import path', ['modules of rnd_agent only, not os.path']),
    ('from __gin__ import dynamic_registration', ['rnd_agent only']),
    ('import rnd_agent.nothing', ['cannot import rnd_agent.nothing']),
])
def test_mistake_in_a_binding(binding, parts):
  message = _error(binding)
  assert message.startswith("--gin_bindings='" + binding.split()[0][:7])
  for part in parts:
    assert part in message


@pytest.mark.parametrize('line, part', [
    ('robot.leggs = 1', 'nearest: legs'),
    ('robot.legs = "4"', 'wants int'),
    ('legs = 1', 'nearest: robot.legs'),
    ('robot.legs = [1,', 'left open'),
    ('robot.name = bolt', 'quotes'),
    ('Motor.part = @robt', 'nearest: robot'),
    ("include 'bse.gin'", 'base.gin'),
    ('import os', 'rnd_agent only'),
])
def test_mistake_in_a_file_names_file_and_line(tmp_path, line, part):
  (tmp_path / 'base.gin').write_text('')
  path = tmp_path / 'bad.gin'
  path.write_text(f'# A comment.\nrobot.legs = 1\n{line}\n')
  message = _error(files=[str(path)])
  assert message.startswith(f'{path}:') and part in message
  if 'left open' not in part:
    assert message.startswith(f'{path}:3: ')


def test_missing_and_unreadable_files(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  os.mkdir('configs')
  (tmp_path / 'configs' / 'montezuma.gin').write_text('')
  message = _error(files=['configs/montezma.gin'])
  assert 'no config file configs/montezma.gin' in message
  assert 'nearest: configs/montezuma.gin' in message
  assert 'configs is a folder' in _error(files=['configs'])
  (tmp_path / 'binary.gin').write_bytes(b'\xff\xfe\x00')
  assert 'binary.gin is not text' in _error(files=['binary.gin'])


def test_nothing_is_bound_when_something_is_wrong():
  _error('robot.legs=7', 'robot.leggs=1')
  assert robot()[0] == 2


def test_parameter_that_kwargs_hand_to_a_base():
  gin_files.parse([], ['Derived.size=4', 'Derived.coating="blue"'])
  assert (Derived().size, Derived().coating) == (4, 'blue')


def test_none_and_whole_numbers_where_they_fit():
  gin_files.parse([], [
      'Motor.limit=None', 'Motor.power=2', 'robot.gaits=(3, 4)',
      'import rnd_agent.config', 'PPOConfig.learning_rate=1e-3',
  ])
  assert Motor() == Motor(power=2, limit=None)
  assert config.PPOConfig().learning_rate == 1e-3


def test_operative_config_is_read_back(tmp_path):
  gin_files.parse([], ['n = 3', 'robot.legs = %n', 'Motor.power = 0.5'])
  robot(), Motor()
  path = tmp_path / 'operative_config.gin'
  path.write_text(gin.operative_config_str())
  gin.clear_config()
  gin_files.parse([str(path)])
  assert robot()[0] == 3
  assert Motor().power == 0.5


@pytest.mark.parametrize('bindings, circle', [
    (['a = %a', 'robot.legs = %a'], '%a needs %a'),
    (['a = %b', 'b = [%a]', 'robot.gaits = %a'], '%a needs %b needs %a'),
    (['Motor.part = [@Motor()]'], '@Motor() needs @Motor()'),
])
def test_values_that_need_themselves(bindings, circle):
  assert f'refers to itself: {circle}' in _error(*bindings)


def test_what_only_looks_like_a_circle():
  gin_files.parse([], [
      'Motor.part = @inner/Motor()', 'inner/Motor.part = None',
  ])
  assert Motor().part.part is None
  gin_files.parse([], ['Motor.part = @Motor()', 'Motor.part = 3'])
  assert Motor().part == 3


def test_the_value_of_a_macro_has_the_type_that_is_wanted():
  assert "robot.legs wants int, not 'four'" in _error(
      "n = 'four'", 'robot.legs = %n'
  )
  assert 'robot.gaits wants' in _error("n = 'four'", 'robot.gaits = [1, %n]')
  gin_files.parse([], ['robot.legs = %n', 'n = 4', 'robot.gaits = (%n,)'])
  assert robot() == (4, 'bolt', (4,))


def test_a_reference_in_place_of_a_number():
  assert 'wants int, not @Motor()' in _error('robot.legs = @Motor()')


# ---------------------------------------------------------- strangers' files


@gin.configurable(module='rnd_agent.testing')
def played(env_name: str = 'toy:Corridor'):
  return env_name


def _file(folder, text):
  (folder / 'x.gin').write_text(text)
  return [str(folder / 'x.gin')]


_OWN = 'gymnasium:mine:X-v0'


@pytest.mark.parametrize('text, bindings, parts', [
    (f"played.env_name = '{_OWN}'", (), ['x.gin:1', 'add --trust']),
    (f"n = '{_OWN}'\nm = %n\nplayed.env_name = %m", (), ['x.gin:1']),
    (f"n = '{_OWN}'", ('played.env_name = %n',), ['x.gin:1']),
    ('Motor.part = [@robot()]', (), ['x.gin:1', '@robot, not to a macro']),
    ('m = @robot()\nMotor.part = %m', (), ['x.gin:1', '@robot']),
    ('Motor.part = {"module": "os"}', (), ['any function']),
    ('Motor.part = @gin.singleton()', (), ['@gin.singleton']),
    ('Motor.part = @a/gin.macro()', (), ['write %a']),
    ('a/gin.macro.value = 3\nMotor.part = @a/gin.macro()', (), ['write %a']),
])
def test_what_files_may_not_ask_for(tmp_path, text, bindings, parts):
  message = _error(*bindings, files=_file(tmp_path, text))
  for part in parts:
    assert part in message


def test_what_is_typed_or_trusted_may(tmp_path):
  files = _file(tmp_path, "played.env_name = 'toy:Recall'")
  gin_files.parse(files, [f"played.env_name = '{_OWN}'",
                          'Motor.part = [@robot(), {"a": 1}]'])
  assert played() == _OWN
  gin.clear_config()
  files = _file(tmp_path, f"played.env_name = '{_OWN}'\nMotor.part = @robot()")
  gin_files.parse(files, trust=True)
  assert played() == _OWN
  gin.clear_config()
  # What is overridden imports nothing.
  gin_files.parse(
      _file(tmp_path, f"played.env_name = '{_OWN}'"),
      ["played.env_name = 'toy:Recall'"],
  )
  assert played() == 'toy:Recall'


def _chain(length, use='%m{0}'):
  lines = ['m0 = 1', *(f'm{i + 1} = {use.format(i)}' for i in range(length))]
  return '\n'.join([*lines, f'Motor.part = %m{length}'])


@pytest.mark.parametrize('text, part', [
    ('Motor.part = ' + '[' * 3000 + ']' * 3000, 'nested'),
    ('Motor.part = ' + '[' * 30 + ']' * 30, 'nested'),
    ('Motor.part = ' + '-' * 100_000 + '1', 'x.gin:1'),
    (_chain(3000), 'too large'),
    (_chain(8, f'[{", ".join(10 * ["%m{0}"])}]'), 'too large'),
    (_chain(60, '(%m{0}, %m{0})'), 'too large'),
    ('# ' + 'x' * 2**20, 'too large'),
])
def test_values_without_end(tmp_path, text, part):
  assert part in _error(files=_file(tmp_path, text))


def test_files_that_include_each_other_without_end(tmp_path):
  for i in range(300):
    (tmp_path / f'{i}.gin').write_text(f"include '{i + 1}.gin'\n")
  assert 'include each other' in _error(files=[str(tmp_path / '0.gin')])


def test_a_circle_behind_many_ways():
  """Each way is gone once: there are 2^40."""
  ways = [f'm{i} = (%m{i + 1}, %m{i + 1}, %n{i})' for i in range(40)]
  ways += [f'n{i} = %m{i + 1}' for i in range(40)]
  assert '%m40 needs %m40' in _error(*ways, 'm40 = %m40', 'Motor.part = %m0')


def test_required_is_no_value():
  assert 'is not a value' in _error('Motor.part = %gin.REQUIRED')


# -------------------------------------------------------------- former names


def test_a_former_name_is_read_with_one_note(tmp_path, capsys):
  files = _file(tmp_path, 'train_eval.random_rollouts = 50')
  gin_files.parse(files, ['train_eval.random_steps = 3'])
  assert gin.query_parameter('train_eval.random_rollouts') == 3
  output = capsys.readouterr()
  assert output.err.splitlines() == [
      'note: train_eval.random_steps is called train_eval.random_rollouts now'
  ]
  assert not output.out
  gin_files.parse(_file(tmp_path, 'train_eval:\n  random_steps = 4'))
  assert gin.query_parameter('train_eval.random_rollouts') == 4


def test_both_names_in_one_place(tmp_path):
  both = ['train_eval.random_steps = 3', 'train_eval.random_rollouts = 3']
  for names in (both, both[::-1]):
    assert 'are the same parameter' in _error(*names)
    assert 'x.gin:2: ' in _error(files=_file(tmp_path, '\n'.join(names)))
