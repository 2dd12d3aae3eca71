"""Questions -> answers with their sources: retrieve, read, map back to text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from realm_jax.answer_matching import right_spans
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Example, Lengths
from realm_jax.data.featurize import Ragged, query_inputs
from realm_jax.index.api import Index
from realm_jax.models.inference import SpanReading, make_embed, make_read_spans
from realm_jax.models.realm import Realm, RealmConfig
from realm_jax.train.qa_source import read_inputs
from realm_jax.types import NULL_BLOCK_ID

_LOWEST_UTILITY = -20.0  # nats; a document that does not hold the answer


@dataclass(frozen=True)
class Document:
  """A block that was read for a question.

  Attributes:
    block_id: its row in the corpus.
    title: of its article.
    text: its body.
    score: relevance score f(x, z).
    probability: p(z|x) among the blocks that were read.
    retrieval_utility: log p(y|x,z) - log p(y|x) of the answer y given, nats, at
      least -20: by how much the answer is likelier given this document than
      over all. (An extractive reader says nothing without a document, so the
      null document cannot be the yardstick here as it is in pre-training.)
  """

  block_id: int
  title: str
  text: str
  score: float
  probability: float
  retrieval_utility: float


@dataclass(frozen=True)
class Answer:
  """The answer to a question.

  Attributes:
    text: as it stands in the block; empty if no block was found.
    probability: of the span, among all spans of all blocks read.
    block_id: the block it stands in; -1 if there is none.
    start: first character in the block's text.
    stop: one past its last character.
    documents: the blocks read, best first.
  """

  text: str
  probability: float
  block_id: int
  start: int
  stop: int
  documents: tuple[Document, ...]


class Answerer:
  """Reads blocks for questions with the span reader of a model."""

  def __init__(
    self,
    model: RealmConfig,
    params: Any,
    corpus: Corpus,
    index: Index,
    lengths: Lengths,
  ):
    """Keeps its arguments."""
    self._params = params
    self._corpus = corpus
    self._index = index
    self._lengths = lengths
    self._embed = make_embed(model, Realm.embed_queries)
    self._read = make_read_spans(model)
    self._max_span_width = model.max_span_width
    self._answer_mass = _make_answer_mass(model.max_span_width)

  def answer(self, examples: Example, block_ids: np.ndarray) -> list[Answer]:
    """Answers questions from given blocks.

    Args:
      examples: rows of QAExamples.
      block_ids: [batch, num_read] int32, -1 for none.
    """
    scores = self._relevance_scores(examples, block_ids)
    blocks = self._corpus.gather(block_ids)
    joint, block_mask = read_inputs(
      examples, blocks, self._corpus, self._lengths
    )
    reading = self._read(self._params, scores, joint, block_mask)
    answer_ids = self._answer_ids(joint.token_ids, reading)
    # [batch, num_read]; log p(y, z | x)
    mass = np.asarray(
      self._answer_mass(reading.log_probs, joint, block_mask, *answer_ids)
    )
    reading = SpanReading(*(np.asarray(array) for array in reading))
    return [
      self._to_answer(
        row, examples, block_ids[row], scores[row], mass[row], reading
      )
      for row in range(len(block_ids))
    ]

  def _relevance_scores(
    self, examples: Example, block_ids: np.ndarray
  ) -> np.ndarray:
    """[batch, num_read] float32; very low where there is no block."""
    query = query_inputs(
      Ragged(examples['question_ids'], examples['question_lens']),
      self._lengths.query_len,
      self._corpus.wordpiece,
    )
    query_embeds = np.asarray(self._embed(self._params, query))
    embeds = np.asarray(self._index.embeds(block_ids))
    scores = np.einsum('bd,bnd->bn', query_embeds, embeds)
    return np.where(block_ids == NULL_BLOCK_ID, -1e4, scores).astype(np.float32)

  def _answer_ids(
    self, token_ids: np.ndarray, reading: SpanReading
  ) -> tuple[np.ndarray, np.ndarray]:
    """The answers' pieces: [batch, 1, answer_len] int32, lengths [batch, 1]."""
    starts, stops = np.asarray(reading.starts), np.asarray(reading.stops)
    slots = np.asarray(reading.slots)
    lens = stops - starts
    width = self._max_span_width
    columns = np.minimum(
      starts[:, None] + np.arange(width), token_ids.shape[-1] - 1
    )
    ids = token_ids[np.arange(len(slots))[:, None], slots[:, None], columns]
    ids = np.where(np.arange(width) < lens[:, None], ids, 0)
    return ids[:, None].astype(np.int32), lens[:, None].astype(np.int32)

  def _to_answer(
    self,
    row: int,
    examples: Example,
    block_ids: np.ndarray,
    scores: np.ndarray,
    mass: np.ndarray,
    reading: SpanReading,
  ) -> Answer:
    log_prior = scores - np.logaddexp.reduce(scores)
    log_answer = np.logaddexp.reduce(mass)
    documents = tuple(
      Document(
        int(block_id),
        self._corpus.title(block_id),
        self._corpus.text(block_id),
        float(scores[slot]),
        float(np.exp(log_prior[slot])),
        float(max(mass[slot] - log_prior[slot] - log_answer, _LOWEST_UTILITY)),
      )
      for slot, block_id in enumerate(block_ids)
      if block_id != NULL_BLOCK_ID
    )
    block_id = int(block_ids[reading.slots[row]])
    if block_id == NULL_BLOCK_ID:
      return Answer('', 0.0, NULL_BLOCK_ID, 0, 0, documents)
    # The body begins after [CLS] question [SEP].
    offset = 2 + int(examples['question_lens'][row])
    text = self._corpus.text(block_id)
    encoding = self._corpus.wordpiece.encode(text)
    start = int(encoding.starts[reading.starts[row] - offset])
    stop = int(encoding.stops[reading.stops[row] - 1 - offset])
    probability = float(np.exp(reading.best_log_probs[row]))
    return Answer(
      text[start:stop], probability, block_id, start, stop, documents
    )


def _make_answer_mass(max_span_width: int):
  """Jitted log p(y, z | x): [batch, num_read], over all occurrences of y."""

  @jax.jit
  def answer_mass(log_probs, joint, block_mask, answer_ids, answer_lens):
    right = right_spans(
      joint.token_ids, block_mask, answer_ids, answer_lens, max_span_width
    )
    return jax.nn.logsumexp(jax.numpy.where(right, log_probs, -1e30), axis=2)

  return answer_mass


def pad_blocks(block_ids: np.ndarray, num_read: int) -> np.ndarray:
  """The first num_read columns, filled up with -1: [batch, num_read]."""
  cut = block_ids[:, :num_read]
  missing = num_read - cut.shape[1]
  return np.pad(cut, ((0, 0), (0, missing)), constant_values=NULL_BLOCK_ID)


def batches_of(num_rows: int, batch_size: int) -> Sequence[np.ndarray]:
  """Row numbers, batch_size at a time; the last batch repeats the last row."""
  return [
    np.minimum(np.arange(start, start + batch_size), num_rows - 1)
    for start in range(0, num_rows, batch_size)
  ]
