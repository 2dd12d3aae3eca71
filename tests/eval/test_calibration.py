import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.eval.calibration import (
  calibration_error,
  expected_calibration_error,
)

ANSWERS = st.lists(
  st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40
)


def by_loops(answers, num_bins):
  total = 0.0
  for b in range(num_bins):
    own = [
      (p, right)
      for p, right in answers
      if int(p * num_bins) == b or (b == num_bins - 1 and p == 1)
    ]
    if own:
      share = sum(right for _, right in own) / len(own)
      mean = sum(p for p, _ in own) / len(own)
      total += len(own) / len(answers) * abs(share - mean)
  return total


@given(ANSWERS, st.integers(1, 12))
def test_error_is_that_of_loops_over_bins(answers, num_bins):
  probabilities, is_right = zip(*answers, strict=True)
  assert expected_calibration_error(
    np.array(probabilities), np.array(is_right), num_bins
  ) == pytest.approx(by_loops(answers, num_bins), abs=1e-12)


def test_half_sure_and_right_half_the_time_is_calibrated():
  assert expected_calibration_error([0.5, 0.5], [True, False]) == 0


def test_sure_and_wrong_is_not():
  assert expected_calibration_error([1.0, 1.0], [False, False]) == 1


def test_interval_holds_the_error():
  rng = np.random.default_rng(0)
  probabilities = rng.random(4000)
  is_right = rng.random(4000) < 0.5 * probabilities  # twice too sure
  error = calibration_error(probabilities, is_right)
  assert error.low < error.mean <= error.high
  # E |p - p / 2|, over which the bins' own noise adds little.
  assert error.mean == pytest.approx(0.25, abs=0.02)
  assert error.low > 0


@pytest.mark.parametrize('probabilities', [[], [0.5, 0.5], [1.5]])
def test_what_is_no_probability_or_of_other_answers_is_refused(probabilities):
  with pytest.raises(ValueError):
    expected_calibration_error(probabilities, [True])
