"""What it takes to live inside TF-Agents' `PPOAgent`.

Its constructor's arguments, its trajectories, and the policy info in which
`preprocess_sequence` hands targets over to `train`.
"""

from __future__ import annotations

import inspect
from typing import Optional

from absl import logging
import tensorflow as tf
from tf_agents.agents.ppo import ppo_agent
from tf_agents.networks import network
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import trajectory

from rnd_agent import networks
from rnd_agent.hosting import policy as policy_lib
from rnd_agent.learning import rollout as rollout_lib

# What the paper sets where the host's defaults differ; used for arguments that
# are not given when there is a bonus.
PAPER_ARGUMENTS = dict(
    importance_ratio_clipping=0.1,
    lambda_value=0.95,
    entropy_regularization=0.001,
    value_pred_loss_coef=0.5,
    num_epochs=4,
    use_gae=True,
    use_td_lambda_return=True,
    normalize_rewards=False,
    normalize_observations=False,
    kl_cutoff_factor=0.0,
    initial_adaptive_kl_beta=0.0,
)


def all_arguments(args, kwargs, defaults) -> dict:
  """All of `PPOAgent`'s arguments by name: given, else ours, else the host's.

  Everything is passed on explicitly: a gin binding on `PPOAgent` would
  otherwise leak into this class.
  """
  signature = inspect.signature(inspect.unwrap(ppo_agent.PPOAgent.__init__))
  bound = signature.bind_partial(None, *args, **kwargs)
  given = dict(bound.arguments)
  bound.apply_defaults()
  arguments = {**bound.arguments, **defaults, **given}
  arguments.pop('self')
  return arguments


def joint_network(arguments, actor_critic_net, intrinsic_value_net, bonus):
  """The joint network: the one given, or one made of the user's parts."""
  parts = [arguments.get(k) for k in ('actor_net', 'value_net')]
  if actor_critic_net is not None:
    if any(parts + [intrinsic_value_net]):
      raise ValueError(
          'Give either actor_critic_net or actor_net and value_net (with '
          'intrinsic_value_net), not both.'
      )
    return actor_critic_net
  if isinstance(parts[0], networks.ActorCriticNetwork):
    raise TypeError('Pass an ActorCriticNetwork as actor_critic_net.')
  for name, net in zip(('actor_net', 'value_net'), parts):
    if not isinstance(net, network.Network):
      raise TypeError(
          f'{name} must be an instance of a network.Network, got {net!r}; or '
          'give actor_critic_net, such as ActorCriticNetwork.'
      )
  if bonus is not None and intrinsic_value_net is None:
    raise ValueError(
        'With actor_net and value_net of your own, the bonus needs a value '
        'network for the intrinsic stream too: give intrinsic_value_net (a '
        'second ValueNetwork, say), or actor_critic_net instead of all.'
    )
  if bonus is None and intrinsic_value_net is not None:
    raise ValueError(
        'intrinsic_value_net is given without a bonus: give bonus, such as a '
        'RandomNetworkDistillation, too.'
    )
  joint = networks.SeparateActorCritic(*parts, intrinsic_value_net)
  if joint.state_spec:
    logging.warning(
        'Recurrent networks of your own train from zero states, as in '
        'TF-Agents; ActorCriticNetwork(core=...) trains from those recorded.'
    )
  return joint


def rollout_of(
    experience: trajectory.Trajectory,
    values_ext: tf.Tensor,
    values_int: tf.Tensor,
    sequence_length: Optional[int] = None,
) -> rollout_lib.Rollout:
  """A recorded trajectory as a rollout.

  Args:
    experience: `[B, T + 1, ...]`; of the last row only the observation and its
      step type count.
    values_ext: float32 `[B, T + 1]`.
    values_int: float32 `[B, T + 1]`.
    sequence_length: steps between the recurrent states that are kept.

  Returns:
    A `Rollout` of T steps.
  """
  def steps(x):
    return tf.nest.map_structure(lambda y: y[:, :-1], x)

  return rollout_lib.Rollout(
      observations=experience.observation,
      step_types=experience.step_type,
      next_step_types=steps(experience.next_step_type),
      actions=steps(experience.action),
      rewards=steps(experience.reward),
      discounts=steps(experience.discount),
      dist_params=steps(experience.policy_info['dist_params']),
      values_ext=values_ext,
      values_int=values_int,
      final_values_ext=tf.zeros_like(steps(experience.reward)),
      core_states=core_states(
          steps(experience.policy_info), sequence_length
      ),
  )


def core_states(policy_info: dict, sequence_length: Optional[int] = None):
  """The core's states before sequences, nest of `[B * T / L, ...]`, or ().

  Args:
    policy_info: of the collect policy, `[B, T, ...]`.
    sequence_length: L, which divides T; None: T.
  """
  def before_sequences(x):
    if sequence_length is None:
      return x[:, 0]
    x = x[:, ::sequence_length]
    return tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], axis=0))

  return tf.nest.map_structure(
      before_sequences, policy_info.get(policy_lib.CORE_STATE, ())
  )


def processed_info_spec(collect_info_spec, bonus_inputs_spec) -> dict:
  """Policy info of experience that `preprocess_sequence` has worked on.

  Args:
    collect_info_spec: dict, of the collect policy.
    bonus_inputs_spec: nest of TensorSpec, what the bonus's training needs of
      a step; () of one that does not learn, None without a bonus.

  Returns:
    A dict of specs: the collect policy's entries, `return`, `advantage` and
    `mask`, with a bonus `intrinsic_return`, and with one that learns
    `bonus_inputs` and `bonus_mask`.
  """
  names = ['return', 'advantage', 'mask']
  learns = bonus_inputs_spec not in (None, ())
  if bonus_inputs_spec is not None:
    names.append('intrinsic_return')
  if learns:
    names.append('bonus_mask')
  spec = dict(collect_info_spec)
  spec.update(
      {name: tensor_spec.TensorSpec([], tf.float32, name) for name in names}
  )
  if learns:
    spec['bonus_inputs'] = bonus_inputs_spec
  return spec


def processed_info(
    policy_info: dict, batch: rollout_lib.TrainingBatch, with_bonus: bool
) -> dict:
  """Hands a rollout's targets over in the policy info, `[B, T + 1, ...]`.

  The last row is no step (its action's outcome is unknown): its mask is 0.

  Args:
    policy_info: of the collect policy, `[B, T + 1, ...]`.
    batch: made of the same experience, `[B, T, ...]`.
    with_bonus: whether there is one.

  Returns:
    A dict as `processed_info_spec` describes.
  """
  def padded(x):
    return tf.concat([x, tf.zeros_like(x[:, :1])], axis=1)

  info = dict(policy_info)
  info.update({
      'return': padded(batch.targets.returns_ext),
      'advantage': padded(batch.targets.advantages),
      'mask': padded(batch.targets.mask),
  })
  if with_bonus:
    info['intrinsic_return'] = padded(batch.targets.returns_int)
  if batch.trains_bonus:
    info['bonus_inputs'] = tf.nest.map_structure(padded, batch.bonus_inputs)
    info['bonus_mask'] = padded(batch.bonus_mask)
  return info


def batch_of_processed(
    experience: trajectory.Trajectory,
    intrinsic_value_name: str,
    sequence_length: Optional[int] = None,
) -> rollout_lib.TrainingBatch:
  """The training batch of experience that was preprocessed, log-probs aside.

  Args:
    experience: `[B, T, ...]`, whole sequences or single steps (T = 1).
    intrinsic_value_name: entry of the policy info with the old V_int.
    sequence_length: steps between the recurrent states that are kept.

  Returns:
    A `TrainingBatch` whose `old_log_probs` are to be filled in.
  """
  info = experience.policy_info
  targets = rollout_lib.Targets(
      info['advantage'], info['return'],
      info.get('intrinsic_return', tf.zeros_like(info['return'])),
      info['mask'],
  )
  return rollout_lib.TrainingBatch(
      observations=experience.observation,
      step_types=experience.step_type,
      actions=experience.action,
      dist_params=info['dist_params'],
      old_log_probs=(),
      old_values_ext=info['value_prediction'],
      old_values_int=info.get(
          intrinsic_value_name, tf.zeros_like(info['return'])
      ),
      targets=targets,
      bonus_inputs=info.get('bonus_inputs', ()),
      bonus_mask=info.get('bonus_mask', ()),
      core_states=core_states(info, sequence_length),
  )
