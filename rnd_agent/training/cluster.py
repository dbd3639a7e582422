"""Training on several workers: joining them, and what they tell each other."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from typing import Any, Iterator, Mapping, Optional

from absl import logging
import gin
import numpy as np
import tensorflow as tf

import rnd_agent
from rnd_agent.common import cluster_task
from rnd_agent.learning import replicas
from rnd_agent.learning import workers as workers_lib
from rnd_agent.settings import gin_files

WorkerLostError = workers_lib.WorkerLostError

# What TensorFlow's collective operations raise when a worker is gone.
LOST = (
    tf.errors.UnavailableError, tf.errors.AbortedError,
    tf.errors.CancelledError, tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)
# Seconds until a worker says that it waits for others.
_PATIENCE = 60.0


class WorkersDifferError(RuntimeError):
  """Workers that must be equal are not; one line."""


def join() -> Optional[workers_lib.Workers]:
  """Joins the cluster that TF_CONFIG describes.

  To be called before TensorFlow's first operation.

  Returns:
    The workers; None where there is only this process.

  Raises:
    ConfigError: another worker has another version or configuration.
  """
  task = cluster_task.task()
  if task.number == 1:
    replicas.join(None)
    return None
  resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
  waiting = threading.Timer(_PATIENCE, logging.warning, args=(
      'worker %d waits for all %d workers to start', task.index, task.number
  ))
  waiting.daemon = True
  waiting.start()
  try:
    workers = workers_lib.Workers(resolver)
    _check_equal_settings(workers)
  except LOST as error:
    raise WorkerLostError(
        f'the workers did not all start ({str(error).splitlines()[0]})'
    ) from error
  finally:
    waiting.cancel()
  replicas.join(workers)
  return workers


@contextlib.contextmanager
def together(workers: Optional[workers_lib.Workers]) -> Iterator[None]:
  """Watches over the other workers during the block.

  Args:
    workers: None where there are no others.

  Yields:
    Nothing.

  Raises:
    WorkerLostError: one has ended, or does not answer any more.
  """
  if workers is None:
    yield
    return
  workers.watch()
  try:
    yield
  except LOST as error:
    raise workers.lost(error) from error


def _check_equal_settings(workers: workers_lib.Workers) -> None:
  """Raises ConfigError where another worker's differ from this one's."""
  mine = dict(
      rnd_agent=rnd_agent.__version__, tensorflow=tf.__version__,
      config=gin.config_str(),
  )
  for number, theirs in enumerate(exchanged(workers, mine)):
    for name, value in mine.items():
      if theirs[name] != value:
        raise gin_files.ConfigError(
            f'worker {number} differs from worker {workers.index} in '
            f'{_difference(name, theirs[name], value)}: start all with the '
            'same version, config and seed'
        )


def _difference(name: str, theirs: str, mine: str) -> str:
  """What differs, in a few words."""
  if name != 'config':
    return f'{name} ({theirs} and {mine})'
  lines = [
      next(iter(sorted(set(one.splitlines()) - set(other.splitlines()))), '')
      for one, other in ((theirs, mine), (mine, theirs))
  ]
  one, other = (line or 'no such line' for line in lines)
  return f'its config ({one!r} and {other!r})'


def exchanged(
    workers: Optional[workers_lib.Workers], told: Mapping[str, Any]
) -> list[dict[str, Any]]:
  """What each worker tells the others.

  Args:
    workers: None for this process alone.
    told: JSON values.

  Returns:
    Everyone's, in the workers' order.
  """
  if workers is None:
    return [dict(told)]
  data = json.dumps(told).encode()
  return [json.loads(part) for part in workers.exchanged(data)]


def check_equal_variables(
    workers: workers_lib.Workers, items: Mapping[str, Any]
) -> None:
  """Compares the variables of all workers, bit by bit.

  Args:
    workers: all of them call it.
    items: trackable objects by name.

  Raises:
    WorkersDifferError: some differ; says whose.
  """
  mine = digests(items)
  for number, theirs in enumerate(exchanged(workers, mine)):
    for name, digest in mine.items():
      if theirs[name] != digest:
        raise WorkersDifferError(
            f'worker {number} has other values in {name!r} than worker '
            f'{workers.index}: what is trained must be equal on all; a bonus '
            'of your own must combine the statistics of all workers '
            '(rnd_agent.learning.replicas)'
        )


def digests(items: Mapping[str, Any]) -> dict[str, str]:
  """The SHA-256 of the variables of each trackable object."""
  result = {}
  for name, item in items.items():
    sha = hashlib.sha256()
    for part in tf.train.TrackableView(item).descendants():
      if isinstance(part, tf.Variable):
        sha.update(part.numpy().tobytes())
    result[name] = sha.hexdigest()
  return result


def prefix() -> str:
  """What stands before the lines of a worker that is not the first."""
  return '' if replicas.is_chief() else f'worker {replicas.workers().index}: '


def own_seed(seed: int, *more: int) -> int:
  """A seed of this worker's own; worker 0 has the run's.

  Args:
    seed: of the run.
    *more: what else it follows from.
  """
  workers = replicas.workers()
  if workers is None or workers.index == 0 and not more:
    return seed
  return int(np.random.SeedSequence(
      [seed, workers.index, *more]
  ).generate_state(1)[0])


def whole(rollout, learned):
  """What an iteration's numbers are made of, of all workers' environments.

  Args:
    rollout: of this worker.
    learned: the agent's `Iteration` on it.

  Returns:
    Both, with values, rewards and targets `[B, T]` of all B environments; of
    the rollout only those.
  """
  workers = replicas.workers()
  if workers is None:
    return rollout, learned
  values = (rollout.values_ext, rollout.values_int), learned._replace(
      loss_info=()
  )
  (values_ext, values_int), learned_of_all = tf.nest.map_structure(
      _gathered, values
  )
  return (
      rollout._replace(values_ext=values_ext, values_int=values_int),
      learned_of_all._replace(loss_info=learned.loss_info),
  )


@tf.function(autograph=False)
def _gathered(value: tf.Tensor) -> tf.Tensor:
  return replicas.gathered(value)
