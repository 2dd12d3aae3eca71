"""What a search is compared with: this library's forms, and other programs."""

import resource
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import jax
import numpy as np

from realm_jax.errors import UserError
from realm_jax.index.audit import share_found
from realm_jax.index.exact_index import ExactIndex
from realm_jax.index.group_maxima import Queries, score_rows
from realm_jax.index.memory import check_free, free_host_bytes
from realm_jax.index.snapshot import Snapshot
from realm_jax.index.table import table_bytes
from realm_jax.optional import require
from realm_jax.types import Array

# Below this, FAISS multiplies without a matrix product; its own default is far
# too high for a few hundred queries (faiss#5109).
_FAISS_BLAS_THRESHOLD = 800


class Contender(NamedTuple):
  """Something that searches.

  Attributes:
    search: (query_embeds, k) -> ids of the best blocks, [batch, k].
    memory_bytes: what it takes, the embeddings included, as far as it is known.
    holds_scores: whether it makes all scores of a batch at a time.
    itemsize: bytes of a number that it reads for every query.
  """

  search: Callable[[Array, int], Array]
  memory_bytes: int | None
  holds_scores: bool = False
  itemsize: int = 4


def _exact(dtype: str) -> Callable[[np.ndarray], Contender]:
  def build(block_embeds: np.ndarray) -> Contender:
    index = ExactIndex(Snapshot(block_embeds), dtype=dtype)
    return Contender(
      lambda query_embeds, k: index.search(query_embeds, k).block_ids,
      table_bytes(index.capacity, index.embed_dim, dtype, rescore=True),
      itemsize=index.table.rows.dtype.itemsize,
    )

  return build


def _top_k(block_embeds: np.ndarray) -> Contender:
  """The straightforward form, as REALM's and Atlas's code has it."""
  table = ExactIndex(Snapshot(block_embeds)).table.rows

  def search(query_embeds: Array, table: Array, k: int) -> Array:
    scores = score_rows(Queries(query_embeds), table, None)
    return jax.lax.top_k(scores.T, k)[1]

  jitted = jax.jit(search, static_argnames='k')
  return Contender(
    lambda query_embeds, k: jitted(query_embeds, table, k),
    block_embeds.nbytes,
    holds_scores=True,
  )


def _numpy(block_embeds: np.ndarray) -> Contender:
  def search(query_embeds: Array, k: int) -> np.ndarray:
    scores = np.asarray(query_embeds) @ block_embeds.T
    found = np.argpartition(scores, -k, axis=1)[:, -k:]
    order = np.argsort(-np.take_along_axis(scores, found, axis=1), axis=1)
    return np.take_along_axis(found, order, axis=1)

  return Contender(search, block_embeds.nbytes, holds_scores=True)


def _import_faiss(block_embeds: np.ndarray) -> ModuleType:
  """FAISS, if there is memory for its copy of the embeddings."""
  faiss = require('faiss', 'bench')
  check_free(
    block_embeds.nbytes,
    free_host_bytes(),
    'Its copy of the embeddings',
    'Measure it alone, with --method, or fewer blocks.',
  )
  return faiss


def _faiss_flat(block_embeds: np.ndarray) -> Contender:
  faiss = _import_faiss(block_embeds)
  faiss.cvar.distance_compute_blas_threshold = _FAISS_BLAS_THRESHOLD
  index = faiss.IndexFlatIP(block_embeds.shape[1])
  index.add(np.ascontiguousarray(block_embeds))
  return Contender(
    lambda query_embeds, k: index.search(np.asarray(query_embeds), k)[1],
    block_embeds.nbytes,
  )


def _faiss_ivf(block_embeds: np.ndarray) -> Contender:
  """Clusters, of which 32 are searched: recall@8 above 0.99 on 1M blocks."""
  faiss = _import_faiss(block_embeds)
  num_blocks, embed_dim = block_embeds.shape
  num_lists = 1 << max(1, round(np.log2(4 * np.sqrt(num_blocks))))
  num_lists = max(1, min(num_lists, num_blocks // 40))
  index = faiss.index_factory(
    embed_dim, f'IVF{num_lists},Flat', faiss.METRIC_INNER_PRODUCT
  )
  rows = np.ascontiguousarray(block_embeds)
  index.train(rows[: 64 * num_lists])
  index.add(rows)
  index.nprobe = min(32, num_lists)
  return Contender(
    lambda query_embeds, k: index.search(np.asarray(query_embeds), k)[1],
    block_embeds.nbytes,
  )


def _scann(block_embeds: np.ndarray) -> Contender:
  from realm_jax.index.scann_index import ScannIndex

  before = _peak_bytes()
  index = ScannIndex(Snapshot(block_embeds))
  return Contender(
    lambda query_embeds, k: index.search(query_embeds, k).block_ids,
    _peak_bytes() - before,
  )


METHODS: dict[str, Callable[[np.ndarray], Contender]] = {
  'exact float32': _exact('float32'),
  'exact bfloat16': _exact('bfloat16'),
  'exact int8': _exact('int8'),
  'matmul + top_k': _top_k,
  'numpy': _numpy,
  'faiss flat': _faiss_flat,
  'faiss ivf': _faiss_ivf,
  'scann': _scann,
}


class Built(NamedTuple):
  """A contender, what its making took, or why there is none."""

  contender: Contender | None
  build_seconds: float = 0.0
  reason: str = ''


def build(method: str, block_embeds: np.ndarray) -> Built:
  """Makes a contender, if what it needs is installed and there is memory."""
  start = time.perf_counter()
  try:
    contender = METHODS[method](block_embeds)
  except (ImportError, UserError) as error:
    return Built(None, reason=str(error))
  return Built(contender, time.perf_counter() - start)


def fits(contender: Contender, batch: int, num_blocks: int) -> bool:
  """Whether there is memory for the scores of a batch, several times over."""
  free = free_host_bytes()
  needed = 3 * 4 * batch * num_blocks
  return not contender.holds_scores or free is None or needed <= free


def recall(
  found_ids: Array,
  exact_ids: np.ndarray,
  query_embeds: np.ndarray,
  block_embeds: np.ndarray,
) -> float:
  """Share of the best blocks that were found.

  By their scores, as index.audit counts them: which of two equal blocks a
  search takes is chance.

  Args:
    found_ids: [num_queries, k] int; -1 for none.
    exact_ids: [num_queries, k] int; what exact_top found.
    query_embeds: [num_queries, embed_dim] float32.
    block_embeds: [num_blocks, embed_dim] float32.
  """
  found_ids = np.asarray(found_ids)
  queries = query_embeds.astype(np.float64)
  scores, best = (
    np.einsum('bd,bkd->bk', queries, block_embeds[np.maximum(ids, 0)])
    for ids in (found_ids, exact_ids)
  )
  # In float64, within what a search in float32 rounds away.
  return share_found(found_ids, scores, best, tolerance=1e-6)


def _peak_bytes() -> int:
  unit = 1 if sys.platform == 'darwin' else 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
