"""Exact search, against float64 numpy over small whole numbers.

Inner products of small whole numbers are exact in float32, so that ties are
ties whatever the order of summation.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from realm_jax.errors import UserError
from realm_jax.index import exact
from realm_jax.index.exact import (
  GROUP_SIZE,
  TILE_SIZE,
  ExactIndex,
  empty_index,
  padded_capacity,
  search,
)

EMBED_DIM = 3
BELOW, ABOVE = 3, exact._MIN_BATCH + 1  # batch sizes of either form


def whole_numbers(rng, num_rows, largest=2, embed_dim=EMBED_DIM):
  return rng.integers(-largest, largest + 1, (num_rows, embed_dim)).astype(
    np.float32
  )


def oracle(query_embeds, block_embeds, k):
  """Scores float64 and ids of the k best blocks, ties to the lower id."""
  scores = query_embeds.astype(np.float64) @ block_embeds.T.astype(np.float64)
  order = np.argsort(-scores, axis=1, kind='stable')[:, :k]
  scores = np.take_along_axis(scores, order, axis=1)
  missing = ((0, 0), (0, max(0, k - order.shape[1])))
  return (
    np.pad(scores, missing, constant_values=-np.inf),
    np.pad(order, missing, constant_values=-1),
  )


def table(block_embeds, capacity, padding=100.0):
  """The table with rows after its last block that any query would like."""
  rows = np.full((capacity, block_embeds.shape[1]), padding, np.float32)
  rows[: len(block_embeds)] = block_embeds
  return rows


def assert_found(found, expected):
  scores, block_ids = expected
  np.testing.assert_array_equal(found.block_ids, block_ids)
  np.testing.assert_array_equal(found.scores, scores)
  assert found.block_ids.dtype == jnp.int32
  assert found.scores.dtype == jnp.float32


@settings(max_examples=60)
@given(
  seed=st.integers(0, 2**32 - 1),
  num_blocks=st.sampled_from(
    [1, 2, 31, 32, 33, 500, TILE_SIZE - 1, TILE_SIZE, TILE_SIZE + 1, 2000]
  ),
  batch=st.sampled_from([1, BELOW, ABOVE]),
  k=st.sampled_from([1, 5, 16, 40]),
  largest=st.integers(0, 3),  # 0: all scores are ties
)
@example(seed=0, num_blocks=7, batch=ABOVE, k=16, largest=2)
@example(seed=0, num_blocks=2000, batch=ABOVE, k=16, largest=1)
def test_search_equals_a_float64_sort(seed, num_blocks, batch, k, largest):
  rng = np.random.default_rng(seed)
  query_embeds = whole_numbers(rng, batch, largest)
  block_embeds = whole_numbers(rng, num_blocks, largest)
  rows = table(block_embeds, 2 * TILE_SIZE)
  found = search(query_embeds, rows, jnp.int32(num_blocks), k)
  assert_found(found, oracle(query_embeds, block_embeds, k))


@pytest.mark.parametrize('batch', [BELOW, ABOVE])
def test_search_finds_the_best_of_any_numbers(batch):
  rng = np.random.default_rng(1)
  query_embeds = rng.normal(size=(batch, 24)).astype(np.float32)
  block_embeds = rng.normal(size=(1500, 24)).astype(np.float32)
  found = search(
    query_embeds, table(block_embeds, 2 * TILE_SIZE), jnp.int32(1500), 9
  )
  scores, block_ids = oracle(query_embeds, block_embeds, 9)
  np.testing.assert_array_equal(found.block_ids, block_ids)
  np.testing.assert_allclose(found.scores, scores, rtol=1e-5, atol=1e-5)


def test_both_forms_find_the_same_where_the_best_share_groups():
  # All good blocks lie in one group, whose neighbours are bad.
  block_embeds = np.full((1000, 1), -1, np.float32)
  block_embeds[GROUP_SIZE : 2 * GROUP_SIZE, 0] = np.arange(GROUP_SIZE)
  rows = table(block_embeds, TILE_SIZE, padding=1000.0)
  query_embeds = np.ones((ABOVE, 1), np.float32)
  for queries in (query_embeds[:BELOW], query_embeds):
    found = search(queries, rows, jnp.int32(1000), 7)
    assert_found(found, oracle(queries, block_embeds, 7))


def test_the_two_forms_are_chosen_by_batch_size_and_k():
  """Else the tests above would compare one form with itself."""

  def has_scan(batch, k, capacity=TILE_SIZE):
    text = search.lower(
      jnp.zeros((batch, EMBED_DIM)),
      jnp.zeros((capacity, EMBED_DIM)),
      jnp.int32(1),
      k,
    ).as_text()
    return 'stablehlo.while' in text

  assert not has_scan(BELOW, 5)
  assert has_scan(ABOVE, 5)
  assert not has_scan(ABOVE, TILE_SIZE // GROUP_SIZE // 2 + 1)


@pytest.mark.parametrize('batch', [BELOW, ABOVE])
def test_where_k_exceeds_the_blocks_the_rest_is_marked(batch):
  block_embeds = -np.ones((5, EMBED_DIM), np.float32)
  query_embeds = np.ones((batch, EMBED_DIM), np.float32)
  found = search(query_embeds, table(block_embeds, TILE_SIZE), jnp.int32(5), 8)
  np.testing.assert_array_equal(
    found.block_ids, np.tile([0, 1, 2, 3, 4, -1, -1, -1], (batch, 1))
  )
  assert np.isneginf(found.scores[:, 5:]).all()
  assert (found.scores[:, :5] == -EMBED_DIM).all()


def test_k_above_the_table_is_refused():
  with pytest.raises(ValueError, match='k is 1025, but the table has 1024'):
    search(jnp.zeros((1, 2)), jnp.zeros((TILE_SIZE, 2)), jnp.int32(4), 1025)


def test_tables_of_bfloat16_are_scored_in_float32():
  rng = np.random.default_rng(0)
  blocks = whole_numbers(rng, 50, 3, 12)
  queries = whole_numbers(rng, 2, 3, 12)
  rows = jnp.asarray(table(blocks, TILE_SIZE), jnp.bfloat16)
  found = search(queries, rows, jnp.int32(50), 4)
  assert_found(found, oracle(queries, blocks, 4))


@pytest.mark.parametrize(
  ('num_blocks', 'capacity'),
  [(1, 1024), (1024, 1024), (1025, 2048), (5000, 5120)],
)
def test_capacity_is_a_multiple_of_a_tile(num_blocks, capacity):
  assert padded_capacity(num_blocks) == capacity


class TestExactIndex:
  def make(self, seed=0, num_blocks=30):
    blocks = whole_numbers(np.random.default_rng(seed), num_blocks)
    return ExactIndex(blocks, index_step=4), blocks

  def test_search_is_over_its_blocks(self):
    index, blocks = self.make()
    queries = whole_numbers(np.random.default_rng(9), 2)
    assert index.index_step == 4
    assert_found(index.search(queries, 6), oracle(queries, blocks, 6))
    assert_found(index.search(queries, 30), oracle(queries, blocks, 30))

  @pytest.mark.parametrize('batch', [BELOW, ABOVE])
  def test_a_swap_is_seen_and_compiles_nothing(self, batch):
    index, _ = self.make()
    queries = whole_numbers(np.random.default_rng(9), batch)
    index.search(queries, 6)
    compiled = search._cache_size()
    for seed, num_blocks in ((1, 30), (2, 25), (3, TILE_SIZE)):
      blocks = whole_numbers(np.random.default_rng(seed), num_blocks)
      index.swap(blocks, index_step=seed)
      assert index.index_step == seed
      assert index.num_blocks == num_blocks
      assert_found(index.search(queries, 6), oracle(queries, blocks, 6))
    assert search._cache_size() == compiled

  def test_an_update_is_seen_and_compiles_nothing(self):
    index, blocks = self.make()
    queries = whole_numbers(np.random.default_rng(9), 2)
    rows = np.array([3, 29, 7])
    index.search(queries, 6)
    index.update(rows, blocks[rows])
    compiled = search._cache_size(), exact._write_rows._cache_size()
    replaced = blocks.copy()
    replaced[rows] = 5 * np.sign(queries[:1])
    index.update(rows, replaced[rows])
    assert_found(index.search(queries, 6), oracle(queries, replaced, 6))
    assert (search._cache_size(), exact._write_rows._cache_size()) == compiled

  def test_k_above_the_blocks_is_refused(self):
    index, _ = self.make()
    with pytest.raises(UserError, match=r'31 blocks .* the index holds 30'):
      index.search(np.zeros((1, EMBED_DIM), np.float32), 31)

  def test_an_embedding_that_is_not_finite_is_named(self):
    index, blocks = self.make()
    blocks[17, 1] = np.nan
    with pytest.raises(UserError, match='block 17 is not finite'):
      index.swap(blocks, 5)
    with pytest.raises(UserError, match='block 17 is not finite'):
      ExactIndex(blocks)
    with pytest.raises(UserError, match='block 17 is not finite'):
      index.update(np.array([16, 17]), blocks[16:18])

  @pytest.mark.parametrize('rows', [[-1, 2], [2, 30]])
  def test_rows_that_are_no_blocks_are_refused(self, rows):
    index, blocks = self.make()
    with pytest.raises(ValueError, match='expected 0 to 29'):
      index.update(np.array(rows), blocks[:2])

  def test_what_does_not_fit_is_refused(self):
    index, blocks = self.make()
    with pytest.raises(UserError, match='holds up to 1024 of width 3'):
      index.swap(np.zeros((1025, EMBED_DIM), np.float32), 1)
    with pytest.raises(UserError, match='Build a new index'):
      index.swap(blocks[:, :2], 1)

  def test_no_blocks_are_refused(self):
    with pytest.raises(UserError, match='corpus is empty'):
      ExactIndex(np.zeros((0, 4), np.float32))

  def test_an_empty_index_is_older_than_any_step(self):
    index = empty_index(30, EMBED_DIM)
    assert index.index_step == -1
    assert index.num_blocks == 30
