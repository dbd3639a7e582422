"""Writes the report of a run: one HTML page that needs no network, no file.

All text from the run's folder is escaped, and a content security policy forbids
the page to load or run anything.
"""

from __future__ import annotations

import base64
import html
import math
from typing import NamedTuple, Optional, Sequence

import numpy as np

from rnd_agent.common import film_files
from rnd_agent.common import wording
from rnd_agent.runs import metrics as metrics_lib
from rnd_agent.runs import run_folder
from rnd_agent.viewing import curve_panels
from rnd_agent.viewing import curves
from rnd_agent.viewing import episode_trace
from rnd_agent.viewing import figures
from rnd_agent.viewing import panel
from rnd_agent.viewing import pictures

_LARGEST_FILM = 24 * 2**20  # Bytes.
_CLIPS = 3
_SECURITY_POLICY = (
    "default-src 'none'; img-src data:; media-src data:; "
    "style-src 'unsafe-inline'"
)
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; margin: 2rem auto;
  max-width: 1060px; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
.facts { display: grid; gap: .6rem 1.6rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); }
.facts b { display: block; font-size: 1.3rem; font-weight: 600; }
.facts span { color: #666; font-size: .85rem; }
img, video { max-width: 100%; height: auto; }
figure { margin: 0 0 1rem; }
figcaption, .note { color: #666; font-size: .85rem; }
.clips { display: flex; flex-wrap: wrap; gap: 1rem; }
.clips figure { flex: 1 1 300px; max-width: 520px; }
table { border-collapse: collapse; font-size: .85rem; }
td, th { border-bottom: 1px solid #e4e4e4; padding: .15rem .9rem .15rem 0;
  text-align: left; overflow-wrap: anywhere; }
th { white-space: nowrap; vertical-align: top; }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto;
  font-size: .78rem; line-height: 1.35; }
"""


class Episode(NamedTuple):
  """An episode for the report, or the reason why there is none.

  Attributes:
    trace: of the episode; None if there is no episode.
    frames_per_second: of its clips.
    reason: why there is no trace.
  """

  trace: Optional[episode_trace.EpisodeTrace]
  frames_per_second: float = 15.0
  reason: str = ''


def page(
    folder: run_folder.RunFolder, metrics: Sequence[str], episode: Episode,
    grid_width: Optional[int] = None,
) -> str:
  """The report of a run.

  Args:
    folder: the run.
    metrics: columns of metrics.csv to draw; those that the run lacks are left
      out.
    episode: of which novelty and clips are shown.
    grid_width: of its environment: see `pictures.rooms`.

  Returns:
    An HTML page.

  Raises:
    RunFolderError: the run has no metrics yet, or one of its files is damaged.
    FigureError: matplotlib is missing.
    FilmError: a clip cannot be encoded.
  """
  run = curves.read(folder)
  env_name = curves.env_name(run) or 'an environment'
  shown = curves.known_metrics([run], metrics)
  parts = [
      f'<h1>{_text(folder.label)}</h1>\n<p class="note">{_text(env_name)}</p>',
      _facts(run),
      _section('Learning curves', _curves(run, shown)),
      _section('Places', _places(folder, env_name, grid_width)),
      _section('Novelty in one episode', _novelty(episode)),
      _section('Film', _film(folder)),
      _section('Where it ran', _versions(folder)),
      _section('Config', _config(folder)),
  ]
  body = '\n'.join(parts)
  return (
      '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
      '<meta http-equiv="Content-Security-Policy" '
      f'content="{_SECURITY_POLICY}">\n'
      '<meta name="viewport" content="width=device-width">\n'
      f'<title>{_text(folder.label)}</title>\n<style>{_STYLE}</style>\n'
      f'</head>\n<body>\n{body}\n</body>\n</html>\n'
  )


def _facts(run: curves.Run) -> str:
  """The metrics of the last iteration, as large numbers."""
  facts = []
  episodes = run.columns.get('episodes', [metrics_lib.WINDOW])[-1]
  window = int(np.nanmin([episodes, metrics_lib.WINDOW]))
  averaged = f'{window} episodes' if window != 1 else 'one episode'
  places = curves.place_word([run])
  for name in (
      'iteration', 'frames', 'hours', *metrics_lib.RESULTS, 'steps_per_second'
  ):
    title = metrics_lib.BY_NAME[name].titled(places, averaged)
    value = run.columns.get(name, [float('nan')])[-1]
    if not math.isnan(value):
      form = wording.hours if name == 'hours' else wording.number
      facts.append(f'<div><b>{form(value)}</b><span>{title}</span></div>')
  return f'<div class="facts">{"".join(facts)}</div>'


def _curves(run: curves.Run, metrics: Sequence[str]) -> str:
  x = 'frames' if 'frames' in run.columns else 'iteration'
  panels = {m: curves.curves([run], x, m) for m in metrics}
  if not panels:
    return _note('metrics.csv has none of the columns to draw.')
  drawing = curve_panels.figure(panels, x, curves.place_word([run]))
  return _image(figures.png(drawing), 'learning curves')


def _places(
    folder: run_folder.RunFolder, env_name: str, grid_width: Optional[int]
) -> str:
  if not (folder.path / run_folder.PLACES).exists():
    return _note(f'The run has no {run_folder.PLACES}.')
  places = folder.places()
  if not places:
    return _note('No places are known in this environment.')
  drawing = pictures.rooms(places, env_name, grid_width)
  return _image(figures.png(drawing), 'map of places')


def _novelty(episode: Episode) -> str:
  trace = episode.trace
  if trace is None:
    return _note(f'No episode: {episode.reason}')
  try:
    drawing = pictures.novelty(trace)
  except episode_trace.TraceError as error:
    return _note(str(error))
  parts = [_image(figures.png(drawing), 'novelty')]
  if trace.frames:
    drawer = panel.Panel(trace)
    clips = []
    for peak, steps in episode_trace.clips(trace, _CLIPS):
      caption = (f'Steps {steps[0]} to {steps[-1]}, around the peak at step '
                 f'{peak}.')
      data = film_files.encoded(
          drawer.frames(steps), episode.frames_per_second, '.mp4'
      )
      clips.append(_video(data, caption))
    parts.append(f'<div class="clips">{"".join(clips)}</div>')
  return '\n'.join(parts)


def _film(folder: run_folder.RunFolder) -> str:
  films = folder.videos()
  if not films:
    return _note('The trainer has filmed nothing yet.')
  size = films[-1].stat().st_size
  if size > _LARGEST_FILM:
    return _note(
        f'{films[-1].name} is too large for a page ({size / 2**20:.0f} MiB).'
    )
  number = films[-1].stem.rpartition('-')[2]
  return _video(
      films[-1].read_bytes(),
      f'An evaluation episode, filmed by the trainer after iteration {number}.',
  )


def _versions(folder: run_folder.RunFolder) -> str:
  """A table of what run.json says about the latest start."""
  if not (folder.path / run_folder.DESCRIPTION).exists():
    return _note(f'The run has no {run_folder.DESCRIPTION}.')
  content = folder.description()
  rows = [('command', content['command'])] if 'command' in content else []
  source = content.get('source')
  if isinstance(source, dict):
    changed = ' with changes' if source.get('dirty') else ''
    rows.append(('commit', f'{source.get("commit", "-")}{changed}'))
  rows.append(('seed', content.get('seed', '-')))
  rows.append(('python', content.get('python', '-')))
  for part in ('packages', 'machine'):
    if isinstance(content.get(part), dict):
      rows += content[part].items()
  cells = ''.join(
      f'<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>'
      for name, value in rows
  )
  return f'<table>{cells}</table>'


def _config(folder: run_folder.RunFolder) -> str:
  if not (folder.path / run_folder.CONFIG).exists():
    return _note(f'The run has no {run_folder.CONFIG}.')
  return f'<pre>{_text(folder.text(run_folder.CONFIG))}</pre>'


def _section(title: str, content: str) -> str:
  return f'<h2>{_text(title)}</h2>\n{content}'


def _note(text: str) -> str:
  return f'<p class="note">{_text(text)}</p>'


def _image(data: bytes, description: str) -> str:
  return (
      f'<img alt="{_text(description)}" '
      f'src="data:image/png;base64,{_base64(data)}">'
  )


def _video(data: bytes, caption: str) -> str:
  return (
      '<figure><video controls loop muted playsinline '
      f'src="data:video/mp4;base64,{_base64(data)}"></video>'
      f'<figcaption>{_text(caption)}</figcaption></figure>'
  )


def _base64(data: bytes) -> str:
  return base64.b64encode(data).decode('ascii')


def _text(value) -> str:
  """Any value as escaped text that UTF-8 can encode."""
  text = str(value).encode('utf-8', 'backslashreplace').decode()
  return html.escape(text, quote=True)
