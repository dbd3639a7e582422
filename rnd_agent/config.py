"""Every number of a run but its environment's, each with its source.

`PPOConfig` and `RNDConfig` are the algorithm's numbers, `ComputeConfig` says
how they are computed, which changes no result, and `TrainConfig` holds the
parameters of `train_eval`. The first three are bound by gin under their own
names, the last as `train_eval.*`. The defaults are the paper's (Burda et al.
2018, arXiv 1810.12894, appendix A.4, tables 4 and 5) or the authors' code's.
`configs/rnd_ppo.gin` repeats them as a lab notebook; how environments are
preprocessed is `environments.EnvironmentConfig`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Optional, Sequence

import gin

from rnd_agent.common import parameters
from rnd_agent.common.parameters import CODE
from rnd_agent.common.parameters import PAPER
from rnd_agent.common.parameters import parameter

# Threads and lanes: TensorFlow ends the process where there can be no more.
_MOST_PARALLEL = 4096
_MOST_ITERATIONS = 10**9
_ANOTHER_RUN = parameters.Change.ANOTHER_RUN
_HARMLESS = parameters.Change.HARMLESS


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
    adam_epsilon: Adam's epsilon; 1e-8 in the authors' code (Keras: 1e-7). A
      weight without gradient is divided by it.
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

  importance_ratio_clipping: float = parameter(0.1, above=0, source=PAPER)
  gae_lambda: float = parameter(0.95, at_least=0, at_most=1, source=PAPER)
  entropy_regularization: float = parameter(0.001, at_least=0, source=PAPER)
  value_loss_coefficient: float = parameter(0.5, at_least=0, source=CODE)
  value_clipping: float = parameter(0.0, at_least=0, zero='off', source=CODE)
  learning_rate: float = parameter(1e-4, above=0, source=PAPER)
  value_learning_rate: Optional[float] = parameter(
      None, above=0, none='PPOConfig.learning_rate', source=PAPER
  )
  adam_epsilon: float = parameter(1e-8, above=0, source=CODE)
  gradient_clipping: float = parameter(
      0.0, at_least=0, zero='off', unit='global norm', source=CODE
  )
  normalize_advantages: bool = parameter(False, source=CODE)
  shuffle_minibatches: bool = parameter(False, source=CODE)
  sequence_length: Optional[int] = parameter(
      None, at_least=1, none='whole rollouts', unit='agent steps', source=CODE
  )
  epsilon_greedy: float = parameter(
      0.0, at_least=0, below=1, zero='off', source=CODE
  )

  def __post_init__(self):
    parameters.check(self)


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
    normalize_rewards: whether intrinsic rewards are divided by the standard
      deviation of their discounted return.
    variance_epsilon: added to variances before the square root: a pixel that
      never changes is divided by its root.
  """

  intrinsic_coefficient: float = parameter(
      1.0, at_least=0, zero='no bonus', source=PAPER
  )
  extrinsic_coefficient: float = parameter(2.0, at_least=0, source=PAPER)
  discount_int: float = parameter(
      0.99, at_least=0, at_most=1, unit='per agent step', source=PAPER
  )
  discount_ext: float = parameter(
      0.999, at_least=0, at_most=1, unit='per agent step', source=PAPER
  )
  predictor_proportion: Optional[float] = parameter(
      None, above=0, at_most=1, none='min(1, 32 / environments)', source=PAPER
  )
  predictor_learning_rate: Optional[float] = parameter(
      None, above=0, none='PPOConfig.learning_rate', source=PAPER
  )
  observation_clip: float = parameter(
      5.0, above=0, unit='standard deviations', source=PAPER
  )
  episodic_intrinsic: bool = parameter(False, source=PAPER)
  bonus_at_end: str = parameter(
      'reset', choices=('reset', 'terminal'), source=CODE
  )
  normalize_rewards: bool = parameter(True, source=PAPER)
  variance_epsilon: float = parameter(1e-8, above=0)

  def __post_init__(self):
    parameters.check(self)

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

  intra_op_threads: Optional[int] = parameter(
      None, at_least=1, at_most=_MOST_PARALLEL
  )
  inter_op_threads: Optional[int] = parameter(
      None, at_least=1, at_most=_MOST_PARALLEL, none='one per core'
  )
  devices: Optional[Sequence[str]] = parameter(None)
  lanes: Optional[int] = parameter(None, at_least=1, at_most=_MOST_PARALLEL)
  micro_batch_size: Optional[int] = parameter(None, at_least=1, unit='steps')
  environment_groups: Optional[int] = parameter(
      None, at_least=1, at_most=_MOST_PARALLEL
  )
  jit_compile: bool = parameter(False)

  def __post_init__(self):
    parameters.check(self)
    if isinstance(self.devices, str) or self.devices == ():
      raise ValueError(
          f'ComputeConfig.devices = {self.devices!r}: choose a list such as '
          "['GPU:0'], or None for all GPUs"
      )

  def groups_for(self, num_environments: int, num_workers: int) -> int:
    """Groups of that many environments over that many processes."""
    if self.environment_groups is None:
      return 2 if num_environments >= 2 * num_workers else 1
    if self.environment_groups * num_workers > num_environments:
      raise ValueError(
          f'ComputeConfig.environment_groups = {self.environment_groups}: '
          f'every one of {num_workers} workers needs an environment of each '
          f'group, and there are {num_environments}: choose at most '
          f'{max(1, num_environments // num_workers)}.'
      )
    return self.environment_groups


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """The parameters of `train_eval` that gin binds, as `train_eval.*`.

  Attributes:
    env_name: The environment, `suite:name`.
    num_parallel_environments: B, environments stepped together.
    num_workers: Processes that step them; None for one per core.
    parallel_environments: What steps them: 'sharded', our
      `ShardedPyEnvironment`, or 'tf_agents', for comparison, TF-Agents'
      `ParallelPyEnvironment`: a process for each, whatever `num_workers` is
      (evaluations keep to it), no saved environments, so that a run which is
      continued begins new episodes, and no failure survived.
    rollout_length: T, agent steps of each environment in an iteration.
    num_iterations: Rollouts of each environment; 0 for an endless run.
    num_minibatches: Parts of a rollout, in whole environments.
    num_epochs: Passes over a rollout.
    seed: Of everything random in the run.
    random_rollouts: Rollouts of a random agent that start the statistics.
    eval_interval: Iterations between evaluations; 0 for none.
    num_eval_episodes: Episodes of an evaluation.
    checkpoint_interval: Iterations between checkpoints.
    checkpoints_to_keep: How many of the last checkpoints stay.
    summary_interval: Iterations between summaries for TensorBoard.
    video_interval: Iterations between films of an episode; None for one at
      every evaluation, 0 for none.
    target_return: Mean score of the last episodes at which to stop, or None.
    precision: 'float32', or 'mixed_bfloat16' for the networks' torsos.
    bonus: The class of the intrinsic reward, a `Bonus`. One of your own is
      named with its module, `@my_module.MyBonus`, see docs/extending.md.
    initial_weights: What a new run starts from: the folder of another run, or a
      checkpoint such as 'runs/x/checkpoints/iteration-50'. Taken are networks
      and statistics; optimizer, counters and environments are new, and there
      is no random agent. A run that is continued goes on from its own.
    progress: Whether the course of the run is shown; notes always are.
  """

  env_name: str = parameter(
      'atari:MontezumaRevenge', change=_ANOTHER_RUN,
      wanted="a name such as 'atari:MontezumaRevenge'",
  )
  num_parallel_environments: int = parameter(
      128, at_least=1, source=PAPER, change=_ANOTHER_RUN
  )
  num_workers: Optional[int] = parameter(
      None, at_least=1, none='one per core', unit='processes', change=_HARMLESS
  )
  parallel_environments: str = parameter(
      'sharded', choices=('sharded', 'tf_agents')
  )
  rollout_length: int = parameter(
      128, at_least=1, unit='agent steps', source=PAPER
  )
  num_iterations: int = parameter(
      30000, at_least=0, at_most=_MOST_ITERATIONS, zero='endless',
      unit='rollouts of each environment', source=PAPER, change=_HARMLESS,
  )
  num_minibatches: int = parameter(4, at_least=1, source=PAPER)
  # Epochs are unrolled.
  num_epochs: int = parameter(4, at_least=1, at_most=1000, source=PAPER)
  seed: int = parameter(1, at_least=0, below=2**31)
  random_rollouts: int = parameter(
      50, at_least=0, at_most=_MOST_ITERATIONS, zero='no statistics',
      unit='rollouts of each environment', source=CODE,
      former_name='random_steps',
  )
  eval_interval: int = parameter(
      100, at_least=0, at_most=_MOST_ITERATIONS, zero='no evaluation',
      unit='iterations', change=_HARMLESS,
  )
  num_eval_episodes: int = parameter(5, at_least=1, change=_HARMLESS)
  checkpoint_interval: int = parameter(
      50, at_least=1, at_most=_MOST_ITERATIONS, unit='iterations',
      change=_HARMLESS,
  )
  checkpoints_to_keep: int = parameter(
      3, at_least=1, at_most=_MOST_ITERATIONS, change=_HARMLESS
  )
  summary_interval: int = parameter(
      1, at_least=1, at_most=_MOST_ITERATIONS, unit='iterations',
      change=_HARMLESS,
  )
  video_interval: Optional[int] = parameter(
      None, at_least=0, at_most=_MOST_ITERATIONS, zero='no films',
      none='one at every evaluation', unit='iterations', change=_HARMLESS,
  )
  target_return: Optional[float] = parameter(None, change=_HARMLESS)
  precision: str = parameter('float32', choices=('float32', 'mixed_bfloat16'))
  bonus: Optional[Callable[..., Any]] = parameter(
      None, none='RandomNetworkDistillation', source=PAPER, change=_ANOTHER_RUN
  )
  initial_weights: Optional[str] = parameter(
      None, wanted="a run's folder", change=_HARMLESS
  )
  progress: bool = parameter(True, change=_HARMLESS)

  def __post_init__(self):
    parameters.check(self, owner='train_eval')
