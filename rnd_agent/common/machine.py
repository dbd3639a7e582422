"""The cores and the memory that this process may use."""

import os
import pathlib

import psutil

_CGROUP = pathlib.Path('/sys/fs/cgroup')


def available_cores() -> int:
  """The number of cores on which this process may run."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def available_memory() -> int:
  """Free bytes of memory, of the machine or within a container's limit."""
  free = psutil.virtual_memory().available
  try:
    limit = (_CGROUP / 'memory.max').read_text(encoding='utf-8').strip()
    used = int((_CGROUP / 'memory.current').read_text(encoding='utf-8'))
  except OSError:
    return free  # Not in a container with a limit (cgroup version 2).
  return free if limit == 'max' else min(free, max(0, int(limit) - used))
