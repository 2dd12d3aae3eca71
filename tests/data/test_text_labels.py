import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.data.corpus import Corpus
from realm_jax.data.text_labels import find_text_labels, kept_text_labels
from realm_jax.types import NULL_BLOCK_ID


@pytest.fixture(scope='module')
def corpus(tiny_corpus):
  return Corpus.open(tiny_corpus)


def by_a_plain_loop(corpus, answers):
  """[num_questions, num_blocks] bool."""
  texts = [corpus.text(i) for i in range(corpus.num_blocks)]
  return np.array(
    [[any(a and a in t for a in own) for t in texts] for own in answers]
  )


@given(st.data())
def test_labels_are_those_of_a_plain_loop(corpus, data):
  # Pieces of texts, so that they overlap, nest and repeat; and some that are
  # nowhere, or differ in case.
  def piece():
    text = corpus.text(data.draw(st.integers(0, corpus.num_blocks - 1)))
    start = data.draw(st.integers(0, len(text) - 1))
    return text[start : start + data.draw(st.integers(0, 9))]

  answers = [
    [piece() for _ in range(data.draw(st.integers(0, 3)))] + ['Nowhere', '']
    for _ in range(3)
  ]
  answers[2] = [text.swapcase() for text in answers[2]]
  labels = find_text_labels(corpus, answers)
  expected = by_a_plain_loop(corpus, answers)
  block_ids = np.arange(corpus.num_blocks)
  for question in range(3):
    np.testing.assert_array_equal(
      labels.blocks(question), block_ids[expected[question]]
    )
  found = labels.has_answer(np.arange(3), np.tile(block_ids[::-1], (3, 1)))
  np.testing.assert_array_equal(found, expected[:, ::-1])


def test_letters_inside_a_word_count_and_so_does_case(corpus):
  name = corpus.text(0).split()[0]
  labels = find_text_labels(corpus, [[name[1:]], [name.upper()]])
  assert labels.has_answer(
    np.array([0, 1]), np.zeros((2, 1), int)
  ).tolist() == [
    [True],
    [False],
  ]


def test_the_null_document_holds_nothing(corpus):
  labels = find_text_labels(corpus, [['a']])
  none = np.full((1, 2), NULL_BLOCK_ID)
  assert not labels.has_answer(np.array([0]), none).any()


def test_labels_are_kept_for_the_same_answers_only(corpus, tmp_path):
  path = tmp_path / 'labels.npz'
  name = corpus.text(0).split()[0]
  read = []
  for answers in ([[name]], [[name]], [['nowhere']]):
    labels = kept_text_labels(path, corpus, answers, read.append)
    assert (len(labels.blocks(0)) > 0) == (answers == [[name]])
  # Once for each kind of answers.
  assert read.count(corpus.num_blocks) == 2


def test_a_file_that_was_cut_off_is_made_again(corpus, tmp_path):
  path = tmp_path / 'labels.npz'
  name = corpus.text(0).split()[0]
  whole = kept_text_labels(path, corpus, [[name]]).blocks(0)
  path.write_bytes(path.read_bytes()[:100])
  again = kept_text_labels(path, corpus, [[name]])
  np.testing.assert_array_equal(again.blocks(0), whole)
