"""Games of the PyGame Learning Environment (package `ple`), without gym-ple.

gym-ple needs a version of gym that TF-Agents does not accept. `ple` and
`pygame` are not imported before a game is made.
"""

import contextlib
import importlib
import io
import os
import types
from typing import Any, Optional

import gymnasium
import numpy as np

from rnd_agent.environments import errors

# Module in `ple.games` and class of each game, by its name in gym-ple's ids
# (for PixelCopter the class has another name).
GAMES = {
    'Catcher': ('catcher', 'Catcher'),
    'FlappyBird': ('flappybird', 'FlappyBird'),
    'MonsterKong': ('monsterkong', 'MonsterKong'),
    'PixelCopter': ('pixelcopter', 'Pixelcopter'),
    'Pong': ('pong', 'Pong'),
    'PuckWorld': ('puckworld', 'PuckWorld'),
    'RaycastMaze': ('raycastmaze', 'RaycastMaze'),
    'Snake': ('snake', 'Snake'),
    'WaterWorld': ('waterworld', 'WaterWorld'),
}

_FRAMES_PER_SECOND = 30


def find_game(name: str) -> str:
  """Returns the name of a game as it is in `GAMES`.

  Args:
    name: 'PixelCopter', 'Pixelcopter', ..., in upper or lower case.

  Raises:
    UnknownEnvironmentError: No such game; the message has the nearest ones.
  """
  found = errors.spelt_as_known(name, GAMES)
  if found not in GAMES:
    raise errors.unknown_name('PLE game', name, GAMES)
  return found


def is_game(name: str) -> bool:
  """Whether there is a game of this name, upper or lower case."""
  return errors.spelt_as_known(name, GAMES) in GAMES


class PleGame(gymnasium.Env):
  """A game, one frame of 1/30 s per step, drawn in memory without a display.

  The observation is the screen, RGB, uint8 [height, width, 3]. Action 0 presses
  no key; the others press the game's keys, in ascending order. Game over is a
  termination.

  `ple` draws every game on pygame's one window per process; here every game has
  a surface of its own, so that a process can have several. Games draw only when
  they are stepped: an episode therefore begins with one frame without a key.
  """

  metadata = {'render_modes': ['rgb_array'], 'render_fps': _FRAMES_PER_SECOND}
  render_mode = 'rgb_array'

  def __init__(self, game: str):
    """Loads a game at its own size.

    Args:
      game: Name of the game, one of `GAMES`.

    Raises:
      MissingPackageError: The package `ple` lacks the game's pictures.
    """
    self._name = game
    self._module, self._game_class = _load(game)
    import pygame  # With ple only.

    self._pygame = pygame
    self._build(seed=0)
    self._actions = [None, *sorted(set(self._game.actions.values()))]
    width, height = self._game.getScreenDims()
    self.action_space = gymnasium.spaces.Discrete(len(self._actions))
    self.observation_space = gymnasium.spaces.Box(
        0, 255, (height, width, 3), np.uint8
    )

  def _build(self, seed: int):
    """Makes a new game, with a random generator and a surface of its own."""
    try:
      self._game = self._game_class()
    except FileNotFoundError as error:
      raise errors.MissingPackageError(
          f"ple:{self._name}: the package 'ple' was installed without the "
          f"game's pictures ({error}): pip install -e git+https://github.com/"
          'ntasfi/PyGame-Learning-Environment.git#egg=ple'
      ) from error
    with contextlib.redirect_stdout(io.StringIO()):
      self._ple = self._module.PLE(
          self._game, fps=_FRAMES_PER_SECOND, display_screen=False,
          rng=np.random.RandomState(seed % 2**32),
      )
    self._game.screen = self._pygame.Surface(self._game.getScreenDims(), 0, 32)

  @property
  def np_random(self) -> np.random.RandomState:
    """The game's generator."""
    return self._game.rng

  def reset(
      self, *, seed: Optional[int] = None, options: Optional[dict] = None
  ) -> tuple[np.ndarray, dict[str, Any]]:
    """Starts a new game. See `gymnasium.Env.reset`."""
    if seed is not None:
      # Some games keep objects across resets: a seed alone is not enough.
      self._build(seed)
    self._pygame.event.clear()
    self._ple.reset_game()
    self._ple.act(None)
    return self.render(), {}

  def step(
      self, action: int
  ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
    """Plays one frame with a key pressed. See `gymnasium.Env.step`."""
    reward = self._ple.act(self._actions[action])
    return self.render(), float(reward), self._ple.game_over(), False, {}

  def get_action_meanings(self) -> list[str]:
    """Returns the name of every action: 'NOOP', 'UP', ..."""
    names = {key: name for name, key in self._game.actions.items()}
    return ['NOOP', *(str(names[key]).upper() for key in self._actions[1:])]

  def render(self) -> np.ndarray:
    """Returns the screen, RGB, uint8 [height, width, 3]; a new array."""
    columns = self._pygame.surfarray.array3d(self._game.screen)
    return np.ascontiguousarray(columns.swapaxes(0, 1))


def _load(game: str) -> tuple[types.ModuleType, type]:
  """Imports `ple` without a window, and the class of a game."""
  os.environ['SDL_VIDEODRIVER'] = 'dummy'
  os.environ['SDL_AUDIODRIVER'] = 'dummy'
  module, class_name = GAMES[game]
  # ple prints at import that it cannot import Doom.
  with contextlib.redirect_stdout(io.StringIO()):
    ple = importlib.import_module('ple')
    game_module = importlib.import_module(f'ple.games.{module}')
  game_class = getattr(game_module, class_name)
  if game == 'RaycastMaze':
    game_class = _fixed_raycast_maze(game_class, game_module)
  return ple, game_class


def _fixed_raycast_maze(
    game_class: type, game_module: types.ModuleType
) -> type:
  """Returns RaycastMaze such that it works with numpy 1.24 and pygame 2.

  Its modules use names that numpy has removed, and give pygame the ends of
  lines as arrays of one number, which pygame no longer accepts.
  """
  for module in (game_module, importlib.import_module('ple.games.raycast')):
    module.np = types.SimpleNamespace(**{**vars(np), 'bool': bool, 'int': int})

  class Fixed(game_class):
    """RaycastMaze that draws columns with numbers as ends."""

    def draw(self):
      columns, tops, bottoms, colors = super().draw()
      return columns, np.ravel(tops), np.ravel(bottoms), colors

  return Fixed
