"""How well documents are found: recall@k and mean reciprocal rank.

All read has_answer: a row a question, a column a retrieved document, best
first, true where the document holds an answer (answers.has_answer). A question
for which fewer documents were found has false in the rest of its row.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

DEFAULT_KS = (1, 5, 20, 50, 100)


def hits_at_k(has_answer: ArrayLike, k: int) -> np.ndarray:
  """Which questions have an answer in one of their k best documents.

  Args:
    has_answer: [num_questions, num_retrieved] bool, best document first.
    k: how many documents count.

  Returns:
    [num_questions] bool: the values whose mean is recall@k.

  Raises:
    ValueError: has_answer is not a bool matrix, or k is not between 1 and
      num_retrieved.
  """
  has_answer = _checked(has_answer)
  num_retrieved = has_answer.shape[1]
  if not 1 <= k <= num_retrieved:
    raise ValueError(
      f'k is {k}, but {num_retrieved} documents were retrieved for each '
      f'question: expected 1 to {num_retrieved}. Retrieve more, or lower k.'
    )
  return np.any(has_answer[:, :k], axis=1)


def recall_at_k(
  has_answer: ArrayLike, ks: Sequence[int] = DEFAULT_KS
) -> dict[int, float]:
  """Share of questions with an answer among the k best documents.

  Args:
    has_answer: [num_questions, num_retrieved] bool, best document first.
    ks: each between 1 and num_retrieved.

  Returns:
    k -> share, between 0 and 1, in the order of ks.

  Raises:
    ValueError: as hits_at_k, or there is no question.
  """
  _check_any_question(has_answer)
  return {k: float(hits_at_k(has_answer, k).mean()) for k in ks}


def reciprocal_ranks(has_answer: ArrayLike) -> np.ndarray:
  """One over the rank of the first document with an answer; 0 without one.

  Args:
    has_answer: [num_questions, num_retrieved] bool, best document first.

  Returns:
    [num_questions] float64, the first rank being 1.

  Raises:
    ValueError: has_answer is not a bool matrix.
  """
  has_answer = _checked(has_answer)
  if has_answer.shape[1] == 0:
    return np.zeros(len(has_answer))
  first = has_answer.argmax(axis=1)
  return np.where(has_answer.any(axis=1), 1 / (first + 1), 0.0)


def mean_reciprocal_rank(has_answer: ArrayLike) -> float:
  """Mean of reciprocal_ranks, between 0 and 1; ValueError of no question."""
  _check_any_question(has_answer)
  return float(reciprocal_ranks(has_answer).mean())


def _checked(has_answer: ArrayLike) -> np.ndarray:
  array = np.asarray(has_answer)
  if array.ndim != 2 or array.dtype != np.bool_:
    raise ValueError(
      f'has_answer has shape {array.shape} and dtype {array.dtype}, expected '
      '[num_questions, num_retrieved] bool.'
    )
  return array


def _check_any_question(has_answer: ArrayLike) -> None:
  if len(_checked(has_answer)) == 0:
    raise ValueError('has_answer has no row: there is no question to score.')
