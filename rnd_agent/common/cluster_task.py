"""Which worker of a cluster this process is, without loading TensorFlow.

The variable TF_CONFIG says it, as TensorFlow and what starts its processes know
it: `{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker",
"index": 0}}`.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from rnd_agent.common import plain_json

VARIABLE = 'TF_CONFIG'
# Set in the processes that a supervisor has started.
SUPERVISED = 'RND_AGENT_SUPERVISOR'


class Task(NamedTuple):
  """This process's place among the workers.

  Attributes:
    number: of workers, 1 where there is no cluster.
    index: from 0.
  """

  number: int = 1
  index: int = 0

  @property
  def is_chief(self) -> bool:
    """Whether this one writes the run's folder."""
    return self.index == 0


def task() -> Task:
  """Reads TF_CONFIG.

  Raises:
    ValueError: it describes something else; one line.
  """
  text = os.environ.get(VARIABLE, '')
  if not text.strip():
    return Task()
  try:
    described = plain_json.loads(text)
    cluster = described.get('cluster') or {}
    if not cluster:
      return Task()
    workers = cluster['worker']
    index = described['task']['index']
    kind = described['task']['type']
  except (ValueError, LookupError, TypeError, AttributeError) as error:
    raise _wrong('it cannot be read') from error
  if set(cluster) != {'worker'} or kind != 'worker':
    raise _wrong('it has other jobs than workers')
  if not isinstance(workers, list) or not all(
      isinstance(address, str) for address in workers
  ) or len(set(workers)) != len(workers):
    raise _wrong('it does not list different addresses')
  if type(index) is not int or not 0 <= index < len(workers):
    raise _wrong(f'there is no worker {index!r:.20} among {len(workers)}')
  return Task(len(workers), index)


def _wrong(cause: str) -> ValueError:
  return ValueError(
      f'{VARIABLE}: {cause}: it must be like {{"cluster": {{"worker": '
      '["host:port", ...]}, "task": {"type": "worker", "index": 0}}, or unset'
  )
