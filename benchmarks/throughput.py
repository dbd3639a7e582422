"""Agent steps per second, end to end, on the real game and the real trainer.

python benchmarks/throughput.py [--json] [--num_environments=32] \
  [--precision=float32] [--core=none --core=gru --core=dnc] \
  [--iterations=6] [--only=training] \
  [--gin_bindings='ComputeConfig.micro_batch_size = 256'] \
  [--peer=path/to/ppo_rnd_envpool.py --peer_python=path/to/its/python]

Each setting is trained at the paper's sizes in a process of its own, which also
measures the machine's limit (`limit.py`). The first iteration, which compiles,
is left out; medians are shown. For comparison: PPO made of TF-Agents' own parts
(`stock_ppo.py`) and the environments alone (`vector_environments.py`). With
--peer also CleanRL's RND (`peer.py`): for each number of environments, first
all of our settings are trained, then the peer. Both use a GPU if they find one;
`CUDA_VISIBLE_DEVICES=` in the environment keeps both on the CPU.
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
import peer
import psutil

_ROLLOUT_LENGTH = 128
_NUM_EPOCHS = 4
# The cores of configs/montezuma_gru.gin and montezuma_dnc.gin.
_CORES = {
    'none': (),
    'gru': (
        'ActorCriticNetwork.fc_layer_params = (256,)',
        'ActorCriticNetwork.core = @GRUCell()', 'GRUCell.units = 256',
    ),
    'dnc': (
        'ActorCriticNetwork.fc_layer_params = (256,)',
        'ActorCriticNetwork.core = @DNCCell()', 'DNCCell.memory_size = 256',
        'DNCCell.word_size = 64', 'DNCCell.num_read_heads = 4',
        'DNCCell.controller_units = 256',
    ),
}

_JSON = flags.DEFINE_boolean('json', False, 'Print JSON instead of a table.')
_ENVIRONMENTS = flags.DEFINE_multi_integer(
    'num_environments', [32, 128], 'How many; may repeat.'
)
_PRECISIONS = flags.DEFINE_multi_enum(
    'precision', ['float32', 'mixed_bfloat16'], ['float32', 'mixed_bfloat16'],
    'Of the networks; may repeat.',
)
_CORE = flags.DEFINE_multi_enum(
    'core', ['none'], list(_CORES), 'Memory of the policy; may repeat.'
)
_ITERATIONS = flags.DEFINE_integer(
    'iterations', 6, 'Of 128 steps each.', lower_bound=2
)
_GAME = flags.DEFINE_string('env_name', 'atari:MontezumaRevenge', 'The game.')
_PROPORTION = flags.DEFINE_float(
    'predictor_proportion', 0.25,
    'Share of the steps that trains the predictor. The paper: .25 at 128 '
    'environments; other implementations: .25 at any number.', 0.0, 1.0,
)
_ONLY = flags.DEFINE_multi_enum(
    'only', ['training', 'stock', 'environments'],
    ['training', 'stock', 'environments'], 'What to measure; may repeat.',
)
_LIMIT = flags.DEFINE_boolean('limit', True, 'Measure the limit as well.')
_BINDINGS = flags.DEFINE_multi_string(
    'gin_bindings', [], 'A binding for training; may repeat.'
)
_PEER = flags.DEFINE_string(
    'peer', None, "A copy of CleanRL's ppo_rnd_envpool.py to compare with."
)
_PEER_PYTHON = flags.DEFINE_string(
    'peer_python', sys.executable,
    "The Python that runs the peer: it has the peer's packages.",
)
_ONE = flags.DEFINE_enum(
    'one', None, ['training', 'stock', 'environments'],
    'Internal: make one measurement, in this process.',
)


def measure_training(env_name, num_environments, precision, iterations, core):
  """Trains some iterations in this process, then measures the limit.

  Returns:
    A dict: core, precision, num_environments, steps_per_second (agent steps),
    stages_ms by name, first_iteration_s (from the start of the process to the
    end of the first iteration, without the random agent's steps) and
    peak_memory_mb of all processes (shared pages counted once). With --limit
    also limit_steps_per_second, share_of_limit, environment_steps_per_second
    and samples_per_second of each pass.
  """
  from rnd_agent.common import startup

  with startup.without_collection():
    startup.quiet_imports()
    import gin
    import limit

    from rnd_agent import config as config_lib
    from rnd_agent.training import builders
    from rnd_agent.training import trainer

  class Stopwatch(trainer.Trainer):
    """A trainer that records the times of its stages."""

    laps, first, statistics_s = None, None, 0.0

    def _gather_statistics(self):
      start = time.monotonic()
      result = super()._gather_statistics()
      self.statistics_s = time.monotonic() - start
      return result

    def _count(self, rollout, learned, clock, scheduled):
      row = super()._count(rollout, learned, clock, scheduled)
      self.laps = (self.laps or []) + [dict(clock.laps, total=clock.total)]
      if self.first is None:
        age = time.time() - psutil.Process().create_time()
        self.first = age - self.statistics_s
      return row

  gin.parse_config(
      [f'RNDConfig.predictor_proportion = {_PROPORTION.value}',
       *_CORES[core], *_BINDINGS.value]
  )
  with tempfile.TemporaryDirectory() as folder, _PeakMemory() as memory:
    trainer.Trainer = Stopwatch
    run = builders.build_trainer(folder, config_lib.TrainConfig(
        env_name=env_name, num_parallel_environments=num_environments,
        rollout_length=_ROLLOUT_LENGTH, num_iterations=iterations,
        num_epochs=_NUM_EPOCHS, random_rollouts=1, eval_interval=0,
        checkpoint_interval=10**9, precision=precision, progress=False,
    ))
    agent = run._agent
    run.run()
  laps = run.laps[1:]
  stages = {
      name: 1000 * statistics.median(lap[name] for lap in laps)
      for name in laps[0]
  }
  rate = _ROLLOUT_LENGTH * num_environments / stages.pop('total') * 1000
  result = dict(
      core=core,
      precision=precision,
      num_environments=num_environments,
      steps_per_second=rate,
      stages_ms=stages,
      first_iteration_s=run.first,
      peak_memory_mb=memory.peak / 2**20,
  )
  if _LIMIT.value:
    environment_rate = _environments_alone(env_name, num_environments)
    limit_rate, passes = limit.steps_per_second(
        agent, environment_rate, _NUM_EPOCHS, _PROPORTION.value,
        agent.lanes.num_lanes,
    )
    result.update(
        limit_steps_per_second=limit_rate,
        share_of_limit=rate / limit_rate,
        environment_steps_per_second=environment_rate,
        samples_per_second=passes,
    )
  return result


def _environments_alone(env_name, num_environments):
  """Agent steps per second with random actions, while nothing else runs."""
  import numpy as np

  from rnd_agent.environments.vector import sharded
  from rnd_agent.training import collector

  rates = []
  rng = np.random.default_rng(0)
  with sharded.ShardedPyEnvironment(env_name, num_environments) as environment:
    for _ in range(4):
      start = time.monotonic()
      collector.random_steps(
          environment, _ROLLOUT_LENGTH, rng, lambda _: None
      )
      rates.append(
          _ROLLOUT_LENGTH * num_environments / (time.monotonic() - start)
      )
  return statistics.median(rates[1:])


class _PeakMemory:
  """Records the peak memory of this process and its children, in bytes."""

  def __enter__(self):
    self.peak, self._done = 0, threading.Event()
    self._thread = threading.Thread(target=self._sample, daemon=True)
    self._thread.start()
    return self

  def __exit__(self, *_):
    self._done.set()
    self._thread.join()

  def _sample(self):
    parent = psutil.Process()
    while not self._done.wait(0.5):
      total = 0
      for process in [parent, *parent.children(recursive=True)]:
        try:
          total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
          continue  # It ended after it was listed.
      self.peak = max(self.peak, total)


def main(_):
  """Measures every setting in a process of its own."""
  if _ONE.value:
    print(json.dumps(_measure_one()))
    return
  try:
    _measure_all()
  except peer.PeerError as error:
    print(f'throughput: error: {error}', file=sys.stderr)
    sys.exit(2)


def _measure_all():
  if _PEER.value:
    if 'training' not in _ONLY.value:
      raise peer.PeerError('--peer is compared with --only=training')
    peer.check(_PEER.value, _PEER_PYTHON.value, _GAME.value)
  report = {'machine': f'{platform.machine()}, {os.cpu_count()} cores'}
  if 'environments' in _ONLY.value:
    report['environments'] = [
        _measure_in_process('environments', n) for n in _ENVIRONMENTS.value
    ]
  if 'training' in _ONLY.value:
    report['results'] = []
    for n in _ENVIRONMENTS.value:
      results = [
          _measure_in_process('training', n, precision, core)
          for precision in _PRECISIONS.value for core in _CORE.value
      ]
      if _PEER.value:
        _compare_with_peer(n, results)
      report['results'] += results
  if 'stock' in _ONLY.value:
    report['stock_tf_agents'] = _measure_in_process(
        'stock', min(_ENVIRONMENTS.value)
    )
  if _JSON.value:
    print(json.dumps(report, indent=2))


def _measure_one():
  environments = _ENVIRONMENTS.value[0]
  if _ONE.value == 'training':
    return measure_training(
        _GAME.value, environments, _PRECISIONS.value[0], _ITERATIONS.value,
        _CORE.value[0],
    )
  if _ONE.value == 'stock':
    import stock_ppo

    return stock_ppo.measure(_GAME.value, environments, _ITERATIONS.value)
  import vector_environments

  return dict(
      num_environments=environments,
      **vector_environments.measure(_GAME.value, environments),
  )


def _measure_in_process(kind, environments, precision='float32', core='none'):
  """Makes a measurement in a new process, whose last line is the result."""
  output = subprocess.run(
      [sys.executable, __file__, f'--one={kind}', f'--env_name={_GAME.value}',
       f'--num_environments={environments}', f'--precision={precision}',
       f'--core={core}', f'--iterations={_ITERATIONS.value}',
       f'--predictor_proportion={_PROPORTION.value}',
       f'--limit={_LIMIT.value}',
       *(f'--gin_bindings={binding}' for binding in _BINDINGS.value)],
      stdout=subprocess.PIPE, text=True, check=True,
  ).stdout
  result = json.loads(output.splitlines()[-1])
  if not _JSON.value:
    _print_result(kind, result)
  return result


def _compare_with_peer(num_environments, results):
  """Measures the peer; adds its speed and the ratio to each result of ours."""
  rate = peer.measure(
      _PEER.value, _PEER_PYTHON.value, _GAME.value, num_environments,
      _ITERATIONS.value, _ROLLOUT_LENGTH,
  )
  for result in results:
    result.update(
        peer_steps_per_second=rate,
        ratio_to_peer=result['steps_per_second'] / rate,
    )
  if not _JSON.value:
    ratios = '  '.join(
        f"{r['ratio_to_peer']:.2f} ({r['precision']}, core {r['core']})"
        for r in results
    )
    print(f'peer, {num_environments} environments: {rate:.0f} steps/s; '
          f'ours / peer: {ratios}', flush=True)


def _print_result(kind, result):
  if kind != 'training':
    rates = '  '.join(
        f'{name} {value:.0f}' for name, value in result.items()
        if name != 'num_environments'
    )
    print(f"{kind}, {result['num_environments']} environments: {rates}",
          flush=True)
    return
  stages = '  '.join(
      f'{name} {ms:.0f}' for name, ms in result['stages_ms'].items()
  )
  limit = ''
  if 'limit_steps_per_second' in result:
    limit = (
        f" = {result['share_of_limit']:.2f} of the limit "
        f"{result['limit_steps_per_second']:.0f} (environments alone "
        f"{result['environment_steps_per_second']:.0f})"
    )
  print(
      f"{result['num_environments']} x {_ROLLOUT_LENGTH}, "
      f"{result['precision']}, core {result['core']}: "
      f"{result['steps_per_second']:.0f} steps/s"
      f"{limit}, {result['peak_memory_mb']:.0f} MB, first iteration after "
      f"{result['first_iteration_s']:.0f} s; ms per iteration: {stages}",
      flush=True,
  )


if __name__ == '__main__':
  app.run(main)
