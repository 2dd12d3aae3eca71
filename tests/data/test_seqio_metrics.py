import json

import numpy as np
import pytest
from seqio_cases import (
  LENGTHS,
  QUESTIONS,
  empty_registries,
  make_corpus,
  register,
  write_lines,
)

from realm_jax.data.featurize import Ragged, query_inputs
from realm_jax.data.qa import load_questions
from realm_jax.data.qa_examples import qa_examples
from realm_jax.data.seqio_converters import finetune_converter, text_inputs
from realm_jax.data.seqio_metrics import answer_metrics, retrieval_metrics
from realm_jax.errors import UserError

seqio = pytest.importorskip('seqio', exc_type=ImportError)

WORD = {'answers': ['Ulm'], 'is_regex': False}
EXPRESSION = {'answers': ['ab+'], 'is_regex': True}
# Rows 0 and 2 are right; half of the words of row 3 are.
ANSWERS = ['the Anna Field.', 'the', '1503 it was', 'b c']


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  return make_corpus(tmp_path_factory.mktemp('seqio'))


@pytest.fixture
def question_file(tmp_path):
  return write_lines(tmp_path / 'questions.jsonl', QUESTIONS)


@pytest.fixture(autouse=True)
def registries(monkeypatch):
  empty_registries(monkeypatch)


def evaluate(corpus, predictions, **settings):
  """What seqio.Evaluator makes of predictions, one a row of the questions."""
  seen = []

  def predict(dataset):
    # Any order will do: seqio sorts by index.
    rows = list(dataset.as_numpy_iterator())[::-1]
    seen.extend(rows)
    return [(int(index), predictions[int(index)]) for index, _ in rows]

  evaluator = seqio.Evaluator(
    'openqa',
    finetune_converter(corpus.wordpiece, LENGTHS),
    eval_split='test',
    target_field_name='answer_ids',
    **settings,
  )
  metrics, _ = evaluator.evaluate(compute_metrics=True, predict_fn=predict)
  evaluator.close()
  return metrics.result()['openqa'], seen


def test_seqio_evaluates_answers(corpus, question_file):
  register(corpus, questions={'': {'test': question_file}})
  found, seen = evaluate(corpus, ANSWERS)
  assert found == pytest.approx(
    {
      'exact_match': 2 / 4,
      'f1': (1 + 0 + 2 / 3) / 3,
      'regex_match': 1,
      'regex_search': 1,
    }
  )
  # What is asked are the questions as the query embedder reads them.
  rows = qa_examples(load_questions(question_file), corpus.wordpiece, LENGTHS)
  expected = query_inputs(
    Ragged(rows.question_ids, rows.question_lens),
    LENGTHS.query_len,
    corpus.wordpiece,
  )
  for index, batch in seen:
    for array, rows_of in zip(
      text_inputs(batch, 'question'), expected, strict=True
    ):
      np.testing.assert_array_equal(array, rows_of[int(index)])


def test_seqio_evaluates_documents(corpus, question_file, tmp_path):
  register(corpus, questions={'': {'test': question_file}})
  documents = [
    ['Rain.', 'By Anna  Field, they say.'],  # second
    [],
    ['x', 'y', 'z', 'u', 'v', 'Since 1599 at last'],  # sixth
    ['There was b.', 'a'],  # first
  ]
  predictions = [
    {'answer': answer, 'documents': texts}
    for answer, texts in zip(ANSWERS, documents, strict=True)
  ]
  found, _ = evaluate(
    corpus,
    predictions,
    logger_cls=[seqio.JSONLogger],
    log_dir=str(tmp_path),
  )
  assert found == pytest.approx(
    {
      'exact_match': 2 / 4,
      'f1': (1 + 0 + 2 / 3) / 3,
      'regex_match': 1,
      'regex_search': 1,
      'recall_at_1': 1 / 4,
      'recall_at_5': 2 / 4,
      'mean_reciprocal_rank': (1 / 2 + 0 + 1 / 6 + 1) / 4,
    }
  )
  logged = json.loads((tmp_path / 'openqa-metrics.jsonl').read_text())
  assert logged['recall_at_5'] == 2 / 4


def test_documents_alone_have_no_answer_metrics(corpus, question_file):
  register(corpus, questions={'': {'test': question_file}})
  found, _ = evaluate(corpus, [{'documents': ['b']}] * 4)
  assert found == {'recall_at_1': 1 / 4, 'mean_reciprocal_rank': 1 / 4}


def test_recall_is_told_at_five_ranks():
  documents = ['x'] * 59 + ['from Ulm'] + ['x'] * 41
  found = retrieval_metrics([WORD], [{'documents': documents}])
  assert found == pytest.approx(
    {
      'recall_at_1': 0,
      'recall_at_5': 0,
      'recall_at_20': 0,
      'recall_at_50': 0,
      'recall_at_100': 1,
      'mean_reciprocal_rank': 1 / 60,
    }
  )


def test_expressions_are_searched_for_in_documents():
  documents = ['ulm is no match', 'so ABB it is']
  found = retrieval_metrics([EXPRESSION], [{'documents': documents}])
  assert found == {'recall_at_1': 0, 'mean_reciprocal_rank': 1 / 2}


def test_expressions_count_at_the_start_and_are_told_anywhere():
  targets = [EXPRESSION, EXPRESSION, EXPRESSION, WORD]
  answers = ['abbbc', 'xab', 'xa', 'Ulm']
  assert answer_metrics(targets, answers) == pytest.approx(
    {'exact_match': 2 / 4, 'regex_match': 1 / 3, 'regex_search': 2 / 3, 'f1': 1}
  )


def test_without_expressions_none_are_told():
  assert answer_metrics([WORD], [{'answer': 'ulm'}]) == {
    'exact_match': 1,
    'f1': 1,
  }
  assert retrieval_metrics([WORD], ['ulm']) == {}


@pytest.mark.parametrize(
  ('metric', 'name'),
  [(answer_metrics, 'answer'), (retrieval_metrics, 'documents')],
)
def test_predictions_that_lack_a_part_are_refused(metric, name):
  predictions = [{name: 'Ulm'}, {name: 'Ulm'}, {}]
  with pytest.raises(UserError, match=f"1 of 3 predictions have no '{name}'"):
    metric([WORD] * 3, predictions)
