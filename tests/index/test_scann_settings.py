"""Settings by the size of the corpus: the rows of a table of measurements.

Where a pinned number moves, measure again: experiments/index/approximate.py.
"""

import pytest

from realm_jax.errors import UserError
from realm_jax.index.scann_settings import (
  MAX_EXACT_BLOCKS,
  ScannConfig,
  settings_for,
)

WIKIPEDIA = 13_353_718


@pytest.mark.parametrize(
  'num_blocks, k, soar, num_leaves, leaves_to_search, reorder',
  [
    (20_000, 8, False, 283, 20, 200),
    (100_000, 8, False, 632, 20, 200),
    (100_000, 100, False, 632, 40, 400),
    (1_000_000, 8, False, 2000, 40, 200),
    (1_000_000, 100, False, 2000, 80, 400),
    (1_000_000, 8, True, 2000, 20, 200),
    (1_000_000, 100, True, 2000, 40, 400),
    (WIKIPEDIA, 8, False, 3654, 74, 200),
  ],
)
def test_settings_are_those_that_were_measured(
  num_blocks, k, soar, num_leaves, leaves_to_search, reorder
):
  settings = settings_for(num_blocks, k, ScannConfig(soar=soar))
  assert settings.num_leaves == num_leaves
  assert settings.leaves_to_search == leaves_to_search
  assert settings.reorder == reorder
  assert settings.soar == soar
  assert settings.training_sample_size == min(num_blocks, 250_000)


def test_few_blocks_are_all_scored():
  settings = settings_for(MAX_EXACT_BLOCKS - 1, 8, ScannConfig(soar=True))
  assert settings.num_leaves == settings.leaves_to_search == 0
  assert not settings.soar


def test_what_is_given_is_kept():
  config = ScannConfig(
    num_leaves=50, leaves_to_search=7, reorder=30, training_sample_size=900
  )
  assert settings_for(3000, 8, config) == (50, 7, 30, False, 900)
  # but no fewer are scored again than are asked for
  assert settings_for(3000, 40, config).reorder == 40


@pytest.mark.parametrize('num_blocks', [20_000, 70_000, 999_999, WIKIPEDIA])
def test_what_is_built_does_not_depend_on_k(num_blocks):
  few, many = (settings_for(num_blocks, k, ScannConfig()) for k in (1, 5000))
  assert few.num_leaves == many.num_leaves
  assert few.training_sample_size == many.training_sample_size
  assert few.leaves_to_search < many.leaves_to_search <= many.num_leaves


def test_leaves_never_become_fewer_as_the_corpus_grows():
  sizes = [20_000 * 2**power for power in range(12)]
  leaves = [settings_for(size, 8, ScannConfig()).num_leaves for size in sizes]
  assert leaves == sorted(leaves)


@pytest.mark.parametrize(
  'fields, match',
  [
    ({'reorder': -1}, 'reorder is -1, expected at least 0'),
    ({'niceness': 20}, 'niceness is 20, expected at most 19'),
    (
      {'num_leaves': 3, 'leaves_to_search': 4},
      'leaves_to_search is 4, expected at most num_leaves, which is 3',
    ),
  ],
)
def test_impossible_settings_are_refused(fields, match):
  with pytest.raises(UserError, match=match):
    ScannConfig(**fields)


def test_more_leaves_than_blocks_are_refused():
  with pytest.raises(UserError, match='num_leaves is 12, but there are 11'):
    settings_for(11, 8, ScannConfig(num_leaves=12))
