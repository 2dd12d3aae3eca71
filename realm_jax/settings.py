"""Settings as JSON holds them, and where two of them differ."""

import json
from dataclasses import asdict
from typing import Any


def as_json(settings: Any) -> Any:
  """Settings as JSON holds them: tuples are lists, dataclasses dictionaries."""
  return json.loads(json.dumps(settings, default=asdict))


def differences(
  old: Any, new: Any, ignored: tuple[str, ...] = (), path: str = ''
) -> list[tuple[str, Any, Any]]:
  """Where two trees of JSON values differ: path, old and new value.

  Args:
    old: dictionaries within dictionaries.
    new: the same.
    ignored: keys, at any depth, whose values may differ.
    path: of both, for the names.
  """
  if isinstance(old, dict) and isinstance(new, dict):
    return [
      difference
      for key in sorted((old.keys() | new.keys()) - set(ignored))
      for difference in differences(
        old.get(key), new.get(key), ignored, f'{path}.{key}' if path else key
      )
    ]
  return [] if old == new else [(path, old, new)]
