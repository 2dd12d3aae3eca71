"""An exact index: a table on the devices that is searched, changed, swapped."""

import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from realm_jax.index import exact
from realm_jax.index.api import (
  check_block_ids,
  check_finite,
  check_fits,
  check_k,
  check_queries,
  check_rows,
  check_width,
)
from realm_jax.index.memory import check_free, free_device_bytes
from realm_jax.index.snapshot import (
  Snapshot,
  as_snapshot,
  load_snapshot,
  save_snapshot,
)
from realm_jax.index.table import (
  check_dtype,
  is_aliased,
  make_table,
  padded_capacity,
  set_live,
  table_bytes,
  take_rows,
  write_rows,
)
from realm_jax.types import NULL_BLOCK_ID, Array, SearchResult

_Method = TypeVar('_Method', bound=Callable)


def _in_turn(method: _Method) -> _Method:
  """A method that waits while another thread is within one of the same index.

  A search is sent off, not waited for: JAX keeps what it reads.
  """

  @functools.wraps(method)
  def wait_and_call(self, *args, **kwargs):
    with self._lock:
      return method(self, *args, **kwargs)

  return wait_and_call  # type: ignore[return-value]


class ExactIndex:
  """Block embeddings on the devices: see api.Index for what it can do.

  Nothing but a first search of a batch size and k, and a first change of rows,
  compiles: what is added, removed, updated or swapped within the capacity is
  seen by the next search as it is.

  Any number of threads may search, also while another one changes the index;
  they wait while it does.

  Attributes:
    capacity: rows of the table.
    embed_dim: width of the embeddings.
    index_step: training step of the parameters that made the embeddings.
    table: what is searched; an argument for exact.search within a jitted
      function. Any change of the index replaces it and gives it up, whoever
      else has it.
    live: [capacity] bool; whether a row holds a block.
    mesh: whose devices the table is spread over; None for one device.
  """

  searches_on_device = True

  def __init__(
    self,
    blocks: Snapshot | Array,
    *,
    capacity: int | None = None,
    dtype: str = 'float32',
    rescore: bool = True,
    mesh: Mesh | None = None,
    allow_fewer: bool = False,
    recall_target: float = 1.0,
    min_k: int = 1,
  ):
    """Puts blocks on the devices.

    Args:
      blocks: a snapshot, or [num_blocks, embed_dim] float embeddings.
      capacity: rows to make room for; None for as many as there are. On one
        CPU a memory-mapped snapshot is not copied where there is no more room
        than blocks.
      dtype: of the table that is read whole in a search: 'float32', 'bfloat16'
        or 'int8'.
      rescore: with a smaller dtype, keep the rows in float32 as well, and score
        those that were found with them: recall is then above 0.999, for half
        as much again (bfloat16) or a quarter more (int8) than a table of
        float32 takes.
      mesh: spread the rows over all devices of a mesh.
      allow_fewer: where there are fewer than k blocks, fill up with id -1
        rather than refuse.
      recall_target: see search_plan.plan_search.
      min_k: refuse now if there are fewer blocks, rather than when k of them
        are asked for.

    Raises:
      UserError: no blocks, fewer than min_k, more than capacity, or more than
        the devices have memory for; an embedding is not finite.
    """
    snapshot = as_snapshot(blocks)
    num_rows, self.embed_dim = snapshot.block_embeds.shape
    check_dtype(dtype)
    check_fits(num_rows, capacity or num_rows)
    self.mesh = mesh
    self.capacity = padded_capacity(capacity or num_rows, mesh)
    self._dtype = dtype
    self._rescore = rescore
    self._allow_fewer = allow_fewer
    self._recall_target = recall_target
    self._owns_table = False
    self._lock = threading.RLock()
    self.swap(snapshot)
    if not allow_fewer:
      check_k(min_k, self.num_blocks)

  def _check_memory(self) -> None:
    """Refuses a table that does not fit where it is to be put.

    There is room for it where there is one of its own already, which goes.
    """
    if self._owns_table:
      return
    own = self.mesh.local_devices if self.mesh else jax.local_devices()[:1]
    num_devices = self.mesh.size if self.mesh else 1
    needed = table_bytes(
      self.capacity, self.embed_dim, self._dtype, self._rescore
    )
    if own[0].platform == 'cpu':
      # Simulated devices of a process share one memory.
      num_devices //= len(own)
    check_free(
      needed // num_devices,
      free_device_bytes(own[0]),
      f'A table of {self.capacity:,} embeddings of width {self.embed_dim} '
      f'({self._dtype}) on each of {num_devices} devices',
      "Take dtype 'bfloat16' or 'int8' without rescoring (IndexConfig), more "
      'devices, or a ScaNN index.',
    )

  @property
  def num_blocks(self) -> int:
    """How many blocks can be found."""
    return self._num_blocks

  @_in_turn
  def swap(self, snapshot: Snapshot) -> None:
    """See Index.swap."""
    snapshot = as_snapshot(snapshot)
    check_width('block_embeds', snapshot.block_embeds, self.embed_dim)
    num_rows = snapshot.block_embeds.shape[0]
    check_fits(num_rows, self.capacity)
    aliased = is_aliased(
      snapshot.block_embeds, self.capacity, self._dtype, self.mesh
    )
    if not aliased:
      self._check_memory()
    check_finite(snapshot.block_embeds)
    live = np.zeros(self.capacity, bool)
    live[:num_rows] = True if snapshot.live is None else snapshot.live
    # Given up first: there may be no room for two.
    self.__dict__.pop('table', None)
    self.table = make_table(
      snapshot.block_embeds,
      live,
      self.capacity,
      self._dtype,
      self._rescore,
      self.mesh,
    )
    self._owns_table = not aliased
    self.live = live
    self._num_blocks = int(np.count_nonzero(live))
    self._num_rows = num_rows
    self._snapshot = snapshot._replace(block_embeds=None, live=None)

  @property
  def index_step(self) -> int:
    """Training step of the parameters that made the embeddings."""
    return self._snapshot.index_step

  @_in_turn
  def search(self, query_embeds: Array, k: int) -> SearchResult:
    """See Index.search."""
    check_queries(query_embeds, self.embed_dim)
    if not self._allow_fewer:
      check_k(k, self.num_blocks)
    found = exact.search(
      query_embeds,
      self.table,
      min(k, self.capacity),
      mesh=self.mesh,
      recall_target=self._recall_target,
    )
    if k <= self.capacity:
      return found
    missing = ((0, 0), (0, k - self.capacity))
    return SearchResult(
      jnp.pad(found.scores, missing, constant_values=-jnp.inf),
      jnp.pad(found.block_ids, missing, constant_values=NULL_BLOCK_ID),
    )

  @_in_turn
  def update(self, block_ids: Array, block_embeds: Array) -> None:
    """See Index.update."""
    block_ids = check_block_ids(block_ids, self.live)
    self._write(block_ids, np.asarray(block_embeds))

  @_in_turn
  def add(self, block_embeds: Array) -> np.ndarray:
    """See Index.add."""
    block_embeds = np.asarray(block_embeds)
    check_width('block_embeds', block_embeds, self.embed_dim)
    num_rows = self._num_rows + len(block_embeds)
    check_fits(num_rows, self.capacity)
    block_ids = np.arange(self._num_rows, num_rows, dtype=np.int32)
    self._write(block_ids, block_embeds)
    self._set_live(block_ids, True)
    self._num_rows = num_rows
    return block_ids

  @_in_turn
  def remove(self, block_ids: Array) -> None:
    """See Index.remove."""
    block_ids = check_block_ids(block_ids, self.live)
    self._set_live(block_ids, False)

  def _write(self, block_ids: np.ndarray, block_embeds: np.ndarray) -> None:
    check_rows(block_ids, block_embeds, self.embed_dim)
    # The first write to a table that is a file copies it.
    self._check_memory()
    self._owns_table = True
    # Digests are of the texts that the old rows were embedded from.
    self._snapshot = self._snapshot._replace(block_digests=None)
    self.table = write_rows(self.table, block_ids, block_embeds, self.mesh)

  def _set_live(self, block_ids: np.ndarray, live: bool) -> None:
    self.live[block_ids] = live
    self._num_blocks = int(np.count_nonzero(self.live))
    self.table = set_live(self.table, self.live, self.mesh)

  @_in_turn
  def embeds(self, block_ids: Array) -> jax.Array:
    """See Index.embeds."""
    return take_rows(self.table, np.asarray(block_ids), self.mesh)

  @_in_turn
  def save(self, folder: Path) -> None:
    """See Index.save."""
    live = self.live[: self._num_rows]
    save_snapshot(
      folder,
      self._snapshot._replace(
        block_embeds=np.asarray(self.embeds(np.arange(self._num_rows))),
        live=None if live.all() else live,
      ),
    )

  @classmethod
  def load(
    cls, folder: Path, corpus_fingerprint: str | None, **options: Any
  ) -> 'ExactIndex':
    """See Index.load; any snapshot will do."""
    return cls(load_snapshot(folder, corpus_fingerprint), **options)
