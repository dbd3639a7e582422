"""Draws what a core's state tells, and where a DNC wrote and read."""

from __future__ import annotations

from typing import Optional, Sequence

import numpy as np

from rnd_agent.viewing import curves
from rnd_agent.viewing import figures
from rnd_agent.viewing import memory_trace
from rnd_agent.viewing import read_outs

_COLUMNS = 3
_MOST_HEADS = 4
_COLOUR_MAP = 'magma'
_SCORE_NAMES = {True: 'accuracy', False: r'$R^2$'}


def figure(
    found: Sequence[read_outs.ReadOut],
    links: Optional[memory_trace.Links],
    title: str,
):
  """A panel for each fact; below them, of a DNC, its weightings over time.

  Args:
    found: of `read_outs.fit`.
    links: of the first episode, if the core is a DNC.
    title: of the figure, without mathematics.

  Returns:
    A matplotlib figure.
  """
  facts = list(dict.fromkeys(read_out.fact for read_out in found))
  rows = -(-len(facts) // _COLUMNS)
  pictures = _pictures(links) if links is not None else []
  picture_rows = -(-len(pictures) // _COLUMNS)
  drawing = figures.new_figure(
      layout='constrained',
      figsize=(11, 0.9 + 2.3 * rows + 2.5 * picture_rows),
  )
  grid = drawing.add_gridspec(rows + picture_rows, _COLUMNS)
  for i, fact in enumerate(facts):
    axis = drawing.add_subplot(grid[divmod(i, _COLUMNS)])
    _draw_fact(axis, [read_out for read_out in found if read_out.fact == fact])
    if i == 0:
      handles, labels = axis.get_legend_handles_labels()
  for i, (name, across, up, weights) in enumerate(pictures):
    row, column = divmod(i, _COLUMNS)
    axis = drawing.add_subplot(grid[rows + row, column])
    image = axis.imshow(
        weights, aspect='auto', origin='lower', cmap=_COLOUR_MAP, vmin=0,
        vmax=max(weights.max(), 1e-6), interpolation='nearest',
    )
    axis.set_title(name, fontsize=9, loc='left')
    axis.set_xlabel(across, fontsize=8)
    axis.set_ylabel(up, fontsize=8)
    axis.tick_params(labelsize=8)
    drawing.colorbar(image, ax=axis).ax.tick_params(labelsize=7)
  drawing.legend(
      handles, labels, fontsize=8, loc='outside lower center',
      ncols=min(len(labels), 4), frameon=False,
  )
  drawing.suptitle(title, fontsize=10, x=0.01, ha='left')
  return drawing


def _draw_fact(axis, found: Sequence[read_outs.ReadOut]) -> None:
  """Scores of one fact over the delay, one line per source."""
  delays = [read_out.delay for read_out in found]
  places = np.arange(len(found))
  for name in found[0].scores:
    kind = name.removesuffix(read_outs.UNTRAINED)
    axis.plot(
        places, [read_out.scores[name] for read_out in found],
        label=name, marker='.', linewidth=1.3, color=_colour(kind, found),
        linestyle=':' if kind != name else '-',
    )
  axis.plot(places, [read_out.chance for read_out in found], color='#888888',
            linewidth=1, linestyle='--', label='chance')
  axis.set_xticks(places, delays)
  axis.set_ylim(-0.1, 1.05)
  axis.set_title(found[0].fact, fontsize=9, loc='left')
  axis.set_xlabel('agent steps ago', fontsize=8)
  axis.set_ylabel(_SCORE_NAMES[found[0].is_category], fontsize=8)
  figures.tidy(axis, plain_x=True)


def _colour(kind: str, found) -> str:
  """A source and its untrained counterpart have one colour."""
  kinds = list(dict.fromkeys(
      name.removesuffix(read_outs.UNTRAINED) for name in found[0].scores
  ))
  return f'C{kinds.index(kind) % 10}'


def _pictures(links: memory_trace.Links):
  """`(title, horizontal axis, vertical axis, [up, across])` each."""
  axes = 'agent steps of the first episode', 'row of the memory'
  heads = links.read_weightings.shape[1]
  return [
      ('written: where', *axes, links.write_weighting.T),
      *((f'read: where, head {i + 1} of {heads}', *axes,
         links.read_weightings[:, i].T)
        for i in range(min(heads, _MOST_HEADS))),
      ('usage', *axes, links.usage.T),
      ('links at the end', 'row written just before',
       'row written just after', links.link),
  ]


def table(
    found: Sequence[read_outs.ReadOut], exact: bool
) -> tuple[list[str], list[list[str]]]:
  """A row for each fact and delay.

  Args:
    found: of `read_outs.fit`.
    exact: whether numbers are written in full, for programs.

  Returns:
    The header and the rows, as text.
  """
  sources = list(found[0].scores)
  write = curves.number if exact else '{:.2f}'.format
  return (
      ['fact', 'delay', 'held-out samples', 'score', 'chance', *sources],
      [[
          read_out.fact, str(read_out.delay), str(read_out.samples),
          'accuracy' if read_out.is_category else 'R^2',
          write(read_out.chance),
          *(write(read_out.scores[source]) for source in sources),
      ] for read_out in found],
  )
