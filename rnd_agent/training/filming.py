"""Films an evaluation episode of a training run, as the player would see it."""

from __future__ import annotations

import os
from typing import Any, Callable, NamedTuple, Optional

import numpy as np
from tf_agents.policies import tf_policy
from tf_agents.utils import common

from rnd_agent.common import film_files
from rnd_agent.environments import errors

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
      make_environment: Callable[[], Any],
      policy: tf_policy.TFPolicy,
      frames_per_second: float = 15.0,
  ):
    """Records nothing yet.

    Args:
      make_environment: gives a `ShardedPyEnvironment` of one environment, which
        draws in a process of its own; called for every recording.
      policy: whose actions are taken.
      frames_per_second: of the film, one frame per agent step; 15 is the Atari
        games' own speed (60 Hz, actions held for 4 frames).
    """
    self._make_environment = make_environment
    self._policy = policy
    self._frames_per_second = frames_per_second
    self._act = common.function(policy.action)

  def record(
      self, path: str | os.PathLike, stop: Callable[[], bool] = lambda: False
  ) -> Optional[Film]:
    """Plays and films one episode.

    Args:
      path: of the MP4 file; it appears when the episode is over.
      stop: asked before every step; True gives up.

    Returns:
      A `Film`; None where it was given up.

    Raises:
      CannotFilmError: a package is missing that draws the environment.
      EnvironmentWorkerError: the environment failed.
      FilmError: the film cannot be encoded.
      OSError: the same, or it cannot be written.
    """
    environment = self._make_environment()
    try:
      return self._film(environment, path, stop)
    except errors.MissingPackageError as error:
      raise CannotFilmError(str(error)) from error
    finally:
      environment.close()

  def _film(self, environment, path, stop) -> Optional[Film]:
    film = film_files.FilmFile(path, self._frames_per_second)
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
        film_files.encoded(kept, _ANIMATION_FRAMES_PER_SECOND, '.gif'),
    )

  def _play(self, environment):
    """Yields a frame per observation of an episode, the last one's too."""
    time_step = environment.reset()
    state = self._policy.get_initial_state(1)
    zero = np.zeros([1], np.float32)
    yield environment.render()[0]
    while not time_step.is_last()[0]:
      step = self._act(
          time_step._replace(reward=zero, discount=zero + 1), state
      )
      state = step.state
      time_step = environment.step(step.action.numpy())
      yield environment.render()[0]
