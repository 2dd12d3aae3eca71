"""Writes a corpus, shard by shard, from packed chunks."""

import hashlib
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from realm_jax.data.corpus import (
  BLOCK_SCHEMA,
  KIND,
  SENTENCE_SCHEMA,
  VOCAB,
)
from realm_jax.data.packing import PackedChunk
from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError
from realm_jax.folders import make_folder, read_json, write_json, write_manifest

MAX_VOCAB_SIZE = (1 << 16) - 1
SHARD_SIZE = 1 << 17  # blocks; some 400 MB of English while it is collected
PROGRESS = 'progress.json'
CHUNKS = 'chunks'  # of a Beam pipeline, until they are shards
_DIGESTS = 'digests-{:05d}.bin'
# Everything that a folder may hold before it is whole.
OWN_FILES = (
  VOCAB, 'blocks-*.arrow', 'sentences-*.arrow', 'digests-*.bin', PROGRESS,
  CHUNKS, '*.partial',
)  # fmt: skip


def check_unfinished(folder: Path, also: str | None = None) -> None:
  """Refuses a folder to write to that holds what no unfinished corpus has.

  Args:
    folder: need not exist.
    also: the name of something that may be there, too.

  Raises:
    UserError: it is a file, or holds anything else.
  """
  if not folder.exists():
    return
  if not folder.is_dir():
    raise UserError(f'{folder} is a file, expected a folder to write to.')
  own = {path for pattern in OWN_FILES for path in folder.glob(pattern)}
  foreign = {path.name for path in {*folder.iterdir()} - own} - {also}
  if foreign:
    raise UserError(
      f'{folder} holds {", ".join(sorted(foreign)[:3])}, which no corpus has. '
      'Give an empty or a new folder.'
    )


class CorpusWriter:
  """Collects chunks, writes a shard when there is enough, then the manifest.

  A shard ends with the chunk that fills it. The same chunks give the same
  bytes. Until finish has returned, the folder has no manifest and is no corpus;
  its shards are kept, so that a writer of the same chunks can go on.

  Attributes:
    num_blocks: written and collected.
    counts: of all chunks so far; see PackedChunk.
    cursor: of the last chunk of the last shard; see add.
  """

  def __init__(
    self,
    folder: str | Path,
    wordpiece: WordPiece,
    span_kinds: Sequence[str],
    shard_size: int | None = None,
    settings: Any = None,
  ):
    """Starts a corpus, or goes on with one.

    Args:
      folder: made if missing.
      wordpiece: what the blocks are encoded with; saved beside them.
      span_kinds: every kind a span may have.
      shard_size: blocks a file, at least; None for SHARD_SIZE.
      settings: JSON; shards made with others are not gone on with.

    Raises:
      UserError: the vocabulary has more tokens than uint16 can number.
    """
    check_vocab_size(wordpiece)
    self._folder = make_folder(folder)
    self._wordpiece = wordpiece
    self._kinds = list(span_kinds)
    self._shard_size = shard_size or SHARD_SIZE
    self._made_of = {
      'settings': settings,
      'vocab': wordpiece.fingerprint,
      'span_kinds': self._kinds,
    }
    self._shards: list[dict[str, Any]] = []
    self.counts: Counter[str] = Counter()
    self.cursor: Any = None
    self._next_cursor: Any = None  # of the last chunk added
    self._chunks: list[PackedChunk] = []
    if not self._go_on():
      clear_unfinished(self._folder)
      wordpiece.save(self._folder / VOCAB)

  @property
  def num_blocks(self) -> int:  # noqa: D102, in the class's docstring
    return self._first_block + _num_blocks(self._chunks)

  @property
  def _first_block(self) -> int:
    return sum(shard['num_blocks'] for shard in self._shards)

  def _go_on(self) -> bool:
    """Takes over the shards of a writer that was stopped."""
    path = self._folder / PROGRESS
    if not path.is_file():
      return False
    progress = read_json(path)
    if progress['made_of'] != self._made_of:
      return False
    self._shards = progress['shards']
    self.counts = Counter(progress['counts'])
    self.cursor = self._next_cursor = progress['cursor']
    return True

  def add(self, chunk: PackedChunk, cursor: Any = None) -> None:
    """Appends a chunk.

    Args:
      chunk: its blocks follow those before it.
      cursor: JSON; says where the chunk after this one is found.
    """
    self._chunks.append(chunk)
    self._next_cursor = cursor
    self.counts.update(chunk.counts)
    if _num_blocks(self._chunks) >= self._shard_size:
      self._write_shard()

  def finish(self, **fields: Any) -> dict[str, Any]:
    """Writes what is left, and the manifest.

    Args:
      **fields: further entries of the manifest.

    Returns:
      The manifest.
    """
    if _num_blocks(self._chunks):
      self._write_shard()
    return finish_corpus(
      self._folder,
      self._wordpiece,
      self._kinds,
      self._shards,
      self.counts,
      **fields,
    )

  def _write_shard(self) -> None:
    number = len(self._shards)
    shard = write_shard(
      self._folder,
      number,
      self._chunks,
      self.counts['articles'] - _num_articles(self._chunks),
      self._first_block,
    )
    self._shards.append(shard)
    self._chunks = []
    self.cursor = self._next_cursor
    write_json(
      self._folder / PROGRESS,
      {
        'made_of': self._made_of,
        'cursor': self.cursor,
        'counts': self.counts,
        'shards': self._shards,
      },
    )


def _num_blocks(chunks: Sequence[PackedChunk]) -> int:
  return sum(chunk.blocks.num_rows for chunk in chunks)


def _num_articles(chunks: Sequence[PackedChunk]) -> int:
  return sum(chunk.counts['articles'] for chunk in chunks)


def check_vocab_size(wordpiece: WordPiece) -> None:
  """Raises UserError if uint16 cannot number the tokens of a vocabulary."""
  if wordpiece.size > MAX_VOCAB_SIZE:
    raise UserError(
      f'The vocabulary has {wordpiece.size} tokens, expected at most '
      f'{MAX_VOCAB_SIZE}: a corpus keeps token ids in 16 bits.'
    )


def clear_unfinished(folder: Path, keep: str = '') -> None:
  """Deletes what a corpus that is not whole has left, but for one name."""
  for pattern in OWN_FILES:
    for path in folder.glob(pattern):
      if path.is_dir() and path.name != keep:
        shutil.rmtree(path)
      elif path.is_file():
        path.unlink()


def finish_corpus(
  folder: Path,
  wordpiece: WordPiece,
  kinds: Sequence[str],
  shards: Sequence[dict[str, Any]],
  counts: Counter[str],
  **fields: Any,
) -> dict[str, Any]:
  """Writes the manifest of a corpus whose shards are all there.

  Args:
    folder: of the corpus.
    wordpiece: its vocabulary, which is there as well.
    kinds: every kind a span may have.
    shards: what write_shard returned for each, in order.
    counts: of all chunks together.
    **fields: further entries.

  Returns:
    The manifest.
  """
  # A digest of digests: parts of a corpus are hashed apart.
  digest = hashlib.sha256(wordpiece.fingerprint.encode())
  digest_files = [folder / _DIGESTS.format(i) for i in range(len(shards))]
  for path in digest_files:
    digest.update(path.read_bytes())
  block_files = [shard['blocks'] for shard in shards]
  sentence_files = [shard['sentences'] for shard in shards]
  manifest = write_manifest(
    folder,
    KIND,
    [VOCAB, *block_files, *sentence_files],
    **fields,
    num_articles=counts['articles'],
    num_sentences=sum(shard['num_sentences'] for shard in shards),
    num_sentences_without_spans=counts['sentences without spans'],
    num_spans={kind: counts[f'spans: {kind}'] for kind in kinds},
    num_sentences_cut=counts['sentences cut'],
    num_titles_cut=counts['titles cut'],
    num_short_blocks=counts['short blocks'],
    max_title_len=max((s['max_title_len'] for s in shards), default=0),
    max_body_len=max((s['max_body_len'] for s in shards), default=0),
    fingerprint=digest.hexdigest(),
    vocab_fingerprint=wordpiece.fingerprint,
    vocab_size=wordpiece.size,
    num_blocks=sum(shard['num_blocks'] for shard in shards),
    span_kinds=list(kinds),
    block_files=block_files,
    sentence_files=sentence_files,
  )
  for path in (*digest_files, folder / PROGRESS):
    path.unlink(missing_ok=True)
  shutil.rmtree(folder / CHUNKS, ignore_errors=True)
  return manifest


def write_shard(
  folder: Path,
  number: int,
  chunks: Sequence[PackedChunk],
  first_article: int,
  first_block: int,
) -> dict[str, Any]:
  """Writes the files of one shard.

  Args:
    folder: of the corpus.
    number: of the shard.
    chunks: its blocks, in order.
    first_article: articles of the shards before.
    first_block: blocks of the shards before.

  Returns:
    What the corpus's manifest needs to know of it.
  """
  blocks, sentences = [], []
  start_block = first_block
  for chunk in chunks:
    blocks.append(_shift(chunk.blocks, 'article_id', first_article))
    sentences.append(_shift(chunk.sentences, 'block_id', start_block))
    first_article += chunk.counts['articles']
    start_block += chunk.blocks.num_rows
  names = f'blocks-{number:05d}.arrow', f'sentences-{number:05d}.arrow'
  whole = _write_file(folder / names[0], BLOCK_SCHEMA, blocks)
  all_sentences = _write_file(folder / names[1], SENTENCE_SCHEMA, sentences)
  digests = b''.join(chunk.digests for chunk in chunks)
  (folder / _DIGESTS.format(number)).write_bytes(digests)
  return {
    'blocks': names[0],
    'sentences': names[1],
    'num_blocks': whole.num_rows,
    'num_sentences': all_sentences.num_rows,
    'max_title_len': _longest(whole, 'title_token_ids'),
    'max_body_len': _longest(whole, 'token_ids'),
  }


def _shift(batch: pa.RecordBatch, name: str, by: int) -> pa.RecordBatch:
  """A batch with a number added to a column."""
  column = pc.add(batch.column(name), pa.scalar(by, pa.int32()))
  return batch.set_column(batch.schema.get_field_index(name), name, column)


def _longest(batch: pa.RecordBatch, name: str) -> int:
  return int(np.diff(batch.column(name).offsets.to_numpy()).max(initial=0))


def _write_file(
  path: Path, schema: pa.Schema, batches: list[pa.RecordBatch]
) -> pa.RecordBatch:
  # One batch, uncompressed: the file is mapped and read in place.
  table = pa.Table.from_batches(batches, schema).combine_chunks()
  (batch,) = table.to_batches() or [pa.RecordBatch.from_pylist([], schema)]
  partial = path.with_name(path.name + '.partial')
  with pa.ipc.new_file(str(partial), schema) as writer:
    writer.write_batch(batch)
  partial.replace(path)
  return batch
