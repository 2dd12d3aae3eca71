"""Asking: in a batch, from a file, from the keyboard; and saying no."""

import io
import json

import pytest
import tiny

from realm_jax.errors import UserError
from realm_jax.runs.ask import ask


@pytest.fixture(scope='module')
def run(tmp_path_factory, tiny_corpus):
  """Folder of a run that counts as fine-tuned, with new parameters."""
  folder = tmp_path_factory.mktemp('qa')
  return str(tiny.make_untrained_run(folder, tiny_corpus, stage='finetune'))


QUESTIONS = ['Where did Ada Quist live?', 'When did Bela Rook leave?']


def test_questions_of_the_line_and_of_a_file_are_answered_in_order(
  run, tmp_path
):
  file = tmp_path / 'questions.txt'
  file.write_text(f'\n{QUESTIONS[1]}\n\n')
  console = tiny.quiet()
  answers = ask(run, QUESTIONS[:1], file=str(file), console=console)
  assert len(answers) == 2
  printed = console.file.getvalue()
  assert printed.index(QUESTIONS[0]) < printed.index(QUESTIONS[1])


def test_an_empty_file_is_refused(run, tmp_path):
  (tmp_path / 'empty').write_text('\n\n')
  with pytest.raises(UserError, match='holds no question'):
    ask(run, file=str(tmp_path / 'empty'))


def test_without_questions_they_are_read_until_an_empty_line(run, monkeypatch):
  monkeypatch.setattr(
    'sys.stdin', io.StringIO('\n'.join([*QUESTIONS, '', 'Who?']))
  )
  assert len(ask(run, console=tiny.quiet())) == 2


def test_several_answers_differ_and_none_is_likelier_than_the_first(run):
  console = tiny.quiet()
  (answer,) = ask(run, QUESTIONS[:1], top_k=4, console=console)
  probabilities = [c.probability for c in answer.candidates]
  assert len(probabilities) == 4
  assert probabilities == sorted(probabilities, reverse=True)
  assert sum(probabilities) <= 1 + 1e-5
  assert 'p(y|x)' in console.file.getvalue()


def test_an_answer_that_is_too_unlikely_is_withheld(run):
  console = tiny.quiet()
  (answer,) = ask(run, QUESTIONS[:1], min_probability=1.0, console=console)
  assert answer.withheld and answer.text
  assert 'no answer: the likeliest' in console.file.getvalue()
  (answer,) = ask(run, QUESTIONS[:1], min_probability=0.0, console=console)
  assert not answer.withheld


def test_json_has_an_object_a_question(run):
  console = tiny.quiet()
  console.width = 40  # nothing is wrapped
  (answer,) = ask(run, QUESTIONS[:1], as_json=True, console=console)
  row = json.loads(console.file.getvalue())
  assert row['question'] == QUESTIONS[0]
  assert row['text'] == answer.text
  assert len(row['documents']) == len(answer.documents)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'top_k': 0}, '0 answers were asked for'),
    ({'min_probability': 1.5}, 'min_probability is 1.5'),
    ({'min_probability': float('nan')}, 'min_probability is nan'),
  ],
)
def test_settings_out_of_range_are_refused(run, settings, message):
  with pytest.raises(UserError, match=message):
    ask(run, QUESTIONS, console=tiny.quiet(), **settings)
