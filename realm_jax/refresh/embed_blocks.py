"""Parameters and corpus -> the embedding of every block."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.data.featurize import bucket_len, document_inputs
from realm_jax.index.snapshot import Snapshot
from realm_jax.refresh.reuse import params_fingerprint
from realm_jax.sharding import Layout
from realm_jax.types import NULL_BLOCK_ID

# Blocks that a device embeds at a time.
_BATCH_SIZE = 128


def _batch_size(num_blocks: int, layout: Layout | None) -> int:
  """Blocks embedded at a time, by all devices; a few need not be as many."""
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

  Returns:
    The snapshot; block_embeds is [num_blocks, embed_dim] float32.
  """
  block_embeds, is_known = known or (None, np.zeros(corpus.num_blocks, bool))
  num_known = int(is_known.sum())
  order = np.argsort(corpus.block_lens, kind='stable')
  order = order[~is_known[order]]
  size = _batch_size(corpus.num_blocks, layout)
  batches = [order[i : i + size] for i in range(0, len(order), size)]
  if layout is not None:
    params = jax.device_put(params, layout.whole)  # gathered once
  last: tuple[np.ndarray, Any] | None = None

  def keep(block_ids: np.ndarray, embeds: Any) -> None:
    nonlocal block_embeds
    embeds = np.asarray(embeds, np.float32)
    if block_embeds is None:
      shape = (corpus.num_blocks, embeds.shape[1])
      block_embeds = np.empty(shape, np.float32)
    block_embeds[block_ids] = embeds[: len(block_ids)]

  for number, batch in enumerate(batches):
    # The last batch is filled up with null documents: one shape a length.
    block_ids = np.full(size, NULL_BLOCK_ID, np.int64)
    block_ids[: len(batch)] = batch
    needed = int(corpus.block_lens[batch].max())
    length = bucket_len(needed, lengths.multiple, lengths.document_len)
    inputs = document_inputs(
      corpus.gather(block_ids), corpus.wordpiece, lengths.multiple, length
    )
    # Dispatched, not waited for: the host keeps the last batch and gathers the
    # next one meanwhile.
    embeds = embed(params, inputs)
    if last is not None:
      keep(*last)
    last = batch, embeds
    done = num_known + number * size + len(batch)
    on_progress(done)
  if last is not None:
    keep(*last)
  return Snapshot(
    block_embeds, index_step, corpus.fingerprint, params_fingerprint(params)
  )
