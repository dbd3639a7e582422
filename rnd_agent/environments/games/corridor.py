"""A corridor whose far end random actions do not reach, but a bonus does."""

from typing import Any, Optional

import gymnasium
import numpy as np

# Length of an episode, steps; `suites` applies the limit.
MAX_EPISODE_STEPS = 100


def forward_actions(length: int, num_actions: int) -> np.ndarray:
  """Returns the action that leads forward from each cell, int64 [length].

  The actions are triangular numbers modulo `num_actions`: all actions occur,
  and neighbouring cells often differ, so that no constant policy gets far.
  """
  cells = np.arange(length)
  return cells * (cells + 1) // 2 % num_actions


class Corridor(gymnasium.Env):
  """A deterministic corridor of cells with the only reward at its far end.

  In every cell one action, fixed by the cell, leads one cell forward, and every
  other leads one cell back. A uniformly random policy with the default sizes
  moves forward with probability 1/4 and reaches the end of the corridor within
  100 steps with probability 1.9e-8. An agent with a bonus for rarely visited
  cells learns to pass one cell after another.

  The observation is the cell, one-hot, float32 [length]; reward 1 and
  termination at the last cell; `info['place']` is the cell. The environment
  has no limit on steps, `suites` adds `MAX_EPISODE_STEPS`.
  """

  metadata = {'render_modes': ['rgb_array'], 'render_fps': 10}
  render_mode = 'rgb_array'

  def __init__(self, length: int = 20, num_actions: int = 4):
    """Builds a corridor.

    Args:
      length: Number of cells, at least 2.
      num_actions: Number of actions, at least 2.

    Raises:
      ValueError: A size is too small.
    """
    if length < 2 or num_actions < 2:
      raise ValueError(
          'a corridor needs at least 2 cells and 2 actions, got '
          f'length={length}, num_actions={num_actions}'
      )
    self._length = length
    self._forward = forward_actions(length, num_actions).tolist()
    self._cell = 0
    self.action_space = gymnasium.spaces.Discrete(num_actions)
    self.observation_space = gymnasium.spaces.Box(0, 1, (length,), np.float32)

  def reset(
      self, *, seed: Optional[int] = None, options: Optional[dict] = None
  ) -> tuple[np.ndarray, dict[str, Any]]:
    """Goes back to the first cell. See `gymnasium.Env.reset`."""
    super().reset(seed=seed)
    self._cell = 0
    return self._observe()

  def step(
      self, action: int
  ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
    """Moves one cell. See `gymnasium.Env.step`."""
    if action == self._forward[self._cell]:
      self._cell += 1
    else:
      self._cell = max(self._cell - 1, 0)
    at_end = self._cell == self._length - 1
    observation, info = self._observe()
    return observation, float(at_end), at_end, False, info

  def render(self) -> np.ndarray:
    """Returns a picture, RGB, uint8 [16, 16 * length, 3]."""
    cells = np.full((self._length, 3), 40, np.uint8)
    cells[-1] = (0, 120, 0)
    cells[self._cell] = 255
    return np.repeat(np.tile(cells, (16, 1, 1)), 16, axis=1)

  def _observe(self) -> tuple[np.ndarray, dict[str, Any]]:
    observation = np.zeros(self._length, np.float32)
    observation[self._cell] = 1.0
    return observation, {'place': self._cell}
