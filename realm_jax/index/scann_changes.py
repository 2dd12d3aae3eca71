"""Blocks changed since a searcher was built: scored exactly, beside it.

ScaNN can change rows itself, but might then not find what was just written,
gives a removed row's number to another, and wants a name for each row.
"""

from typing import NamedTuple

import numpy as np

from realm_jax.types import SearchResult

_SCORES_AT_ONCE = 1 << 24


class Changes(NamedTuple):
  """What differs from a searcher. Never written to: a change makes a new one.

  Attributes:
    live: [capacity] bool; whether a row holds a block.
    num_rows: rows that were ever given to a block.
    usable: [num_built] bool; whether the searcher's row is to be found as it
      is: neither removed nor updated.
    ids: [num_changed] int32, ascending; blocks whose embeddings the searcher
      does not have.
    embeds: [num_changed, embed_dim] float32; theirs.
    num_blocks: how many rows are live.
    num_usable: how many rows are usable.
  """

  live: np.ndarray
  num_rows: int
  usable: np.ndarray
  ids: np.ndarray
  embeds: np.ndarray
  num_blocks: int
  num_usable: int


def no_changes(live: np.ndarray, num_built: int, embed_dim: int) -> Changes:
  """Changes of a searcher that was just built.

  Args:
    live: [capacity] bool; rows beyond num_built are not.
    num_built: rows of the searcher.
    embed_dim: their width.
  """
  return _count(
    live,
    num_built,
    live[:num_built].copy(),
    np.zeros(0, np.int32),
    np.zeros((0, embed_dim), np.float32),
  )


def _count(
  live: np.ndarray,
  num_rows: int,
  usable: np.ndarray,
  ids: np.ndarray,
  embeds: np.ndarray,
) -> Changes:
  # Counted here, for every search wants to know, of millions of rows.
  return Changes(
    live, num_rows, usable, ids, embeds, int(live.sum()), int(usable.sum())
  )


def write(
  changes: Changes, block_ids: np.ndarray, block_embeds: np.ndarray
) -> Changes:
  """Gives rows embeddings, and blocks where they had none.

  Args:
    changes: of before.
    block_ids: [num_rows] int; of one that comes twice the last embedding holds.
    block_embeds: [num_rows, embed_dim] float.
  """
  kept = ~np.isin(changes.ids, block_ids)
  ids, last = np.unique(block_ids[::-1], return_index=True)
  ids = np.concatenate([changes.ids[kept], ids.astype(np.int32)])
  embeds = np.concatenate(
    [changes.embeds[kept], block_embeds[::-1][last].astype(np.float32)]
  )
  order = np.argsort(ids)
  live = changes.live.copy()
  live[block_ids] = True
  usable = changes.usable.copy()
  usable[block_ids[block_ids < len(usable)]] = False
  num_rows = max(changes.num_rows, int(block_ids.max(initial=-1)) + 1)
  return _count(live, num_rows, usable, ids[order], embeds[order])


def remove(changes: Changes, block_ids: np.ndarray) -> Changes:
  """Takes blocks out.

  Args:
    changes: of before.
    block_ids: [num_rows] int.
  """
  live = changes.live.copy()
  live[block_ids] = False
  usable = changes.usable & live[: len(changes.usable)]
  kept = live[changes.ids]
  return _count(
    live, changes.num_rows, usable, changes.ids[kept], changes.embeds[kept]
  )


def lay_over(
  changes: Changes, block_ids: np.ndarray, block_embeds: np.ndarray
) -> np.ndarray:
  """Embeddings of blocks, given those that the searcher has.

  Args:
    changes: since it was built.
    block_ids: [...] int.
    block_embeds: [..., embed_dim] float32; written to.
  """
  if len(changes.ids):
    places = np.searchsorted(changes.ids, block_ids)
    places = np.minimum(places, len(changes.ids) - 1)
    changed = changes.ids[places] == block_ids
    block_embeds[changed] = changes.embeds[places[changed]]
  return block_embeds


def search(changes: Changes, query_embeds: np.ndarray, k: int) -> SearchResult:
  """The best of the changed blocks, exactly; ties to the lower id.

  Args:
    changes: to search.
    query_embeds: [batch, embed_dim] float32.
    k: blocks a query.

  Returns:
    [batch, k or num_changed, if that is less] scores and ids, best first.
  """
  num_changed = len(changes.ids)
  k = min(k, num_changed)
  batch = len(query_embeds)
  places = np.zeros((batch, k), np.int64)
  best_scores = np.zeros((batch, k), np.float32)
  at_once = max(1, _SCORES_AT_ONCE // max(num_changed, 1))
  for start in range(0, batch if k else 0, at_once):
    scores = query_embeds[start : start + at_once] @ changes.embeds.T
    # [at_once]; of all that tie with the k-th best the first are taken.
    worst = np.partition(scores, num_changed - k, axis=1)[:, num_changed - k]
    for row, (of_query, least) in enumerate(
      zip(scores, worst, strict=True), start
    ):
      candidates = np.flatnonzero(of_query >= least)
      order = np.argsort(-of_query[candidates], kind='stable')[:k]
      places[row] = candidates[order]
      best_scores[row] = of_query[places[row]]
  return SearchResult(best_scores, changes.ids[places])
