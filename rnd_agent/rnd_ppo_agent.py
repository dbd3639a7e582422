"""Proximal Policy Optimization with Random Network Distillation.

`RNDPPOAgent` is a TF-Agents `PPOAgent`. One iteration is a sentence: *reward,
update statistics, make targets, learn*; `train_rollout` reads like it, and the
stages are public for those who want to time or change one.

Equations: Burda et al. 2018 (arXiv 1810.12894) for the bonus and the two
reward streams, Schulman et al. 2017 (1707.06347) for PPO.
"""

from __future__ import annotations

from typing import Optional

import gin
import tensorflow as tf
from tf_agents.agents import data_converter
from tf_agents.agents import tf_agent
from tf_agents.networks import network
from tf_agents.policies import greedy_policy
from tf_agents.utils import nest_utils

from rnd_agent import config as config_lib
from rnd_agent.bonuses import distillation
from rnd_agent.bonuses import rnd as rnd_lib
from rnd_agent.hosting import policy as rnd_ppo_policy
from rnd_agent.hosting import trajectories as host
from rnd_agent.learning import compute
from rnd_agent.learning import minibatch_agent
from rnd_agent.learning import rollout as rollout_lib
from rnd_agent.learning import targets as targets_lib

RNDPPOLossInfo = minibatch_agent.RNDPPOLossInfo


@gin.configurable(
    module='rnd_agent', denylist=['time_step_spec', 'action_spec']
)
class RNDPPOAgent(minibatch_agent.MinibatchPPOAgent):
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
      rnd: Optional[rnd_lib.RandomNetworkDistillation] = None,
      rnd_config: Optional[config_lib.RNDConfig] = None,
      num_minibatches: int = 1,
      normalize_advantages: bool = False,
      shuffle_minibatches: bool = False,
      sequence_length: Optional[int] = None,
      generator: Optional[tf.random.Generator] = None,
      epsilon_greedy: float = 0.0,
      compute_config: Optional[config_lib.ComputeConfig] = None,
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
        `actor_net` and `value_net`; needed there when `rnd` is given.
      rnd: the bonus; None leaves a correct plain PPO.
      rnd_config: coefficients and discounts; those of `rnd` where there is
        one. `discount_factor`, where given, is the extrinsic discount.
      num_minibatches: parts into which the environments' sequences are dealt.
      normalize_advantages: over the real steps of the rollout.
      shuffle_minibatches: deal the sequences anew in every epoch.
      sequence_length: L, steps through which a recurrent core's gradients go
        back at most, from the state stored at the sequence's start; divides
        the T steps of a rollout. None, or more than T: T, a sequence is an
        environment's part of the rollout.
      generator: source of sampled actions, subsets and minibatches; by default
        one seeded by the system.
      epsilon_greedy: share of uniformly random actions in collection, [0, 1);
        see `RNDPPOPolicy`.
      compute_config: devices and sizes of what is computed at once; as gin
        binds it by default. Changes speed and memory, not the result.
      **kwargs: further arguments of `PPOAgent`.

    Raises:
      TypeError: for arguments that are no networks, or no bonus.
      ValueError: for networks that are missing or given twice, or numbers
        that contradict each other.
    """
    if rnd is not None and not isinstance(
        rnd, rnd_lib.RandomNetworkDistillation
    ):
      raise TypeError(
          'rnd must be a RandomNetworkDistillation(observation_spec, config), '
          f'got {type(rnd).__name__}.'
      )
    self._rnd = rnd
    self._rnd_config = rnd_config or (
        rnd.config if rnd
        else config_lib.RNDConfig(
            intrinsic_coefficient=0.0, extrinsic_coefficient=1.0
        )
    )
    self._check_config()
    defaults = {}
    if rnd is not None:
      defaults = dict(
          host.PAPER_ARGUMENTS, discount_factor=self._rnd_config.discount_ext
      )
    arguments = host.all_arguments(
        (time_step_spec, action_spec) + args, kwargs, defaults
    )
    self._joint_net = host.joint_network(
        arguments, actor_critic_net, intrinsic_value_net, rnd
    )
    self._joint_net.create_variables(time_step_spec.observation)
    arguments['actor_net'] = self._joint_net.actor_view
    arguments['value_net'] = self._joint_net.value_view
    self._num_minibatches = num_minibatches
    self._lanes = compute.Lanes(compute_config)
    self._normalize_advantages = normalize_advantages
    self._shuffle_minibatches = shuffle_minibatches
    self._sequence_length = sequence_length
    self._generator = (
        generator or tf.random.Generator.from_non_deterministic_state()
    )
    super().__init__(**arguments)
    self._predictor_update = rnd and distillation.PredictorUpdate(
        rnd, self._lanes, self._generator, self._num_epochs
    )
    self._build_policies(arguments['greedy_eval'], epsilon_greedy)
    variables = self.trained_variables
    self._keras_optimizer = isinstance(
        self._optimizer, tf.keras.optimizers.Optimizer
    )
    if self._keras_optimizer:
      # Slots in structural order: Keras stores them by index.
      self._optimizer.build(variables)
    self._learn_compiled = self._lanes.compiled(self._learn)
    self._selected_compiled = self._lanes.compiled(self._next_selected)
    self._bonus_compiled = self._lanes.compiled(self._bonus)
    self._statistics_compiled = self._lanes.compiled(self._update_statistics)
    self._targets_compiled = self._lanes.compiled(self._make_targets)

  def _check_config(self) -> None:
    """Raises an error where bonus and numbers do not go together."""
    if self._rnd is None and self._rnd_config.intrinsic_coefficient > 0:
      raise ValueError(
          'rnd_config.intrinsic_coefficient = '
          f'{self._rnd_config.intrinsic_coefficient} without a bonus: give rnd,'
          ' or set the coefficient to 0.'
      )
    if self._rnd is not None and self._rnd.config != self._rnd_config:
      raise ValueError(
          'rnd_config differs from that of rnd, which normalizes by its own: '
          f'{self._rnd_config} and {self._rnd.config}. Give it to rnd alone.'
      )

  def _build_policies(self, greedy_eval: bool, epsilon: float) -> None:
    """Replaces the host's two policies by ours, specs and converters too."""
    def policy(collect):
      return rnd_ppo_policy.RNDPPOPolicy(
          self._time_step_spec,
          self._action_spec,
          self._joint_net,
          observation_normalizer=self._observation_normalizer,
          collect=collect,
          values_in_info=not self._compute_value_and_advantage_in_train,
          intrinsic_value=self._rnd is not None,
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
          policy_info=host.processed_info_spec(
              collected.policy_info, self._rnd and self._rnd.selected_spec
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
    self._collected_as_transition = data_converter.AsTransition(
        self.collect_data_context, squeeze_time_dim=False
    )
    self._as_trajectory = data_converter.AsTrajectory(
        self.data_context, sequence_length=None
    )

  # ---------------------------------------------------------------- parts

  @property
  def rnd(self) -> Optional[rnd_lib.RandomNetworkDistillation]:
    """The bonus, or None."""
    return self._rnd

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
    """What the optimizer changes, in structural order; never the target."""
    variables = list(self._joint_net.trainable_variables)
    if self._rnd is not None:
      variables += self._rnd.trained_variables
    return variables

  @property
  def learning_rate(self) -> Optional[tf.Variable]:
    """The optimizer's, to read or assign; None of an optimizer not Keras'."""
    return self._optimizer.learning_rate if self._keras_optimizer else None

  def weight_items(self) -> dict:
    """What another agent can start from: networks and statistics, by name.

    A part of `checkpoint_items`; of the intrinsic returns the statistics alone,
    since the running returns belong to environments.
    """
    fresh = ('optimizer', 'generator', 'train_step', 'adaptive_kl_beta')
    items = {
        name: item for name, item in self.checkpoint_items().items()
        if name not in fresh
    }
    if self._rnd is not None:
      items['rnd_returns'] = {
          '_statistics': self._rnd.return_normalizer.statistics
      }
    return items

  def checkpoint_items(self) -> dict:
    """Everything a checkpoint must hold of the agent, by name."""
    items = dict(
        actor_critic=self._joint_net,
        optimizer=self._optimizer,
        generator=self._generator,
        train_step=self.train_step_counter,
    )
    if self._rnd is not None:
      items.update(
          predictor=self._rnd.predictor,
          target=self._rnd.target,
          rnd_observations=self._rnd.observation_normalizer,
          rnd_returns=self._rnd.return_normalizer,
      )
    if self._observation_normalizer is not None:
      items['observation_normalizer'] = self._observation_normalizer
    if self._reward_normalizer is not None:
      items['reward_normalizer'] = self._reward_normalizer
    if self._adaptive_kl_beta is not None:
      items['adaptive_kl_beta'] = self._adaptive_kl_beta
    return items

  # ------------------------------------------------------- one iteration

  def train_rollout(self, rollout: rollout_lib.Rollout) -> tf_agent.LossInfo:
    """One iteration on a rollout: reward, update statistics, targets, learn.

    Args:
      rollout: B environments, T steps; B divisible by `num_minibatches`.

    Returns:
      `LossInfo(loss, RNDPPOLossInfo)`, scalars, means over all updates;
      `nonfinite_gradients` counts the updates left out, one entry for each of
      `trained_variables`.
    """
    rollout = self.with_selected(rollout)
    bonuses = self.intrinsic_bonuses(rollout)
    rewards_int = self.update_statistics(rollout, bonuses)
    targets = self.make_targets(rollout, rewards_int)
    return self.learn(rollout, targets)

  def with_selected(self, rollout: rollout_lib.Rollout) -> rollout_lib.Rollout:
    """The rollout with what the bonus looks at picked once for all stages."""
    if self._rnd is None or not isinstance(rollout.selected, tuple):
      return rollout
    return rollout._replace(
        selected=self._selected_compiled(rollout.observations)
    )

  def intrinsic_bonuses(self, rollout: rollout_lib.Rollout) -> tf.Tensor:
    """Raw bonuses of o_1 ... o_T, old statistics; float32 `[B, T]`."""
    return self._bonus_compiled(rollout)

  def update_statistics(self, rollout, bonuses) -> tf.Tensor:
    """Updates both running statistics; normalized rewards `[B, T]`.

    Args:
      rollout: the rollout.
      bonuses: float32 `[B, T]`, of `intrinsic_bonuses`.

    Returns:
      Intrinsic rewards of the steps, float32 `[B, T]`, 0 in boundary rows.
    """
    return self._statistics_compiled(rollout, bonuses)

  def make_targets(self, rollout, rewards_int) -> rollout_lib.Targets:
    """Advantages and returns of both streams (paper, section 2.3).

    Args:
      rollout: the rollout.
      rewards_int: float32 `[B, T]`, of `update_statistics`.

    Returns:
      `Targets`, float32 `[B, T]`.
    """
    return self._targets_compiled(rollout, rewards_int)

  def learn(self, rollout, targets) -> tf_agent.LossInfo:
    """Epochs x minibatches on a rollout; counts one step per minibatch."""
    return self._learn_compiled(rollout, targets)

  def _bonus(self, rollout):
    if self._rnd is None:
      return tf.zeros_like(rollout.rewards)
    return self._rnd.bonus_of_selected(self._selected(rollout))

  def _next_selected(self, observations):
    """What the bonus looks at of o_1 ... o_T: picked first, then cut."""
    return self._rnd.select(observations)[:, 1:]

  def _selected(self, rollout):
    if isinstance(rollout.selected, tuple):
      return self._next_selected(rollout.observations)
    return rollout.selected

  def _update_statistics(self, rollout, bonuses):
    if self._rnd is None:
      return tf.zeros_like(rollout.rewards)
    bonus_at_end = self._rnd_config.bonus_at_end
    self._rnd.update_statistics_of_selected(
        self._selected(rollout), rollout.next_mask(bonus_at_end)
    )
    return self._rnd.normalize_rewards(
        rollout.bonuses_of_steps(bonuses, bonus_at_end), rollout.boundaries
    )

  def _make_targets(self, rollout, rewards_int):
    rewards_ext = rollout.rewards
    if self._reward_normalizer is not None:
      rewards_ext = self._reward_normalizer.normalize(
          rewards_ext, center_mean=False, clip_value=self._reward_norm_clipping
      )
    return targets_lib.make_targets(
        rollout, rewards_ext, rewards_int, self._rnd_config,
        discount_ext=self._discount_factor,
        # Monte Carlo advantages are those of lambda 1.
        gae_lambda=self._lambda if self._use_gae else 1.0,
        td_lambda_returns=self._use_td_lambda_return,
        normalize=self._normalize_advantages,
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
          host.core_states(info) if rnd_ppo_policy.CORE_STATE in info
          else self._collect_policy.get_initial_state(batch),
      )
      value_ext, value_int = map(tf.stop_gradient, (value_ext, value_int))
    else:
      value_ext = info['value_prediction']
      value_int = info.get(
          rnd_ppo_policy.INTRINSIC_VALUE, tf.zeros_like(value_ext)
      )
    steps = None if rows is None else rows - 1
    return host.rollout_of(
        experience, value_ext, value_int, self._steps_of_sequences(steps)
    )

  def _preprocess(self, experience):
    """Adds the targets to a trajectory's policy info; changes no variable.

    Args:
      experience: `Trajectory` `[B, T + 1, ...]` or `[T + 1, ...]`.

    Returns:
      The trajectory with the entries of `host.processed_info_spec`.
    """
    outer_rank = nest_utils.get_outer_rank(
        experience.discount, self.collect_data_spec.discount
    )
    batched = experience
    if outer_rank == 1:
      batched = nest_utils.batch_nested_tensors(experience)
    rollout = self._rollout_of(batched)
    targets = self._make_targets(rollout, self._preview_rewards(rollout))
    info = host.processed_info(
        dict(batched.policy_info, value_prediction=rollout.values_ext),
        self._training_batch(rollout, targets),
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
      rewards_int = self._update_statistics(rollout, self._bonus(rollout))
    if not self._compute_value_and_advantage_in_train:
      batch = self._batch_of_processed(experience)
      batch = batch._replace(old_log_probs=self._old_log_probs(
          batch.dist_params, batch.actions
      ))
    else:
      if rollout is None:
        rollout = self._rollout_of(experience)
        rewards_int = self._preview_rewards(rollout)
      batch = self._with_target_features(self._training_batch(
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
    return host.batch_of_processed(
        experience, rnd_ppo_policy.INTRINSIC_VALUE,
        self._steps_of_sequences(rows),
    )

  def _preview_rewards(self, rollout) -> tf.Tensor:
    """Intrinsic rewards as `_update_statistics` gives them; updates nothing."""
    if self._rnd is None:
      return tf.zeros_like(rollout.rewards)
    bonuses = rollout.bonuses_of_steps(
        self._bonus(rollout), self._rnd_config.bonus_at_end
    )
    return self._rnd.preview_rewards(bonuses, rollout.boundaries)

  def update_observation_normalizer(self, batched_observations):
    """The host's hook for `PPOLearner`; also updates the bonus's statistics.

    Deviation: the learner hands over observations alone, so an episode's
    boundary row counts as a step here; `train_rollout` masks it.

    Args:
      batched_observations: nest of `[B, T + 1, ...]`, in the order of time.
    """
    super().update_observation_normalizer(batched_observations)
    if self._rnd is not None:
      following = tf.nest.map_structure(
          lambda x: x[:, 1:], batched_observations
      )
      self._rnd.normalize_rewards(self._rnd.bonus(following))
      self._rnd.update_observation_statistics(following)

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
    if self._rnd is None:
      return batch
    return batch._replace(
        selected=self._selected(rollout),
        selected_mask=rollout.next_mask(self._rnd_config.bonus_at_end),
    )

  def _with_target_features(self, batch):
    if self._predictor_update is None:
      return batch
    return self._predictor_update.with_target_features(batch)

  def _learn(self, rollout, targets):
    batch = self._training_batch(rollout, targets)
    loss_info = self._update(self._with_target_features(batch))
    self._after_update(batch, rollout)
    return loss_info

  def _after_update(self, batch, rollout) -> None:
    """What the host does behind its epochs: KL beta, own normalizers."""
    if self._initial_adaptive_kl_beta > 0:
      self._adapt_kl_beta(batch)
    if rollout is not None:
      self._update_host_normalizers(rollout)

  def _loss_terms(self, part, outputs):
    """Adds the intrinsic value's loss to PPO's terms."""
    terms = super()._loss_terms(part, outputs)
    if self._rnd is not None:
      terms.update(
          value_loss_int=self._value_loss(
              part, outputs.value_int, part.batch.targets.returns_int,
              part.batch.old_values_int,
          ),
      )
    return terms

  def _gradients(self, batches, sequences):
    """Adds the predictor's, on the minibatch's random subset of the steps."""
    gradients, metrics = super()._gradients(batches, sequences)
    if self._predictor_update is None:
      return gradients, metrics
    # One after the other: each fills all lanes to its end.
    with tf.control_dependencies([metrics['loss']]):
      more, loss = self._predictor_update.gradients(
          batches, sequences, self._length_of_sequences(batches[0])
      )
    return [*gradients, *more], dict(
        metrics, predictor_loss=loss, loss=metrics['loss'] + loss
    )
