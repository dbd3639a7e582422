"""Draws runs: curves, novelty, rooms, comparisons, reports: `--help`.

Installed, it is the command `rnd-plot`.
"""

from rnd_agent.commands import plot

if __name__ == '__main__':
  plot.run()
