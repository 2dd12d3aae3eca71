"""Score predictions as the evaluation script of ORQA and REALM does."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from realm_jax.data.expressions import expressions_warning
from realm_jax.data.lines import read_json_lines
from realm_jax.data.qa_datasets import recognise
from realm_jax.errors import UserError
from realm_jax.eval.answers import Accuracy, evaluate_predictions

_REFERENCE = '{"question": ..., "answer": [...]}'
_PREDICTION = '{"question": ..., "prediction": ...}'


def score(
  references: str,
  predictions: str,
  *,
  regex: bool = False,
  allow_missing: bool = False,
  as_json: bool = False,
  console: Console | None = None,
) -> dict[str, Any]:
  """Counts right predictions.

  Both files are JSON lines. As in the original, a question that stands twice
  counts once, with what stands last; and no prediction is a wrong one.

  Args:
    references: file of questions with answers.
    predictions: file of questions with a prediction each, such as `evaluate`
      writes; questions without reference are passed over.
    regex: the answers are regular expressions (CuratedTREC), which have to fit
      at the start of the prediction, whatever the case. Without it, those of
      lines with "regex": true are.
    allow_missing: count questions without a prediction as wrong, rather than
      refuse.
    as_json: print JSON in place of text.
    console: where to print; None for the terminal.

  Returns:
    missing_predictions, num_correct, num_total and accuracy, from 0 to 1.

  Raises:
    FileNotFoundError: there is no such file.
    UserError: a line is not what is expected, or questions lack predictions.
  """
  console = console or Console()
  # question -> its answers, and whether they are expressions
  asked = {
    question: (_answers(row, where), regex or bool(row.get('regex')))
    for where, question, row in _rows(references, _REFERENCE)
  }
  predicted = {
    question: _prediction(row, where)
    for where, question, row in _rows(predictions, _PREDICTION)
  }
  missing = [question for question in asked if question not in predicted]
  if missing and not allow_missing:
    raise UserError(
      f'{predictions} has no prediction for {len(missing)} of {len(asked)} '
      f'questions of {references}; the first is {missing[0]!r}. Add them, or '
      'count them as wrong with --allow-missing.'
    )
  texts, expressions = (
    {
      question: answers
      for question, (answers, own) in asked.items()
      if own is kind
    }
    for kind in (False, True)
  )
  for warning in _warnings(references, texts, expressions):
    # JSON stays JSON.
    warn = Console(stderr=True) if as_json else console
    warn.print(warning, style='yellow', markup=False)
  counts = (
    evaluate_predictions(predicted, texts),
    evaluate_predictions(predicted, expressions, is_regex=True),
  )
  counted = Accuracy(*(sum(of_kind) for of_kind in zip(*counts, strict=True)))
  found = {
    'missing_predictions': counted.num_missing,
    'num_correct': counted.num_right,
    'num_total': counted.num_total,
    'accuracy': counted.accuracy,
  }
  if as_json:
    console.out(json.dumps(found), highlight=False)
  else:
    console.print(f'Missing predictions: {counted.num_missing}')
    console.print(
      f'Accuracy: {counted.accuracy:.4f} '
      f'({counted.num_right}/{counted.num_total})'
    )
  return found


def _rows(path: str, expected: str) -> list[tuple[str, str, dict[str, Any]]]:
  """(where it stands, question, row) of each line."""
  rows = []
  for number, row in read_json_lines(Path(path), expected):
    where = f'{path}, line {number}'
    question = row.get('question')
    if not isinstance(question, str):
      raise UserError(f'{where}: no "question". Expected {expected}.')
    rows.append((where, question, row))
  if not rows:
    raise UserError(f'{path} is empty: expected {expected}, one a line.')
  return rows


def _answers(row: dict[str, Any], where: str) -> list[str]:
  answers = row.get('answer', row.get('answers'))
  if not isinstance(answers, list) or not all(
    isinstance(answer, str) for answer in answers
  ):
    raise UserError(
      f'{where}: "answer" is {answers!r}, expected a list of strings.'
    )
  return answers


def _prediction(row: dict[str, Any], where: str) -> str:
  prediction = row.get('prediction')
  if not isinstance(prediction, str):
    raise UserError(
      f'{where}: "prediction" is {prediction!r}, expected a string. The run '
      'that was evaluated has to be one that answers, not only retrieves.'
    )
  return prediction


def _warnings(
  references: str,
  texts: dict[str, list[str]],
  expressions: dict[str, list[str]],
) -> list[str]:
  """What is odd about how answers are compared; the original says so too."""
  warnings = []
  standard = recognise(references)
  if standard is not None:
    title = standard.data_set.title
    has_expressions = standard.data_set.has_expressions
    if texts and has_expressions:
      warnings.append(
        f'The answers of {title} are regular expressions, but are compared as '
        'they are written. Give --regex.'
      )
    if expressions and not has_expressions:
      warnings.append(
        f'The answers of {title} are no regular expressions, but are taken for '
        'some. Leave --regex away.'
      )
  invalid = expressions_warning(expressions)
  return [*warnings, invalid] if invalid else warnings
