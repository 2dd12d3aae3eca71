"""What evaluate writes of each question, as metrics by question."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from realm_jax.data.lines import read_json_lines
from realm_jax.errors import UserError
from realm_jax.eval.calibration import calibration_error
from realm_jax.eval.intervals import Interval, bootstrap_interval
from realm_jax.eval.question_types import question_type
from realm_jax.eval.retrieval import DEFAULT_KS, hits_at_k, reciprocal_ranks

# As they stand in a prediction; a question has those that make sense for it.
_OF_ANSWERS = (
  'exact_match',
  'span_exact_match',
  'reader_oracle',
  'f1',
  'regex_search',
  'retrieval_utility',
)
_IN_BREAKDOWNS = ('exact_match', 'f1', 'recall_at_5')

Prediction = Mapping[str, Any]


def read_predictions(path: str | Path) -> list[dict[str, Any]]:
  """Reads predictions.jsonl, or that of an evaluation's folder.

  Raises:
    FileNotFoundError: there is no such file.
    UserError: it holds no predictions.
  """
  path = Path(path)
  if path.is_dir():
    path = path / 'predictions.jsonl'
  expected = 'a prediction of realm-jax evaluate'
  rows = [row for _, row in read_json_lines(path, expected)]
  if not rows or not all('question' in row for row in rows):
    raise UserError(
      f'{path} is not a file of predictions: expected {expected}.'
    )
  return rows


def values_of(
  predictions: Sequence[Prediction],
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Metric -> rows of the questions that have it, and its value for each.

  recall_at_k and mean_reciprocal_rank are of the hits; k is at most as many as
  were found for each question.
  """
  found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
  for name in _OF_ANSWERS:
    rows = np.array([i for i, p in enumerate(predictions) if name in p], int)
    if len(rows):
      values = [float(predictions[i][name]) for i in rows]
      found[name] = rows, np.array(values)
  if predictions and all('hits' in p for p in predictions):
    hits = np.array([p['hits'] for p in predictions], bool)
    rows = np.arange(len(hits))
    for k in DEFAULT_KS:
      if k <= hits.shape[1]:
        found[f'recall_at_{k}'] = rows, hits_at_k(hits, k).astype(float)
    found['mean_reciprocal_rank'] = rows, reciprocal_ranks(hits)
  return found


def _as_json(interval: Interval) -> dict[str, float]:
  return {
    'mean': interval.mean,
    'low': interval.low,
    'high': interval.high,
    'num_questions': interval.num_values,
  }


def summarise(predictions: Sequence[Prediction]) -> dict[str, dict[str, float]]:
  """Mean and interval of each metric over the questions that have it.

  And where answers have a probability, that and expected_calibration_error: see
  calibration.
  """
  summary = {
    name: _as_json(bootstrap_interval(values))
    for name, (_, values) in values_of(predictions).items()
  }
  answered = [p for p in predictions if 'probability' in p]
  if answered:
    probabilities = np.array([p['probability'] for p in answered])
    is_right = np.array([p['exact_match'] for p in answered])
    error = calibration_error(probabilities, is_right)
    summary['answer_probability'] = _as_json(bootstrap_interval(probabilities))
    summary['expected_calibration_error'] = _as_json(error)
  return summary


def _breakdown(
  predictions: Sequence[Prediction], groups: Sequence[str | None]
) -> dict[str, dict[str, Any]]:
  """Metrics of each group of questions, the largest group first.

  Args:
    predictions: one a question.
    groups: of each; None leaves it out.
  """
  members: dict[str, list[Prediction]] = {}
  for prediction, group in zip(predictions, groups, strict=True):
    if group is not None:
      members.setdefault(group, []).append(prediction)
  found: dict[str, dict[str, Any]] = {}
  for name, own in sorted(members.items(), key=lambda m: (-len(m[1]), m[0])):
    metrics = values_of(own)
    found[name] = {
      'num_questions': len(own),
      **{
        metric: _as_json(bootstrap_interval(metrics[metric][1]))
        for metric in _IN_BREAKDOWNS
        if metric in metrics
      },
    }
  return found


def by_question_type(
  predictions: Sequence[Prediction],
) -> dict[str, dict[str, Any]]:
  """Metrics of each type of question: see question_types."""
  return _breakdown(
    predictions, [question_type(p['question']) for p in predictions]
  )


def by_answer_source(
  predictions: Sequence[Prediction],
) -> dict[str, dict[str, Any]]:
  """Metrics by where the answer was read.

  'document 1', 'document 2', ...: the rank of the document that it stands in;
  and, where the questions name articles, 'named article' and 'other article'.
  Empty where nothing was read.
  """
  read = [p for p in predictions if p.get('answer_rank')]
  ranks: list[str | None] = [f'document {p["answer_rank"]}' for p in read]
  named: list[str | None] = [
    None
    if 'from_named_article' not in p
    else ('named article' if p['from_named_article'] else 'other article')
    for p in read
  ]
  by_rank = _breakdown(read, ranks)
  in_order = sorted(by_rank, key=lambda name: int(name.split()[1]))
  return {
    **{name: by_rank[name] for name in in_order},
    **_breakdown(read, named),
  }
