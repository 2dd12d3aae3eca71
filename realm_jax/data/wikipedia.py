"""A MediaWiki dump -> its articles, streamed.

The XML is parsed by expat with no external entity ever fetched; a document
type declaration, which no dump has, is refused, and with it every entity that
a file could define. One chunk of the file and its pages are held at a time.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.parsers import expat

from realm_jax.data.lines import read_chunks
from realm_jax.errors import UserError

_FIELDS = frozenset(('title', 'ns', 'model', 'timestamp', 'text'))
# Whose own text would be lost, and what there is beside pages.
_WITHOUT_TEXT = frozenset(('mediawiki', 'page', 'revision'))
_IN_DUMP = frozenset(('siteinfo', 'page', 'logitem'))
_DAY = re.compile(r'\d{4}-\d\d-\d\d(?=T)')
_REDIRECT = re.compile(r'\s*#\s*REDIRECT', re.IGNORECASE)
_LIST = re.compile(r'(?:Lists?|Index|Outline) of ')
_DISAMBIGUATION = re.compile(
  r"""\{\{\s*(?:
    (?:[\w-][\w -]*[ ])?disambiguation(?:[ ]page)?|disambig[\w-]*|disamb|dab
    |hndis|geodis|(?:school|hospital|church|station|road|mountain)[ -]?dis
    |call[ ]?sign[ -]?dis
    |[34][ ]?(?:CC|LC)dis|letter[- ]Number[ ]combination(?:[^|{}\n]*[^|{}\s])?
    |numberdis|mathdab
  )\s*(?:\||\}\})""",
  re.VERBOSE | re.IGNORECASE,
)


class Page(NamedTuple):
  """A page of a dump as it stands there; of many revisions the last.

  Attributes:
    title: its title.
    namespace: 0 for articles.
    is_redirect: it only points to another page.
    model: 'wikitext', or something that is no text.
    wikitext: its source.
    revised: the day of the revision, YYYY-MM-DD; empty if it is not given.
  """

  title: str
  namespace: str
  is_redirect: bool
  model: str
  wikitext: str
  revised: str = ''


def read_dump(
  path: str | Path, skipped: Counter[str]
) -> Iterator[tuple[str, str, str]]:
  """Reads the articles of a dump as they stand there.

  Args:
    path: pages-articles.xml, plain or compressed.
    skipped: pages left out are counted here, by reason.

  Yields:
    Title, wikitext, of which wikitext.plain_text makes text, and the day of the
    revision; see Page.

  Raises:
    UserError: it is truncated, damaged, or no MediaWiki dump.
  """
  for page in read_pages(path):
    if reason := reason_to_skip(page):
      skipped[reason] += 1
    else:
      yield page.title, page.wikitext, page.revised


def reason_to_skip(page: Page) -> str | None:
  """Why a page is no article to keep; None if it is one."""
  if page.namespace != '0':
    return 'not an article'
  if page.is_redirect or _REDIRECT.match(page.wikitext):
    return 'redirect'
  if page.model not in ('', 'wikitext'):
    return 'not wikitext'
  if _LIST.match(page.title):
    return 'list'
  if page.title.endswith('(disambiguation)') or _DISAMBIGUATION.search(
    page.wikitext
  ):
    return 'disambiguation'
  return None


def read_pages(path: str | Path, chunk_bytes: int = 1 << 20) -> Iterator[Page]:
  """Reads every page of a dump, as it stands there.

  Args:
    path: the dump, plain or compressed.
    chunk_bytes: decompressed bytes to hold at a time.

  Raises:
    UserError: it is truncated, damaged, or no MediaWiki dump.
  """
  reader = _PageReader(path)
  for chunk in read_chunks(path, chunk_bytes):
    yield from reader.feed(chunk)
  yield from reader.feed(b'', is_last=True)


class _PageReader:
  """Bytes in, pages out."""

  def __init__(self, path: str | Path):
    self._path = path
    self._pages: list[Page] = []
    self._fields: dict[str, str] = {}
    self._stack: list[str] = []
    self._parts: list[str] | None = None  # of the field that is being read
    self._parser = expat.ParserCreate()
    self._parser.buffer_text = True
    self._parser.StartElementHandler = self._start
    self._parser.EndElementHandler = self._end
    self._parser.CharacterDataHandler = self._characters
    self._parser.StartDoctypeDeclHandler = self._doctype

  def feed(self, chunk: bytes, is_last: bool = False) -> list[Page]:
    """The pages that end in this chunk."""
    try:
      self._parser.Parse(chunk, is_last)
    except UserError:  # of the handlers; a ValueError, too
      raise
    except (LookupError, ValueError) as error:  # of the encoding it declares
      raise UserError(
        f'{self._path} declares an encoding that is not read here ({error}). '
        'Expected UTF-8, as every dump is.'
      ) from error
    except expat.ExpatError as error:
      cut_off = is_last and self._stack
      what = 'ends in the middle of a page' if cut_off else 'is not well-formed'
      raise UserError(
        f'{self._path}, line {error.lineno}: the XML {what} '
        f'({expat.ErrorString(error.code)}). Fetch the dump again.'
      ) from error
    pages, self._pages = self._pages, []
    return pages

  def _start(self, name: str, attributes: dict[str, str]) -> None:
    del attributes
    if not self._stack and name != 'mediawiki':
      raise UserError(
        f'{self._path} is XML of <{name}>, expected a MediaWiki dump, '
        '<mediawiki>.'
      )
    if len(self._stack) == 1 and name not in _IN_DUMP:
      raise self._misplaced(f'a <{name}> where a page is expected')
    if name == 'page' and len(self._stack) > 1:
      raise self._misplaced(f'a page inside <{self._stack[-1]}>')
    if self._parts is not None:
      raise self._misplaced(f'<{name}> inside <{self._stack[-1]}>')
    self._stack.append(name)
    if name == 'page':
      self._fields = {}
    elif name == 'redirect':
      self._fields['redirect'] = name
    elif name in _FIELDS:
      self._parts = []

  def _end(self, name: str) -> None:
    self._stack.pop()
    if name in _FIELDS and self._parts is not None:
      self._fields[name] = ''.join(self._parts)
      self._parts = None
    elif name == 'page':
      fields = self._fields
      day = _DAY.match(fields.get('timestamp', ''))
      self._pages.append(
        Page(
          title=fields.get('title', '').strip(),
          namespace=fields.get('ns', '0').strip(),
          is_redirect='redirect' in fields,
          model=fields.get('model', '').strip(),
          wikitext=fields.get('text', ''),
          revised=day[0] if day else '',
        )
      )

  def _characters(self, data: str) -> None:
    if self._parts is not None:
      self._parts.append(data)
    elif self._stack[-1] in _WITHOUT_TEXT and not data.isspace():
      raise self._misplaced(f'text in <{self._stack[-1]}>, {data[:20]!r}')

  def _misplaced(self, what: str) -> UserError:
    return UserError(
      f'{self._path}, line {self._parser.CurrentLineNumber}: {what}. No dump '
      'has that: it is damaged, or its markup is not escaped. Fetch it again.'
    )

  def _doctype(self, *declaration: Any) -> None:
    raise UserError(
      f'{self._path} has a document type declaration ({declaration[0]}), '
      'which no MediaWiki dump has: it is not read.'
    )
