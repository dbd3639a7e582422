"""Super Mario Bros. on nes-py, an emulator of the console."""

from typing import Any, Optional

from gym.envs import registration
import gym_super_mario_bros  # noqa: F401, registers its games with gym
from gym_super_mario_bros import actions
import gymnasium
from nes_py import wrappers as nes_wrappers
import numpy as np

from rnd_agent.environments import errors


def names() -> list[str]:
  """Returns the ids of all games: 'SuperMarioBros-1-1-v0', ..."""
  specs = registration.registry.all()
  return sorted(s.id for s in specs if s.id.startswith('SuperMarioBros'))


def find(env_id: str) -> str:
  """Returns the id of a game, written in upper or lower case.

  Raises:
    UnknownEnvironmentError: No such game; the message has the nearest ones.
  """
  found = errors.spelt_as_known(env_id, names())
  if found not in names():
    raise errors.unknown_name('Super Mario game', env_id, names())
  return found


class SuperMario(gymnasium.Env):
  """The whole game or one stage of it, one frame of 1/60 s per step.

  The observation is the screen, RGB, uint8 [240, 256, 3]; the actions are the
  seven of SIMPLE_MOVEMENT, action 0 presses no button. The reward is the
  package's: pixels moved to the right, minus time and a penalty for death, in
  [-15, 15]. A single stage terminates at the flag or when a life is lost, the
  whole game when the last life is lost.

  `info` holds the package's figures, and `x`, Mario's position in the stage,
  pixels, whose maximum is the episode's `furthest_x`.
  """

  metadata = {'render_modes': ['rgb_array'], 'render_fps': 60}
  render_mode = 'rgb_array'

  def __init__(self, env_id: str, reward_at_flag_only: bool = False):
    """Loads a game.

    Args:
      env_id: 'SuperMarioBros-1-1-v0', ...
      reward_at_flag_only: Whether the reward is 1 when the flag is reached and
        0 otherwise, instead of the package's.
    """
    # gym.make would warn about every version but the latest.
    self._game = registration.spec(env_id).make().unwrapped
    self._joypad = nes_wrappers.JoypadSpace(
        self._game, actions.SIMPLE_MOVEMENT
    )
    self._reward_at_flag_only = reward_at_flag_only
    self._at_flag = False
    self.action_space = gymnasium.spaces.Discrete(self._joypad.action_space.n)
    self.observation_space = gymnasium.spaces.Box(
        0, 255, self._game.observation_space.shape, np.uint8
    )

  @property
  def np_random(self) -> Any:
    """The generator that draws stages, None for games that draw none."""
    return getattr(self._game, 'np_random', None)

  def reset(
      self, *, seed: Optional[int] = None, options: Optional[dict] = None
  ) -> tuple[np.ndarray, dict[str, Any]]:
    """Starts a game. See `gymnasium.Env.reset`."""
    self._at_flag = False
    return self._game.reset(seed=seed).copy(), {}

  def step(
      self, action: int
  ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
    """Plays a frame with the buttons held. See `gymnasium.Env.step`."""
    # The emulator reuses the screen's memory: copies are returned.
    screen, reward, done, info = self._joypad.step(action)
    if self._reward_at_flag_only:
      # In the whole game `flag_get` stays true for many frames.
      reward = float(info['flag_get'] and not self._at_flag)
    self._at_flag = bool(info['flag_get'])
    info['x'] = int(info['x_pos'])
    return screen.copy(), float(reward), bool(done), False, info

  def get_action_meanings(self) -> list[str]:
    """Returns the buttons of every action: 'NOOP', 'right', 'right A', ..."""
    return [' '.join(buttons) for buttons in actions.SIMPLE_MOVEMENT]

  def render(self) -> np.ndarray:
    """Returns the screen, RGB, uint8 [240, 256, 3]; a new array."""
    return self._game.screen.copy()

  def close(self):
    """Ends the emulator."""
    self._joypad.close()
