"""The novelty picture of an episode, and the map of the places of a run.

matplotlib is imported when something is drawn.
"""

from __future__ import annotations

import math
from typing import Sequence

import numpy as np

from rnd_agent.runs import run_folder
from rnd_agent.viewing import episode_trace
from rnd_agent.viewing import figures

# Level 1 of Montezuma's Revenge, a pyramid: rooms of each row, from the top.
_PYRAMID = (range(0, 3), range(3, 8), range(8, 15), range(15, 24))
_PER_ROW = 9
_COLOURS = 'YlOrBr'
_UNVISITED = '#eeeeee'
_MOST_PEAKS = 6


def novelty(trace: episode_trace.EpisodeTrace):
  """One episode's intrinsic reward, with frames where it is highest.

  As figure 1 of Burda et al. 2018 (arXiv 1810.12894).

  Args:
    trace: of the episode.

  Returns:
    A matplotlib figure.

  Raises:
    TraceError: the run has no bonus.
  """
  rewards = trace.intrinsic_reward
  if np.isnan(rewards).all():
    raise episode_trace.TraceError(
        'there is no novelty to draw: the run has no bonus '
        '(RNDConfig.intrinsic_coefficient = 0)'
    )
  plt = figures.pyplot()
  found = episode_trace.peaks(rewards, _MOST_PEAKS)
  rows = (2, 3) if trace.frames else (3,)
  drawing = plt.figure(
      figsize=(10, 5.6 if trace.frames else 3.4), layout='constrained'
  )
  grid = drawing.add_gridspec(len(rows), len(found), height_ratios=rows)
  for column, step in enumerate(found if trace.frames else ()):
    axis = drawing.add_subplot(grid[0, column])
    axis.imshow(trace.frame(step))
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_title(_caption(trace, column + 1, step), fontsize=8)
  axis = drawing.add_subplot(grid[-1, :])
  steps = np.arange(trace.length)
  axis.plot(steps, rewards, linewidth=1, color='#d1720a')
  for number, step in enumerate(found, start=1):
    axis.plot(step, rewards[step], 'o', markersize=4, color='#333333')
    axis.annotate(
        str(number), (step, rewards[step]), xytext=(0, 4), ha='center',
        textcoords='offset points', fontsize=9,
    )
  _shade_places(axis, trace.place)
  for step in np.flatnonzero(np.diff(trace.score)) + 1:
    axis.axvline(step, color='#2a7a2a', linewidth=0.8, linestyle=':')
  axis.set_ylabel('intrinsic reward', fontsize=9)
  axis.set_xlabel('agent steps of the episode', fontsize=9)
  axis.margins(x=0.01, y=0.12)
  figures.tidy(axis)
  title = f'{trace.title}: score {trace.score[-1]:g}'
  if np.diff(trace.score).any():
    title += ' (dotted: points)'
  axis.set_title(_plain(title), fontsize=9, loc='left')
  return drawing


def rooms(places: Sequence[run_folder.Place], env_name: str):
  """Where a run has been: visits, and the order of the first ones.

  Args:
    places: of `RunFolder.places`.
    env_name: its environment; of Montezuma's Revenge the pyramid is drawn, of
      others the places in the order of their numbers.

  Returns:
    A matplotlib figure.

  Raises:
    RunFolderError: there is no place.
  """
  if not places:
    raise run_folder.RunFolderError(
        f'{run_folder.printable(env_name)} has no places yet: rooms are known '
        "in Montezuma's Revenge and Pitfall, cells in toy:Corridor"
    )
  plt = figures.pyplot()
  from matplotlib import colors
  from matplotlib import ticker

  by_number = {place.place: place for place in places}
  cells = _layout(sorted(by_number), is_montezuma(env_name))
  total = max(1, sum(place.steps for place in places))
  lowest = min([p.steps for p in places if p.steps] or [1]) / total
  # From the power of ten below the rarest place, at most a tenth, to all.
  norm = colors.LogNorm(10.0 ** min(-1, math.floor(math.log10(lowest))), 1)
  colour_of = plt.get_cmap(_COLOURS)
  height = 1 + max(row for row, _ in cells.values())
  drawing, axis = plt.subplots(
      figsize=(10, 1.0 * height + 1.2), layout='constrained'
  )
  for number, (row, column) in cells.items():
    place = by_number.get(number)
    visited = place is not None and place.steps > 0
    colour = colour_of(norm(place.steps / total)) if visited else _UNVISITED
    axis.add_patch(plt.Rectangle(
        (column + 0.03, -row - 0.97), 0.94, 0.94, facecolor=colour,
        edgecolor='#777777' if place else '#cccccc', linewidth=0.8,
    ))
    dark = visited and sum(colour[:3]) < 1.5
    ink = 'white' if dark else '#222222' if place else '#999999'
    _describe(axis, number, place, total, row, column, ink)
  axis.set_xlim(0, _PER_ROW)
  axis.set_ylim(-height - 0.02, 0.02)
  axis.axis('off')
  axis.set_title(_rooms_title(places, env_name), fontsize=10, loc='left')
  bar = drawing.colorbar(
      plt.cm.ScalarMappable(norm, colour_of), ax=axis, shrink=0.7,
      label='share of all agent steps', aspect=30,
  )
  bar.ax.yaxis.set_major_formatter(lambda share, _: f'{100 * share:g}%')
  bar.ax.yaxis.set_minor_formatter(ticker.NullFormatter())
  return drawing


def is_montezuma(env_name: str) -> bool:
  """Whether an environment's rooms are those of the pyramid."""
  return 'montezumarevenge' in env_name.lower().replace('_', '')


def _layout(numbers, pyramid: bool) -> dict[int, tuple[float, float]]:
  """Row and column of every place to draw."""
  cells, rest = {}, numbers
  if pyramid:
    for row, level in enumerate(_PYRAMID):
      left = (_PER_ROW - len(level)) / 2
      cells |= {room: (row, left + i) for i, room in enumerate(level)}
    rest = [number for number in numbers if number not in cells]
  first = len(_PYRAMID) if pyramid else 0
  for i, number in enumerate(rest):
    cells[number] = (first + i // _PER_ROW, i % _PER_ROW)
  return cells


def _describe(axis, number, place, total, row, column, ink) -> None:
  x, y = column + 0.5, -row
  axis.text(x, y - 0.3, str(number), ha='center', va='center', fontsize=13,
            color=ink)
  if place is None:
    return
  axis.text(column + 0.1, y - 0.1, f'{place.order}.', ha='left', va='top',
            fontsize=8, color=ink)
  axis.text(
      x, y - 0.56, f'{100 * place.steps / total:.3g}%',
      ha='center', va='center', fontsize=8, color=ink,
  )
  axis.text(x, y - 0.79, f'from {_count(place.first_env_steps)}', ha='center',
            va='center', fontsize=7, color=ink)


def _rooms_title(places, env_name: str) -> str:
  what = 'room' if is_montezuma(env_name) else 'place'
  what += 's' * (len(places) > 1)
  return _plain(
      f'{env_name}: {len(places)} {what}, in the order of their first visits; '
      'from: agent steps of the run by then'
  )


def _caption(trace, number: int, step: int) -> str:
  parts = [f'{number}: step {step}']
  if trace.place[step] != episode_trace.NO_PLACE:
    parts.append(f'room {trace.place[step]}')
  return ', '.join(parts)


def _shade_places(axis, place: np.ndarray) -> None:
  """Every other stay at a place has a grey background."""
  if (place == episode_trace.NO_PLACE).all():
    return
  bounds = [0, *(np.flatnonzero(np.diff(place)) + 1).tolist(), len(place)]
  for start, end in list(zip(bounds, bounds[1:]))[1::2]:
    axis.axvspan(start, end, color='#000000', alpha=0.06, linewidth=0)


def _count(number: int) -> str:
  for size, unit in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
    if number >= size:
      return f'{number / size:.3g}{unit}'
  return str(number)


def _plain(text: str) -> str:
  """A text that matplotlib draws as it is: no mathematics."""
  return run_folder.printable(text).replace('$', r'\$')
