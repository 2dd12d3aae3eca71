"""Batches of fine-tuning: questions, the blocks found, where answers lie."""

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from realm_jax import hosts
from realm_jax.answer_matching import match_answers
from realm_jax.data.batches import Batches
from realm_jax.data.closed_book import closed_book_batch, closed_book_lens
from realm_jax.data.corpus import BlockTokens, Corpus
from realm_jax.data.examples import Example, Lengths
from realm_jax.data.featurize import (
  Ragged,
  bucket_len,
  document_inputs,
  joint_inputs,
)
from realm_jax.data.text_labels import TextLabels
from realm_jax.data.token_lens import TokenLens, token_lens
from realm_jax.index.retriever import Retriever, Search
from realm_jax.own_rows import OwnRows
from realm_jax.refresh.refresher import Refresher
from realm_jax.train.indexed_source import IndexedSource
from realm_jax.train.pipeline import BatchSource
from realm_jax.types import Array, PretrainBatch, QABatch, TextInputs


@jax.jit
def blocks_with_answer(
  body_ids: Array, body_len: Array, answer_ids: Array, answer_lens: Array
) -> Array:
  """Which blocks contain the pieces of an answer: [batch, n] bool.

  Args:
    body_ids: [batch, n, length] int32.
    body_len: [batch, n] int32.
    answer_ids: [batch, num_answers, answer_len] int32.
    answer_lens: [batch, num_answers] int32.
  """
  mask = jnp.arange(body_ids.shape[-1])[None, None, :] < body_len[..., None]
  matches = match_answers(body_ids, mask, answer_ids, answer_lens)
  return matches.any(axis=(2, 3))


def read_inputs(
  examples: Example,
  blocks: BlockTokens,
  corpus: Corpus,
  lengths: Lengths,
  joint_len: int | None = None,
) -> tuple[TextInputs, np.ndarray]:
  """What the span reader sees.

  Args:
    examples: rows of QAExamples.
    blocks: of [batch, num_read] documents.
    corpus: for its vocabulary.
    lengths: joint_len and multiple are used.
    joint_len: to pad to; None for what these rows need.

  Returns:
    Joint inputs [batch, num_read, joint_len] and the block mask of the same
    shape, int32: 1 at the pieces of the block.
  """
  joint = joint_inputs(
    Ragged(examples['question_ids'], examples['question_lens']),
    blocks,
    corpus.wordpiece,
    joint_len or lengths.multiple,
    joint_len or lengths.joint_len,
  )
  block_mask = joint.segment_ids * (joint.token_ids != corpus.wordpiece.sep_id)
  return joint, block_mask.astype(np.int32)


@dataclasses.dataclass
class _Begun:
  """A batch whose blocks are being searched for.

  Attributes:
    examples: rows of QAExamples, those of this process.
    question_lens: [batch] int32; of all rows, without special tokens.
    question: [batch, query_len] TextInputs; all rows, for the embedder.
    index_age: of the index that is searched, in steps.
    search: that was sent off; None once block_ids are there.
    block_ids: [batch, beam_size] int32, what was found for all rows.
  """

  examples: Example
  question_lens: Array
  question: TextInputs
  index_age: float
  search: Search | None = None
  block_ids: np.ndarray | None = None


class QASource(IndexedSource):
  """The batches of a fine-tuning run, with the index behind them."""

  def __init__(
    self,
    batches: Batches,
    retriever: Retriever,
    refresher: Refresher,
    beam_size: int,
    num_read: int,
    num_embedded: int = 0,
    labels: TextLabels | None = None,
    rows: OwnRows | None = None,
  ):
    """Keeps its arguments.

    Args:
      batches: of QAExamples.
      retriever: finds the blocks.
      refresher: of its index.
      beam_size: blocks that the retriever's loss sees.
      num_read: blocks that the reader sees.
      num_embedded: blocks that are embedded in the step; 0 leaves the document
        embedder out of it.
      labels: which blocks are right, by question; None to look for the answers'
        wordpieces.
      rows: of a batch, those that batches makes; None for all.
    """
    super().__init__(batches, refresher)
    self._rows = rows or OwnRows()
    self._retriever = retriever
    self._beam_size = beam_size
    self._num_read = num_read
    self._num_embedded = num_embedded
    self._labels = labels

  def begin(self, step: int, params: Any) -> _Begun:
    """Draws questions, and sends off the search for their blocks."""
    begun = self._draw(self._refresher.mean_age(step))
    begun.search = self._retriever.begin(
      params, begun.question, self._beam_size
    )
    return begun

  def _draw(self, index_age: float) -> _Begun:
    examples = next(self._batches)
    question = self._retriever.question_inputs(examples)
    question_lens = self._rows.share(examples['question_lens'])
    return _Begun(
      examples, question_lens, self._rows.place(question), index_age
    )

  def finish(self, begun: _Begun) -> tuple[QABatch, dict[str, float]]:
    """Waits for what was found, and looks for answers in it."""
    start = time.perf_counter()
    if begun.search is not None:
      begun.block_ids = self._retriever.finish(begun.search).block_ids
      begun.search = None
    block_ids = begun.block_ids
    assert block_ids is not None
    retrieve_seconds = time.perf_counter() - start
    self._refresher.queries = begun.question
    lens = self._token_lens(begun, block_ids)
    metrics = {
      'tokens': int(lens.joint.sum() + lens.documents.sum()),
      'retrieve_seconds': retrieve_seconds,
    }
    if self._num_embedded:
      metrics['index_age'] = begun.index_age
    return self._batch(begun, block_ids, lens), metrics

  def _token_lens(self, begun: _Begun, block_ids: np.ndarray) -> TokenLens:
    """Of the blocks that are read, and of those that are embedded."""
    num_blocks = max(self._num_read, self._num_embedded)
    lens = token_lens(
      np.asarray(begun.question_lens),
      block_ids[:, :num_blocks],
      self._retriever.corpus,
      self._retriever.lengths,
    )
    return TokenLens(
      lens.documents[:, : self._num_embedded], lens.joint[:, : self._num_read]
    )

  def _batch(
    self, begun: _Begun, block_ids: np.ndarray, lens: TokenLens
  ) -> QABatch:
    examples = begun.examples
    corpus, lengths = self._retriever.corpus, self._retriever.lengths
    document_len, joint_len = lens.padded(lengths)
    own_ids = self._rows.of(block_ids)
    blocks = corpus.gather(own_ids)
    joint, block_mask = read_inputs(
      examples, blocks.first(self._num_read), corpus, lengths, joint_len
    )
    documents = None
    if self._num_embedded:
      documents = document_inputs(
        blocks.first(self._num_embedded),
        corpus.wordpiece,
        document_len,
        document_len,
      )
    return QABatch(
      question=begun.question,
      beam_embeds=self._retriever.index.embeds(block_ids),
      beam_mask=(own_ids >= 0).astype(np.int32),
      beam_has_answer=self._has_answer(examples, own_ids, blocks),
      joint=joint,
      block_mask=block_mask,
      answer_ids=examples['answer_ids'],
      answer_lens=examples['answer_lens'],
      documents=documents,
    )

  def _has_answer(
    self, examples: Example, block_ids: np.ndarray, blocks: BlockTokens
  ) -> Array:
    """[batch, beam_size] bool, of the rows of this process."""
    if self._labels is not None:
      return self._labels.has_answer(examples['row'], block_ids)
    has_answer = blocks_with_answer(
      blocks.body_ids,
      blocks.body_len,
      examples['answer_ids'],
      examples['answer_lens'],
    )
    # Of several processes each has rows of its own, on its own device.
    return np.asarray(has_answer) if hosts.are_several() else has_answer

  def remember(self, begun: _Begun) -> dict[str, Any]:
    """What was found."""
    assert begun.block_ids is not None
    return {
      'index_age': begun.index_age,
      'block_ids': begun.block_ids.tolist(),
    }

  def recall(self, step: int, remembered: dict[str, Any]) -> _Begun:
    """Draws the questions again, with what was found for them."""
    del step
    begun = self._draw(remembered['index_age'])
    begun.block_ids = np.array(remembered['block_ids'], np.int32)
    return begun


class ClosedBookSource(BatchSource):
  """Questions without documents."""

  uses_params = False

  def __init__(
    self,
    batches: Batches,
    corpus: Corpus,
    lengths: Lengths,
    rows: OwnRows | None = None,
  ):
    """Keeps its arguments.

    Args:
      batches: of QAExamples.
      corpus: for its vocabulary.
      lengths: see closed_book_batch.
      rows: of a batch, those that batches makes; None for all.
    """
    super().__init__(batches)
    self._corpus = corpus
    self._lengths = lengths
    self._rows = rows or OwnRows()

  def begin(self, step: int, params: Any) -> tuple[Example, Array]:
    """Draws questions; their lengths are those of all rows."""
    del step, params
    examples = next(self._batches)
    return examples, self._rows.share(examples['question_lens'])

  def finish(
    self, begun: tuple[Example, Array]
  ) -> tuple[PretrainBatch, dict[str, float]]:
    """Questions as blanks."""
    examples, question_lens = begun
    lens = closed_book_lens(np.asarray(question_lens), self._lengths)
    joint_len = bucket_len(
      int(lens.max()), self._lengths.multiple, self._lengths.joint_len
    )
    batch = closed_book_batch(
      examples, self._corpus.wordpiece, self._lengths, joint_len
    )
    batch = batch._replace(null_document=self._rows.whole(batch.null_document))
    return batch, {'tokens': int(lens.sum())}
