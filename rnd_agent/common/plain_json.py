"""Reads JSON from files that may come from a stranger, within bounds."""

from __future__ import annotations

import json
from typing import Any, Callable, Optional, Union

# Lists, dicts and their entries, at most: each is a few bytes of text, but some
# 100 bytes of memory. run.json has some 60 for each start of a run.
_MOST_PARTS = 2 * 10**6


def loads(
    text: Union[str, bytes],
    object_hook: Optional[Callable[[dict[str, Any]], Any]] = None,
) -> Any:
  """Reads JSON.

  Args:
    text: of any content, JSON or not.
    object_hook: called with every dict, as in `json.loads`.

  Returns:
    The value.

  Raises:
    ValueError: the text is no JSON, is nested too deeply, or has too many
      parts.
  """
  marks = '[{,' if isinstance(text, str) else (b'[', b'{', b',')
  if sum(map(text.count, marks)) > _MOST_PARTS:
    raise ValueError('it has too many parts')
  try:
    return json.loads(text, object_hook=object_hook)
  except RecursionError as error:
    raise ValueError('it is nested too deeply') from error
