"""Which edition of its sources a corpus is: what its manifest says of it."""

import datetime
from collections import Counter
from typing import Any

from realm_jax.errors import UserError

REVISED = 'revised: '  # before a day, among the counts of a chunk


def check_since(since: str | None) -> str | None:
  """A day as the manifest has it, YYYY-MM-DD.

  Args:
    since: a day in ISO 8601; None for none.

  Raises:
    UserError: it is no such day.
  """
  if since is None:
    return None
  try:
    return datetime.date.fromisoformat(since).isoformat()
  except (TypeError, ValueError) as error:
    raise UserError(
      f'since is {since!r} ({error}), expected the day of the edition, such as '
      '2018-12-20.'
    ) from error


def describe_edition(
  since: str | None, counts: Counter[str]
) -> dict[str, str | None]:
  """What the manifest says of a corpus's edition.

  Args:
    since: the stamp that was asked for.
    counts: of all chunks; those that REVISED begins, articles of that day.

  Returns:
    {'since', 'oldest_revision', 'newest_revision'}: days, YYYY-MM-DD; None
    where it is not known.
  """
  days = sorted(
    name.removeprefix(REVISED) for name in counts if name.startswith(REVISED)
  )
  return {
    'since': since,
    'oldest_revision': days[0] if days else None,
    'newest_revision': days[-1] if days else None,
  }


def edition_text(manifest: dict[str, Any]) -> str:
  """One line on a corpus's edition; says so where nothing is known of it."""
  edition = manifest.get('edition') or {}
  parts = [f'since {since}'] if (since := edition.get('since')) else []
  if oldest := edition.get('oldest_revision'):
    parts.append(f'revisions of {oldest} to {edition["newest_revision"]}')
  return ', '.join(parts) or 'not known'


def edition_warning(edition: dict[str, str | None]) -> str:
  """What is wrong with a stamp; empty if it fits the revisions."""
  since, newest = edition['since'], edition['newest_revision']
  if not since or not newest or newest <= since:
    return ''
  return (
    f'The newest revision is of {newest}, after the stamp, {since}: the corpus '
    'knows what the world did not know on that day.'
  )
