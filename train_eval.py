"""Trains an agent as a config says, or continues a run: `--help`.

Installed, it is the command `rnd-train`.
"""

from rnd_agent.commands import train

if __name__ == '__main__':
  train.run()
