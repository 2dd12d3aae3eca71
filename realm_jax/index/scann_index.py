"""An approximate index on the host: ScaNN, for corpora that exact is slow for.

    index = ScannIndex(snapshot, ScannConfig())
    scores, block_ids = index.search(query_embeds, k=8)

    index.begin_swap(newer)        # a worker process builds;
    index.search(query_embeds, 8)  # the old one is searched meanwhile
    index.finish_swap()            # waits for the worker, then loads

Which blocks are found is approximate; their scores are exact. What was updated
or added is searched exactly until the next swap: where it has become a tenth of
the corpus or so, swap.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from realm_jax.data.pool import num_cores
from realm_jax.errors import UserError
from realm_jax.index import scann_changes
from realm_jax.index.api import (
  check_block_ids,
  check_finite,
  check_fits,
  check_k,
  check_queries,
  check_rows,
  check_width,
)
from realm_jax.index.memory import check_free, free_host_bytes
from realm_jax.index.scann_build import import_scann, needed_bytes
from realm_jax.index.scann_saved import (
  build_exact,
  load_saved,
  open_searcher,
  save_index,
)
from realm_jax.index.scann_search import Searched, embeds, search
from realm_jax.index.scann_settings import ScannConfig, settings_for
from realm_jax.index.scann_worker import Worker
from realm_jax.index.snapshot import Snapshot, as_snapshot
from realm_jax.types import Array, SearchResult


class ScannIndex:
  """Block embeddings that ScaNN searches: see api.Index for what it can do.

  Any number of threads may search, also while another one changes the index.
  TensorFlow is not imported.

  Attributes:
    capacity: largest number of blocks; see __init__.
    embed_dim: width of the embeddings.
    config: as given, or as tuned.
  """

  searches_on_device = False

  def __init__(
    self,
    blocks: Snapshot | Array,
    config: ScannConfig | None = None,
    *,
    capacity: int | None = None,
    allow_fewer: bool = False,
    min_k: int = 1,
    searcher_folder: Path | None = None,
  ):
    """Builds a searcher in a worker process and waits for it.

    Args:
      blocks: a snapshot, or [num_blocks, embed_dim] float embeddings.
      config: None for settings by the size of the corpus.
      capacity: blocks to allow for; None for as many as there are.
      allow_fewer: where there are fewer than k blocks, fill up with id -1
        rather than refuse.
      min_k: refuse now if there are fewer blocks.
      searcher_folder: a searcher of these blocks, to take rather than build;
        `load` gives it.

    Raises:
      ImportError: ScaNN is not installed.
      UserError: no blocks, fewer than min_k, more than capacity, or more than
        there is memory for; an embedding is not finite.
      RuntimeError: the worker failed.
    """
    import_scann()
    snapshot = as_snapshot(blocks)
    num_rows, self.embed_dim = snapshot.block_embeds.shape
    self.capacity = capacity or num_rows
    self.config = config or ScannConfig()
    self._allow_fewer = allow_fewer
    self._swap: tuple[Snapshot, Worker | None] | None = None
    if searcher_folder is None:
      self.swap(snapshot)
    else:
      check_fits(num_rows, self.capacity)
      self._check_memory(num_rows)
      self._use(
        open_searcher(searcher_folder, snapshot, self.config, self.capacity)
      )
    if not allow_fewer:
      check_k(min_k, self.num_blocks)

  @property
  def num_blocks(self) -> int:
    """How many blocks can be found."""
    return self._searched.changes.num_blocks

  @property
  def index_step(self) -> int:
    """Training step of the parameters that made the embeddings."""
    return self._searched.snapshot.index_step

  @property
  def live(self) -> np.ndarray:
    """[capacity] bool; whether a row holds a block."""
    return self._searched.changes.live

  @property
  def num_changed(self) -> int:
    """Blocks updated or added since the last swap: searched one by one."""
    return len(self._searched.changes.ids)

  # Swapping.

  def swap(self, snapshot: Snapshot) -> None:
    """See Index.swap; builds in a worker process and waits for it.

    Raises:
      UserError: as in Index.swap; or there is not enough memory.
      RuntimeError: the worker failed.
    """
    self.begin_swap(snapshot)
    self.finish_swap()

  def begin_swap(self, snapshot: Snapshot) -> None:
    """Starts to build a searcher of a snapshot in a worker process.

    The old one is searched, and may be changed, until finish_swap; what was
    changed goes with it. The snapshot must stay as it is until then.

    Raises:
      UserError: it does not fit, an embedding is not finite, there is not
        enough memory, or another swap is going on.
    """
    if self._swap is not None:
      raise UserError(
        'A swap is going on: expected finish_swap or cancel_swap before '
        'another one begins.'
      )
    snapshot = as_snapshot(snapshot)
    check_width('block_embeds', snapshot.block_embeds, self.embed_dim)
    num_rows = len(snapshot.block_embeds)
    check_fits(num_rows, self.capacity)
    check_finite(snapshot.block_embeds)
    self._check_memory(num_rows, times=2)
    is_exact = not settings_for(num_rows, 1, self.config).num_leaves
    worker = None if is_exact else Worker(snapshot, self.config)
    self._swap = snapshot, worker

  def finish_swap(self, wait: bool = True) -> bool:
    """Searches what the worker built from now on.

    Loading takes some two seconds for a million blocks, in which Python's
    other threads stand still, and memory for both searchers.

    Args:
      wait: for the worker; else only look whether it is done.

    Returns:
      Whether the swap is done. False only if it is still going on.

    Raises:
      UserError: no swap is going on, or the worker says what is to be mended.
      RuntimeError: the worker failed. The old searcher stays in use, and no
        swap is going on any more.
    """
    if self._swap is None:
      raise UserError('No swap is going on: expected begin_swap before.')
    snapshot, worker = self._swap
    if worker is not None and not wait and worker.is_running():
      return False
    try:
      if worker is None:
        searched = build_exact(snapshot, self.config, self.capacity)
      else:
        folder = worker.result()
        self._check_memory(len(snapshot.block_embeds))
        searched = open_searcher(
          folder, snapshot, self.config, self.capacity, verify=False
        )
      self._use(searched)
    finally:
      self.cancel_swap()
    return True

  def cancel_swap(self) -> None:
    """Ends the worker, if there is one; the old searcher stays in use."""
    if self._swap is not None and self._swap[1] is not None:
      self._swap[1].end()
    self._swap = None

  def _check_memory(self, num_rows: int, times: int = 1) -> None:
    """Refuses a searcher for which, `times` over, there is no memory."""
    settings = settings_for(num_rows, 1, self.config)
    needed = needed_bytes(num_rows, self.embed_dim, settings)
    check_free(
      times * needed if settings.num_leaves else needed,
      free_host_bytes(),
      f'A ScaNN index of {num_rows:,} embeddings of width {self.embed_dim}',
      'Free memory, embed in fewer dimensions, or take an exact index '
      "(IndexConfig.kind 'exact') over several devices.",
    )

  def _use(self, searched: Searched) -> None:
    searched.searcher.set_num_threads(self._num_threads)
    self._searched = searched

  @property
  def _num_threads(self) -> int:
    return self.config.search_threads or num_cores()

  # Searching.

  def search(self, query_embeds: Array, k: int) -> SearchResult:
    """See Index.search; a batch is spread over search_threads.

    Fewer than k blocks are found only where there are no more. Those that tie
    for the last place go by their ids where all rows are scored, that is under
    scann_settings.MAX_EXACT_BLOCKS; else only among the ones that were found.
    """
    searched = self._searched
    query_embeds = np.ascontiguousarray(query_embeds, np.float32)
    check_queries(query_embeds, self.embed_dim)
    if k < 1:
      raise UserError(f'k is {k}, expected at least 1.')
    if not self._allow_fewer:
      check_k(k, searched.changes.num_blocks)
    if not len(query_embeds):
      return SearchResult(
        np.zeros((0, k), np.float32), np.zeros((0, k), np.int32)
      )
    return search(searched, query_embeds, k, self._num_threads)

  def tune(self, leaves_to_search: int = 0, reorder: int = 0) -> None:
    """Searches with other settings from now on, without building anything.

    Args:
      leaves_to_search: see ScannConfig; 0 by the size of the corpus.
      reorder: likewise.
    """
    searched = self._searched
    tuned, self.config = (
      dataclasses.replace(
        config, leaves_to_search=leaves_to_search, reorder=reorder
      )
      for config in (searched.config, self.config)
    )
    self._searched = searched._replace(config=tuned)

  # Changing.

  def update(self, block_ids: Array, block_embeds: Array) -> None:
    """See Index.update."""
    block_ids = check_block_ids(block_ids, self.live)
    self._write(block_ids, np.asarray(block_embeds))

  def add(self, block_embeds: Array) -> np.ndarray:
    """See Index.add."""
    block_embeds = np.asarray(block_embeds)
    check_width('block_embeds', block_embeds, self.embed_dim)
    start = self._searched.changes.num_rows
    stop = start + len(block_embeds)
    check_fits(stop, self.capacity)
    block_ids = np.arange(start, stop, dtype=np.int32)
    self._write(block_ids, block_embeds)
    return block_ids

  def remove(self, block_ids: Array) -> None:
    """See Index.remove."""
    block_ids = check_block_ids(block_ids, self.live)
    changes = scann_changes.remove(self._searched.changes, block_ids)
    self._searched = self._searched._replace(changes=changes)

  def _write(self, block_ids: np.ndarray, block_embeds: np.ndarray) -> None:
    check_rows(block_ids, block_embeds, self.embed_dim)
    changes = scann_changes.write(
      self._searched.changes, block_ids, block_embeds
    )
    self._searched = self._searched._replace(changes=changes)

  def embeds(self, block_ids: Array) -> np.ndarray:
    """See Index.embeds; zeros where there never was a block."""
    return embeds(self._searched, np.asarray(block_ids))

  # Saving.

  def save(self, folder: Path) -> None:
    """Writes a snapshot, for any index, and the searcher, for `load`.

    Takes twice the space of a snapshot.

    Raises:
      UserError: the index reads its embeddings from that folder.
    """
    save_index(Path(folder), self._searched)

  @classmethod
  def load(
    cls,
    folder: Path,
    corpus_fingerprint: str | None,
    config: ScannConfig | None = None,
    **options: Any,
  ) -> 'ScannIndex':
    """Opens what `save` wrote, without building.

    Args:
      folder: given to save.
      corpus_fingerprint: of the corpus that is to be searched; None for any.
      config: how to search, and to build at the next swap.
      **options: as in __init__: capacity, allow_fewer, min_k.

    Raises:
      FileNotFoundError: there is no whole saved index.
      UserError: it is damaged, or of another corpus.
    """
    snapshot, searcher_folder = load_saved(Path(folder), corpus_fingerprint)
    return cls(snapshot, config, searcher_folder=searcher_folder, **options)
