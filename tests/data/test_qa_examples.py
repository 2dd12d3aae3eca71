import numpy as np
import pytest

from realm_jax.data.examples import Lengths
from realm_jax.data.qa import Question
from realm_jax.data.qa_examples import qa_examples
from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError

WORDPIECE = WordPiece.train([''], 200)  # a piece is a character
LENGTHS = Lengths(query_len=9)
QUESTIONS = [
  Question('ab cd', ('xy', 'XY', 'é', 'x' * 11)),
  Question('abcdefghijkl', ('x' * 11,)),
  Question('who', ('[0-9]+',), is_regex=True),
  Question('n', tuple('abcdefghij')),
]


@pytest.fixture
def examples():
  return qa_examples(QUESTIONS, WORDPIECE, LENGTHS)


def words(ids):
  return WORDPIECE.decode(ids)


def test_questions_are_cut_and_padded(examples):
  assert examples.question_ids.shape == (4, 7)
  assert examples.question_lens.tolist() == [4, 7, 3, 1]
  assert words(examples.question_ids[0, :4]) == 'ab cd'
  assert words(examples.question_ids[1]) == 'abcdefg'
  assert (examples.question_ids[0, 4:] == 0).all()


def test_answers_of_equal_pieces_are_one_and_long_ones_are_left_out(examples):
  assert examples.answer_ids.shape == (4, 8, 10)
  assert examples.answer_lens[0].tolist() == [2, 1] + [0] * 6
  assert words(examples.answer_ids[0, 0, :2]) == 'xy'
  assert words(examples.answer_ids[0, 1, :1]) == 'e'
  assert (examples.answer_ids[0, 0, 2:] == 0).all()


def test_of_many_answers_the_first_are_labels(examples):
  assert examples.answer_lens[3].tolist() == [1] * 8
  assert words(examples.answer_ids[3, :, 0]) == 'a b c d e f g h'


def test_questions_that_cannot_teach_are_counted_and_left_out(examples):
  assert examples.num_unusable == 2
  assert [examples(row) is None for row in range(4)] == [
    False,
    True,
    True,
    False,
  ]


def test_rows_are_picked_one_or_many(examples):
  one = examples(3, epoch=5)
  assert one['question_ids'].shape == (7,)
  assert int(one['row']) == 3
  many = examples.rows(np.array([3, 0, 0]))
  assert many['row'].tolist() == [3, 0, 0]
  assert many['answer_ids'].shape == (3, 8, 10)
  np.testing.assert_array_equal(many['question_ids'][0], one['question_ids'])


def test_no_questions_are_refused():
  with pytest.raises(UserError, match='no questions'):
    qa_examples([], WORDPIECE, LENGTHS)
