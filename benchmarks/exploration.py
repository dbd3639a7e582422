"""Does the bonus explore? The same agent with it and without, several seeds.

python benchmarks/exploration.py --config=configs/mountain_car.gin --seeds=5 \
  [--bonus=NovelD --bonus=E3B | --arm='name: binding; binding' ..] \
  [--first_seed=1] [--jobs=2] \
  [--root_dir=runs/exploration/mountain_car] \
  [--gin_bindings='train_eval.num_iterations=50'] [--picture=curves.png]

With `--bonus` each of the bonuses named is an arm of its own, beside the agent
without any. With `--arm` the arms are those that you name, such as
`--arm='LSTM: ActorCriticNetwork.core = @LSTMCell(); LSTMCell.units = 128'`.
Every run is a process of `train_eval.py` in `<root_dir>/<arm>-<seed>`. Finished
runs are not repeated, interrupted ones are resumed. At the end the benchmark
prints a Markdown table and draws the curves. The score of a run is the last
`episode_return_mean` of its metrics.csv: the mean raw score of the last 100
training episodes. Arms are compared by the interquartile mean over the seeds
and its 95 % bootstrap interval (`rnd_agent/viewing/aggregate.py`).
"""

from concurrent import futures
import os
import pathlib
import re
import subprocess
import sys
from typing import NamedTuple, Optional

from absl import app
from absl import flags
import numpy as np

_ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))

from rnd_agent.runs import metrics as metrics_lib  # noqa: E402
from rnd_agent.runs import run_folder  # noqa: E402
from rnd_agent.settings import gin_files  # noqa: E402
from rnd_agent.settings import gin_parameters  # noqa: E402
from rnd_agent.viewing import aggregate  # noqa: E402
from rnd_agent.viewing import curves as curves_lib  # noqa: E402

_FLAGS = flags.FlagValues()  # train_eval.py has flags of the same names.
_CONFIG = flags.DEFINE_string(
    'config', None, 'The config of both arms.',
    flag_values=_FLAGS,
)
_SEEDS = flags.DEFINE_integer(
    'seeds', 5, 'Runs of each arm.', lower_bound=1,
    flag_values=_FLAGS,
)
_FIRST_SEED = flags.DEFINE_integer(
    'first_seed', 1, 'The lowest seed; the others follow it.', lower_bound=0,
    flag_values=_FLAGS,
)
_JOBS = flags.DEFINE_integer(
    'jobs', 2, 'Runs side by side.', lower_bound=1,
    flag_values=_FLAGS,
)
_ROOT_DIR = flags.DEFINE_string(
    'root_dir', None,
    'Folder of all runs; by default runs/exploration/<config name>.',
    flag_values=_FLAGS,
)
_BINDINGS = flags.DEFINE_multi_string(
    'gin_bindings', [], 'A binding for both arms; may repeat.',
    flag_values=_FLAGS,
)
_PICTURE = flags.DEFINE_string(
    'picture', None,
    'Path of the picture; by default curves.png in the folder of the runs.',
    flag_values=_FLAGS,
)
_TITLE = flags.DEFINE_string(
    'title', None, 'Of the picture; by default the name of the config.',
    flag_values=_FLAGS,
)

_BONUSES = flags.DEFINE_multi_string(
    'bonus', [], 'A bonus, such as NovelD; may repeat. By default one arm with '
    'the bonus of the config, called RND.', flag_values=_FLAGS,
)
_ARMS = flags.DEFINE_multi_string(
    'arm', [], 'An arm of your own, "name: binding; binding"; may repeat. Then '
    'there are no others.', flag_values=_FLAGS,
)

_WITHOUT = 'coefficient 0'
_COLORS = {_WITHOUT: 'tab:gray', 'RND': 'tab:blue'}
_SCORE = 'episode_return_mean'


class UsageError(ValueError):
  """The runs cannot be made or compared; the message is one line."""


def _own_arm(text) -> tuple[str, tuple[str, ...]]:
  """The name and the bindings of an arm."""
  name, colon, bindings = text.partition(':')
  if not colon or not re.fullmatch(r'[\w .+-]+', name.strip()):
    raise UsageError(
        f'--arm={text!r}: write a name and bindings, such as '
        "'GRU: ActorCriticNetwork.core = @GRUCell()'"
    )
  return name.strip(), tuple(
      binding.strip() for binding in bindings.split(';') if binding.strip()
  )


def _file_name(arm) -> str:
  """The name of an arm's files, but for their ending."""
  return arm.replace(' ', '-')


def arms(bonuses, own=()) -> dict[str, tuple[str, ...]]:
  """What is compared: bindings by the name of an arm.

  Args:
    bonuses: names in gin; none: the config's own.
    own: texts such as "GRU: a.b = 1; c.d = 2", which take the place of the arms
      of bonuses.

  Raises:
    UsageError: a text is not like that, two arms have one name, or there are
      both.
  """
  if own and bonuses:
    raise UsageError('--arm and --bonus: bind train_eval.bonus in each --arm')
  if own:
    chosen = [_own_arm(text) for text in own]
    if len({_file_name(name) for name, _ in chosen}) < len(chosen):
      raise UsageError('--arm: two of them have one name')
    return dict(chosen)
  with_bonus = {
      bonus: (f'train_eval.bonus = @{bonus}',) for bonus in bonuses
  } or {'RND': ()}
  return {
      **with_bonus, _WITHOUT: ('RNDConfig.intrinsic_coefficient = 0.0',)
  }


class Task(NamedTuple):
  """A run of an arm with a seed."""

  arm: str
  seed: int
  folder: pathlib.Path
  bindings: tuple[str, ...]


class Plan(NamedTuple):
  """When the config ends a run."""

  num_iterations: int
  target_return: Optional[float]

  def is_over(self, folder) -> bool:
    """Whether the run in a folder has been trained to its end."""
    try:
      run = read_run(folder)
    except run_folder.RunFolderError:
      return False
    if run['iteration'][-1] >= self.num_iterations:
      return True
    return curves_lib.has_reached(run, self.target_return)


def read_run(folder) -> dict[str, list[float]]:
  """Reads a run's metrics by column: those of metrics.csv, and `hours`.

  Raises:
    RunFolderError: there is no run, or it has no iteration yet.
  """
  return run_folder.RunFolder(folder).metrics()


def read_plan(config, bindings) -> tuple[Plan, str]:
  """The `Plan` of a config with bindings, and all its settings as text."""
  from rnd_agent.common import startup

  startup.quiet_imports()
  import gin

  from rnd_agent.training import builders  # noqa: F401, registers for gin
  from rnd_agent.training import train_eval as train_eval_lib  # noqa: F401, as above

  gin_files.parse([config], bindings)

  def value(name):
    return gin_parameters.bound(f'train_eval.{name}')

  plan = Plan(value('num_iterations') or 30000, value('target_return'))
  return plan, gin.config_str()


def train(task: Task, config: str, threads: int) -> str:
  """Trains a run to its end; its output goes to `<folder>/output.txt`.

  Returns:
    An error in one line; empty if the run succeeded.
  """
  task.folder.mkdir(parents=True, exist_ok=True)
  command = [
      sys.executable, str(_ROOT / 'train_eval.py'),
      f'--root_dir={task.folder}', f'--gin_file={config}',
      *(f'--gin_bindings={b}' for b in (
          *task.bindings,
          f'train_eval.seed = {task.seed}',
          'train_eval.eval_interval = 0',
          f'train_eval.num_workers = {threads}',
          f'ComputeConfig.inter_op_threads = {threads}',
      )),
  ]
  path = task.folder / 'output.txt'
  paths = [str(_ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]
  environment = dict(os.environ, PYTHONPATH=os.pathsep.join(paths))
  with open(path, 'a', encoding='utf-8') as output:
    status = subprocess.run(
        command, stdout=output, stderr=subprocess.STDOUT, env=environment
    ).returncode
  if status:
    return f'{task.arm}, seed {task.seed}: exit status {status}, see {path}'
  return ''


def run_all(tasks, plan, config, jobs) -> list[str]:
  """Trains the runs that are not over yet; returns their errors."""
  unfinished = [task for task in tasks if not plan.is_over(task.folder)]
  print(f'{len(tasks) - len(unfinished)} of {len(tasks)} runs are finished',
        flush=True)
  threads = max(1, (os.cpu_count() or 1) // jobs)
  errors = []
  with futures.ThreadPoolExecutor(jobs) as pool:
    running = {pool.submit(train, t, config, threads): t for t in unfinished}
    try:
      for future in futures.as_completed(running):
        task, error = running[future], future.result()
        if not error and not plan.is_over(task.folder):
          error = f'{task.arm}, seed {task.seed}: was stopped; run this again'
        if error:
          errors.append(error)
          continue
        score = read_run(task.folder)[_SCORE][-1]
        print(f'{task.arm}, seed {task.seed}: {score:g}', flush=True)
    except BaseException:  # Ctrl-C: running ones save and end, none is started.
      pool.shutdown(cancel_futures=True)
      raise
  return errors


def table(runs) -> str:
  """Final scores as Markdown.

  Args:
    runs: by arm, lists of `read_run` results, one for each seed.

  Returns:
    The table, a row for each arm; an arm with a run that finished no episode
    has no mean.
  """
  lines = [
      '| arm | interquartile mean | 95 % interval | seeds | agent steps '
      '| minutes per run |',
      '|---|---|---|---|---|---|',
  ]
  for arm, of_seeds in runs.items():
    scores = np.array([[run[_SCORE][-1]] for run in of_seeds])
    mean, interval = 'a run finished no episode: train longer', ''
    if not np.isnan(scores).any():
      mean = _number(aggregate.interquartile_mean(scores))
      bounds = aggregate.bootstrap_interval(scores)
      interval = f'{_number(bounds.low)} to {_number(bounds.high)}'
    lines.append('| ' + ' | '.join((
        arm, mean, interval,
        ', '.join(_number(x) for x in scores[:, 0]),
        _range([run['env_steps'][-1] for run in of_seeds], '{:,.0f}'),
        _range([run['wall_time_s'][-1] / 60 for run in of_seeds], '{:.1f}'),
    )) + ' |')
  return '\n'.join(lines)


def _number(x) -> str:
  return f'{float(x):.1f}' if abs(x) >= 10 else f'{float(x):.3f}'


def _range(values, form) -> str:
  low, high = (form.format(x).replace(',', ' ') for x in (
      min(values), max(values)
  ))
  return low if low == high else f'{low} to {high}'


def curves(of_seeds):
  """Scores of all seeds on common agent steps.

  All runs must be over: a run that is shorter than others reached its target,
  and its last score stands for the later steps.

  Args:
    of_seeds: `read_run` results.

  Returns:
    Agent steps `[n]` and scores `[seeds, n]`, from the first step at which
    every run has a score.
  """
  steps, scores = curves_lib.aligned(
      [np.asarray(run['env_steps']) for run in of_seeds],
      [np.asarray(run[_SCORE]) for run in of_seeds],
      goes_on=[True] * len(of_seeds),
  )
  known = ~np.isnan(scores).any(0)
  return steps[known], scores[:, known]


def draw(runs, title, output) -> None:
  """Draws interquartile means, intervals as bands, and a thin line per seed.

  Args:
    runs: as in `table`.
    title: of the picture.
    output: its path.
  """
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot as plt

  figure, axis = plt.subplots(figsize=(6, 3.2), layout='constrained')
  for number, (arm, of_seeds) in enumerate(runs.items()):
    steps, scores = curves(of_seeds)
    if not len(steps):
      continue  # A run finished no episode, as the table says.
    color = _COLORS.get(arm, f'C{number}')
    noun = 'seed' if len(of_seeds) == 1 else 'seeds'
    band = aggregate.bootstrap_interval(
        scores[:, np.newaxis], repetitions=2000
    )
    axis.fill_between(steps, *band, color=color, alpha=0.25, linewidth=0)
    axis.plot(steps, scores.T, color=color, linewidth=0.4, alpha=0.6)
    axis.plot(
        steps, aggregate.interquartile_mean(scores, axis=0), color=color,
        linewidth=1.8, label=f'{arm} ({len(of_seeds)} {noun})',
    )
  axis.set_xlabel('agent steps')
  axis.set_ylabel(f'return, last {metrics_lib.WINDOW} episodes')
  axis.xaxis.set_major_formatter(
      matplotlib.ticker.FuncFormatter(lambda x, _: f'{x / 1000:g} k')
  )
  axis.set_title(title, fontsize=10)
  axis.grid(alpha=0.3)
  axis.legend(fontsize=8)
  figure.savefig(output, dpi=110)
  plt.close(figure)


def _check_same_settings(path, settings) -> None:
  """Refuses runs of other settings than a file's, but for their length."""
  settings = ''.join(
      line for line in settings.splitlines(keepends=True)
      if not line.startswith('train_eval.num_iterations')
  )
  if path.exists() and path.read_text(encoding='utf-8') != settings:
    raise UsageError(
        f'{path.parent} holds runs of other settings (see {path}): choose '
        'another --root_dir'
    )
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(settings, encoding='utf-8')


def main(_):
  """Trains all runs, prints the table and draws the curves."""
  config = _CONFIG.value
  name = pathlib.Path(config).stem
  folder = pathlib.Path(_ROOT_DIR.value or f'runs/exploration/{name}')
  try:
    compared = arms(_BONUSES.value, _ARMS.value)
    tasks = [
        Task(arm, seed, folder / f'{_file_name(arm)}-{seed}',
             (*_BINDINGS.value, *bindings))
        for seed in range(_FIRST_SEED.value, _FIRST_SEED.value + _SEEDS.value)
        for arm, bindings in compared.items()
    ]
    plan, settings = read_plan(config, _BINDINGS.value)
    _check_same_settings(folder / 'settings.gin', settings)
    for arm, bindings in compared.items():
      _check_same_settings(
          folder / f'{_file_name(arm)}.gin', '\n'.join(bindings)
      )
    errors = run_all(tasks, plan, config, _JOBS.value)
    if errors:
      raise UsageError('; '.join(errors))
    runs = {
        arm: [read_run(t.folder) for t in tasks if t.arm == arm]
        for arm in compared
    }
    print(table(runs))
    picture = _PICTURE.value or str(folder / 'curves.png')
    draw(runs, _TITLE.value or name, picture)
    print(f'wrote {picture}')
  except (
      UsageError, run_folder.RunFolderError, gin_files.ConfigError
  ) as error:
    print(f'exploration: error: {error}', file=sys.stderr)
    sys.exit(2)


def _parse_flags(argv):
  flags.FLAGS(argv[:1])
  return _FLAGS(argv)


if __name__ == '__main__':
  flags.mark_flag_as_required('config', _FLAGS)
  app.run(main, flags_parser=_parse_flags)
