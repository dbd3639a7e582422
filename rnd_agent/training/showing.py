"""Evaluations and films of a run, at their intervals."""

from __future__ import annotations

import pathlib
from typing import Callable, Optional

from rnd_agent.common import wording
from rnd_agent.runs import event_files
from rnd_agent.training import evaluation
from rnd_agent.training import filming
from rnd_agent.training import recording as recording_lib


class Showing:
  """Plays evaluation episodes, films some, and records both."""

  def __init__(
      self,
      root: pathlib.Path,
      recording: recording_lib.Recording,
      evaluator: Optional[evaluation.Evaluator],
      episode_recorder: Optional[filming.EpisodeRecorder],
      eval_interval: int,
      video_interval: Optional[int],
      stop: Callable[[], bool],
      note: Callable[[str], None],
  ):
    """Plays nothing yet.

    Args:
      root: the run's folder.
      recording: of what is played.
      evaluator: plays evaluation episodes; None for none.
      episode_recorder: films episodes; None for none.
      eval_interval: iterations between evaluations; 0 for none.
      video_interval: iterations between films; 0 for none, None for one at
        every evaluation.
      stop: asked before every step; True gives up.
      note: told one line at a time.
    """
    self._root = root
    self._recording = recording
    self._evaluator = evaluator
    self._episode_recorder = episode_recorder
    self._eval_interval = eval_interval
    self._video_interval = (
        eval_interval if video_interval is None else video_interval
    )
    self._stop = stop
    self._note = note

  @property
  def films(self) -> bool:
    """Whether there is something to film, as far as is known."""
    return self._episode_recorder is not None

  def show_if_due(self, iteration: int, env_steps: int) -> None:
    """Shows an iteration at whose end an evaluation or a film is due.

    Args:
      iteration: its number.
      env_steps: agent steps at its end.
    """
    if _is_due(self._eval_interval, iteration):
      self._evaluate(iteration, env_steps)
    if _is_due(self._video_interval, iteration):
      self._film(iteration, env_steps)

  def catch_up(self, iteration: int, env_steps: int) -> None:
    """Shows what was due when the run ended, after its last checkpoint."""
    if iteration and not event_files.holds(self._root / 'eval', env_steps):
      self.show_if_due(iteration, env_steps)

  def show_last(self, iteration: int, env_steps: int) -> None:
    """Shows the run's last iteration, unless it was shown or asked to stop."""
    if not self._stop() and not _is_due(self._eval_interval, iteration):
      self._evaluate(iteration, env_steps)
    if not self._stop() and not _is_due(self._video_interval, iteration):
      self._film(iteration, env_steps)

  def _evaluate(self, iteration: int, env_steps: int) -> None:
    """Plays evaluation episodes and records their mean."""
    if self._evaluator is None or not self._eval_interval:
      return
    result = None
    with self._recording.notices.optional('evaluation'):
      result = self._evaluator.run(stop=self._stop, number=iteration)
    if result is None:
      return
    self._recording.evaluation(env_steps, result)
    self._note(
        f'evaluation at iteration {iteration}: '
        f'return {wording.number(result.returns.mean())} '
        f'(max {wording.number(result.returns.max())}) in '
        f'{len(result.returns)} episodes of {result.lengths.mean():.0f} steps'
    )

  def _film(self, iteration: int, env_steps: int) -> None:
    """Films an evaluation episode, for `videos/` and for TensorBoard."""
    if self._episode_recorder is None or not self._video_interval:
      return
    film = None
    with self._recording.notices.optional('film'):
      folder = self._root / 'videos'
      folder.mkdir(exist_ok=True)
      try:
        film = self._episode_recorder.record(
            folder / f'iteration-{iteration}.mp4', stop=self._stop
        )
      except filming.CannotFilmError as error:
        self._note(f'no films of this environment: {error}')
        self._episode_recorder = None
    if film is not None:
      self._recording.film(env_steps, film)


def _is_due(interval: int, iteration: int) -> bool:
  return interval > 0 and iteration % interval == 0
