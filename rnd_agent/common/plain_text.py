"""Makes text from files that may come from a stranger safe for a terminal."""

import re


def printable(text: str) -> str:
  """A text without control characters, which could steer a terminal.

  Args:
    text: with any characters.

  Returns:
    The text. Line ends stay; any other character that cannot be printed is
    written as an escape, such as \\x1b.
  """
  return ''.join(
      c if c.isprintable() or c == '\n'
      else c.encode('unicode_escape', 'backslashreplace').decode()
      for c in text
  )


def message(error: BaseException) -> str:
  """An error's message without the configurables' names that gin appends."""
  return str(error).partition('\n  In call to')[0]


def one_line(error: BaseException) -> str:
  """`message` with its line ends turned into spaces."""
  return ' '.join(message(error).split())


def cause(error: BaseException) -> str:
  """The start of an error's message, one line of at most 160 characters.

  Args:
    error: of the operating system, TensorFlow or any other.

  Returns:
    The message, without the name of the operation that TensorFlow puts first.
  """
  text = error.strerror if isinstance(error, OSError) else None
  lines = (text or str(error)).strip().splitlines()
  text = lines[0] if lines else type(error).__name__
  text = re.sub(r'^\{\{.*?\}\} ', '', text)
  return text if len(text) <= 160 else f'{text[:77]}...{text[-80:]}'
