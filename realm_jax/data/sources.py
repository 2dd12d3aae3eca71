"""Articles from files: one reader a format, all of them streams."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from realm_jax.data.block_records import (
  NPY_MAGIC,
  TFRECORD_SUFFIXES,
  read_block_records,
)
from realm_jax.data.lines import read_head, read_json_lines
from realm_jax.data.squad import is_squad, read_squad
from realm_jax.errors import UserError

_EXPECTED_LINE = '{"title": ..., "text": ...}'
_FORMATS = (
  'JSON lines {"title", "text"} or {"title", "paragraph"}, SQuAD 1.1 JSON, or '
  'a MediaWiki XML dump; plain or compressed with bz2, gzip or xz; or the '
  'block records of REALM or ORQA, .npy or .tfr'
)


class Article(NamedTuple):
  """A page before it is cut into blocks.

  Attributes:
    title: may be empty.
    text: paragraphs separated by line ends.
    is_block: it is one block as it stands, whatever its length, and its place
      among the others is its row in a table of embeddings.
  """

  title: str
  text: str
  is_block: bool = False


def read_source(
  path: str | Path, skipped: Counter[str] | None = None
) -> Iterator[Article]:
  """Reads the articles of a file, whatever its format.

  JSON lines with "text" give an article a line, those with "paragraph" (as
  question sets with their paragraph have) too, but a paragraph that comes
  again under its title is skipped. SQuAD gives an article per title, its
  paragraphs together. A dump gives its articles as plain text. Block records
  are blocks already: see data.block_records.

  Args:
    path: the file.
    skipped: pages left out are counted here, by reason.

  Returns:
    An iterator over the articles. It holds one article at a time, except that
    SQuAD is read whole, and of paragraphs 16 bytes each are kept.

  Raises:
    FileNotFoundError: there is no such file.
    UserError: its format is unknown, or it is damaged; names file and line.
  """
  path = Path(path)
  skipped = Counter() if skipped is None else skipped
  # Checked here and not at the first article, so that of many sources a bad
  # one is found before any is read.
  reader = _find_reader(path)
  return (
    article
    for article in reader(path, skipped)
    if article.is_block or _has_text(article, skipped)
  )


def _find_reader(path: Path) -> Any:
  head = read_head(path).lstrip()
  if head.startswith(NPY_MAGIC) or (head and path.suffix in TFRECORD_SUFFIXES):
    return _read_blocks
  if not head:
    raise UserError(f'{path} is empty: expected {_FORMATS}.')
  if head.startswith(b'<'):
    from realm_jax.data.wikipedia import read_dump

    return lambda path, skipped: (
      Article(*page) for page in read_dump(path, skipped)
    )
  if is_squad(path):
    return _read_squad
  if head.startswith(b'{'):
    return _read_json_lines
  raise UserError(
    f'{path} begins with {head[:20]!r}, which is no format known here. '
    f'Expected {_FORMATS}.'
  )


def _read_blocks(path: Path, skipped: Counter[str]) -> Iterator[Article]:
  del skipped  # nothing is left out: rows must not move
  for text in read_block_records(path):
    yield Article('', text, is_block=True)


def _has_text(article: Article, skipped: Counter[str]) -> bool:
  if article.text and not article.text.isspace():
    return True
  skipped['no text'] += 1
  return False


def _read_json_lines(path: Path, skipped: Counter[str]) -> Iterator[Article]:
  seen: set[bytes] = set()
  for number, row in read_json_lines(path, _EXPECTED_LINE):
    is_paragraph = 'text' not in row and 'paragraph' in row
    title = row.get('title', '')
    text = row.get('paragraph' if is_paragraph else 'text')
    if not isinstance(text, str) or not isinstance(title, str):
      field = 'title' if isinstance(text, str) else 'text'
      found = repr(row[field])[:40] if field in row else 'missing'
      raise UserError(
        f'{path}, line {number}: "{field}" is {found}, expected a string: '
        f'{_EXPECTED_LINE}, one a line.'
      )
    if is_paragraph:
      digest = hashlib.blake2b(
        f'{title}\n{text}'.encode('utf-8', 'surrogatepass'), digest_size=16
      ).digest()
      if digest in seen:
        skipped['paragraph seen before'] += 1
        continue
      seen.add(digest)
    yield Article(title, text)


def _read_squad(path: Path, skipped: Counter[str]) -> Iterator[Article]:
  del skipped  # nothing is left out
  for title, paragraphs, _ in read_squad(path):
    yield Article(title, '\n'.join(paragraphs))
