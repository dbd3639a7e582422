"""How a run starts, resumes and is saved."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from typing import Any, Callable, Optional

import gin
import numpy as np
import tensorflow as tf

from rnd_agent import config as config_lib
from rnd_agent import rnd_ppo_agent
from rnd_agent.common import atomic_files
from rnd_agent.learning import replicas
from rnd_agent.runs import checkpoints
from rnd_agent.runs import run_json
from rnd_agent.training import cluster
from rnd_agent.training import recording as recording_lib
from rnd_agent.training import recovery
from rnd_agent.training import resume

_LARGEST_COUNT = 2**63


@dataclasses.dataclass
class Counters:
  """How far a run is.

  Attributes:
    iteration: the last whole one, from 1; 0 before it.
    env_steps: agent steps over all environments.
    wall_time_s: seconds of training, across resumes.
  """

  iteration: int = 0
  env_steps: int = 0
  wall_time_s: float = 0.0


class Session:
  """A run's folder, restored and saved as a whole.

  Attributes:
    counters: how far the run is; the loop moves them on.
  """

  def __init__(
      self,
      root: pathlib.Path,
      agent: rnd_ppo_agent.RNDPPOAgent,
      collector: recovery.SafeCollector,
      recording: recording_lib.Recording,
      config: config_lib.TrainConfig,
      allow_config_change: bool,
      note: Callable[[str], None],
  ):
    """Reads and writes nothing yet.

    Args:
      root: the run's folder.
      agent: whose networks, statistics and optimizer are saved.
      collector: whose environments are saved.
      recording: whose files are cut off and saved, and its episodes.
      config: of the run.
      allow_config_change: whether to resume a run with parameters that make it
        another one.
      note: told one line at a time.
    """
    self._root = root
    self._agent = agent
    self._collector = collector
    self._recording = recording
    self._config = config
    self._allow_config_change = allow_config_change
    self._note = note
    self.counters = Counters()
    self._saved_iteration = -1
    self._restored_groups = None
    self._environment_state = b''
    self._workers = replicas.workers()
    self._generators = []  # Of the workers after the first.
    self._checkpoints = checkpoints.Checkpoints(
        str(root),
        dict(
            agent.checkpoint_items(),
            progress=checkpoints.JsonState(self._get_state, self._set_state),
            environments=checkpoints.BytesState(
                self._get_environment_state, self._keep_environment_state
            ),
            core_states=collector.state_variables,
        ),
        config.checkpoints_to_keep,
    )

  @property
  def _is_chief(self) -> bool:
    """Whether this process writes the run's folder."""
    return self._workers is None or self._workers.index == 0

  @property
  def latest_checkpoint(self) -> Optional[str]:
    """Path of the newest intact checkpoint."""
    return self._checkpoints.latest

  # ----------------------------------------------------------------- start

  def start(self) -> None:
    """Restores what there is to go on from, and opens the run's files.

    Raises:
      ConfigError: the folder holds another run.
      CheckpointError: there is a run that cannot be resumed.
    """
    operative_config = gin.operative_config_str()
    resume.compare_config(
        self._root, operative_config, self._allow_config_change, self._note
    )
    origin = self._restore()
    if not self._is_chief:
      return
    iteration, env_steps = self.counters.iteration, self.counters.env_steps
    try:
      self._recording.check(iteration)
      # From here on something is changed.
      self._checkpoints.set_damaged_aside()
      self._recording.open(iteration, env_steps)
      run = run_json.write_run_json(
          self._root, self._config.seed, iteration,
          dict(env_steps=env_steps, **origin),
      )
    except ValueError as error:
      raise checkpoints.CheckpointError(str(error)) from error
    if iteration:
      resume.compare_machine(run['starts'], self._note)
    path = self._root / 'operative_config.gin'
    with atomic_files.replacing(str(path)) as file:
      file.write(operative_config)
    self._recording.open_summaries(env_steps)

  def _restore(self) -> dict[str, str]:
    """The newest checkpoint, if any, otherwise the initial weights, if any.

    Returns:
      What run.json is to say of it.
    """
    initial_weights = self._config.initial_weights
    if self._restore_checkpoint():
      self._saved_iteration = self.counters.iteration
      self._note(
          f'resuming {self._root} at iteration {self.counters.iteration + 1}'
      )
      resume.compare_groups(
          self._restored_groups, self._collector.num_groups, self._note
      )
      self._restore_environments()
      self._restore_generators()
      if initial_weights:
        self._note(
            f'initial_weights = {initial_weights!r} is left out: the run '
            'goes on from its own checkpoint'
        )
      return {}
    if not initial_weights:
      return {}
    path = checkpoints.find(initial_weights)
    checkpoints.load_weights(path, self._agent.weight_items())
    self._note(f'starting from the weights and statistics of {path}')
    return dict(initial_weights=path)

  def _restore_checkpoint(self) -> bool:
    """Whether there is one; the learning rate stays the configuration's."""
    rate = self._agent.learning_rate  # In the checkpoint, with the optimizer.
    configured = None if rate is None else rate.numpy()
    resumed = self._checkpoints.restore(self._note)
    if rate is not None:
      rate.assign(configured)
    return resumed

  def _restore_generators(self) -> None:
    """Every worker after the first has a generator of its own."""
    others = replicas.number() - 1
    dealt_anew = len(self._generators) != others
    if dealt_anew:
      self._note(
          f'workers: {others + 1} instead of {len(self._generators) + 1}; the '
          'environments are shared out anew and random numbers are drawn '
          'otherwise, so the run goes on otherwise than it would have'
      )
    if self._is_chief:
      self._generators = []  # Those of now are gathered when it is saved.
      return
    generator = self._agent.generator
    if dealt_anew:
      generator.reset_from_seed(cluster.own_seed(
          self._config.seed, self.counters.iteration
      ))
    else:
      generator.state.assign(self._generators[self._workers.index - 1])

  def _restore_environments(self) -> None:
    data, self._environment_state = self._environment_state, b''
    try:
      if self._workers is not None:
        data = recovery.part_of_state(
            data, self._workers.index, self._workers.number
        )
      self._collector.set_state(data)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
      if not self._allow_config_change:
        raise checkpoints.CheckpointError(
            f'{self._checkpoints.latest}: {error}: restore the configuration '
            'or choose another --root_dir'
        ) from error
      self._note(f'{error}: the environments begin new episodes')

  # ---------------------------------------------------------------- saving

  def save(self, last: bool = False) -> None:
    """Saves a checkpoint of the last whole iteration, once.

    Args:
      last: whether the run ends here; otherwise it goes on where the disk is
        full, say, and tries again the next time.

    Raises:
      SavingFailedError: the last one could not be saved.
    """
    iteration = self.counters.iteration
    if iteration in (0, self._saved_iteration):
      return
    self._collector.store_states()
    if self._workers is not None:
      self._gather(self._workers)
    if not self._is_chief:
      self._saved_iteration = iteration
      return
    try:
      self._recording.sync()
      self._checkpoints.save(iteration)
    except (OSError, tf.errors.OpError) as error:
      latest = self._checkpoints.latest
      if last:
        raise checkpoints.SavingFailedError(
            f'{error}: the newest is {latest}; make room, then the same '
            'command continues from there'
        ) from error
      self._note(f'{error}: the newest is {latest}')
      return
    self._saved_iteration = iteration
    self._recording.begin_event_files_again(self.counters.env_steps)
    try:
      self._checkpoints.remove_old()
    except OSError as error:
      self._note(f'an old checkpoint cannot be removed ({error})')

  def _gather(self, workers) -> None:
    """Collects what each worker has of its own, and compares the rest."""
    cluster.check_equal_variables(workers, {
        name: item for name, item in self._agent.checkpoint_items().items()
        if name != 'generator'
    })
    self._environment_state = recovery.joined_states(
        workers.exchanged(self._collector.get_state())
    )
    _, *others = cluster.exchanged(
        workers, dict(generator=self._agent.generator.state.numpy().tolist())
    )
    self._generators = [other['generator'] for other in others]

  def save_after_error(self, in_iteration: bool) -> None:
    """Saves what was trained since the last checkpoint, as well as it can.

    One of several workers cannot: it has not the others' environments.

    Args:
      in_iteration: whether the error came after a rollout, before it counted.
    """
    if self._workers is not None:
      return
    iteration = self.counters.iteration
    if in_iteration and iteration not in (0, self._saved_iteration):
      self._note(
          f'the error came in the middle of iteration {iteration + 1}: '
          'its rollout is left out, the saved run goes on with another'
      )
    self.save()

  def _get_environment_state(self) -> bytes:
    if self._workers is None:
      return self._collector.get_state()
    return self._environment_state

  def _keep_environment_state(self, data: bytes) -> None:
    self._environment_state = data

  def _get_state(self) -> dict[str, Any]:
    return dict(
        dataclasses.asdict(self.counters),
        environment_restarts=self._collector.restarts,
        episodes_cut=self._collector.episodes_cut,
        environment_groups=self._collector.num_groups,
        episodes=self._recording.window.get_state(),
        generators=self._generators,
    )

  def _set_state(self, state: dict[str, Any]) -> None:
    # Runs of older versions lack these.
    state = {
        'episodes_cut': 0, 'environment_groups': 0, 'generators': [], **state
    }
    for name in (
        'iteration', 'env_steps', 'environment_restarts', 'episodes_cut',
        'environment_groups',
    ):
      if type(state[name]) is not int or not 0 <= state[name] < _LARGEST_COUNT:
        raise ValueError(f'its {name} is no number')
    if not 0 <= float(state['wall_time_s']) < math.inf:
      raise ValueError('its wall_time_s is no time')
    self.counters = Counters(
        state['iteration'], state['env_steps'], state['wall_time_s']
    )
    if self._is_chief:  # The first worker counts for all.
      self._collector.restarts = state['environment_restarts']
      self._collector.episodes_cut = state['episodes_cut']
    self._recording.window.set_state(state['episodes'])
    self._restored_groups = state['environment_groups'] or None
    self._generators = [
        np.array(numbers, np.int64).tolist() for numbers in state['generators']
    ]
