"""The formats of files of articles, told apart by what is in them."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from realm_jax.data.arrow_sources import (
  ARROW_MAGICS,
  PARQUET_MAGIC,
  check_columns,
  read_arrow,
)
from realm_jax.data.block_records import (
  NPY_MAGIC,
  TFRECORD_SUFFIXES,
  read_block_records,
)
from realm_jax.data.dpr_sources import is_dpr, read_dpr
from realm_jax.data.json_sources import read_json_articles
from realm_jax.data.squad import is_squad, read_squad
from realm_jax.data.text_sources import is_text_name, read_text
from realm_jax.errors import UserError

FORMATS = (
  'JSON lines {"title", "text"} or {"title", "paragraph"}, SQuAD 1.1 JSON, a '
  'MediaWiki XML dump, plain text called .txt, or a table of DPR (id, text, '
  'title), each plain or compressed with bz2, gzip or xz; Parquet or Arrow '
  'with a column "text"; or the block records of REALM or ORQA, .npy or .tfr'
)
# Titles and texts, and of a dump the day of the revision.
Pages = Iterator[tuple[str, ...]]


def _no_check(path: Path) -> None:
  del path


class Format(NamedTuple):
  """A format and how to read it.

  Attributes:
    name: for messages.
    read: from a file and a counter of what is left out to titles and texts.
    check: raises UserError if a file of this format cannot be read.
    has_blocks: each text is a block as it stands.
    has_wikitext: each text is still wikitext.
    has_splits: files of a folder may be parts of several data sets.
  """

  name: str
  read: Callable[[Path, Counter[str]], Pages]
  check: Callable[[Path], None] = _no_check
  has_blocks: bool = False
  has_wikitext: bool = False
  has_splits: bool = False


def _read_blocks(path: Path, skipped: Counter[str]) -> Pages:
  del skipped  # nothing is left out: rows must not move
  return (('', text) for text in read_block_records(path))


def _read_squad(path: Path, skipped: Counter[str]) -> Pages:
  del skipped  # nothing is left out
  for title, paragraphs, _ in read_squad(path):
    yield title, '\n'.join(paragraphs)


def _read_dump(path: Path, skipped: Counter[str]) -> Pages:
  from realm_jax.data.wikipedia import read_dump

  return read_dump(path, skipped)


_ARROW = Format('Arrow', read_arrow, check_columns, has_splits=True)
_BLOCKS = Format('block records', _read_blocks, has_blocks=True)
_DPR = Format('a table of DPR', read_dpr)
_DUMP = Format('MediaWiki XML', _read_dump, has_wikitext=True)
_JSON_LINES = Format('JSON lines', read_json_articles)
_PARQUET = Format('Parquet', read_arrow, check_columns, has_splits=True)
_SQUAD = Format('SQuAD JSON', _read_squad)
_TEXT = Format('plain text', read_text)


def find_format(path: Path, head: bytes) -> Format | None:
  """The format of a file; None if it is none known here.

  Args:
    path: the file; its name counts only for .txt and TFRecord files.
    head: its first bytes, decompressed; not only white space.

  Raises:
    UserError: it is a known format, but not one that is read.
  """
  start = head.lstrip()
  if start.startswith(NPY_MAGIC) or path.suffix in TFRECORD_SUFFIXES:
    return _BLOCKS
  if head.startswith(PARQUET_MAGIC):
    return _PARQUET
  if head.startswith(ARROW_MAGICS):
    return _ARROW
  if is_dpr(head):
    return _DPR
  if start.startswith(b'<doc '):
    raise UserError(
      f'{path} is what WikiExtractor writes by default, <doc>. Expected its '
      'JSON: run it again with --json.'
    )
  looks_like_data = re.match(rb'\{\s*"|<mediawiki\b', start)
  if is_text_name(path) and not looks_like_data:
    return _TEXT
  if start.startswith(b'<'):
    return _DUMP
  if start.startswith(b'{'):
    return _SQUAD if is_squad(path) else _JSON_LINES
  return None
