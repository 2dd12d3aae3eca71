"""Two evaluations side by side, question by question."""

import json

import pytest
import tiny

from realm_jax.errors import UserError
from realm_jax.runs.compare import compare

ROW = {'question': 'Who?', 'answers': ['x']}


@pytest.fixture
def write(tmp_path):
  """Writes predictions; returns their path."""
  return lambda name, rows: str(
    tiny.write_lines(tmp_path / f'{name}.jsonl', rows)
  )


@pytest.fixture
def evaluations(write):
  """Two files of predictions: A is right on 8 of 10, B on one of those."""
  paths = []
  for name, num_right in (('a', 8), ('b', 1)):
    rows = [
      {
        'question': f'Who is {i}?',
        'answers': ['x'],
        'exact_match': float(i < num_right),
        'f1': 0.5 + i / 100,
      }
      for i in range(10)
    ]
    paths.append(write(name, rows))
  return paths


def test_two_evaluations_are_compared_question_by_question(evaluations):
  console = tiny.quiet()
  found = compare(*evaluations, console=console)
  assert found['exact_match']['num_a_better'] == 7
  assert found['exact_match']['num_b_better'] == 0
  assert found['exact_match']['p_value'] == pytest.approx(2 / 2**7)
  assert found['f1']['p_value'] == 1
  printed = console.file.getvalue()
  assert 'A is better in exact_match (p < 0.05).\n' in printed
  assert 'Neither is better in f1 beyond' in printed
  assert 'not corrected for there being 2' in printed


def test_one_metric_is_compared_alone_and_as_json(evaluations, capsys):
  found = compare(*evaluations[::-1], metrics=['exact_match'], as_json=True)
  assert json.loads(capsys.readouterr().out) == found
  assert found.keys() == {'exact_match'}
  assert found['exact_match']['difference']['mean'] == pytest.approx(-0.7)
  assert found['exact_match']['num_b_better'] == 7


def test_a_metric_is_of_the_questions_that_have_it_in_both(write):
  a = [{**ROW, 'retrieval_utility': value} for value in (0.5, 1.5)] + [ROW] * 2
  b = [ROW, *({**ROW, 'retrieval_utility': 1.0} for _ in range(2)), ROW]
  utility = compare(write('a', a), write('b', b), console=tiny.quiet())[
    'retrieval_utility'
  ]
  assert utility['difference']['num_values'] == 1
  assert (utility['a'], utility['b']) == (1.5, 1.0)
  with pytest.raises(UserError, match='no metric in common'):
    compare(write('a', a[:1]), write('b', [ROW]))


def test_evaluations_of_other_questions_are_refused(write):
  a = write('a', [ROW, ROW])
  b = write('b', [ROW, {**ROW, 'answers': ['y']}, ROW])
  with pytest.raises(UserError) as caught:
    compare(a, b)
  assert 'A has 2 questions and B has 3, of which 2 are not' in str(
    caught.value
  )
  assert 'first is number 2, whose "answers" is [\'x\'] in A' in str(
    caught.value
  )


def test_a_metric_that_one_has_not_is_refused(evaluations):
  with pytest.raises(UserError, match='recall_at_5 is not in both'):
    compare(*evaluations, metrics=['recall_at_5'])
