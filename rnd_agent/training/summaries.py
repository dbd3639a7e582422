"""What a run tells TensorBoard: scalars by group, histograms, films, config.

Groups of tags: `return/` for scores, `explore/` for places, `rnd/` for the
bonus, `ppo/` for the updates, `time/` for the clock. `docs/metrics.md` explains
each, and a test compares it with what is written.
"""

from __future__ import annotations

import os
import pathlib
from typing import Any, Mapping

import gin
import numpy as np
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import summary as custom_scalar
from tensorboard.plugins.hparams import api as hparams_api
from tensorboard.plugins.image import metadata as image_metadata
import tensorflow as tf

from rnd_agent.learning import losses
from rnd_agent.settings import operative_config

# TensorBoard's group of every column of metrics.csv.
TAGS = {
    'frames': 'time/frames',
    'wall_time_s': 'time/wall_time_s',
    'steps_per_second': 'time/steps_per_second',
    'episodes': 'return/episodes',
    'episode_return_mean': 'return/episode_return_mean',
    'episode_return_max': 'return/episode_return_max',
    'episode_length_mean': 'return/episode_length_mean',
    'rooms_mean': 'explore/rooms_mean',
    'rooms_discovered': 'explore/rooms_discovered',
    'furthest_x_mean': 'explore/furthest_x_mean',
    'furthest_x_max': 'explore/furthest_x_max',
    'intrinsic_reward_mean': 'rnd/intrinsic_reward_mean',
    'intrinsic_reward_std': 'rnd/intrinsic_reward_std',
    'loss_predictor': 'rnd/loss_predictor',
    'explained_variance_int': 'rnd/explained_variance_int',
    'loss_value_int': 'rnd/loss_value_int',
    'loss_policy': 'ppo/loss_policy',
    'loss_value_ext': 'ppo/loss_value_ext',
    'explained_variance_ext': 'ppo/explained_variance_ext',
    'entropy': 'ppo/entropy',
    'approx_kl': 'ppo/approx_kl',
    'clip_fraction': 'ppo/clip_fraction',
    'environment_restarts': 'time/environment_restarts',
    'episodes_cut': 'time/episodes_cut',
}

# The tab "Custom Scalars": a question, and the charts that answer it. Two stand
# beside each other, so that a window of 1280 x 800 shows all four of the first
# one. Evaluations have the same tags: no title speaks of training alone.
_LAYOUT = (
    ('Is it learning, is it exploring, is it healthy?', (
        ('score, mean and best',
         ('return/episode_return_mean', 'return/episode_return_max')),
        ('rooms or places discovered', ('explore/rooms_discovered',)),
        ('intrinsic reward', ('rnd/intrinsic_reward_mean',)),
        ('entropy of the policy', ('ppo/entropy',)),
    )),
    ('If it is not', (
        ('how much of the intrinsic returns V_int explains',
         ('rnd/explained_variance_int',)),
        ('share of clipped ratios', ('ppo/clip_fraction',)),
        ('loss of the predictor', ('rnd/loss_predictor',)),
        ('rooms or places per episode', ('explore/rooms_mean',)),
        ('furthest x in a level', ('explore/furthest_x_max',)),
        ('agent steps per second', ('time/steps_per_second',)),
    )),
)

# Parts of the config that make hyperparameters. TensorBoard sorts by name, so
# that the networks' sizes would stand before what is changed.
_HYPERPARAMETERS = (
    'train_eval', 'PPOConfig', 'RNDConfig', 'EnvironmentConfig',
)

# What is set against them.
_RESULTS = (
    'return/episode_return_mean', 'return/episode_return_max',
    'explore/rooms_discovered', 'time/frames',
)


class Summaries:
  """The folders `train/` and `eval/` of a run."""

  def __init__(self, root_dir: str | os.PathLike, env_steps: int):
    """Opens both, and writes what belongs to a start.

    Args:
      root_dir: the run's folder, which exists.
      env_steps: agent steps so far, the position on TensorBoard's axis.
    """
    root = pathlib.Path(root_dir)
    self._train, self._eval = (
        tf.summary.create_file_writer(str(root / name))
        for name in ('train', 'eval')
    )
    config = gin.operative_config_str()
    with self._train.as_default(step=env_steps):
      tf.summary.text('config', f'```\n{config}\n```')
      values = hyperparameters(config)
      hparams_api.hparams_config(
          hparams=[hparams_api.HParam(name) for name in values],
          metrics=[
              hparams_api.Metric(tag, display_name=tag.rpartition('/')[2])
              for tag in _RESULTS
          ],
      )
      # Otherwise a number made of the values, the same for equal configs.
      hparams_api.hparams(values, trial_id=root.resolve().name)
      tf.summary.experimental.write_raw_pb(
          custom_scalar.pb(_layout()).SerializeToString()
      )

  def iteration(
      self,
      env_steps: int,
      row: Mapping[str, Any],
      laps: Mapping[str, float],
      targets,
      rewards_int,
      loss_info,
      agent,
  ) -> None:
    """Writes an iteration.

    Args:
      env_steps: agent steps after it.
      row: its row of metrics.csv; None or NaN for what is not known.
      laps: seconds of each stage.
      targets: `Targets` of the rollout.
      rewards_int: float32 `[B, T]`, normalized bonuses.
      loss_info: of the updates.
      agent: the `RNDPPOAgent`.
    """
    with self._train.as_default(step=env_steps):
      for column, tag in TAGS.items():
        value = row.get(column)
        if value is not None and not np.isnan(value):
          tf.summary.scalar(tag, value)
      for stage, seconds in laps.items():
        tf.summary.scalar(f'time/{stage}_s', seconds)
      tf.summary.scalar('ppo/gradient_norm', loss_info.extra.gradient_norm)
      tf.summary.histogram('ppo/advantages', targets.advantages)
      if agent.bonus is not None:
        tf.summary.histogram('rnd/intrinsic_rewards', rewards_int)
        divisor = agent.bonus.return_normalizer.standard_deviation
        tf.summary.scalar('rnd/return_std', divisor)
        tf.summary.scalar(
            'rnd/bonus_mean', row['intrinsic_reward_mean'] * divisor
        )

  def evaluation(self, env_steps: int, result) -> None:
    """Writes an `EvaluationResult`."""
    with self._eval.as_default(step=env_steps):
      tf.summary.scalar('return/episode_return_mean', result.returns.mean())
      tf.summary.scalar('return/episode_return_max', result.returns.max())
      tf.summary.scalar('return/episode_length_mean', result.lengths.mean())
      if (result.rooms >= 0).all():
        tf.summary.scalar('explore/rooms_mean', result.rooms.mean())

  def film(self, env_steps: int, film) -> None:
    """Writes a `video.Film` as an image that moves.

    `tf.summary.image` would encode every frame as a picture of its own; an
    image summary may hold an animation just as well.
    """
    sizes = [str(size).encode() for size in (film.width, film.height)]
    with self._eval.as_default(step=env_steps):
      tf.summary.write(
          'episode',
          tf.constant([*sizes, film.animation]),
          metadata=image_metadata.create_summary_metadata(
              'episode', 'an evaluation episode'
          ),
      )

  def flush(self) -> None:
    """Hands all that was written to the operating system."""
    self._train.flush()
    self._eval.flush()

  def close(self) -> None:
    """Closes the event files."""
    self._train.close()
    self._eval.close()


def hyperparameters(config: str) -> dict[str, operative_config.Value]:
  """The algorithm's and the environment's numbers of an operative config.

  Args:
    config: text of it.

  Returns:
    Values by name, for TensorBoard's tab "HParams".
  """
  values = operative_config.read(config)
  return {
      name: operative_config.plain(value)
      for part in _HYPERPARAMETERS
      for name, value in values.items()
      if name.rpartition('.')[0] == part and not name.endswith('.name')
  }


def _layout() -> layout_pb2.Layout:
  return layout_pb2.Layout(category=[
      layout_pb2.Category(
          title=question,
          chart=[
              layout_pb2.Chart(
                  title=title,
                  multiline=layout_pb2.MultilineChartContent(
                      # Regular expressions.
                      tag=[f'^{tag}$' for tag in tags]
                  ),
              )
              for title, tags in charts
          ],
      )
      for question, charts in _LAYOUT
  ])


def training_figures(
    rollout, rewards_int, targets, loss_info, with_bonus: bool
) -> dict[str, float]:
  """The columns of metrics.csv about learning.

  Args:
    rollout: `Rollout` that was learned from.
    rewards_int: float32 `[B, T]`, normalized intrinsic rewards.
    targets: its `Targets`.
    loss_info: what the agent's `learn` returned.
    with_bonus: whether there is a bonus; its columns are left out otherwise.

  Returns:
    Numbers by column.
  """
  extra, mask = loss_info.extra, targets.mask
  figures = dict(
      loss_policy=extra.policy_gradient_loss,
      loss_value_ext=extra.value_loss_ext,
      entropy=extra.entropy,
      approx_kl=extra.approx_kl,
      clip_fraction=extra.clip_fraction,
      explained_variance_ext=losses.explained_variance(
          rollout.values_ext[:, :-1], targets.returns_ext, mask
      ),
  )
  if with_bonus:
    mean = losses.masked_mean(rewards_int, mask)
    figures.update(
        intrinsic_reward_mean=mean,
        intrinsic_reward_std=tf.sqrt(losses.masked_mean(
            tf.math.squared_difference(rewards_int, mean), mask
        )),
        loss_value_int=extra.value_loss_int,
        loss_predictor=extra.predictor_loss,
        explained_variance_int=losses.explained_variance(
            rollout.values_int[:, :-1], targets.returns_int, mask
        ),
    )
  return {name: float(value.numpy()) for name, value in figures.items()}
