"""The loop: collect, reward, update statistics, make targets, learn, record."""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
import re
import signal
import time
from typing import Any, Callable, Iterator, Optional

import gin
import numpy as np
import tensorflow as tf

from rnd_agent import rnd_ppo_agent
from rnd_agent.common import plain_text
from rnd_agent.common import wording
from rnd_agent.environments import errors
from rnd_agent.runs import checkpoints
from rnd_agent.runs import event_files
from rnd_agent.runs import recorder
from rnd_agent.training import collector as collector_lib
from rnd_agent.training import evaluation
from rnd_agent.training import export
from rnd_agent.training import filming as video
from rnd_agent.training import random_agent as warm_up
from rnd_agent.training import recovery
from rnd_agent.training import resume
from rnd_agent.training import summaries


class TrainingDivergedError(FloatingPointError):
  """Training produced a NaN or an infinity; the last checkpoint is good."""


class Trainer:
  """Trains an agent on parallel environments, in one folder."""

  def __init__(
      self,
      root_dir: str,
      agent: rnd_ppo_agent.RNDPPOAgent,
      environment,
      evaluator: Optional[evaluation.Evaluator] = None,
      recorder_of_episodes: Optional[video.EpisodeRecorder] = None,
      *,
      rollout_length: int,
      num_iterations: int,
      random_rollouts: int,
      eval_interval: int,
      checkpoint_interval: int,
      checkpoints_to_keep: int,
      summary_interval: int,
      seed: int,
      target_return: Optional[float] = None,
      allow_config_change: bool = False,
      initial_weights: Optional[str] = None,
      frames_per_step: int = 1,
      video_interval: Optional[int] = None,
      progress: Optional[recorder.Progress] = None,
  ):
    """Prepares everything; nothing is stepped, read or written yet.

    Args:
      root_dir: the run's folder, which exists.
      agent: what learns.
      environment: batched `PyEnvironment` of B environments; closed by `run`.
      evaluator: plays evaluation episodes; None for none.
      recorder_of_episodes: films episodes; None for none.
      rollout_length: T, agent steps of each environment in an iteration.
      num_iterations: rollouts of each environment; 0 for an endless run.
      random_rollouts: rollouts of a random agent that start the statistics.
      eval_interval: iterations between evaluations; 0 for none.
      checkpoint_interval: iterations between checkpoints.
      checkpoints_to_keep: how many of the last checkpoints stay.
      summary_interval: iterations between summaries for TensorBoard.
      seed: of the random agent.
      target_return: mean score of the last 100 episodes at which to stop.
      allow_config_change: whether to resume a run with parameters that make it
        another one.
      initial_weights: folder or checkpoint of another run, whose networks and
        statistics a new run starts from; None for none.
      frames_per_step: frames of the game per agent step.
      video_interval: iterations between films of an episode; 0 for none, None
        for one at every evaluation.
      progress: where to show it; standard output by default.
    """
    self._root = pathlib.Path(root_dir)
    self._agent = agent
    self._environment = environment
    self._evaluator = evaluator
    self._film = recorder_of_episodes
    self._rollout_length = rollout_length
    self._num_iterations = num_iterations
    self._random_rollouts = random_rollouts
    self._eval_interval = eval_interval
    self._checkpoint_interval = checkpoint_interval
    self._summary_interval = summary_interval
    self._seed = seed
    self._target_return = target_return
    self._allow_config_change = allow_config_change
    self._initial_weights = initial_weights
    self._frames_per_step = frames_per_step
    self._video_interval = (
        eval_interval if video_interval is None else video_interval
    )
    self._progress = progress or recorder.Progress(num_iterations)
    self._collector = collector_lib.Collector(
        environment, agent.collect_policy, rollout_length,
        compact=agent.rnd_config.bonus_at_end == 'reset',
        stop=lambda: self._stop_requested,
        on_step=self._watch_places,
        lanes=agent.lanes,
        sequence_length=agent.sequence_length,
    )
    self._visits = recorder.PlaceVisits()
    self._safe = recovery.SafeCollector(
        self._collector, environment, agent.generator, self._progress.note,
        on_retry=self._visits.forget,
    )
    self._iteration = 0
    self._env_steps = 0
    self._wall_time = 0.0
    self._window = recorder.EpisodeWindow()
    self._last_row = None
    self._summaries = None
    self._num_groups = len(getattr(environment, 'groups', (None,)))
    self._groups_before = None
    self._in_iteration = False  # After its rollout, before it counts.
    self._said = {}  # What is wrong for the time being.
    self._stop_requested = False
    self._saved_iteration = -1
    if agent.bonus is not None:
      agent.bonus.build(environment.batch_size)
    self._checkpoints = checkpoints.Checkpoints(
        str(self._root),
        dict(
            agent.checkpoint_items(),
            progress=checkpoints.JsonState(self._get_state, self._set_state),
            environments=checkpoints.BytesState(
                self._safe.get_state, self._keep_environment_state
            ),
            core_states=self._collector.state_variables,
        ),
        checkpoints_to_keep,
    )
    self._environment_state = b''

  # ------------------------------------------------------------------ run

  def run(self) -> None:
    """Starts or resumes the run and trains to its end.

    SIGINT, SIGTERM and SIGHUP save and return; a second one, unless it is
    SIGHUP, ends the process at once.

    Raises:
      CheckpointError: there is a run that cannot be resumed.
      EnvironmentWorkerError: an environment failed; everything is saved.
      TrainingDivergedError: a NaN; the last checkpoint is good.
    """
    previous = self._handle_signals()
    try:
      self._start()
      try:
        self._train()
        self._progress.conclude(
            self._root, self._last_row, self._stop_requested,
            films=self._film is not None,
        )
      except BaseException:
        with contextlib.suppress(OSError):  # The error itself tells more.
          self._close_files()
        raise
      self._close_files()
    finally:
      self._environment.close()
      self._progress.close()
      for number, handler in previous.items():
        signal.signal(number, handler)

  def _handle_signals(self) -> dict:
    def stop(number, frame):
      del frame
      if self._stop_requested:
        if number == signal.SIGHUP:
          return  # A shell and the kernel both tell of a terminal's end.
        os._exit(128 + number)
      self._stop_requested = True
      # Not through the progress display: it may be in the middle of a write.
      _tell((
          f'\n{signal.Signals(number).name}: saving and stopping '
          '(once more: stop at once)\n'
      ).encode())

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # As nohup sets it.
      numbers.append(signal.SIGHUP)
    return {n: signal.signal(n, stop) for n in numbers}

  def _start(self) -> None:
    """Restores what there is to go on from, and opens the run's files."""
    resume.compare_config(
        self._root, gin.operative_config_str(), self._allow_config_change,
        self._progress.note,
    )
    origin = self._restore()
    try:
      recorder.check_tables(self._root, self._iteration)
      # From here on something is changed.
      self._checkpoints.set_damaged_aside()
      # Also of a run that ended before its first checkpoint.
      for name in ('train', 'eval'):
        event_files.cut(self._root / name, self._env_steps)
      self._metrics = recorder.MetricsFile(
          self._root / 'metrics.csv', last_iteration=self._iteration
      )
      self._places = recorder.PlacesFile(
          self._root / 'places.csv', last_iteration=self._iteration
      )
      run = recorder.write_run_json(
          self._root, self._seed, self._iteration,
          dict(env_steps=self._env_steps, **origin),
      )
    except ValueError as error:
      raise checkpoints.CheckpointError(str(error)) from error
    if self._metrics.left_out:
      self._progress.note(
          'metrics.csv is of an older version: it goes on without '
          f'{", ".join(self._metrics.left_out)}, which TensorBoard has'
      )
    if self._iteration:
      resume.compare_machine(run['starts'], self._progress.note)
    path = self._root / 'operative_config.gin'
    with checkpoints.replacing(str(path)) as file:
      file.write(gin.operative_config_str())
    self._summaries = summaries.Summaries(self._root, self._env_steps)

  def _restore(self) -> dict[str, str]:
    """The newest checkpoint, if any, otherwise the initial weights, if any.

    Returns:
      What run.json is to say of it.
    """
    if self._restore_checkpoint():
      self._saved_iteration = self._iteration
      self._progress.note(
          f'resuming {self._root} at iteration {self._iteration + 1}'
      )
      resume.compare_groups(
          self._groups_before, self._num_groups, self._progress.note
      )
      self._restore_environments()
      if self._initial_weights:
        self._progress.note(
            f'initial_weights = {self._initial_weights!r} is left out: the run '
            'goes on from its own checkpoint'
        )
      return {}
    if not self._initial_weights:
      return {}
    path = checkpoints.find(self._initial_weights)
    checkpoints.load_weights(path, self._agent.weight_items())
    self._progress.note(f'starting from the weights and statistics of {path}')
    return dict(initial_weights=path)

  def _restore_checkpoint(self) -> bool:
    """Whether there is one; the learning rate stays the configuration's."""
    rate = self._agent.learning_rate  # In the checkpoint, with the optimizer.
    configured = None if rate is None else rate.numpy()
    resumed = self._checkpoints.restore(self._progress.note)
    if rate is not None:
      rate.assign(configured)
    return resumed

  def _restore_environments(self) -> None:
    data, self._environment_state = self._environment_state, b''
    try:
      self._safe.set_state(data)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
      if not self._allow_config_change:
        raise checkpoints.CheckpointError(
            f'{self._checkpoints.latest}: {error}: restore the configuration '
            'or choose another --root_dir'
        ) from error
      self._progress.note(f'{error}: the environments begin new episodes')

  def _train(self) -> None:
    first = self._iteration
    try:
      if self._iteration == 0 and not self._gather_statistics():
        return
      self._catch_up()
      while not self._finished():
        self.iterate()
        if self._due(self._checkpoint_interval):
          self._save()
        self._show_off()
    except collector_lib.CollectionStopped:
      pass
    except TrainingDivergedError:
      raise
    except Exception:
      self._save_after_an_error()
      raise
    self._save(last=True)
    if self._iteration > first:
      with self._beside_training('export of policy/'):
        export.export_policies(self._root / 'policy', self._agent)
      if not self._stop_requested and not self._due(self._eval_interval):
        self._evaluate()
      if not self._stop_requested and not self._due(self._video_interval):
        self._record_episode()

  def _show_off(self) -> None:
    """What an iteration is shown by, where one is due."""
    if self._due(self._eval_interval):
      self._evaluate()
    if self._due(self._video_interval):
      self._record_episode()

  def _catch_up(self) -> None:
    """An evaluation that was due when the run ended, after its checkpoint."""
    if self._iteration and not event_files.holds(
        self._root / 'eval', self._env_steps
    ):
      self._show_off()

  def _save_after_an_error(self) -> None:
    """Saves what was trained since the last checkpoint, as well as it can."""
    if self._in_iteration and self._iteration not in (0, self._saved_iteration):
      self._progress.note(
          f'the error came in the middle of iteration {self._iteration + 1}: '
          'its rollout is left out, the saved run goes on with another'
      )
    self._save()

  def _finished(self) -> bool:
    if self._stop_requested:
      return True
    if self._target_return is not None:
      mean = self._window.statistics()['episode_return_mean']
      if self._window.is_full and mean >= self._target_return:
        self._progress.note(
            f'mean return {wording.number(mean)} has reached target_return = '
            f'{wording.number(self._target_return)}'
        )
        return True
    return 0 < self._num_iterations <= self._iteration

  def _due(self, interval: int) -> bool:
    return interval > 0 and self._iteration % interval == 0

  # ----------------------------------------------------------- statistics

  def _gather_statistics(self) -> bool:
    """Observation statistics of a uniformly random agent (section 2.4).

    Initial weights bring theirs along.

    Returns:
      Whether it went through; False when it was asked to stop.
    """
    bonus = self._agent.bonus
    needed = bonus is not None and bonus.needs_random_agent
    if not needed or self._initial_weights or not self._random_rollouts:
      return True
    try:
      warm_up.gather_statistics(
          bonus, self._environment, self._random_rollouts,
          self._rollout_length, self._seed,
          survive=self._safe.survive,
          stop=lambda: self._stop_requested,
          show=lambda rollouts: self._progress.bar(
              'statistics', rollouts, self._random_rollouts
          ),
      )
    except collector_lib.CollectionStopped:
      self._progress.note('stopped before the first iteration: nothing to save')
      return False
    self._environment_episodes()  # The random agent's do not count.
    return True

  # ------------------------------------------------------------ iteration

  def iterate(self) -> None:
    """One iteration: collect, reward, statistics, targets, learn, record."""
    clock = _Clock()
    rollout = self._safe.collect()
    self._in_iteration = True
    clock.lap('collect')
    bonuses, rewards_int, targets, loss_info = self._agent.learn_from(
        rollout, clock.lap
    )
    self._check_finite(bonuses, loss_info)
    row = self._count(rollout, rewards_int, targets, loss_info, clock)
    self._in_iteration = False
    self._record(row, rewards_int, targets, loss_info, clock)

  def _check_finite(self, bonuses, loss_info) -> None:
    """Raises TrainingDivergedError for NaN or infinity."""
    values = dict(bonus=tf.reduce_sum(bonuses), **loss_info.extra._asdict())
    bad = [
        k for k, v in values.items() if not np.isfinite(v.numpy()).all()
    ]
    if not bad and not loss_info.extra.nonfinite_updates.numpy():
      return
    names = [
        variable.name for variable, count in zip(
            self._agent.trained_variables,
            loss_info.extra.nonfinite_gradients.numpy(),
        ) if count
    ]
    if names:
      bad = [name for name in bad if name != 'gradient_norm']
      more = f' and {len(names) - 4} more' if len(names) > 4 else ''
      bad.append(f'the gradients of {", ".join(names[:4])}{more}')
    latest = self._checkpoints.latest
    mend = 'there is no checkpoint yet: begin again'
    if latest:
      mend = f'the last checkpoint ({latest}) is intact: resume from it'
    raise TrainingDivergedError(
        f'iteration {self._iteration + 1} gave NaN or infinity in '
        f'{", ".join(bad)}; the updates concerned were not '
        f'applied; {mend} with a lower PPOConfig.learning_rate or with '
        'PPOConfig.gradient_clipping = 0.5'
    )

  def _count(
      self, rollout, rewards_int, targets, loss_info, clock
  ) -> dict[str, Any]:
    """Ends the iteration; returns its row of metrics.csv."""
    figures = summaries.training_figures(
        rollout, rewards_int, targets, loss_info,
        with_bonus=self._agent.bonus is not None,
    )
    steps = int(tf.reduce_sum(rollout.mask).numpy())
    seconds = clock.total
    self._iteration += 1
    self._env_steps += steps
    self._wall_time += seconds
    for episode in self._environment_episodes():
      self._window.add(
          episode.episode_return, episode.length, episode.places or None,
          episode.furthest_x,
      )
      self._visits.finish(episode.places)
    self._last_row = dict(
        iteration=self._iteration,
        env_steps=self._env_steps,
        frames=self._env_steps * self._frames_per_step,
        wall_time_s=self._wall_time,
        steps_per_second=steps / seconds,
        environment_restarts=self._safe.restarts,
        episodes_cut=self._safe.episodes_cut,
        **self._window.statistics(),
        **figures,
    )
    return self._last_row

  def _record(self, row, rewards_int, targets, loss_info, clock) -> None:
    """metrics.csv, places.csv, TensorBoard, progress line."""
    visits = self._visits.take(self._iteration, self._env_steps)
    for name, file, rows in (
        ('metrics.csv', self._metrics, [row]),
        ('places.csv', self._places, visits),
    ):
      try:
        file.write(*rows)
        self._said.pop(name, None)
      except OSError as error:
        self._say_once(
            name, f'{name} could not be written ({error.strerror}): going on, '
            'it is tried again'
        )
    if self._iteration % self._summary_interval == 0:
      self._to_tensorboard(lambda folder: folder.iteration(
          self._env_steps, row, clock.laps, targets, rewards_int, loss_info,
          self._agent,
      ))
    self._progress.update(
        self._iteration, row['steps_per_second'], row['episode_return_mean'],
        row['rooms_discovered'], row.get('intrinsic_reward_mean'),
        row['furthest_x_max'],
    )

  def _to_tensorboard(
      self, write: Callable[[summaries.Summaries], None]
  ) -> None:
    """Writes summaries; after an error none until the next checkpoint.

    What follows a record that was not written whole is not read: there has to
    be another file.
    """
    if self._summaries is None:
      return
    with self._beside_training('TensorBoard'):
      folder, self._summaries = self._summaries, None
      write(folder)
      self._summaries = folder

  @contextlib.contextmanager
  def _beside_training(self, what: str, is_it: bool = True) -> Iterator[None]:
    """Training goes on where something that is not training fails.

    Args:
      what: the thing.
      is_it: whether it works again when this has, so that it is told of once
        more when it fails then.
    """
    try:
      yield
      if is_it:
        self._said.pop(what, None)
    except Exception as error:  # noqa: BLE001, environments raise anything.
      self._say_once(what, f'{what} left out: {_cause(error)}')

  def _say_once(self, what: str, text: str) -> None:
    """Notes what is wrong, once until it is right or wrong otherwise."""
    kind = re.sub(r'\(process \d+', '', text)  # It is another one each time.
    if self._said.get(what) != kind:
      self._said[what] = kind
      self._progress.note(text)

  def _environment_episodes(self):
    episodes = getattr(self._environment, 'episodes', None)
    return episodes() if episodes is not None else ()

  def _watch_places(self, group: slice) -> None:
    places = getattr(self._environment, 'places', None)
    if places is not None:
      places = places[group]
      found, steps = np.unique(places[places >= 0], return_counts=True)
      self._window.discover(found)
      for place, count in zip(found.tolist(), steps.tolist()):
        self._visits.see(place, count)

  def _evaluate(self) -> None:
    """Plays evaluation episodes and records their mean."""
    if self._evaluator is None or not self._eval_interval:
      return
    result = None
    with self._beside_training('evaluation'):
      result = self._evaluator.run(
          stop=lambda: self._stop_requested, number=self._iteration
      )
    if result is None:
      return
    self._to_tensorboard(
        lambda folder: folder.evaluation(self._env_steps, result)
    )
    self._progress.note(
        f'evaluation at iteration {self._iteration}: '
        f'return {wording.number(result.returns.mean())} '
        f'(max {wording.number(result.returns.max())}) in '
        f'{len(result.returns)} episodes of {result.lengths.mean():.0f} steps'
    )

  def _record_episode(self) -> None:
    """Films an evaluation episode, for `videos/` and for TensorBoard."""
    if self._film is None or not self._video_interval:
      return
    film = None
    with self._beside_training('film'):
      try:
        film = self._make_film()
      except video.CannotFilmError as error:
        self._progress.note(f'no films of this environment: {error}')
        self._film = None
    if film is not None:
      self._to_tensorboard(lambda folder: folder.film(self._env_steps, film))

  def _make_film(self) -> Optional[video.Film]:
    folder = self._root / 'videos'
    folder.mkdir(exist_ok=True)
    return self._film.record(
        folder / f'iteration-{self._iteration}.mp4',
        stop=lambda: self._stop_requested,
    )

  # ------------------------------------------------------------ files

  def _keep_environment_state(self, data: bytes) -> None:
    self._environment_state = data

  def _get_state(self) -> dict[str, Any]:
    return dict(
        iteration=self._iteration,
        env_steps=self._env_steps,
        wall_time_s=self._wall_time,
        environment_restarts=self._safe.restarts,
        episodes_cut=self._safe.episodes_cut,
        environment_groups=self._num_groups,
        episodes=self._window.get_state(),
    )

  def _set_state(self, state: dict[str, Any]) -> None:
    state = {'episodes_cut': 0, 'environment_groups': 0, **state}  # Later ones.
    for name in (
        'iteration', 'env_steps', 'environment_restarts', 'episodes_cut',
        'environment_groups',
    ):
      if type(state[name]) is not int or not 0 <= state[name] < 2**63:
        raise ValueError(f'its {name} is no number')
    if not 0 <= float(state['wall_time_s']) < math.inf:
      raise ValueError('its wall_time_s is no time')
    self._iteration = state['iteration']
    self._env_steps = state['env_steps']
    self._wall_time = state['wall_time_s']
    self._safe.restarts = state['environment_restarts']
    self._safe.episodes_cut = state['episodes_cut']
    self._window.set_state(state['episodes'])
    self._groups_before = state['environment_groups'] or None

  def _save(self, last: bool = False) -> None:
    """Saves a checkpoint of the last whole iteration, once.

    Args:
      last: whether the run ends here; otherwise it goes on where the disk is
        full, say, and tries again the next time.

    Raises:
      SavingFailedError: the last one could not be saved.
    """
    if self._iteration in (0, self._saved_iteration):
      return
    self._collector.store_states()
    self._to_tensorboard(lambda folder: folder.flush())
    try:
      self._metrics.sync()
      self._places.sync()
      self._checkpoints.save(self._iteration)
    except (OSError, tf.errors.OpError) as error:
      latest = self._checkpoints.latest
      if last:
        raise checkpoints.SavingFailedError(
            f'{error}: the newest is {latest}; make room, then the same '
            'command continues from there'
        ) from error
      self._progress.note(f'{error}: going on, the newest is {latest}')
      return
    self._saved_iteration = self._iteration
    if self._summaries is None:
      with self._beside_training('TensorBoard', is_it=False):
        self._summaries = summaries.Summaries(self._root, self._env_steps)

  def _close_files(self) -> None:
    with contextlib.ExitStack() as stack:
      stack.callback(self._metrics.close)
      stack.callback(self._places.close)
      self._to_tensorboard(lambda folder: folder.close())


def _tell(line: bytes) -> None:
  """Writes to standard output, or error where that has gone."""
  for file in (1, 2):
    with contextlib.suppress(OSError):  # There is nowhere else to say it.
      os.write(file, line)
      return


def _cause(error: Exception) -> str:
  """One line; of what an environment raises the kind as well."""
  if isinstance(error, errors.EnvironmentWorkerError):
    return str(error).partition('\n')[0]
  return f'{type(error).__name__}: {plain_text.cause(error)}'


class _Clock:
  """Seconds of an iteration's stages."""

  def __init__(self):
    self.laps = {}
    self._start = self._last = time.monotonic()

  def lap(self, stage: str) -> None:
    now = time.monotonic()
    self.laps[stage] = now - self._last
    self._last = now

  @property
  def total(self) -> float:
    return self._last - self._start
