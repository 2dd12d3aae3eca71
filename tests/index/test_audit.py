import numpy as np
import pytest
from test_exact import oracle

from realm_jax.index.audit import Audit, exact_scores, recall_at_k
from realm_jax.index.exact_index import ExactIndex
from realm_jax.index.table import take_rows
from realm_jax.types import SearchResult

RNG = np.random.default_rng(0)
BLOCKS = RNG.normal(size=(50, 6)).astype(np.float32)
QUERIES = RNG.normal(size=(5, 6)).astype(np.float32)


@pytest.fixture
def index():
  index = ExactIndex(BLOCKS, allow_fewer=True)
  index.remove(np.array([4, 20]))
  return index


def test_the_best_scores_are_those_of_a_full_scan(index, monkeypatch):
  monkeypatch.setattr('realm_jax.index.audit._CHUNK_SIZE', 7)
  live = ~np.isin(np.arange(50), [4, 20])
  expected, _ = oracle(QUERIES, BLOCKS, 6, live)
  found = -np.sort(-exact_scores(index, QUERIES, 6))
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_recall_is_the_share_of_the_best_that_was_found(index):
  found = index.search(QUERIES, 4)
  assert recall_at_k(index, QUERIES, found) == 1
  block_ids = np.array(found.block_ids)
  block_ids[0, 3] = -1
  worst = np.argmin(QUERIES[1] @ BLOCKS.T)
  block_ids[1, :2] = worst
  assert recall_at_k(
    index, QUERIES, SearchResult(found.scores, block_ids)
  ) == pytest.approx(17 / 20)


def test_any_of_equal_blocks_will_do():
  index = ExactIndex(np.ones((9, 6), np.float32))
  found = SearchResult(np.ones((5, 2)), np.tile([7, 3], (5, 1)))
  assert recall_at_k(index, np.ones((5, 6), np.float32), found) == 1


def test_more_than_there_are_cannot_be_missed(index):
  found = index.search(QUERIES, 49)
  assert recall_at_k(index, QUERIES, found) == 1


def test_a_measurement_after_a_change_compiles_nothing(index):
  recall_at_k(index, QUERIES, index.search(QUERIES, 4))
  before = take_rows._cache_size()
  index.remove(np.array([7]))
  found = index.search(QUERIES, 4)
  assert recall_at_k(index, QUERIES, found) == 1
  assert take_rows._cache_size() == before


def test_every_so_many_searches_are_measured(index):
  found = index.search(QUERIES, 4)
  audit = Audit(every=3, num_queries=2)
  measured = [audit(index, QUERIES, found) for _ in range(7)]
  assert measured == [1, None, None, 1, None, None, 1]
  assert Audit(every=0)(index, QUERIES, found) is None
