"""Two systems on the same questions: what differs, and whether by chance."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from realm_jax.errors import UserError
from realm_jax.eval.intervals import Interval, paired_difference

_NUM_PERMUTATIONS = 10_000


class Comparison(NamedTuple):
  """One metric of two systems, A and B, over the questions that have it.

  Attributes:
    a: mean of A.
    b: mean of B.
    difference: of A over B, with a paired bootstrap interval.
    p_value: of both being equally good, two-sided: McNemar's exact test where
      a question is right or wrong, else a paired permutation test. Not
      corrected for the number of metrics.
    num_a_better: questions that A does better on.
    num_b_better: questions that B does better on.
  """

  a: float
  b: float
  difference: Interval
  p_value: float
  num_a_better: int
  num_b_better: int


def compare_values(a: np.ndarray, b: np.ndarray) -> Comparison:
  """Compares two systems.

  Args:
    a: [num_questions] float; the metric of each question under A.
    b: [num_questions] float; under B, questions in the same order.
  """
  num_a, num_b = int((a > b).sum()), int((a < b).sum())
  verdicts = np.isin(np.concatenate([a, b]), (0.0, 1.0)).all()
  return Comparison(
    float(a.mean()),
    float(b.mean()),
    paired_difference(a, b),
    mcnemar(num_a, num_b) if verdicts else permutation_test(a - b),
    num_a,
    num_b,
  )


def mcnemar(num_a: int, num_b: int) -> float:
  """Exact two-sided p-value of McNemar's test (McNemar, 1947).

  Of the questions on which two systems differ each has half, if neither is
  better: a binomial test.

  Args:
    num_a: questions that A alone gets right.
    num_b: questions that B alone gets right.
  """
  from scipy.stats import binomtest  # SciPy comes with JAX

  if num_a + num_b == 0:
    return 1.0
  return float(binomtest(num_a, num_a + num_b).pvalue)


def permutation_test(differences: np.ndarray, seed: int = 0) -> float:
  """Two-sided p-value of a mean difference, by flipping signs at random.

  scipy.stats.permutation_test gives the same, and takes 45 times as long.

  Args:
    differences: [num_questions] float; A less B.
    seed: the same seed, the same p-value.

  Returns:
    (1 + as large a mean or larger) / (1 + 10,000 flips): never 0.
  """
  observed = abs(differences.sum())
  rng = np.random.default_rng(seed)
  num_larger = 0
  for _ in range(_NUM_PERMUTATIONS // 100):
    signs = rng.choice((-1.0, 1.0), size=(100, len(differences)))
    sums = np.abs(signs @ differences)
    # What is equal but for rounding counts.
    num_larger += int((sums >= observed * (1 - 1e-9)).sum())
  return (1 + num_larger) / (1 + _NUM_PERMUTATIONS)


def check_same_questions(
  a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]
) -> None:
  """Raises UserError unless two files predict the same questions, in order."""
  pairs: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = list(
    itertools.zip_longest(a, b, fillvalue={})
  )
  keys = ('question', 'answers')
  different = [
    number
    for number, (one, other) in enumerate(pairs)
    if any(one.get(key) != other.get(key) for key in keys)
  ]
  if not different:
    return
  first = different[0]
  one, other = pairs[first]
  key = next(key for key in keys if one.get(key) != other.get(key))
  raise UserError(
    f'A has {len(a)} questions and B has {len(b)}, of which {len(different)} '
    f'are not the same. The first is number {first + 1}, whose "{key}" is '
    f'{one.get(key)!r} in A and {other.get(key)!r} in B. Evaluate both on one '
    'file of questions.'
  )
