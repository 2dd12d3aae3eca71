"""What decides, at every step, which block embeddings are searched."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from realm_jax import hosts
from realm_jax.folders import is_whole
from realm_jax.index.retriever import Retriever
from realm_jax.index.snapshot import Snapshot, load_snapshot
from realm_jax.refresh.served import Served, ServedLog
from realm_jax.refresh.snapshots import SnapshotMaker
from realm_jax.train.run_folder import prune_snapshots, snapshot_folder
from realm_jax.types import TextInputs

_OVERLAP_K = 8


class Refresher:
  """Keeps the first index, or follows the log where that goes on: see served.

  The other ways to refresh are made of this one. All are called between steps,
  and make their first snapshot before the first.

  Attributes:
    every: steps between calls of `refresh`; 0 for none.
    at_end: call it after the last step too.
    queries: of the last batch; what an overlap is measured with.
  """

  every = 0
  at_end = False

  def __init__(
    self,
    folder: Path,
    retriever: Retriever,
    snapshots: SnapshotMaker,
    schedule: str,
    warn: Callable[[str], None] = print,
  ):
    """Opens the log of a run.

    Args:
      folder: of the run.
      retriever: whose index is replaced.
      snapshots: makes those that training waits for.
      schedule: as the run was told, for the log.
      warn: says something to the user.
    """
    self._folder = folder
    self._retriever = retriever
    self._snapshots = snapshots
    self._schedule = schedule
    self._warn = warn
    self._log = ServedLog(folder)
    self.queries: TextInputs | None = None

  def _snapshot_folder(self, index_step: int) -> Path:
    return snapshot_folder(self._folder, index_step)

  def start(self, params: Any) -> None:
    """Makes the first index."""
    snapshot, _ = self._make(0, params)
    self._log.append(Served(0, 0, self._schedule))
    self._load(snapshot)

  def advance(self, step: int, params: Any) -> dict[str, float]:
    """Called after every step, which need not be done yet.

    Args:
      step: updates sent off; the parameters are those after them.
      params: of the model.

    Returns:
      What was measured, where something has changed.
    """
    start = time.perf_counter()
    seconds = 0.0
    if self._log.needs(step, step) and not is_whole(
      self._snapshot_folder(step)
    ):
      _, seconds = self._make(step, params)
    index_step = self._log.index_step(step)
    if index_step in (None, self._retriever.index_step):
      return {}
    snapshot, _ = self._make(index_step, params)
    return self._take_into_use(step, snapshot, params, start, seconds)

  def refresh(self, step: int, params: Any) -> dict[str, float]:
    """Called after every so many steps, when the last one is done and sound."""
    del step, params
    return {}

  def mean_age(self, step: int) -> float:
    """Steps since the embeddings that are searched were made, on average."""
    return step - self._retriever.index_step

  def position(self, step: int) -> dict[str, Any]:
    """JSON values to resume from; what is larger is in the run's folder."""
    del step
    return {'index_step': self._retriever.index_step}

  def resume(self, position: dict[str, Any], step: int, params: Any) -> None:
    """Goes back to a position.

    Args:
      position: what `position` returned.
      step: updates done.
      params: after them.
    """
    del step, params
    folder = self._snapshot_folder(position['index_step'])
    corpus = self._retriever.corpus
    self._load(load_snapshot(folder, corpus.fingerprint))

  def prune(self, oldest: dict[str, Any]) -> None:
    """Deletes what no position from `oldest` on needs.

    Later ones never go back to an older snapshot, nor does the log.
    """
    if not hosts.is_first():
      return
    prune_snapshots(self._folder, oldest['index_step'])

  def close(self) -> None:
    """Ends what runs in the background."""

  def _make(self, index_step: int, params: Any) -> tuple[Snapshot, float]:
    """The snapshot of a step, and the seconds it took if it was not there."""
    folder = self._snapshot_folder(index_step)
    return self._snapshots.snapshot(folder, params, index_step)

  def _load(self, snapshot: Snapshot) -> None:
    """Searches a snapshot, with nothing said of it in the log."""
    self._retriever.load(snapshot)

  def _take_into_use(
    self,
    step: int,
    snapshot: Snapshot,
    params: Any,
    start: float,
    seconds: float | None,
  ) -> dict[str, float]:
    """Searches another snapshot from now on.

    Args:
      step: updates done.
      snapshot: to search.
      params: to embed the queries with that are searched before and after.
      start: time.perf_counter() since when training stands still.
      seconds: that it took to make the snapshot; None where others made it.
    """
    age = step - self._retriever.index_step
    before = self._nearest(params)
    self._log.append(Served(step, snapshot.index_step))
    self._load(snapshot)
    after = self._nearest(params)
    metrics: dict[str, float] = {'refresh_age': age}
    if seconds is not None:
      metrics['refresh_seconds'] = seconds
    if before is not None and after is not None:
      metrics['index_overlap'] = overlap(before, after)
    metrics['refresh_wait_seconds'] = time.perf_counter() - start
    return metrics

  def _nearest(self, params: Any) -> np.ndarray | None:
    """[batch, k] ids for the last batch's queries in the index as it is."""
    if self.queries is None:
      return None
    found = self._retriever.retrieve(params, self.queries, _OVERLAP_K)
    return found.block_ids


def overlap(before: np.ndarray, after: np.ndarray) -> float:
  """Share of the blocks found for each query that were found before.

  Args:
    before: [batch, k] ids, those of a row all different.
    after: the same.
  """
  same = (before[:, :, None] == after[:, None, :]).any(axis=2)
  return float(same.mean())
