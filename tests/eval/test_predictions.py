import json

import numpy as np
import pytest

from realm_jax.errors import UserError
from realm_jax.eval.predictions import (
  by_answer_source,
  by_question_type,
  read_predictions,
  summarise,
  values_of,
)


def prediction(question, right, rank=None, named=None, probability=0.5):
  row = {
    'question': question,
    'answers': ['x'],
    'hits': [False, right, False, False, False],
    'exact_match': float(right),
    'f1': float(right),
    'probability': probability,
  }
  if rank:
    row['answer_rank'] = rank
  if named is not None:
    row['from_named_article'] = named
  return row


PREDICTIONS = [
  prediction('Who is it?', True, 1, True),
  prediction('Who was it?', False, 2, False),
  prediction('When was it?', True, 1, False),
  {
    'question': 'How?',
    'answers': ['.*'],
    'hits': [True] * 5,
    'regex_search': 1.0,
  },
]


def test_values_are_of_the_questions_that_have_them():
  values = values_of(PREDICTIONS)
  rows, exact = values['exact_match']
  assert rows.tolist() == [0, 1, 2]
  assert exact.tolist() == [1, 0, 1]
  assert values['regex_search'][0].tolist() == [3]
  np.testing.assert_array_equal(values['recall_at_5'][1], [1, 0, 1, 1])
  assert values['mean_reciprocal_rank'][1].tolist() == [0.5, 0, 0.5, 1]
  assert 'recall_at_20' not in values  # five were found


def test_summary_has_means_and_calibration():
  summary = summarise(PREDICTIONS)
  assert summary['exact_match']['mean'] == pytest.approx(2 / 3)
  assert summary['exact_match']['num_questions'] == 3
  assert summary['answer_probability']['mean'] == 0.5
  # Sure of a half, right two times in three.
  assert summary['expected_calibration_error']['mean'] == pytest.approx(1 / 6)


def test_groups_have_their_own_means():
  types = by_question_type(PREDICTIONS)
  assert list(types) == ['who', 'how', 'when']  # the largest first
  assert types['who']['num_questions'] == 2
  assert types['who']['exact_match']['mean'] == 0.5
  assert 'exact_match' not in types['how']
  sources = by_answer_source(PREDICTIONS)
  assert {name: row['num_questions'] for name, row in sources.items()} == {
    'document 1': 2,
    'document 2': 1,
    'other article': 2,
    'named article': 1,
  }
  assert sources['document 1']['exact_match']['mean'] == 1


def test_documents_stand_in_the_order_of_their_rank():
  ranks = [10, 2, 2, 1, 3]
  rows = [prediction('Who?', True, rank) for rank in ranks]
  assert list(by_answer_source(rows)) == [
    f'document {rank}' for rank in (1, 2, 3, 10)
  ]


def test_without_reading_there_are_no_sources():
  assert by_answer_source([{'question': 'Who?', 'hits': [True]}]) == {}


def test_predictions_are_read_from_an_evaluations_folder(tmp_path):
  path = tmp_path / 'predictions.jsonl'
  path.write_text(''.join(json.dumps(row) + '\n' for row in PREDICTIONS))
  assert read_predictions(tmp_path) == read_predictions(path) == PREDICTIONS
  path.write_text('{"prediction": "x"}\n')
  with pytest.raises(UserError, match='not a file of predictions'):
    read_predictions(tmp_path)
