"""Ranges of characters with a kind, and how to merge them."""

from collections.abc import Iterable
from typing import NamedTuple


class Span(NamedTuple):
  """Half-open character range in a text, and what it is."""

  start: int
  stop: int
  kind: str


def merge_spans(
  preferred: Iterable[Span], others: Iterable[Span]
) -> list[Span]:
  """All preferred spans and those others that overlap none, in order."""
  merged = list(preferred)
  taken = sorted((span.start, span.stop) for span in merged)
  for span in others:
    if all(stop <= span.start or span.stop <= start for start, stop in taken):
      merged.append(span)
  return sorted(merged)
