"""README's table of the paper's numbers says what the fields' defaults are."""

import dataclasses
import pathlib
import re

import pytest

from rnd_agent.settings import known_parameters

_README = pathlib.Path(__file__).resolve().parents[2] / 'README.md'


def _rows():
  """(parameter, what the table says of it), for every one that it names."""
  table = _README.read_text().partition('| | paper, and default here')[2]
  for line in table.partition('\n\n')[0].splitlines()[2:]:
    _, numbers, bindings, _ = (c.strip() for c in line.split(' |'))
    owner = ''
    for name in re.findall('`([^`]+)`', bindings):
      owner = name.partition('.')[0] or owner
      yield f'{owner}.{name.rpartition(".")[2]}', numbers


def _written(value):
  """The ways in which a number may stand in the table."""
  if isinstance(value, int):
    return {f'{value:,}'.replace(',', ' ')}
  return {repr(value), f'{value:g}', f'{value:.0e}'.replace('e-0', 'e-')}


@pytest.mark.parametrize('name, numbers', list(_rows()))
def test_a_number_in_the_readme_is_the_default(name, numbers):
  owner, _, field = name.partition('.')
  fields = {
      f.name: f for f in dataclasses.fields(known_parameters.CONFIGS[owner])
  }
  default = fields[field].default
  words = set(re.findall(r'[\d.e-]+(?: \d{3})*', numbers))
  if default is None:
    # Follows from others, or is the suite's own.
    assert known_parameters.find(name).none or owner == 'EnvironmentConfig'
  elif default == 0:
    assert numbers == 'none'
  else:
    assert words & _written(default), (numbers, default)
