"""Answers that are regular expressions, as the official evaluation has them."""

import functools
import re

_FLAGS = re.IGNORECASE | re.MULTILINE


@functools.lru_cache(maxsize=65536)
def compile_expression(pattern: str) -> re.Pattern | None:
  """Case ignored, ^ and $ at every line; None of what does not compile."""
  try:
    return re.compile(pattern, _FLAGS)
  except (re.error, OverflowError, RecursionError):
    return None
