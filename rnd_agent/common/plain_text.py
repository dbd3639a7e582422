"""Text from files that may come from anywhere, for a terminal."""

import re


def printable(text: str) -> str:
  """A text without what would steer a terminal.

  Args:
    text: with any characters.

  Returns:
    The text; line ends stay, all else that cannot be printed is written as its
    number, such as \\x1b.
  """
  return ''.join(
      c if c.isprintable() or c == '\n'
      else c.encode('unicode_escape', 'backslashreplace').decode()
      for c in text
  )


def cause(error: BaseException) -> str:
  """The start of an error's message, one line of at most 160 characters.

  Args:
    error: of the operating system, TensorFlow or any other.

  Returns:
    The message without TensorFlow's name of the place.
  """
  text = error.strerror if isinstance(error, OSError) else None
  lines = (text or str(error)).strip().splitlines()
  text = lines[0] if lines else type(error).__name__
  text = re.sub(r'^\{\{.*?\}\} ', '', text)
  return text if len(text) <= 160 else f'{text[:77]}...{text[-80:]}'
