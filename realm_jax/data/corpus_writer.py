"""Writes a corpus, shard by shard."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from realm_jax.data.blocks import Block
from realm_jax.data.corpus import (
  BLOCK_SCHEMA,
  KIND,
  SENTENCE_SCHEMA,
  VOCAB,
)
from realm_jax.data.spans import Span
from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError
from realm_jax.folders import make_folder, write_manifest

MAX_VOCAB_SIZE = (1 << 16) - 1
SHARD_SIZE = 1 << 17  # blocks; some 400 MB of English while it is collected


class CorpusWriter:
  """Collects blocks, writes a shard when it is full, then the manifest.

  The same blocks give the same bytes. Until finish has returned, the folder
  has no manifest and is no corpus.
  """

  def __init__(
    self,
    folder: str | Path,
    wordpiece: WordPiece,
    span_kinds: Sequence[str],
    shard_size: int = SHARD_SIZE,
  ):
    """Starts a corpus.

    Args:
      folder: made if missing.
      wordpiece: what the blocks are encoded with; saved beside them.
      span_kinds: every kind a span may have.
      shard_size: blocks a file.

    Raises:
      UserError: the vocabulary has more tokens than uint16 can number.
    """
    if wordpiece.size > MAX_VOCAB_SIZE:
      raise UserError(
        f'The vocabulary has {wordpiece.size} tokens, expected at most '
        f'{MAX_VOCAB_SIZE}: a corpus keeps token ids in 16 bits.'
      )
    self._folder = make_folder(folder)
    self._wordpiece = wordpiece
    wordpiece.save(self._folder / VOCAB)
    self._kinds = {kind: code for code, kind in enumerate(span_kinds)}
    self._shard_size = shard_size
    # A digest of digests: parts of a corpus may be hashed apart.
    self._digest = hashlib.sha256(wordpiece.fingerprint.encode())
    self._block_files: list[str] = []
    self._sentence_files: list[str] = []
    self._max_title_len = self._max_body_len = 0
    self._num_spans = dict.fromkeys(span_kinds, 0)
    self.num_blocks = self.num_sentences = 0
    self._clear()

  def add(
    self,
    article_id: int,
    block: Block,
    spans: Sequence[Sequence[Span]],
  ) -> None:
    """Appends a block.

    Args:
      article_id: blocks of one article have one id.
      block: the block, whose id is the number of blocks before it.
      spans: the salient spans of each of its sentences.
    """
    self._blocks.append((article_id, block))
    self._digest.update(_block_digest(article_id, block))
    self._max_title_len = max(self._max_title_len, len(block.title_token_ids))
    self._max_body_len = max(self._max_body_len, len(block.token_ids))
    for (start, stop), found in zip(block.sentences, spans, strict=True):
      self._sentences.append((self.num_blocks, start, stop, found))
      for span in found:
        self._num_spans[span.kind] += 1
    self.num_blocks += 1
    self.num_sentences += len(block.sentences)
    if len(self._blocks) == self._shard_size:
      self._write_shard()

  def finish(self, **fields: Any) -> dict[str, Any]:
    """Writes what is left, and the manifest.

    Args:
      **fields: further entries of the manifest.

    Returns:
      The manifest.
    """
    if self._blocks:
      self._write_shard()
    return write_manifest(
      self._folder,
      KIND,
      [VOCAB, *self._block_files, *self._sentence_files],
      **fields,
      fingerprint=self._digest.hexdigest(),
      vocab_fingerprint=self._wordpiece.fingerprint,
      vocab_size=self._wordpiece.size,
      num_blocks=self.num_blocks,
      num_sentences=self.num_sentences,
      num_spans=self._num_spans,
      max_title_len=self._max_title_len,
      max_body_len=self._max_body_len,
      span_kinds=list(self._kinds),
      block_files=self._block_files,
      sentence_files=self._sentence_files,
    )

  def _clear(self) -> None:
    self._blocks: list[tuple[int, Block]] = []
    self._sentences: list[tuple[int, int, int, Sequence[Span]]] = []

  def _write_shard(self) -> None:
    number = len(self._block_files)
    names = f'blocks-{number:05d}.arrow', f'sentences-{number:05d}.arrow'
    _write_file(self._folder / names[0], BLOCK_SCHEMA, self._block_columns())
    _write_file(
      self._folder / names[1], SENTENCE_SCHEMA, self._sentence_columns()
    )
    self._block_files.append(names[0])
    self._sentence_files.append(names[1])
    self._clear()

  def _block_columns(self) -> list[pa.Array]:
    blocks = [block for _, block in self._blocks]
    return [
      pa.array([block.title for block in blocks], pa.string()),
      pa.array([block.text for block in blocks], pa.string()),
      _lists([block.title_token_ids for block in blocks], np.uint16),
      _lists([block.token_ids for block in blocks], np.uint16),
      pa.array([article_id for article_id, _ in self._blocks], pa.int32()),
      pa.array([block.position for block in blocks], pa.int32()),
    ]

  def _sentence_columns(self) -> list[pa.Array]:
    rows = self._sentences
    return [
      *(pa.array([row[i] for row in rows], pa.int32()) for i in range(3)),
      _lists([[s.start for s in row[3]] for row in rows], np.int32),
      _lists([[s.stop for s in row[3]] for row in rows], np.int32),
      _lists([[self._kinds[s.kind] for s in row[3]] for row in rows], np.uint8),
    ]


def _lists(values: Sequence[Any], dtype: type) -> pa.Array:
  offsets = np.zeros(len(values) + 1, np.int32)
  np.cumsum([len(value) for value in values], out=offsets[1:])
  flat = np.concatenate([np.asarray(value, dtype) for value in values])
  return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat))


def _write_file(path: Path, schema: pa.Schema, columns: list[pa.Array]) -> None:
  # One batch, uncompressed: the file is mapped and read in place.
  with pa.ipc.new_file(str(path), schema) as writer:
    writer.write_batch(pa.record_batch(columns, schema=schema))


def _block_digest(article_id: int, block: Block) -> bytes:
  digest = hashlib.sha256()
  for part in (
    block.title.encode(),
    block.text.encode(),
    block.title_token_ids.astype('<u2').tobytes(),
    block.token_ids.astype('<u2').tobytes(),
    f'{article_id} {block.position}'.encode(),
  ):
    digest.update(len(part).to_bytes(8, 'little'))
    digest.update(part)
  return digest.digest()
