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

  What depends on the count of steps alone is computed once for all variables;
  Keras computes it for each, in a graph of nearly twice the size.
  """

  def __init__(
      self,
      learning_rate: float,
      groups: Sequence[tuple[float, Sequence[tf.Variable]]] = (),
      epsilon: float = 1e-7,
      name: str = 'Adam',
  ):
    """Takes the groups; the moments are made by `build`, as Adam's are.

    Args:
      learning_rate: of variables that are in no group, above 0.
      groups: `(learning rate, variables)` each; a variable is in one at most.
      epsilon: added to the root of the second moment.
      name: name of the optimizer.

    Raises:
      ValueError: a variable is in two groups.
    """
    super().__init__(learning_rate, epsilon=epsilon, name=name)
    scales = {}
    for rate, variables in groups:
      for variable in variables:
        key = self._var_key(variable)
        if key in scales:
          raise ValueError(f'{variable.name} is in two groups: leave one.')
        scales[key] = rate / learning_rate
    # Bound methods, since Keras would track dicts as parts of checkpoints.
    self._scale_of, self._scales = scales.get, {1.0, *scales.values()}
    self._size_of = None  # Of the step that is being taken, by scale.

  def apply_gradients(self, grads_and_vars, *args, **kwargs):
    """Takes Adam's step; see Keras."""
    count = tf.cast(self.iterations + 1, tf.float32)
    first, second = (
        1 - tf.pow(beta, count) for beta in (self.beta_1, self.beta_2)
    )
    root = tf.sqrt(second)
    self._size_of = {
        scale: scale * self.learning_rate * root / first
        for scale in self._scales
    }.get
    try:
      return super().apply_gradients(grads_and_vars, *args, **kwargs)
    finally:
      self._size_of = None

  def update_step(self, gradient, variable):
    """Adam's step of one variable, at the rate of its group."""
    key = self._var_key(variable)
    index = self._index_dict[key]
    first, second = self._momentums[index], self._velocities[index]
    size = self._size_of(self._scale_of(key, 1.0))
    first.assign_add((gradient - first) * (1 - self.beta_1))
    second.assign_add((tf.square(gradient) - second) * (1 - self.beta_2))
    variable.assign_sub(first * size / (tf.sqrt(second) + self.epsilon))
