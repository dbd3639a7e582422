"""All parameters of a run except its environment's, with their sources.

`PPOConfig` and `RNDConfig` are the algorithm's numbers, `ComputeConfig` has
threads, devices and the like, which change no result, and `TrainConfig` has the
parameters of `train_eval`. Gin binds the first three under their own names, the
last as `train_eval.*`. The defaults are those of the paper (Burda et al. 2018,
arXiv 1810.12894, appendix A.4, tables 4 and 5) or of the authors' code.
`configs/rnd_ppo.gin` repeats them with comments. The preprocessing of
environments is `environments.EnvironmentConfig`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Optional, Sequence

import gin

from rnd_agent.common import parameters
from rnd_agent.common import schedules
from rnd_agent.common.parameters import CODE
from rnd_agent.common.parameters import PAPER
from rnd_agent.common.parameters import parameter

# Threads and lanes: TensorFlow aborts the process if it cannot make so many.
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
    value_clipping: a value's error is not reduced further once it has changed
      by more than this since collection; 0 turns clipping off.
    learning_rate: Adam's, for policy, values and predictor.
    learning_rate_schedule: factor of all learning rates over agent steps, see
      `common.schedules`; None: constant.
    value_learning_rate: for the branch and heads that only the values use;
      None: `learning_rate`. The shared trunk always uses `learning_rate`.
    adam_epsilon: Adam's epsilon; 1e-8 in the authors' code (Keras: 1e-7).
    gradient_clipping: largest global gradient norm; 0 turns clipping off.
    normalize_advantages: whether the combined advantages are shifted and
      scaled to mean 0, standard deviation 1 over a rollout's real steps.
    shuffle_minibatches: whether sequences are assigned to minibatches at random
      in every epoch. If not, as in the authors' code, minibatches are
      contiguous blocks of environments, the same in every epoch.
    sequence_length: agent steps of a sequence; must divide the rollout. A
      minibatch is a set of whole sequences, and gradients of a recurrent core
      end at a sequence's start, where it begins with the state recorded in
      collection. None, or more than the rollout: the whole rollout, as in the
      authors' code.
    epsilon_greedy: probability, [0, 1), of a uniformly random action instead
      of the policy's in collection; discrete actions only.
  """

  importance_ratio_clipping: float = parameter(0.1, above=0, source=PAPER)
  gae_lambda: float = parameter(0.95, at_least=0, at_most=1, source=PAPER)
  entropy_regularization: float = parameter(0.001, at_least=0, source=PAPER)
  value_loss_coefficient: float = parameter(0.5, at_least=0, source=CODE)
  value_clipping: float = parameter(0.0, at_least=0, zero='off', source=CODE)
  learning_rate: float = parameter(1e-4, above=0, source=PAPER)
  learning_rate_schedule: Optional[Sequence[Sequence[float]]] = parameter(
      None, none='constant', unit='(agent steps, factor)', source=PAPER
  )
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
    schedules.check(
        'PPOConfig.learning_rate_schedule', self.learning_rate_schedule
    )


@gin.configurable(module='rnd_agent')
@dataclasses.dataclass(frozen=True)
class RNDConfig:
  """Numbers of Random Network Distillation.

  Attributes:
    intrinsic_coefficient: factor of the intrinsic advantage; 0 turns the bonus
      off: no predictor is built, and the agent is a plain PPO agent.
    extrinsic_coefficient: factor of the extrinsic advantage.
    intrinsic_schedule: factor of `intrinsic_coefficient` over agent steps, see
      `common.schedules`; None: constant.
    extrinsic_schedule: likewise of `extrinsic_coefficient`.
    discount_int: discount of the intrinsic return, per agent step.
    discount_ext: discount of the extrinsic return, per agent step.
    predictor_proportion: share of the steps that the predictor is trained on
      in each pass, (0, 1]; None: min(1, 32 / environments), the paper's rule.
    predictor_learning_rate: Adam's, of the predictor; None:
      `PPOConfig.learning_rate`.
    observation_clip: bound of the normalized observation, in standard
      deviations.
    episodic_intrinsic: whether the intrinsic return ends with the episode.
    bonus_at_end: the observation whose bonus the last step of an episode gets:
      'reset', the first of the next episode (as in the authors' code), or
      'terminal', the last of this one.
    normalize_rewards: whether intrinsic rewards are divided by the standard
      deviation of their discounted return.
    variance_epsilon: added to variances before the square root, so that a
      pixel that never changes is not divided by 0.
  """

  intrinsic_coefficient: float = parameter(
      1.0, at_least=0, zero='no bonus', source=PAPER
  )
  extrinsic_coefficient: float = parameter(2.0, at_least=0, source=PAPER)
  intrinsic_schedule: Optional[Sequence[Sequence[float]]] = parameter(
      None, none='constant', unit='(agent steps, factor)', source=PAPER
  )
  extrinsic_schedule: Optional[Sequence[Sequence[float]]] = parameter(
      None, none='constant', unit='(agent steps, factor)', source=PAPER
  )
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
    for name in ('intrinsic_schedule', 'extrinsic_schedule'):
      schedules.check(f'RNDConfig.{name}', getattr(self, name))

  def proportion_for(self, num_environments) -> float:
    """The share of steps that trains the predictor, in (0, 1].

    The paper trains the predictor on as many steps as 32 environments give,
    whatever their number: .25 of them at 128, .03125 at 1024 (appendix A.4).

    Args:
      num_environments: B; None or a tensor if it is not known.

    Returns:
      `predictor_proportion`, or if that is None the paper's share; 1 if B is
      not known.
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
    intra_op_threads: threads that one operation may use; None: 1 without GPUs,
      since whole micro-batches are computed in parallel instead.
    inter_op_threads: operations that may run at once; None: one per core.
    devices: names as in `tf.config.list_logical_devices()`, such as
      ('GPU:0', 'GPU:1'): the first holds variables and rollout, and every
      minibatch is divided among all. None: all GPUs, without any the processor.
    lanes: parts of a minibatch that are computed in parallel; None: one per
      device, on a processor one per inter-op thread.
    micro_batch_size: largest number of steps in one forward and backward pass;
      None: 128 on a processor, on GPUs the lane's share of a minibatch.
    environment_groups: groups of environments that are stepped in turn: one is
      stepped while the policy is evaluated for another. None: 2 if every worker
      process then has an environment of each group, else 1.
    jit_compile: whether XLA compiles the forward and backward passes. Meant for
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
    """The number of groups, `environment_groups` or its default.

    Args:
      num_environments: B.
      num_workers: Processes that step them.

    Raises:
      ValueError: A worker would have no environment of some group.
    """
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
    parallel_environments: The class that steps them: 'sharded' is this
      package's `ShardedPyEnvironment`; 'tf_agents' is TF-Agents'
      `ParallelPyEnvironment`, for comparisons. It has a process for each
      environment (`num_workers` then concerns evaluations only), does not save
      environments, so that a resumed run begins new episodes, and an
      environment that fails ends the run.
    rollout_length: T, agent steps of each environment in an iteration.
    num_iterations: Rollouts of each environment; 0 for an endless run.
    num_minibatches: Parts of a rollout, in whole environments.
    num_epochs: Passes over a rollout.
    seed: Seed of everything random in the run.
    random_rollouts: Rollouts of a random agent, per environment, from which the
      observation statistics are initialized.
    eval_interval: Iterations between evaluations; 0 for none.
    num_eval_episodes: Episodes of an evaluation.
    checkpoint_interval: Iterations between checkpoints.
    checkpoints_to_keep: Number of the newest checkpoints that are kept.
    summary_interval: Iterations between summaries for TensorBoard.
    video_interval: Iterations between films of an episode; None for one at
      every evaluation, 0 for none.
    target_return: Mean score of the last 100 episodes at which to stop; None:
      none.
    precision: 'float32', or 'mixed_bfloat16' for the networks' torsos: faster
      where the processor computes in bfloat16, several times slower elsewhere.
    bonus: The class of the intrinsic reward, a `Bonus`; None:
      `RandomNetworkDistillation`. A class of your own is named with its module,
      `@my_module.MyBonus`, see docs/extending.md.
    initial_weights: The folder of another run, or one of its checkpoints such
      as 'runs/x/checkpoints/iteration-50', from which a new run takes the
      networks and statistics. Optimizer, counters and environments are new, and
      no random agent runs. A resumed run ignores it.
    progress: Whether progress is printed; notes always are.
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
  # The compiled update grows with the number of epochs.
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
