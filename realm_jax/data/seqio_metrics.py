"""Metrics of question tasks, as seqio.Evaluator calls them (adapter).

A prediction is an answer, a string; or a mapping with 'answer', 'documents' or
both, documents being the texts of the blocks found, best first. Predict an
answer as it is written in its block: token ids are decoded to lower case with
spaces around punctuation, and so 'u . s .' is not 'U.S.'.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from realm_jax.data.seqio_questions import ANSWER_TEXTS
from realm_jax.errors import UserError

# Those of realm_jax.eval are imported where they are called: eval is a layer
# above this one, but seqio has metrics beside the data.

Targets = Sequence[Mapping[str, Any]]
Predictions = Sequence[str | Mapping[str, Any]]


def postprocess_answers(
  output: Any, example: Mapping[str, Any], is_target: bool
) -> Any:
  """What seqio hands to the metrics.

  Args:
    output: a prediction; of no use for a target.
    example: of a question task.
    is_target: whether the right answers are asked for.

  Returns:
    {'answers': the right answers, 'is_regex': bool} for a target, else output.
  """
  if not is_target:
    return output
  return {
    'answers': [text.decode('utf-8') for text in example[ANSWER_TEXTS] if text],
    'is_regex': bool(example['is_regex']),
  }


def answer_metrics(
  targets: Targets, predictions: Predictions
) -> dict[str, float]:
  """Whether the answers are right, as a seqio metric function.

  Args:
    targets: of postprocess_answers.
    predictions: one for each.

  Returns:
    Shares and means between 0 and 1, those that there are questions for; none
    of them if no prediction has an answer.
    exact_match: over all questions, by answers.is_right, so that a regular
      expression must fit at the start, as in the official evaluation.
    f1: over the questions whose answers are no expressions.
    regex_match: over those whose answers are; what exact_match has of them.
    regex_search: over the same, the expression fitting anywhere.

  Raises:
    UserError: some predictions have an answer and others none.
  """
  from realm_jax.eval.answers import f1, is_right, regex_match

  answers = _of_all(predictions, 'answer')
  if answers is None:
    return {}
  found: dict[str, list[float]] = {'exact_match': []}
  for answer, target in zip(answers, targets, strict=True):
    right, is_regex = target['answers'], target['is_regex']
    scores = {'exact_match': float(is_right(answer, right, is_regex))}
    if is_regex:
      scores['regex_match'] = scores['exact_match']
      scores['regex_search'] = float(regex_match(answer, right, anchored=False))
    else:
      scores['f1'] = f1(answer, right)
    for name, score in scores.items():
      found.setdefault(name, []).append(score)
  return {name: float(np.mean(scores)) for name, scores in found.items()}


def retrieval_metrics(
  targets: Targets, predictions: Predictions
) -> dict[str, float]:
  """How well blocks were found, as a seqio metric function.

  Args:
    targets: of postprocess_answers.
    predictions: one for each.

  Returns:
    recall_at_1, _5, _20, _50 and _100, up to the most documents that a
    prediction has, and mean_reciprocal_rank; as `realm-jax evaluate` has them,
    by answers.has_answer. None of them if no prediction has documents.

  Raises:
    UserError: some predictions have documents and others none.
  """
  from realm_jax.eval.answers import has_answer
  from realm_jax.eval.retrieval import (
    DEFAULT_KS,
    mean_reciprocal_rank,
    recall_at_k,
  )

  documents = _of_all(predictions, 'documents')
  if documents is None:
    return {}
  width = max(len(texts) for texts in documents)
  # [num_questions, width]
  hits = np.zeros((len(documents), width), bool)
  for row, (texts, target) in enumerate(zip(documents, targets, strict=True)):
    for rank, text in enumerate(texts):
      hits[row, rank] = has_answer(
        text, target['answers'], is_regex=target['is_regex']
      )
  recall = recall_at_k(hits, [k for k in DEFAULT_KS if k <= width])
  return {
    **{f'recall_at_{k}': share for k, share in recall.items()},
    'mean_reciprocal_rank': mean_reciprocal_rank(hits),
  }


def _of_all(predictions: Predictions, name: str) -> list[Any] | None:
  """A part of each prediction; None if none of them has it."""
  parts = [
    prediction.get(name)
    if isinstance(prediction, Mapping)
    else (prediction if name == 'answer' else None)
    for prediction in predictions
  ]
  num_missing = sum(part is None for part in parts)
  if num_missing == len(parts):
    return None
  if num_missing:
    raise UserError(
      f'{num_missing} of {len(parts)} predictions have no {name!r}: expected '
      'it in all of them or in none. Give an empty one where nothing was found.'
    )
  return parts
