"""Adam with a learning rate per group of variables."""

from __future__ import annotations

from typing import Sequence

import tensorflow as tf


class GroupedAdam(tf.keras.optimizers.Adam):
  """Adam in one step over all variables, some of them at rates of their own.

      w <- w - f lr m^ / (sqrt(v^) + epsilon)      (Kingma, Ba 2015, section 2)

  with f = 1, or (rate of the group) / lr. Only this factor differs from plain
  Adam: moments, their order and the count of steps are the same, and a
  checkpoint of either restores into the other. `learning_rate` is f = 1's;
  assigning to it scales all rates.
  """

  def __init__(
      self,
      learning_rate: float,
      groups: Sequence[tuple[float, Sequence[tf.Variable]]],
      name: str = 'Adam',
      **kwargs,
  ):
    """Takes the groups; the moments are made by `build`, as Adam's are.

    Args:
      learning_rate: of variables that are in no group, above 0.
      groups: `(learning rate, variables)` each; a variable is in one at most.
      name: name of the optimizer.
      **kwargs: further arguments of Keras' `Adam`.

    Raises:
      ValueError: a variable is in two groups.
    """
    self._scale = None
    super().__init__(learning_rate, name=name, **kwargs)
    scales = {}
    for rate, variables in groups:
      for variable in variables:
        key = self._var_key(variable)
        if key in scales:
          raise ValueError(f'{variable.name} is in two groups: leave one.')
        scales[key] = rate / learning_rate
    # A bound method, since Keras would track a dict as part of checkpoints.
    self._scale_of = scales.get

  @property
  def learning_rate(self):
    """That of the variables in no group; within a step, the variable's own."""
    rate = super().learning_rate
    return rate if self._scale is None else self._scale * rate

  @learning_rate.setter
  def learning_rate(self, value):
    tf.keras.optimizers.Adam.learning_rate.fset(self, value)

  def update_step(self, gradient, variable):
    """Adam's step at the variable's rate, which Adam reads when it begins."""
    self._scale = self._scale_of(self._var_key(variable))
    try:
      super().update_step(gradient, variable)
    finally:
      self._scale = None
