"""MiniGrid: grids of rooms and doors, observed as one-hot cells."""

import itertools
import math
from typing import Any, Optional, Union

import gymnasium
import minigrid  # noqa: F401, registers its environments with gymnasium
from minigrid.core import constants
from minigrid.core import mission as mission_lib
import numpy as np

from rnd_agent.environments import errors
from rnd_agent.environments.games import minigrid_view

_PREFIXES = ('MiniGrid-', 'BabyAI-')
_NUM_OBJECTS = len(constants.OBJECT_TO_IDX)
_NUM_COLORS = len(constants.COLOR_TO_IDX)
_NUM_STATES = len(constants.STATE_TO_IDX)
_NUM_DIRECTIONS = len(constants.DIR_TO_VEC)
_AGENT = constants.OBJECT_TO_IDX['agent']
_DOOR = constants.OBJECT_TO_IDX['door']
_COLORLESS = [constants.OBJECT_TO_IDX[name] for name in ('unseen', 'empty')]
_MOST_MISSIONS = 10_000

# Sizes of MultiRoom that the literature on exploration measures (from Raileanu
# and Rocktaeschel 2020, RIDE) and MiniGrid does not name: rooms, largest size.
_MULTI_ROOMS = ((7, 4), (7, 8), (10, 4), (10, 10), (12, 10))


def _register_multi_rooms() -> None:
  """Names them as MiniGrid names its own: 'MiniGrid-MultiRoom-N10-S10-v0'."""
  for rooms, size in _MULTI_ROOMS:
    env_id = f'MiniGrid-MultiRoom-N{rooms}-S{size}-v0'
    if env_id not in gymnasium.registry:
      gymnasium.register(
          env_id, 'minigrid.envs:MultiRoomEnv',
          kwargs=dict(
              minNumRooms=rooms, maxNumRooms=rooms, maxRoomSize=size
          ),
      )


_register_multi_rooms()


def names() -> list[str]:
  """Returns the ids of all environments: 'MiniGrid-MultiRoom-N6-v0', ..."""
  return sorted(i for i in gymnasium.registry if i.startswith(_PREFIXES))


def find(env_id: str) -> str:
  """Returns the id of an environment, written in upper or lower case.

  Raises:
    UnknownEnvironmentError: No such environment; the message has the nearest
      ones.
  """
  found = errors.spelt_as_known(env_id, names())
  if found not in names():
    raise errors.unknown_name('MiniGrid environment', env_id, names())
  return found


def grid_width(env_id: str) -> int:
  """Returns the width of an environment's grid, cells."""
  env = gymnasium.make(find(env_id), disable_env_checker=True)
  env.close()
  return env.unwrapped.width


def make(
    env_id: str, full_view: bool = False, encode_mission: bool = False
) -> gymnasium.Env:
  """Makes an environment whose observation is one array.

  Args:
    env_id: 'MiniGrid-MultiRoom-N6-v0', ...
    full_view: Whether the observation is the whole grid instead of the 7 x 7
      cells that the agent sees.
    encode_mission: Whether planes for the mission are added.

  Returns:
    A `OneHotCells`, which truncates at the environment's own limit on steps.

  Raises:
    ValueError: There are too many missions to encode.
    MissingPackageError: It needs a package that is not installed.
  """
  with errors.one_line_of_any():
    try:
      env = gymnasium.make(
          env_id, disable_env_checker=True, render_mode='rgb_array'
      )
    except gymnasium.error.DependencyNotInstalled as error:
      raise errors.MissingPackageError(f'{env_id}: {error}') from error
  minigrid_view.speed_up(env.unwrapped)
  return OneHotCells(env, full_view, encode_mission)


class OneHotCells(gymnasium.ObservationWrapper):
  """The observation as one image, float32 [width, height, planes] of 0 and 1.

  MiniGrid's own image has three numbers per cell, for object, colour and state.
  They are labels, not amounts: a door (4) is not half-way between a wall (2)
  and a ball (6), and divided by 255 all of them would be nearly 0. In one-hot
  form all kinds of cells are equally far apart. The bonus, which divides each
  plane of each cell by its standard deviation there, is then large when a kind
  of cell is seen somewhere for the first time.

  Planes: 11 objects, 6 colours, 3 states of doors, 4 directions of the agent,
  and those of the mission. In the agent's view, which does not show the agent
  itself, the plane of its direction is 1 everywhere; in the full view only in
  the agent's cell. An object that the agent carries is in the agent's cell in
  both views. The array is float32, not uint8, because networks divide uint8
  images by 255, and the bonus takes their last plane for the newest frame.

  `info['place']` is the agent's cell, y * width + x.
  """

  def __init__(
      self,
      env: gymnasium.Env,
      full_view: bool = False,
      encode_mission: bool = False,
  ):
    """Wraps an environment of MiniGrid.

    Args:
      env: As `gymnasium.make` gives it.
      full_view: Whether the observation is the whole grid instead of the cells
        that the agent sees.
      encode_mission: Whether to add planes for the mission: one for every
        choice of every placeholder in the environment's sentence, which is 1
        everywhere if the mission has that word.

    Raises:
      ValueError: There are too many missions to encode.
    """
    super().__init__(env)
    self._grid = env.unwrapped
    self._full_view = full_view
    self._missions = None
    num_choices = 0
    if encode_mission:
      self._missions = _encoded_missions(env.observation_space['mission'])
      num_choices = len(next(iter(self._missions.values())))
    self._cells = _cell_table()
    if full_view:
      size = (self._grid.width, self._grid.height)
    else:
      size = env.observation_space['image'].shape[:2]
    self._first_direction = self._cells.shape[-1] - _NUM_DIRECTIONS
    planes = self._cells.shape[-1] + num_choices
    self.observation_space = gymnasium.spaces.Box(
        0, 1, (*size, planes), np.float32
    )

  def reset(self, *, seed: Optional[int] = None, options=None):
    observation, info = self.env.reset(seed=seed, options=options)
    return self.observation(observation), self._with_place(info)

  def step(self, action):
    observation, reward, terminated, truncated, info = self.env.step(action)
    return (
        self.observation(observation),
        float(reward),
        terminated,
        truncated,
        self._with_place(info),
    )

  def observation(self, observation: dict[str, Any]) -> np.ndarray:
    """Returns the planes of an observation, float32 [width, height, planes]."""
    if self._full_view:
      grid = self._grid.grid
      image = minigrid_view.encoded(grid.grid)
      image = image.reshape(grid.height, grid.width, 3).swapaxes(0, 1)
    else:
      image = observation['image']
    cells = self._cells[image[..., 0], image[..., 1], image[..., 2]]
    if self._full_view:
      self._draw_agent(cells)
    else:
      cells[..., self._first_direction + observation['direction']] = 1.0
    if self._missions is None:
      return cells
    mission = self._missions[observation['mission']]
    return np.concatenate(
        [cells, np.broadcast_to(mission, (*cells.shape[:2], len(mission)))], -1
    )

  def get_action_meanings(self) -> list[str]:
    """Returns what MiniGrid calls the actions."""
    return [action.name for action in self._grid.actions]

  def facts(self) -> dict[str, Union[int, float]]:
    """Where the agent is, its direction, and the kind of what it carries."""
    x, y = self._grid.agent_pos
    carried = self._grid.carrying
    return {
        'x': float(x), 'y': float(y), 'direction': int(self._grid.agent_dir),
        'carried': 0 if carried is None else int(carried.encode()[0]),
    }

  def _draw_agent(self, cells: np.ndarray):
    """Adds the agent, and what it carries, to its cell of the whole grid."""
    x, y = self._grid.agent_pos
    red = constants.COLOR_TO_IDX['red']
    cells[x, y] = self._cells[_AGENT, red, self._grid.agent_dir]
    if self._grid.carrying is not None:
      cells[x, y] += self._cells[self._grid.carrying.encode()]
      np.minimum(cells[x, y], 1.0, out=cells[x, y])

  def _with_place(self, info: dict[str, Any]) -> dict[str, Any]:
    x, y = self._grid.agent_pos
    return {**info, 'place': int(y) * self._grid.width + int(x)}


def _cell_table() -> np.ndarray:
  """Returns the planes of every kind of cell.

  Returns:
    float32 [objects, colours, largest number of states, planes].
  """
  most_states = max(_NUM_STATES, _NUM_DIRECTIONS)
  first_color = _NUM_OBJECTS
  first_state = first_color + _NUM_COLORS
  first_direction = first_state + _NUM_STATES
  table = np.zeros(
      (_NUM_OBJECTS, _NUM_COLORS, most_states,
       first_direction + _NUM_DIRECTIONS),
      np.float32,
  )
  for kind, color, state in np.ndindex(*table.shape[:3]):
    cell = table[kind, color, state]
    cell[kind] = 1.0
    if kind not in _COLORLESS:
      cell[first_color + color] = 1.0
    if kind == _AGENT:
      cell[first_direction + state] = 1.0
    if kind == _DOOR and state < _NUM_STATES:
      cell[first_state + state] = 1.0
  return table


def _encoded_missions(space: gymnasium.Space) -> dict[str, np.ndarray]:
  """Returns the values of the planes for every mission of an environment.

  Args:
    space: `MissionSpace`: a sentence with placeholders and their choices.

  Raises:
    ValueError: The missions are not such a sentence, or there are too many.
  """
  choices = space.ordered_placeholders or []
  count = math.prod(len(words) for words in choices)
  # Subclasses, such as BabyAI's, make their sentences in other ways.
  if type(space) is not mission_lib.MissionSpace or count > _MOST_MISSIONS:
    raise ValueError(
        'EnvironmentConfig.encode_mission: the missions of this environment '
        f'are not a sentence with at most {_MOST_MISSIONS} choices of words: '
        'it must be None here'
    )
  missions = {}
  for indices in itertools.product(*(range(len(words)) for words in choices)):
    words = [words[i] for words, i in zip(choices, indices)]
    values = [np.eye(len(words), dtype=np.float32)[i]
              for words, i in zip(choices, indices)]
    missions[space.mission_func(*words)] = np.concatenate(
        [np.zeros(0, np.float32), *values]
    )
  return missions
