"""Compares the config of a resumed run with the one it was started with."""

from __future__ import annotations

from typing import Mapping

from rnd_agent.common import parameters
from rnd_agent.settings import known_parameters
from rnd_agent.settings import operative_config
from rnd_agent.settings import shipped_parts


def changes(then: str, now: str) -> dict[str, tuple[str, str]]:
  """The parameters that both configs bind, to different values.

  Args:
    then: operative config that the run was last started with.
    now: of this start.

  Returns:
    (value then, value now) by parameter, without the changes that are harmless.
  """
  old, new = operative_config.read(then), operative_config.read(now)
  return {
      name: (old[name], new[name]) for name in sorted(old)
      if name in new and old[name] != new[name]
      and _change(name) is not parameters.Change.HARMLESS
  }


def of_another_run(
    differences: Mapping[str, tuple[str, str]]
) -> dict[str, tuple[str, str]]:
  """Those of the `changes` that make it another run."""
  return {
      name: values for name, values in differences.items()
      if _change(name) is parameters.Change.ANOTHER_RUN
  }


def _change(name: str) -> parameters.Change:
  """What a change of a parameter means for a run; ignores gin's scope."""
  name = name.rpartition('/')[2]
  if name.partition('.')[0] in shipped_parts.NETWORKS:
    return parameters.Change.ANOTHER_RUN
  known = known_parameters.find(name)
  return known.change if known else parameters.Change.NOTED


def described(differences: Mapping[str, tuple[str, str]]) -> str:
  """One line: 'A.b = 1 (was 2), ...'."""
  return ', '.join(
      f'{name} = {now} (was {then})'
      for name, (then, now) in differences.items()
  )
