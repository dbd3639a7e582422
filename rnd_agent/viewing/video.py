"""Films an evaluation episode of a training run, as the player would see it."""

from __future__ import annotations

import os
from typing import Callable, NamedTuple, Optional

import gymnasium
import numpy as np
import tensorflow as tf
from tf_agents.policies import tf_policy
from tf_agents.trajectories import time_step as ts
from tf_agents.utils import common

from rnd_agent.viewing import film_files

# Most frames of the animation for TensorBoard, which loads it whole.
_ANIMATION_FRAMES = 100
_ANIMATION_FRAMES_PER_SECOND = 12.5


class CannotFilmError(RuntimeError):
  """The environment has pictures, but not here; one line."""


class Film(NamedTuple):
  """What was filmed.

  Attributes:
    frames: in the film, one per observation of the episode.
    width: of the animation, pixels.
    height: of the animation, pixels.
    animation: the episode in at most 100 of its frames, a GIF file's bytes.
  """

  frames: int
  width: int
  height: int
  animation: bytes


class EpisodeRecorder:
  """Plays an episode in an environment of its own and films it."""

  def __init__(
      self,
      make_environment: Callable[[], gymnasium.Env],
      policy: tf_policy.TFPolicy,
      frames_per_step: int = 1,
  ):
    """Records nothing yet.

    Args:
      make_environment: gives an environment that has been reset; called for
        every recording.
      policy: whose actions are taken.
      frames_per_step: raw frames that an action is held for: the film has the
        game's own speed, for Atari (60 Hz, 4 frames) 15 steps per second.
    """
    self._make_environment = make_environment
    self._policy = policy
    self._frames_per_step = frames_per_step
    self._act = common.function(policy.action)

  def record(
      self, path: str | os.PathLike, stop: Callable[[], bool] = lambda: False
  ) -> Optional[Film]:
    """Plays and films one episode.

    Args:
      path: of the MP4 file; it appears when the episode is over.
      stop: asked before every step; True gives up.

    Returns:
      A `Film`; None where it was given up or the environment shows nothing.

    Raises:
      CannotFilmError: a package is missing that draws the environment.
    """
    environment = self._make_environment()
    try:
      if environment.render_mode != 'rgb_array':
        return None
      return self._film(environment, path, stop)
    except gymnasium.error.DependencyNotInstalled as error:
      raise CannotFilmError(' '.join(str(error).split())) from error
    finally:
      environment.close()

  def _film(self, environment, path, stop) -> Optional[Film]:
    film = film_files.FilmFile(path, film_files.frames_per_second(
        environment.metadata, self._frames_per_step
    ))
    kept, every = [], 1
    try:
      for number, frame in enumerate(self._play(environment)):
        if stop():
          return None
        factor = film_files.enlargement(*frame.shape[:2])
        film.write(film_files.enlarged(frame, factor))
        if number % every == 0:
          kept.append(frame)
        if len(kept) > _ANIMATION_FRAMES:
          kept, every = kept[::2], 2 * every
      film.finish()
    finally:
      film.give_up()
    height, width, _ = frame.shape
    return Film(
        film.count, width, height,
        film_files.gif(kept, _ANIMATION_FRAMES_PER_SECOND),
    )

  def _play(self, environment):
    """Yields a frame per observation of an episode, the last one's too."""
    observation, _ = environment.reset()
    state = self._policy.get_initial_state(1)
    step_type = ts.StepType.FIRST
    zero = np.zeros([1], np.float32)
    yield environment.render()
    while step_type != ts.StepType.LAST:
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
      yield environment.render()
