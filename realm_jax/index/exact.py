"""Exact maximum inner product search in JAX, on one device or over a mesh.

`matmul` and `top_k` over all scores needs a [batch, capacity] matrix and a slow
selection over its long rows. Instead:

1. of each group of neighbouring rows keep only the largest score, tile by tile
   (group_maxima.py): [num_groups, batch];
2. take the k groups with the largest maxima. The k best rows lie inside them:
   a row outside would be beaten by one row in each of k groups;
3. score the rows of those groups again, in float32 if the table has them so,
   and take the best k.

A few queries are limited by reading the table, and for a large k the rows of k
groups are too many to be read again: there all scores are kept, and only the
selection goes by groups.

    from realm_jax.index import exact
    scores, block_ids = exact.search(query_embeds, block_embeds, k=8)

Groups and rows are kept in ascending order, and `top_k` prefers what comes
first, so that ties go to the lower id in every form and on any mesh.
"""

import functools
import math
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from realm_jax.checks import check_shapes
from realm_jax.index.group_maxima import (
  Queries,
  convert_queries,
  group_maxima,
  score_rows,
  scores_by_query,
)
from realm_jax.index.pallas_group_maxima import kernel_maxima
from realm_jax.index.search_plan import (
  SPARE_GROUPS,
  SPARE_ROWS,
  Plan,
  plan_search,
)
from realm_jax.index.selection import masked, top_k_by_groups
from realm_jax.index.table import Table
from realm_jax.types import NULL_BLOCK_ID, Array, SearchResult


def search(
  query_embeds: Array,
  block_embeds: Array | Table,
  k: int,
  *,
  mesh: Mesh | None = None,
  query_axes: tuple[str, ...] = (),
  recall_target: float = 1.0,
  plan: Plan | None = None,
) -> SearchResult:
  """The k blocks with the largest inner products.

  May be called inside a jitted function, which then takes the table as an
  argument: captured, it would be baked in.

  Args:
    query_embeds: [batch, embed_dim] float; rounded as the rows are where there
      are none in float32.
    block_embeds: [capacity, embed_dim] float32 or bfloat16, all rows in use; or
      a table, of ExactIndex for example. On a CPU an aligned numpy array, such
      as a memory-mapped file, is read where it lies.
    k: how many; where fewer rows are in use the rest is -inf and -1.
    mesh: over all of whose axes the table's rows are spread; None where it is
      on one device.
    query_axes: axes of the mesh that queries are spread over, which divide
      their number; results then are spread in the same way. Else every device
      has all of them.
    recall_target: below 1, a TPU may miss some; see plan_search.
    plan: how; None for what plan_search chooses.

  Returns:
    [batch, k] float32 scores and int32 ids, best first, ties to the lower id.
    A query that is not finite gets scores that are not, and any ids.

  Raises:
    ValueError: k exceeds the capacity, embed_dim differs, rows are no floats,
      or the mesh does not divide what is spread over it.
  """
  k = operator.index(k)  # static: a number of numpy would compile anew
  query_embeds = _native(query_embeds)
  if not isinstance(block_embeds, Table):
    block_embeds = _native(block_embeds)
  table = (
    block_embeds if isinstance(block_embeds, Table) else Table(block_embeds)
  )
  sizes = check_shapes(
    query_embeds=(query_embeds, 'batch embed_dim'),
    block_embeds=(table.rows, 'capacity embed_dim'),
  )
  capacity = sizes['capacity']
  if not 1 <= k <= capacity:
    raise ValueError(
      f'k is {k}, but the table has {capacity} rows: expected 1 to {capacity}.'
    )
  if isinstance(query_axes, str):
    query_axes = (query_axes,)
  num_shards = mesh.size if mesh else 1
  _check_rows(table, num_shards)
  if mesh is not None:
    _check_axes(sizes['batch'], mesh, query_axes)
  if sizes['batch'] == 0:
    return SearchResult(jnp.zeros((0, k)), jnp.zeros((0, k), jnp.int32))
  if plan is None:
    # What one device holds, and can return.
    rows_here = capacity // num_shards
    shard = jax.tree.map(
      lambda array: jax.ShapeDtypeStruct(
        (rows_here, *array.shape[1:]), array.dtype
      ),
      table,
    )
    plan = plan_search(
      sizes['batch'],
      min(k, rows_here),
      shard,
      _device_of(table, mesh),
      recall_target,
    )
  if mesh is not None:
    # Where they lie so already, this does nothing.
    query_embeds = jax.device_put(
      query_embeds, NamedSharding(mesh, _spread(query_axes))
    )
    table = jax.device_put(table, NamedSharding(mesh, P(mesh.axis_names)))
  return _search(query_embeds, table, k, plan, mesh, query_axes)


def _native(array: Array) -> Array:
  """Numpy arrays in this machine's byte order; JAX takes others for it."""
  if isinstance(array, np.ndarray) and not array.dtype.isnative:
    return array.astype(array.dtype.newbyteorder('='))
  return array


def _check_rows(table: Table, num_shards: int) -> None:
  capacity, dtype = table.rows.shape[0], table.rows.dtype
  is_scaled = dtype == jnp.int8 and table.scales is not None
  if not is_scaled and not jnp.issubdtype(dtype, jnp.floating):
    raise ValueError(
      f'block_embeds are {dtype}, expected float32 or bfloat16. For rows of '
      "int8 make a table with scales: ExactIndex(block_embeds, dtype='int8')."
    )
  if capacity % num_shards:
    raise ValueError(
      f'The table has {capacity} rows, which do not spread evenly over '
      f'{num_shards} devices. Pad it, as ExactIndex does.'
    )


def _check_axes(batch: int, mesh: Mesh, query_axes: tuple[str, ...]) -> None:
  for axis in query_axes:
    if axis not in mesh.axis_names:
      raise ValueError(
        f'query_axes has {axis!r}, expected some of the axes of the mesh: '
        f'{", ".join(map(str, mesh.axis_names))}.'
      )
  num_parts = math.prod(mesh.shape[axis] for axis in query_axes)
  if batch % num_parts:
    raise ValueError(
      f'{batch} queries do not spread evenly over {num_parts} devices along '
      f'{", ".join(query_axes)}. Pad them, or spread them over fewer axes.'
    )


def _device_of(table: Table, mesh: Mesh | None) -> jax.Device | None:
  """A device that holds rows; None where that cannot be told."""
  if mesh is not None:
    return mesh.devices.flat[0]
  rows = table.rows
  if isinstance(rows, jax.Array) and not isinstance(rows, jax.core.Tracer):
    return next(iter(rows.devices()))
  return None


def _spread(axes: tuple[str, ...]) -> P:
  return P(axes) if axes else P()


@functools.partial(jax.jit, static_argnames=('k', 'plan', 'mesh', 'query_axes'))
def _search(
  query_embeds: Array,
  table: Table,
  k: int,
  plan: Plan,
  mesh: Mesh | None,
  query_axes: tuple[str, ...],
) -> SearchResult:
  if mesh is None:
    scores, block_ids = _search_shard(query_embeds, table, k, plan)
  else:
    spread = _spread(query_axes)
    scores, block_ids = jax.shard_map(
      functools.partial(
        _search_together,
        k=k,
        plan=plan,
        axes=mesh.axis_names,
        query_axes=query_axes,
      ),
      mesh=mesh,
      in_specs=(spread, P(mesh.axis_names)),
      out_specs=(spread, spread),
      check_vma=False,
    )(query_embeds, table)
  block_ids = jnp.where(jnp.isneginf(scores), NULL_BLOCK_ID, block_ids)
  return SearchResult(scores, block_ids.astype(jnp.int32))


def _search_together(
  query_embeds: Array,
  table: Table,
  k: int,
  plan: Plan,
  axes: tuple[str, ...],
  query_axes: tuple[str, ...],
) -> tuple[jax.Array, jax.Array]:
  """One device's share of a search over a mesh: its rows, and its queries.

  k scores and ids of every device go to every other: next to nothing.
  """
  if query_axes:
    query_embeds = jax.lax.all_gather(query_embeds, query_axes, tiled=True)
  rows_here = table.rows.shape[0]
  scores, row_ids = _search_shard(query_embeds, table, min(k, rows_here), plan)
  block_ids = row_ids + jax.lax.axis_index(axes) * rows_here
  # [batch, num_shards * local_k]; shards ascend, and so do tied ids.
  scores, block_ids = jax.lax.all_gather(
    (scores, block_ids), axes, axis=1, tiled=True
  )
  scores, best = jax.lax.top_k(scores, k)
  block_ids = jnp.take_along_axis(block_ids, best, axis=1)
  if not query_axes:
    return scores, block_ids
  size = scores.shape[0] // jax.lax.axis_size(query_axes)
  first = jax.lax.axis_index(query_axes) * size
  return (
    jax.lax.dynamic_slice_in_dim(scores, first, size),
    jax.lax.dynamic_slice_in_dim(block_ids, first, size),
  )


def _search_shard(
  query_embeds: Array, table: Table, k: int, plan: Plan
) -> tuple[jax.Array, jax.Array]:
  """Scores and row ids of the k best rows of one device: [batch, k] each."""
  if plan.full:
    table = Table(table.full, table.live)
  queries = convert_queries(query_embeds, table)
  if plan.form == 'groups':
    maxima = (
      kernel_maxima(queries, table, plan.group_size)
      if plan.kernel
      else group_maxima(queries, table, plan.group_size, plan.tile_size)
    )
    num_groups = k + (0 if table.full is None else SPARE_GROUPS)
    _, groups = top_k_by_groups(maxima.T, num_groups, plan.group_size)
    return _map_queries(
      lambda query, groups: _best_of_groups(
        query, groups, table, k, plan.group_size
      ),
      (query_embeds, groups),
      plan.queries_at_once,
    )
  return _map_chunks(
    lambda query_embeds, queries: _best_of_scores(
      query_embeds, queries, table, k, plan
    ),
    (query_embeds, queries),
    plan.queries_at_once,
  )


def _best_of_groups(
  query_embed: Array, groups: Array, table: Table, k: int, group_size: int
) -> tuple[jax.Array, jax.Array]:
  """The k best rows of some groups for one query: scores and ids, [k] each."""
  # Ascending, so that ties go to the lower id. [num_groups * group_size]
  row_ids = (
    jnp.sort(groups)[:, None] * group_size + jnp.arange(group_size)[None]
  )
  row_ids = row_ids.reshape(-1)
  scores = _score_again(query_embed, row_ids, table)
  best_scores, best = jax.lax.top_k(scores, k)
  return best_scores, row_ids[best]


def _score_again(query_embed: Array, row_ids: Array, table: Table) -> jax.Array:
  """Scores of some rows in float32; -inf at those without a block: [num_rows].

  Rows at or beyond the capacity have no block.
  """
  capacity = table.rows.shape[0]
  inside = row_ids < capacity
  row_ids = jnp.minimum(row_ids, capacity - 1)
  if table.full is not None or table.scales is None:
    rows = (table.rows if table.full is None else table.full)[row_ids]
    query = Queries(query_embed[None].astype(rows.dtype))
    scores = score_rows(query, rows, None)[:, 0]
  else:
    query = convert_queries(query_embed[None], table)
    scores = score_rows(query, table.rows[row_ids], table.scales[row_ids])[:, 0]
  if table.live is not None:
    inside &= table.live[row_ids]
  return jnp.where(inside, scores, -jnp.inf)


def _best_of_scores(
  query_embeds: Array, queries: Queries, table: Table, k: int, plan: Plan
) -> tuple[jax.Array, jax.Array]:
  """The k best rows from all scores of some queries: [batch, k] each."""
  # [batch, capacity]
  scores = scores_by_query(queries, table)
  live = table.live
  fetched = k
  if table.full is not None:
    fetched = min(k + max(SPARE_ROWS, k // 4), scores.shape[1])
  if plan.form == 'approximate':
    best_scores, row_ids = jax.lax.approx_max_k(
      masked(scores, live, slice(None)),
      fetched,
      recall_target=plan.recall_target,
    )
  else:
    best_scores, row_ids = top_k_by_groups(
      scores, fetched, plan.group_size, live
    )
  if table.full is None:
    return best_scores, row_ids

  def best_again(
    query_embed: jax.Array, row_ids: jax.Array, scores: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    # Ascending again for ties; -inf marks rows that were no block's before.
    order = jnp.argsort(row_ids)
    row_ids = row_ids[order]
    again = _score_again(query_embed, row_ids, table)
    again = jnp.where(jnp.isneginf(scores[order]), -jnp.inf, again)
    best_scores, best = jax.lax.top_k(again, k)
    return best_scores, row_ids[best]

  return _map_queries(best_again, (query_embeds, row_ids, best_scores), 1)


def _map_queries(
  function: Callable, arrays: tuple, queries_at_once: int
) -> tuple[jax.Array, jax.Array]:
  """A function of one query over all queries, so many of them at once."""
  return jax.lax.map(
    lambda arguments: function(*arguments), arrays, batch_size=queries_at_once
  )


def _map_chunks(
  function: Callable, arrays: tuple, queries_at_once: int
) -> tuple[jax.Array, jax.Array]:
  """A function of several queries over all of them, in equal parts."""
  batch = jax.tree.leaves(arrays)[0].shape[0]
  num_chunks = -(-batch // queries_at_once)
  if num_chunks == 1:
    return function(*arrays)
  size = -(-batch // num_chunks)

  def split(array: jax.Array) -> jax.Array:
    rest = ((0, num_chunks * size - batch),) + ((0, 0),) * (array.ndim - 1)
    return jnp.pad(array, rest).reshape(num_chunks, size, *array.shape[1:])

  found = jax.lax.map(
    lambda arguments: function(*arguments), jax.tree.map(split, arrays)
  )
  return jax.tree.map(
    lambda array: array.reshape(-1, array.shape[-1])[:batch], found
  )
