import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.eval import intervals


def test_interval_of_a_share_is_near_the_normal_one():
  values = np.arange(400) < 100  # a quarter is right
  interval = intervals.bootstrap_interval(values)
  error = np.sqrt(0.25 * 0.75 / 400)
  assert interval.mean == 0.25
  assert interval.num_values == 400
  assert interval.standard_error == pytest.approx(error, rel=0.03)
  assert interval.low == pytest.approx(0.25 - 1.96 * error, abs=0.006)
  assert interval.high == pytest.approx(0.25 + 1.96 * error, abs=0.006)


def test_interval_covers_the_truth_about_as_often_as_it_says():
  rng = np.random.default_rng(7)
  covered = 0
  for seed in range(200):
    drawn = rng.random(80) < 0.3
    interval = intervals.bootstrap_interval(
      drawn, confidence=0.8, num_resamples=300, seed=seed
    )
    covered += interval.low <= 0.3 <= interval.high
  assert 0.7 < covered / 200 < 0.9


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=7), st.integers(0, 9))
def test_interval_holds_the_mean_and_stays_in_range(values, seed):
  interval = intervals.bootstrap_interval(values, num_resamples=200, seed=seed)
  assert min(values) <= interval.low <= interval.high <= max(values)
  again = intervals.bootstrap_interval(values, num_resamples=200, seed=seed)
  np.testing.assert_equal(tuple(interval), tuple(again))


def test_resampling_by_chunks_draws_every_resample(monkeypatch):
  values = np.random.default_rng(0).normal(size=11)
  whole = intervals.bootstrap_interval(values, num_resamples=50)
  monkeypatch.setattr(intervals, '_CHUNK', 35)  # three rows at a time
  assert intervals.bootstrap_interval(values, num_resamples=50) == whole


def test_paired_difference_is_sharper_than_two_intervals():
  rng = np.random.default_rng(0)
  difficulty = rng.random(300)
  weak, strong = difficulty < 0.5, difficulty < 0.56
  difference = intervals.paired_difference(strong, weak)
  assert difference.mean == pytest.approx(strong.mean() - weak.mean())
  assert difference.low > 0
  apart = intervals.bootstrap_interval(strong).low
  assert apart < intervals.bootstrap_interval(weak).high
  reverse = intervals.paired_difference(weak, strong)
  assert reverse.high < 0


def test_pairs_must_match():
  with pytest.raises(ValueError, match=r'values has 2 .* baseline has 3'):
    intervals.paired_difference([1, 2], [1, 2, 3])


def test_seed_interval_is_students():
  interval = intervals.seed_interval([0.5, 0.6, 0.7])
  error = 0.1 / np.sqrt(3)
  assert interval.mean == pytest.approx(0.6)
  assert interval.standard_error == pytest.approx(error)
  # The 97.5 % quantile of t with 2 degrees of freedom.
  assert interval.high - 0.6 == pytest.approx(4.302653 * error, rel=1e-5)
  assert 0.6 - interval.low == pytest.approx(4.302653 * error, rel=1e-5)


def test_one_seed_tells_no_interval():
  interval = intervals.seed_interval([0.5])
  assert interval.mean == 0.5
  assert np.isnan([interval.low, interval.high, interval.standard_error]).all()


@pytest.mark.parametrize(
  'values, message',
  [
    ([], 'shape'),
    ([[1, 2]], 'shape'),
    ([1, np.nan, np.inf], '2 values that are not finite'),
  ],
)
def test_bad_values_are_named(values, message):
  with pytest.raises(ValueError, match=message):
    intervals.bootstrap_interval(values)
  with pytest.raises(ValueError, match=message):
    intervals.seed_interval(values)


@pytest.mark.parametrize('confidence', [0, 1, 95])
def test_confidence_is_a_share(confidence):
  with pytest.raises(ValueError, match=f'confidence is {confidence}'):
    intervals.bootstrap_interval([1, 2], confidence=confidence)
  with pytest.raises(ValueError, match=f'confidence is {confidence}'):
    intervals.seed_interval([1, 2], confidence=confidence)


def test_crossed_interval_has_the_variance_of_seeds_and_of_questions():
  """Where both are drawn: s^2 / seeds + q^2 / questions, of normal effects."""
  rng = np.random.default_rng(3)
  num_seeds, num_questions = 40, 300
  effects = 0.05 * rng.normal(size=(num_seeds, 1))
  values = effects + 0.5 * rng.normal(size=num_questions)
  interval = intervals.crossed_interval(values, num_resamples=4000)
  expected = np.sqrt(
    effects.var(ddof=1) / num_seeds + values.mean(axis=0).var() / num_questions
  )
  assert interval.mean == pytest.approx(values.mean())
  assert interval.standard_error == pytest.approx(expected, rel=0.05)
  assert interval.num_values == num_seeds
  assert interval.low == pytest.approx(
    interval.mean - 1.96 * expected, abs=0.01
  )


def test_few_seeds_vary_as_much_as_they_do():
  """Of three seeds alone: the unbiased standard error."""
  values = np.repeat([[0.1], [0.4], [0.7]], 11, axis=1)
  interval = intervals.crossed_interval(values)
  expected = np.std([0.1, 0.4, 0.7], ddof=1) / np.sqrt(3)
  assert interval.standard_error == pytest.approx(expected, rel=0.02)
  assert 0.1 <= interval.low < interval.mean < interval.high <= 0.7


def test_of_one_seed_the_interval_is_that_of_its_questions():
  values = np.arange(200) < 50
  crossed = intervals.crossed_interval(values[None])
  alone = intervals.bootstrap_interval(values)
  assert crossed.standard_error == pytest.approx(alone.standard_error, rel=0.05)
  assert crossed.low == pytest.approx(alone.low, abs=0.006)


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ([1.0, 2.0], r'expected \[num_seeds, num_questions\]'),
    ([[1.0, np.nan]], 'not finite'),
    (np.empty((2, 0)), 'expected one value'),
  ],
)
def test_what_is_no_table_of_seeds_and_questions_is_refused(values, message):
  with pytest.raises(ValueError, match=message):
    intervals.crossed_interval(values)
