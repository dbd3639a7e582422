"""Plays episodes with a trained run: prints, films or shows them: `--help`.

Installed, it is the command `rnd-play`.
"""

from rnd_agent.commands import play

if __name__ == '__main__':
  play.run()
