"""Whether answers are as often right as their probabilities say."""

import numpy as np

from realm_jax.eval.intervals import Interval

_NUM_RESAMPLES = 1000


def expected_calibration_error(
  probabilities: np.ndarray, is_right: np.ndarray, num_bins: int = 10
) -> float:
  """Guo et al. (2017), equation 3, over bins of equal width.

    ECE = sum_b n_b / n * |share right in b - mean probability in b|

  Args:
    probabilities: [num_answers] float, from 0 to 1.
    is_right: [num_answers] bool or 0 and 1.
    num_bins: bin i holds probabilities from i / num_bins up to the next; the
      last one 1 too.

  Returns:
    Between 0 and 1.

  Raises:
    ValueError: there is no answer, the two differ in length, or a probability
      is not between 0 and 1.
  """
  probabilities = np.asarray(probabilities, np.float64)
  is_right = np.asarray(is_right, np.float64)
  if not len(probabilities) or probabilities.shape != is_right.shape:
    raise ValueError(
      f'probabilities has shape {probabilities.shape}, is_right has '
      f'{is_right.shape}: expected one of each for every answer.'
    )
  # Sums of float32 may end just above 1.
  if not ((probabilities >= 0) & (probabilities <= 1 + 1e-4)).all():
    raise ValueError('probabilities are not all between 0 and 1.')
  bins = np.minimum((probabilities * num_bins).astype(int), num_bins - 1)
  gaps = np.bincount(bins, probabilities - is_right, num_bins)
  return float(np.abs(gaps).sum() / len(probabilities))


def calibration_error(
  probabilities: np.ndarray, is_right: np.ndarray, seed: int = 0
) -> Interval:
  """The expected calibration error with a 95 % bootstrap interval.

  The error of resampled answers is larger than that of all: the interval is
  shifted by as much (basic bootstrap), and does not go below 0.

  Args:
    probabilities: as expected_calibration_error has it.
    is_right: as expected_calibration_error has it.
    seed: of the resampling.
  """
  probabilities, is_right = np.asarray(probabilities), np.asarray(is_right)
  error = expected_calibration_error(probabilities, is_right)
  rng = np.random.default_rng(seed)
  num_answers = len(probabilities)
  draws = (
    rng.integers(num_answers, size=num_answers) for _ in range(_NUM_RESAMPLES)
  )
  errors = np.array(
    [
      expected_calibration_error(probabilities[rows], is_right[rows])
      for rows in draws
    ]
  )
  high, low = 2 * error - np.quantile(errors, [0.025, 0.975])
  return Interval(
    error,
    max(float(low), 0.0),
    max(float(high), error),
    float(errors.std()) if num_answers > 1 else float('nan'),
    num_answers,
  )
