"""Questions -> answers with their sources: retrieve, read, map back to text."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from realm_jax import hosts
from realm_jax.data.examples import Example
from realm_jax.eval.answers import normalize_answer
from realm_jax.index.retriever import Retriever
from realm_jax.models.inference import SpanInputs, SpanReading, make_read_spans
from realm_jax.models.realm import RealmConfig
from realm_jax.sharding import Layout
from realm_jax.train.qa_source import read_inputs
from realm_jax.types import NULL_BLOCK_ID

_LOWEST_UTILITY = -20.0  # nats; a document that does not hold the answer
_IMPOSSIBLE = -1e3  # nats; less have only spans outside of a block
# The many spans of an answer and of its neighbours, which differ by a word.
_SPANS_A_CANDIDATE = 20


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
class Candidate:
  """An answer that the reader considered.

  Attributes:
    text: as it stands in the block where it is likeliest.
    probability: of all spans considered that say the same, in all blocks read.
    block_id: the block where it is likeliest.
    start: first character in that block's text.
    stop: one past its last character.
  """

  text: str
  probability: float
  block_id: int
  start: int
  stop: int


@dataclass(frozen=True)
class Answer:
  """The answer to a question: the likeliest span.

  Attributes:
    text: as it stands in the block; empty if no block was found.
    probability: of the span, among all spans of all blocks read.
    block_id: the block it stands in; -1 if there is none.
    start: first character in the block's text.
    stop: one past its last character.
    documents: the blocks read, best first.
    candidates: different answers, the likeliest first, summed over blocks: the
      first need not be the likeliest span.
    is_right_span: its pieces are those of a known answer.
    has_right_span: some span of the blocks read is one.
    withheld: it is too unlikely to be given; the rest tells what it would be.
  """

  text: str
  probability: float
  block_id: int
  start: int
  stop: int
  documents: tuple[Document, ...]
  candidates: tuple[Candidate, ...] = ()
  is_right_span: bool = False
  has_right_span: bool = False
  withheld: bool = False


class Answerer:
  """Reads blocks for questions with the span reader of a model."""

  def __init__(
    self,
    model: RealmConfig,
    retriever: Retriever,
    num_candidates: int = 0,
    layout: Layout | None = None,
  ):
    """Keeps its arguments.

    Args:
      model: sizes.
      retriever: for its corpus, its lengths and the embeddings it searches.
      num_candidates: different answers to give beside the likeliest span, at
        most.
      layout: of the parameters over a mesh; None for one device.
    """
    self._retriever = retriever
    self._corpus = retriever.corpus
    self._num_candidates = num_candidates
    self._read = make_read_spans(
      model, max(1, _SPANS_A_CANDIDATE * num_candidates), layout
    )

  def answer(
    self, params: Any, examples: Example, block_ids: np.ndarray
  ) -> list[Answer]:
    """Answers questions from given blocks.

    Args:
      params: of the model.
      examples: rows of QAExamples.
      block_ids: [batch, num_read] int32, -1 for none.
    """
    scores = self._relevance_scores(params, examples, block_ids)
    blocks = self._corpus.gather(block_ids)
    joint, block_mask = read_inputs(
      examples, blocks, self._corpus, self._retriever.lengths
    )
    inputs = SpanInputs(
      scores,
      joint,
      block_mask,
      examples['answer_ids'],
      examples['answer_lens'],
    )
    reading = SpanReading(
      *(np.asarray(array) for array in self._read(params, inputs))
    )
    # The body begins after [CLS] question [SEP].
    offsets = 2 + np.asarray(examples['question_lens'])
    return [
      self._to_answer(
        block_ids[row],
        scores[row],
        int(offsets[row]),
        SpanReading(*(array[row] for array in reading)),
      )
      for row in range(len(block_ids))
    ]

  def _relevance_scores(
    self, params: Any, examples: Example, block_ids: np.ndarray
  ) -> np.ndarray:
    """[batch, num_read] float32; very low where there is no block."""
    query = self._retriever.question_inputs(examples)
    query_embeds = self._retriever.embed(params, query)
    embeds = hosts.as_numpy(self._retriever.index.embeds(block_ids))
    scores = np.einsum('bd,bnd->bn', query_embeds, embeds)
    return np.where(block_ids == NULL_BLOCK_ID, -1e4, scores).astype(np.float32)

  def _to_answer(
    self,
    block_ids: np.ndarray,
    scores: np.ndarray,
    offset: int,
    reading: SpanReading,
  ) -> Answer:
    """One question's answer; all arrays without the batch."""
    documents = self._documents(block_ids, scores, reading.answer_mass)
    if block_ids[reading.slots[0]] == NULL_BLOCK_ID:
      return Answer('', 0.0, NULL_BLOCK_ID, 0, 0, documents)
    spans = list(self._spans(block_ids, offset, reading))
    best = spans[0]
    return Answer(
      best.text,
      best.probability,
      best.block_id,
      best.start,
      best.stop,
      documents,
      _candidates(spans)[: self._num_candidates],
      bool(reading.is_right),
      bool(reading.has_right),
    )

  def _documents(
    self, block_ids: np.ndarray, scores: np.ndarray, mass: np.ndarray
  ) -> tuple[Document, ...]:
    log_prior = scores - np.logaddexp.reduce(scores)
    log_answer = np.logaddexp.reduce(mass)
    return tuple(
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

  def _spans(
    self, block_ids: np.ndarray, offset: int, reading: SpanReading
  ) -> Iterator[Candidate]:
    """The spans of a reading in their blocks' texts, the likeliest first."""
    texts = {
      block_id: self._corpus.text(block_id)
      for block_id in map(int, block_ids[reading.slots])
      if block_id != NULL_BLOCK_ID
    }
    encodings = {
      block_id: self._corpus.wordpiece.encode(text)
      for block_id, text in texts.items()
    }
    for slot, first, end, log_prob in zip(
      reading.slots,
      reading.starts - offset,
      reading.stops - offset,
      reading.log_probs,
      strict=True,
    ):
      block_id = int(block_ids[slot])
      # Of few spans the last ones are those outside of the blocks.
      if block_id == NULL_BLOCK_ID or log_prob < _IMPOSSIBLE:
        return
      start = int(encodings[block_id].starts[first])
      stop = int(encodings[block_id].stops[end - 1])
      text = texts[block_id][start:stop]
      yield Candidate(text, float(np.exp(log_prob)), block_id, start, stop)


def _candidates(spans: Sequence[Candidate]) -> tuple[Candidate, ...]:
  """Different answers with the probability of all spans that give them.

  Answers that are equal once normalised are the same.
  """
  merged: dict[str, Candidate] = {}
  for span in spans:
    name = normalize_answer(span.text)
    before = merged.get(name)
    merged[name] = (
      span
      if before is None
      else dataclasses.replace(
        before, probability=before.probability + span.probability
      )
    )
  return tuple(sorted(merged.values(), key=lambda c: -c.probability))


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
