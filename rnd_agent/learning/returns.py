"""Generalized advantage estimation over streams that contain episode ends.

Pure functions over `[B, T]` tensors: no variables, no gin, no summaries.
"""

from __future__ import annotations

import tensorflow as tf


def generalized_advantages(
    rewards: tf.Tensor,
    discounts: tf.Tensor,
    values: tf.Tensor,
    cuts: tf.Tensor,
    end_values: tf.Tensor,
    boundaries: tf.Tensor,
    gae_lambda: float,
) -> tf.Tensor:
  """Advantages of one reward stream (Schulman et al. 2016, equation 16).

  Going backwards in time, with `d_t` the discount after step t:

      delta_t = r_t + d_t V_next - V_t
      A_t     = delta_t + d_t lambda A_next

  where (V_next, A_next) are those of the next real step, or
  (`end_values[t]`, 0) where the stream is cut after step t. A boundary row
  (LAST -> FIRST, no action of the agent's) is no step: its own advantage is 0
  and the scan passes over it, so that whatever it holds changes nothing.

  Args:
    rewards: float32 `[B, T]`.
    discounts: float32 `[B, T]`, gamma included, 0 where nothing follows.
    values: float32 `[B, T + 1]`, V(o_0) ... V(o_T); the last one bootstraps.
    cuts: bool `[B, T]`, the stream ends after this step.
    end_values: float32 `[B, T]`, the value that follows a cut.
    boundaries: bool `[B, T]`, rows that are no steps.
    gae_lambda: lambda, in [0, 1].

  Returns:
    Advantages, float32 `[B, T]`, 0 in boundary rows.
  """
  rewards.shape.assert_is_compatible_with(discounts.shape)
  rewards.shape.assert_is_compatible_with(cuts.shape)
  rewards.shape.assert_is_compatible_with(boundaries.shape)
  rewards.shape.assert_is_compatible_with(values[:, 1:].shape)

  def step(carry, row):
    next_value, next_advantage, _ = carry
    reward, discount, value, cut, end_value, boundary = row
    follow_value = tf.where(cut, end_value, next_value)
    follow_advantage = tf.where(cut, 0.0, next_advantage)
    advantage = (
        reward + discount * (follow_value + gae_lambda * follow_advantage)
        - value
    )
    return (
        tf.where(boundary, next_value, value),
        tf.where(boundary, next_advantage, advantage),
        tf.where(boundary, 0.0, advantage),
    )

  rows = tf.nest.map_structure(
      tf.transpose,
      (rewards, discounts, values[:, :-1], cuts, end_values, boundaries),
  )
  bootstrap = values[:, -1]
  zeros = tf.zeros_like(bootstrap)
  _, _, advantages = tf.scan(
      step, rows, initializer=(bootstrap, zeros, zeros), reverse=True
  )
  return tf.transpose(advantages)


def discounted_return_filter(
    rewards: tf.Tensor,
    memory: tf.Tensor,
    discount: float,
    boundaries: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
  """Running discounted return R_t = gamma R_{t-1} + i_t (paper, section 2.4).

  It runs *forwards in time*, separately for every environment, and carries
  over episodes and rollouts: its standard deviation scales the bonus.

  Args:
    rewards: float32 `[B, T]`.
    memory: float32 `[B]`, R before the first row.
    discount: gamma.
    boundaries: bool `[B, T]`, rows that are no steps; R passes over them.

  Returns:
    `(returns [B, T], memory [B])`: R after every row (a boundary row repeats
    the one before it) and R after the last.
  """
  def step(carry, row):
    reward, boundary = row
    return tf.where(boundary, carry, discount * carry + reward)

  returns = tf.scan(
      step,
      (tf.transpose(rewards), tf.transpose(boundaries)),
      initializer=memory,
  )
  return tf.transpose(returns), returns[-1]
