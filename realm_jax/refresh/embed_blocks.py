"""Parameters and corpus -> the embedding of every block."""

from collections.abc import Callable
from typing import Any

import numpy as np

from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.data.featurize import bucket_len, document_inputs
from realm_jax.index.snapshot import Snapshot
from realm_jax.types import NULL_BLOCK_ID

_BATCH_SIZE = 128


def embed_blocks(
  embed: Callable,
  params: Any,
  corpus: Corpus,
  lengths: Lengths,
  index_step: int,
  on_progress: Callable[[int], None] = lambda num_done: None,
) -> Snapshot:
  """Embeds all blocks of a corpus, shortest first, so that little is padding.

  Args:
    embed: embed(params, inputs) of the document embedder.
    params: of the model.
    corpus: its blocks.
    lengths: document_len and multiple are used.
    index_step: training step of params.
    on_progress: called with the number of blocks done so far.

  Returns:
    The snapshot; block_embeds is [num_blocks, embed_dim] float32.
  """
  order = np.argsort(corpus.block_lens, kind='stable')
  batches = [
    order[i : i + _BATCH_SIZE] for i in range(0, len(order), _BATCH_SIZE)
  ]
  parts = []
  for batch in batches:
    # The last batch is filled up with null documents: one shape a length.
    block_ids = np.full(_BATCH_SIZE, NULL_BLOCK_ID, np.int64)
    block_ids[: len(batch)] = batch
    needed = int(corpus.block_lens[batch].max())
    length = bucket_len(needed, lengths.multiple, lengths.document_len)
    inputs = document_inputs(
      corpus.gather(block_ids), corpus.wordpiece, lengths.multiple, length
    )
    # Dispatched, not waited for: the host gathers the next batch meanwhile.
    parts.append(embed(params, inputs))
    on_progress(min(len(parts) * _BATCH_SIZE, corpus.num_blocks))
  embeds = np.concatenate([np.asarray(part) for part in parts])
  block_embeds = np.empty_like(embeds[: corpus.num_blocks])
  block_embeds[order] = embeds[: corpus.num_blocks]
  return Snapshot(block_embeds, index_step, corpus.fingerprint)
