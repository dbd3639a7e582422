"""Lines about what is wrong for the time being, each said once."""

from __future__ import annotations

import contextlib
import re
from typing import Callable, Iterator

from rnd_agent.common import plain_text
from rnd_agent.environments import errors


class Notices:
  """Says what fails beside the training, and says it again only if it changes.
  """

  def __init__(self, note: Callable[[str], None]):
    """Says nothing yet.

    Args:
      note: told one line at a time.
    """
    self._note = note
    self._unsettled = {}

  def say_once(self, topic: str, text: str) -> None:
    """Says what is wrong, unless the same was said and is not settled.

    Args:
      topic: what it is about.
      text: one line.
    """
    # A process that was made anew has another number.
    text_without_numbers = re.sub(r'\(process \d+', '', text)
    if self._unsettled.get(topic) != text_without_numbers:
      self._unsettled[topic] = text_without_numbers
      self._note(text)

  def settle(self, topic: str) -> None:
    """Notes that it works again: the next failure will be said."""
    self._unsettled.pop(topic, None)

  @contextlib.contextmanager
  def optional(self, step: str, settles: bool = True) -> Iterator[None]:
    """Lets the training go on where a step beside it fails.

    Args:
      step: its name, which is the topic of what is said.
      settles: whether its success shows that the step works again.

    Yields:
      Nothing; what is raised inside is said, and goes no further.
    """
    try:
      yield
      if settles:
        self.settle(step)
    except Exception as error:  # noqa: BLE001, environments raise anything.
      self.say_once(step, f'{step} left out: {_cause(error)}')


def _cause(error: Exception) -> str:
  """One line; of what an environment raises the kind as well."""
  if isinstance(error, errors.EnvironmentWorkerError):
    return str(error).partition('\n')[0]
  return f'{type(error).__name__}: {plain_text.cause(error)}'
