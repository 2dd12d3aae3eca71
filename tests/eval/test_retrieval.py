import numpy as np
import pytest

from realm_jax.eval import retrieval

HAS_ANSWER = np.array(
  [
    [True, False, False, True, False],
    [False, False, True, True, False],
    [False, False, False, False, False],
  ]
)


def test_recall_counts_questions_not_documents():
  assert retrieval.recall_at_k(HAS_ANSWER, ks=(1, 2, 3, 5)) == {
    1: 1 / 3,
    2: 1 / 3,
    3: 2 / 3,
    5: 2 / 3,
  }


def test_hits_tell_which_questions():
  np.testing.assert_array_equal(
    retrieval.hits_at_k(HAS_ANSWER, 3), [True, True, False]
  )


def test_reciprocal_ranks_are_of_the_first_answer():
  np.testing.assert_allclose(
    retrieval.reciprocal_ranks(HAS_ANSWER), [1, 1 / 3, 0]
  )
  assert retrieval.mean_reciprocal_rank(HAS_ANSWER) == pytest.approx(4 / 9)


def test_nothing_retrieved_ranks_nowhere():
  nothing = np.zeros((2, 0), bool)
  np.testing.assert_array_equal(retrieval.reciprocal_ranks(nothing), [0, 0])


@pytest.mark.parametrize('k', [0, 6])
def test_k_beyond_what_was_retrieved_is_refused(k):
  with pytest.raises(ValueError, match=rf'k is {k}, but 5 documents'):
    retrieval.recall_at_k(HAS_ANSWER, ks=(1, k))


def test_scores_in_place_of_truth_values_are_refused():
  with pytest.raises(ValueError, match='float64, expected'):
    retrieval.recall_at_k(HAS_ANSWER.astype(float), ks=(1,))


def test_no_question_is_refused():
  with pytest.raises(ValueError, match='no question'):
    retrieval.recall_at_k(HAS_ANSWER[:0], ks=(1,))
  with pytest.raises(ValueError, match='no question'):
    retrieval.mean_reciprocal_rank(HAS_ANSWER[:0])
