import pytest

from realm_jax.data.qa import Question
from realm_jax.eval.answering import Answer, Document
from realm_jax.eval.verdicts import (
  closed_book_prediction,
  open_book_prediction,
  text_verdicts,
)

QUESTION = Question('Who?', ('Ada',), titles=('Ada Quist', 'Quist'))


def document(block_id, title, utility=0.0):
  return Document(block_id, title, 'Ada did.', 1.0, 0.5, utility)


def answer(block_id, *documents, **more):
  return Answer('Ada', 0.25, block_id, 0, 3, documents, **more)


@pytest.mark.parametrize(
  ('pattern', 'exact_match', 'regex_search'),
  [('18', 1, 1), ('4', 0, 1), ('5$', 0, 1), ('9', 0, 0)],
)
def test_an_expression_must_fit_at_the_start_to_be_right(
  pattern, exact_match, regex_search
):
  question = Question('When?', (pattern,), is_regex=True)
  assert text_verdicts('1845', question) == {
    'exact_match': exact_match,
    'regex_search': regex_search,
  }


def test_without_documents_there_are_question_and_prediction():
  assert closed_book_prediction(QUESTION, 'the ada!') == {
    'question': 'Who?',
    'answers': ['Ada'],
    'prediction': 'the ada!',
    'exact_match': 1.0,
    'f1': 1.0,
  }


def test_of_what_only_retrieves_nothing_is_said_of_answers():
  assert open_book_prediction(QUESTION, None, [False, True]) == {
    'question': 'Who?',
    'answers': ['Ada'],
    'hits': [False, True],
  }


@pytest.mark.parametrize(
  ('block_id', 'rank', 'named'), [(7, 1, False), (4, 2, True)]
)
def test_an_answer_is_read_in_the_first_document_of_its_block(
  block_id, rank, named
):
  read = answer(
    block_id, document(7, 'Rook'), document(4, 'Quist'), document(4, 'Quist')
  )
  written = open_book_prediction(QUESTION, read, [])
  assert written['answer_rank'] == rank
  assert written['from_named_article'] == named
  unnamed = open_book_prediction(QUESTION._replace(titles=()), read, [])
  assert unnamed['answer_rank'] == rank
  assert 'from_named_article' not in unnamed


def test_where_nothing_was_found_there_is_no_source_and_no_utility():
  written = open_book_prediction(QUESTION, answer(-1), [])
  assert not written.keys() & {
    'answer_rank',
    'from_named_article',
    'retrieval_utility',
  }


def test_spans_are_judged_where_there_are_strings_to_look_for():
  read = answer(7, document(7, 'Rook', -2.0), is_right_span=True)
  written = open_book_prediction(QUESTION, read, [])
  assert (written['span_exact_match'], written['reader_oracle']) == (1, 0)
  assert written['retrieval_utility'] == -2
  expression = Question('Who?', ('[A-D]da',), is_regex=True)
  written = open_book_prediction(expression, read, [])
  assert 'span_exact_match' not in written
  expanded = expression._replace(matches=('Ada',))
  assert open_book_prediction(expanded, read, [])['span_exact_match'] == 1
