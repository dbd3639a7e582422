"""The seam for a bonus: what an agent asks of an intrinsic reward.

An iteration calls, in this order (a test fixes it):

1. `rewards` of the rollout's steps, with the *old* statistics;
2. `update_statistics` with the steps and these rewards;
3. `normalized`, of which the intrinsic advantages are made;
4. `training_inputs`, once, with the *new* statistics, and `losses` of random
   rows of it, whose gradient trains `trained_variables`.

A bonus of your own subclasses `Bonus` and implements `rewards`; one that learns
also `losses` and `trained_variables`. `docs/extending.md` has an example.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Optional, Sequence

import tensorflow as tf

from rnd_agent import config as config_lib
from rnd_agent.bonuses import episodes
from rnd_agent.bonuses import normalizers
from rnd_agent.learning import rollout as rollout_lib
from rnd_agent.runs import metrics as metrics_lib


class Transition(NamedTuple):
  """Steps, each on its own: what `Bonus.losses` gets unless it asks for else.

  Attributes:
    observations: nest of `[..., *spec]`, o_t.
    actions: nest of `[..., *spec]`, a_t.
    next_observations: nest of `[..., *spec]`, o_{t+1}.
  """

  observations: Any
  actions: Any
  next_observations: Any


class Bonus(tf.Module):
  """An intrinsic reward, its statistics and its training.

  Rewards are divided by the standard deviation of their discounted return
  (Burda et al. 2018, section 2.4), so that bonuses of any size go with the
  same coefficients, unless `RNDConfig.normalize_rewards` is off. Override
  `update_statistics`, `normalized` and `normalized_after_update` for another
  normalization.
  """

  # Whether the statistics start from a random agent's steps
  # (`train_eval.random_rollouts`), which `observe_random_agent` is given.
  needs_random_agent = False
  # Rows for numbers of `metrics`: a column, a title, what is healthy. A number
  # without a row is in TensorBoard alone, as `bonus/<name>`.
  own_metrics: Sequence[metrics_lib.Metric] = ()

  def __init__(
      self,
      observation_spec,
      config: Optional[config_lib.RNDConfig] = None,
      *,
      action_spec=None,
      frame_channels: Optional[int] = None,
      precision: str = 'float32',
      name: Optional[str] = None,
  ):
    """Builds the return's statistics, all zero.

    Args:
      observation_spec: nest of TensorSpec, of one observation.
      config: discount of the intrinsic return and its like; by default
        `RNDConfig()`, as gin binds it.
      action_spec: nest of BoundedTensorSpec; None where it is not known.
      frame_channels: size of one frame along an image's last axis; None where
        it is not known.
      precision: 'float32' or 'mixed_bfloat16', of networks.
      name: of the module.
    """
    super().__init__(name=name)
    self._observation_spec = observation_spec
    self._action_spec = action_spec
    self._config = config or config_lib.RNDConfig()
    self._frame_channels = frame_channels
    self._precision = precision
    self.return_normalizer = normalizers.DiscountedReturnNormalizer(
        self._config.discount_int, self._config.variance_epsilon
    )

  @property
  def config(self) -> config_lib.RNDConfig:
    return self._config

  # --------------------------------------------------------------- rewards

  def rewards(self, steps: rollout_lib.Steps) -> tf.Tensor:
    """Raw intrinsic rewards of the steps, with the statistics so far.

    Args:
      steps: B environments, T rows.

    Returns:
      float32 `[B, T]`, 0 in boundary rows. Changes nothing.
    """
    raise NotImplementedError(f'{type(self).__name__}.rewards')

  def observe_random_agent(self, observations) -> None:
    """Starts statistics from a random agent's steps, before training.

    Args:
      observations: nest of `[1, N, ...]`, which followed one action of each of
        N environments.
    """

  def update_statistics(
      self, steps: rollout_lib.Steps, rewards: tf.Tensor
  ) -> None:
    """Updates the running statistics, once per iteration.

    Args:
      steps: B environments, T rows, in the order of time.
      rewards: float32 `[B, T]`, of `rewards`.
    """
    self.return_normalizer.update(rewards, steps.boundaries)
    self.advance(steps)

  def advance(self, steps: rollout_lib.Steps) -> None:
    """Moves what is remembered of the running episodes on past the steps.

    `update_statistics` does it; who only asks for `rewards`, such as a player,
    calls it after them. By default there is nothing.

    Args:
      steps: B environments, T rows, which follow those of the last call.
    """

  def normalized(self, rewards: tf.Tensor) -> tf.Tensor:
    """What intrinsic advantages are made of; float32, any shape."""
    if not self._config.normalize_rewards:
      return rewards
    return self.return_normalizer.normalized(rewards)

  def normalized_after_update(
      self, steps: rollout_lib.Steps, rewards: tf.Tensor
  ) -> tf.Tensor:
    """`normalized` as it will be after `update_statistics`; changes nothing.

    Args:
      steps: B environments, T rows.
      rewards: float32 `[B, T]`, of `rewards`.

    Returns:
      float32 `[B, T]`.
    """
    if not self._config.normalize_rewards:
      return rewards
    return self.return_normalizer.preview(rewards, steps.boundaries)

  # -------------------------------------------------------------- training

  @property
  def trained_variables(self) -> Sequence[tf.Variable]:
    """What an optimizer may change; none for a bonus that only counts."""
    return ()

  def select(self, steps: rollout_lib.Steps):
    """What the losses need of every row: nest of `[B, T, ...]`.

    It is kept in the policy info where steps are shuffled before training, so
    it should be small, and depend on no statistics.
    """
    return Transition(
        tf.nest.map_structure(lambda x: x[:, :-1], steps.observations),
        steps.actions, steps.next_observations(),
    )

  def training_mask(self, steps: rollout_lib.Steps) -> tf.Tensor:
    """float32 `[B, T]`: 1 for the rows that `losses` is trained on."""
    return steps.mask

  def training_proportion(self, num_environments: Optional[int]) -> float:
    """Share of the rows, (0, 1], that each pass over a rollout draws.

    Args:
      num_environments: B; None where it is not known.
    """
    del num_environments
    return 1.0

  def training_inputs(self, selected, passes: float):
    """Adds to `select`'s what is the same in every pass over a rollout.

    Args:
      selected: nest of `[B, T, ...]`, of `select`.
      passes: how often each row is drawn on average.

    Returns:
      nest of `[B, T, ...]`; by default `selected`.
    """
    del passes
    return selected

  def losses(self, inputs) -> tf.Tensor:
    """Training loss of single steps.

    Args:
      inputs: nest of `[N, ...]`, rows of `training_inputs` or of `select`.

    Returns:
      float32 `[N]`; its gradient trains `trained_variables`.
    """
    raise NotImplementedError(f'{type(self).__name__}.losses')

  # ---------------------------------------------------------- what is kept

  def build(self, num_environments: int) -> None:
    """Makes what there is one of for each environment, before a restore.

    Args:
      num_environments: B, of all workers, the same for the whole run.

    Raises:
      ValueError: it is there for another number of environments.
    """
    self.return_normalizer.build(num_environments)
    for state in self._episode_states():
      state.build(num_environments)

  @property
  def remembers_episodes(self) -> bool:
    """Whether rewards depend on what an environment's episode has seen."""
    return bool(self._episode_states())

  def _episode_states(self) -> list[episodes.EpisodeState]:
    return [
        value for value in vars(self).values()
        if isinstance(value, episodes.EpisodeState)
    ]

  def checkpoint_items(self) -> dict[str, Any]:
    """What a checkpoint must hold, trackable objects by name."""
    return {'bonus': self}

  def weight_items(self) -> dict[str, Any]:
    """The part of `checkpoint_items` that another run can start from.

    Running returns and episodes belong to environments and are left out, the
    returns' statistics are not.
    """
    return {'bonus': {
        name: value for name, value in vars(self).items()
        if isinstance(value, tf.__internal__.tracking.Trackable)
        and not isinstance(value, episodes.EpisodeState)
    } | {'return_normalizer': self.statistics_of_returns()}}

  def statistics_of_returns(self) -> dict[str, Any]:
    """Of the return's normalizer without the returns, as a checkpoint has it.
    """
    return {'_statistics': self.return_normalizer.statistics}

  def metrics(self) -> dict[str, tf.Tensor]:
    """Scalars to log after an iteration, by the same names every time.

    Changes nothing.
    """
    return {}
