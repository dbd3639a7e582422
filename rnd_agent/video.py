"""Records episodes as MP4 files, as the player would see them."""

from __future__ import annotations

import os
import pathlib
from typing import Callable, Optional

import gymnasium
import imageio_ffmpeg
import numpy as np
import tensorflow as tf
from tf_agents.policies import tf_policy
from tf_agents.trajectories import time_step as ts
from tf_agents.utils import common


class EpisodeRecorder:
  """Plays an episode in an environment of its own and films it."""

  def __init__(
      self,
      make_environment: Callable[[], gymnasium.Env],
      policy: tf_policy.TFPolicy,
      frames_per_second: float = 15.0,
  ):
    """Records nothing yet.

    Args:
      make_environment: gives an environment that has been reset; called for
        every recording.
      policy: whose actions are taken.
      frames_per_second: of the film; 15 agent steps per second are the Atari
        games' own speed (60 Hz, actions held for 4 frames).
    """
    self._make_environment = make_environment
    self._policy = policy
    self._frames_per_second = frames_per_second
    self._act = common.function(policy.action)

  def record(
      self, path: str | os.PathLike, stop: Callable[[], bool] = lambda: False
  ) -> Optional[int]:
    """Plays and films one episode.

    Args:
      path: of the MP4 file; it appears when the episode is over.
      stop: asked before every step; True gives up.

    Returns:
      Frames written, one per observation of the episode; None where it was
      given up or the environment shows nothing.
    """
    environment = self._make_environment()
    try:
      if environment.render_mode != 'rgb_array':
        return None
      return self._film(environment, pathlib.Path(path), stop)
    finally:
      environment.close()

  def _film(self, environment, path, stop) -> Optional[int]:
    partial = path.with_name(f'.{path.stem}.{os.getpid()}{path.suffix}')
    height, width, _ = environment.render().shape
    # Twice the size, so that the encoder's halved colours stay on the pixels.
    writer = imageio_ffmpeg.write_frames(
        str(partial), (2 * width, 2 * height), fps=self._frames_per_second,
        macro_block_size=2, ffmpeg_log_level='error',
    )
    writer.send(None)
    try:
      count = self._play(environment, writer, stop)
      writer.close()
      if count is not None:
        os.replace(partial, path)
      return count
    finally:
      writer.close()
      partial.unlink(missing_ok=True)

  def _play(self, environment, writer, stop) -> Optional[int]:
    observation, _ = environment.reset()
    state = self._policy.get_initial_state(1)
    step_type, count = ts.StepType.FIRST, 0
    zero = np.zeros([1], np.float32)
    while True:
      frame = environment.render()
      writer.send(np.ascontiguousarray(frame.repeat(2, 0).repeat(2, 1)))
      count += 1
      if step_type == ts.StepType.LAST:
        return count
      if stop():
        return None
      step = self._act(
          ts.TimeStep(
              np.array([step_type], np.int32), zero, zero + 1,
              tf.nest.map_structure(lambda x: x[np.newaxis], observation),
          ),
          state,
      )
      state = step.state
      observation, _, terminated, truncated, _ = environment.step(
          step.action.numpy()[0]
      )
      step_type = (
          ts.StepType.LAST if terminated or truncated else ts.StepType.MID
      )
