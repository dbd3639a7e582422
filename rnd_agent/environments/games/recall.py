"""A memory task: a cue at the start names the right action at the end."""

from typing import Any, Optional

import gymnasium
import numpy as np


class Recall(gymnasium.Env):
  """Shows a cue once and asks for it some steps later.

  Only the first observation of an episode shows the cue; all show how many
  steps are left. Only the last action counts: reward 1 if it is the number of
  the cue, else 0. A policy without memory gets 1 / cues on average.

  The observation is float32 [cues + 1]: the cue one-hot, zeros after the first
  step; and the share of the episode that is left. Episodes terminate after
  `delay` + 1 steps.
  """

  def __init__(self, num_cues: int = 4, delay: int = 6):
    """Builds the task.

    Args:
      num_cues: Number of cues and of actions, at least 2.
      delay: Steps between the cue and the answer, at least 1.

    Raises:
      ValueError: A size is too small.
    """
    if num_cues < 2 or delay < 1:
      raise ValueError(
          'recall needs at least 2 cues and a delay of 1, got '
          f'num_cues={num_cues}, delay={delay}'
      )
    self._num_cues = num_cues
    self._delay = delay
    self._cue = self._step = 0
    self.action_space = gymnasium.spaces.Discrete(num_cues)
    self.observation_space = gymnasium.spaces.Box(
        0, 1, (num_cues + 1,), np.float32
    )

  def reset(
      self, *, seed: Optional[int] = None, options: Optional[dict] = None
  ) -> tuple[np.ndarray, dict[str, Any]]:
    """Draws a cue and shows it. See `gymnasium.Env.reset`."""
    super().reset(seed=seed)
    self._cue = int(self.np_random.integers(self._num_cues))
    self._step = 0
    observation = self._observation()
    observation[self._cue] = 1.0
    return observation, {}

  def step(
      self, action: int
  ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
    """Takes a step; rewards the last one. See `gymnasium.Env.step`."""
    at_end = self._step == self._delay
    reward = float(at_end and action == self._cue)
    self._step += 1
    return self._observation(), reward, at_end, False, {}

  def facts(self) -> dict[str, int]:
    """The cue, in the step that shows it."""
    return {'cue': self._cue} if self._step == 0 else {}

  def _observation(self) -> np.ndarray:
    observation = np.zeros(self._num_cues + 1, np.float32)
    observation[-1] = 1 - self._step / (self._delay + 1)
    return observation
