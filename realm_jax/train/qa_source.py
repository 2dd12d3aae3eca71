"""Batches of fine-tuning: questions, the blocks found, where answers lie."""

import dataclasses
import time
from collections.abc import Sequence
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
from realm_jax.data.featurize import Ragged, bucket_len, joint_inputs
from realm_jax.data.token_lens import token_lens
from realm_jax.index.retriever import Retriever, Search
from realm_jax.sharding import OwnRows
from realm_jax.train.pipeline import BatchSource
from realm_jax.types import (
  NULL_BLOCK_ID,
  Array,
  PretrainBatch,
  QABatch,
  TextInputs,
)


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


def blocks_with_answer_text(
  corpus: Corpus, block_ids: np.ndarray, answers: Sequence[Sequence[str]]
) -> np.ndarray:
  """Which blocks contain an answer, letter by letter: [batch, n] bool.

  As ORQA's code has it: case counts, and "1821" is in "18210".

  Args:
    corpus: of the blocks.
    block_ids: [batch, n] int32, -1 for none.
    answers: of each question.
  """
  return np.array(
    [
      [
        block_id != NULL_BLOCK_ID
        and any(answer in corpus.text(block_id) for answer in its_answers)
        for block_id in row
      ]
      for row, its_answers in zip(block_ids, answers, strict=True)
    ]
  )


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
    search: that was sent off; None once block_ids are there.
    block_ids: [batch, beam_size] int32, what was found for all rows.
  """

  examples: Example
  question_lens: Array
  question: TextInputs
  search: Search | None = None
  block_ids: np.ndarray | None = None


class QASource(BatchSource):
  """The batches of a fine-tuning run. The index is frozen."""

  def __init__(
    self,
    batches: Batches,
    retriever: Retriever,
    beam_size: int,
    num_read: int,
    answers: Sequence[Sequence[str]] | None = None,
    rows: OwnRows | None = None,
  ):
    """Keeps its arguments.

    Args:
      batches: of QAExamples.
      retriever: over a frozen index.
      beam_size: blocks that the retriever's loss sees.
      num_read: blocks that the reader sees.
      answers: of each question, by row, to look for in the blocks' texts; None
        to look for the answers' wordpieces.
      rows: of a batch, those that batches makes; None for all.
    """
    super().__init__(batches)
    self._rows = rows or OwnRows()
    self._retriever = retriever
    self._beam_size = beam_size
    self._num_read = num_read
    self._answers = answers

  def begin(self, step: int, params: Any) -> _Begun:
    """Draws questions, and sends off the search for their blocks."""
    del step
    begun = self._draw()
    begun.search = self._retriever.begin(
      params, begun.question, self._beam_size
    )
    return begun

  def _draw(self) -> _Begun:
    examples = next(self._batches)
    question = self._retriever.query_inputs(
      Ragged(examples['question_ids'], examples['question_lens'])
    )
    question_lens = self._rows.share(examples['question_lens'])
    return _Begun(examples, question_lens, self._rows.place(question))

  def finish(self, begun: _Begun) -> tuple[QABatch, dict[str, float]]:
    """Waits for what was found, and looks for answers in it."""
    start = time.perf_counter()
    if begun.search is not None:
      begun.block_ids = self._retriever.finish(begun.search).block_ids
      begun.search = None
    block_ids = begun.block_ids
    assert block_ids is not None
    retrieve_seconds = time.perf_counter() - start
    examples = begun.examples
    retriever = self._retriever
    corpus, lengths = retriever.corpus, retriever.lengths
    lens = token_lens(
      np.asarray(begun.question_lens),
      block_ids[:, : self._num_read],
      corpus,
      lengths,
    )
    _, joint_len = lens.padded(lengths)
    own_ids = self._rows.of(block_ids)
    blocks = corpus.gather(own_ids)
    if self._answers is None:
      has_answer = blocks_with_answer(
        blocks.body_ids,
        blocks.body_len,
        examples['answer_ids'],
        examples['answer_lens'],
      )
      if hosts.are_several():
        has_answer = np.asarray(has_answer)  # rows of this process alone
    else:
      answers = [self._answers[row] for row in examples['row']]
      has_answer = blocks_with_answer_text(corpus, own_ids, answers)
    read = BlockTokens(*(array[:, : self._num_read] for array in blocks))
    joint, block_mask = read_inputs(examples, read, corpus, lengths, joint_len)
    batch = QABatch(
      question=begun.question,
      beam_embeds=retriever.index.embeds(block_ids),
      beam_mask=(own_ids >= 0).astype(np.int32),
      beam_has_answer=has_answer,
      joint=joint,
      block_mask=block_mask,
      answer_ids=examples['answer_ids'],
      answer_lens=examples['answer_lens'],
    )
    return batch, {
      'tokens': int(lens.joint.sum()),
      'retrieve_seconds': retrieve_seconds,
    }

  def remember(self, begun: _Begun) -> dict[str, Any]:
    """What was found."""
    assert begun.block_ids is not None
    return {'block_ids': begun.block_ids.tolist()}

  def recall(self, step: int, remembered: dict[str, Any]) -> _Begun:
    """Draws the questions again, with what was found for them."""
    del step
    begun = self._draw()
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
