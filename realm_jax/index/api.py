"""What every index of block embeddings can do, and what none accepts."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from realm_jax.errors import UserError
from realm_jax.index.snapshot import Snapshot
from realm_jax.types import Array, SearchResult

# Rows checked at a time: the copies stay small however large the table.
_CHUNK_SIZE = 65_536


class Index(Protocol):
  """Block embeddings that can be searched, changed and replaced.

  A block's id is its row. Ids are stable: a removed one is not given to another
  block before the next swap.

  Attributes:
    num_blocks: how many blocks can be found.
    capacity: how many rows there are; a swap or add beyond it is refused.
    embed_dim: width of the embeddings.
    index_step: training step of the parameters that made the embeddings.
    live: [capacity] bool; whether a row holds a block.
    searches_on_device: a search of queries on a device is sent off, and not
      waited for.
  """

  searches_on_device: bool

  @property
  def num_blocks(self) -> int: ...  # noqa: D102
  @property
  def capacity(self) -> int: ...  # noqa: D102
  @property
  def embed_dim(self) -> int: ...  # noqa: D102
  @property
  def index_step(self) -> int: ...  # noqa: D102
  @property
  def live(self) -> np.ndarray: ...  # noqa: D102

  def search(self, query_embeds: Array, k: int) -> SearchResult:
    """The k blocks of each query with the largest inner products.

    Args:
      query_embeds: [batch, embed_dim] float.
      k: blocks a query.

    Returns:
      [batch, k] float32 scores and int32 ids, best first, ties to the lower
      id. Where the index was told to allow fewer than k blocks, what is missing
      has score -inf and id -1.

    Raises:
      UserError: fewer than k blocks, and that is not allowed; or queries of
        another width.
    """
    ...

  def update(self, block_ids: Array, block_embeds: Array) -> None:
    """Replaces the embeddings of some blocks.

    Args:
      block_ids: [num_rows] int.
      block_embeds: [num_rows, embed_dim] float.

    Raises:
      UserError: an id is no block's, or an embedding is not finite.
    """
    ...

  def add(self, block_embeds: Array) -> np.ndarray:
    """Adds blocks behind the last one; returns their ids, [num_rows] int32.

    Raises:
      UserError: the capacity is too small, or an embedding is not finite.
    """
    ...

  def remove(self, block_ids: Array) -> None:
    """Makes blocks unfindable.

    Raises:
      UserError: an id is no block's.
    """
    ...

  def swap(self, snapshot: Snapshot) -> None:
    """Replaces all blocks by those of a snapshot.

    Raises:
      UserError: it does not fit, or an embedding is not finite. The index is
        then what it was.
    """
    ...

  def embeds(self, block_ids: Array) -> Array:
    """Embeddings of blocks: [..., embed_dim] float32, zeros for id -1."""
    ...

  def save(self, folder: Path) -> None:
    """Writes the blocks as a snapshot, which `swap` takes after loading."""
    ...

  @classmethod
  def load(
    cls, folder: Path, corpus_fingerprint: str | None, **options: Any
  ) -> 'Index':
    """An index of what `save` wrote.

    Args:
      folder: given to save.
      corpus_fingerprint: of the corpus that is to be searched; None for any.
      **options: as in __init__.

    Raises:
      FileNotFoundError: nothing whole was saved there.
      UserError: it is damaged, or of another corpus.
    """
    ...


def check_finite(
  block_embeds: np.ndarray, block_ids: np.ndarray | None = None
) -> None:
  """Raises UserError if an embedding is not finite, naming its block.

  Args:
    block_embeds: [num_rows, embed_dim] float; may be memory-mapped.
    block_ids: [num_rows]; None where row i is block i.
  """
  for start in range(0, len(block_embeds), _CHUNK_SIZE):
    chunk = block_embeds[start : start + _CHUNK_SIZE]
    # A sum is not finite if a term is not; large terms may only seem so.
    with np.errstate(over='ignore', invalid='ignore'):
      suspects = np.flatnonzero(~np.isfinite(np.sum(chunk, 1, np.float32)))
    for row in suspects:
      if not np.isfinite(chunk[row].astype(np.float32)).all():
        row += start
        block_id = row if block_ids is None else block_ids[row]
        raise UserError(
          f'The embedding of block {block_id} is not finite: the parameters '
          'that made it have diverged. Lower the learning rate, or embed with '
          'an earlier checkpoint.'
        )


def check_width(name: str, embeds: Array, embed_dim: int) -> None:
  """Raises UserError unless embeds is [any number, embed_dim]."""
  if len(embeds.shape) != 2 or embeds.shape[1] != embed_dim:
    raise UserError(
      f'{name} have shape {tuple(embeds.shape)}, expected [any number, '
      f'{embed_dim}]: the index holds embeddings of width {embed_dim}. Embed '
      'both with the same model.'
    )


def check_queries(query_embeds: Array, embed_dim: int) -> None:
  """Raises UserError unless queries have the width and, in numpy, are finite.

  On a device they are not looked at, for that would wait for them.
  """
  check_width('query_embeds', query_embeds, embed_dim)
  if not isinstance(query_embeds, np.ndarray):
    return
  finite = np.isfinite(query_embeds).all(axis=1)
  if not finite.all():
    raise UserError(
      f'The embedding of query {np.argmin(finite)} is not finite: the '
      'parameters that made it have diverged. Lower the learning rate, or use '
      'an earlier checkpoint.'
    )


def check_rows(
  block_ids: np.ndarray, block_embeds: np.ndarray, embed_dim: int
) -> None:
  """Raises UserError unless there is a finite embedding for each block id."""
  check_width('block_embeds', block_embeds, embed_dim)
  if len(block_ids) != len(block_embeds):
    raise UserError(
      f'{len(block_ids)} block ids came with {len(block_embeds)} '
      'embeddings, expected one each.'
    )
  check_finite(block_embeds, block_ids)


def check_fits(num_blocks: int, capacity: int) -> None:
  """Raises UserError if an index of that capacity cannot hold the blocks."""
  if num_blocks > capacity:
    raise UserError(
      f'{num_blocks:,} blocks do not fit: the index was built for up to '
      f'{capacity:,}. Build a new one, with capacity={num_blocks:,} or more '
      '(IndexConfig.capacity), and search with that.'
    )


def check_k(k: int, num_blocks: int) -> None:
  """Raises UserError if the index holds fewer than k blocks."""
  if k > num_blocks:
    raise UserError(
      f'{k} blocks a query were asked for, but the index holds {num_blocks}. '
      'Ask for fewer, or prepare a larger corpus.'
    )


def check_block_ids(block_ids: Array, live: np.ndarray) -> np.ndarray:
  """Ids as an array; raises UserError if one is no block's.

  Args:
    block_ids: [num_rows] int; an array or a list.
    live: [capacity] bool; whether a row holds a block.
  """
  block_ids = np.asarray(block_ids)
  if not block_ids.size:  # an empty list is of no dtype in particular
    block_ids = block_ids.astype(np.int32)
  if block_ids.ndim != 1:
    raise UserError(
      f'block_ids have shape {block_ids.shape}, expected one dimension.'
    )
  if not np.issubdtype(block_ids.dtype, np.integer):
    raise UserError(
      f'block_ids are {block_ids.dtype}, expected integers: the numbers of '
      'rows, not a mask of them.'
    )
  inside = (block_ids >= 0) & (block_ids < len(live))
  bad = ~inside | ~live[np.where(inside, block_ids, 0)]
  if bad.any():
    raise UserError(
      f'{block_ids[np.argmax(bad)]} is no block of the index, which holds '
      f'{int(live.sum()):,} blocks in rows 0 to {len(live) - 1:,}.'
    )
  return block_ids
