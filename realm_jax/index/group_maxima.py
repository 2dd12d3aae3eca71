"""The largest score in every group of neighbouring rows of a table.

The first pass of an exact search (exact.py): scores are made tile by tile and
reduced to a maximum a group at once, so that [capacity, batch] of them never
exist. This is the form for every backend; pallas_group_maxima.py is the same on
a GPU, where XLA would write the scores to memory and read them again.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from realm_jax.index.table import Table
from realm_jax.types import Array


class Queries(NamedTuple):
  """Queries in the form that a table's rows are multiplied with.

  Attributes:
    embeds: [batch, embed_dim] float32, bfloat16 or int8, as the rows.
    scales: [batch] float32; int8 only.
  """

  embeds: Array
  scales: Array | None = None


def convert_queries(query_embeds: Array, table: Table) -> Queries:
  """Queries as rows of the table's dtype; [batch, embed_dim] float in."""
  if table.scales is None:
    return Queries(query_embeds.astype(table.rows.dtype))
  largest = jnp.abs(query_embeds).max(axis=1)
  scales = jnp.where(largest > 0, largest / 127, 1.0).astype(jnp.float32)
  return Queries(
    jnp.rint(query_embeds / scales[:, None]).astype(jnp.int8), scales
  )


def score_rows(
  queries: Queries, rows: Array, scales: Array | None
) -> jax.Array:
  """Inner products: [num_rows, batch] float32.

  Args:
    queries: of convert_queries.
    rows: [num_rows, embed_dim], some rows of a table.
    scales: [num_rows] float32, theirs; int8 only.
  """
  products = _inner_products('id,bd->ib', rows, queries.embeds)
  if scales is None or queries.scales is None:
    return products
  # Both scales, so that maxima compare with scores of other tables.
  return products * scales[:, None] * queries.scales[None]


def _inner_products(subscripts: str, left: Array, right: Array) -> jax.Array:
  """In float32, of float arrays or of int8 ones."""
  whole = left.dtype == jnp.int8
  if left.dtype == jnp.bfloat16 and jax.default_backend() == 'cpu':
    # Its products of bfloat16 take many times as long.
    left, right = left.astype(jnp.float32), right.astype(jnp.float32)
  return jnp.einsum(
    subscripts,
    left,
    right,
    preferred_element_type=jnp.int32 if whole else jnp.float32,
    precision=None if whole else jax.lax.Precision.HIGHEST,
  ).astype(jnp.float32)


def live_scores(queries: Queries, table: Table) -> jax.Array:
  """score_rows of a table, -inf where a row holds no block."""
  scores = score_rows(queries, table.rows, table.scales)
  if table.live is None:
    return scores
  return jnp.where(table.live[:, None], scores, -jnp.inf)


def scores_by_query(queries: Queries, table: Table) -> jax.Array:
  """All scores of a table, also of rows without a block: [batch, capacity].

  float32. Made in this order: to transpose them costs as much as the product.
  """
  scores = _inner_products('bd,id->bi', queries.embeds, table.rows)
  if table.scales is not None and queries.scales is not None:
    scores *= queries.scales[:, None] * table.scales[None]
  return scores


def group_maxima(
  queries: Queries, table: Table, group_size: int, tile_size: int
) -> jax.Array:
  """The largest score in each group of rows: [num_groups, batch] float32.

  Args:
    queries: [batch, embed_dim].
    table: [capacity, embed_dim]; the capacity need not be a multiple of
      group_size, the last group is smaller then.
    group_size: rows a group; static.
    tile_size: rows whose scores are held at a time; a multiple of group_size.
  """
  capacity = table.rows.shape[0]
  batch = queries.embeds.shape[0]
  num_tiles = capacity // tile_size
  num_groups = -(-capacity // group_size)

  def tile_maxima(part: Table) -> jax.Array:
    # [rows, batch]; blocks first, so that the maximum vectorises over batch.
    scores = live_scores(queries, part)
    return scores.reshape(-1, group_size, batch).max(axis=1)

  def add_tile(number: jax.Array, maxima: jax.Array) -> jax.Array:
    part = slice_table(table, number * tile_size, tile_size)
    return jax.lax.dynamic_update_slice_in_dim(
      maxima, tile_maxima(part), number * (tile_size // group_size), 0
    )

  maxima = jnp.full((num_groups, batch), -jnp.inf, jnp.float32)
  if num_tiles:
    maxima = jax.lax.fori_loop(0, num_tiles, add_tile, maxima)
  if rest := capacity - num_tiles * tile_size:
    part = slice_table(table, num_tiles * tile_size, rest)
    if part.live is None:
      part = part._replace(live=jnp.ones(rest, bool))
    part = jax.tree.map(
      lambda array: jnp.pad(
        array, ((0, -rest % group_size),) + ((0, 0),) * (array.ndim - 1)
      ),
      part,
    )
    maxima = jax.lax.dynamic_update_slice_in_dim(
      maxima, tile_maxima(part), num_tiles * (tile_size // group_size), 0
    )
  return maxima


def slice_table(table: Table, start: Array, num_rows: int) -> Table:
  """Neighbouring rows of a table, without those for scoring again."""
  return Table(
    *(
      None
      if array is None
      else jax.lax.dynamic_slice_in_dim(array, start, num_rows)
      for array in table[:3]
    )
  )
