"""Advantages and returns of a rollout's two reward streams, pure."""

from __future__ import annotations

import tensorflow as tf

from rnd_agent import config as config_lib
from rnd_agent.learning import losses
from rnd_agent.learning import replicas
from rnd_agent.learning import returns
from rnd_agent.learning import rollout as rollout_lib


def make_targets(
    rollout: rollout_lib.Rollout,
    rewards_ext: tf.Tensor,
    rewards_int: tf.Tensor,
    config: config_lib.RNDConfig,
    *,
    coefficients: tuple[tf.Tensor, tf.Tensor],
    discount_ext: float,
    gae_lambda: float,
    td_lambda_returns: bool = True,
    normalize: bool = False,
) -> rollout_lib.Targets:
  """Two streams, each with its discount, combined (paper, section 2.3).

      A = extrinsic_coefficient A_ext + intrinsic_coefficient A_int

  The extrinsic stream is cut where an episode ends; the intrinsic one goes on,
  unless `config.episodic_intrinsic`.

  Args:
    rollout: the rollout.
    rewards_ext: float32 `[B, T]`.
    rewards_int: float32 `[B, T]`, normalized bonuses of the steps.
    config: intrinsic discount, and whether the intrinsic stream is cut.
    coefficients: float32 `[]` each, extrinsic and intrinsic.
    discount_ext: gamma of the extrinsic stream.
    gae_lambda: lambda of both; 1 for Monte Carlo advantages.
    td_lambda_returns: whether returns are A + V; otherwise Monte Carlo's.
    normalize: whether A is shifted and scaled over the real steps.

  Returns:
    `Targets`, float32 `[B, T]`.
  """
  boundaries, ends = rollout.boundaries, rollout.ends
  zeros = tf.zeros_like(rewards_int)

  def stream(rewards, discounts, values, cuts, end_values):
    def advantages(lambda_):
      return returns.generalized_advantages(
          rewards, discounts, values, cuts, end_values, boundaries, lambda_
      )
    advantage = advantages(gae_lambda)
    target = advantage if td_lambda_returns else advantages(1.0)
    return advantage, target + values[:, :-1]

  advantages_ext, returns_ext = stream(
      rewards_ext, rollout.discounts * discount_ext, rollout.values_ext, ends,
      rollout.end_values_ext,
  )
  advantages_int, returns_int = stream(
      rewards_int, zeros + config.discount_int, rollout.values_int,
      ends if config.episodic_intrinsic else tf.zeros_like(ends), zeros,
  )
  coefficient_ext, coefficient_int = coefficients
  combined = coefficient_ext * advantages_ext + coefficient_int * advantages_int
  if normalize:
    combined = _normalized(combined, rollout.mask)
  return rollout_lib.Targets(combined, returns_ext, returns_int, rollout.mask)


def _normalized(advantages: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
  """Mean 0, standard deviation 1 over real steps; 0 elsewhere."""
  count = replicas.mean(tf.reduce_sum(mask))
  mean = replicas.mean(losses.masked_mean(advantages, mask, count))
  variance = replicas.mean(losses.masked_mean(
      tf.math.squared_difference(advantages, mean), mask, count
  ))
  return (advantages - mean) * tf.math.rsqrt(variance + 1e-8) * mask
