"""Blocks of corpora taken over as they are: nothing is encoded or tagged again.

A piece of a mapped file at a time, and by columns: what takes the time is
copying the bytes and hashing them. Ids are all that changes.
"""

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from realm_jax.data.blocks import clean_text
from realm_jax.data.corpus import BLOCK_SCHEMA, SENTENCE_SCHEMA, Corpus
from realm_jax.data.lines import read_lines
from realm_jax.data.packing import PackedChunk
from realm_jax.data.shards import Shard

_PIECE = 1 << 13  # blocks taken over at once, or one article if it has more


class Choice(NamedTuple):
  """Which blocks of a corpus stay.

  Attributes:
    keep: per file of blocks, [its num_blocks] bool.
    num_articles: articles 'kept', 'removed' and 'replaced'.
    num_blocks: their blocks.
  """

  keep: list[np.ndarray]
  num_articles: Counter[str]
  num_blocks: Counter[str]


def read_titles(path: str | Path) -> list[str]:
  """Titles from a file, one a line, with white space as a corpus has it.

  Blank lines and repetitions are left out.

  Raises:
    FileNotFoundError: there is no such file.
    UserError: it is damaged or not UTF-8.
  """
  titles = (clean_text(line).replace('\n', ' ') for _, line in read_lines(path))
  return list(dict.fromkeys(title for title in titles if title))


def missing_titles(corpus: Corpus, titles: Sequence[str]) -> list[str]:
  """Those of some titles, no two alike, that no article of a corpus has."""
  wanted = pa.array(titles, pa.string())
  found = np.zeros(len(titles), bool)
  for blocks, _ in _block_files(corpus):
    places = pc.index_in(blocks.batch.column('title'), value_set=wanted)
    found[places.drop_null().to_numpy()] = True
  return [titles[i] for i in np.flatnonzero(~found).tolist()]


def choose_blocks(
  corpus: Corpus, removed: Sequence[str] = (), added: Corpus | None = None
) -> Choice:
  """Leaves out articles that are removed, and those that others replace.

  Of several articles with one title all are meant. An empty title is none: an
  article without a title stays, whatever is removed or added.

  Args:
    corpus: the corpus.
    removed: titles.
    added: its articles replace those with the same titles; None for none.
  """
  old = pa.array(removed, pa.string())
  new = old[:0] if added is None else _titles(added)
  choice = Choice([], Counter(), Counter())
  for blocks, begins in _block_files(corpus):
    title = blocks.batch.column('title')
    has_title = pc.not_equal(title, '').to_numpy(zero_copy_only=False)
    is_old, is_new = (
      has_title & pc.is_in(title, value_set=s).to_numpy(zero_copy_only=False)
      for s in (old, new)
    )
    for name, chosen in (
      ('kept', ~is_old & ~is_new),
      ('removed', is_old & ~is_new),
      ('replaced', is_new),
    ):
      choice.num_articles[name] += int((begins & chosen).sum())
      choice.num_blocks[name] += int(chosen.sum())
    choice.keep.append(~is_old & ~is_new)
  return choice


def copied_chunks(
  parts: Sequence[tuple[Corpus, Choice]], start: int = 0
) -> Iterator[PackedChunk]:
  """The chosen blocks of some corpora, one corpus after another.

  Args:
    parts: corpora of one vocabulary with equal span_kinds, and what stays.
    start: leave out so many chunks; those after them are the same.

  Returns:
    What a CorpusWriter takes. A chunk may have no blocks, if none of its rows
    stays. What was cut is not among its counts: no corpus says of which block.
  """
  pieces = itertools.chain.from_iterable(_pieces(*part) for part in parts)
  return map(_copy, itertools.islice(pieces, start, None))


def block_digests(blocks: pa.RecordBatch) -> bytes:
  """SHA-256 of each row, 32 bytes; see packing, which makes the same.

  Args:
    blocks: rows of BLOCK_SCHEMA.
  """
  names = 'title', 'text', 'title_token_ids', 'token_ids'
  columns = [_as_binary(blocks.column(name)) for name in names]
  columns.append(_as_binary(blocks.column('position').cast(pa.string())))
  # Each part after its length, as packing has it, and all of a row together.
  parts = [part for column in columns for part in (_lengths(column), column)]
  rows = pc.binary_join_element_wise(*parts, b'')
  return b''.join(hashlib.sha256(row.as_buffer()).digest() for row in rows)


class _Piece(NamedTuple):
  """Rows of a file of blocks, up to where an article begins.

  Attributes:
    blocks: the file.
    sentences: the file of its sentences.
    first_block: block_id of the first row of the file.
    start: first row.
    stop: one past the last row.
    keep: [stop - start] bool; whole articles.
    begins: [stop - start] bool; the first block of each article.
    kinds: of the corpus's spans.
  """

  blocks: Shard
  sentences: Shard
  first_block: int
  start: int
  stop: int
  keep: np.ndarray
  begins: np.ndarray
  kinds: Sequence[str]


def _block_files(corpus: Corpus) -> Iterator[tuple[Shard, np.ndarray]]:
  """Each file of blocks, and which of its rows begin an article: bool."""
  before = np.int32(-1)
  for name in corpus.manifest['block_files']:
    blocks = Shard(corpus.folder / name, BLOCK_SCHEMA)
    article_ids = blocks.flat['article_id']
    yield blocks, np.diff(article_ids, prepend=before) != 0
    before = article_ids[-1]


def _titles(corpus: Corpus) -> pa.Array:
  """The titles of a corpus, each once."""
  titles = [
    blocks.batch.column('title').unique() for blocks, _ in _block_files(corpus)
  ]
  return pa.chunked_array(titles, pa.string()).unique()


def _pieces(corpus: Corpus, choice: Choice) -> Iterator[_Piece]:
  names = corpus.manifest['sentence_files']
  first_block = 0
  files = zip(_block_files(corpus), names, choice.keep, strict=True)
  for (blocks, begins), name, keep in files:
    sentences = Shard(corpus.folder / name, SENTENCE_SCHEMA)
    num_rows = len(keep)
    # Each piece ends where the first article after _PIECE more rows begins.
    ends = np.append(np.flatnonzero(begins), num_rows)
    places = np.searchsorted(ends, np.arange(_PIECE, num_rows, _PIECE))
    bounds = np.unique([0, *ends[places], num_rows])
    for start, stop in itertools.pairwise(bounds.tolist()):
      yield _Piece(
        blocks,
        sentences,
        first_block,
        start,
        stop,
        keep[start:stop],
        begins[start:stop],
        corpus.manifest['span_kinds'],
      )
    first_block += num_rows


def _copy(piece: _Piece) -> PackedChunk:
  """What stays of a piece, its articles and blocks numbered from 0."""
  size = piece.stop - piece.start
  blocks = piece.blocks.batch.slice(piece.start, size)
  block_ids = piece.sentences.flat['block_id']
  first_block = piece.first_block + piece.start
  first, stop = np.searchsorted(block_ids, [first_block, first_block + size])
  sentences = piece.sentences.batch.slice(first, stop - first)
  # [num_sentences]; rows of the piece
  rows = block_ids[first:stop] - first_block
  if not piece.keep.all():
    blocks = blocks.filter(pa.array(piece.keep))
    sentences = sentences.filter(pa.array(piece.keep[rows]))
    rows = (np.cumsum(piece.keep) - 1)[rows[piece.keep[rows]]]
  begins = piece.begins[piece.keep]
  counts = _count_spans(sentences, piece.kinds)
  counts['articles'] = int(begins.sum())
  return PackedChunk(
    # The rest of an article that the chunk before has begun is number -1.
    _with_column(blocks, 'article_id', np.cumsum(begins) - 1),
    _with_column(sentences, 'block_id', rows),
    block_digests(blocks),
    counts,
  )


def _with_column(
  batch: pa.RecordBatch, name: str, values: np.ndarray
) -> pa.RecordBatch:
  column = pa.array(values.astype(np.int32))
  return batch.set_column(batch.schema.get_field_index(name), name, column)


def _count_spans(
  sentences: pa.RecordBatch, kinds: Sequence[str]
) -> Counter[str]:
  column = sentences.column('span_kinds')
  codes = column.flatten().to_numpy()
  nums = np.bincount(codes, minlength=len(kinds)).tolist()
  counts = Counter({f'spans: {k}': n for k, n in zip(kinds, nums, strict=True)})
  num_spans = pc.list_value_length(column).to_numpy()
  counts['sentences without spans'] = int((num_spans == 0).sum())
  return counts


def _as_binary(column: pa.Array) -> pa.Array:
  """The bytes of each string or list of uint16."""
  if not pa.types.is_list(column.type):
    return column.cast(pa.binary())
  values = column.values.to_numpy().astype('<u2', copy=False)
  return _binary(values.itemsize * column.offsets.to_numpy(), values)


def _lengths(column: pa.Array) -> pa.Array:
  """How many bytes each row has, as 8 bytes."""
  lens = pc.binary_length(column).to_numpy().astype('<u8')
  return _binary(lens.itemsize * np.arange(len(lens) + 1), lens)


def _binary(offsets: np.ndarray, values: np.ndarray) -> pa.Array:
  buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(values)]
  return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)
