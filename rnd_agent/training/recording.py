"""What a run writes about itself: its tables, event files and progress line."""

from __future__ import annotations

import contextlib
import pathlib
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from rnd_agent.runs import episodes as episodes_lib
from rnd_agent.runs import event_files
from rnd_agent.runs import metrics as metrics_lib
from rnd_agent.runs import progress as progress_lib
from rnd_agent.runs import tables
from rnd_agent.training import notices as notices_lib
from rnd_agent.training import summaries

_TENSORBOARD = 'TensorBoard'


class Recording:
  """The tables, event files and progress line of a run.

  Attributes:
    window: statistics of the last episodes, which the checkpoint holds.
    notices: says once what cannot be written.
  """

  def __init__(
      self,
      root: pathlib.Path,
      metrics: Sequence[metrics_lib.Metric],
      summary_interval: int,
      progress: progress_lib.Progress,
  ):
    """Opens nothing yet.

    Args:
      root: the run's folder.
      metrics: rows of the registry, with those of the bonus.
      summary_interval: iterations between summaries for TensorBoard.
      progress: where the course of the run is shown.
    """
    self._root = root
    self._metric_rows = metrics
    self._summary_interval = summary_interval
    self._progress = progress
    self.notices = notices_lib.Notices(progress.note)
    self.window = episodes_lib.EpisodeWindow()
    self._visits = episodes_lib.PlaceVisits()
    self._metrics = None
    self._places = None
    self._summaries = None

  def check(self, iteration: int) -> None:
    """Checks the tables before anything is changed.

    Args:
      iteration: the one that the run is restored to, 0 for none.

    Raises:
      ValueError: a file has other columns, or a line that is no row of it.
      OSError: a file cannot be read.
    """
    tables.check_tables(self._root, iteration, self._metric_rows)

  def open(self, iteration: int, env_steps: int) -> None:
    """Opens the tables, and cuts off all that came after a checkpoint.

    Args:
      iteration: the one that the run is restored to, 0 for none.
      env_steps: agent steps so far.

    Raises:
      ValueError: as `check`.
      OSError: a file cannot be opened.
    """
    # Also of a run that ended before its first checkpoint.
    for name in ('train', 'eval'):
      event_files.cut(self._root / name, env_steps)
    self._metrics = tables.MetricsFile(
        self._root / 'metrics.csv', self._metric_rows, iteration
    )
    self._places = tables.PlacesFile(
        self._root / 'places.csv', last_iteration=iteration
    )
    if self._metrics.left_out:
      self._progress.note(
          'metrics.csv is of an older version: it goes on without '
          f'{", ".join(self._metrics.left_out)}, which TensorBoard has'
      )

  def open_summaries(self, env_steps: int) -> None:
    """Opens TensorBoard's event files, with the config as gin has it now."""
    self._summaries = summaries.Summaries(
        self._root, env_steps, self._metric_rows
    )

  # ------------------------------------------------------------- episodes

  def add_places(self, places: np.ndarray) -> None:
    """Counts where environments are after a step.

    Args:
      places: int64 `[n]`, -1 where it is unknown.
    """
    found, steps = np.unique(places[places >= 0], return_counts=True)
    self.window.add_places(found)
    for place, count in zip(found.tolist(), steps.tolist()):
      self._visits.count_steps(place, count)

  def forget_places(self) -> None:
    """Forgets the places of an iteration that is collected once more."""
    self._visits.reset()

  def visits(self) -> dict[int, int]:
    """Steps of this iteration by the place where they ended."""
    return self._visits.steps

  def add_visits(self, visits: Mapping[int, int]) -> None:
    """Counts steps of this iteration that environments elsewhere took."""
    self.window.add_places(visits)
    for place, steps in visits.items():
      self._visits.count_steps(place, steps)

  def add_episodes(self, episodes) -> None:
    """Counts finished episodes, as the environments tell of them."""
    for episode in episodes:
      self.window.add(
          episode.episode_return, episode.length, episode.places or None,
          episode.furthest_x,
      )
      self._visits.count_episode(episode.places)

  # --------------------------------------------------------------- writing

  def iteration(
      self, row: Mapping[str, Any], laps: Mapping[str, float], learned
  ) -> None:
    """Records an iteration.

    Args:
      row: its numbers by name.
      laps: seconds of each stage.
      learned: the agent's `Iteration`.
    """
    iteration, env_steps = row['iteration'], row['env_steps']
    visits = self._visits.end_iteration(iteration, env_steps)
    for name, file, rows in (
        ('metrics.csv', self._metrics, [row]),
        ('places.csv', self._places, visits),
    ):
      try:
        file.write(*rows)
        self.notices.settle(name)
      except OSError as error:
        self.notices.say_once(
            name, f'{name} could not be written ({error.strerror}): going on, '
            'it is tried again'
        )
    if iteration % self._summary_interval == 0:
      self._to_tensorboard(
          lambda folder: folder.iteration(env_steps, row, laps, learned)
      )
    self._progress.update(row, self._metric_rows)

  def evaluation(self, env_steps: int, result) -> None:
    """Records an `EvaluationResult`."""
    self._to_tensorboard(lambda folder: folder.evaluation(env_steps, result))

  def film(self, env_steps: int, film) -> None:
    """Records a `Film`."""
    self._to_tensorboard(lambda folder: folder.film(env_steps, film))

  def _to_tensorboard(
      self, write: Callable[[summaries.Summaries], None]
  ) -> None:
    """Writes summaries; after an error none until the next checkpoint.

    What follows a record that was not written whole is not read: there has to
    be another file.
    """
    if self._summaries is None:
      return
    with self.notices.optional(_TENSORBOARD):
      folder, self._summaries = self._summaries, None
      write(folder)
      self._summaries = folder

  # ---------------------------------------------------------------- saving

  def sync(self) -> None:
    """Puts all that was written on the disk; call it before a checkpoint.

    Raises:
      OSError: the tables cannot be written.
    """
    self._to_tensorboard(lambda folder: folder.flush())
    self._metrics.sync()
    self._places.sync()

  def begin_event_files_again(self, env_steps: int) -> None:
    """Opens new event files, if those of before could not be written."""
    if self._summaries is None:
      with self.notices.optional(_TENSORBOARD, settles=False):
        self.open_summaries(env_steps)

  def close(self) -> None:
    """Puts all on the disk and closes the files."""
    with contextlib.ExitStack() as stack:
      for table in (self._metrics, self._places):
        if table is not None:
          stack.callback(table.close)
      self._to_tensorboard(lambda folder: folder.close())


class SilentRecording(Recording):
  """Counts as `Recording` does, and writes nothing: another worker does."""

  def check(self, iteration: int) -> None:
    """Nothing is there to check."""

  def open(self, iteration: int, env_steps: int) -> None:
    """Nothing is opened."""

  def open_summaries(self, env_steps: int) -> None:
    """Nothing is opened."""

  def iteration(
      self, row: Mapping[str, Any], laps: Mapping[str, float], learned
  ) -> None:
    """Forgets the places of an iteration that another worker records."""
    self._visits.reset()

  def sync(self) -> None:
    """Nothing was written."""

  def begin_event_files_again(self, env_steps: int) -> None:
    """Nothing was written."""
