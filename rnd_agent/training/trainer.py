"""The loop: collect, reward, update statistics, make targets, learn, record."""

from __future__ import annotations

import contextlib
import pathlib
import time
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from rnd_agent import config as config_lib
from rnd_agent import rnd_ppo_agent
from rnd_agent.common import wording
from rnd_agent.environments.vector import sharded
from rnd_agent.learning import replicas
from rnd_agent.runs import metrics as metrics_lib
from rnd_agent.runs import progress as progress_lib
from rnd_agent.training import cluster
from rnd_agent.training import collector as collector_lib
from rnd_agent.training import evaluation
from rnd_agent.training import export
from rnd_agent.training import filming
from rnd_agent.training import random_agent
from rnd_agent.training import recording as recording_lib
from rnd_agent.training import recovery
from rnd_agent.training import session as session_lib
from rnd_agent.training import showing as showing_lib
from rnd_agent.training import stop_request
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
      config: config_lib.TrainConfig,
      *,
      evaluator: Optional[evaluation.Evaluator] = None,
      episode_recorder: Optional[filming.EpisodeRecorder] = None,
      frames_per_step: int = 1,
      allow_config_change: bool = False,
      progress: Optional[progress_lib.Progress] = None,
  ):
    """Prepares everything; nothing is stepped, read or written yet.

    Args:
      root_dir: the run's folder, which exists.
      agent: what learns.
      environment: batched `PyEnvironment` of B environments; closed by `run`.
      config: lengths and intervals of the run, and its seed.
      evaluator: plays evaluation episodes; None for none.
      episode_recorder: films episodes; None for none.
      frames_per_step: frames of the game per agent step.
      allow_config_change: whether to resume a run with parameters that make it
        another one.
      progress: where to show it; standard output by default.
    """
    root = pathlib.Path(root_dir)
    self._root = root
    self._agent = agent
    self._environment = environment
    self._config = config
    self._frames_per_step = frames_per_step
    self._progress = progress or progress_lib.Progress(config.num_iterations)
    self._stop = stop_request.StopRequest()
    bonus = agent.bonus
    if bonus is not None:
      bonus.build(replicas.environments_of_all(environment.batch_size))
    self._workers = replicas.workers()
    self._is_chief = replicas.is_chief()
    self._all_stop = False  # Whether one of several workers was asked to.
    recording = recording_lib.Recording if self._is_chief else (
        recording_lib.SilentRecording
    )
    self._recording = recording(
        root, metrics_lib.rows_with(bonus, replicas.number()),
        config.summary_interval, self._progress,
    )
    self._collector = recovery.SafeCollector(
        collector_lib.Collector(
            environment, agent.collect_policy, config.rollout_length,
            compact=agent.rnd_config.bonus_at_end == 'reset',
            # Several workers stop together, between iterations.
            stop=self._stop if self._workers is None else lambda: False,
            on_step=self._watch_places,
            lanes=agent.lanes,
            sequence_length=agent.sequence_length,
        ),
        environment, agent.generator, self._progress.note,
        on_retry=self._recording.forget_places,
    )
    self._session = session_lib.Session(
        root, agent, self._collector, self._recording, config,
        allow_config_change,
        self._progress.note if self._is_chief else lambda text: None,
    )
    self._showing = showing_lib.Showing(
        root, self._recording, evaluator, episode_recorder,
        config.eval_interval, config.video_interval, self._stop,
        self._progress.note,
    )
    self._last_row = None
    self._in_iteration = False  # After its rollout, before it counts.

  def run(self) -> None:
    """Starts or resumes the run and trains to its end.

    SIGINT, SIGTERM and SIGHUP save and return; a second one, unless it is
    SIGHUP, ends the process at once.

    Raises:
      CheckpointError: there is a run that cannot be resumed.
      EnvironmentWorkerError: an environment failed; everything is saved, of
        several workers up to the last checkpoint.
      TrainingDivergedError: a NaN; the last checkpoint is good.
      WorkerLostError: another worker has ended; the last checkpoint is good.
    """
    with self._stop.listening(), cluster.together(self._workers):
      try:
        self._session.start()
        try:
          self._train()
          if self._is_chief:
            self._progress.conclude(
                self._root, self._last_row,
                self._stop.requested or self._all_stop,
                films=self._showing.films,
            )
        except BaseException:
          with contextlib.suppress(OSError):  # The error itself tells more.
            self._recording.close()
          raise
        self._recording.close()
      finally:
        self._environment.close()
        self._progress.close()

  def _train(self) -> None:
    """The iterations of this session, and what is left behind at its end."""
    counters = self._session.counters
    first = counters.iteration
    try:
      if first == 0 and not self._gather_statistics():
        return
      self._showing.catch_up(counters.iteration, counters.env_steps)
      while not self._is_finished():
        self.iterate()
        if counters.iteration % self._config.checkpoint_interval == 0:
          self._session.save()
        self._showing.show_if_due(counters.iteration, counters.env_steps)
    except collector_lib.CollectionStopped:
      pass
    except TrainingDivergedError:
      raise
    except Exception:
      self._session.save_after_error(self._in_iteration)
      raise
    self._session.save(last=True)
    if self._workers is not None:
      self._workers.leave()
    if counters.iteration > first and self._is_chief:
      with self._recording.notices.optional('export of policy/'):
        export.export_policies(self._root / 'policy', self._agent)
      self._showing.show_last(counters.iteration, counters.env_steps)

  def _is_finished(self) -> bool:
    if self._all_stop or self._workers is None and self._stop.requested:
      return True
    window, target = self._recording.window, self._config.target_return
    if target is not None and window.is_full:
      mean = window.statistics()['episode_return_mean']
      if mean >= target:
        self._progress.note(
            f'mean return {wording.number(mean)} has reached target_return = '
            f'{wording.number(target)}'
        )
        return True
    return 0 < self._config.num_iterations <= self._session.counters.iteration

  def _gather_statistics(self) -> bool:
    """Observation statistics of a uniformly random agent (section 2.4).

    Initial weights bring theirs along.

    Returns:
      Whether it went through; False when it was asked to stop.
    """
    bonus, num_rollouts = self._agent.bonus, self._config.random_rollouts
    needed = bonus is not None and bonus.needs_random_agent
    if not needed or self._config.initial_weights or not num_rollouts:
      return True
    try:
      random_agent.gather_statistics(
          bonus, self._environment, num_rollouts, self._config.rollout_length,
          cluster.own_seed(self._config.seed),
          survive=self._collector.survive,
          stop=self._stop if self._workers is None else lambda: False,
          show=lambda rollouts: self._progress.bar(
              'statistics', rollouts, num_rollouts
          ),
      )
    except collector_lib.CollectionStopped:
      self._progress.note('stopped before the first iteration: nothing to save')
      return False
    self._finished_episodes()  # The random agent's do not count.
    return True

  # ------------------------------------------------------------ iteration

  def iterate(self) -> None:
    """One iteration: collect, reward, statistics, targets, learn, record."""
    clock = _Clock()
    rollout = self._collector.collect()
    self._in_iteration = True
    clock.lap('collect')
    scheduled = self._agent.follow_schedules(self._session.counters.env_steps)
    learned = self._agent.learn_from(rollout, clock.lap)
    rollout, learned = cluster.whole(rollout, learned)
    self._check_finite(learned)
    row = self._count(rollout, learned, clock, scheduled)
    self._in_iteration = False
    self._recording.iteration(row, clock.laps, learned)

  def _check_finite(self, learned) -> None:
    """Raises TrainingDivergedError for NaN or infinity."""
    extra = learned.loss_info.extra
    bonus = tf.reduce_sum(learned.raw_rewards_int)
    values = dict(bonus=bonus, **extra._asdict())
    bad = [
        k for k, v in values.items() if not np.isfinite(v.numpy()).all()
    ]
    if not bad and not extra.nonfinite_updates.numpy():
      return
    names = [
        variable.name for variable, count in zip(
            self._agent.trained_variables,
            extra.nonfinite_gradients.numpy(),
        ) if count
    ]
    if names:
      bad = [name for name in bad if name != 'gradient_norm']
      more = f' and {len(names) - 4} more' if len(names) > 4 else ''
      bad.append(f'the gradients of {", ".join(names[:4])}{more}')
    latest = self._session.latest_checkpoint
    mend = 'there is no checkpoint yet: begin again'
    if latest:
      mend = f'the last checkpoint ({latest}) is intact: resume from it'
    raise TrainingDivergedError(
        f'iteration {self._session.counters.iteration + 1} gave NaN or '
        f'infinity in {", ".join(bad)}; the updates concerned were not '
        f'applied; {mend} with a lower PPOConfig.learning_rate or with '
        'PPOConfig.gradient_clipping = 0.5'
    )

  def _count(self, rollout, learned, clock, scheduled) -> dict[str, Any]:
    """Ends the iteration; returns its numbers by name."""
    steps = int(tf.reduce_sum(learned.targets.mask).numpy())
    counters = self._session.counters
    counters.iteration += 1
    counters.env_steps += steps
    counters.wall_time_s += clock.total
    speeds = self._tell_others(clock.laps['collect'])
    self._last_row = dict(
        iteration=counters.iteration,
        env_steps=counters.env_steps,
        frames=counters.env_steps * self._frames_per_step,
        wall_time_s=counters.wall_time_s,
        steps_per_second=steps / clock.total,
        steps_per_second_per_worker=(
            steps / clock.total / len(speeds) if speeds else None
        ),
        **speeds,
        environment_restarts=self._collector.restarts,
        episodes_cut=self._collector.episodes_cut,
        **self._recording.window.statistics(),
        **summaries.training_figures(rollout, learned, self._agent.bonus),
        **scheduled,
    )
    return self._last_row

  def _tell_others(self, collect_s: float) -> dict[str, float]:
    """Counts what happened in the environments of all workers.

    Args:
      collect_s: seconds that this worker collected for.

    Returns:
      How fast each of several workers collects, by the metric's name.
    """
    collector, recording = self._collector, self._recording
    told = cluster.exchanged(self._workers, dict(
        episodes=[list(episode) for episode in self._finished_episodes()],
        visits=list(recording.visits().items()),
        restarts=collector.restarts, episodes_cut=collector.episodes_cut,
        stop=self._stop.requested,
        speed=self._config.rollout_length * self._environment.batch_size
        / collect_s,
    ))
    for number, news in enumerate(told):
      if self._workers is not None and number != self._workers.index:
        recording.add_visits(dict(news['visits']))
      recording.add_episodes(
          sharded.Episode(*episode) for episode in news['episodes']
      )
    # The first counts for all of them.
    for name in ('restarts', 'episodes_cut'):
      count = sum(news[name] for news in told) if self._is_chief else 0
      setattr(collector, name, count)
    self._all_stop = self._workers is not None and any(
        news['stop'] for news in told
    )
    return {} if self._workers is None else {
        metrics_lib.collect_speed(number): news['speed']
        for number, news in enumerate(told)
    }

  def _finished_episodes(self):
    """Episodes that ended since the last call, of environments that tell."""
    episodes = getattr(self._environment, 'episodes', None)
    return episodes() if episodes is not None else ()

  def _watch_places(self, group: slice) -> None:
    places = getattr(self._environment, 'places', None)
    if places is not None:
      self._recording.add_places(places[group])


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
