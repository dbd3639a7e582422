"""Puts a config's parts together: environments, agent, trainer."""

from __future__ import annotations

from typing import Any, Optional

from absl import logging
import numpy as np
import tensorflow as tf
from tf_agents.specs import tensor_spec

from rnd_agent import config as config_lib
from rnd_agent import networks
from rnd_agent import rnd_ppo_agent
from rnd_agent.bonuses import base
from rnd_agent.bonuses import counts  # noqa: F401, registers for gin
from rnd_agent.bonuses import drnd  # noqa: F401, likewise
from rnd_agent.bonuses import dynamics  # noqa: F401, likewise
from rnd_agent.bonuses import e3b  # noqa: F401, likewise
from rnd_agent.bonuses import mixtures  # noqa: F401, likewise
from rnd_agent.bonuses import noveld  # noqa: F401, likewise
from rnd_agent.bonuses import rnd as rnd_lib
from rnd_agent.common import film_files
from rnd_agent.common import machine
from rnd_agent.common import parameters
from rnd_agent.environments import single
from rnd_agent.environments import suites
from rnd_agent.environments.vector import sharded
from rnd_agent.hosting import policy as rnd_ppo_policy
from rnd_agent.layers import dnc  # noqa: F401, registers DNCCell for gin
from rnd_agent.learning import compute
from rnd_agent.learning import optimizers
from rnd_agent.learning import replicas
from rnd_agent.runs import checkpoint_files
from rnd_agent.runs import checkpoints
from rnd_agent.runs import progress as progress_lib
from rnd_agent.settings import gin_files
from rnd_agent.training import cluster
from rnd_agent.training import evaluation
from rnd_agent.training import filming
from rnd_agent.training import trainer

_EVALUATION_SEED = 1_000_003
_SLOW_BFLOAT16 = 2.0  # Times the time in float32, from which on it is said.


def build_agent(
    time_step_spec,
    action_spec,
    *,
    num_epochs: int,
    num_minibatches: int,
    precision: str = 'float32',
    seed: int = 0,
    frame_channels: Optional[int] = None,
    bonus: Optional[type[base.Bonus]] = None,
    ppo_config: Optional[config_lib.PPOConfig] = None,
    rnd_config: Optional[config_lib.RNDConfig] = None,
    compute_config: Optional[config_lib.ComputeConfig] = None,
) -> rnd_ppo_agent.RNDPPOAgent:
  """The agent that a config describes.

  Args:
    time_step_spec: nest of TensorSpec.
    action_spec: nest of BoundedTensorSpec.
    num_epochs: passes over a rollout.
    num_minibatches: parts of a rollout.
    precision: of the networks' torsos.
    seed: of the agent's generator; the networks' weights follow the global
      seed.
    frame_channels: size of one frame along the observation's last axis, see
      `RandomNetworkDistillation`.
    bonus: class of the intrinsic reward, made as `Bonus` is; None: Random
      Network Distillation.
    ppo_config: as gin binds it by default.
    rnd_config: as gin binds it by default; with intrinsic coefficient 0 there
      is no bonus.
    compute_config: as gin binds it by default.

  Returns:
    An `RNDPPOAgent`.

  Raises:
    ConfigError: the bonus is no class of `Bonus`.
  """
  with compute.Lanes(compute_config).on_device():
    return _agent(
        time_step_spec, action_spec, num_epochs, num_minibatches, precision,
        seed, frame_channels, ppo_config or config_lib.PPOConfig(),
        rnd_config or config_lib.RNDConfig(), compute_config,
        _bonus_class(bonus),
    )


def _bonus_class(bonus: Any) -> type[base.Bonus]:
  """What `train_eval.bonus` stands for; ConfigError where it is no bonus."""
  if bonus is None:
    return rnd_lib.RandomNetworkDistillation
  if isinstance(bonus, type) and issubclass(bonus, base.Bonus):
    return bonus
  raise gin_files.ConfigError(
      f'train_eval.bonus = {parameters.shortened(bonus)}: choose a class of '
      'rnd_agent.Bonus, such as @RandomNetworkDistillation'
  )


def _agent(
    time_step_spec, action_spec, num_epochs, num_minibatches, precision, seed,
    frame_channels, ppo, config, compute_config, bonus_class,
) -> rnd_ppo_agent.RNDPPOAgent:
  observation_spec = time_step_spec.observation
  bonus = None
  if config.intrinsic_coefficient > 0:
    bonus = bonus_class(
        observation_spec, config, action_spec=action_spec,
        frame_channels=frame_channels, precision=precision,
    )
  actor_critic = networks.ActorCriticNetwork(
      observation_spec, action_spec, precision=precision
  )
  return rnd_ppo_agent.RNDPPOAgent(
      time_step_spec,
      action_spec,
      _optimizer(ppo, config, actor_critic, bonus),
      actor_critic_net=actor_critic,
      bonus=bonus,
      rnd_config=config,
      num_minibatches=num_minibatches,
      normalize_advantages=ppo.normalize_advantages,
      shuffle_minibatches=ppo.shuffle_minibatches,
      sequence_length=ppo.sequence_length,
      generator=tf.random.Generator.from_seed(seed),
      epsilon_greedy=ppo.epsilon_greedy,
      compute_config=compute_config,
      learning_rate_schedule=ppo.learning_rate_schedule,
      importance_ratio_clipping=ppo.importance_ratio_clipping,
      lambda_value=ppo.gae_lambda,
      discount_factor=config.discount_ext,
      entropy_regularization=ppo.entropy_regularization,
      value_pred_loss_coef=ppo.value_loss_coefficient,
      value_clipping=ppo.value_clipping,
      gradient_clipping=ppo.gradient_clipping,
      num_epochs=num_epochs,
      use_gae=True,
      use_td_lambda_return=True,
      normalize_rewards=False,
      normalize_observations=False,
      kl_cutoff_factor=0.0,
      initial_adaptive_kl_beta=0.0,
      compute_value_and_advantage_in_train=False,
      train_step_counter=tf.Variable(0, dtype=tf.int64, trainable=False),
  )


def _optimizer(
    ppo, config, actor_critic, bonus
) -> optimizers.GroupedAdam:
  """One Adam for all; values and predictor may have rates of their own."""
  groups = []
  if ppo.value_learning_rate is not None:
    actor_critic.create_variables(actor_critic.input_tensor_spec)
    groups.append((ppo.value_learning_rate, actor_critic.value_variables))
  if bonus is not None and config.predictor_learning_rate is not None:
    groups.append((config.predictor_learning_rate, bonus.trained_variables))
  return optimizers.GroupedAdam(
      ppo.learning_rate, groups, epsilon=ppo.adam_epsilon
  )


def _number_of_groups(
    root_dir: str,
    config: config_lib.ComputeConfig,
    num_environments: int,
    num_workers: Optional[int],
) -> int:
  """How many groups; those that a run had before, whatever the workers.

  In their order the policy draws its random numbers.
  """
  saved = checkpoints.read_json(root_dir, 'progress').get('environment_groups')
  if config.environment_groups is None and isinstance(saved, int) and (
      1 <= saved <= num_environments // (num_workers or 1)
  ):
    return saved
  return config.groups_for(
      num_environments,
      num_workers or min(machine.available_cores(), num_environments),
  )


def _environments_seed(seed: int, iteration: int) -> int:
  """The environments' seed: a resumed run does not repeat its beginning."""
  if not iteration:
    return seed
  return int(np.random.SeedSequence([seed, iteration]).generate_state(1)[0])


def build_trainer(
    root_dir: str,
    config: config_lib.TrainConfig,
    allow_config_change: bool = False,
) -> trainer.Trainer:
  """Environments, agent and trainer of a config; see `train_eval`.

  Args:
    root_dir: the run's folder, which exists.
    config: of the run; the other configs are as gin binds them.
    allow_config_change: whether to resume a run with parameters that make it
      another one.

  Returns:
    A `Trainer` that has not started.

  Raises:
    ConfigError: settings that do not go together.
  """
  compute_config = config_lib.ComputeConfig()
  compute.set_threads(compute_config)
  cluster.join()
  is_chief = replicas.is_chief()
  tf.keras.utils.set_random_seed(config.seed)
  environment = _environments(root_dir, config, compute_config)
  try:
    time_step_spec = tensor_spec.from_spec(environment.time_step_spec())
    action_spec = tensor_spec.from_spec(environment.action_spec())
    agent = build_agent(
        time_step_spec, action_spec, num_epochs=config.num_epochs,
        num_minibatches=config.num_minibatches, precision=config.precision,
        seed=cluster.own_seed(config.seed),
        frame_channels=frame_channels(
            config.env_name, time_step_spec.observation
        ),
        bonus=config.bonus,
    )
    _check_random_agent(agent.bonus, config)
    if config.precision == 'mixed_bfloat16' and is_chief:
      _warn_of_slow_bfloat16(time_step_spec.observation)
    evaluator, episode_recorder = None, None
    if is_chief:
      evaluator, episode_recorder = _evaluation(agent, config)
    return trainer.Trainer(
        root_dir, agent, environment, config,
        evaluator=evaluator,
        episode_recorder=episode_recorder,
        frames_per_step=_frames_per_step(config.env_name),
        allow_config_change=allow_config_change,
        progress=progress_lib.Progress(
            config.num_iterations, enabled=config.progress and is_chief,
            env_name=config.env_name, prefix=cluster.prefix(),
        ),
    )
  except BaseException:
    environment.close()
    raise


def _check_random_agent(
    bonus: Optional[base.Bonus], config: config_lib.TrainConfig
) -> None:
  """Raises ConfigError where a bonus has nothing to start from."""
  if bonus is not None and bonus.needs_random_agent and not (
      config.random_rollouts or config.initial_weights
  ):
    raise gin_files.ConfigError(
        'train_eval.random_rollouts = 0: the bonus needs observation '
        'statistics to start from: choose 1 or more (the authors\' code: '
        '50), or turn the bonus off with RNDConfig.intrinsic_coefficient = 0'
    )


def _warn_of_slow_bfloat16(observation_spec) -> None:
  """Says so where bfloat16, chosen for its speed, is the slower one."""
  if all(len(spec.shape) < 3 for spec in tf.nest.flatten(observation_spec)):
    return  # No images: no convolutions, which are what is slow.
  with compute.Lanes().on_device():
    slowdown = compute.bfloat16_slowdown()
  if slowdown > _SLOW_BFLOAT16:
    logging.warning(
        "train_eval.precision = 'mixed_bfloat16': convolutions learn %.1f "
        "times slower here than with 'float32'", slowdown,
    )


def _environments(
    root_dir: str,
    config: config_lib.TrainConfig,
    compute_config: config_lib.ComputeConfig,
):
  """The environments to learn from, as one batched `PyEnvironment`."""
  seed = _environments_seed(
      config.seed, checkpoint_files.latest_iteration(root_dir)
  )
  num_environments = config.num_parallel_environments // replicas.number()
  first = 0
  if replicas.workers() is not None:
    first = replicas.workers().index * num_environments
  if config.parallel_environments == 'tf_agents':
    return single.make_parallel(
        config.env_name, num_environments, seed, first_environment=first
    )
  return sharded.ShardedPyEnvironment(
      config.env_name, num_environments, config.num_workers, seed,
      num_groups=_number_of_groups(
          root_dir, compute_config, num_environments, config.num_workers
      ),
      first_environment=first,
  )


def _frames_per_step(env_name: str) -> int:
  return suites.resolved_config(env_name).frame_skip or 1


def frame_channels(env_name: str, observation_spec) -> Optional[int]:
  """Size of one frame along the last axis of an environment's observations.

  Args:
    env_name: `suite:name`, preprocessed as gin binds `EnvironmentConfig`.
    observation_spec: TensorSpec of its observations, or a dict of such.

  Returns:
    How many of the last axis's numbers the newest frame has; None of
    observations of several parts, which are never stacked.
  """
  if isinstance(observation_spec, dict):
    return None
  stacked_frames = suites.resolved_config(env_name).stacked_frames or 1
  return observation_spec.shape[-1] // stacked_frames


def _evaluation(agent, config: config_lib.TrainConfig):
  """Plays and films episodes, with environments and actions of their own.

  Returns:
    An `Evaluator`, and an `EpisodeRecorder`; None where nothing is to be seen.
  """
  env_name, num_episodes = config.env_name, config.num_eval_episodes
  num_workers, seed = config.num_workers, config.seed + _EVALUATION_SEED
  # A generator of its own: evaluations leave training as it is.
  generator = tf.random.Generator.from_seed(seed)
  policy = rnd_ppo_policy.RNDPPOPolicy(
      agent.time_step_spec, agent.action_spec, agent.actor_critic_net,
      clip=True, collect=False, generator=generator,
  )
  evaluator = evaluation.Evaluator(
      lambda: sharded.ShardedPyEnvironment(
          env_name, num_episodes,
          min(num_workers or machine.available_cores(), num_episodes), seed,
          num_groups=1,
      ),
      policy, generator, seed,
  )
  speed = _film_speed(env_name)
  if speed is None:
    return evaluator, None
  return evaluator, filming.EpisodeRecorder(
      lambda: sharded.ShardedPyEnvironment(
          env_name, 1, 1, seed, num_groups=1
      ),
      policy, speed,
  )


def _film_speed(env_name: str) -> Optional[float]:
  """Agent steps per second of the game; None where nothing is to be seen."""
  environment = suites.make(env_name)
  environment.close()
  if environment.render_mode != 'rgb_array':
    if 'rgb_array' in environment.metadata.get('render_modes', ()):
      logging.warning(
          '%s says that it gives pictures but takes no render_mode: there will '
          'be no films', env_name,
      )
    return None
  return film_files.frames_per_second(
      environment.metadata, _frames_per_step(env_name)
  )
