"""Answers that are regular expressions, as the official evaluation has them."""

import functools
import re
from collections.abc import Mapping, Sequence

_FLAGS = re.IGNORECASE | re.MULTILINE


@functools.lru_cache(maxsize=65536)
def compile_expression(pattern: str) -> re.Pattern | None:
  """Case ignored, ^ and $ at every line; None of what does not compile."""
  try:
    return re.compile(pattern, _FLAGS)
  except (re.error, OverflowError, RecursionError):
    return None


def expressions_warning(answers: Mapping[str, Sequence[str]]) -> str | None:
  """Says which questions have an answer that does not compile, if any has.

  Args:
    answers: question -> its answers, all of them expressions.
  """
  bad = [
    question
    for question, patterns in answers.items()
    if any(compile_expression(pattern) is None for pattern in patterns)
  ]
  if not bad:
    return None
  return (
    f'{len(bad)} of {len(answers)} questions have an answer that is no valid '
    f'regular expression and matches nothing; the first is {bad[0]!r}.'
  )
