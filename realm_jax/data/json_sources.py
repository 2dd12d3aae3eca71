"""Articles in JSON lines, also as WikiExtractor writes them."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from realm_jax.data.lines import read_json_lines, whole_characters
from realm_jax.errors import UserError

_EXPECTED = '{"title": ..., "text": ...}'
_FROM_WIKI_EXTRACTOR = {'id', 'url', 'title', 'text'}
# WikiExtractor escapes these three, and nothing else.
_ESCAPES = (('&lt;', '<'), ('&gt;', '>'), ('&amp;', '&'))


def read_json_articles(
  path: Path, skipped: Counter[str]
) -> Iterator[tuple[str, str]]:
  """The articles of a file, one a line.

  Lines with "paragraph" instead of "text", as question sets with their
  paragraph have, give an article too, but one that comes again under its title
  is skipped. In lines of WikiExtractor, known by "id" and "url", a first line
  that only repeats the title is dropped. Its escapes of &, < and > are undone
  in titles, and in texts where there is a "revid": that version always writes
  them.

  Args:
    path: the file; of paragraphs, 16 bytes each are kept.
    skipped: what is left out is counted here, by reason.

  Yields:
    Title and text.

  Raises:
    UserError: a line is something else, or the file is damaged.
  """
  seen: set[bytes] = set()
  for number, row in read_json_lines(path, _EXPECTED):
    is_paragraph = 'text' not in row and 'paragraph' in row
    title = row.get('title', '')
    text = row.get('paragraph' if is_paragraph else 'text')
    if not isinstance(text, str) or not isinstance(title, str):
      field = 'title' if isinstance(text, str) else 'text'
      found = repr(row[field])[:40] if field in row else 'missing'
      raise UserError(
        f'{path}, line {number}: "{field}" is {found}, expected a string: '
        f'{_EXPECTED}, one a line.'
      )
    title, text = whole_characters(title), whole_characters(text)
    if is_paragraph:
      digest = hashlib.blake2b(
        f'{title}\n{text}'.encode(), digest_size=16
      ).digest()
      if digest in seen:
        skipped['paragraph seen before'] += 1
        continue
      seen.add(digest)
    if row.keys() >= _FROM_WIKI_EXTRACTOR:
      title = _unescape(title).strip()
      text = _unescape(text) if 'revid' in row else text
      if title and text.strip() == title:
        skipped['title only'] += 1
        continue
      text = _without_title(text, title)
    yield title, text


def _unescape(text: str) -> str:
  for escaped, character in _ESCAPES:
    text = text.replace(escaped, character)
  return text


def _without_title(text: str, title: str) -> str:
  first, line_end, rest = text.partition('\n')
  return rest if line_end and first.strip() == title else text
