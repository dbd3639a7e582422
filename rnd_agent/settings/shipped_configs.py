"""The configs that come with the package: `configs/` of the repository."""

from __future__ import annotations

import pathlib
from typing import Optional

_PACKAGE = pathlib.Path(__file__).resolve().parents[1]


def _folder() -> pathlib.Path:
  """Beside the package in a checkout; in it where it is installed."""
  inside = _PACKAGE / 'configs'
  return inside if inside.is_dir() else _PACKAGE.parent / 'configs'


def paths() -> list[pathlib.Path]:
  """All of them, by name."""
  return sorted(_folder().glob('*.gin'))


def find(name: str) -> Optional[str]:
  """Path of the config with a bare name such as 'montezuma.gin', or None."""
  return next((str(path) for path in paths() if path.name == name), None)
