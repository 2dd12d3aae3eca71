import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.errors import UserError
from realm_jax.eval.comparison import (
  check_same_questions,
  compare_values,
  mcnemar,
  permutation_test,
)


@given(st.integers(0, 12), st.integers(0, 12))
def test_mcnemar_counts_splits_as_uneven(num_a, num_b):
  total = num_a + num_b
  as_uneven = sum(
    math.comb(total, k)
    for k in range(total + 1)
    if abs(2 * k - total) >= abs(num_a - num_b)
  )
  assert mcnemar(num_a, num_b) == pytest.approx(as_uneven / 2**total)


def test_permutation_test_is_near_that_of_all_signs():
  differences = np.array([0.5, 0.3, -0.1, 0.7, 0.2, -0.4, 0.6])
  sums = [
    abs(np.dot(signs, differences))
    for signs in itertools.product((1, -1), repeat=len(differences))
  ]
  exact = np.mean([s >= abs(differences.sum()) - 1e-12 for s in sums])
  assert permutation_test(differences) == pytest.approx(exact, abs=0.015)


def test_equal_systems_do_not_differ():
  found = compare_values(np.array([1.0, 0.0, 1.0]), np.array([1.0, 0.0, 1.0]))
  assert found.p_value == 1
  assert found.difference[:3] == (0, 0, 0)
  assert (found.num_a_better, found.num_b_better) == (0, 0)


def test_verdicts_are_compared_by_mcnemar_and_others_by_permutation():
  a = np.array([1.0] * 9 + [0.0])
  b = np.array([0.0] * 9 + [1.0])
  found = compare_values(a, b)
  assert found.p_value == mcnemar(9, 1)
  assert (found.num_a_better, found.num_b_better) == (9, 1)
  assert found.difference.mean == pytest.approx(0.8)
  assert compare_values(a / 2, b / 2).p_value == permutation_test((a - b) / 2)


def test_other_questions_or_answers_are_refused():
  one = [{'question': 'Who?', 'answers': ['a']}]
  check_same_questions(one, one)
  with pytest.raises(UserError, match=r'A has 1 .* B has 3, of which 2 .* 2, '):
    check_same_questions(one, one * 3)
  with pytest.raises(UserError, match=r'1, whose "question" is .Who.. in A'):
    check_same_questions(one, [{'question': 'Why?', 'answers': ['a']}])
  with pytest.raises(UserError, match=r'1, whose "answers" is \[.a.\] in A'):
    check_same_questions(one, [{'question': 'Who?', 'answers': ['b']}])
