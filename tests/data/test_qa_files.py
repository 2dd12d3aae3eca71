"""Question files in every format, and what is wrong with them."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny

from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.data.qa import Question, load_questions
from realm_jax.data.qa_datasets import (
  is_dev_question,
  recognise,
  standard_questions,
)
from realm_jax.data.qa_examples import qa_examples
from realm_jax.data.qa_warnings import question_warnings
from realm_jax.errors import UserError
from realm_jax.runs.split_questions import split_questions

OPENQA = Path(__file__).parents[3] / 'shared' / 'realtext' / 'openqa'
TWO = [
  Question('Who is it?', ('Ada', 'Ada "A" Quist')),
  Question('When?', ('1805',)),
]


def write(path, content):
  path.write_text(
    content if isinstance(content, str) else json.dumps(content),
    encoding='utf-8',
  )
  return path


def webquestions(path):
  targets = (
    '(list (description Ada) (description "Ada \\"A\\" Quist"))',
    '(list (description 1805))',
  )
  return write(
    path,
    [
      {'url': 'x', 'utterance': q.question, 'targetValue': target}
      for q, target in zip(TWO, targets, strict=True)
    ],
  )


def triviaqa(path):
  rows = [
    {
      'Question': q.question,
      'QuestionId': 'x',
      'Answer': {'Value': q.answers[0], 'Aliases': list(q.answers)},
    }
    for q in TWO
  ]
  return write(path, {'Data': rows, 'Domain': 'unfiltered-web'})


def dpr(path):
  return write(
    path, ''.join(f'{q.question}\t{list(q.answers)!r}\n' for q in TWO)
  )


def lines(path, key='answer'):
  return tiny.write_lines(
    path, [{'question': q.question, key: list(q.answers)} for q in TWO]
  )


def table():
  return pa.table(
    {
      'question': [q.question for q in TWO],
      'answers': [list(q.answers) for q in TWO],
    }
  )


def parquet(path):
  pq.write_table(table(), path)
  return path


def arrow(path):
  with pa.ipc.new_stream(str(path), table().schema) as writer:
    writer.write_table(table())
  return path


def triviaqa_table(path):
  rows = [
    {
      'question': q.question,
      'answer': {'value': q.answers[0], 'aliases': list(q.answers)},
    }
    for q in TWO
  ]
  pq.write_table(pa.Table.from_pylist(rows), path)
  return path


@pytest.mark.parametrize(
  'make',
  [lines, webquestions, triviaqa, dpr, parquet, arrow, triviaqa_table],
)
def test_every_format_holds_the_same_questions(make, tmp_path):
  assert load_questions(make(tmp_path / 'a file')) == TWO


def test_answers_may_be_called_so(tmp_path):
  assert load_questions(lines(tmp_path / 'a', 'answers')) == TWO


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (
      '{"question": "Who?", "answer": ["a"]}\n{"question": ',
      'line 2: not JSON',
    ),
    ('{"question": " ", "answer": ["a"]}', 'line 1: no "question"'),
    ('{"question": "Who?", "answer": [""]}', "line 1: no answers to 'Who"),
    ('{"question": "Who?", "answer": 3}', 'line 1: "answer" is 3'),
    ('{"question": "Who?"}', "line 1: no answers to 'Who"),
    ('\n', 'holds no questions'),
    ('{"Data": 3}', 'no list of objects'),
    ('{"Data": [{"Question": "Who?"}]}', '"Data" entry 0: no answers'),
    ('[{"utterance": "Who?", "targetValue": "(list)"}]', 'entry 0: no answers'),
    ('[{"utterance": ', 'not JSON'),
    ("Who?\t['a']\nWho?\t__import__('os')\n", 'line 2: .* is no list'),
    ('PAR1 and nothing else', 'cannot be read'),
  ],
)
def test_what_is_wrong_is_named_with_its_place(content, message, tmp_path):
  path = write(tmp_path / 'questions', content)
  with pytest.raises(UserError, match=message) as caught:
    load_questions(path)
  assert str(path) in str(caught.value)


def test_a_table_without_the_columns_is_refused(tmp_path):
  pq.write_table(pa.table({'text': ['a']}), tmp_path / 'a')
  with pytest.raises(UserError, match='has the columns text'):
    load_questions(tmp_path / 'a')


@pytest.mark.parametrize(
  ('name', 'data_set', 'split'),
  [
    ('CuratedTrec.test.jsonl', 'trec', 'test'),
    ('NaturalQuestions.resplit.train.jsonl', 'nq', 'train'),
    ('nq-dev.qa.csv', 'nq', 'dev'),
    ('NQ-open.train.jsonl', 'nq', 'train'),
    ('WebQuestions-test.txt', 'webq', 'test'),
    ('unfiltered-web-dev.json', 'triviaqa', 'dev'),
    ('trivia-test.qa.csv', 'triviaqa', 'test'),
    ('SQuAD.dev.jsonl', 'squad', 'dev'),
    ('validation.jsonl', None, None),
    ('my_nq.train.jsonl', None, None),
    ('nqx.train.jsonl', None, None),
    ('nq_strained.jsonl', None, None),
  ],
)
def test_data_sets_are_known_by_the_names_of_their_files(name, data_set, split):
  found = recognise(f'/somewhere/train/{name}')
  assert (found and found.data_set.name) == data_set
  assert (found and found.split) == split


def test_the_files_of_a_folder_are_found_by_their_names(tmp_path):
  for name in ('nq-train.csv', 'nq-dev.csv', 'CuratedTrec.test.jsonl', 'x.txt'):
    (tmp_path / name).touch()
  assert standard_questions(tmp_path) == {
    'nq': {
      'train': tmp_path / 'nq-train.csv',
      'dev': tmp_path / 'nq-dev.csv',
    },
    'trec': {'test': tmp_path / 'CuratedTrec.test.jsonl'},
  }
  (tmp_path / 'NaturalQuestions.dev.jsonl').touch()
  with pytest.raises(UserError, match='are both Natural Questions, open, dev'):
    standard_questions(tmp_path)


def test_a_folder_without_any_is_refused(tmp_path):
  with pytest.raises(UserError, match='no file that is named'):
    standard_questions(tmp_path)


@pytest.mark.parametrize(
  ('name', 'num_questions', 'warns'),
  [
    ('NaturalQuestions.test', 3610, False),
    ('NaturalQuestions.dev', 8604, True),  # of 8,757
    ('WebQuestions.test', 2032, False),
    ('CuratedTrec.test', 694, False),
    ('TriviaQA.dev', 7491, True),
    ('SQuAD.dev', 10570, True),  # papers call it test
  ],
)
def test_real_files_have_the_published_sizes_or_a_warning(
  name, num_questions, warns, tiny_corpus
):
  path = OPENQA / f'{name}.jsonl'
  if not path.is_file():
    pytest.skip(f'{path} is not there')
  questions = load_questions(path)
  assert len(questions) == num_questions
  assert {q.is_regex for q in questions} == {name.startswith('Curated')}
  examples = qa_examples(
    questions[:50], Corpus.open(tiny_corpus).wordpiece, Lengths()
  )
  warnings = question_warnings(path, questions, examples)
  assert [w for w in warnings if 'was published with' in w] == warnings[:warns]


def test_expressions_that_are_none_are_told_and_the_rest_goes_on(
  tiny_corpus, tmp_path
):
  path = tiny.write_lines(
    tmp_path / 'CuratedTrec.train.jsonl',
    [
      {'question': 'Who?', 'answer': ['(']},
      {'question': 'When?', 'answer': ['18[0-9]+']},
    ],
  )
  questions = load_questions(path)
  assert [q.is_regex for q in questions] == [True, True]
  examples = qa_examples(
    questions, Corpus.open(tiny_corpus).wordpiece, tiny.LENGTHS
  )
  warnings = question_warnings(path, questions, examples)
  assert len(warnings) == 2
  assert '1 of 2 questions have an answer that is no valid' in warnings[1]
  assert "'Who?'" in warnings[1]


def test_long_questions_are_cut_and_counted_and_longer_ones_refused(
  tiny_corpus,
):
  wordpiece = Corpus.open(tiny_corpus).wordpiece
  lengths = tiny.LENGTHS  # 24 and 40: the reader has 64

  def examples(num_words):
    questions = [Question('Who?', ('a',)), Question('. ' * num_words, ('a',))]
    made = qa_examples(questions, wordpiece, lengths)
    made.check_room(questions, lengths)
    return made

  assert examples(22).num_cut == 0
  assert examples(23).num_cut == examples(60).num_cut == 1
  with pytest.raises(UserError, match=r'Question 2, .* is 61 wordpieces long'):
    examples(61)


def test_questions_are_split_as_orqa_splits_them(tmp_path):
  pytest.importorskip('tensorflow')
  path = Path(__file__).parents[3] / 'shared/fixtures/official_realm'
  if not path.is_dir():
    pytest.skip(f'{path} is not there')
  cases = json.loads((path / 'eval_cases.json').read_text())['dev_split_hash']
  assert cases
  for case in cases:
    assert is_dev_question(case['question']) == (case['split'] == 'dev')
  named = [case for case in cases if case['question'].strip()]
  source = tiny.write_lines(
    tmp_path / 'all.jsonl',
    [{'question': c['question'], 'answer': ['x']} for c in named],
  )
  counts = split_questions(
    str(source), str(tmp_path / 'out'), console=tiny.quiet()
  )
  for half in ('train', 'dev'):
    expected = sum(case['split'] == half for case in named)
    assert counts[half] == expected
    assert len(load_questions(tmp_path / 'out' / f'{half}.jsonl')) == expected


def test_what_the_vocabulary_lacks_is_no_label(tiny_corpus):
  wordpiece = Corpus.open(tiny_corpus).wordpiece
  examples = qa_examples(
    [Question('Where?', ('\U0001f681', 'Belton'))], wordpiece, tiny.LENGTHS
  )
  assert (examples.answer_lens > 0).sum() == 1
