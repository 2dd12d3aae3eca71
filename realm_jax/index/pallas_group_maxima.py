"""Group maxima on NVIDIA Hopper GPUs: one kernel, scores never in memory.

XLA writes a tile's scores out and reads them again for the maxima: 8 bytes a
row and query, where a bfloat16 row has 256 bytes for all queries together. This
kernel multiplies, masks and reduces in registers; it reads the table once for
every 128 queries, after the first time from the L2 cache, and writes maxima.

A program keeps up to 128 queries in shared memory and streams tiles of rows
past them, the next tiles being copied during a product. Queries are the rows of
the product and blocks its columns: a thread then holds a quarter of a query's
scores, and a maximum takes two exchanges between threads instead of three for
every few scores. Most tiles are live from end to end; they are told beforehand
and not masked.

Written for the Triton backend of Pallas, which by itself places copies,
barriers and the wgmma instructions. Since JAX 0.11 that backend is deprecated;
in a JAX without it `kernel_applies` is False, and group_maxima.py serves.

Not for float32 tables: the matrix units would round them to TF32, and products
of whole numbers would no longer be exact. XLA multiplies them in full.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from realm_jax.index.group_maxima import Queries, live_scores
from realm_jax.index.table import Table

try:
  from jax.experimental import pallas
  from jax.experimental.pallas import triton
except ImportError:  # a JAX without them; see is_available
  triton = None  # type: ignore[assignment]

# Rows multiplied at a time, and so the largest group.
_TILE = 128
_EMBED_DIMS = (32, 64, 128)
_GROUP_SIZES = (8, 16, 32, 64, 128)
_MAX_QUERIES = 128
# Smaller tables are searched in microseconds either way.
_MIN_CAPACITY = 1 << 16
# Stretches of rows, if tiles are enough: to leave few multiprocessors idle at
# the end. Tiles of a stretch: to load the queries seldom.
_NUM_STRETCHES = 1024
_MAX_STRETCH = 16


class Tiling(NamedTuple):
  """How the work is cut up; no result depends on it.

  Attributes:
    num_queries: queries a program; a power of two, at least 16.
    num_tiles: tiles of rows a program: a stretch.
    num_warps: warps a program; a multiple of 4.
    num_stages: tiles that are copied or multiplied at a time.
  """

  num_queries: int
  num_tiles: int
  num_warps: int = 4
  num_stages: int = 2


def choose_tiling(capacity: int, batch: int) -> Tiling:
  """What should be fastest on an H100; see experiments/index."""
  num_queries = 16
  while num_queries < min(batch, _MAX_QUERIES):
    num_queries *= 2
  num_tiles = capacity // _TILE // _NUM_STRETCHES
  return Tiling(
    num_queries,
    min(max(num_tiles, 1), _MAX_STRETCH),
    # 32 KiB each at 128 bfloat16 columns, beside the queries: two programs can
    # share a multiprocessor, and one multiplies while the other takes maxima.
    num_stages=2 if num_queries == 128 else 3,
  )


def is_available() -> bool:
  """Whether this JAX has the Triton backend of Pallas."""
  return triton is not None


def kernel_applies(
  platform: str,
  batch: int,
  group_size: int,
  table: Table | None = None,
  compute_capability: str | None = None,
) -> bool:
  """Whether a search should take this form rather than group_maxima.py's.

  It should on Hopper, for a bfloat16 or int8 table that is not tiny. Other GPUs
  have less shared memory or other matrix units, and were not considered.

  Args:
    platform: of the devices that hold the table: jax.Device.platform.
    batch: queries.
    group_size: rows a group.
    table: arrays or their shapes; what one device holds. None for unknown.
    compute_capability: of the devices, such as '9.0': an attribute of
      jax.Device on NVIDIA's. None for unknown.
  """
  return (
    is_available()
    and platform in ('gpu', 'cuda')
    and (compute_capability or '').split('.')[0] == '9'
    and batch >= 1
    and table is not None
    and table.rows.shape[0] >= _MIN_CAPACITY
    and _unsupported(table, group_size) is None
  )


def _unsupported(table: Table, group_size: int) -> str | None:
  """What about the table or the groups this kernel cannot do, or None."""
  capacity, embed_dim = table.rows.shape
  dtype = jnp.dtype(table.rows.dtype)
  if dtype not in (jnp.bfloat16, jnp.int8):
    return f'rows are {dtype}, expected bfloat16 or int8'
  if embed_dim not in _EMBED_DIMS:
    return f'embed_dim is {embed_dim}, expected one of {_EMBED_DIMS}'
  if group_size not in _GROUP_SIZES:
    return f'group_size is {group_size}, expected one of {_GROUP_SIZES}'
  # Up to 2**32 bytes Pallas counts elements in 32 bits, but Triton takes them
  # for signed. No bfloat16 table is concerned.
  if 2**31 < capacity * embed_dim <= 2**32 // dtype.itemsize:
    return f'a table of {capacity:,} x {embed_dim} bytes would be misaddressed'
  return None


def kernel_maxima(
  queries: Queries,
  table: Table,
  group_size: int,
  *,
  tiling: Tiling | None = None,
  interpret: bool = False,
) -> jax.Array:
  """The largest score in each group of rows: [num_groups, batch] float32.

  The same as group_maxima.group_maxima, but for the order in which a score's
  products are added. If a score is NaN, its group's maximum is unspecified.

  Args:
    queries: [batch, embed_dim].
    table: [capacity, embed_dim] bfloat16 or int8, embed_dim 32, 64 or 128; the
      capacity need not be a multiple of anything.
    group_size: rows a group: 8, 16, 32, 64 or 128; static.
    tiling: static; None for choose_tiling's.
    interpret: run on any backend, slowly, for tests; static.

  Raises:
    ValueError: a table or groups that it cannot do.
    NotImplementedError: this JAX has no Triton backend.
  """
  if reason := _unsupported(table, group_size):
    raise ValueError(f'{reason}; group_maxima.group_maxima takes it.')
  if not is_available():
    raise NotImplementedError(
      'This JAX has no Pallas for Triton: use group_maxima.group_maxima.'
    )
  capacity, batch = table.rows.shape[0], queries.embeds.shape[0]
  table = table._replace(full=None)
  num_groups = -(-capacity // group_size)
  tiled = capacity // _TILE * _TILE
  if tiled == 0:
    maxima = jnp.zeros((num_groups, batch), jnp.float32)
  else:
    tiling = tiling or choose_tiling(capacity, batch)
    maxima = _tiled_maxima(queries, table, group_size, tiling, interpret)
  if tiled == capacity:
    return maxima
  # What is left of the rows; written in place.
  rest = jax.tree.map(lambda array: array[tiled:], table)
  scores = live_scores(queries, rest)
  padding = ((0, -len(scores) % group_size), (0, 0))
  scores = jnp.pad(scores, padding, constant_values=-jnp.inf)
  return jax.lax.dynamic_update_slice_in_dim(
    maxima,
    scores.reshape(-1, group_size, batch).max(axis=1),
    tiled // group_size,
    0,
  )


def _tiled_maxima(
  queries: Queries,
  table: Table,
  group_size: int,
  tiling: Tiling,
  interpret: bool,
) -> jax.Array:
  """Group maxima of all whole tiles; those of the rest are not written."""
  capacity, batch = table.rows.shape[0], queries.embeds.shape[0]
  queries = jax.tree.map(lambda x: _pad(x, tiling.num_queries), queries)
  num_parts = queries.embeds.shape[0] // tiling.num_queries
  num_stretches = -(-capacity // _TILE // tiling.num_tiles)
  some_dead = None
  if table.live is not None:
    # [num_tiles] int32
    live = table.live[: capacity // _TILE * _TILE].reshape(-1, _TILE)
    some_dead = (~live.all(axis=1)).astype(jnp.int32)
  return pallas.pallas_call(
    functools.partial(_kernel, group_size=group_size, tiling=tiling),
    grid=(num_stretches * num_parts,),
    out_shape=jax.ShapeDtypeStruct(
      (-(-capacity // group_size), batch),
      jnp.float32,
      # Inside shard_map: they differ from device to device as the rows do.
      manual_axis_type=jax.typeof(table.rows).manual_axis_type,
    ),
    compiler_params=triton.CompilerParams(
      num_warps=tiling.num_warps, num_stages=tiling.num_stages
    ),
    interpret=interpret,
  )(some_dead, queries, table)


def _pad(array: jax.Array, multiple: int) -> jax.Array:
  """Zeros behind the last row, up to a multiple of rows."""
  padding = -array.shape[0] % multiple
  return jnp.pad(array, ((0, padding),) + ((0, 0),) * (array.ndim - 1))


def _kernel(
  some_dead: Any,
  queries: Queries,
  table: Table,
  maxima: Any,
  *,
  group_size: int,
  tiling: Tiling,
) -> None:
  """One program: some of the queries against one stretch of rows.

  Args:
    some_dead: [num_tiles] int32, a reference, as all arrays here; 0 where all
      rows of a tile are live. None where table.live is.
    queries: [a multiple of tiling.num_queries, embed_dim].
    table: [capacity, embed_dim].
    maxima: [num_groups, batch] float32; written.
    group_size: static.
    tiling: static.
  """
  # Programs in a row read the same rows; all but one find them in the L2 cache.
  num_parts = queries.embeds.shape[0] // tiling.num_queries
  stretch = jax.lax.div(pallas.program_id(0), num_parts)
  part = jax.lax.rem(pallas.program_id(0), num_parts)
  own = pallas.ds(part * tiling.num_queries, tiling.num_queries)
  own_queries = jax.tree.map(lambda ref: triton.load(ref.at[own]), queries)

  def add_tile(tile: jax.Array, _: None) -> None:
    mask = None if some_dead is None else triton.load(some_dead.at[tile]) != 0
    scores = _tile_scores(own_queries, table, tile, mask)
    _store_maxima(scores, own_queries.scales, maxima, own, tile, group_size)

  first = stretch * tiling.num_tiles
  last = jnp.minimum(first + tiling.num_tiles, table.rows.shape[0] // _TILE)
  jax.lax.fori_loop(first, last, add_tile, None)


def _tile_scores(
  queries: Queries, table: Table, tile: jax.Array, mask: jax.Array | None
) -> jax.Array:
  """Scores of a tile but for the queries' scales: [num_queries, _TILE] float32.

  Args:
    queries: [num_queries, embed_dim].
    table: references.
    tile: its number.
    mask: scalar bool; whether some rows may be dead. None for no.
  """
  rows = pallas.ds(tile * _TILE, _TILE)
  scores = jax.lax.dot_general(
    queries.embeds,
    triton.load(table.rows.at[rows]),
    (((1,), (1,)), ((), ())),
    preferred_element_type=jnp.float32 if table.scales is None else jnp.int32,
  )
  if table.scales is not None:
    scales = triton.load(table.scales.at[rows])
    scores = scores.astype(jnp.float32) * scales[None]
  live = table.live
  if live is None or mask is None:
    return scores
  return jax.lax.cond(
    mask,
    lambda: jnp.where(triton.load(live.at[rows])[None], scores, -jnp.inf),
    lambda: scores,
  )


def _store_maxima(
  scores: jax.Array,
  query_scales: jax.Array | None,
  maxima: Any,
  own: Any,
  tile: jax.Array,
  group_size: int,
) -> None:
  """Writes the maxima of a tile's groups, leaving out padded queries."""
  num_queries = scores.shape[0]
  groups_here = _TILE // group_size
  # [num_queries, groups_here]
  if groups_here == 1:
    # Triton rearranges all scores for a dimension of one.
    best = scores.max(axis=1)[:, None]
  else:
    best = scores.reshape(num_queries, groups_here, group_size).max(axis=2)
  if query_scales is not None:
    # Rounding keeps the order, so it can be done after taking the maximum.
    best = best * query_scales[:, None]
  inside = own.start + jnp.arange(num_queries) < maxima.shape[1]
  triton.store(
    maxima.at[pallas.ds(tile * groups_here, groups_here), own],
    best.T,
    mask=jnp.broadcast_to(inside[None], best.T.shape),
  )
