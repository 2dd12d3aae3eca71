"""Recall of the index in use, measured against an exact search.

An oracle of its own: numpy, over the embeddings that the index says it has.
"""

import numpy as np

from realm_jax.index.api import Index
from realm_jax.types import NULL_BLOCK_ID, Array, SearchResult

_CHUNK_SIZE = 65_536


def exact_scores(index: Index, query_embeds: Array, k: int) -> np.ndarray:
  """The k best scores of each query by a full scan: [batch, k] float32.

  -inf where there are fewer than k blocks.
  """
  query_embeds = np.asarray(query_embeds, np.float32)
  best = np.full((len(query_embeds), k), -np.inf, np.float32)
  for start in range(0, index.capacity, _CHUNK_SIZE):
    # All of them, so that removing some compiles nothing.
    rows = np.arange(start, min(start + _CHUNK_SIZE, index.capacity))
    scores = query_embeds @ np.asarray(index.embeds(rows)).T
    scores = np.where(index.live[rows], scores, -np.inf)
    both = np.concatenate([best, scores], axis=1)
    best = -np.partition(-both, k - 1, axis=1)[:, :k]
  return best


def recall_at_k(
  index: Index, query_embeds: Array, found: SearchResult
) -> float:
  """Share of the k best blocks of each query that were found.

  A block counts by its own exact score, so that among equal ones any will do.

  Args:
    index: what was searched, unchanged since.
    query_embeds: [batch, embed_dim] float.
    found: [batch, k]; what the index returned for them.
  """
  query_embeds = np.asarray(query_embeds, np.float32)
  block_ids = np.asarray(found.block_ids)
  best = exact_scores(index, query_embeds, block_ids.shape[1])
  embeds = np.asarray(index.embeds(block_ids))
  scores = np.einsum('bd,bkd->bk', query_embeds, embeds)
  return share_found(block_ids, scores, best)


def share_found(
  block_ids: np.ndarray,
  scores: np.ndarray,
  best: np.ndarray,
  tolerance: float = 1e-5,
) -> float:
  """Share of the best scores that blocks found reach.

  Args:
    block_ids: [batch, k] int; NULL_BLOCK_ID for none. One that is there twice
      counts once.
    scores: [batch, k] float; of these blocks.
    best: [batch, k] float; -inf where there are fewer blocks.
    tolerance: relative; sums in another order differ by their rounding.
  """
  wanted = np.isfinite(best)
  largest = np.abs(best).max(axis=1, where=wanted, initial=0)
  worst = np.min(best, axis=1, where=wanted, initial=np.inf)
  least = (worst - tolerance * largest)[:, None]
  right = (block_ids != NULL_BLOCK_ID) & (scores >= least)
  num_right = sum(
    len(np.unique(row[mask]))
    for row, mask in zip(block_ids, right, strict=True)
  )
  return num_right / max(int(wanted.sum()), 1)


class Audit:
  """Measures every so many searches, on some of their queries."""

  def __init__(self, every: int, num_queries: int = 16):
    """Keeps its arguments.

    Args:
      every: searches from one measurement to the next; 0 for none.
      num_queries: of a batch; a measurement reads all embeddings.
    """
    self._every = every
    self._num_queries = num_queries
    self._num_searches = 0

  def __call__(
    self, index: Index, query_embeds: Array, found: SearchResult
  ) -> float | None:
    """Recall at k of this search, if it is one to measure."""
    self._num_searches += 1
    if not self._every or (self._num_searches - 1) % self._every:
      return None
    some = slice(self._num_queries)
    return recall_at_k(
      index,
      query_embeds[some],
      SearchResult(found.scores[some], found.block_ids[some]),
    )
