"""Observation statistics of a uniformly random agent, before training."""

from __future__ import annotations

from typing import Callable

import numpy as np
import tensorflow as tf

from rnd_agent.environments import errors
from rnd_agent.training import collector


def gather_statistics(
    bonus,
    environment,
    num_rollouts: int,
    rollout_length: int,
    seed: int,
    *,
    survive: Callable[[errors.EnvironmentWorkerError], None],
    stop: Callable[[], bool],
    show: Callable[[int], None],
) -> None:
  """Starts the statistics of the bonus (paper, section 2.4).

  Args:
    bonus: a `Bonus`, which observes the random agent.
    environment: batched `PyEnvironment` of B environments.
    num_rollouts: rollouts of each environment; 50 in the authors' code.
    rollout_length: T, agent steps of each environment in a rollout.
    seed: of the random actions.
    survive: makes failed environments anew, or raises.
    stop: whether to stop early.
    show: told of every rollout that is done, by their number.

  Raises:
    CollectionStopped: `stop` said so.
    EnvironmentWorkerError: as `survive` raises it.
  """
  update = tf.function(
      lambda observations: bonus.observe_random_agent(
          tf.nest.map_structure(lambda x: x[tf.newaxis], observations)
      ),
      autograph=False,
  )
  batch = environment.batch_size
  total = num_rollouts * rollout_length
  rng = np.random.default_rng(seed)
  done = 0  # Steps of single environments.

  def observe(observations):
    nonlocal done
    update(observations)
    done += tf.nest.flatten(observations)[0].shape[0]
    if done % (rollout_length * batch) == 0:
      show(done // (rollout_length * batch))

  while done < total * batch:
    try:
      collector.random_steps(
          environment, total - done // batch, rng, observe, stop=stop
      )
    except errors.EnvironmentWorkerError as error:
      survive(error)
