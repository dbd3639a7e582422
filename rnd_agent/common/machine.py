"""What this machine has for us."""

import os
import pathlib

import psutil

_CGROUP = pathlib.Path('/sys/fs/cgroup')


def available_cores() -> int:
  """Cores that this process may run on."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def available_memory() -> int:
  """Bytes that are free, or that a container leaves to us."""
  free = psutil.virtual_memory().available
  try:
    limit = (_CGROUP / 'memory.max').read_text(encoding='utf-8').strip()
    used = int((_CGROUP / 'memory.current').read_text(encoding='utf-8'))
  except OSError:
    return free  # No container of this kind.
  return free if limit == 'max' else min(free, max(0, int(limit) - used))
