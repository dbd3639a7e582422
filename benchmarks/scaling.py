"""How the speed of training grows with the number of workers.

python benchmarks/scaling.py [--workers=2 --workers=4] [--repetitions=3] \
  [--num_environments=32] [--precision=float32] [--iterations=6] [--json] \
  [--gpu_steps_per_second=7400]

Measures on this machine, each number of workers in processes of their own: one
worker on one core, then several with as many environments each, on a core each
as far as there are cores (more workers share them); and how long they take to
add up a gradient, and a single number. All are measured in turn, repeatedly;
medians are shown. The first iteration, which compiles, is left out.

Then it predicts: with K workers an iteration takes as long as with one, and
each of its updates the time of a sum over all in a ring besides,
`2 (K - 1) (hop + bytes / K (1 / network + 1 / software))`. A hop and the
software's bytes per second are those of two workers here. The prediction for
this machine stands beside what was measured. For GPUs the speed of one comes
from --gpu_steps_per_second: it is not measured here.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from absl import app
from absl import flags
import run_comparison

from rnd_agent.commands import supervisor
from rnd_agent.common import cluster_task

_WORKERS = flags.DEFINE_multi_integer(
    'workers', [2, 4], 'How many workers to measure; may repeat.', lower_bound=2
)
_ENVIRONMENTS = flags.DEFINE_integer(
    'num_environments', 32, 'Of each worker.', lower_bound=1
)
_PRECISION = flags.DEFINE_enum(
    'precision', 'float32', ['float32', 'mixed_bfloat16'], 'Of the networks.'
)
_ITERATIONS = flags.DEFINE_integer(
    'iterations', 6, 'Of 128 steps each.', lower_bound=2
)
_REPETITIONS = flags.DEFINE_integer(
    'repetitions', 3, 'Of each measurement.', lower_bound=1
)
_GAME = flags.DEFINE_string('env_name', 'atari:MontezumaRevenge', 'The game.')
_GPU = flags.DEFINE_float(
    'gpu_steps_per_second', 7400.0, 'Agent steps per second of one GPU with '
    '128 environments (docs/performance.md: of an H200).', lower_bound=1.0
)
_JSON = flags.DEFINE_boolean('json', False, 'Print JSON instead of a table.')
_ONE = flags.DEFINE_string(
    'one', None, "Internal: be one worker, with the run's folder here."
)

_STEPS = 128  # of each environment in an iteration
_UPDATES = 16  # of an iteration: epochs x minibatches
_SCALARS = 2  # numbers that an update adds up besides its gradient
_SUMS = 30
# Bits per second of networks, workers.
_NETWORKS = {'1 Gbit/s': 1e9, '10 Gbit/s': 10e9, '100 Gbit/s': 100e9}
_PREDICTED = (2, 4, 8, 16, 32, 64)


class Sums(NamedTuple):
  """How long it takes to add up over some workers.

  Attributes:
    workers: how many.
    gradient_bytes: size of what an update adds up.
    gradient_s: seconds for it.
    scalar_s: seconds for a single number.
  """

  workers: int
  gradient_bytes: int
  gradient_s: float
  scalar_s: float


def predicted_sums(
    two: Sums, workers: int, network_bytes_per_second: float
) -> float:
  """Seconds of an update's sums over workers in a ring.

  Args:
    two: as measured with two workers on one machine.
    workers: how many, K.
    network_bytes_per_second: between machines; infinity for none.
  """
  # Two workers: 2 hops, and in each half of the bytes.
  hop = two.scalar_s / 2
  software = max(two.gradient_s - two.scalar_s, 0.0) / two.gradient_bytes
  per_byte = software + 1 / network_bytes_per_second
  journeys = 2 * (workers - 1)
  return journeys * (
      hop * (1 + _SCALARS) + two.gradient_bytes / workers * per_byte
  )


def work(folder: str) -> dict:
  """Trains as one of several workers; what worker 0 measured of all of them.

  Args:
    folder: of the run.

  Returns:
    `seconds` of an iteration, and of several workers `gradient_bytes`,
    `gradient_s` and `scalar_s`.
  """
  from rnd_agent.common import startup

  startup.quiet_imports()
  import gin
  import tensorflow as tf

  from rnd_agent import config as config_lib
  from rnd_agent.learning import replicas
  from rnd_agent.training import builders

  gin.parse_config([
      # Whatever the number of environments, so that all do the same work.
      'RNDConfig.predictor_proportion = 0.25',
  ])
  number = cluster_task.task().number
  run = builders.build_trainer(folder, config_lib.TrainConfig(
      env_name=_GAME.value,
      num_parallel_environments=_ENVIRONMENTS.value * number,
      rollout_length=_STEPS, num_iterations=_ITERATIONS.value,
      num_epochs=4, num_minibatches=_UPDATES // 4, random_rollouts=1,
      eval_interval=0, checkpoint_interval=10**9, precision=_PRECISION.value,
      progress=False,
  ))
  gradients = run._agent.trained_variables
  run.run()
  workers = replicas.workers()
  result = {}
  if workers is not None:
    added = tf.function(workers.added, autograph=False)
    sizes = [tf.zeros(variable.shape) for variable in gradients]
    result = dict(
        gradient_bytes=sum(4 * size.shape.num_elements() for size in sizes),
        gradient_s=_seconds_of_a_sum(added, sizes),
        scalar_s=_seconds_of_a_sum(added, [tf.zeros([])]),
    )
    workers.leave()
  return result


def _seconds_of_a_sum(added, values) -> float:
  times = []
  for _ in range(_SUMS):
    start = time.perf_counter()
    added(values)[0].numpy()
    times.append(time.perf_counter() - start)
  return statistics.median(times[_SUMS // 3:])


def measure(workers: int) -> dict:
  """Trains with so many workers.

  Args:
    workers: each on a core, as far as there are cores.

  Returns:
    As `work`, with `seconds` of an iteration.
  """
  all_cores = sorted(os.sched_getaffinity(0))
  with tempfile.TemporaryDirectory() as folder:
    try:
      os.sched_setaffinity(0, all_cores[:workers])
      processes = [
          subprocess.Popen(
              [sys.executable, __file__, f'--one={folder}',
               *(f'--{name}={flags.FLAGS[name].value}' for name in (
                   'env_name', 'num_environments', 'precision', 'iterations',
               ))],
              env={**os.environ, **place.environment},
              stdout=subprocess.PIPE, text=True,
              preexec_fn=place.prepare,
          ) for place in supervisor.places(workers)
      ]
    finally:
      os.sched_setaffinity(0, all_cores)
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
      raise RuntimeError(f'training with {workers} workers failed, see above')
    rows = run_comparison.read_rows(pathlib.Path(folder))
  rates = [float(row['steps_per_second']) for row in rows[1:]]
  steps = _STEPS * _ENVIRONMENTS.value * workers
  return dict(
      json.loads(outputs[0].splitlines()[-1]),
      seconds=steps / statistics.median(rates),
  )


def _medians(results: list[dict]) -> dict:
  return {
      name: statistics.median(result[name] for result in results)
      for name in results[0]
  }


def report() -> dict:
  """Measures and predicts; see the module's docstring."""
  numbers = sorted({1, *_WORKERS.value})
  results = {number: [] for number in numbers}
  for _ in range(_REPETITIONS.value):
    for number in numbers:
      results[number].append(measure(number))
  medians = {number: _medians(results[number]) for number in numbers}
  alone_s = medians[1].pop('seconds')
  steps = _STEPS * _ENVIRONMENTS.value
  cores = len(os.sched_getaffinity(0))
  rows, sums = [], {}
  for number in numbers[1:]:
    seconds = medians[number].pop('seconds')
    sums[number] = Sums(workers=number, **medians[number])
    predicted = alone_s * max(1.0, number / cores) + (
        _UPDATES * predicted_sums(sums[2], number, float('inf'))
        * max(1.0, number / cores) if 2 in sums else 0.0
    )
    rows.append(dict(
        workers=number, steps_per_second=number * steps / seconds,
        speedup=number * alone_s / seconds,
        predicted_speedup=number * alone_s / predicted,
        gradient_bytes=sums[number].gradient_bytes,
        gradient_ms=1000 * sums[number].gradient_s,
        scalar_ms=1000 * sums[number].scalar_s,
    ))
  result = dict(
      cores=cores, num_environments=_ENVIRONMENTS.value,
      precision=_PRECISION.value, one_worker_steps_per_second=steps / alone_s,
      measured=rows,
  )
  if 2 in sums:
    result['predicted'] = {
        kind: {
            name: {
                number: number * seconds / (
                    seconds + _UPDATES * predicted_sums(
                        sums[2], number, bits / 8
                    )
                ) for number in _PREDICTED
            } for name, bits in _NETWORKS.items()
        } for kind, seconds in (
            ('one core each', alone_s),
            ('one GPU each', _STEPS * 128 / _GPU.value),
        )
    }
  return result


def main(_):
  """Prints the report, or is one worker."""
  if _ONE.value:
    print(json.dumps(work(_ONE.value)))
    return
  result = report()
  if _JSON.value:
    print(json.dumps(result, indent=2))
    return
  print(
      f"1 worker: {result['one_worker_steps_per_second']:.0f} steps/s on one "
      f"of {result['cores']} cores, {result['num_environments']} environments "
      f"each, {result['precision']}"
  )
  for row in result['measured']:
    print(
        '{workers} workers: {steps_per_second:.0f} steps/s, {speedup:.2f} '
        'times (predicted {predicted_speedup:.2f}); a gradient of '
        '{gradient_bytes} bytes {gradient_ms:.1f} ms, a number '
        '{scalar_ms:.2f} ms'.format(**row)
    )
  for kind, networks in result.get('predicted', {}).items():
    for name, speedups in networks.items():
      text = '  '.join(f'{n}: {x:.1f}' for n, x in speedups.items())
      print(f'predicted, {kind}, {name}: {text} times')


if __name__ == '__main__':
  app.run(main)
