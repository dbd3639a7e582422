"""Plays episodes with a trained run: actions, intrinsic rewards, values.

Nothing but the run's operative config and its newest checkpoint is restored.
The folder may come from a stranger: `run_folder` and `run_config` check it.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Callable, NamedTuple, Optional, Union

import gymnasium
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts
from tf_agents.utils import common

from rnd_agent import config as config_lib
from rnd_agent.common import film_files
from rnd_agent.environments import errors
from rnd_agent.environments import specs
from rnd_agent.environments import suites
from rnd_agent.environments import wrappers
from rnd_agent.learning import compute
from rnd_agent.learning import rollout as rollout_lib
from rnd_agent.runs import checkpoints
from rnd_agent.runs import run_folder
from rnd_agent.settings import gin_files
from rnd_agent.settings import network_sizes
from rnd_agent.training import builders
from rnd_agent.viewing import episode_trace
from rnd_agent.viewing import run_config


class PlayError(ValueError):
  """The run cannot be played; the message is one line."""


# What `Player` raises where a run cannot be played, but for RunFolderError.
CANNOT_PLAY = (
    PlayError, checkpoints.CheckpointError, gin_files.ConfigError,
    run_config.RefusedConfigError, errors.UnknownEnvironmentError,
    errors.MissingPackageError,
)


class Outcome(NamedTuple):
  """The results of an episode.

  Attributes:
    score: game points, not clipped.
    length: agent steps.
    rooms: distinct rooms or places; None if unknown.
    furthest_x: the largest x reached in a level; None if the game has no x.
    complete: whether the environment ended the episode; False if it was cut.
    trace: every observation with its numbers.
  """

  score: float
  length: int
  rooms: Optional[int]
  furthest_x: Optional[float]
  complete: bool
  trace: episode_trace.EpisodeTrace


class Player:
  """A run's restored agent and one environment in which it plays."""

  def __init__(
      self,
      folder: run_folder.RunFolder,
      sticky: Optional[float] = None,
      seed: int = 0,
      trust: bool = False,
  ):
    """Restores the run.

    Args:
      folder: the run.
      sticky: probability that a frame repeats the previous action; None: as in
        training, 0: never.
      seed: of the environment and of the sampled actions.
      trust: whether the run is the user's own, so that its environment's name
        may import modules.

    Raises:
      RunFolderError: a file is missing, or leads out of the folder.
      ConfigError: the config is damaged, or another version's.
      UnknownEnvironmentError: no environment has this name.
      CheckpointError: the checkpoint is damaged, or of other networks.
      RefusedConfigError: the config asks for more than it may.
      PlayError: there is no checkpoint, or the environment or the agent cannot
        be built.
    """
    settings = run_config.read(folder, trust)
    _check_checkpoint_files(folder)
    # The defaults for this machine: the run's values fit the one that trained.
    compute_config = config_lib.ComputeConfig(**{
        field.name: field.default
        for field in dataclasses.fields(config_lib.ComputeConfig)
    })
    compute.set_threads(compute_config)
    self._seed = seed
    self._env_name = settings.env_name
    self._environment = _make_environment(settings.env_name, sticky, seed)
    self._new_agent = lambda: _build_agent(
        self._environment, settings, compute_config
    )
    try:
      network_sizes.check(self._environment.observation_space, copies=1)
      self._agent = self._new_agent()
      self._iteration = _restore(folder, self._agent)
    except BaseException:
      self._environment.close()
      raise
    self._policy = self._agent.collect_policy
    self._forward = common.function(self._evaluate)
    self._episodes = 0

  @property
  def iteration(self) -> int:
    """The iteration that the checkpoint contains."""
    return self._iteration

  @property
  def env_name(self) -> str:
    """The environment's name."""
    return self._env_name

  @property
  def shows_pictures(self) -> bool:
    """Whether the environment can render frames."""
    return self._environment.render_mode == 'rgb_array'

  @property
  def frames_per_second(self) -> float:
    """Observations per second at the game's own speed."""
    return film_files.frames_per_second(
        self._environment.metadata,
        suites.resolved_config(self._env_name).frame_skip or 1,
    )

  def untrained_policy(self):
    """A policy like the run's, with new weights."""
    tf.keras.utils.set_random_seed(self._seed)
    return self._new_agent().collect_policy

  def facts(self) -> dict[str, Union[int, float]]:
    """What the environment's `facts` says of this moment, if it has any.

    Returns:
      Whole numbers for categories, floats for amounts, by name.
    """
    if not self._environment.has_wrapper_attr('facts'):
      return {}
    return self._environment.get_wrapper_attr('facts')()

  def play(
      self,
      greedy: bool = False,
      max_steps: int = 0,
      frames: bool = True,
      watch: Optional[Callable[[np.ndarray, float], bool]] = None,
      stop: Callable[[], bool] = lambda: False,
      observe: Callable[[Any, int, Any], None] = lambda *_: None,
  ) -> Outcome:
    """Plays an episode.

    Args:
      greedy: take the likeliest action; otherwise sample.
      max_steps: agent steps after which the episode is cut; 0 for no limit
        but the environment's.
      frames: whether the trace keeps the rendered frames.
      watch: called with every rendered frame and the score so far; the
        episode is cut where it returns False.
      stop: called before every step; the episode is cut where it returns True.
      observe: called with every observation, its step type, and the policy's
        state after it.

    Returns:
      The episode's `Outcome`.

    Raises:
      PlayError: a package that renders the environment is missing.
    """
    self._episodes += 1
    environment = self._environment
    observation, info = environment.reset()
    state = self._policy.get_initial_state(1)
    step_type, score, ended = ts.StepType.FIRST, 0.0, False
    furthest_x = None
    rows, pictures = [], []
    last_observation, action = observation, self._zero_action()
    while True:
      outputs = self._forward(
          _one_step(last_observation, action, observation, step_type),
          *batch_of_one(observation, step_type), state, tf.constant(greedy),
          tf.constant([self._seed + self._episodes, len(rows)], tf.int32),
      )
      state = outputs['state']
      observe(observation, step_type, state)
      keep_playing = True
      if self.shows_pictures and (frames or watch):
        picture = self._render()
        if frames:
          pictures.append(episode_trace.encode(picture))
        if watch:
          keep_playing = watch(picture, score)
      if 'x' in info:
        x = float(info['x'])
        furthest_x = x if furthest_x is None else max(x, furthest_x)
      cut = not keep_playing or stop() or 0 < max_steps <= len(rows)
      rows.append(_row(outputs, score, info, acts=not (ended or cut)))
      if ended or cut:
        break
      last_observation, action = observation, outputs['action'].numpy()[0]
      observation, reward, terminated, truncated, info = environment.step(
          _action_for(environment.action_space, action)
      )
      score += float(reward)
      ended = terminated or truncated
      step_type = ts.StepType.LAST if ended else ts.StepType.MID
    return self._outcome(rows, pictures, furthest_x, ended)

  def _zero_action(self) -> np.ndarray:
    """Zeros, for the missing action before the first observation."""
    spec, = tf.nest.flatten(self._agent.action_spec)
    return np.zeros(spec.shape, spec.dtype.as_numpy_dtype)

  def _render(self) -> np.ndarray:
    try:
      return self._environment.render()
    except gymnasium.error.DependencyNotInstalled as error:
      raise PlayError(
          f'{self._env_name}: {" ".join(str(error).split())}'
      ) from error

  def close(self) -> None:
    """Closes the environment."""
    self._environment.close()

  def _evaluate(self, last_step, observation, step_type, state, greedy, seed):
    """One forward pass of policy, values and bonus, for a batch of one."""
    (distribution, value_ext, value_int), state = self._policy.evaluate(
        observation, step_type, state
    )
    distribution, = tf.nest.flatten(distribution)
    spec, = tf.nest.flatten(self._agent.action_spec)
    action = tf.cond(
        greedy,
        lambda: tf.cast(distribution.mode(), spec.dtype),
        lambda: tf.cast(distribution.sample(seed=seed), spec.dtype),
    )
    bonus = reward = tf.constant([[np.nan]])
    if self._agent.bonus is not None:
      bonus = self._agent.bonus.rewards(last_step)
      reward = self._agent.bonus.normalized(bonus)
      self._agent.bonus.advance(last_step)
    probabilities = tf.zeros([1, 0])
    if isinstance(distribution, tfp.distributions.Categorical) and (
        spec.shape.rank == 0
    ):
      probabilities = distribution.probs_parameter()
    return dict(
        state=state, action=common.clip_to_spec(action, spec),
        value_ext=value_ext, value_int=value_int, bonus=bonus[:, 0],
        intrinsic_reward=reward[:, 0], probabilities=probabilities,
    )

  def _outcome(self, rows, pictures, furthest_x, complete: bool) -> Outcome:
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    trace = episode_trace.EpisodeTrace(
        title=f'{self._env_name}, iteration {self._iteration}',
        action_names=wrappers.action_names(self._environment),
        frames=tuple(pictures),
        **columns,
    )
    places = set(trace.place.tolist()) - {episode_trace.NO_PLACE}
    return Outcome(
        float(trace.score[-1]), trace.length - 1, len(places) or None,
        furthest_x, complete, trace,
    )


def batch_of_one(observation, step_type: int):
  """An observation `[1, ...]` and its step type, int32 `[1]`."""
  return (
      tf.nest.map_structure(lambda x: np.asarray(x)[np.newaxis], observation),
      np.array([step_type], np.int32),
  )


def _check_checkpoint_files(folder: run_folder.RunFolder) -> None:
  """Raises PlayError without a checkpoint, RunFolderError for a link."""
  if not folder.files(run_folder.CHECKPOINTS):
    raise PlayError(
        f'{folder.label} holds no checkpoint yet: one is saved every '
        'train_eval.checkpoint_interval iterations and when training stops'
    )


def _make_environment(env_name: str, sticky: Optional[float], seed: int):
  """An environment whose rewards are the game's own points, not clipped."""
  changes = dict(reward_clip=0.0, extrinsic_reward=True)
  if sticky is not None:
    changes['sticky_action_probability'] = sticky
  try:
    return suites.make(
        env_name, dataclasses.replace(suites.EnvironmentConfig(), **changes),
        seed,
    )
  except ValueError as error:
    raise PlayError(f'{env_name}: {str(error).splitlines()[0]}') from error


def _build_agent(environment, settings: run_config.Settings, compute_config):
  observation_spec = tensor_spec.from_spec(
      specs.observation_spec(environment.observation_space)
  )
  action_spec = tensor_spec.from_spec(
      specs.action_spec(environment.action_space)
  )
  try:
    return builders.build_agent(
        ts.time_step_spec(observation_spec), action_spec,
        num_epochs=settings.num_epochs,
        num_minibatches=settings.num_minibatches,
        precision=settings.precision, compute_config=compute_config,
        bonus=settings.bonus,
        frame_channels=builders.frame_channels(
            settings.env_name, observation_spec
        ),
    )
  except ValueError as error:
    raise PlayError(str(error).splitlines()[0]) from error


def _restore(folder: run_folder.RunFolder, agent) -> int:
  """Restores a run's newest checkpoint into an agent.

  Returns:
    The iteration after which the checkpoint was saved.
  """
  if agent.bonus is not None:
    agent.bonus.build(1)
  iterations = []

  def load_progress(progress: Any) -> None:
    iteration = progress['iteration'] if isinstance(progress, dict) else None
    if type(iteration) is not int:
      raise ValueError('its progress has no iteration')
    iterations.append(iteration)

  saved = checkpoints.Checkpoints(
      str(folder.path),
      {
          **agent.weight_items(),  # The others only train.
          'progress': checkpoints.JsonState(dict, load_progress),
      },
      keep=1,
  )
  if saved.latest is not None:
    index = os.path.relpath(saved.latest + '.index', folder.path)
    folder.file(*index.split(os.sep))  # Refuses a link out of the folder.
  if not saved.restore(partial=True):
    raise PlayError(f'{folder.label} holds no checkpoint')
  return iterations[-1]


def _row(outputs, score: float, info, acts: bool) -> dict[str, Any]:
  """An observation's entries in the trace.

  Args:
    outputs: of `Player._evaluate`.
    score: game points so far.
    info: of the environment's step.
    acts: whether an action follows; at the last observation values and
      probabilities are NaN.

  Returns:
    Entries by the names of `EpisodeTrace`'s arrays.
  """
  probabilities = outputs['probabilities'].numpy()[0].astype(np.float32)
  action = outputs['action'].numpy()[0]
  discrete = acts and np.ndim(action) == 0 and probabilities.size
  unknown = np.float32(np.nan)
  return dict(
      bonus=np.float32(outputs['bonus'].numpy()[0]),
      intrinsic_reward=np.float32(outputs['intrinsic_reward'].numpy()[0]),
      value_ext=(
          np.float32(outputs['value_ext'].numpy()[0]) if acts else unknown
      ),
      value_int=(
          np.float32(outputs['value_int'].numpy()[0]) if acts else unknown
      ),
      score=np.float64(score),
      place=np.int64(info.get('place', episode_trace.NO_PLACE)),
      action=np.int64(action if discrete else episode_trace.NO_ACTION),
      probabilities=probabilities if acts else probabilities + unknown,
  )


def _one_step(
    last_observation, action, observation, step_type
) -> rollout_lib.Steps:
  """One step of one environment, `[1, 1, ...]`, for `Bonus.rewards`."""
  observations = tf.nest.map_structure(
      lambda *x: np.stack(x)[np.newaxis], last_observation, observation
  )
  # An episode's first observation leads to itself.
  last_type = step_type if step_type == ts.StepType.FIRST else ts.StepType.MID
  step_types = np.array([[last_type, step_type]], np.int32)
  return rollout_lib.Steps(
      observations, np.asarray(action)[np.newaxis, np.newaxis], step_types,
      step_types[:, 1:],
  )


def _action_for(space, action: np.ndarray):
  """An action in the type of a gymnasium space: int, or an array."""
  if action.ndim == 0:
    return int(action)
  return action.astype(space.dtype)
