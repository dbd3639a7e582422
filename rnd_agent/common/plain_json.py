"""JSON from files that may come from anywhere, within bounds."""

from __future__ import annotations

import json
from typing import Any, Callable, Optional, Union

# Lists, dicts and what is in them: some 100 bytes of memory each, of a few of
# text. run.json has some 60 for each start of a run.
_MOST_PARTS = 2 * 10**6


def loads(
    text: Union[str, bytes],
    object_hook: Optional[Callable[[dict[str, Any]], Any]] = None,
) -> Any:
  """Reads JSON.

  Args:
    text: of any content.
    object_hook: called with every dict, as in `json.loads`.

  Returns:
    The value.

  Raises:
    ValueError: it is no JSON, nested too deeply, or of too many parts.
  """
  marks = '[{,' if isinstance(text, str) else (b'[', b'{', b',')
  if sum(map(text.count, marks)) > _MOST_PARTS:
    raise ValueError('it has too many parts')
  try:
    return json.loads(text, object_hook=object_hook)
  except RecursionError as error:
    raise ValueError('it is nested too deeply') from error
