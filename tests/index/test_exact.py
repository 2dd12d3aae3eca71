"""Exact search, against float64 numpy over small whole numbers.

Inner products of small whole numbers are exact in float32, so that ties are
ties whatever the order of summation.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from realm_jax.index import exact
from realm_jax.index.exact import search
from realm_jax.index.search_plan import Plan, plan_search
from realm_jax.index.selection import top_k_by_groups
from realm_jax.index.table import Table, quantise

EMBED_DIM = 3
# Small groups and tiles, so that small tables have many, and all at odds.
PLANS = {
  'groups': Plan('groups', 4, 32, 2),
  'scores': Plan('scores', 4, 32, 100),
  'some scores': Plan('scores', 4, 32, 3),
  'approximate': Plan('approximate', 4, 32, 2, recall_target=0.9),
}


def whole_numbers(rng, num_rows, largest=2, embed_dim=EMBED_DIM):
  return rng.integers(-largest, largest + 1, (num_rows, embed_dim)).astype(
    np.float32
  )


def oracle(query_embeds, block_embeds, k, live=None):
  """Scores float64 and ids of the k best blocks, ties to the lower id."""
  scores = query_embeds.astype(np.float64) @ block_embeds.T.astype(np.float64)
  if live is not None:
    scores[:, ~live] = -np.inf
  order = np.argsort(-scores, axis=1, kind='stable')[:, :k]
  scores = np.take_along_axis(scores, order, axis=1)
  return scores, np.where(np.isneginf(scores), -1, order)


def assert_found(found, expected):
  scores, block_ids = expected
  np.testing.assert_array_equal(found.block_ids, block_ids)
  np.testing.assert_array_equal(found.scores, scores)
  assert found.block_ids.dtype == jnp.int32
  assert found.scores.dtype == jnp.float32


@pytest.mark.parametrize('name', PLANS)
@settings(max_examples=25)
@given(
  seed=st.integers(0, 2**32 - 1),
  capacity=st.sampled_from([1, 33, 500]),
  k=st.sampled_from([1, 7]),
  largest=st.integers(0, 3),  # 0: all scores are ties
  share_live=st.sampled_from([0.0, 0.02, 0.9, None]),
)
@example(seed=0, capacity=500, k=16, largest=2, share_live=0.02)
@example(seed=0, capacity=512, k=5, largest=1, share_live=None)
def test_every_form_equals_a_float64_sort(
  name, seed, capacity, k, largest, share_live
):
  rng = np.random.default_rng(seed)
  query_embeds = whole_numbers(rng, 7, largest)
  block_embeds = whole_numbers(rng, capacity, largest)
  live = None if share_live is None else rng.random(capacity) < share_live
  k = min(k, capacity)
  plan = PLANS[name]
  if plan.form == 'groups':
    k = min(k, -(-capacity // plan.group_size))
  found = search(query_embeds, Table(block_embeds, live), k, plan=plan)
  scores, block_ids = oracle(query_embeds, block_embeds, k, live)
  if plan.form == 'approximate':  # which leaves the order of ties open
    np.testing.assert_array_equal(found.scores, scores)
  else:
    assert_found(found, (scores, block_ids))


@pytest.mark.parametrize('name', PLANS)
@pytest.mark.parametrize('dtype', ['bfloat16', 'int8'])
def test_smaller_rows_that_are_scored_again_give_the_same(name, dtype):
  rng = np.random.default_rng(1)
  block_embeds = rng.normal(size=(3000, 24)).astype(np.float32)
  query_embeds = rng.normal(size=(7, 24)).astype(np.float32)
  live = rng.random(3000) < 0.9
  rows, scales = block_embeds.astype(jnp.bfloat16), None
  if dtype == 'int8':
    rows, scales = quantise(block_embeds)
  table = Table(rows, live, scales, block_embeds)
  scores, block_ids = oracle(query_embeds, block_embeds, 9, live)
  found = search(query_embeds, table, 9, plan=PLANS[name])
  np.testing.assert_array_equal(found.block_ids, block_ids)
  np.testing.assert_allclose(found.scores, scores, rtol=1e-5, atol=1e-5)
  # Without them the scores are those of the rounded rows.
  found = search(query_embeds, table._replace(full=None), 9, plan=PLANS[name])
  np.testing.assert_allclose(found.scores, scores, rtol=0.02, atol=0.3)
  assert np.abs(found.scores - scores).max() > 1e-4


@pytest.mark.parametrize('name', PLANS)
def test_a_tie_among_rows_scored_again_goes_to_the_lower_id(name):
  # Apart in the rounded rows, equal in the full ones.
  full = np.ones((200, EMBED_DIM), np.float32)
  rows = full + np.linspace(0, 0.5, 200, dtype=np.float32)[:, None]
  table = Table(rows.astype(jnp.bfloat16), None, None, full)
  found = search(full[:2], table, 5, plan=PLANS[name])
  assert (found.scores == EMBED_DIM).all()
  assert (np.diff(found.block_ids, axis=1) > 0).all()


def test_rows_of_arrays_are_all_found():
  blocks = whole_numbers(np.random.default_rng(0), 40)
  for block_embeds in (
    blocks,
    jnp.asarray(blocks),
    blocks.astype(jnp.bfloat16),
  ):
    found = search(blocks[:2], block_embeds, 40)
    assert_found(found, oracle(blocks[:2], blocks, 40))


def test_a_search_can_be_part_of_a_jitted_function():
  rng = np.random.default_rng(0)
  first, second, queries = (whole_numbers(rng, n) for n in (50, 50, 2))
  jitted = jax.jit(lambda queries, table: search(queries, table, 3))
  for blocks in (first, second):
    assert_found(jitted(queries, blocks), oracle(queries, blocks, 3))
  assert jitted._cache_size() == 1


def shapes(capacity, dtype=np.float32):
  return Table(jax.ShapeDtypeStruct((capacity, 128), dtype))


def test_the_form_is_chosen_by_batch_size_and_k():
  def form(batch, k, capacity=1_000_000, recall_target=1.0):
    plan = plan_search(batch, k, shapes(capacity), recall_target=recall_target)
    return plan.form

  assert form(1, 8) == 'scores'
  assert form(64, 8) == 'groups'
  assert form(64, 5000) == 'scores'
  assert form(64, 8, capacity=500) == 'scores'  # fewer than 16 groups
  assert form(64, 8, recall_target=0.9) == 'groups'  # no TPU


def test_what_is_held_at_a_time_is_bounded():
  plan = plan_search(64, 5000, shapes(13_353_718))
  assert 1 <= plan.queries_at_once * 13_353_718 * 4 <= 1 << 30
  assert plan_search(512, 8, shapes(1_000_000)).tile_size == 8192


@pytest.mark.parametrize(
  ('platform', 'form'), [('tpu', 'approximate'), ('gpu', 'groups')]
)
def test_only_a_tpu_approximates(platform, form):
  class Device:
    compute_capability = '7.0'

  Device.platform = platform
  plan = plan_search(64, 8, shapes(1_000_000), Device(), recall_target=0.95)
  assert plan.form == form
  assert not plan.kernel


@given(
  seed=st.integers(0, 2**32 - 1),
  length=st.sampled_from([1, 6, 48, 131]),
  k=st.sampled_from([1, 4]),
  largest=st.integers(0, 40),
)
@settings(max_examples=25)
def test_selecting_by_groups_is_selecting(seed, length, k, largest):
  rng = np.random.default_rng(seed)
  values = rng.integers(-largest, largest + 1, (3, length)).astype(np.float32)
  k = min(k, length)
  found, positions = top_k_by_groups(values, k, group_size=4)
  order = np.argsort(-values, axis=1, kind='stable')[:, :k]
  np.testing.assert_array_equal(positions, order)
  np.testing.assert_array_equal(found, np.take_along_axis(values, order, 1))


@pytest.mark.parametrize('k', [0, 41])
def test_k_outside_the_table_is_refused(k):
  with pytest.raises(ValueError, match=rf'k is {k}, .* expected 1 to 40'):
    search(np.zeros((1, 2), np.float32), np.zeros((40, 2), np.float32), k)


def test_another_width_is_refused():
  with pytest.raises(ValueError, match='3, but query_embeds has 2'):
    search(np.zeros((1, 2), np.float32), np.zeros((40, 3), np.float32), 1)


@pytest.mark.parametrize('dtype', [np.int8, np.int32, bool])
def test_rows_that_are_no_floats_are_refused(dtype):
  blocks = np.ones((40, 3), dtype)
  with pytest.raises(ValueError, match='expected float32 or bfloat16'):
    search(np.ones((1, 3), np.float32), blocks, 1)


def test_arrays_of_any_byte_order_and_layout_are_read_right():
  rng = np.random.default_rng(0)
  blocks, queries = whole_numbers(rng, 80, 9), whole_numbers(rng, 6, 9)
  expected = oracle(queries[::2], blocks[::2], 5)
  for order in ('<f4', '>f4', '>f8'):
    found = search(queries.astype(order)[::2], blocks.astype(order)[::2], 5)
    assert_found(found, expected)


def test_k_may_be_any_whole_number_and_compiles_once():
  blocks = whole_numbers(np.random.default_rng(0), 40)
  search(blocks[:2], blocks, 3)
  before = exact._search._cache_size()
  assert_found(
    search(blocks[:2], blocks, np.int64(3)), oracle(blocks[:2], blocks, 3)
  )
  assert exact._search._cache_size() == before
  with pytest.raises(TypeError, match='cannot be interpreted as an integer'):
    search(blocks[:2], blocks, 3.0)


def test_no_queries_find_nothing():
  blocks = whole_numbers(np.random.default_rng(0), 40)
  found = search(blocks[:0], blocks, 3)
  assert found.scores.shape == found.block_ids.shape == (0, 3)
  assert (found.scores.dtype, found.block_ids.dtype) == (np.float32, np.int32)


@pytest.mark.parametrize('largest_k', [4, 40])
def test_what_is_not_finite_in_a_query_is_its_own_affair(largest_k):
  rng = np.random.default_rng(0)
  blocks, queries = whole_numbers(rng, 2000), whole_numbers(rng, 20)
  expected = oracle(queries, blocks, largest_k)
  queries[3] = np.nan
  found = search(queries, blocks, largest_k)
  assert np.isnan(found.scores[3]).all()
  others = np.arange(20) != 3
  for one, other in zip(found, expected, strict=True):
    np.testing.assert_array_equal(np.asarray(one)[others], other[others])


class TestMesh:
  """The same over simulated devices."""

  @pytest.mark.parametrize('num_devices', [1, 2, 4, 8])
  @pytest.mark.parametrize('name', ['groups', 'scores'])
  @pytest.mark.parametrize('num_blocks', [3, 130, 1024])
  def test_shards_change_nothing(self, num_devices, name, num_blocks):
    mesh = jax.make_mesh((num_devices,), ('docs',))
    rng = np.random.default_rng(num_blocks)
    blocks, queries = whole_numbers(rng, 1024), whole_numbers(rng, 8)
    live = np.arange(1024) < num_blocks  # the last shards are empty
    found = search(queries, Table(blocks, live), 9, mesh=mesh, plan=PLANS[name])
    assert_found(found, oracle(queries, blocks, 9, live))

  def test_queries_may_be_spread_over_one_axis(self):
    mesh = jax.make_mesh((4, 2), ('data', 'model'))
    rng = np.random.default_rng(0)
    blocks, queries = whole_numbers(rng, 64), whole_numbers(rng, 12)
    for axes in (('data',), ('data', 'model')):
      num_queries = 8 if len(axes) == 2 else 12
      found = search(
        queries[:num_queries],
        blocks,
        5,
        mesh=mesh,
        query_axes=axes,
      )
      assert_found(found, oracle(queries[:num_queries], blocks, 5))
      spec = found.block_ids.sharding.spec
      assert spec[0] == (axes if len(axes) == 2 else axes[0])

  def test_queries_that_do_not_spread_evenly_are_refused(self):
    mesh = jax.make_mesh((4, 2), ('data', 'model'))
    queries = np.zeros((6, 2), np.float32)
    blocks = np.zeros((64, 2), np.float32)
    with pytest.raises(ValueError, match=r'6 queries do not .* over 4 devices'):
      search(queries, blocks, 1, mesh=mesh, query_axes=('data',))
    with pytest.raises(
      ValueError, match=r"'batch', expected some .* data, mod"
    ):
      search(queries, blocks, 1, mesh=mesh, query_axes=('batch',))
    found = search(queries, blocks, 1, mesh=mesh, query_axes='model')
    assert found.block_ids.shape == (6, 1)
    assert search(queries[:0], blocks, 1, mesh=mesh).scores.shape == (0, 1)

  def test_a_search_is_planned_for_the_devices_of_the_table(self, monkeypatch):
    devices = []

    def plan(batch, k, table, device=None, recall_target=1.0):
      devices.append(device)
      return PLANS['scores']

    monkeypatch.setattr(exact, 'plan_search', plan)
    queries = np.zeros((2, 2), np.float32)
    blocks = np.zeros((64, 2), np.float32)
    mesh = jax.make_mesh((4,), ('docs',), devices=jax.devices()[4:])
    search(queries, blocks, 1, mesh=mesh)
    search(queries, jax.device_put(blocks, jax.devices()[5]), 1)
    search(queries, blocks, 1)
    assert devices == [jax.devices()[4], jax.devices()[5], None]

  def test_more_than_a_shard_holds_can_be_asked_for(self):
    mesh = jax.make_mesh((8,), ('docs',))
    rng = np.random.default_rng(0)
    blocks, queries = whole_numbers(rng, 40), whole_numbers(rng, 3)
    found = search(queries, blocks, 33, mesh=mesh)
    assert_found(found, oracle(queries, blocks, 33))

  def test_rows_that_do_not_spread_evenly_are_refused(self):
    mesh = jax.make_mesh((4,), ('docs',))
    with pytest.raises(ValueError, match='41 rows, which do not spread evenly'):
      search(np.zeros((1, 2), np.float32), np.zeros((41, 2)), 1, mesh=mesh)


def test_recall_is_whole_for_float32():
  """Near ties: rounding may choose among them, never a worse block."""
  rng = np.random.default_rng(3)
  blocks = rng.normal(size=(20_000, 128)).astype(np.float32)
  blocks[10_000:] = blocks[:10_000]  # duplicates
  queries = rng.normal(size=(64, 128)).astype(np.float32)
  found = search(queries, blocks, 8)
  assert plan_search(64, 8, Table(blocks)).form == 'groups'
  scores, block_ids = oracle(queries, blocks, 8)
  np.testing.assert_array_equal(np.sort(found.block_ids), np.sort(block_ids))
  np.testing.assert_allclose(found.scores, scores, rtol=1e-5)
