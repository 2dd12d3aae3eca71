"""Batches of pre-training: masked sentences and the documents found for them.

For each batch: embed the queries with current parameters, search the index
(whose block embeddings may be older), choose candidates, gather their tokens.
"""

import time
from typing import Any

import numpy as np

from realm_jax.data.batches import Batches
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Example, Lengths
from realm_jax.data.featurize import (
  Ragged,
  document_inputs,
  joint_inputs,
  null_document_inputs,
)
from realm_jax.index.candidates import (
  SPARE_BLOCKS,
  Candidates,
  choose_candidates,
  content_ids,
)
from realm_jax.index.retriever import Retriever
from realm_jax.refresh.snapshots import SnapshotMaker
from realm_jax.train.run_folder import RunFolder
from realm_jax.train.session import BatchSource
from realm_jax.train.state import TrainState
from realm_jax.types import PretrainBatch, TextInputs

_OVERLAP_K = 8


def pretrain_batch(
  examples: Example,
  block_ids: np.ndarray,
  mask: np.ndarray,
  corpus: Corpus,
  lengths: Lengths,
  query: TextInputs,
  null_bias: float,
) -> PretrainBatch:
  """Puts a batch together.

  Args:
    examples: of MaskedSentences, stacked.
    block_ids: [batch, num_candidates] int32; -1 is the null document.
    mask: [batch, num_candidates] int32; 0 at slots without a document.
    corpus: the blocks.
    lengths: document_len, joint_len and multiple are used.
    query: [batch, query_len] TextInputs of the same examples.
    null_bias: added to the null document's relevance score.
  """
  blocks = corpus.gather(block_ids)
  documents = type(blocks)(*(array[:, 1:] for array in blocks))
  return PretrainBatch(
    query=query,
    documents=document_inputs(
      documents, corpus.wordpiece, lengths.multiple, lengths.document_len
    ),
    null_document=null_document_inputs(corpus.wordpiece),
    joint=joint_inputs(
      Ragged(examples['query_ids'], examples['query_lens']),
      blocks,
      corpus.wordpiece,
      lengths.multiple,
      lengths.joint_len,
    ),
    candidate_mask=mask,
    mlm_positions=examples['mlm_positions'],
    mlm_targets=examples['mlm_targets'],
    mlm_mask=examples['mlm_mask'],
    null_bias=np.float32(null_bias),
  )


def retrieval_spread(candidates: Candidates, num_blocks: int) -> float:
  """How differently the queries of a batch are answered, from 0 to 1.

  Args:
    candidates: of the batch.
    num_blocks: of the corpus.

  Returns:
    0 where the same blocks are found for every query, 1 where as many differ as
    can: all that were found, or all of the corpus.
  """
  is_block = candidates.mask.astype(bool) & (candidates.block_ids >= 0)
  found = candidates.block_ids[is_block]
  fewest = is_block.sum(axis=1).max()  # those of one query differ
  most = min(len(found), num_blocks)
  if most <= fewest:
    return 1.0
  return float((len(np.unique(found)) - fewest) / (most - fewest))


class PretrainSource(BatchSource):
  """The batches of a pre-training run, with the index behind them."""

  def __init__(
    self,
    run: RunFolder,
    batches: Batches,
    retriever: Retriever,
    snapshots: SnapshotMaker,
    num_candidates: int,
    drop_near_duplicates: bool,
    level_null: bool,
  ):
    """Keeps its arguments.

    Args:
      run: where snapshots are kept.
      batches: of MaskedSentences examples.
      retriever: its index is replaced on starting, seeking and refreshing.
      snapshots: makes block embeddings.
      num_candidates: documents a query, the null document included.
      drop_near_duplicates: also drop blocks that contain the query's sentence.
      level_null: start with a null document that scores like the others.
    """
    self._run = run
    super().__init__(batches)
    self._retriever = retriever
    self._snapshots = snapshots
    self._num_candidates = num_candidates
    self._drop_near_duplicates = drop_near_duplicates
    self._level_null = level_null
    self._null_bias = 0.0
    self._content_ids = content_ids(retriever.corpus)
    self._last_query: TextInputs | None = None

  def start(self, params: Any) -> None:
    """Builds the first index, and levels the null document."""
    self._load(params, 0)
    if self._level_null:
      self._null_bias = self._missing_null_score(params)

  def _missing_null_score(self, params: Any) -> float:
    """What the null document's score lacks to the mean of the nearest blocks.

    The source blocks count among them: this sets a level, no more.

    The inverse cloze task never shows the null document, and its score lies far
    below. Where no document helps, the gradient would have to lift it there by
    moving all embeddings, and unmake what they know.
    """
    position = self._batches.position()
    examples = next(self._batches)
    self._batches.seek(position)
    query = self._retriever.query_inputs(
      Ragged(examples['query_ids'], examples['query_lens'])
    )
    found = self._retriever.retrieve(params, query, self._num_candidates - 1)
    null_embed = self._snapshots.embed(
      params, null_document_inputs(self._retriever.corpus.wordpiece)
    )
    null_scores = self._retriever.embed(params, query) @ null_embed.T
    return float(found.scores.mean() - null_scores.mean())

  def _load(self, params: Any, index_step: int) -> float:
    folder = self._run.snapshot(index_step)
    snapshot, seconds = self._snapshots.snapshot(folder, params, index_step)
    self._retriever.load(snapshot)
    return seconds

  def refresh(self, state: TrainState) -> dict[str, float]:
    """Replaces the index by one made with the current parameters."""
    step = int(state.step)
    if step == self._retriever.index_step:
      return {}
    age = step - self._retriever.index_step
    start = time.perf_counter()
    before = self._nearest(state.params)
    embed_seconds = self._load(state.params, step)
    metrics = {
      'refresh_age': age,
      'refresh_seconds': time.perf_counter() - start,
      'embed_seconds': embed_seconds,
    }
    after = self._nearest(state.params)
    if before is not None and after is not None:
      same = (before[:, :, None] == after[:, None, :]).any(axis=2)
      metrics['index_overlap'] = float(same.mean())
    return metrics

  def _nearest(self, params: Any) -> np.ndarray | None:
    """[batch, k] ids for the last batch's queries in the index as it is."""
    if self._last_query is None:
      return None
    return self._retriever.retrieve(
      params, self._last_query, _OVERLAP_K
    ).block_ids

  def candidates(
    self, params: Any, examples: Example, query: TextInputs
  ) -> Candidates:
    """Searches and chooses: see choose_candidates."""
    corpus = self._retriever.corpus
    found = self._retriever.retrieve(
      params, query, self._num_candidates - 1 + SPARE_BLOCKS
    )

    def contains_query(row: int, block_id: int) -> bool:
      sentence = corpus.sentences[int(examples['sentence_id'][row])]
      text = corpus.text(sentence.block_id)[sentence.start : sentence.stop]
      return text in corpus.text(block_id)

    return choose_candidates(
      found.block_ids,
      examples['source_block_id'],
      self._num_candidates,
      self._content_ids,
      contains_query if self._drop_near_duplicates else None,
    )

  def assemble(
    self, params: Any, examples: Example
  ) -> tuple[PretrainBatch, Candidates]:
    """Examples -> a batch with the candidates found for it."""
    query = self._retriever.query_inputs(
      Ragged(examples['query_ids'], examples['query_lens'])
    )
    candidates = self.candidates(params, examples, query)
    batch = pretrain_batch(
      examples,
      candidates.block_ids,
      candidates.mask,
      self._retriever.corpus,
      self._retriever.lengths,
      query,
      self._null_bias,
    )
    return batch, candidates

  def next_batch(
    self, state: TrainState
  ) -> tuple[PretrainBatch, dict[str, float]]:
    """The next batch, its candidates found with current parameters."""
    examples = next(self._batches)
    batch, candidates = self.assemble(state.params, examples)
    self._last_query = batch.query
    found = candidates.block_ids[candidates.mask.astype(bool)]
    found = found[found >= 0]
    metrics = {
      'index_age': int(state.step) - self._retriever.index_step,
      'distinct_blocks': len(np.unique(found)) / max(len(found), 1),
      'retrieval_spread': retrieval_spread(
        candidates, self._retriever.corpus.num_blocks
      ),
      'source_found': candidates.num_source / len(candidates.mask),
      'duplicates_dropped': candidates.num_duplicates,
      'near_duplicates_dropped': candidates.num_near_duplicates,
      'empty_slots': candidates.num_empty,
      'tokens': int(batch.joint.mask.sum() + batch.documents.mask.sum()),
    }
    if self._retriever.recall is not None:
      metrics['index_recall'] = self._retriever.recall
    return batch, metrics

  def position(self) -> dict[str, Any]:
    """Data position, which snapshot is in use, and the null document's bias."""
    return {
      'null_bias': self._null_bias,
      'data': self._batches.position(),
      'index_step': self._retriever.index_step,
    }

  def seek(self, position: dict[str, Any]) -> None:
    """Goes back to a position; its snapshot is loaded from the run."""
    self._batches.seek(position['data'])
    self._null_bias = position['null_bias']
    self._load(None, position['index_step'])

  def prune(self, oldest: dict[str, Any]) -> None:
    """Deletes snapshots that no checkpoint needs any more."""
    self._run.prune_snapshots(oldest['index_step'])
