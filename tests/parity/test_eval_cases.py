"""Answers are judged as the official evaluation of ORQA judges them."""

import json
import unicodedata

import pytest
import tiny

from realm_jax.eval import answers
from realm_jax.runs.score import score


@pytest.fixture(scope='module')
def cases(fixtures_folder):
  path = fixtures_folder / 'official_realm' / 'eval_cases.json'
  return json.loads(path.read_text(encoding='utf-8'))


def test_verdicts_agree(cases):
  assert cases['exact_match']
  for case in cases['exact_match']:
    verdict = answers.is_right(
      case['prediction'], case['answers'], case['is_regex']
    )
    assert verdict == case['is_correct'], case


def test_normalised_forms_agree(cases):
  assert cases['exact_match']
  for case in cases['exact_match']:
    expected = [case['normalised_prediction'], *case['normalised_answers']]
    # JSON writers may compose what NFD has decomposed.
    expected = [unicodedata.normalize('NFD', text) for text in expected]
    assert expected == [
      answers.normalize_answer(text)
      for text in (case['prediction'], *case['answers'])
    ]


def test_counts_over_a_data_set_agree(cases):
  case = cases['evaluate_predictions_impl']
  counted = answers.evaluate_predictions(
    case['predictions'], case['references']
  )
  assert counted.num_right == case['result']['num_correct']
  assert counted.num_missing == case['result']['missing_predictions']
  assert counted.num_total == case['result']['num_total']
  assert counted.accuracy == case['result']['accuracy']


def test_files_are_scored_alike(cases, tmp_path):
  case = cases['evaluate_predictions_impl']
  references = tiny.write_lines(
    tmp_path / 'references.jsonl',
    [{'question': q, 'answer': a} for q, a in case['references'].items()],
  )
  predictions = tiny.write_lines(
    tmp_path / 'predictions.jsonl',
    [{'question': q, 'prediction': p} for q, p in case['predictions'].items()],
  )
  found = score(
    str(references),
    str(predictions),
    allow_missing=True,
    console=tiny.quiet(),
  )
  assert found == case['result']
