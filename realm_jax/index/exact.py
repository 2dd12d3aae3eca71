"""Exact maximum inner product search on one device, by group maxima.

`matmul` and `top_k` over all scores needs a [batch, num_blocks] matrix and a
slow selection over its long rows. Instead:

1. scan over tiles of the table; of each group of `group_size` neighbouring rows
   keep only the largest score: [batch, capacity / group_size];
2. take the k groups with the largest maxima. The k best rows lie inside them:
   a row outside would be beaten by one row in each of k groups;
3. score the k * group_size rows of those groups again and take the best k.

The table is an argument of every jitted function, padded to a static capacity,
so adding, removing, refreshing or swapping blocks never compiles anything, and
a refresh cannot be missed by a table baked into a compiled function.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from realm_jax.checks import check_shapes
from realm_jax.errors import UserError
from realm_jax.types import NULL_BLOCK_ID, Array, SearchResult

# Rows a tile and rows a group: a [tile, batch] float32 score tile stays inside
# a CPU core's L2 cache, and k groups stay few enough to be gathered.
TILE_SIZE = 1024
GROUP_SIZE = 32

# Below these the plain form is limited by memory bandwidth already, above them
# gathering k groups costs more than selecting among all scores.
_MIN_BATCH = 16
_MAX_K = 500


def padded_capacity(num_blocks: int) -> int:
  """Rows of a table that holds num_blocks: the next multiple of a tile."""
  return max(1, -(-num_blocks // TILE_SIZE)) * TILE_SIZE


def _scores(block_embeds: Array, query_embeds: Array) -> jax.Array:
  """Inner products in float32: [num_rows, batch]."""
  return jnp.einsum(
    'id,bd->ib',
    block_embeds,
    query_embeds.astype(block_embeds.dtype),
    preferred_element_type=jnp.float32,
    precision=jax.lax.Precision.HIGHEST,
  )


def _group_maxima(
  query_embeds: Array, block_embeds: Array, num_blocks: Array
) -> jax.Array:
  """Largest score in each group of rows: [num_groups, batch] float32."""
  capacity, embed_dim = block_embeds.shape
  tiles = block_embeds.reshape(capacity // TILE_SIZE, TILE_SIZE, embed_dim)
  # First row of each tile.
  offsets = jnp.arange(0, capacity, TILE_SIZE)

  def tile_maxima(_, tile_and_offset):
    tile, offset = tile_and_offset
    # [tile, batch]; documents first, so that the maximum vectorises over batch.
    scores = _scores(tile, query_embeds)
    real = offset + jnp.arange(TILE_SIZE) < num_blocks
    scores = jnp.where(real[:, None], scores, -jnp.inf)
    return None, scores.reshape(TILE_SIZE // GROUP_SIZE, GROUP_SIZE, -1).max(1)

  _, maxima = jax.lax.scan(tile_maxima, None, (tiles, offsets))
  return maxima.reshape(capacity // GROUP_SIZE, -1)


def _best_of_groups(
  query_embed: Array,
  groups: Array,
  block_embeds: Array,
  num_blocks: Array,
  k: int,
) -> tuple[jax.Array, jax.Array]:
  """The k best rows of some groups for one query: scores and ids, [k] each."""
  # Ascending, so that ties go to the lower block id.
  # [k, group_size]
  rows = (jnp.sort(groups) * GROUP_SIZE)[:, None] + jnp.arange(GROUP_SIZE)[None]
  rows = rows.reshape(-1)
  scores = _scores(block_embeds[rows], query_embed[None, :])[:, 0]
  scores = jnp.where(rows < num_blocks, scores, -jnp.inf)
  best_scores, best = jax.lax.top_k(scores, k)
  return best_scores, rows[best]


@functools.partial(jax.jit, static_argnames='k')
def search(
  query_embeds: Array, block_embeds: Array, num_blocks: Array, k: int
) -> SearchResult:
  """The k blocks with the largest inner products.

  Args:
    query_embeds: [batch, embed_dim] float.
    block_embeds: [capacity, embed_dim] float; capacity a multiple of TILE_SIZE.
    num_blocks: scalar int32; the rows from here on are padding.
    k: how many; where it exceeds num_blocks the rest is -inf and -1.

  Returns:
    [batch, k] float32 scores and int32 ids, best first, ties to the lower id.

  Raises:
    ValueError: k exceeds the capacity, or embed_dim differs.
  """
  sizes = check_shapes(
    query_embeds=(query_embeds, 'batch embed_dim'),
    block_embeds=(block_embeds, 'capacity embed_dim'),
  )
  if k > sizes['capacity']:
    raise ValueError(f'k is {k}, but the table has {sizes["capacity"]} rows.')
  num_groups = sizes['capacity'] // GROUP_SIZE
  if sizes['batch'] < _MIN_BATCH or k > min(_MAX_K, num_groups // 2):
    # [batch, capacity]
    scores = _scores(block_embeds, query_embeds).T
    real = jnp.arange(sizes['capacity']) < num_blocks
    scores = jnp.where(real[None, :], scores, -jnp.inf)
    best_scores, block_ids = jax.lax.top_k(scores, k)
  else:
    maxima = _group_maxima(query_embeds, block_embeds, num_blocks)
    # [batch, k] groups
    _, groups = jax.lax.top_k(maxima.T, k)
    best_scores, block_ids = jax.lax.map(
      lambda query: _best_of_groups(
        query[0], query[1], block_embeds, num_blocks, k
      ),
      (query_embeds, groups),
    )
  block_ids = jnp.where(jnp.isneginf(best_scores), NULL_BLOCK_ID, block_ids)
  return SearchResult(best_scores, block_ids.astype(jnp.int32))


@functools.partial(jax.jit, donate_argnums=0)
def _write_rows(table: Array, rows: Array, block_embeds: Array) -> jax.Array:
  return table.at[rows].set(block_embeds.astype(table.dtype))


def _check_finite(block_ids: np.ndarray, block_embeds: Array) -> None:
  """Raises UserError if an embedding is not finite, naming its block."""
  finite = np.asarray(jnp.isfinite(jnp.asarray(block_embeds)).all(axis=1))
  if not finite.all():
    raise UserError(
      f'The embedding of block {block_ids[np.argmin(finite)]} is not finite: '
      'the parameters that made it have diverged. Lower the learning rate.'
    )


class ExactIndex:
  """A table of block embeddings that can be searched, updated and swapped.

  Attributes:
    block_embeds: [capacity, embed_dim]; the table.
    num_blocks: rows in use.
    index_step: training step of the parameters that made the embeddings.
  """

  def __init__(self, block_embeds: Array, index_step: int = 0):
    """Builds the index.

    Args:
      block_embeds: [num_blocks, embed_dim] float32 or bfloat16.
      index_step: see Attributes.
    """
    num_blocks, embed_dim = block_embeds.shape
    if num_blocks == 0:
      raise UserError('There are no block embeddings: the corpus is empty.')
    self.num_blocks = num_blocks
    self.block_embeds = jnp.zeros(
      (padded_capacity(num_blocks), embed_dim), block_embeds.dtype
    )
    self.swap(block_embeds, index_step)

  def swap(self, block_embeds: Array, index_step: int) -> None:
    """Replaces all embeddings; as many as fit into the capacity.

    Args:
      block_embeds: [num_blocks, embed_dim] float.
      index_step: training step of the parameters that made them.

    Raises:
      UserError: an embedding is not finite, or the capacity is too small.
    """
    capacity, embed_dim = self.block_embeds.shape
    num_blocks = block_embeds.shape[0]
    if block_embeds.shape[1] != embed_dim or num_blocks > capacity:
      raise UserError(
        f'The new embeddings have shape {tuple(block_embeds.shape)}, the '
        f'index holds up to {capacity} of width {embed_dim}. Build a new index.'
      )
    _check_finite(np.arange(num_blocks), block_embeds)
    padding = ((0, capacity - num_blocks), (0, 0))
    self.block_embeds = jnp.pad(
      jnp.asarray(block_embeds, self.block_embeds.dtype), padding
    )
    self.num_blocks = num_blocks
    self.index_step = index_step

  def update(self, rows: Array, block_embeds: Array) -> None:
    """Replaces some embeddings in place.

    Args:
      rows: [num_rows] int; block ids.
      block_embeds: [num_rows, embed_dim] float.

    Raises:
      ValueError: a row is no block's.
      UserError: an embedding is not finite.
    """
    ids = np.asarray(rows)
    if ids.size and not (ids.min() >= 0 and ids.max() < self.num_blocks):
      raise ValueError(
        f'rows lie in [{ids.min()}, {ids.max()}], expected 0 to '
        f'{self.num_blocks - 1}.'
      )
    _check_finite(ids, block_embeds)
    self.block_embeds = _write_rows(self.block_embeds, rows, block_embeds)

  def check_k(self, k: int) -> None:
    """Raises UserError if the index holds fewer than k blocks."""
    if k > self.num_blocks:
      raise UserError(
        f'{k} blocks a query were asked for, but the index holds '
        f'{self.num_blocks}. Ask for fewer, or prepare a larger corpus.'
      )

  def search(self, query_embeds: Array, k: int) -> SearchResult:
    """The k best blocks of each query: see `search`.

    Raises:
      UserError: the index holds fewer than k blocks.
    """
    self.check_k(k)
    return search(
      query_embeds, self.block_embeds, jnp.int32(self.num_blocks), k
    )


def empty_index(num_blocks: int, embed_dim: int) -> ExactIndex:
  """An index to swap a snapshot into before it is searched."""
  return ExactIndex(np.zeros((num_blocks, embed_dim), np.float32), -1)
