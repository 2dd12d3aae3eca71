"""One search: a ScaNN searcher, and beside it what has changed since."""

import functools
from typing import Any, NamedTuple

import numpy as np

from realm_jax.index import scann_changes
from realm_jax.index.scann_changes import Changes
from realm_jax.index.scann_settings import ScannConfig, settings_for
from realm_jax.index.snapshot import Snapshot
from realm_jax.types import NULL_BLOCK_ID, SearchResult

_MAX_PART = 256  # queries that one thread searches together
_settings_for = functools.lru_cache(settings_for)


class Searched(NamedTuple):
  """All that a search reads. Never written to.

  Attributes:
    searcher: ScaNN's.
    config: to search with; num_leaves and soar are the searcher's own, and
      num_leaves is 0 where it scores all rows.
    snapshot: [num_rows, embed_dim] rows; those of blocks that have not changed
      are the searcher's.
    changes: since the searcher was built.
  """

  searcher: Any
  config: ScannConfig
  snapshot: Snapshot
  changes: Changes

  @property
  def num_built(self) -> int:
    """Rows of the searcher."""
    return len(self.changes.usable)


def search(
  searched: Searched, query_embeds: np.ndarray, k: int, num_threads: int
) -> SearchResult:
  """The k best blocks of each query.

  Fewer than k blocks are found only where there are no more: leaves are
  searched until there are enough.

  Args:
    searched: searcher and changes.
    query_embeds: [batch, embed_dim] float32, finite.
    k: at least 1.
    num_threads: to spread a batch over.

  Returns:
    [batch, k] float32 scores and int32 ids, -inf and -1 where there is no
    block.
  """
  scores, block_ids = _search_built(searched, query_embeds, k, num_threads)
  if len(searched.changes.ids):
    changed = scann_changes.search(searched.changes, query_embeds, k)
    scores = np.concatenate([scores, changed.scores], axis=1)
    block_ids = np.concatenate([block_ids, changed.block_ids], axis=1)
  return _best(scores, block_ids, k)


def embeds(searched: Searched, block_ids: np.ndarray) -> np.ndarray:
  """Embeddings of blocks: [..., embed_dim] float32; zeros where there is none.

  Args:
    searched: searcher and changes.
    block_ids: [...] int.
  """
  rows = searched.snapshot.block_embeds
  inside = (block_ids >= 0) & (block_ids < len(rows))
  found = np.array(rows[np.where(inside, block_ids, 0)], np.float32)
  found[~inside] = 0
  return scann_changes.lay_over(searched.changes, block_ids, found)


def _search_built(
  searched: Searched, query_embeds: np.ndarray, k: int, num_threads: int
) -> tuple[np.ndarray, np.ndarray]:
  """At least k usable blocks of the searcher, or all it has.

  Returns:
    [batch, any number] scores and ids; scores are -inf at what is not usable.
  """
  changes, num_built = searched.changes, searched.num_built
  num_usable = changes.num_usable
  wanted = min(k, num_usable)
  fetched = k + min(num_built - num_usable, k)
  effort = 1
  while True:
    fetched = min(fetched, num_built)
    block_ids, scores, is_all = _fetch(
      searched, query_embeds, fetched, effort, num_threads
    )
    missing = np.isnan(scores)
    if num_usable < num_built:
      missing |= ~changes.usable[block_ids]
    scores = np.where(missing, -np.inf, scores)
    if is_all or ((~missing).sum(axis=1) >= wanted).all():
      break
    fetched, effort = 2 * fetched, 2 * effort
  return scores, block_ids


def _fetch(
  searched: Searched,
  query_embeds: np.ndarray,
  fetched: int,
  effort: int,
  num_threads: int,
) -> tuple[np.ndarray, np.ndarray, bool]:
  """ScaNN's ids and scores, NaN where none; and whether these are all."""
  num_built = searched.num_built
  settings = _settings_for(num_built, fetched, searched.config)
  options: dict[str, int] = {'final_num_neighbors': fetched}
  is_all = fetched == num_built
  if settings.num_leaves:
    leaves = min(effort * settings.leaves_to_search, settings.num_leaves)
    # With SOAR all blocks are met twice.
    reorder = min(effort * settings.reorder, 2 * num_built)
    is_all &= leaves == settings.num_leaves and reorder == 2 * num_built
    options.update(leaves_to_search=leaves, pre_reorder_num_neighbors=reorder)
  part = -(-len(query_embeds) // num_threads)
  if part == len(query_embeds):
    found = searched.searcher.search_batched(query_embeds, **options)
  else:
    found = searched.searcher.search_batched_parallel(
      query_embeds, **options, batch_size=min(part, _MAX_PART)
    )
  return *found, is_all


def _best(scores: np.ndarray, block_ids: np.ndarray, k: int) -> SearchResult:
  """Sorts, and cuts or fills up to k: see search.

  Args:
    scores: [batch, any number] float32; -inf at what is no block.
    block_ids: [batch, any number] int.
    k: blocks a query.
  """
  order = np.lexsort((block_ids, -scores))[:, :k]
  # Quicker than take_along_axis, which a single query would notice.
  rows = np.arange(len(scores))[:, None]
  scores, block_ids = scores[rows, order], block_ids[rows, order]
  block_ids = block_ids.astype(np.int32)
  block_ids[np.isneginf(scores)] = NULL_BLOCK_ID
  short = ((0, 0), (0, k - scores.shape[1]))
  if short[1][1]:
    scores = np.pad(scores, short, constant_values=-np.inf)
    block_ids = np.pad(block_ids, short, constant_values=NULL_BLOCK_ID)
  return SearchResult(scores, block_ids)
