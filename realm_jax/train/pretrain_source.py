"""Batches of pre-training: masked sentences and the documents found for them.

For each batch: embed the queries with current parameters, search the index
(whose block embeddings may be older), choose candidates, gather their tokens.
"""

import dataclasses
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
from realm_jax.data.token_lens import token_lens
from realm_jax.index.candidates import (
  SPARE_BLOCKS,
  Candidates,
  choose_candidates,
  content_ids,
)
from realm_jax.index.retriever import Retriever, Search
from realm_jax.own_rows import OwnRows
from realm_jax.refresh.refresher import Refresher
from realm_jax.refresh.snapshots import SnapshotMaker
from realm_jax.train.indexed_source import IndexedSource
from realm_jax.types import Array, PretrainBatch, TextInputs

# Of an example, what all processes need to know to choose and pad alike.
_SHARED = ('query_lens', 'source_block_id', 'sentence_id')


def pretrain_batch(
  examples: Example,
  block_ids: np.ndarray,
  mask: np.ndarray,
  corpus: Corpus,
  lengths: Lengths,
  query: TextInputs,
  null_bias: float,
  padded_lens: tuple[int, int] | None = None,
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
    padded_lens: of documents and joint sequences; None for what these rows
      need.
  """
  if padded_lens is None:
    lens = token_lens(examples['query_lens'], block_ids, corpus, lengths)
    padded_lens = lens.padded(lengths)
  document_len, joint_len = padded_lens
  blocks = corpus.gather(block_ids)
  documents = type(blocks)(*(array[:, 1:] for array in blocks))
  return PretrainBatch(
    query=query,
    documents=document_inputs(
      documents, corpus.wordpiece, document_len, document_len
    ),
    null_document=null_document_inputs(corpus.wordpiece),
    joint=joint_inputs(
      Ragged(examples['query_ids'], examples['query_lens']),
      blocks,
      corpus.wordpiece,
      joint_len,
      joint_len,
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


@dataclasses.dataclass
class _Begun:
  """A batch whose documents are being searched for.

  Attributes:
    examples: of MaskedSentences, stacked; the rows of this process.
    shared: [batch, 3] int32; what _SHARED names, of all rows.
    query: [batch, query_len] TextInputs; all rows, for the embedder.
    index_age: of the index that is searched, in steps.
    search: that was sent off; None once candidates are there.
    candidates: chosen among what was found, for all rows.
  """

  examples: Example
  shared: Array
  query: TextInputs
  index_age: float
  search: Search | None = None
  candidates: Candidates | None = None


class PretrainSource(IndexedSource):
  """The batches of a pre-training run, with the index behind them."""

  def __init__(
    self,
    batches: Batches,
    retriever: Retriever,
    snapshots: SnapshotMaker,
    refresher: Refresher,
    num_candidates: int,
    drop_near_duplicates: bool,
    level_null: bool,
    rows: OwnRows | None = None,
  ):
    """Keeps its arguments.

    Args:
      batches: of MaskedSentences examples.
      retriever: finds the documents.
      snapshots: embeds documents.
      refresher: of the retriever's index.
      num_candidates: documents a query, the null document included.
      drop_near_duplicates: also drop blocks that contain the query's sentence.
      level_null: start with a null document that scores like the others.
      rows: those that batches makes; None for all.
    """
    super().__init__(batches, refresher)
    self._rows = rows or OwnRows()
    self._retriever = retriever
    self._snapshots = snapshots
    self._num_candidates = num_candidates
    self._drop_near_duplicates = drop_near_duplicates
    self._level_null = level_null
    self._null_bias = 0.0
    self._content_ids = content_ids(retriever.corpus)

  def start(self, params: Any) -> None:
    """Builds the first index, and levels the null document."""
    super().start(params)
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
    query = self._rows.place(self._query_inputs(next(self._batches)))
    self._batches.seek(position)
    found = self._retriever.retrieve(params, query, self._num_candidates - 1)
    null_embed = self._snapshots.embed(
      params, null_document_inputs(self._retriever.corpus.wordpiece)
    )
    null_scores = self._retriever.embed(params, query) @ null_embed.T
    return float(found.scores.mean() - null_scores.mean())

  def _search(self, params: Any, query: TextInputs) -> Search:
    """Sends off the search for what candidates are chosen from."""
    return self._retriever.begin(
      params, query, self._num_candidates - 1 + SPARE_BLOCKS
    )

  def _choose(self, examples: Example, found_ids: np.ndarray) -> Candidates:
    """Chooses among what was found: see choose_candidates."""
    corpus = self._retriever.corpus

    def contains_query(row: int, block_id: int) -> bool:
      sentence = corpus.sentences[int(examples['sentence_id'][row])]
      text = corpus.text(sentence.block_id)[sentence.start : sentence.stop]
      return text in corpus.text(block_id)

    return choose_candidates(
      found_ids,
      examples['source_block_id'],
      self._num_candidates,
      self._content_ids,
      contains_query if self._drop_near_duplicates else None,
    )

  def _query_inputs(self, examples: Example) -> TextInputs:
    return self._retriever.query_inputs(
      Ragged(examples['query_ids'], examples['query_lens'])
    )

  def assemble(
    self, params: Any, examples: Example
  ) -> tuple[PretrainBatch, Candidates]:
    """Examples -> a batch with the candidates found for it; all rows of it."""
    query = self._query_inputs(examples)
    found = self._retriever.finish(self._search(params, query))
    candidates = self._choose(examples, found.block_ids)
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

  def _draw(self, index_age: float) -> _Begun:
    """The next sentences, for which nothing is searched yet."""
    examples = next(self._batches)
    shared = np.stack([examples[name] for name in _SHARED], axis=1)
    query = self._query_inputs(examples)
    return _Begun(
      examples, self._rows.share(shared), self._rows.place(query), index_age
    )

  def begin(self, step: int, params: Any) -> _Begun:
    """Draws sentences, and sends off the search for their documents."""
    begun = self._draw(self._refresher.mean_age(step))
    begun.search = self._search(params, begun.query)
    return begun

  def finish(self, begun: _Begun) -> tuple[PretrainBatch, dict[str, float]]:
    """Waits for what was found, and gathers its tokens."""
    start = time.perf_counter()
    shared = dict(zip(_SHARED, np.asarray(begun.shared).T, strict=True))
    if begun.search is not None:
      found = self._retriever.finish(begun.search)
      begun.search = None
      begun.candidates = self._choose(shared, found.block_ids)
    retrieve_seconds = time.perf_counter() - start
    candidates = begun.candidates
    assert candidates is not None
    corpus, lengths = self._retriever.corpus, self._retriever.lengths
    lens = token_lens(
      shared['query_lens'], candidates.block_ids, corpus, lengths
    )
    batch = pretrain_batch(
      begun.examples,
      self._rows.of(candidates.block_ids),
      self._rows.of(candidates.mask),
      corpus,
      lengths,
      begun.query,
      self._null_bias,
      lens.padded(lengths),
    )
    batch = batch._replace(null_document=self._rows.whole(batch.null_document))
    self._refresher.queries = begun.query
    found_ids = candidates.block_ids[candidates.mask.astype(bool)]
    found_ids = found_ids[found_ids >= 0]
    metrics = {
      'index_age': begun.index_age,
      'distinct_blocks': len(np.unique(found_ids)) / max(len(found_ids), 1),
      'retrieval_spread': retrieval_spread(candidates, corpus.num_blocks),
      'source_found': candidates.num_source / len(candidates.mask),
      'duplicates_dropped': candidates.num_duplicates,
      'near_duplicates_dropped': candidates.num_near_duplicates,
      'empty_slots': candidates.num_empty,
      # The null document is embedded once, and not for every query.
      'tokens': int(lens.joint.sum() + lens.documents[:, 1:].sum()),
      'retrieve_seconds': retrieve_seconds,
    }
    if self._retriever.recall is not None:
      metrics['index_recall'] = self._retriever.recall
    return batch, metrics

  def remember(self, begun: _Begun) -> dict[str, Any]:
    """The candidates of a finished batch."""
    assert begun.candidates is not None
    candidates = {
      name: np.asarray(value).tolist()
      for name, value in begun.candidates._asdict().items()
    }
    return {'index_age': begun.index_age, 'candidates': candidates}

  def recall(self, step: int, remembered: dict[str, Any]) -> _Begun:
    """Draws the sentences again; their candidates are those remembered."""
    del step
    begun = self._draw(remembered['index_age'])
    candidates = Candidates(**remembered['candidates'])
    begun.candidates = candidates._replace(
      block_ids=np.array(candidates.block_ids, np.int32),
      mask=np.array(candidates.mask, np.int32),
    )
    return begun

  def position(self, step: int) -> dict[str, Any]:
    """Which snapshot is in use, and the null document's bias."""
    return {'null_bias': self._null_bias, **super().position(step)}

  def resume(self, position: dict[str, Any], step: int, params: Any) -> None:
    """Goes back to a position; its snapshot is loaded from the run."""
    super().resume(position, step, params)
    self._null_bias = position['null_bias']
