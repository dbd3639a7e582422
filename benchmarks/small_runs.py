"""Small runs of train_eval.py that soaks disturb, and their processes."""

import contextlib
import json
import os
import pathlib
import sys
import tempfile
import time
from typing import Any, Iterator, Optional

import psutil
import run_comparison

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Environment variable of all processes of a run; says which run.
MARK = 'RND_AGENT_SOAK'
_GRACE = 10.0  # seconds for processes to end after their parent
# Sizes at which an iteration takes a fraction of a second.
_SETTINGS = (
    'train_eval.num_parallel_environments = 4',
    'train_eval.rollout_length = 16',
    'train_eval.num_minibatches = 2',
    'train_eval.num_epochs = 2',
    'train_eval.random_rollouts = 1',
    'train_eval.eval_interval = 200',
    'train_eval.num_eval_episodes = 2',
    'train_eval.checkpoint_interval = 5',
    'ActorCriticNetwork.conv_layer_params = ((8, 8, 4), (8, 4, 2))',
    'ActorCriticNetwork.fc_layer_params = (32,)',
    'RNDNetwork.conv_layer_params = ((8, 8, 4), (8, 4, 2))',
    'RandomNetworkDistillation.feature_dim = 16',
    'RandomNetworkDistillation.predictor_hidden_units = (16,)',
    'EnvironmentConfig.max_episode_steps = 50',
)


def command(
    run: pathlib.Path, env_name: str, iterations: int, *bindings: str
) -> list[str]:
  """Starts or resumes a small run.

  Args:
    run: its folder.
    env_name: of the game.
    iterations: after which it ends.
    *bindings: of gin, beside those of all small runs.
  """
  return [
      sys.executable, str(ROOT / 'train_eval.py'), f'--root_dir={run}',
      f'--gin_file={ROOT}/configs/atari.gin',
      *(f'--gin_bindings={binding}' for binding in (
          f"train_eval.env_name = '{env_name}'", *_SETTINGS, *bindings,
          f'train_eval.num_iterations = {iterations}',
      )),
  ]


def variables(log: pathlib.Path) -> dict[str, str]:
  """The environment variables of a run's processes.

  Args:
    log: path that marks the run; temporary files lie in its folder.
  """
  return {
      **os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3', 'TMPDIR': str(log.parent),
      MARK: str(log),
  }


def rows(run: pathlib.Path) -> int:
  """The number of complete rows in a run's metrics.csv."""
  path = run / 'metrics.csv'
  if not path.exists():
    return 0
  return max(0, path.read_bytes().count(b'\n') - 1)


def has_checkpoint(run: pathlib.Path, iteration: int) -> bool:
  """Whether the run has saved this iteration."""
  return (run / 'checkpoints' / f'iteration-{iteration}.index').exists()


def compared(
    run: pathlib.Path, twin: pathlib.Path, iterations: int
) -> tuple[dict[str, Any], list[str]]:
  """Compares a disturbed run with its twin.

  Args:
    run: folder of the run.
    twin: folder of the twin.
    iterations: after which both should have ended.

  Returns:
    For the report: the numbers by name, and the faults.
  """
  if not all(has_checkpoint(path, iterations) for path in (run, twin)):
    return {}, ['there is nothing to compare']
  comparison = run_comparison.compare(run, twin, iterations)
  faults = comparison.faults()
  return {**comparison._asdict(), 'bit-identical': not faults}, faults


@contextlib.contextmanager
def folder(named: Optional[str]) -> Iterator[pathlib.Path]:
  """An empty folder for runs, which is kept if it was named."""
  with contextlib.ExitStack() as stack:
    path = pathlib.Path(
        named
        or stack.enter_context(tempfile.TemporaryDirectory(prefix='soak-'))
    ).absolute()
    path.mkdir(parents=True, exist_ok=True)
    yield path


def report(result: dict[str, Any], as_json: bool) -> int:
  """Prints a soak's counts and faults; returns the exit status."""
  if as_json:
    print(json.dumps(result, indent=2))
  else:
    for name, value in result.items():
      if name != 'faults':
        print(f'{name.replace("_", " "):32} {value}')
    for fault in result['faults']:
      print(f'FAULT: {fault}')
  return 1 if result['faults'] else 0


def note(text: str) -> None:
  """Prints a line with the time on standard error."""
  print(f'{time.strftime("%H:%M:%S")} {text}', file=sys.stderr, flush=True)


def command_of(process: psutil.Process) -> list[str]:
  """The words of its command; none when it has ended."""
  try:
    return process.cmdline()
  except psutil.Error:
    return []


def marked(mark: str) -> list[psutil.Process]:
  """The living processes of the run with this mark, children included."""
  found = []
  for process in psutil.process_iter():
    with contextlib.suppress(psutil.Error):
      if (
          process.environ().get(MARK) == mark
          and process.status() != psutil.STATUS_ZOMBIE
      ):
        found.append(process)
  return found


def wait_until_gone(mark: str) -> list[str]:
  """Waits for a run's processes to end; describes those that do not."""
  deadline = time.monotonic() + _GRACE
  while (left := marked(mark)) and time.monotonic() < deadline:
    time.sleep(0.1)
  return [f'{p.pid} {command_of(p)[:3]}' for p in left]


def kill(mark: str) -> None:
  """Kills all processes of a run."""
  for process in marked(mark):
    with contextlib.suppress(psutil.NoSuchProcess):
      process.kill()
