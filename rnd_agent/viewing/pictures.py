"""Draws the novelty picture of an episode, and the map of a run's places."""

from __future__ import annotations

import math
from typing import Optional, Sequence

import numpy as np

from rnd_agent.common import wording
from rnd_agent.runs import run_folder
from rnd_agent.viewing import episode_trace
from rnd_agent.viewing import figures

# Level 1 of Montezuma's Revenge is a pyramid: the rooms of its rows, from the
# top.
_PYRAMID = (range(0, 3), range(3, 8), range(8, 15), range(15, 24))
_PER_ROW = 9
_COLOUR_MAP = 'YlOrBr'
_UNVISITED = '#eeeeee'
_MOST_PEAKS = 6
# Steps that score are marked if they are at most this share of all steps.
_MOST_SCORING = 0.15
_LUMINANCE = (0.2126, 0.7152, 0.0722)  # Weights of red, green and blue.
_MOST_PLACES = 2000  # matplotlib can draw no taller picture.


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
  peaks = episode_trace.peaks(rewards, _MOST_PEAKS)
  rows = (2, 3) if trace.frames else (3,)
  drawing = figures.new_figure(
      figsize=(10, 5.6 if trace.frames else 3.4), layout='constrained'
  )
  grid = drawing.add_gridspec(len(rows), len(peaks), height_ratios=rows)
  for column, step in enumerate(peaks if trace.frames else ()):
    axis = drawing.add_subplot(grid[0, column])
    axis.imshow(trace.frame(step))
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_title(_caption(trace, column + 1, step), fontsize=8)
  axis = drawing.add_subplot(grid[-1, :])
  steps = np.arange(trace.length)
  axis.plot(steps, rewards, linewidth=1, color='#d1720a')
  for number, step in enumerate(peaks, start=1):
    axis.plot(step, rewards[step], 'o', markersize=4, color='#333333')
    axis.annotate(
        str(number), (step, rewards[step]), xytext=(0, 4), ha='center',
        textcoords='offset points', fontsize=9,
    )
  _shade_places(axis, trace.place)
  scoring = np.flatnonzero(np.diff(trace.score)) + 1
  # Where most steps score, as in MountainCar, lines would hide the curve.
  rare = 0 < len(scoring) < _MOST_SCORING * trace.length
  for step in scoring if rare else ():
    axis.axvline(step, color='#2a7a2a', linewidth=0.8, linestyle=':')
  axis.set_ylabel('intrinsic reward', fontsize=9)
  axis.set_xlabel('agent steps of the episode', fontsize=9)
  axis.margins(x=0.01, y=0.12)
  figures.tidy(axis)
  title = f'{trace.title}: score {wording.number(trace.score[-1])}'
  if rare:
    title += ' (dotted: points)'
  axis.set_title(plain(title), fontsize=9, loc='left')
  return drawing


def rooms(
    places: Sequence[run_folder.Place], env_name: str,
    grid_width: Optional[int] = None,
):
  """A map of the places that a run has visited, with their visits.

  Args:
    places: of `RunFolder.places`.
    env_name: its environment: the rooms of Montezuma's Revenge are drawn as a
      pyramid, other places in the order of their numbers.
    grid_width: cells in a row, if places are cells of a grid that are numbered
      row by row: they are drawn where they lie in the grid.

  Returns:
    A matplotlib figure.

  Raises:
    RunFolderError: there is no place, or there are too many.
  """
  if not places:
    raise run_folder.RunFolderError(
        f'{run_folder.printable(env_name)} has no places yet: rooms are known '
        "in Montezuma's Revenge and Pitfall, cells in MiniGrid and toy:Corridor"
    )
  if len(places) > _MOST_PLACES:
    raise run_folder.RunFolderError(
        f'{len(places)} places are too many for a map: at most {_MOST_PLACES}'
    )
  figures.check_installed()
  by_number = {place.place: place for place in places}
  if grid_width:
    cells = _grid_layout(sorted(by_number), grid_width)
  else:
    cells = _layout(sorted(by_number), is_montezuma(env_name))
  total = max(1, sum(place.steps for place in places))
  norm, colour_of = _colours(places, total)
  height, width = (1 + max(cell[i] for cell in cells.values()) for i in (0, 1))
  width = max(width, _PER_ROW)
  drawing = figures.new_figure(
      figsize=(10, _PER_ROW * height / width + 1.2), layout='constrained'
  )
  from matplotlib import cm
  from matplotlib import patches

  axis = drawing.subplots()
  for number, (row, column) in cells.items():
    place = by_number.get(number)
    visited = place is not None and place.steps > 0
    colour = colour_of(norm(place.steps / total)) if visited else _UNVISITED
    axis.add_patch(patches.Rectangle(
        (column + 0.03, -row - 0.97), 0.94, 0.94, facecolor=colour,
        edgecolor='#777777' if place else '#cccccc', linewidth=0.8,
    ))
    dark = visited and np.dot(_LUMINANCE, colour[:3]) < 0.5
    ink = 'white' if dark else '#222222' if place else '#999999'
    if grid_width:
      axis.text(column + 0.5, -row - 0.5, str(place.order), ha='center',
                va='center', fontsize=min(9, 150 / width), color=ink)
    else:
      _write_visits(axis, number, place, row, column, ink)
  axis.set_xlim(0, width)
  axis.set_ylim(-height - 0.02, 0.02)
  axis.set_aspect('equal' if grid_width else 'auto')
  axis.axis('off')
  axis.set_title(_rooms_title(places, env_name, grid_width), fontsize=10,
                 loc='left')
  bar = drawing.colorbar(
      cm.ScalarMappable(norm, colour_of), ax=axis, shrink=0.7,
      label='share of all agent steps', aspect=30,
  )
  _label_shares(bar.ax.yaxis)
  return drawing


def _colours(places, total: int):
  """A logarithmic scale for shares of steps, and the colour map.

  The scale begins at the power of ten below the rarest place's share.
  """
  import matplotlib
  from matplotlib import colors

  lowest = min([p.steps for p in places if p.steps] or [1]) / total
  norm = colors.LogNorm(10.0 ** min(-1, math.floor(math.log10(lowest))), 1)
  return norm, matplotlib.colormaps[_COLOUR_MAP]


def _label_shares(axis) -> None:
  from matplotlib import ticker

  # 1 in 1,000,000 reads better than 0.0001%.
  axis.set_major_formatter(
      lambda share, _: f'{100 * share:g}%' if share >= 1e-4
      else f'1 in {1 / share:,.0f}'
  )
  axis.set_minor_formatter(ticker.NullFormatter())


def is_montezuma(env_name: str) -> bool:
  """Whether an environment is Montezuma's Revenge, by its name."""
  return 'montezumarevenge' in env_name.lower().replace('_', '')


def _layout(numbers, pyramid: bool) -> dict[int, tuple[float, float]]:
  """Row and column of every place; all rooms of the pyramid are drawn."""
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


def _grid_layout(numbers, width: int) -> dict[int, tuple[int, int]]:
  """Row and column of every cell, counted from the first that is visited."""
  cells = {number: divmod(number, width) for number in numbers}
  top, left = (min(cell[i] for cell in cells.values()) for i in (0, 1))
  return {n: (row - top, column - left) for n, (row, column) in cells.items()}


def _write_visits(axis, number, place, row, column, ink) -> None:
  x, y = column + 0.5, -row
  axis.text(x, y - 0.25, str(number), ha='center', va='center', fontsize=13,
            color=ink)
  if place is None:
    return
  axis.text(column + 0.1, y - 0.08, f'{place.order}.', ha='left', va='top',
            fontsize=8, color=ink)
  episodes = f'{_short(place.episodes)} episode{"s" * (place.episodes != 1)}'
  for offset, size, text in (
      (0.49, 8, f'{_short(place.steps)} step{"s" * (place.steps != 1)}'),
      (0.67, 7, episodes), (0.84, 7, f'by {_short(place.first_env_steps)}'),
  ):
    axis.text(x, y - offset, text, ha='center', va='center', fontsize=size,
              color=ink)


def _rooms_title(places, env_name: str, is_grid) -> str:
  count = len(places)
  text = f'{env_name}: {count:,} {wording.places(env_name, count)}'
  if is_grid:
    text += ', numbered in the order of their first visits'
  else:
    text += ', in the order of the first visits' if count > 1 else ''
    text += '; steps, episodes, and by how many steps of the run it was seen'
  return plain(text)


def _caption(trace, number: int, step: int) -> str:
  parts = [f'{number}: step {step}']
  if trace.place[step] != episode_trace.NO_PLACE:
    parts.append(f'{wording.places(trace.title, 1)} {trace.place[step]}')
  return ', '.join(parts)


def _shade_places(axis, place: np.ndarray) -> None:
  """Shades every other stay at a place, so that changes show."""
  if (place == episode_trace.NO_PLACE).all():
    return
  bounds = [0, *(np.flatnonzero(np.diff(place)) + 1).tolist(), len(place)]
  for start, end in list(zip(bounds, bounds[1:]))[1::2]:
    axis.axvspan(start, end, color='#000000', alpha=0.06, linewidth=0)


def _short(number: int) -> str:
  """A count in k, M and G."""
  for size, unit in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
    if number >= size:
      return f'{number / size:.3g}{unit}'
  return str(number)


def plain(text: str) -> str:
  """A text in which matplotlib finds no mathematics."""
  return run_folder.printable(text).replace('$', r'\$')
