"""Writes the tables of docs/metrics.md from the rows of `metrics.py`.

  python -m rnd_agent.runs.metrics_page

A table stands between `<!-- name -->` and `<!-- end of name -->`; the text
around it is written by hand.
"""

import pathlib
import re

from rnd_agent.runs import metrics as metrics_lib

PAGE = pathlib.Path(__file__).parents[2] / 'docs' / 'metrics.md'


def with_tables(page: str) -> str:
  """Replaces the tables of the page by those of the current rows.

  Args:
    page: text of docs/metrics.md.

  Returns:
    The same text around new tables.

  Raises:
    ValueError: the marks of a table are missing, or there more than once.
  """
  for name, table in (
      ('columns', _columns()), ('empty cells', _empty_cells()),
      ('charts', _charts()), ('tags', _tags()),
  ):
    begin, end = f'<!-- {name} -->\n', f'<!-- end of {name} -->\n'
    place = re.compile(f'(?<={begin}).*?(?={end})', re.DOTALL)
    page, count = place.subn(lambda _, table=table: table, page)
    if count != 1:
      raise ValueError(f'{count} places for the table of {name}, not one')
  return page


def _columns() -> str:
  return _table(
      (
          'column', 'tag', 'unit', 'how it is computed',
          'healthy in the first million steps', 'measured',
      ),
      (
          (
              f'`{m.name}`', f'`{m.tag}`' if m.tag else '-', m.unit,
              m.meaning + f' (since version {m.since})' * (m.since > 1),
              m.healthy, m.measured,
          ) for m in metrics_lib.METRICS if m.column
      ),
  )


def _empty_cells() -> str:
  names = {}
  for metric in metrics_lib.METRICS:
    if metric.empty:
      names.setdefault(metric.empty, []).append(f'`{metric.name}`')
  return _table(
      ('column', 'empty when'),
      ((', '.join(columns), when) for when, columns in names.items()),
  )


def _charts() -> str:
  charts = metrics_lib.charts().items()
  return _table(
      ('question', 'charts'),
      (
          (question, ', '.join(
              ' with '.join(f'`{tag}`' for tag in tags)
              for chart, tags in charts if chart.question == number
          ))
          for number, question in enumerate(metrics_lib.QUESTIONS)
      ),
  )


def _tags() -> str:
  return _table(
      ('tag', 'unit', 'what'),
      (
          (f'`{m.tag}`', m.unit, m.meaning)
          for m in metrics_lib.METRICS if m.tag and not m.column
      ),
  )


def _table(header, rows) -> str:
  lines = [header, ['---'] * len(header), *rows]
  return ''.join(f'| {" | ".join(cells)} |\n' for cells in lines)


if __name__ == '__main__':
  PAGE.write_text(
      with_tables(PAGE.read_text(encoding='utf-8')), encoding='utf-8'
  )
