import json

import pytest

from realm_jax.data.qa import Question, load_questions
from realm_jax.errors import UserError


def write(path, *rows):
  path.write_text(''.join(f'{json.dumps(row)}\n' for row in rows))
  return path


def test_lines_give_questions(tmp_path):
  path = write(
    tmp_path / 'q.jsonl',
    {'question': ' who? ', 'answer': ['Ada', 'Ada', 'Eve', ' ']},
    {'question': 'when?', 'answer': '18[0-9]5', 'regex': True, 'title': 'A'},
    {'question': 'where?', 'answer': ['x'], 'titles': ['A', 'B'], 'id': 1},
  )
  assert load_questions(path) == [
    Question(' who? ', ('Ada', 'Eve')),  # as it stands: scores go by it
    Question('when?', ('18[0-9]5',), True, ('A',)),
    Question('where?', ('x',), False, ('A', 'B')),
  ]


def test_squad_gives_questions_with_their_title(tmp_path):
  entry = {'id': '7', 'question': 'Who? ', 'answers': [{'text': 'Ada'}] * 2}
  paragraph = {'context': 'Ada did.', 'qas': [entry]}
  data = [{'title': 'Ada_L', 'paragraphs': [paragraph]}]
  path = tmp_path / 'squad.json'
  path.write_text(json.dumps({'version': '1.1', 'data': data}))
  assert load_questions(path) == [
    Question('Who? ', ('Ada',), titles=('Ada L',))
  ]
  entry['answers'] = []
  path.write_text(json.dumps({'data': data}))
  with pytest.raises(UserError, match=r'squad.json, question 7: no answers'):
    load_questions(path)


@pytest.mark.parametrize('answer', [[], [' '], ''])
def test_a_question_without_answers_names_file_and_line(tmp_path, answer):
  good = {'question': 'who?', 'answer': ['Ada']}
  path = write(
    tmp_path / 'q.jsonl', good, {'question': 'why?', 'answer': answer}
  )
  with pytest.raises(UserError, match=r"q.jsonl, line 2: no answers to 'why"):
    load_questions(path)


@pytest.mark.parametrize(
  'row, message',
  [
    ({'answer': ['x']}, 'line 1: no "question"'),
    ({'question': 'who?'}, 'line 1: no answers'),
    ({'question': 'who?', 'answer': [3]}, r'line 1: "answer" is \[3\]'),
    ({'question': 'who?', 'answer': {'a': 1}}, 'line 1: "answer" is'),
  ],
)
def test_other_rows_are_refused(tmp_path, row, message):
  with pytest.raises(UserError, match=f'q.jsonl, {message}'):
    load_questions(write(tmp_path / 'q.jsonl', row))


def test_empty_broken_and_missing_files_are_refused(tmp_path):
  path = tmp_path / 'q.jsonl'
  with pytest.raises(FileNotFoundError, match=r'q.jsonl does not exist'):
    load_questions(path)
  path.write_text('\n')
  with pytest.raises(UserError, match=r'q.jsonl holds no questions'):
    load_questions(path)
  path.write_text('{"question": "who?"\n')
  with pytest.raises(UserError, match=r'q.jsonl, line 1: not JSON'):
    load_questions(path)
