"""What is compared when a run goes on: its configuration and its machine."""

from __future__ import annotations

import pathlib
from typing import Any, Callable, Optional, Sequence

from rnd_agent.runs import checkpoint_files
from rnd_agent.settings import config_changes
from rnd_agent.settings import gin_files


def compare_config(
    root: pathlib.Path,
    config: str,
    allow_change: bool,
    note: Callable[[str], None],
) -> None:
  """Says what has changed since a run was started or resumed last.

  Args:
    root: the run's folder; one without a checkpoint is a new run.
    config: the operative config of now.
    allow_change: whether the run may become another one.
    note: told of what has changed, one line.

  Raises:
    ConfigError: something that makes it another run.
  """
  path = root / 'operative_config.gin'
  if not checkpoint_files.latest_iteration(str(root)) or not path.exists():
    return
  differences = config_changes.changes(
      path.read_text(encoding='utf-8-sig'), config
  )
  other = config_changes.of_another_run(differences)
  if other and not allow_change:
    raise gin_files.ConfigError(
        f'{root} holds another run: {config_changes.described(other)}: '
        'restore the configuration, choose another --root_dir, or insist '
        'with --allow_config_change'
    )
  if differences:
    note(
        'the configuration has changed: '
        + config_changes.described(differences)
    )


def compare_machine(
    starts: Sequence[dict[str, Any]], note: Callable[[str], None]
) -> None:
  """Says whether cores have changed, by which rounding may differ.

  Args:
    starts: those of run.json, the latest last.
    note: told of a change, one line.
  """
  then, now = (
      (start.get('machine') or {}).get('usable_cores')
      for start in [{}, *starts][-2:]
  )
  if then not in (None, now):
    note(
        f'{now} cores instead of {then}: sums are added in another order, so '
        'the run goes on equal but for rounding'
    )


def compare_groups(
    then: Optional[int], now: int, note: Callable[[str], None]
) -> None:
  """Says whether the environments are stepped in other groups than before.

  Args:
    then: groups of the checkpoint; None if it does not say.
    now: groups.
    note: told of a change, one line.
  """
  if then not in (None, now):
    note(
        f'groups of environments: {now} instead of {then} (see '
        'ComputeConfig.environment_groups); random numbers are drawn in '
        'another order, so the run goes on otherwise than it would have'
    )
