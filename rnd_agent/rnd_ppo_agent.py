"""Proximal Policy Optimization with an intrinsic reward.

`RNDPPOAgent` is a TF-Agents `PPOAgent`. One iteration is a sentence: *reward,
update statistics, make targets, learn*; `learn_from` is that sentence, for the
trainer and for your own loop.

Equations: Burda et al. 2018 (arXiv 1810.12894) for the two reward streams,
Schulman et al. 2017 (1707.06347) for PPO. The update is `learning/update.py`,
the bonus is any `Bonus`.
"""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional, Sequence

import gin
import tensorflow as tf
from tf_agents.agents import data_converter
from tf_agents.agents import tf_agent
from tf_agents.agents.ppo import ppo_agent
from tf_agents.agents.ppo import ppo_utils
from tf_agents.networks import network
from tf_agents.policies import greedy_policy
from tf_agents.trajectories import time_step as ts
from tf_agents.utils import common
from tf_agents.utils import nest_utils

from rnd_agent import config as config_lib
from rnd_agent.bonuses import base
from rnd_agent.hosting import policy as policy_lib
from rnd_agent.hosting import trajectories
from rnd_agent.learning import compute
from rnd_agent.learning import replicas
from rnd_agent.learning import returns
from rnd_agent.learning import rollout as rollout_lib
from rnd_agent.learning import scheduled
from rnd_agent.learning import targets as targets_lib
from rnd_agent.learning import update as update_lib

RNDPPOLossInfo = update_lib.RNDPPOLossInfo


class Iteration(NamedTuple):
  """What an iteration made of a rollout.

  Attributes:
    raw_rewards_int: float32 `[B, T]`, the bonus before normalization.
    rewards_int: float32 `[B, T]`, normalized; 0 in boundary rows.
    targets: `Targets`, `[B, T]`.
    loss_info: `LossInfo(loss, RNDPPOLossInfo)`, means over all updates.
  """

  raw_rewards_int: tf.Tensor
  rewards_int: tf.Tensor
  targets: rollout_lib.Targets
  loss_info: tf_agent.LossInfo


@gin.configurable(
    module='rnd_agent', denylist=['time_step_spec', 'action_spec']
)
class RNDPPOAgent(ppo_agent.PPOAgent):
  """PPO with an intrinsic reward stream of its own value head and discount.

  Positional arguments and keywords of `PPOAgent` keep their order and
  meaning. Where there is a bonus, those not given take the paper's values.

  Deviations from `PPOAgent`, each a fault or a limit of the host:

  * the bootstrap is V(o_T), not V(o_{T-1}); truncated episodes bootstrap from
    V(o_LAST) (the host treats them as terminated);
  * boundary rows are masked by their step type, in every loss, statistic and
    scan, and means are over real steps only;
  * advantages are not normalized unless `normalize_advantages`;
  * minibatches of whole sequences inside `train`;
  * recurrent cores train from the states recorded in collection, where
    `actor_critic_net` holds them (the host: from zeros; so do `actor_net` and
    `value_net` of your own);
  * `train_step_counter` counts optimizer steps.
  """

  def __init__(
      self,
      time_step_spec,
      action_spec,
      *args,
      actor_critic_net: Optional[network.Network] = None,
      intrinsic_value_net: Optional[network.Network] = None,
      bonus: Optional[base.Bonus] = None,
      rnd_config: Optional[config_lib.RNDConfig] = None,
      num_minibatches: int = 1,
      normalize_advantages: bool = False,
      shuffle_minibatches: bool = False,
      sequence_length: Optional[int] = None,
      generator: Optional[tf.random.Generator] = None,
      epsilon_greedy: float = 0.0,
      compute_config: Optional[config_lib.ComputeConfig] = None,
      learning_rate_schedule: Optional[Sequence[Sequence[float]]] = None,
      rnd: Optional[base.Bonus] = None,
      **kwargs,
  ):
    """Builds policies and updates around one joint network.

    Args:
      time_step_spec: nest of TensorSpec.
      action_spec: nest of BoundedTensorSpec.
      *args: further positional arguments of `PPOAgent`: `optimizer`,
        `actor_net`, `value_net`, ...
      actor_critic_net: joint network, such as `ActorCriticNetwork`; otherwise
        `actor_net` and `value_net` are taken, which need not share anything.
      intrinsic_value_net: scalar network for the intrinsic value, beside
        `actor_net` and `value_net`; needed there when `bonus` is given.
      bonus: the intrinsic reward, such as `RandomNetworkDistillation`; None
        leaves a correct plain PPO.
      rnd_config: coefficients and discounts; those of `bonus` where there is
        one. `discount_factor`, where given, is the extrinsic discount.
      num_minibatches: parts into which the environments' sequences are dealt.
      normalize_advantages: over the real steps of the rollout.
      shuffle_minibatches: deal the sequences anew in every epoch.
      sequence_length: L, steps through which a recurrent core's gradients go
        back at most, from the state stored at the sequence's start; divides
        the T steps of a rollout. None, or more than T: T, a sequence is an
        environment's part of the rollout.
      generator: source of sampled actions, subsets and minibatches; by default
        one that TensorFlow seeds (`tf.random.set_seed`).
      epsilon_greedy: share of uniformly random actions in collection, [0, 1);
        see `RNDPPOPolicy`.
      compute_config: devices and sizes of what is computed at once; as gin
        binds it by default. Changes speed and memory, not the result.
      learning_rate_schedule: factor of the optimizer's learning rate over agent
        steps, see `common.schedules` and `follow_schedules`; None: constant.
      rnd: older name of `bonus`.
      **kwargs: further arguments of `PPOAgent`.

    Raises:
      TypeError: for arguments that are no networks, or no bonus.
      ValueError: for networks that are missing or given twice, numbers that
        contradict each other, or a learning rate that cannot be assigned.
    """
    bonus = rnd if bonus is None else bonus
    if bonus is not None and not isinstance(bonus, base.Bonus):
      raise TypeError(
          'bonus must be a Bonus, such as '
          'RandomNetworkDistillation(observation_spec, config), got '
          f'{type(bonus).__name__}.'
      )
    self._bonus = bonus
    self._rnd_config = rnd_config or (
        bonus.config if bonus is not None
        else config_lib.RNDConfig(
            intrinsic_coefficient=0.0, extrinsic_coefficient=1.0
        )
    )
    self._check_config()
    defaults = {}
    if bonus is not None:
      defaults = dict(
          trajectories.PAPER_ARGUMENTS,
          discount_factor=self._rnd_config.discount_ext,
      )
    arguments = trajectories.all_arguments(
        (time_step_spec, action_spec) + args, kwargs, defaults
    )
    self._joint_net = trajectories.joint_network(
        arguments, actor_critic_net, intrinsic_value_net, bonus
    )
    self._joint_net.create_variables(time_step_spec.observation)
    arguments['actor_net'] = self._joint_net.actor_view
    arguments['value_net'] = self._joint_net.value_view
    self._lanes = compute.Lanes(compute_config)
    self._normalize_advantages = normalize_advantages
    self._sequence_length = sequence_length
    self._generator = generator or _seeded_generator()
    super().__init__(**arguments)
    self._build_policies(arguments['greedy_eval'], epsilon_greedy)
    self._update = self._build_update(num_minibatches, shuffle_minibatches)
    if isinstance(self._optimizer, tf.keras.optimizers.Optimizer):
      # Slots in structural order: Keras stores them by index.
      self._optimizer.build(self.trained_variables)
    self._numbers = scheduled.ScheduledNumbers(
        self._rnd_config, self._optimizer, learning_rate_schedule
    )
    self._coefficients = self._numbers.coefficients
    self._compiled = {
        stage.__name__: self._lanes.compiled(stage) for stage in (
            self._rewards, self._update_statistics, self._make_targets,
            self._learn,
        )
    }

  def _check_config(self) -> None:
    """Raises an error where bonus and numbers do not go together."""
    if self._bonus is None and self._rnd_config.intrinsic_coefficient > 0:
      raise ValueError(
          'rnd_config.intrinsic_coefficient = '
          f'{self._rnd_config.intrinsic_coefficient} without a bonus: give '
          'one, or set the coefficient to 0.'
      )
    if self._bonus is not None and self._bonus.config != self._rnd_config:
      raise ValueError(
          'rnd_config differs from that of the bonus, which normalizes by its '
          f'own: {self._rnd_config} and {self._bonus.config}. Give it to the '
          'bonus alone.'
      )

  def _build_update(self, num_minibatches: int, shuffle: bool):
    """The update, with the host's numbers and the losses inherited from it."""
    return update_lib.Update(
        update_lib.UpdateNumbers(
            num_epochs=self._num_epochs,
            num_minibatches=num_minibatches,
            shuffle=shuffle,
            sequence_length=self._sequence_length,
            ratio_clipping=self._importance_ratio_clipping,
            log_prob_clipping=self._log_prob_clipping,
            value_clipping=self._value_clipping,
            value_coefficient=self._value_pred_loss_coef,
            entropy_coefficient=self._entropy_regularization,
            gradient_clipping=self._gradient_clipping,
        ),
        self._collect_policy,
        self._joint_net,
        self._bonus,
        self._optimizer,
        self.train_step_counter,
        self._lanes,
        self._generator,
        host_losses=self._host_losses,
        # The KL penalty is of a mean over the whole minibatch.
        host_losses_add_up=not self._penalizes_kl,
    )

  def _build_policies(self, greedy_eval: bool, epsilon: float) -> None:
    """Replaces the host's two policies by ours, specs and converters too."""
    def policy(collect):
      return policy_lib.RNDPPOPolicy(
          self._time_step_spec,
          self._action_spec,
          self._joint_net,
          observation_normalizer=self._observation_normalizer,
          collect=collect,
          values_in_info=not self._compute_value_and_advantage_in_train,
          intrinsic_value=self._bonus is not None,
          generator=self._generator,
          epsilon_greedy=epsilon,
      )
    evaluation_policy = policy(collect=False)
    self._sampling_policy = evaluation_policy
    if greedy_eval:
      evaluation_policy = greedy_policy.GreedyPolicy(evaluation_policy)
    collect_policy = policy(collect=True)
    training_data_spec = None
    if not self._compute_value_and_advantage_in_train:
      collected = collect_policy.trajectory_spec
      training_data_spec = collected.replace(
          policy_info=trajectories.processed_info_spec(
              collected.policy_info, self._bonus_inputs_spec()
          )
      )
    tf_agent.TFAgent.__init__(
        self,
        self._time_step_spec,
        self._action_spec,
        evaluation_policy,
        collect_policy,
        train_sequence_length=None,
        training_data_spec=training_data_spec,
        debug_summaries=self._debug_summaries,
        summarize_grads_and_vars=self._summarize_grads_and_vars,
        train_step_counter=self._train_step_counter,
    )
    self._as_trajectory = data_converter.AsTrajectory(
        self.data_context, sequence_length=None
    )

  # ---------------------------------------------------------------- parts

  @property
  def bonus(self) -> Optional[base.Bonus]:
    """The intrinsic reward, or None."""
    return self._bonus

  @property
  def rnd(self) -> Optional[base.Bonus]:
    """Older name of `bonus`."""
    return self._bonus

  @property
  def rnd_config(self) -> config_lib.RNDConfig:
    return self._rnd_config

  @property
  def actor_critic_net(self) -> network.Network:
    """The joint network."""
    return self._joint_net

  @property
  def generator(self) -> tf.random.Generator:
    """Source of sampled actions, subsets and minibatches."""
    return self._generator

  @property
  def sequence_length(self) -> Optional[int]:
    """Steps between the recurrent states that a rollout must hold."""
    return self._sequence_length

  @property
  def lanes(self) -> compute.Lanes:
    """Where it computes."""
    return self._lanes

  @property
  def sampling_policy(self):
    """The evaluation policy with sampled instead of greedy actions."""
    return self._sampling_policy

  @property
  def trained_variables(self) -> list[tf.Variable]:
    """What the optimizer changes, in structural order."""
    return self._update.trained_variables

  @property
  def learning_rate(self) -> Optional[tf.Variable]:
    """The optimizer's, to read or assign; None of an optimizer not Keras'."""
    return self._numbers.learning_rate

  def weight_items(self) -> dict:
    """What another agent can start from: networks and statistics, by name.

    A part of `checkpoint_items`; of the intrinsic returns the statistics alone,
    since the running returns belong to environments.
    """
    fresh = ('optimizer', 'generator', 'train_step', 'adaptive_kl_beta')
    of_bonus = {} if self._bonus is None else self._bonus.checkpoint_items()
    items = {
        name: item for name, item in self.checkpoint_items().items()
        if name not in (*fresh, *of_bonus)
    }
    if self._bonus is not None:
      items.update(self._bonus.weight_items())
    return items

  def checkpoint_items(self) -> dict:
    """Everything a checkpoint must hold of the agent, by name."""
    items = dict(
        actor_critic=self._joint_net,
        optimizer=self._optimizer,
        generator=self._generator,
        train_step=self.train_step_counter,
    )
    if self._bonus is not None:
      items.update(self._bonus.checkpoint_items())
    if self._observation_normalizer is not None:
      items['observation_normalizer'] = self._observation_normalizer
    if self._reward_normalizer is not None:
      items['reward_normalizer'] = self._reward_normalizer
    if self._adaptive_kl_beta is not None:
      items['adaptive_kl_beta'] = self._adaptive_kl_beta
    return items

  # ------------------------------------------------------- one iteration

  def follow_schedules(self, env_steps: int) -> dict[str, float]:
    """Sets what has a schedule, before an iteration.

    Learning rate and coefficients depend on the steps alone, so that a resumed
    run has the values of an uninterrupted one.

    Args:
      env_steps: agent steps of all environments so far.

    Returns:
      `extrinsic_coefficient` and `intrinsic_coefficient`, and `learning_rate`
      of an optimizer that has one to read.
    """
    return self._numbers.follow(env_steps)

  def learn_from(
      self,
      rollout: rollout_lib.Rollout,
      lap: Callable[[str], None] = lambda stage: None,
  ) -> Iteration:
    """One iteration: reward, update statistics, make targets, learn.

    Args:
      rollout: B environments, T steps; B divisible by `num_minibatches`.
      lap: told of every stage that is done, for a clock.

    Returns:
      An `Iteration`. `loss_info.extra.nonfinite_gradients` counts the updates
      left out, one entry for each of `trained_variables`.
    """
    raw_rewards_int = self.intrinsic_bonuses(rollout)
    lap('bonus')
    rewards_int = self.update_statistics(rollout, raw_rewards_int)
    lap('statistics')
    targets = self.make_targets(rollout, rewards_int)
    lap('targets')
    loss_info = self.learn(rollout, targets)
    lap('learn')
    return Iteration(raw_rewards_int, rewards_int, targets, loss_info)

  def train_rollout(self, rollout: rollout_lib.Rollout) -> tf_agent.LossInfo:
    """As `learn_from`; returns its losses alone."""
    return self.learn_from(rollout).loss_info

  def intrinsic_bonuses(self, rollout) -> tf.Tensor:
    """Raw rewards of the bonus, old statistics; float32 `[B, T]`."""
    return self._compiled['_rewards'](rollout)

  def update_statistics(self, rollout, raw_rewards_int) -> tf.Tensor:
    """Updates the bonus's statistics; normalized rewards, float32 `[B, T]`."""
    return self._compiled['_update_statistics'](rollout, raw_rewards_int)

  def make_targets(self, rollout, rewards_int) -> rollout_lib.Targets:
    """Advantages and returns of both streams, float32 `[B, T]`."""
    return self._compiled['_make_targets'](rollout, rewards_int)

  def learn(self, rollout, targets) -> tf_agent.LossInfo:
    """Epochs x minibatches on a rollout; counts one step per minibatch."""
    return self._compiled['_learn'](rollout, targets)

  def _rewards(self, rollout) -> tf.Tensor:
    """Raw intrinsic rewards, old statistics; float32 `[B, T]`."""
    if self._bonus is None:
      return tf.zeros_like(rollout.rewards)
    return self._bonus.rewards(rollout.steps)

  def _update_statistics(self, rollout, raw_rewards_int) -> tf.Tensor:
    """Updates the bonus's statistics; normalized rewards, float32 `[B, T]`."""
    if self._bonus is None:
      return tf.zeros_like(rollout.rewards)
    self._bonus.update_statistics(rollout.steps, raw_rewards_int)
    return self._bonus.normalized(raw_rewards_int)

  def _make_targets(self, rollout, rewards_int) -> rollout_lib.Targets:
    """Advantages and returns of both streams (paper, section 2.3)."""
    rewards_ext = rollout.rewards
    if self._reward_normalizer is not None:
      rewards_ext = self._reward_normalizer.normalize(
          rewards_ext, center_mean=False, clip_value=self._reward_norm_clipping
      )
    return targets_lib.make_targets(
        rollout, rewards_ext, rewards_int, self._rnd_config,
        coefficients=self._coefficients,
        discount_ext=self._discount_factor,
        # Monte Carlo advantages are those of lambda 1.
        gae_lambda=self._lambda if self._use_gae else 1.0,
        td_lambda_returns=self._use_td_lambda_return,
        normalize=self._normalize_advantages,
    )

  def _learn(self, rollout, targets) -> tf_agent.LossInfo:
    """Epochs x minibatches on a rollout; counts one step per minibatch."""
    batch = self._training_batch(rollout, targets)
    loss_info = self._update(self._with_bonus_inputs(batch))
    self._after_update(batch, rollout)
    return loss_info

  def compute_advantages(self, rewards, returns_, discounts, value_preds):
    """The host's method with the bootstrap repaired; see `PPOAgent`.

    Deviation: the host bootstraps from the last but one value
    (tensorflow/agents#953).
    """
    if not self._use_gae:
      return returns_ - value_preds[:, :-1]
    never = tf.zeros_like(rewards, tf.bool)
    return returns.generalized_advantages(
        rewards, discounts, value_preds, never, tf.zeros_like(rewards), never,
        self._lambda,
    )

  # ------------------------------------------------- the host's interface

  def _rollout_of(self, experience) -> rollout_lib.Rollout:
    """A trajectory `[B, T + 1, ...]` as a rollout, its values filled in."""
    info = experience.policy_info
    rows = experience.step_type.shape[1]
    if rows is not None and rows < 2:
      raise ValueError(
          'Experience for advantages must hold at least 2 time steps, the last '
          f'one for the bootstrap; got {rows}.'
      )
    if self._compute_value_and_advantage_in_train:
      batch = experience.step_type.shape[0] or tf.shape(experience.step_type)[0]
      (_, value_ext, value_int), _ = self._collect_policy.evaluate(
          experience.observation, experience.step_type,
          trajectories.core_states(info) if policy_lib.CORE_STATE in info
          else self._collect_policy.get_initial_state(batch),
      )
      value_ext, value_int = map(tf.stop_gradient, (value_ext, value_int))
    else:
      value_ext = info['value_prediction']
      value_int = info.get(
          policy_lib.INTRINSIC_VALUE, tf.zeros_like(value_ext)
      )
    steps = None if rows is None else rows - 1
    return trajectories.rollout_of(
        experience, value_ext, value_int,
        rollout_lib.steps_per_sequence(self._sequence_length, steps),
    )

  def _preprocess(self, experience):
    """Adds the targets to a trajectory's policy info; changes no variable.

    Args:
      experience: `Trajectory` `[B, T + 1, ...]` or `[T + 1, ...]`.

    Returns:
      The trajectory with the entries of `trajectories.processed_info_spec`.
    """
    outer_rank = nest_utils.get_outer_rank(
        experience.discount, self.collect_data_spec.discount
    )
    batched = experience
    if outer_rank == 1:
      batched = nest_utils.batch_nested_tensors(experience)
    rollout = self._rollout_of(batched)
    targets = self._make_targets(rollout, self._rewards_after_update(rollout))
    info = trajectories.processed_info(
        dict(batched.policy_info, value_prediction=rollout.values_ext),
        self._training_batch(rollout, targets),
        with_bonus=self._bonus is not None,
    )
    if outer_rank == 1:
      info = nest_utils.unbatch_nested_tensors(info)
    return experience.replace(policy_info=info)

  def _train(self, experience, weights):
    """Trains on a trajectory `[B, T + 1, ...]`; see `PPOAgent.train`.

    Where values and advantages are computed in collection, the experience must
    have gone through `preprocess_sequence`, and may be cut into single steps.
    """
    if self._optimizer is None:
      raise ValueError('Optimizer is undefined.')
    info = getattr(experience, 'policy_info', None)
    if (
        not self._compute_value_and_advantage_in_train
        and info is not None and 'advantage' not in info
    ):
      raise ValueError(
          'The experience holds no advantages: with '
          'compute_value_and_advantage_in_train=False call '
          'agent.train(agent.preprocess_sequence(experience)).'
      )
    experience = self._as_trajectory(experience)
    rollout, rewards_int = None, None
    if self.update_normalizers_in_train:
      rollout = self._rollout_of(experience)
      rewards_int = self._update_statistics(rollout, self._rewards(rollout))
    if not self._compute_value_and_advantage_in_train:
      batch = self._batch_of_processed(experience)
      batch = batch._replace(old_log_probs=self._old_log_probs(
          batch.dist_params, batch.actions
      ))
    else:
      if rollout is None:
        rollout = self._rollout_of(experience)
        rewards_int = self._rewards_after_update(rollout)
      batch = self._with_bonus_inputs(self._training_batch(
          rollout, self._make_targets(rollout, rewards_int)
      ))
    if weights is not None:
      batch = batch.weighted(weights)
    loss_info = self._update(batch)
    self._after_update(
        batch, rollout if self.update_normalizers_in_train else None
    )
    self._summarize(loss_info, batch)
    return loss_info

  def _batch_of_processed(self, experience) -> rollout_lib.TrainingBatch:
    """Of experience from `preprocess_sequence`, log-probs aside."""
    rows, length = experience.step_type.shape[1], self._sequence_length
    if length and rows and rows > 1 and rows % length == 1 % length:
      # The row that was the bootstrap's would be a sequence of its own.
      with tf.control_dependencies([tf.debugging.assert_equal(
          experience.policy_info['mask'][:, -1], 0.0,
          'sequence_length divides all rows but the last, which holds steps: '
          'train on whole sequences, as preprocess_sequence gives them.',
      )]):
        experience = tf.nest.map_structure(
            lambda x: tf.identity(x[:, :-1]), experience
        )
      rows -= 1
    return trajectories.batch_of_processed(
        experience, policy_lib.INTRINSIC_VALUE,
        rollout_lib.steps_per_sequence(self._sequence_length, rows),
    )

  def _rewards_after_update(self, rollout) -> tf.Tensor:
    """What `update_statistics` would return; changes nothing."""
    if self._bonus is None:
      return tf.zeros_like(rollout.rewards)
    return self._bonus.normalized_after_update(
        rollout.steps, self._rewards(rollout)
    )

  def update_observation_normalizer(self, batched_observations):
    """The host's hook for `PPOLearner`; also updates the bonus's statistics.

    Deviation: the learner hands over observations alone, so an episode's
    boundary row counts as a step here, and a bonus that needs actions cannot
    be trained this way; `train_rollout` masks it.

    Args:
      batched_observations: nest of `[B, T + 1, ...]`, in the order of time.

    Raises:
      ValueError: the bonus remembers episodes, which it is not told of here.
    """
    super().update_observation_normalizer(batched_observations)
    if self._bonus is not None:
      if self._bonus.remembers_episodes:
        raise ValueError(
            f'{type(self._bonus).__name__} remembers episodes, but PPOLearner '
            'hands over observations without their beginnings: train with '
            'agent.train.'
        )
      steps = rollout_lib.Steps.of_observations(batched_observations)
      self._bonus.update_statistics(steps, self._bonus.rewards(steps))

  # -------------------------------------------------------------- update

  def _training_batch(self, rollout, targets) -> rollout_lib.TrainingBatch:
    batch = rollout_lib.TrainingBatch(
        observations=rollout.observations,
        step_types=rollout.step_types,
        actions=rollout.actions,
        dist_params=rollout.dist_params,
        old_log_probs=self._old_log_probs(
            rollout.dist_params, rollout.actions
        ),
        old_values_ext=rollout.values_ext[:, :-1],
        old_values_int=rollout.values_int[:, :-1],
        targets=targets,
        core_states=rollout.core_states,
    )
    batch = batch.without_garbage()
    if self._bonus is None or not self._bonus.trained_variables:
      return batch
    return batch._replace(
        bonus_inputs=self._bonus.select(rollout.steps),
        bonus_mask=self._bonus.training_mask(rollout.steps),
    )

  def _with_bonus_inputs(self, batch):
    """Adds what is the same in every pass of the bonus's training."""
    if not batch.trains_bonus:
      return batch
    passes = self._num_epochs * self._bonus.training_proportion(
        batch.num_known_environments
    )
    return batch._replace(bonus_inputs=self._bonus.training_inputs(
        batch.bonus_inputs, passes
    ))

  def _bonus_inputs_spec(self):
    """Specs of what the bonus's training needs of a step.

    () where it does not learn, None without a bonus.
    """
    if self._bonus is None:
      return None
    if not self._bonus.trained_variables:
      return ()
    def zeros(spec, rows):
      return tf.nest.map_structure(
          lambda s: tf.zeros([1, rows] + s.shape.as_list(), s.dtype), spec
      )

    steps = rollout_lib.Steps.of_observations(
        zeros(self._time_step_spec.observation, 2), zeros(self._action_spec, 1)
    )
    return tf.nest.map_structure(
        lambda x: tf.TensorSpec(x.shape[2:], x.dtype, 'bonus_input'),
        self._bonus.select(steps),
    )

  def _after_update(self, batch, rollout) -> None:
    """Adapts the KL penalty and updates PPO's own normalizers, as the host."""
    if self._initial_adaptive_kl_beta > 0:
      self._adapt_kl_beta(batch)
    if rollout is not None:
      self._update_host_normalizers(rollout)

  def _host_losses(self, part, outputs) -> dict[str, tf.Tensor]:
    """The host's L2 and KL losses of a micro-batch, scalars by name."""
    return dict(
        l2_regularization_loss=part.share * self.l2_regularization_loss(),
        kl_penalty_loss=(
            self._kl_penalty(part, outputs) if self._penalizes_kl
            else tf.constant(0.0)
        ),
    )

  @property
  def _penalizes_kl(self) -> bool:
    return self._initial_adaptive_kl_beta > 0 or self._kl_cutoff_factor > 0

  def _kl_penalty(self, part, outputs) -> tf.Tensor:
    """The host's adaptive penalty and cutoff, over real steps only."""
    mask = part.batch.targets.mask
    return self.kl_penalty_loss(
        _time_steps(outputs.observations, outputs.step_types),
        part.batch.dist_params, outputs.distribution,
        _mean_weights(mask, part.count),
    )

  def _adapt_kl_beta(self, batch: rollout_lib.TrainingBatch) -> None:
    """After the update: the host's beta, from the KL over real steps."""
    time_steps = _time_steps(*tf.nest.map_structure(
        lambda x: x[:, :batch.length], (batch.observations, batch.step_types)
    ))
    (distribution, _, _), _ = self._collect_policy.evaluate(
        time_steps.observation, time_steps.step_type, batch.first_states()
    )
    mask = batch.targets.mask
    divergence = self._kl_divergence(
        time_steps, batch.dist_params, distribution
    )
    divergence, mask = map(replicas.gathered, (divergence, mask))
    self.update_adaptive_kl_beta(
        divergence * _mean_weights(mask, tf.reduce_sum(mask))
    )

  def _old_log_probs(self, dist_params, actions) -> tf.Tensor:
    """log pi_old(a|s), float32 `[B, T]`, of the recorded parameters."""
    distribution = ppo_utils.distribution_from_spec(
        self._action_distribution_spec,
        dist_params,
        legacy_distribution_network=isinstance(
            self._actor_net, network.DistributionNetwork
        ),
    )
    return tf.cast(common.log_probability(
        distribution, actions, self._action_spec
    ), tf.float32)

  def _update_host_normalizers(self, rollout: rollout_lib.Rollout) -> None:
    """PPO's own statistics of observations and rewards, from real steps."""
    real = rollout.mask > 0

    def rows(x):
      return replicas.gathered(tf.boolean_mask(x, real))

    if self._observation_normalizer is not None:
      self._observation_normalizer.update(tf.nest.map_structure(
          lambda x: rows(x[:, :-1]), rollout.observations
      ), outer_dims=[0])
    if self._reward_normalizer is not None:
      self._reward_normalizer.update(rows(rollout.rewards), outer_dims=[0])

  def _summarize(
      self, loss_info: tf_agent.LossInfo, batch: rollout_lib.TrainingBatch
  ) -> None:
    """For TensorBoard, where a writer is set and a record is due.

    Scalars of all losses; with `debug_summaries` histograms of the targets,
    with `summarize_grads_and_vars` of the variables.
    """
    step = self.train_step_counter
    with tf.name_scope('Losses/'):
      for name, value in loss_info.extra._asdict().items():
        if name != 'nonfinite_gradients':  # One for each variable.
          tf.summary.scalar(name, value, step=step)
      tf.summary.scalar('loss', loss_info.loss, step=step)
    if self._debug_summaries:
      real = batch.targets.mask > 0
      with tf.name_scope('Targets/'):
        for name in ('advantages', 'returns_ext', 'returns_int'):
          values = getattr(batch.targets, name)
          tf.summary.histogram(name, tf.boolean_mask(values, real), step=step)
    if self._summarize_grads_and_vars:
      with tf.name_scope('Variables/'):
        for variable in self.trained_variables:
          name = variable.name.replace(':', '_')
          tf.summary.histogram(name, variable, step=step)


def _time_steps(observations, step_types) -> ts.TimeStep:
  """Time steps whose rewards and discounts do not matter."""
  zeros = tf.zeros(tf.shape(step_types))
  return ts.TimeStep(step_types, zeros, zeros, observations)


def _mean_weights(mask: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
  """Weights that turn the host's plain mean into one over real steps."""
  return mask * tf.math.divide_no_nan(
      tf.cast(tf.size(mask), tf.float32), count
  )


def _seeded_generator() -> tf.random.Generator:
  """A generator whose seed TensorFlow draws.

  With op determinism it follows `tf.random.set_seed`, and TensorFlow asks for
  that where it is missing.
  """
  return tf.random.Generator.from_seed(
      tf.random.uniform([], maxval=tf.int64.max, dtype=tf.int64)
  )
