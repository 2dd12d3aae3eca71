"""A measurement during fine-tuning: answers to questions not trained on."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from realm_jax.data.qa import Question
from realm_jax.data.qa_examples import QAExamples
from realm_jax.eval.answering import Answer, Answerer, batches_of, pad_blocks
from realm_jax.eval.verdicts import text_verdicts
from realm_jax.index.retriever import Retriever
from realm_jax.models.realm import RealmConfig
from realm_jax.sharding import Layout

METRICS = ('exact_match', 'span_exact_match', 'f1')
_BATCH_SIZE = 32


class DevQuestions:
  """Answers a fixed set of questions with whatever parameters it is handed."""

  def __init__(
    self,
    questions: Sequence[Question],
    examples: QAExamples,
    model: RealmConfig,
    retriever: Retriever,
    num_read: int,
    layout: Layout | None = None,
  ):
    """Keeps its arguments.

    Args:
      questions: with their answers.
      examples: the same questions as arrays.
      model: sizes.
      retriever: finds the blocks, in whatever it searches at the time.
      num_read: blocks that the reader sees.
      layout: of the parameters over a mesh; None for one device.
    """
    self._questions = questions
    self._examples = examples
    self._retriever = retriever
    self._num_read = num_read
    self._answerer = Answerer(model, retriever, layout=layout)

  def __call__(self, params: Any) -> dict[str, float]:
    """Means over the questions of what METRICS names.

    exact_match is the official verdict; span_exact_match asks that the span's
    pieces are an answer's; f1 is 0 where the answers are expressions.
    """
    scores = [
      score
      for rows in batches_of(len(self._questions), _BATCH_SIZE)
      for score in self._scores(params, rows)
    ]
    # The last batch repeats its last row.
    means = np.mean(scores[: len(self._questions)], axis=0)
    return dict(zip(METRICS, means.tolist(), strict=True))

  def _scores(self, params: Any, rows: np.ndarray) -> list[list[float]]:
    examples = self._examples.rows(rows)
    query = self._retriever.question_inputs(examples)
    found = self._retriever.retrieve(params, query, self._num_read)
    block_ids = pad_blocks(found.block_ids, self._num_read)
    answers = self._answerer.answer(params, examples, block_ids)
    return [
      _score(self._questions[row], answer)
      for row, answer in zip(rows, answers, strict=True)
    ]


def _score(question: Question, answer: Answer) -> list[float]:
  verdicts = text_verdicts(answer.text, question)
  span = float(answer.is_right_span)
  return [verdicts['exact_match'], span, verdicts.get('f1', 0.0)]
