"""Assigns environments to processes, and gives each its seed."""

import numpy as np

from rnd_agent.common import machine
from rnd_agent.environments.vector import worker


def environment_seeds(
    seed: int, num_environments: int, first: int = 0
) -> list[int]:
  """Returns the seeds of consecutive environments of a run.

  Args:
    seed: Seed of the run, at least 0.
    num_environments: Number of environments.
    first: Number of the first one.
  """
  return [
      int(np.random.SeedSequence([seed, i]).generate_state(1)[0])
      for i in range(first, first + num_environments)
  ]


def check_sizes(
    num_environments: int,
    num_workers: int | None,
    num_groups: int,
    worker_timeout: float,
) -> int:
  """Checks the sizes of a batch of environments.

  Args:
    num_environments: N.
    num_workers: Number of processes; None is one for every core, at most one
      for every environment of a group.
    num_groups: Number of groups.
    worker_timeout: Seconds.

  Returns:
    The number of workers.

  Raises:
    ValueError: A size is not possible; the message says which sizes are.
  """
  if not 1 <= num_groups <= num_environments:
    raise ValueError(
        f'num_environments={num_environments} and num_groups={num_groups}: '
        'need at least 1 of each, and an environment for every group'
    )
  if worker_timeout <= 0:
    raise ValueError(f'worker_timeout must be above 0, got {worker_timeout}')
  most = num_environments // num_groups
  if num_workers is None:
    return min(machine.available_cores(), most)
  if not 1 <= num_workers <= most:
    raise ValueError(
        f'num_workers={num_workers} must be between 1 and {most}, the '
        'environments of a group'
    )
  return num_workers


def make_shares(
    num_groups: int, num_workers: int, seeds: list[int]
) -> list[worker.Share]:
  """Divides every group evenly among the workers.

  Args:
    num_groups: Number of groups, of consecutive environments.
    num_workers: Number of processes.
    seeds: Seed of every environment.

  Returns:
    One share per worker; a worker has environments of every group.
  """
  shares = []
  for w in range(num_workers):
    groups = []
    for g in range(num_groups):
      first, end = bounds(len(seeds), num_groups, g)
      start, stop = bounds(end - first, num_workers, w)
      groups.append(tuple(range(first + start, first + stop)))
    shares.append(worker.Share(w, tuple(groups), tuple(seeds)))
  return shares


def bounds(size: int, parts: int, index: int) -> tuple[int, int]:
  """Returns [first, end) of part `index` when a range is divided evenly."""
  return size * index // parts, size * (index + 1) // parts
