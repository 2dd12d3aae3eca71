import numpy as np
import pytest

from realm_jax.data.closed_book import closed_book_answer, closed_book_batch
from realm_jax.data.examples import Lengths
from realm_jax.data.qa import Question
from realm_jax.data.qa_examples import qa_examples
from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError

WORDPIECE = WordPiece.train([''], 200)  # a piece is a character
CLS, SEP, MASK = WORDPIECE.cls_id, WORDPIECE.sep_id, WORDPIECE.mask_id
LENGTHS = Lengths(query_len=10, document_len=8, multiple=4, max_masks=3)


def ids(text):
  return WORDPIECE.encode(text).token_ids.tolist()


@pytest.fixture
def batch():
  questions = [
    Question('ab', ('x',)),
    Question('abcdefgh', ('wxyz',)),  # both too long
    Question('abc', ('12345678901', 'xy')),  # only the second is a label
  ]
  examples = qa_examples(questions, WORDPIECE, LENGTHS).rows(np.arange(3))
  return closed_book_batch(examples, WORDPIECE, LENGTHS)


def test_questions_end_in_blanks(batch):
  assert batch.joint.token_ids[:, 0].tolist() == [
    [CLS, *ids('ab'), MASK, MASK, MASK, SEP, SEP, 0, 0, 0, 0],
    [CLS, *ids('abcde'), MASK, MASK, MASK, SEP, SEP, 0],
    [CLS, *ids('abc'), MASK, MASK, MASK, SEP, SEP, 0, 0, 0],
  ]
  assert batch.query.token_ids[1].tolist() == [
    CLS,
    *ids('abcde'),
    MASK,
    MASK,
    MASK,
    SEP,
  ]


def test_blanks_are_to_be_the_answer_and_its_end(batch):
  expected = [[*ids('x'), SEP], [*ids('wx'), SEP], [*ids('xy'), SEP]]
  for row, targets in enumerate(expected):
    real = batch.mlm_mask[row].astype(bool)
    assert batch.mlm_targets[row][real].tolist() == targets
    places = batch.mlm_positions[row]
    assert (batch.joint.token_ids[row, 0][places] == MASK).all()
    assert len(set(places.tolist())) == 3


def test_the_only_candidate_is_the_null_document(batch):
  assert batch.candidate_mask.tolist() == [[1]] * 3
  assert batch.documents.token_ids.shape[:2] == (3, 0)
  assert batch.null_document.token_ids.tolist() == [[CLS, SEP, SEP]]


@pytest.mark.parametrize(
  ('pieces', 'answer'),
  [
    ([*ids('xy'), SEP, *ids('z')], 'xy'),
    ([SEP, *ids('z')], ''),
    (ids('xyz'), 'xyz'),
  ],
)
def test_an_answer_ends_at_the_first_end(pieces, answer):
  assert closed_book_answer(np.array(pieces), WORDPIECE) == answer


def test_blanks_without_room_for_a_question_are_refused():
  lengths = Lengths(query_len=10, max_masks=8)
  examples = qa_examples([Question('ab', ('x',))], WORDPIECE, lengths)
  with pytest.raises(UserError, match='max_masks is 8, expected at most 7'):
    closed_book_batch(examples.rows([0]), WORDPIECE, lengths)
