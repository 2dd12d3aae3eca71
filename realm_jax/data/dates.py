"""Written dates found by rule.

A date is found whole: with its weekday, with "early", "mid" or "late", with its
season, with BC or AD; not with "in", "the", "circa" or "beginning of".

A range is one date where a dash, "to", "through" or "until" stands in it and
its ends are years, decades, or days or months that share what follows
("1914-18", "1920s to 1930s", "14-16 March 1432", "June-July 1944"). Ends that
name a day or year of their own beside the month are two dates ("10 June 1899 -
12 May 1955"). "And" and "or" stand between two dates ("between 1914 and
1918"), unless the first alone would be none: "May and June
1914", "18th and 19th centuries" and "480 and 323 BC" are one each.

No dates are: months, seasons and weekdays without a day or year, "9/11",
feasts, "the 60s" without an apostrophe or a century (they are ages and degrees
as often), and what is only so long ago ("the last decade").
"""

# ruff: noqa: RUF001 (typographic apostrophes are meant)
import re

from realm_jax.data.date_context import is_year
from realm_jax.data.date_patterns import (
  AHEAD,
  AHEAD_OF_DAY,
  AHEAD_OF_YEAR,
  CENTURIES,
  CENTURY_WORD,
  DATES,
  START,
)
from realm_jax.data.spans import Span, merge_spans

DATE = 'DATE'
# Characters to look back for what stands ahead of a date.
_LOOK_BACK = 48
# "Alaska's first century", "his third century of the season".
_OWNED = re.compile(
  r"(?:\b(?:his|her|its|their|our|my)|['’]s|s['’]) (?:early )?$"
)
_COUNTED_CENTURY = re.compile(r'(?:first|second|third) century$')


def find_dates(text: str) -> list[Span]:
  """Finds written dates, years 1000-2099, decades, centuries, ranges of them.

  A bare number of four digits is a year unless what stands around it says that
  something is counted or numbered.

  Args:
    text: any text; no date crosses a line's end.

  Returns:
    Spans in order, without overlap.
  """
  dates = []
  stop = 0
  for place in START.finditer(text):
    if place.start() < stop:
      continue
    match = DATES.match(text, place.start())
    if match:
      start = _start_of_date(text, match, stop)
      stop = match.end()
      if start is not None:
        dates.append(Span(start, stop, DATE))
  centuries = _find_centuries(text)
  return merge_spans(dates, centuries) if centuries else dates


def _start_of_date(text: str, match: re.Match, stop: int) -> int | None:
  """Where a date begins, not before stop; None if it is none after all."""
  start = match.start()
  kind = match.lastgroup
  # Slices and not search(text, position): $ must be where the match begins.
  before = text[max(stop, start - _LOOK_BACK) : start]
  if kind == 'day':
    ahead = AHEAD_OF_DAY.search(before)
  elif kind in ('bare', 'short') and (ahead := AHEAD_OF_YEAR.search(before)):
    return start - len(ahead[0])
  elif kind == 'short' or (
    kind == 'bare' and not is_year(text, start, match.end())
  ):
    return None
  else:
    ahead = AHEAD.search(before)
  return start - len(ahead[0]) if ahead else start


def _find_centuries(text: str) -> list[Span]:
  centuries: list[Span] = []
  if 'entur' not in text and 'illenni' not in text:
    return centuries  # quicker than the expression
  stop = 0
  for word in CENTURY_WORD.finditer(text):
    first = max(stop, word.start() - _LOOK_BACK)
    match = CENTURIES.search(text, first, word.end() + _LOOK_BACK)
    if match and match.start() < word.start():
      owned = _COUNTED_CENTURY.search(match[0]) and _OWNED.search(
        text[max(0, match.start() - 16) : match.start()]
      )
      stop = match.end()
      if not owned:
        centuries.append(Span(match.start(), stop, DATE))
  return centuries
