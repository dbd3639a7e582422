"""Cuts a run down to what others need of it, small enough for a repository.

    python -m rnd_agent.runs.publishing runs/x pretrained/x

The copy has config, metrics, places and one checkpoint, of networks and
statistics alone, with the networks' weights in 16 bits. It can be played,
plotted and reported on, and `train_eval.initial_weights` starts a new run from
it; it cannot be resumed.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import sys

from rnd_agent.common import plain_text
from rnd_agent.common import startup
from rnd_agent.common import terminal
from rnd_agent.runs import run_folder


def publish(source: str | os.PathLike, target: str | os.PathLike) -> None:
  """Writes the copy.

  Args:
    source: a run's folder, of which the newest checkpoint is taken.
    target: a folder that does not exist yet.

  Raises:
    RunFolderError: a file of the run is missing or damaged.
    CheckpointError: there is no intact checkpoint.
    FileExistsError: the target exists.
  """
  from rnd_agent.runs import checkpoints  # Loads TensorFlow.

  folder = run_folder.RunFolder(source)
  checkpoint = checkpoints.find(str(source))
  iteration = int(checkpoint.rpartition('-')[2])
  target = pathlib.Path(target)
  target.mkdir(parents=True)
  try:
    checkpoints.write_weights(checkpoint, str(target))
    shutil.copyfile(
        folder.file(run_folder.CONFIG), target / run_folder.CONFIG
    )
    for name in (run_folder.METRICS, run_folder.PLACES):
      if (folder.path / name).exists():
        (target / name).write_text(
            _rows_until(folder.text(name), iteration), encoding='utf-8'
        )
    description = folder.description()
    for start in (description, *description.get('starts', ())):
      start.pop('command', None)  # Its paths are those of the machine.
    (target / run_folder.DESCRIPTION).write_text(
        json.dumps(description, indent=2) + '\n', encoding='utf-8'
    )
  except BaseException:
    shutil.rmtree(target)
    raise


def _rows_until(table: str, iteration: int) -> str:
  """A table's header and the rows of no later iteration."""
  header, *lines = table.splitlines(keepends=True)
  index = header.strip().split(',').index('iteration')
  return header + ''.join(
      line for line in lines if int(line.split(',')[index]) <= iteration
  )


def main(argv: list[str]) -> None:
  """Publishes the run that the command line names."""
  terminal.prepare('publishing')
  parser = argparse.ArgumentParser(
      prog='publishing', description=__doc__.partition('\n')[0]
  )
  parser.add_argument('source', help="the run's folder")
  parser.add_argument('target', help='a new folder')
  flags = parser.parse_args(argv)
  startup.quiet_imports()
  from rnd_agent.runs import checkpoints

  try:
    publish(flags.source, flags.target)
  except FileExistsError:
    parser.error(f'{flags.target} exists: choose a new folder')
  except (
      run_folder.RunFolderError, checkpoints.CheckpointError, OSError
  ) as error:
    parser.error(plain_text.cause(error))
  size = sum(p.stat().st_size for p in pathlib.Path(flags.target).rglob('*'))
  print(f'wrote {flags.target}, {size / 1e6:.1f} MB')


if __name__ == '__main__':
  main(sys.argv[1:])
