"""Found block ids -> the candidates that the reader sees.

Plain numpy on the host: the index only chooses, no gradient passes here.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from realm_jax.data.corpus import Corpus
from realm_jax.types import NULL_BLOCK_ID

# Search for so many more blocks than are shown, so that after the source block,
# duplicates and near duplicates are gone enough are left.
SPARE_BLOCKS = 4


class Candidates(NamedTuple):
  """Documents chosen for a batch of queries.

  Attributes:
    block_ids: [batch, num_candidates] int32; slot 0 is the null document, -1;
      slots without a document are -1 as well.
    mask: [batch, num_candidates] int32; 0 at slots without a document.
    num_source: how often the source block was found and dropped.
    num_duplicates: blocks dropped since an equal one ranked higher.
    num_near_duplicates: blocks dropped since they contain the query.
    num_empty: slots left without a document.
  """

  block_ids: np.ndarray
  mask: np.ndarray
  num_source: int
  num_duplicates: int
  num_near_duplicates: int
  num_empty: int


def choose_candidates(
  found_ids: np.ndarray,
  source_block_ids: np.ndarray,
  num_candidates: int,
  content_ids: np.ndarray,
  contains_query: Callable[[int, int], bool] | None = None,
) -> Candidates:
  """Drops what must not be read and puts the null document first.

  Args:
    found_ids: [batch, k] int32, best first; -1 where there is no block.
    source_block_ids: [batch] int32; the block that each query was taken from.
      Blocks with the same content as the source are dropped with it.
    num_candidates: including the null document.
    content_ids: [num_blocks] int; equal numbers for equal title and text.
    contains_query: (row, block_id) -> whether the block contains the query's
      sentence; None keeps such blocks.

  Returns:
    The num_candidates - 1 best blocks that are left, in order.
  """
  batch = found_ids.shape[0]
  block_ids = np.full((batch, num_candidates), NULL_BLOCK_ID, np.int32)
  mask = np.zeros((batch, num_candidates), np.int32)
  mask[:, 0] = 1
  num_source = num_duplicates = num_near_duplicates = 0
  for row in range(batch):
    source_content = content_ids[source_block_ids[row]]
    seen: set[int] = set()
    slot = 1
    for block_id in found_ids[row].tolist():
      if slot == num_candidates or block_id == NULL_BLOCK_ID:
        break
      content = int(content_ids[block_id])
      if content == source_content:
        num_source += 1
      elif content in seen:
        num_duplicates += 1
      elif contains_query is not None and contains_query(row, block_id):
        num_near_duplicates += 1
      else:
        seen.add(content)
        block_ids[row, slot] = block_id
        mask[row, slot] = 1
        slot += 1
  num_empty = int(mask.size - mask.sum())
  return Candidates(
    block_ids, mask, num_source, num_duplicates, num_near_duplicates, num_empty
  )


def content_ids(corpus: Corpus) -> np.ndarray:
  """Equal numbers for blocks with equal title and text. [num_blocks] int64."""
  first: dict[tuple[str, str], int] = {}
  return np.array(
    [
      first.setdefault(
        (corpus.title(block_id), corpus.text(block_id)), block_id
      )
      for block_id in range(corpus.num_blocks)
    ]
  )
