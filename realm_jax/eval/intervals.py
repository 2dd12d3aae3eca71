"""How sure a figure is: intervals over questions, over seeds, of differences.

Two sources of chance: bootstrap_interval resamples the questions of one run;
seed_interval tells how much runs that differ in their seed differ;
crossed_interval takes in both. paired_difference compares two systems on the
same questions, which is much sharper than two separate intervals.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

# Indices drawn at a time: 8 MB of them.
_CHUNK = 1_000_000


class Interval(NamedTuple):
  """A mean and how sure it is, in the unit of the values.

  Attributes:
    mean: of the values.
    low: lower end of the interval; NaN where it cannot be told.
    high: upper end of the interval; NaN where it cannot be told.
    standard_error: of the mean; NaN of one value.
    num_values: how many questions, pairs or seeds it is of.
  """

  mean: float
  low: float
  high: float
  standard_error: float
  num_values: int


def bootstrap_interval(
  values: ArrayLike,
  confidence: float = 0.95,
  num_resamples: int = 10_000,
  seed: int = 0,
) -> Interval:
  """Percentile bootstrap of a mean over questions (Efron, 1979).

  Args:
    values: [num_values] bool or float: a value a question, such as whether it
      was answered right.
    confidence: how much of the resampled means the interval covers, between 0
      and 1.
    num_resamples: how often the questions are drawn again, with replacement.
    seed: the same seed, the same interval.

  Returns:
    Interval; its standard error is that of the resampled means.

  Raises:
    ValueError: no value, one that is not finite, or confidence out of range.
  """
  values = _checked(values, 'values')
  _check_confidence(confidence)
  num_values = len(values)
  rng = np.random.default_rng(seed)
  means = np.empty(num_resamples)
  rows = max(1, _CHUNK // num_values)
  for start in range(0, num_resamples, rows):
    stop = min(start + rows, num_resamples)
    # [stop - start, num_values]
    drawn = rng.integers(num_values, size=(stop - start, num_values))
    means[start:stop] = values[drawn].mean(axis=1)
  tail = (1 - confidence) / 2
  low, high = np.quantile(means, [tail, 1 - tail])
  error = means.std() if num_values > 1 else np.nan
  return Interval(
    float(values.mean()), float(low), float(high), float(error), num_values
  )


def paired_difference(
  values: ArrayLike,
  baseline: ArrayLike,
  confidence: float = 0.95,
  num_resamples: int = 10_000,
  seed: int = 0,
) -> Interval:
  """By how much one system beats another on the same questions.

  Args:
    values: [num_values]; the value of each question under the one system.
    baseline: [num_values]; under the other, questions in the same order.
    confidence: as in bootstrap_interval.
    num_resamples: as in bootstrap_interval.
    seed: as in bootstrap_interval.

  Returns:
    Interval of the mean of values - baseline: above 0 as a whole, the first
    system is better beyond what the choice of questions explains.

  Raises:
    ValueError: as bootstrap_interval, or the two differ in length.
  """
  values = _checked(values, 'values')
  baseline = _checked(baseline, 'baseline')
  if len(values) != len(baseline):
    raise ValueError(
      f'values has {len(values)} questions, baseline has {len(baseline)}: '
      'expected a value of each for every question, in the same order.'
    )
  return bootstrap_interval(values - baseline, confidence, num_resamples, seed)


def seed_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
  """Student's t interval of the mean over runs that differ in their seed.

  Args:
    values: [num_values]; the figure of each run.
    confidence: between 0 and 1.

  Returns:
    Interval; its ends and its standard error are NaN of a single run.

  Raises:
    ValueError: no value, one that is not finite, or confidence out of range.
  """
  values = _checked(values, 'values')
  _check_confidence(confidence)
  num_values = len(values)
  mean = float(values.mean())
  if num_values == 1:
    return Interval(mean, np.nan, np.nan, np.nan, 1)
  from scipy.special import stdtrit  # JAX needs SciPy, so it is there

  error = float(values.std(ddof=1) / np.sqrt(num_values))
  reach = float(stdtrit(num_values - 1, (1 + confidence) / 2)) * error
  return Interval(mean, mean - reach, mean + reach, error, num_values)


def crossed_interval(
  values: ArrayLike,
  confidence: float = 0.95,
  num_resamples: int = 10_000,
  seed: int = 0,
) -> Interval:
  """Percentile bootstrap of a mean over seeds and over questions.

  Both are drawn again, independently of each other (the pigeonhole bootstrap:
  Owen, 2007), for a question that is hard is hard in every run. Resampling n
  seeds gives (n - 1) / n of their variance, which of a few is far too little:
  what seeds differ by from their mean is drawn sqrt(n / (n - 1)) times as
  large.

  Args:
    values: [num_seeds, num_questions] bool or float. Of a difference, that of
      each seed and question.
    confidence: between 0 and 1.
    num_resamples: how often seeds and questions are drawn.
    seed: the same seed, the same interval.

  Returns:
    Interval; of a single seed it says nothing of what other seeds would give.
    Its standard error is that of the resampled means, num_values that of the
    seeds.

  Raises:
    ValueError: no value, one that is not finite, or confidence out of range.
  """
  values = np.asarray(values, np.float64)
  if values.ndim != 2:
    raise ValueError(
      f'values has shape {values.shape}, expected [num_seeds, num_questions].'
    )
  _checked(values.ravel(), 'values')
  _check_confidence(confidence)
  num_seeds, num_questions = values.shape
  rng = np.random.default_rng(seed)
  widening = np.sqrt(num_seeds / (num_seeds - 1)) if num_seeds > 1 else 1.0
  means = np.empty(num_resamples)
  rows = max(1, _CHUNK // num_questions)
  for start in range(0, num_resamples, rows):
    num_rows = min(rows, num_resamples - start)
    # [num_rows, num_questions] and [num_rows, num_seeds]: shares of each
    questions = _drawn_shares(rng, num_rows, num_questions)
    shares = _drawn_shares(rng, num_rows, num_seeds)
    shares = 1 / num_seeds + widening * (shares - 1 / num_seeds)
    by_seed = questions @ values.T
    means[start : start + num_rows] = (by_seed * shares).sum(axis=1)
  tail = (1 - confidence) / 2
  # What was widened may leave the range in which a mean can lie.
  within = np.clip(means, values.min(), values.max())
  low, high = np.quantile(within, [tail, 1 - tail])
  return Interval(
    float(values.mean()),
    float(low),
    float(high),
    float(means.std()),
    num_seeds,
  )


def _drawn_shares(
  rng: np.random.Generator, num_rows: int, size: int
) -> np.ndarray:
  """[num_rows, size]; how often each was drawn of size draws, as a share."""
  return rng.multinomial(size, np.full(size, 1 / size), size=num_rows) / size


def _checked(values: ArrayLike, name: str) -> np.ndarray:
  array = np.asarray(values)
  if array.ndim != 1 or array.size == 0:
    raise ValueError(
      f'{name} has shape {array.shape}, expected one value a question or run.'
    )
  array = array.astype(np.float64)
  if not np.isfinite(array).all():
    raise ValueError(
      f'{name} has {np.sum(~np.isfinite(array))} values that are not finite: '
      'a mean over the others would be of other questions. Mend or leave out '
      'those questions in every system compared.'
    )
  return array


def _check_confidence(confidence: float) -> None:
  if not 0 < confidence < 1:
    raise ValueError(
      f'confidence is {confidence}, expected between 0 and 1, such as 0.95.'
    )
