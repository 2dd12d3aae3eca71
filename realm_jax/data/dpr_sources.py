"""DPR's table of Wikipedia, psgs_w100.tsv: articles cut every 100 words.

A row ends wherever its hundredth word stands, most often within a sentence
(row 1 ends 'Part of the Law (Torah) that Moses received from', row 2 begins
'God at Sinai granted'), and the last row of an article is filled up with the
article's first words. Rows of one title that follow each other are therefore
joined again and the filling is taken off: what comes back is the article, in
one paragraph, to be cut into blocks of whole sentences like any other.
"""

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from realm_jax.data.lines import read_lines
from realm_jax.errors import UserError

_COLUMNS = ('id', 'text', 'title')
_EXPECTED = (
  'three columns separated by tabs, id, text and title, as DPR writes them: a '
  'field with quotes in it stands in quotes, and they are doubled'
)
_MAX_ROWS = 1000  # of one article; about 600,000 characters
_MIN_FILLING = 4  # words; fewer may be the same by chance
_MAX_FILLING = 200  # words; twice what a row has


def is_dpr(head: bytes) -> bool:
  """Whether a file that begins so is a table with DPR's columns."""
  first = head.split(b'\n', 1)[0].rstrip(b'\r')
  return sorted(first.split(b'\t')) == sorted(c.encode() for c in _COLUMNS)


def read_dpr(path: Path, skipped: Counter[str]) -> Iterator[tuple[str, str]]:
  """The articles of a table, one at a time.

  Rows without a title are articles of their own. An article of more than
  _MAX_ROWS rows comes as several of the same title.

  Args:
    path: the table, with its line of column names; plain or compressed.
    skipped: rows without text are counted here.

  Yields:
    Title and text.

  Raises:
    UserError: a row is not what is expected, or the file is damaged.
  """
  title = ''
  texts: list[str] = []
  for row_title, text in _read_rows(path):
    if not text or text.isspace():
      skipped['no text'] += 1
      continue
    if texts and (row_title != title or not title or len(texts) == _MAX_ROWS):
      yield title, _join(texts)
      texts = []
    title = row_title
    texts.append(text)
  if texts:
    yield title, _join(texts)


def _read_rows(path: Path) -> Iterator[tuple[str, str]]:
  # With its line end again, since a quoted field may hold line ends.
  lines = (f'{line}\n' for _, line in read_lines(path))
  reader = csv.reader(lines, delimiter='\t', strict=True)
  try:
    names = next(reader, [])
    text, title = names.index('text'), names.index('title')
    for row in reader:
      if not row:
        continue
      if len(row) != len(_COLUMNS):
        raise UserError(
          f'{path}, line {reader.line_num}: {len(row)} columns. Expected '
          f'{_EXPECTED}.'
        )
      yield row[title], row[text]
  except csv.Error as error:
    raise UserError(
      f'{path}, line {reader.line_num}: no row of a table ({error}). Expected '
      f'{_EXPECTED}.'
    ) from error


def _join(texts: list[str]) -> str:
  """One text of all rows, without the filling at the end of the last."""
  words = [word for text in texts for word in text.split()]
  # A row has words of its own.
  longest = min(len(texts[-1].split()) - 1, _MAX_FILLING)
  for num_words in range(longest, _MIN_FILLING - 1, -1):
    if (
      words[-num_words] == words[0] and words[-num_words:] == words[:num_words]
    ):
      return ' '.join(words[:-num_words])
  return ' '.join(words)
