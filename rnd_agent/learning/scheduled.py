"""The agent's numbers that change over agent steps."""

from __future__ import annotations

from typing import Optional, Sequence

import tensorflow as tf

from rnd_agent import config as config_lib
from rnd_agent.common import schedules


class ScheduledNumbers:
  """The coefficients of both streams, and the optimizer's learning rate.

  They depend on the steps alone, so that a resumed run has the values of an
  uninterrupted one.
  """

  def __init__(
      self,
      config: config_lib.RNDConfig,
      optimizer,
      learning_rate_schedule: Optional[Sequence[Sequence[float]]],
  ):
    """Makes variables of the coefficients.

    Args:
      config: coefficients and their schedules.
      optimizer: any; one of Keras has a learning rate to read and assign.
      learning_rate_schedule: see `common.schedules`; None: constant.

    Raises:
      ValueError: learning_rate_schedule is neither a schedule nor None, or the
        optimizer has no learning rate that can be assigned.
    """
    self._config = config
    self.coefficients = tuple(
        tf.Variable(
            getattr(config, name), trainable=False, dtype=tf.float32, name=name
        )
        for name in ('extrinsic_coefficient', 'intrinsic_coefficient')
    )
    self._optimizer = optimizer
    self._schedule = learning_rate_schedule
    if learning_rate_schedule is None:
      return
    schedules.check('learning_rate_schedule', learning_rate_schedule)
    if self.learning_rate is None or isinstance(
        optimizer._learning_rate,
        tf.keras.optimizers.schedules.LearningRateSchedule,
    ):
      raise ValueError(
          'learning_rate_schedule needs an optimizer of Keras with a constant '
          f'learning rate, got {type(optimizer).__name__}: give it a number, '
          'or leave the schedule to the optimizer.'
      )
    self._full_learning_rate = float(self.learning_rate.numpy())

  @property
  def learning_rate(self) -> Optional[tf.Variable]:
    """The optimizer's, to read or assign; None of an optimizer not Keras'."""
    if isinstance(self._optimizer, tf.keras.optimizers.Optimizer):
      return self._optimizer.learning_rate
    return None

  def follow(self, env_steps: int) -> dict[str, float]:
    """Sets what has a schedule; see `RNDPPOAgent.follow_schedules`."""
    config, values = self._config, {}
    if self._schedule is not None:
      self.learning_rate.assign(
          self._full_learning_rate * schedules.factor(self._schedule, env_steps)
      )
    if self.learning_rate is not None:
      # As text, float32's 1e-4 is 0.0001 and not 0.000099999997.
      values['learning_rate'] = float(str(self.learning_rate.numpy()))
    for variable, (name, value, points) in zip(self.coefficients, (
        ('extrinsic_coefficient', config.extrinsic_coefficient,
         config.extrinsic_schedule),
        ('intrinsic_coefficient', config.intrinsic_coefficient,
         config.intrinsic_schedule),
    )):
      values[name] = value * schedules.factor(points, env_steps)
      variable.assign(values[name])
    return values
