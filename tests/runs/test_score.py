import pytest
import tiny

from realm_jax.errors import UserError
from realm_jax.runs.compare import compare
from realm_jax.runs.score import score


@pytest.fixture
def files(tmp_path):
  """Writes references and predictions; returns their paths."""

  def write(references, predictions):
    return (
      str(tiny.write_lines(tmp_path / 'references.jsonl', references)),
      str(tiny.write_lines(tmp_path / 'predictions.jsonl', predictions)),
    )

  return write


def reference(question, *answers):
  return {'question': question, 'answer': list(answers)}


def predicted(question, prediction, **more):
  return {'question': question, 'prediction': prediction, **more}


def test_of_a_question_that_stands_twice_the_last_counts(files):
  paths = files(
    [reference('Who?', 'Ada'), reference('Who?', 'Bela')],
    [predicted('Who?', 'Bela'), predicted('Who?', 'the bela!')],
  )
  found = score(*paths, console=tiny.quiet())
  assert (found['num_correct'], found['num_total']) == (1, 1)


def test_expressions_fit_at_the_start(files):
  paths = files(
    [reference('When?', 'june [0-9]+'), reference('Where?', '(')],
    [predicted('When?', 'June 4, 1999'), predicted('Where?', 'x')],
  )
  assert score(*paths, regex=True, console=tiny.quiet())['num_correct'] == 1
  assert score(*paths, console=tiny.quiet())['num_correct'] == 0


@pytest.mark.parametrize(
  ('references', 'predictions', 'message'),
  [
    (
      [reference('Who?', 'a'), reference('Why?', 'b')],
      [predicted('Who?', 'a')],
      "no prediction for 1 of 2 .*'Why.'.*--allow-missing",
    ),
    ([{'question': 'Who?'}], [predicted('Who?', 'a')], 'line 1: "answer" is'),
    ([reference('Who?', 'a')], [{'question': 'Who?'}], '1: "prediction" is'),
    ([reference('Who?', 'a')], [{'prediction': 'a'}], 'line 1: no "question"'),
    ([], [predicted('Who?', 'a')], 'references.jsonl is empty'),
  ],
)
def test_what_cannot_be_scored_is_refused(
  files, references, predictions, message
):
  with pytest.raises(UserError, match=message):
    score(*files(references, predictions), console=tiny.quiet())


@pytest.fixture
def evaluations(tmp_path):
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
    paths.append(str(tiny.write_lines(tmp_path / f'{name}.jsonl', rows)))
  return paths


def test_two_evaluations_are_compared_question_by_question(evaluations):
  console = tiny.quiet()
  found = compare(*evaluations, console=console)
  assert found['exact_match']['num_a_better'] == 7
  assert found['exact_match']['num_b_better'] == 0
  assert found['exact_match']['p_value'] == pytest.approx(2 / 2**7)
  assert found['f1']['p_value'] == 1
  printed = console.file.getvalue()
  assert 'In exact_match A is better (p = 0.016).' in printed
  assert 'not corrected' in printed


def test_a_metric_that_one_has_not_is_refused(evaluations):
  with pytest.raises(UserError, match='recall_at_5 is not in both'):
    compare(*evaluations, metrics=['recall_at_5'])
