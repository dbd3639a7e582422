"""Agent steps per second, end to end, on the real game and the real trainer.

python benchmarks/throughput.py [--json] [--num_environments=32] \
  [--precision=float32] [--iterations=6]

Each setting is a run of `Trainer.iterate` at the paper's sizes, in a process
of its own; the first iteration (compilation) is left out, medians are shown.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from absl import app
from absl import flags
import psutil

_JSON = flags.DEFINE_boolean('json', False, 'Print JSON instead of a table.')
_ENVIRONMENTS = flags.DEFINE_multi_integer(
    'num_environments', [32, 128], 'Environments; may repeat.'
)
_PRECISIONS = flags.DEFINE_multi_enum(
    'precision', ['float32', 'mixed_bfloat16'], ['float32', 'mixed_bfloat16'],
    'Of the networks; may repeat.',
)
_ITERATIONS = flags.DEFINE_integer('iterations', 6, 'Of 128 steps each.')
_GAME = flags.DEFINE_string('env_name', 'atari:MontezumaRevenge', 'The game.')
_ONE = flags.DEFINE_boolean('one', False, 'Internal: one setting, here.')


def measure(env_name, num_environments, precision, iterations):
  """Runs some iterations in this process.

  Returns:
    A dict: steps_per_second, environment_steps_per_second (random actions,
    nothing else), stages_ms by name, peak_memory_mb of all processes (shared
    pages counted once).
  """
  from rnd_agent import startup

  startup.quiet_imports()
  import numpy as np

  from rnd_agent import builders
  from rnd_agent import collector
  from rnd_agent import trainer

  class Stopwatch(trainer.Trainer):
    """A trainer that keeps its stages' times."""

    laps = None

    def _record(self, rollout, rewards_int, targets, loss_info, clock):
      super()._record(rollout, rewards_int, targets, loss_info, clock)
      self.laps = (self.laps or []) + [dict(clock.laps, total=clock.total)]

  with tempfile.TemporaryDirectory() as folder, _PeakMemory() as memory:
    trainer.Trainer = Stopwatch
    run = builders.build_trainer(
        folder, env_name=env_name, num_parallel_environments=num_environments,
        num_workers=None, rollout_length=128, num_iterations=iterations,
        num_minibatches=4, num_epochs=4, seed=1, random_steps=1,
        eval_interval=0, num_eval_episodes=1, checkpoint_interval=10**9,
        checkpoints_to_keep=1, summary_interval=1, target_return=None,
        precision=precision,
    )
    run._progress = _Silent()
    start = time.monotonic()
    collector.random_steps(
        run._environment, 64, np.random.default_rng(0), lambda _: None
    )
    environments = 64 * num_environments / (time.monotonic() - start)
    run.run()
  laps = run.laps[1:]
  stages = {
      name: 1000 * statistics.median(lap[name] for lap in laps)
      for name in laps[0]
  }
  return dict(
      precision=precision,
      num_environments=num_environments,
      steps_per_second=128 * num_environments / stages.pop('total') * 1000,
      environment_steps_per_second=environments,
      stages_ms=stages,
      peak_memory_mb=memory.peak / 2**20,
  )


class _Silent:
  """A progress display that shows nothing."""

  def __getattr__(self, name):
    return lambda *args, **kwargs: None


class _PeakMemory:
  """Samples the memory of this process and its children."""

  def __enter__(self):
    self.peak, self._done = 0, threading.Event()
    self._thread = threading.Thread(target=self._watch, daemon=True)
    self._thread.start()
    return self

  def __exit__(self, *_):
    self._done.set()
    self._thread.join()

  def _watch(self):
    me = psutil.Process()
    while not self._done.wait(0.5):
      total = 0
      for process in [me, *me.children(recursive=True)]:
        try:
          total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
          continue  # It ended between the listing and the look.
      self.peak = max(self.peak, total)


def main(_):
  """Measures every setting in a process of its own."""
  if _ONE.value:
    print(json.dumps(measure(
        _GAME.value, _ENVIRONMENTS.value[0], _PRECISIONS.value[0],
        _ITERATIONS.value,
    )))
    return
  results = []
  for environments in _ENVIRONMENTS.value:
    for precision in _PRECISIONS.value:
      output = subprocess.run(
          [sys.executable, __file__, '--one', f'--env_name={_GAME.value}',
           f'--num_environments={environments}', f'--precision={precision}',
           f'--iterations={_ITERATIONS.value}'],
          stdout=subprocess.PIPE, text=True, check=True,
      ).stdout
      results.append(json.loads(output.splitlines()[-1]))
      if not _JSON.value:
        _show(results[-1])
  if _JSON.value:
    machine = f'{platform.machine()}, {os.cpu_count()} cores'
    print(json.dumps({'machine': machine, 'results': results}, indent=2))


def _show(result):
  stages = '  '.join(
      f'{name} {ms:.0f}' for name, ms in result['stages_ms'].items()
  )
  print(
      f"{result['num_environments']} x 128, {result['precision']}: "
      f"{result['steps_per_second']:.0f} steps/s "
      f"(environments alone {result['environment_steps_per_second']:.0f}), "
      f"{result['peak_memory_mb']:.0f} MB; ms per iteration: {stages}",
      flush=True,
  )


if __name__ == '__main__':
  app.run(main)
