"""Parameters and corpus -> the embedding of every block."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from realm_jax.data.corpus import BlockTokens, Corpus
from realm_jax.data.examples import Lengths
from realm_jax.data.featurize import document_inputs
from realm_jax.data.wordpiece import WordPiece
from realm_jax.index.snapshot import Snapshot
from realm_jax.own_rows import OwnRows
from realm_jax.refresh.length_batches import length_batches, tokens_at_a_time
from realm_jax.refresh.parts import Parts
from realm_jax.refresh.reuse import array_fingerprint, params_fingerprint
from realm_jax.refresh.throughput import Throughput
from realm_jax.sharding import Layout
from realm_jax.types import NULL_BLOCK_ID, TextInputs


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
  if layout is not None:
    params = layout.place_params_whole(params)  # gathered once
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
    params = layout.place_params_whole(params)
  lens = corpus.block_lens[table.order]
  num_devices = 1 if layout is None else layout.mesh.size
  dispatched = None
  for batch in length_batches(lens, lengths, num_devices, table.num_done):
    rows = OwnRows(layout, batch.size)
    block_ids = table.order[batch.start : batch.stop]
    inputs = _inputs(corpus, block_ids, rows, batch.length)
    # Dispatched, not waited for: the host keeps the last batch and gathers the
    # next one meanwhile.
    embeds = embed(params, rows.place(inputs))
    if throughput is not None:
      block_lens = lens[batch.start : batch.stop]
      throughput.add(block_lens, batch.size, batch.length)
    if dispatched is not None:
      table.add(dispatched)
      if parts is not None and parts.is_due():
        parts.write(table.done_since(parts.num_rows))
    dispatched = embeds
    on_progress(table.num_known + batch.stop)
  if dispatched is not None:
    table.add(dispatched)


def _inputs(
  corpus: Blocks, block_ids: np.ndarray, rows: OwnRows, length: int
) -> TextInputs:
  """[num_rows, length] inputs of some blocks, the rows of this process.

  Behind the last of them null documents.
  """
  padded_ids = np.full(rows.batch_size, NULL_BLOCK_ID, np.int64)
  padded_ids[: len(block_ids)] = block_ids
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
    'tokens_at_a_time': tokens_at_a_time(),
    'num_blocks': len(order),
    'block_ids': array_fingerprint(order),
    'num_devices': 1 if layout is None else layout.mesh.size,
    'device': jax.local_devices()[0].device_kind,
    'jax': jax.__version__,
  }
