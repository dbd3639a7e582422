"""Numbers and places in words, for people."""

import math

# Games whose places are rooms; those of others are cells or positions.
_WITH_ROOMS = ('montezumarevenge', 'pitfall')
_ROOMS, _PLACES = ('room', 'rooms'), ('place', 'places')


def number(value: float) -> str:
  """A number as people read it, such as 1,234,567 or 42 or 0.01234.

  Args:
    value: any number.

  Returns:
    From 1000 on a whole number with all its digits, below four digits; - for
    NaN.
  """
  if math.isnan(value):
    return '-'
  if abs(value) >= 999.95 or value == round(value):
    return f'{value:,.0f}'
  return f'{value:.4g}'


def hours(value: float) -> str:
  """Hours as people read them, such as 0.0123, 4.57 or 123; - for NaN."""
  return number(value) if not value < 100 else f'{value:.3g}'


def has_rooms(env_name: str) -> bool:
  """Whether an environment's places are rooms.

  Args:
    env_name: its name in any spelling, or a text that contains it.

  Returns:
    True for Montezuma's Revenge and Pitfall.
  """
  plain = env_name.lower().replace('_', '')
  return any(game in plain for game in _WITH_ROOMS)


def places(env_name: str, count: int = 2) -> str:
  """The word for an environment's places: 1 room, 2 rooms, 7 places.

  Args:
    env_name: as for `has_rooms`.
    count: how many places; chooses singular or plural.

  Returns:
    'room', 'rooms', 'place' or 'places'.
  """
  return (_ROOMS if has_rooms(env_name) else _PLACES)[count != 1]
