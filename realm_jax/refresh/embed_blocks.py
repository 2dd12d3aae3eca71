"""Parameters and corpus -> the embedding of every block."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from realm_jax.data.corpus import BlockTokens, Corpus
from realm_jax.data.examples import Lengths
from realm_jax.data.featurize import bucket_len, document_inputs
from realm_jax.data.wordpiece import WordPiece
from realm_jax.index.snapshot import Snapshot
from realm_jax.refresh.parts import Parts
from realm_jax.refresh.reuse import array_fingerprint, params_fingerprint
from realm_jax.refresh.throughput import Throughput
from realm_jax.sharding import Layout, OwnRows
from realm_jax.types import NULL_BLOCK_ID, TextInputs

# Blocks that a device embeds at a time.
_BATCH_SIZE = 128


class Blocks(Protocol):
  """What can be embedded: a Corpus, or part of what that has."""

  num_blocks: int

  @property
  def block_lens(self) -> np.ndarray:
    """[num_blocks] int32, in wordpieces, special tokens included."""

  @property
  def wordpiece(self) -> WordPiece:
    """Has the special tokens."""

  def gather(self, block_ids: np.ndarray) -> BlockTokens:
    """Wordpieces of blocks: see Corpus.gather."""


def _batch_size(num_blocks: int, layout: Layout | None) -> int:
  """Blocks embedded at a time, by all devices; a few need not be as many.

  One device always takes as many, filled up: of two batches of one shape a
  block has the same embedding to the last bit, whatever else they hold.
  """
  if layout is None:
    return _BATCH_SIZE
  num_devices = layout.mesh.size
  return num_devices * min(_BATCH_SIZE, -(-num_blocks // num_devices))


def embed_blocks(
  embed: Callable,
  params: Any,
  corpus: Corpus,
  lengths: Lengths,
  index_step: int,
  on_progress: Callable[[int], None] = lambda num_done: None,
  known: tuple[np.ndarray, np.ndarray] | None = None,
  layout: Layout | None = None,
  parts_folder: Path | None = None,
  throughput: Throughput | None = None,
) -> Snapshot:
  """Embeds all blocks of a corpus, shortest first, so that little is padding.

  Args:
    embed: embed(params, inputs) of the document embedder.
    params: of the model.
    corpus: its blocks.
    lengths: document_len and multiple are used.
    index_step: training step of params.
    on_progress: called with the number of blocks done so far.
    known: embeddings made before, [num_blocks, embed_dim] float32, and which
      of them are there, [num_blocks] bool; those are not made again, and the
      array is filled up and used.
    layout: that embed was made with; blocks are spread over all its devices.
    parts_folder: of the snapshot: what takes long is kept there in parts, and
      a call that was stopped is gone on with by the next of the same
      arguments, to the same numbers. None to keep nothing.
    throughput: counts what is embedded, but not what was there.

  Returns:
    The snapshot; block_embeds is [num_blocks, embed_dim] float32.

  Raises:
    KeyboardInterrupt: as it came; what was embedded has been kept.
  """
  fingerprint = params_fingerprint(params)
  table = BlockTable(corpus, known)
  parts = None
  if parts_folder is not None:
    origin = _origin(fingerprint, corpus, lengths, table.order, layout)
    parts = Parts(parts_folder, origin)
    for rows in parts.read():
      table.add(rows)
  try:
    fill_table(
      table,
      embed,
      params,
      corpus,
      lengths,
      on_progress=on_progress,
      layout=layout,
      parts=parts,
      throughput=throughput,
    )
  except KeyboardInterrupt:
    if parts and table.num_done > parts.num_rows:
      parts.write(table.done_since(parts.num_rows))
    raise
  return Snapshot(table.embeds(), index_step, corpus.fingerprint, fingerprint)


class BlockTable:
  """Block embeddings, filled in the order in which they are made.

  Attributes:
    order: [num_to_make] int64; ids of blocks, the shortest first.
    num_known: blocks that need not be made.
    num_done: how many of order have been made.
  """

  def __init__(
    self,
    corpus: Blocks,
    known: tuple[np.ndarray, np.ndarray] | None = None,
  ):
    """Arguments as embed_blocks has them."""
    self._num_blocks = corpus.num_blocks
    self._embeds: np.ndarray | None = None
    is_known = np.zeros(self._num_blocks, bool)
    if known is not None:
      self._embeds, is_known = known
    order = np.argsort(corpus.block_lens, kind='stable')
    self.order = order[~is_known[order]]
    self.num_known = self._num_blocks - len(self.order)
    self.num_done = 0

  def add(self, embeds: Any) -> None:
    """The next rows of order, [num_rows, embed_dim]; what is over is left."""
    embeds = np.asarray(embeds, np.float32)
    if self._embeds is None:
      shape = (self._num_blocks, embeds.shape[1])
      self._embeds = np.empty(shape, np.float32)
    block_ids = self.order[self.num_done : self.num_done + len(embeds)]
    self._embeds[block_ids] = embeds[: len(block_ids)]
    self.num_done += len(block_ids)

  def done_since(self, first: int) -> np.ndarray:
    """Rows of order from the first of them to the last that was made."""
    return self.embeds()[self.order[first : self.num_done]]

  def embeds(self) -> np.ndarray:
    """[num_blocks, embed_dim] float32."""
    assert self._embeds is not None
    return self._embeds


def fill_table(
  table: BlockTable,
  embed: Callable,
  params: Any,
  corpus: Blocks,
  lengths: Lengths,
  *,
  on_progress: Callable[[int], None] = lambda num_done: None,
  layout: Layout | None = None,
  parts: Parts | None = None,
  throughput: Throughput | None = None,
) -> None:
  """Embeds what a table lacks; arguments as embed_blocks has them.

  Args:
    table: rows are added to.
    embed: of documents.
    params: of the model.
    corpus: the table's.
    lengths: document_len and multiple are used.
    on_progress: called with the number of blocks done so far.
    layout: that embed was made with.
    parts: where rows are kept while it takes long.
    throughput: counts what is embedded.
  """
  if layout is not None:
    params = jax.device_put(params, layout.whole)  # gathered once
  size = _batch_size(corpus.num_blocks, layout)
  rows = OwnRows(layout, size)
  dispatched = None
  for start in range(table.num_done, len(table.order), size):
    block_ids = table.order[start : start + size]
    inputs = _inputs(corpus, block_ids, lengths, rows)
    # Dispatched, not waited for: the host keeps the last batch and gathers the
    # next one meanwhile.
    embeds = embed(params, rows.place(inputs))
    if throughput is not None:
      block_lens = corpus.block_lens[block_ids]
      throughput.add(block_lens, size, inputs.mask.shape[1])
    if dispatched is not None:
      table.add(dispatched)
      if parts is not None and parts.is_due():
        parts.write(table.done_since(parts.num_rows))
    dispatched = embeds
    on_progress(table.num_known + start + len(block_ids))
  if dispatched is not None:
    table.add(dispatched)


def _inputs(
  corpus: Blocks, block_ids: np.ndarray, lengths: Lengths, rows: OwnRows
) -> TextInputs:
  """[num_rows, length] inputs of some blocks, the rows of this process.

  The last batch is filled up with null documents: one shape a length.
  """
  padded_ids = np.full(rows.batch_size, NULL_BLOCK_ID, np.int64)
  padded_ids[: len(block_ids)] = block_ids
  needed = int(corpus.block_lens[block_ids].max())
  length = bucket_len(needed, lengths.multiple, lengths.document_len)
  blocks = corpus.gather(rows.of(padded_ids))
  # Of this length, however short those of this process are.
  return document_inputs(blocks, corpus.wordpiece, length, length)


def _origin(
  fingerprint: str,
  corpus: Corpus,
  lengths: Lengths,
  order: np.ndarray,
  layout: Layout | None,
) -> dict[str, Any]:
  """All that rows and their order depend on, to the last bit."""
  return {
    'params_fingerprint': fingerprint,
    'corpus_fingerprint': corpus.fingerprint,
    'document_len': lengths.document_len,
    'multiple': lengths.multiple,
    'batch_size': _batch_size(corpus.num_blocks, layout),
    'num_blocks': len(order),
    'block_ids': array_fingerprint(order),
    'num_devices': 1 if layout is None else layout.mesh.size,
    'device': jax.local_devices()[0].device_kind,
    'jax': jax.__version__,
  }
