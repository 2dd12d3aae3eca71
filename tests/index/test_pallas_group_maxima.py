import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from realm_jax.index import pallas_group_maxima
from realm_jax.index.group_maxima import (
  Queries,
  convert_queries,
  group_maxima,
)
from realm_jax.index.pallas_group_maxima import (
  Tiling,
  choose_tiling,
  kernel_applies,
  kernel_maxima,
)
from realm_jax.index.table import Table, quantise


def make_table(block_embeds: np.ndarray, live: np.ndarray, dtype: str) -> Table:
  if dtype == 'int8':
    rows, scales = quantise(block_embeds)
    return Table(jnp.asarray(rows), jnp.asarray(live), jnp.asarray(scales))
  return Table(jnp.asarray(block_embeds, dtype), jnp.asarray(live))


def whole_numbers(rng: np.random.Generator, *shape: int) -> np.ndarray:
  return rng.integers(-9, 10, shape).astype(np.float32)


def some_live(rng: np.random.Generator, capacity: int) -> np.ndarray:
  """A few rows removed, and in larger tables a whole tile and more."""
  live = rng.random(capacity) < 0.98
  live[capacity // 2 : capacity // 2 + min(300, capacity // 4)] = False
  return live


@functools.partial(jax.jit, static_argnums=2)
def expected_maxima(
  queries: Queries, table: Table, group_size: int
) -> jax.Array:
  return group_maxima(queries, table, group_size, tile_size=group_size)


@functools.partial(jax.jit, static_argnums=(2, 3))
def kernel(
  queries: Queries, table: Table, group_size: int, tiling: Tiling | None = None
) -> jax.Array:
  return kernel_maxima(
    queries, table, group_size, tiling=tiling, interpret=True
  )


@pytest.mark.slow
@pytest.mark.parametrize('dtype', ['bfloat16', 'int8'])
@pytest.mark.parametrize(
  ('capacity', 'embed_dim', 'batch', 'group_size'),
  [
    (1024, 128, 16, 128),
    (1000, 64, 33, 32),
    (897, 32, 1, 64),
    (1500, 128, 130, 8),
    (130, 32, 3, 16),
    (64, 64, 2, 32),
  ],
)
def test_maxima_of_whole_numbers_are_those_of_the_form_for_every_backend(
  capacity, embed_dim, batch, group_size, dtype
):
  rng = np.random.default_rng(capacity)
  table = make_table(
    whole_numbers(rng, capacity, embed_dim), some_live(rng, capacity), dtype
  )
  queries = convert_queries(whole_numbers(rng, batch, embed_dim), table)
  actual = kernel(queries, table, group_size)
  assert actual.dtype == jnp.float32
  np.testing.assert_array_equal(
    actual, expected_maxima(queries, table, group_size)
  )


@given(
  seed=st.integers(0, 2**32 - 1),
  live_share=st.sampled_from([0.0, 0.01, 0.5, 0.999, 1.0]),
)
def test_rows_that_are_not_live_do_not_count(seed, live_share):
  rng = np.random.default_rng(seed)
  live = rng.random(700) < live_share
  table = make_table(whole_numbers(rng, 700, 32), live, 'bfloat16')
  queries = convert_queries(whole_numbers(rng, 5, 32), table)
  actual = kernel(queries, table, 16)
  np.testing.assert_array_equal(actual, expected_maxima(queries, table, 16))
  groups = np.pad(live, (0, 4)).reshape(-1, 16)
  np.testing.assert_array_equal(
    np.isneginf(actual).all(axis=1), ~groups.any(axis=1)
  )


@given(seed=st.integers(0, 2**32 - 1))
def test_maxima_of_any_numbers_are_close(seed):
  rng = np.random.default_rng(seed)
  table = make_table(
    rng.normal(size=(300, 128)), rng.random(300) < 0.9, 'bfloat16'
  )
  queries = convert_queries(
    jnp.asarray(rng.normal(size=(4, 128)), jnp.float32), table
  )
  np.testing.assert_allclose(
    kernel(queries, table, 32),
    expected_maxima(queries, table, 32),
    rtol=1e-5,
    atol=1e-5,
  )


def test_a_table_without_a_mask_is_all_live():
  rng = np.random.default_rng(0)
  table = make_table(whole_numbers(rng, 300, 32), np.ones(300, bool), 'int8')
  queries = convert_queries(whole_numbers(rng, 5, 32), table)
  np.testing.assert_array_equal(
    kernel(queries, table._replace(live=None), 64), kernel(queries, table, 64)
  )


@pytest.mark.parametrize(
  'tiling', [Tiling(16, 1), Tiling(32, 3, 8, 4), Tiling(64, 50)]
)
def test_the_tiling_changes_nothing(tiling):
  rng = np.random.default_rng(1)
  table = make_table(
    whole_numbers(rng, 900, 32), some_live(rng, 900), 'bfloat16'
  )
  queries = convert_queries(whole_numbers(rng, 37, 32), table)
  np.testing.assert_array_equal(
    kernel(queries, table, 32, tiling), expected_maxima(queries, table, 32)
  )


@pytest.mark.parametrize('check_vma', [False, True])
def test_the_kernel_can_be_called_on_a_shard(check_vma):
  rng = np.random.default_rng(2)
  table = make_table(whole_numbers(rng, 300, 32), some_live(rng, 300), 'int8')
  queries = convert_queries(whole_numbers(rng, 5, 32), table)
  sharded = jax.shard_map(
    lambda queries, table: kernel_maxima(queries, table, 32, interpret=True),
    mesh=Mesh(np.array(jax.devices()[:1]), ('index',)),
    in_specs=(P(), P('index')),
    out_specs=P('index'),
    check_vma=check_vma,
  )
  np.testing.assert_array_equal(
    jax.jit(sharded)(queries, table), expected_maxima(queries, table, 32)
  )


def test_programs_are_of_a_size_that_the_matrix_units_take():
  for batch in (1, 16, 17, 64, 100, 128, 512):
    for capacity in (1, 10_000, 13_353_718):
      tiling = choose_tiling(capacity, batch)
      assert tiling.num_queries in (16, 32, 64, 128)
      assert tiling.num_queries >= min(batch, 128)
      assert 1 <= tiling.num_tiles <= 16


def shapes(
  capacity: int = 1 << 20, embed_dim: int = 128, dtype: str = 'bfloat16'
) -> Table:
  return Table(
    jax.ShapeDtypeStruct((capacity, embed_dim), dtype),
    jax.ShapeDtypeStruct((capacity,), bool),
    jax.ShapeDtypeStruct((capacity,), jnp.float32) if dtype == 'int8' else None,
  )


def test_the_kernel_applies_to_large_tables_on_hopper():
  for platform in ('gpu', 'cuda'):
    for batch in (1, 512):
      assert kernel_applies(platform, batch, 128, shapes(), '9.0')
  assert kernel_applies('gpu', 64, 32, shapes(dtype='int8'), '9.0')
  assert kernel_applies('gpu', 64, 8, shapes(embed_dim=64), '9.0')


def test_the_kernel_applies_to_nothing_else():
  assert not kernel_applies('cpu', 64, 128, shapes(), None)
  assert not kernel_applies('rocm', 64, 128, shapes(), 'gfx942')
  assert not kernel_applies('gpu', 64, 128, shapes(), '8.0')
  assert not kernel_applies('gpu', 64, 128, shapes(), '10.0')
  assert not kernel_applies('gpu', 64, 128)
  assert not kernel_applies('gpu', 64, 128, shapes(dtype='float32'), '9.0')
  assert not kernel_applies('gpu', 64, 100, shapes(), '9.0')
  assert not kernel_applies('gpu', 64, 256, shapes(), '9.0')
  assert not kernel_applies('gpu', 64, 128, shapes(embed_dim=96), '9.0')
  assert not kernel_applies('gpu', 64, 128, shapes(capacity=1000), '9.0')


def test_int8_tables_whose_offsets_overflow_are_left_alone():
  table = functools.partial(shapes, dtype='int8')
  assert kernel_applies('gpu', 1, 128, table(2**24), '9.0')
  assert not kernel_applies('gpu', 1, 128, table(2**24 + 1), '9.0')
  assert not kernel_applies('gpu', 1, 128, table(2**25), '9.0')
  assert kernel_applies('gpu', 1, 128, table(2**25 + 1), '9.0')
  assert kernel_applies('gpu', 1, 128, shapes(2**25), '9.0')


@pytest.mark.parametrize(
  ('table', 'group_size', 'message'),
  [
    (shapes(dtype='float32'), 128, 'rows are float32, expected bfloat16 or'),
    (shapes(embed_dim=48), 128, 'embed_dim is 48, expected one of'),
    (shapes(), 12, 'group_size is 12, expected one of'),
  ],
)
def test_what_the_kernel_cannot_do_is_refused(table, group_size, message):
  queries = Queries(jnp.zeros((3, 128), jnp.bfloat16))
  with pytest.raises(ValueError, match=message):
    kernel_maxima(queries, table, group_size)


def test_a_jax_without_the_triton_backend_is_told_apart(monkeypatch):
  monkeypatch.setattr(pallas_group_maxima, 'triton', None)
  assert not kernel_applies('gpu', 64, 128, shapes(), '9.0')
  with pytest.raises(NotImplementedError, match='use group_maxima'):
    kernel_maxima(Queries(jnp.zeros((3, 128), jnp.bfloat16)), shapes(), 128)


def test_the_module_is_imported_without_the_triton_backend(run_python):
  run_python("""
import sys
sys.modules['jax.experimental.pallas.triton'] = None
from realm_jax.index import pallas_group_maxima
assert not pallas_group_maxima.is_available()
""")


def as_on_hopper() -> contextlib.AbstractContextManager:
  """Makes JAX 0.11 and later lower for a device that is not there."""
  if jax.version.__version_info__ < (0, 11):
    return contextlib.nullcontext()  # it assumes a Hopper
  device = jax.sharding.AbstractDevice('NVIDIA H100', 132, 'gpu')
  return jax.sharding.use_abstract_mesh(
    jax.sharding.AbstractMesh((1,), ('index',), abstract_device=device)
  )


@pytest.mark.parametrize('dtype', ['bfloat16', 'int8'])
@pytest.mark.parametrize(
  ('batch', 'group_size'), [(1, 128), (64, 32), (512, 128)]
)
def test_the_kernel_is_lowered_for_a_gpu(batch, group_size, dtype):
  table = shapes(13_353_718, 128, dtype)
  queries = jax.eval_shape(
    convert_queries, jax.ShapeDtypeStruct((batch, 128), jnp.float32), table
  )
  kernel = jax.jit(kernel_maxima, static_argnums=2)
  with as_on_hopper():
    traced = kernel.trace(queries, table, group_size)
    lowered = traced.lower(lowering_platforms=('cuda',)).as_text()
  assert '__gpu$xla.gpu.triton' in lowered


@pytest.mark.gpu
@pytest.mark.parametrize('dtype', ['bfloat16', 'int8'])
@pytest.mark.parametrize('batch', [1, 64, 200])
def test_the_compiled_kernel_gives_the_same(batch, dtype):
  rng = np.random.default_rng(batch)
  capacity = 100_003
  table = make_table(
    whole_numbers(rng, capacity, 128), some_live(rng, capacity), dtype
  )
  queries = convert_queries(whole_numbers(rng, batch, 128), table)
  for group_size in (8, 32, 128):
    actual = jax.jit(kernel_maxima, static_argnums=2)(
      queries, table, group_size
    )
    expected = jax.jit(group_maxima, static_argnums=(2, 3))(
      queries, table, group_size, 4096
    )
    np.testing.assert_array_equal(actual, expected)
