"""What a run tells TensorBoard: scalars by group, histograms, films, config.

Groups of tags: `return/` for scores, `explore/` for places, `rnd/` for the
intrinsic reward, `bonus/` for what a bonus tells besides, `ppo/` for the
updates, `time/` for the clock. They and the layout follow from
`runs/metrics.py`; `docs/metrics.md` explains each.
"""

from __future__ import annotations

import os
import pathlib
from typing import Any, Mapping, Sequence

import gin
import numpy as np
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import summary as custom_scalar
from tensorboard.plugins.hparams import api as hparams_api
from tensorboard.plugins.image import metadata as image_metadata
import tensorflow as tf

from rnd_agent.learning import losses
from rnd_agent.runs import metrics as metrics_lib
from rnd_agent.settings import operative_config

# Parts of the config that make hyperparameters. TensorBoard sorts by name, so
# that the networks' sizes would stand before what is changed.
_HYPERPARAMETERS = (
    'train_eval', 'PPOConfig', 'RNDConfig', 'EnvironmentConfig',
)


class Summaries:
  """The folders `train/` and `eval/` of a run."""

  def __init__(
      self,
      root_dir: str | os.PathLike,
      env_steps: int,
      metrics: Sequence[metrics_lib.Metric] = metrics_lib.METRICS,
  ):
    """Opens both, and writes what belongs to a start.

    Args:
      root_dir: the run's folder, which exists.
      env_steps: agent steps so far, the position on TensorBoard's axis.
      metrics: rows of the registry, with those of the bonus.
    """
    self._metrics = [metric for metric in metrics if metric.tag]
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
              hparams_api.Metric(
                  metrics_lib.BY_NAME[name].tag, display_name=name
              ) for name in (*metrics_lib.RESULTS, 'frames')
          ],
      )
      # Otherwise a number made of the values, the same for equal configs.
      hparams_api.hparams(values, trial_id=root.resolve().name)
      tf.summary.experimental.write_raw_pb(
          custom_scalar.pb(_layout(metrics)).SerializeToString()
      )

  def iteration(
      self,
      env_steps: int,
      row: Mapping[str, Any],
      laps: Mapping[str, float],
      learned,
  ) -> None:
    """Writes an iteration.

    Args:
      env_steps: agent steps after it.
      row: its numbers by name; None or NaN for what is not known.
      laps: seconds of each stage.
      learned: the agent's `Iteration`.
    """
    values = {
        **row,
        **{f'{stage}_s': seconds for stage, seconds in laps.items()},
        'advantages': learned.targets.advantages,
    }
    if 'intrinsic_reward_mean' in row:
      values['intrinsic_rewards'] = learned.rewards_int
    with self._train.as_default(step=env_steps):
      for metric in self._metrics:
        value = values.get(metric.name)
        if metric.histogram and value is not None:
          tf.summary.histogram(metric.tag, value)
        else:
          _write_scalar(metric.tag, value)

  def evaluation(self, env_steps: int, result) -> None:
    """Writes an `EvaluationResult`."""
    with self._eval.as_default(step=env_steps):
      for name, value in dict(
          episode_return_mean=result.returns.mean(),
          episode_return_max=result.returns.max(),
          episode_length_mean=result.lengths.mean(),
          rooms_mean=(
              result.rooms.mean() if (result.rooms >= 0).all() else None
          ),
      ).items():
        _write_scalar(metrics_lib.BY_NAME[name].tag, value)

  def film(self, env_steps: int, film) -> None:
    """Writes a `filming.Film` as an image that moves.

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


def _write_scalar(tag: str, value) -> None:
  """Writes a number; none where it is not known: None or NaN."""
  if value is not None and not np.isnan(value):
    tf.summary.scalar(tag, value)


def _layout(metrics: Sequence[metrics_lib.Metric]) -> layout_pb2.Layout:
  """The charts of the tab "Custom Scalars", by question."""
  charts = metrics_lib.charts(metrics).items()
  return layout_pb2.Layout(category=[
      layout_pb2.Category(
          title=question,
          chart=[
              layout_pb2.Chart(
                  title=chart.title,
                  multiline=layout_pb2.MultilineChartContent(
                      tag=[f'^{tag}$' for tag in tags]  # Patterns.
                  ),
              )
              for chart, tags in charts if chart.question == number
          ],
      )
      for number, question in enumerate(metrics_lib.QUESTIONS)
  ])


def training_figures(rollout, learned, bonus) -> dict[str, float]:
  """The numbers of an iteration about learning.

  Args:
    rollout: `Rollout` that was learned from.
    learned: the agent's `Iteration`.
    bonus: the agent's `Bonus`; None for none, whose numbers are left out.

  Returns:
    Numbers by name of their row in the registry.
  """
  extra, targets = learned.loss_info.extra, learned.targets
  mask = targets.mask
  figures = dict(
      loss_policy=extra.policy_gradient_loss,
      loss_value_ext=extra.value_loss_ext,
      entropy=extra.entropy,
      approx_kl=extra.approx_kl,
      clip_fraction=extra.clip_fraction,
      explained_variance_ext=losses.explained_variance(
          rollout.values_ext[:, :-1], targets.returns_ext, mask
      ),
      gradient_norm=extra.gradient_norm,
  )
  if bonus is not None:
    mean = losses.masked_mean(learned.rewards_int, mask)
    figures.update(
        **bonus.metrics(),
        intrinsic_reward_mean=mean,
        intrinsic_reward_std=tf.sqrt(losses.masked_mean(
            tf.math.squared_difference(learned.rewards_int, mean), mask
        )),
        return_std=bonus.return_normalizer.standard_deviation,
        bonus_mean=losses.masked_mean(learned.raw_rewards_int, mask),
        loss_value_int=extra.value_loss_int,
        explained_variance_int=losses.explained_variance(
            rollout.values_int[:, :-1], targets.returns_int, mask
        ),
    )
    if bonus.trained_variables:
      figures['loss_predictor'] = extra.predictor_loss
  return {name: float(value) for name, value in figures.items()}
