"""Articles from files, folders and data sets: the door to all of them.

Every reader is a stream. Which files of a folder are read is said in
data.source_folders, how formats are told apart in data.source_formats.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from realm_jax.data.lines import read_head
from realm_jax.data.source_folders import list_files, one_split, relative_name
from realm_jax.data.source_formats import FORMATS, Format, find_format
from realm_jax.data.tfds_sources import (
  TFDS_PREFIX,
  identify_tfds,
  read_tfds,
)
from realm_jax.errors import UserError
from realm_jax.folders import identify_file

_ONE_KIND = f'Expected files of one kind: {FORMATS}.'


class Article(NamedTuple):
  """A page before it is cut into blocks.

  Attributes:
    title: may be empty.
    text: paragraphs separated by line ends.
    is_block: it is one block as it stands, whatever its length, and its place
      among the others is its row in a table of embeddings.
    is_wikitext: its text is still to be made of wikitext.
    revised: the day of its revision, YYYY-MM-DD; empty if it is not known.
  """

  title: str
  text: str
  is_block: bool = False
  is_wikitext: bool = False
  revised: str = ''

  def plain(self, section_titles: bool = False) -> 'Article':
    """The article with its text made of wikitext, if that is what it has.

    Args:
      section_titles: see wikitext.plain_text.
    """
    if not self.is_wikitext:
      return self
    from realm_jax.data.wikitext import plain_text

    text = plain_text(self.text, section_titles)
    return self._replace(text=text, is_wikitext=False)


class _Source(NamedTuple):
  """What a path leads to: files of one format, in the order to read them."""

  format: Format
  files: list[Path]
  left_out: Counter[str]


def read_source(
  path: str | Path,
  skipped: Counter[str] | None = None,
  with_wikitext: bool = False,
) -> Iterator[Article]:
  """Reads the articles of a source, whatever its format.

  JSON lines (WikiExtractor's too), rows of Parquet and Arrow, and .txt files
  give an article each; a dump gives its articles as plain text; SQuAD an
  article per title, its paragraphs together; a table of DPR the articles that
  its rows were cut from. Block records are blocks already: see
  data.block_records. The readers' modules say more.

  Args:
    path: a file; a folder, all of whose files are read, sorted, and are of one
      kind; or a data set, tfds:NAME[:VERSION][:SPLIT].
    skipped: pages left out are counted here, by reason.
    with_wikitext: leave the articles of a dump as wikitext, the making of text
      to others: it takes most of the time.

  Returns:
    An iterator over the articles. It holds a few at a time, except that SQuAD
    is read whole, and of paragraphs in JSON lines 16 bytes each are kept.

  Raises:
    FileNotFoundError: there is no such file, folder or data set.
    ImportError: what reads it is not installed.
    UserError: its format is unknown, or it is damaged; names file and line.
  """
  skipped = Counter() if skipped is None else skipped
  # Checked here and not at the first article, so that of many sources a bad
  # one is found before any is read.
  if str(path).startswith(TFDS_PREFIX):
    pages = read_tfds(str(path), skipped)
    return _with_text((Article(*page) for page in pages), skipped)
  articles = _read(_find(Path(path)), skipped)
  if with_wikitext:
    return articles
  return _with_text((article.plain() for article in articles), skipped)


def identify_source(source: str | Path) -> dict[str, Any]:
  """What a source is, wherever it lies; also checks that it can be read.

  Args:
    source: as for read_source.

  Returns:
    {'name', 'bytes', 'sha256'}. A folder's digest is over the names and the
    digests of the files that are read; a data set's is that of its
    dataset_info.json.

  Raises:
    See read_source.
  """
  if str(source).startswith(TFDS_PREFIX):
    return identify_tfds(str(source))
  path = Path(source)
  found = _find(path)
  try:
    files = [identify_file(file) for file in found.files]
  except OSError as error:
    raise UserError(f'{path} cannot be read: {error}.') from error
  if not path.is_dir():
    return files[0]
  digest = hashlib.sha256()
  for file, entry in zip(found.files, files, strict=True):
    line = f'{relative_name(path, file)}\0{entry["sha256"]}\n'
    digest.update(line.encode())
  return {
    'name': path.resolve().name,
    'bytes': sum(entry['bytes'] for entry in files),
    'sha256': digest.hexdigest(),
  }


def _find(path: Path) -> _Source:
  if path.is_dir():
    return _find_in_folder(path)
  head = read_head(path)
  if not head.strip():
    raise UserError(f'{path} is empty: expected {FORMATS}.')
  form = find_format(path, head)
  if form is None:
    raise UserError(
      f'{path} begins with {head.lstrip()[:20]!r}, which is no format known '
      f'here. Expected {FORMATS}.'
    )
  form.check(path)
  return _Source(form, [path], Counter())


def _find_in_folder(folder: Path) -> _Source:
  listing = list_files(folder)
  left_out = listing.left_out
  by_format: dict[Format | None, list[Path]] = {}
  for path in listing.files:
    head = read_head(path)
    if head.strip():
      by_format.setdefault(find_format(path, head), []).append(path)
    else:
      left_out['empty file'] += 1
  if not by_format:
    reasons = ', '.join(f'{n} {why}' for why, n in left_out.items())
    raise UserError(
      f'{folder} holds nothing to read ({reasons or "no files"}). {_ONE_KIND}'
    )
  if len(by_format) > 1 or None in by_format:
    kinds = ', '.join(
      f'{len(files)} {form.name if form else "of no known format"} '
      f'({relative_name(folder, files[0])})'
      for form, files in by_format.items()
    )
    raise UserError(
      f'{folder} holds {kinds}. {_ONE_KIND} Name the files to read, or move '
      'the others away.'
    )
  ((form, files),) = by_format.items()
  assert form is not None
  if form.has_splits:
    files = one_split(folder, files)
  for path in files:
    form.check(path)
  return _Source(form, files, left_out)


def _read(source: _Source, skipped: Counter[str]) -> Iterator[Article]:
  skipped.update(source.left_out)
  form = source.format
  for path in source.files:
    articles = (
      Article(title, text, form.has_blocks, form.has_wikitext, *revised)
      for title, text, *revised in form.read(path, skipped)
    )
    yield from _with_text(articles, skipped)


def _with_text(
  articles: Iterable[Article], skipped: Counter[str]
) -> Iterator[Article]:
  """Articles with some text; blocks keep their place whatever they hold."""
  for article in articles:
    if article.is_block or (article.text and not article.text.isspace()):
      yield article
    else:
      skipped['no text'] += 1
