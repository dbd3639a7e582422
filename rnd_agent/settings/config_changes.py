"""What a run was started with, compared with what it is resumed with."""

from __future__ import annotations

import re
from typing import Mapping

from rnd_agent.settings import operative_config

# Parameters that make it another run: the world, and what learns there.
_MEANING = re.compile(
    r'(?:.*/)?(?:train_eval\.(?:env_name|num_parallel_environments)'
    r'|(?:EnvironmentConfig|ActorCriticNetwork|RandomNetworkDistillation'
    r'|RNDNetwork|GRUCell|LSTMCell|DNCCell)\..*)'
)
# Parameters that say how long and how it is recorded, not what.
_HARMLESS = re.compile(
    r'train_eval\.(?:num_iterations|num_workers|eval_interval|summary_interval'
    r'|num_eval_episodes|checkpoint_interval|checkpoints_to_keep|video_interval'
    r'|target_return|initial_weights|progress)'
)


def changes(then: str, now: str) -> dict[str, tuple[str, str]]:
  """Parameters of both configs whose values differ.

  Args:
    then: operative config that the run was last started with.
    now: of this start.

  Returns:
    (value then, value now) by parameter, harmless ones left out.
  """
  old, new = operative_config.read(then), operative_config.read(now)
  return {
      name: (old[name], new[name]) for name in sorted(old)
      if name in new and old[name] != new[name]
      and not _HARMLESS.fullmatch(name)
  }


def of_another_run(
    differences: Mapping[str, tuple[str, str]]
) -> dict[str, tuple[str, str]]:
  """Those of `changes` that make it another run."""
  return {
      name: values for name, values in differences.items()
      if _MEANING.fullmatch(name)
  }


def described(differences: Mapping[str, tuple[str, str]]) -> str:
  """One line: 'A.b = 1 (was 2), ...'."""
  return ', '.join(
      f'{name} = {now} (was {then})'
      for name, (then, now) in differences.items()
  )
