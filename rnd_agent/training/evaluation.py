"""Plays episodes with a policy and counts."""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional

import numpy as np
import tensorflow as tf
from tf_agents.policies import tf_policy
from tf_agents.utils import common


class EvaluationResult(NamedTuple):
  """One entry per episode, in the order of environments.

  Attributes:
    returns: float64 `[n]`, raw scores.
    lengths: int64 `[n]`, agent steps.
    rooms: int64 `[n]`, distinct rooms or places, -1 where they are unknown.
  """

  returns: np.ndarray
  lengths: np.ndarray
  rooms: np.ndarray


class Evaluator:
  """Plays one episode in each of some environments made for the purpose."""

  def __init__(
      self,
      make_environment: Callable[[], Any],
      policy: tf_policy.TFPolicy,
      generator: Optional[tf.random.Generator] = None,
      seed: int = 0,
  ):
    """Plays nothing yet.

    Args:
      make_environment: gives a `ShardedPyEnvironment` of one group; called for
        every evaluation, so that no process stays between them.
      policy: whose actions are taken.
      generator: source of the policy's actions, seeded before each evaluation;
        None where the policy has its own.
      seed: of the evaluations.
    """
    self._make_environment = make_environment
    self._policy = policy
    self._generator = generator
    self._seed = seed
    self._act = common.function(policy.action)

  def run(
      self, stop: Callable[[], bool] = lambda: False, number: int = 0
  ) -> Optional[EvaluationResult]:
    """Plays until every environment has ended its first episode.

    Args:
      stop: asked before every step; True gives up.
      number: of the evaluation, such as the iteration; the same one of a
        resumed run has the same actions.

    Returns:
      `EvaluationResult`, or None where it was given up.
    """
    if self._generator is not None:
      self._generator.reset_from_seed(self._seed + number)
    environment = self._make_environment()
    try:
      return self._play(environment, stop)
    finally:
      environment.close()

  def _play(self, environment, stop):
    time_step = environment.reset()
    state = self._policy.get_initial_state(environment.batch_size)
    zeros = np.zeros([environment.batch_size], np.float32)
    first = {}
    while len(first) < environment.batch_size:
      if stop():
        return None
      step = self._act(
          time_step._replace(reward=zeros, discount=zeros + 1), state
      )
      state = step.state
      transition = environment.step_and_reset(step.action.numpy())
      time_step = time_step._replace(
          step_type=np.array(transition.step_types),
          observation=tf.nest.map_structure(
              np.array, transition.observations
          ),
      )
      for episode in environment.episodes():
        first.setdefault(episode.environment, episode)
    episodes = [first[i] for i in sorted(first)]
    return EvaluationResult(
        np.array([e.episode_return for e in episodes], np.float64),
        np.array([e.length for e in episodes], np.int64),
        np.array([len(e.places) if e.places else -1 for e in episodes]),
    )
