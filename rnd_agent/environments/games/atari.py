"""Atari 2600 games, one raw 60 Hz frame per step."""

from typing import Any, Optional, Union

import ale_py
from ale_py import roms
import gymnasium
import numpy as np

from rnd_agent.environments import errors

# RAM byte that holds the number of the room the player is in (Burda et al.
# 2018 count rooms so in Montezuma's Revenge).
_ROOM_BYTE = {'montezuma_revenge': 3, 'pitfall': 1}

# RAM bytes of further facts, as amounts or as categories.
_AMOUNT_BYTES = {'montezuma_revenge': {'x': 42, 'y': 43}}
_CATEGORY_BYTES = {'montezuma_revenge': {'carried': 65}}

_RAM_BYTES = 128


def find_rom(game: str) -> str:
  """Returns the id of a game's ROM.

  Args:
    game: 'MontezumaRevenge' or 'montezuma_revenge', upper or lower case.

  Returns:
    The id under which ale-py ships the ROM: 'montezuma_revenge'.

  Raises:
    UnknownEnvironmentError: There is no such ROM (the message has the nearest
      names), or the game needs two players.
  """
  ids = {rom.replace('_', ''): rom for rom in roms.get_all_rom_ids()}
  rom = ids.get(game.replace('_', '').lower())
  if rom is None:
    raise errors.unknown_name('Atari game', game, game_names())
  # The emulator would abort the process when it loads such a ROM.
  if ale_py.ALEInterface.isSupportedROM(roms.get_rom_path(rom)) is None:
    raise errors.UnknownEnvironmentError(
        f"Atari game '{game}': the Arcade Learning Environment cannot play it "
        'alone, it is for two players'
    )
  return rom


def game_names() -> list[str]:
  """Returns the names of all games: 'MontezumaRevenge', ..."""
  return [rom.title().replace('_', '') for rom in roms.get_all_rom_ids()]


class AtariGame(gymnasium.Env):
  """A game on the Arcade Learning Environment, without any preprocessing.

  One step is one frame. ALE's own sticky actions and frame skip are off:
  wrappers do both, so that their state can be saved with the environment (ALE
  does not save the previous action its sticky actions depend on). The
  observation is the console's RAM, which is cheap to read; the screen is read
  only when `render` is called. Game over is a termination, the loss of a life
  is not.

  `info` holds `lives`, and `place`, the room, for games where it is known.

  A restored game continues exactly as the saved one would have, except that
  `render` shows the screen of before the restoring until the next step.
  """

  metadata = {'render_modes': ['rgb_array'], 'render_fps': 60}
  render_mode = 'rgb_array'

  def __init__(
      self, game: str, full_action_space: bool = False, seed: int = 0
  ):
    """Loads a game.

    Args:
      game: Name of the game, see `find_rom`.
      full_action_space: All 18 actions instead of those the game reacts to.
      seed: That of the first reset, where it is known: a game that is reset
        with another seed is loaded once more, which takes 0.1 s.

    Raises:
      UnknownEnvironmentError: No such game.
    """
    self._rom = find_rom(game)
    self._room_byte = _ROOM_BYTE.get(self._rom)
    self._seed = seed
    self._ale = self._load()
    self._is_new = True  # As loaded: not reset yet.
    if full_action_space:
      actions = self._ale.getLegalActionSet()
    else:
      actions = self._ale.getMinimalActionSet()
    self._actions = [action.value for action in actions]
    self.action_space = gymnasium.spaces.Discrete(len(actions))
    self.observation_space = gymnasium.spaces.Box(
        0, 255, (_RAM_BYTES,), np.uint8
    )

  def reset(
      self, *, seed: Optional[int] = None, options: Optional[dict] = None
  ) -> tuple[np.ndarray, dict[str, Any]]:
    """Starts a new game. See `gymnasium.Env.reset`."""
    super().reset(seed=seed)
    if seed is not None and not (self._is_new and seed == self._seed):
      self._seed = seed
      self._ale = self._load()
    self._is_new = False
    self._ale.reset_game()
    return self._observe()

  def step(
      self, action: int
  ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
    """Emulates one frame with an action held. See `gymnasium.Env.step`."""
    reward = self._ale.act(self._actions[action])
    ram, info = self._observe()
    terminated = self._ale.game_over(with_truncation=False)
    return ram, float(reward), terminated, False, info

  def facts(self) -> dict[str, Union[int, float]]:
    """Lives and, where they are known, the figure's place and its objects."""
    ram = self._ale.getRAM()
    return {
        'lives': int(self._ale.lives()),
        **{name: float(ram[byte])
           for name, byte in _AMOUNT_BYTES.get(self._rom, {}).items()},
        **{name: int(ram[byte])
           for name, byte in _CATEGORY_BYTES.get(self._rom, {}).items()},
    }

  def get_action_meanings(self) -> list[str]:
    """Returns the name of every action: 'NOOP', 'FIRE', 'UP', ..."""
    return [ale_py.Action(value).name for value in self._actions]

  def render(self) -> np.ndarray:
    """Returns the screen, RGB, uint8 [210, 160, 3]; a new array."""
    return self._ale.getScreenRGB()

  def color_numbers(self) -> np.ndarray:
    """Returns the number of every pixel's colour, uint8 [210, 160]."""
    return self._ale.getScreen()

  def _load(self) -> ale_py.ALEInterface:
    """Returns a new emulator with the ROM loaded."""
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setFloat('repeat_action_probability', 0.0)
    ale.setInt('frame_skip', 1)
    ale.setInt('random_seed', self._seed & 0x7FFFFFFF)
    ale.loadROM(roms.get_rom_path(self._rom))
    return ale

  def _observe(self) -> tuple[np.ndarray, dict[str, Any]]:
    """Returns RAM [128] and info of the current frame."""
    ram = self._ale.getRAM()
    info = {'lives': self._ale.lives()}
    if self._room_byte is not None:
      info['place'] = int(ram[self._room_byte])
    return ram, info

  def saved_state(self) -> dict[str, Any]:
    """Returns the emulator's state, in its own serialized form."""
    game = self._ale.cloneState(include_rng=True).serialize()
    return {'rom': self._rom, 'game': game}

  def restore_state(self, state: dict[str, Any]):
    """Restores a state that `saved_state` returned.

    Args:
      state: Of the same game.

    Raises:
      ValueError: The state is that of another game.
    """
    if state['rom'] != self._rom:
      raise ValueError(f"the state is that of {state['rom']}")
    self._ale.restoreState(ale_py.ALEState(state['game']))
