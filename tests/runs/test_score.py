import json
import re
from pathlib import Path

import pytest
import tiny

from realm_jax.errors import UserError
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


def test_lines_may_say_that_their_answers_are_expressions(files):
  paths = files(
    [
      {**reference('When?', 'june [0-9]+'), 'regex': True},
      reference('Who?', 'A+da'),
      {**reference('Why?', 'x'), 'regex': True},
    ],
    [predicted('When?', 'June 4'), predicted('Who?', 'Aada')],
  )
  found = score(*paths, allow_missing=True, console=tiny.quiet())
  assert found == {
    'missing_predictions': 1,
    'num_correct': 1,
    'num_total': 3,
    'accuracy': 1 / 3,
  }


@pytest.mark.parametrize(
  ('name', 'regex', 'warning'),
  [
    ('CuratedTrec.test.jsonl', False, 'CuratedTREC are regular .* Give'),
    ('CuratedTrec.test.jsonl', True, '^$'),
    ('WebQuestions.test.jsonl', True, 'WebQuestions are no .* Leave'),
    ('WebQuestions.test.jsonl', False, '^$'),
    ('references.jsonl', True, '^$'),
  ],
)
def test_a_rule_that_is_not_the_data_sets_is_warned_of_beside_the_json(
  files, tmp_path, capsys, name, regex, warning
):
  references, predictions = files(
    [reference('Who?', 'a')], [predicted('Who?', 'A')]
  )
  renamed = str(Path(references).rename(tmp_path / name))
  found = score(renamed, predictions, regex=regex, as_json=True)
  assert found['num_correct'] == 1
  printed = capsys.readouterr()
  assert json.loads(printed.out) == found
  assert re.search(warning, ' '.join(printed.err.split()))


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
