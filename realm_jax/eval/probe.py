"""A quick measurement during pre-training: recall on a few questions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from realm_jax.data.qa import Question
from realm_jax.data.qa_examples import qa_examples
from realm_jax.eval.answering import batches_of
from realm_jax.index.retriever import Retriever
from realm_jax.train.qa_source import blocks_with_answer

_BATCH_SIZE = 64


class Probe:
  """Recall of a fixed set of questions, whose answers are never trained on."""

  def __init__(
    self, questions: Sequence[Question], retriever: Retriever, ks: Sequence[int]
  ):
    """Tokenises the questions.

    Args:
      questions: as many as can be spared the time.
      retriever: what is measured.
      ks: recall@k for these k.
    """
    self._retriever = retriever
    corpus = retriever.corpus
    self._ks = [k for k in ks if k <= corpus.num_blocks]
    self._examples = qa_examples(questions, corpus.wordpiece, retriever.lengths)
    self._num_questions = len(questions)

  def __call__(self, params: Any) -> dict[str, float]:
    """{'probe_recall@k': share of questions}, by wordpieces of the answers."""
    found = np.concatenate(
      [
        self._has_answer(params, rows)
        for rows in batches_of(self._num_questions, _BATCH_SIZE)
      ]
    )[: self._num_questions]
    return {
      f'probe_recall@{k}': float(found[:, :k].any(axis=1).mean())
      for k in self._ks
    }

  def _has_answer(self, params: Any, rows: np.ndarray) -> np.ndarray:
    """[batch, k] bool: which blocks found hold an answer."""
    examples = self._examples.rows(rows)
    query = self._retriever.question_inputs(examples)
    found = self._retriever.retrieve(params, query, max(self._ks))
    blocks = self._retriever.corpus.gather(found.block_ids)
    return np.asarray(
      blocks_with_answer(
        blocks.body_ids,
        blocks.body_len,
        examples['answer_ids'],
        examples['answer_lens'],
      )
    )
