"""The algorithm's numbers, each with its place in the paper.

Two frozen dataclasses, bound by gin, hold every number of the algorithm; a
third says how it is computed, which changes no result. The defaults are the
paper's (Burda et al. 2018, arXiv 1810.12894, appendix A.4, tables 4 and 5).
`configs/rnd_ppo.gin` repeats them as a lab notebook.
"""

from __future__ import annotations

import dataclasses
from typing import Optional, Sequence

import gin

# Threads and lanes: TensorFlow ends the process where there can be no more.
_MOST_PARALLEL = 4096
BONUS_AT_END = ('reset', 'terminal')


_TOO_LARGE = 1e30  # Within float32, and so are its squares' roots.


def _require(condition: bool, message: str):
  if not condition:
    raise ValueError(message)


def _is_count(value) -> bool:
  return type(value) is int and value >= 1


def _check_finite(config):
  """Raises ValueError for a NaN or an infinity in any numeric field."""
  for field in dataclasses.fields(config):
    value = getattr(config, field.name)
    if isinstance(value, (float, int)):
      _require(
          abs(value) < _TOO_LARGE,
          f'{type(config).__name__}.{field.name} = {value!r:.40}: give a '
          'finite number below 1e30.',
      )


def _check_rate(name: str, rate: Optional[float]):
  """Raises ValueError for a learning rate of a group that cannot be."""
  _require(
      rate is None or rate > 0,
      f'{name} = {rate}: must be above 0, or None for '
      'PPOConfig.learning_rate.',
  )


@gin.configurable(module='rnd_agent')
@dataclasses.dataclass(frozen=True)
class PPOConfig:
  """Numbers of Proximal Policy Optimization.

  Attributes:
    importance_ratio_clipping: epsilon; ratios are clipped to [1-eps, 1+eps].
    gae_lambda: lambda of the generalized advantage estimate, both streams.
    entropy_regularization: coefficient of the entropy bonus.
    value_loss_coefficient: factor of the squared error of *each* value head.
    value_clipping: largest change of a value that an update is rewarded for;
      0 turns it off.
    learning_rate: Adam's, of policy, values and predictor; constant.
    value_learning_rate: of what only the values use, their branch and heads;
      None: `learning_rate`. The trunk is shared and follows the policy's.
    adam_epsilon: Adam's epsilon; 1e-8 in the authors' code (Keras: 1e-7).
    gradient_clipping: largest global gradient norm; 0 turns it off.
    normalize_advantages: whether the combined advantages are shifted and
      scaled to mean 0, standard deviation 1 over a rollout's real steps.
    shuffle_minibatches: whether the sequences are dealt anew to the
      minibatches in every epoch. Off, as in the authors' code: minibatches
      are contiguous blocks of environments.
    sequence_length: agent steps of a sequence, the unit dealt to minibatches
      and the span of a recurrent core's back-propagation (truncated at its
      start, where the stored state stands); divides the rollout. None, or
      more than the rollout: all of it, as in the authors' code.
    epsilon_greedy: probability, [0, 1), of a uniformly random action instead
      of the policy's in collection; for discrete actions.
  """

  importance_ratio_clipping: float = 0.1
  gae_lambda: float = 0.95
  entropy_regularization: float = 0.001
  value_loss_coefficient: float = 0.5
  value_clipping: float = 0.0
  learning_rate: float = 1e-4
  value_learning_rate: Optional[float] = None
  adam_epsilon: float = 1e-8
  gradient_clipping: float = 0.0
  normalize_advantages: bool = False
  shuffle_minibatches: bool = False
  sequence_length: Optional[int] = None
  epsilon_greedy: float = 0.0

  def __post_init__(self):
    _check_finite(self)
    _require(
        self.importance_ratio_clipping > 0,
        'PPOConfig.importance_ratio_clipping = '
        f'{self.importance_ratio_clipping}: must be above 0 (the paper: 0.1).',
    )
    _require(
        0 <= self.gae_lambda <= 1,
        f'PPOConfig.gae_lambda = {self.gae_lambda}: must lie in [0, 1].',
    )
    _require(
        self.learning_rate > 0,
        f'PPOConfig.learning_rate = {self.learning_rate}: must be above 0.',
    )
    _require(
        self.sequence_length is None or _is_count(self.sequence_length),
        f'PPOConfig.sequence_length = {self.sequence_length!r}: must be 1 or '
        'more, or None for whole rollouts.',
    )
    _check_rate('PPOConfig.value_learning_rate', self.value_learning_rate)
    _require(
        0 <= self.epsilon_greedy < 1,
        f'PPOConfig.epsilon_greedy = {self.epsilon_greedy}: must lie in '
        '[0, 1).',
    )
    _require(
        self.adam_epsilon > 0,
        f'PPOConfig.adam_epsilon = {self.adam_epsilon}: must be above 0: a '
        'weight without gradient would be divided by it (the paper: 1e-8).',
    )
    for name in ('entropy_regularization', 'value_loss_coefficient',
                 'value_clipping', 'gradient_clipping'):
      _require(
          getattr(self, name) >= 0,
          f'PPOConfig.{name} = {getattr(self, name)}: must not be negative.',
      )


@gin.configurable(module='rnd_agent')
@dataclasses.dataclass(frozen=True)
class RNDConfig:
  """Numbers of Random Network Distillation.

  Attributes:
    intrinsic_coefficient: factor of the intrinsic advantage; 0 turns the
      bonus off: no predictor is built and what is left is plain PPO.
    extrinsic_coefficient: factor of the extrinsic advantage.
    discount_int: discount of the intrinsic return, per agent step.
    discount_ext: discount of the extrinsic return, per agent step.
    predictor_proportion: share of the steps that the predictor is trained on
      in each pass, (0, 1]; None: min(1, 32 / environments), the paper's rule.
    predictor_learning_rate: Adam's, of the predictor; None:
      `PPOConfig.learning_rate`.
    observation_clip: bound of the normalized observation, in standard
      deviations.
    episodic_intrinsic: whether the intrinsic return ends with the episode.
    bonus_at_end: which observation earns the last step of an episode its
      bonus: the 'reset' one that follows (the authors' code) or the
      'terminal' one.
    variance_epsilon: added to variances before the square root.
  """

  intrinsic_coefficient: float = 1.0
  extrinsic_coefficient: float = 2.0
  discount_int: float = 0.99
  discount_ext: float = 0.999
  predictor_proportion: Optional[float] = None
  predictor_learning_rate: Optional[float] = None
  observation_clip: float = 5.0
  episodic_intrinsic: bool = False
  bonus_at_end: str = 'reset'
  variance_epsilon: float = 1e-8

  def __post_init__(self):
    _check_finite(self)
    for name in ('discount_int', 'discount_ext'):
      _require(
          0 <= getattr(self, name) <= 1,
          f'RNDConfig.{name} = {getattr(self, name)}: must lie in [0, 1].',
      )
    _require(
        self.variance_epsilon > 0,
        f'RNDConfig.variance_epsilon = {self.variance_epsilon}: must be above '
        '0: a pixel that never changes would be divided by it.',
    )
    for name in ('intrinsic_coefficient', 'extrinsic_coefficient'):
      _require(
          getattr(self, name) >= 0,
          f'RNDConfig.{name} = {getattr(self, name)}: must not be negative.',
      )
    _require(
        self.predictor_proportion is None
        or 0 < self.predictor_proportion <= 1,
        f'RNDConfig.predictor_proportion = {self.predictor_proportion}: must '
        'lie in (0, 1], or be None for min(1, 32 / environments).',
    )
    _check_rate(
        'RNDConfig.predictor_learning_rate', self.predictor_learning_rate
    )
    _require(
        self.observation_clip > 0,
        f'RNDConfig.observation_clip = {self.observation_clip}: must be above '
        '0 (the paper: 5).',
    )
    _require(
        self.bonus_at_end in BONUS_AT_END,
        f'RNDConfig.bonus_at_end = {self.bonus_at_end!r}: must be one of '
        f'{BONUS_AT_END}.',
    )

  def proportion_for(self, num_environments) -> float:
    """The share of steps that trains the predictor, in (0, 1].

    The paper keeps the predictor's effective batch that of 32 environments
    whatever their number: .25 at 128, .03125 at 1024 (appendix A.4).

    Args:
      num_environments: B; anything but an int where it is not known.

    Returns:
      `predictor_proportion`, or by the paper's rule; 1 for unknown B.
    """
    if self.predictor_proportion is not None:
      return self.predictor_proportion
    if not isinstance(num_environments, int):
      return 1.0
    return min(1.0, 32.0 / num_environments)


@gin.configurable(module='rnd_agent')
@dataclasses.dataclass(frozen=True)
class ComputeConfig:
  """Threads, devices and compilation.

  Attributes:
    intra_op_threads: threads that one operation may use; None: 1 where there
      are no GPUs, since whole micro-batches run side by side instead.
    inter_op_threads: operations that may run at once; None: one per core.
    devices: names as in `tf.config.list_logical_devices()`, such as
      ('GPU:0', 'GPU:1'): the first holds variables and rollout, all share
      every minibatch. None: all GPUs, or else the processor.
    lanes: parts of a minibatch that are computed side by side; None: one per
      device, on a processor one per inter-op thread.
    micro_batch_size: steps per forward and backward pass at most; None: 128
      on a processor, on GPUs the lane's share of a minibatch.
    environment_groups: parts of the environments that are stepped in turn: one
      is stepped while the policy is evaluated for another. None: 2, where that
      leaves every worker process an environment of each.
    jit_compile: whether forward and backward passes are compiled by XLA. For
      GPUs; on processors its convolutions are far slower than oneDNN's.
  """

  intra_op_threads: Optional[int] = None
  inter_op_threads: Optional[int] = None
  devices: Optional[Sequence[str]] = None
  lanes: Optional[int] = None
  micro_batch_size: Optional[int] = None
  environment_groups: Optional[int] = None
  jit_compile: bool = False

  def groups_for(self, num_environments: int, num_workers: int) -> int:
    """Groups of that many environments over that many processes."""
    if self.environment_groups is not None:
      _require(
          self.environment_groups * num_workers <= num_environments,
          f'ComputeConfig.environment_groups = {self.environment_groups}: '
          f'every one of {num_workers} workers needs an environment of each '
          f'group, and there are {num_environments}: choose at most '
          f'{max(1, num_environments // num_workers)}.',
      )
      return self.environment_groups
    return 2 if num_environments >= 2 * num_workers else 1

  def __post_init__(self):
    for name in ('intra_op_threads', 'inter_op_threads', 'lanes',
                 'micro_batch_size', 'environment_groups'):
      value = getattr(self, name)
      if value is None:
        continue
      if not _is_count(value):
        raise ValueError(
            f'ComputeConfig.{name} = {value!r}: must be 1 or more, or None.'
        )
      if name != 'micro_batch_size' and value > _MOST_PARALLEL:
        raise ValueError(
            f'ComputeConfig.{name} = {value}: choose at most {_MOST_PARALLEL}, '
            'or None.'
        )
    if isinstance(self.devices, str) or self.devices == ():
      raise ValueError(
          f'ComputeConfig.devices = {self.devices!r}: must be a list such as '
          "['GPU:0'], or None for all GPUs."
      )
