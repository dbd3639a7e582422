"""Text from files that may come from anywhere, for a terminal."""


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
