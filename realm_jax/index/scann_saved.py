"""What a ScaNN index searches: from memory or a folder, and to a folder.

A saved index is a snapshot, which any index can take, with the searcher in a
folder inside it.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from realm_jax.errors import UserError
from realm_jax.folders import MANIFEST, file_checksum, read_manifest
from realm_jax.index import scann_changes
from realm_jax.index.scann_build import (
  KIND,
  ROWS_FILE,
  build_searcher,
  read_searcher,
  write_searcher,
)
from realm_jax.index.scann_search import Searched, embeds
from realm_jax.index.scann_settings import ScannConfig, settings_for
from realm_jax.index.snapshot import (
  Snapshot,
  finish_snapshot,
  load_snapshot,
  write_shard,
)

_SEARCHER = 'scann'
_CHANGED_FILE = 'changed_ids.npy'
_MADE_BY = 'ScannIndex.save'
_PART_SIZE = 65_536


def build_exact(
  snapshot: Snapshot, config: ScannConfig, capacity: int
) -> Searched:
  """Scores all rows: there is nothing to train."""
  # A copy, so that nobody changes what the index says it searches.
  block_embeds = np.array(snapshot.block_embeds, np.float32)
  snapshot = snapshot._replace(block_embeds=block_embeds)
  num_rows = len(block_embeds)
  searcher = build_searcher(
    block_embeds, settings_for(num_rows, 1, config), num_threads=1
  )
  return _unchanged(searcher, config, snapshot, num_rows, capacity)


def open_searcher(
  folder: Path,
  snapshot: Snapshot,
  config: ScannConfig,
  capacity: int,
  verify: bool = True,
) -> Searched:
  """Reads a searcher.

  Args:
    folder: of the searcher.
    snapshot: which it was built from, or, of a saved index, with its changes.
    config: how to search; how it was built stays.
    capacity: of the index.
    verify: see read_searcher, as for the errors.
  """
  searcher, manifest = read_searcher(folder, _MADE_BY, verify)
  num_leaves = manifest['num_leaves']
  config = dataclasses.replace(
    config,
    num_leaves=num_leaves,
    leaves_to_search=min(config.leaves_to_search, num_leaves),
    soar=manifest['soar'],
  )
  rows = snapshot.block_embeds
  if isinstance(rows, np.ndarray) and not isinstance(rows, np.memmap):
    # ScaNN's file has the same, and nobody changes it. The system keeps it
    # until it is no longer mapped.
    rows = np.load(folder / ROWS_FILE, mmap_mode='r', allow_pickle=False)
    snapshot = snapshot._replace(block_embeds=rows)
  num_built = manifest.get('num_built', len(rows))
  searched = _unchanged(searcher, config, snapshot, num_built, capacity)
  if _CHANGED_FILE not in manifest['files']:
    return searched
  changed = np.load(folder / _CHANGED_FILE, allow_pickle=False)
  changes = scann_changes.write(
    searched.changes, changed, embeds(searched, changed)
  )
  return searched._replace(changes=changes._replace(num_rows=len(rows)))


def _unchanged(
  searcher: Any,
  config: ScannConfig,
  snapshot: Snapshot,
  num_built: int,
  capacity: int,
) -> Searched:
  num_rows, embed_dim = snapshot.block_embeds.shape
  live = np.zeros(capacity, bool)
  live[:num_rows] = True if snapshot.live is None else snapshot.live
  changes = scann_changes.no_changes(live, num_built, embed_dim)
  return Searched(searcher, config, snapshot._replace(live=None), changes)


def save_index(folder: Path, searched: Searched) -> None:
  """Writes a snapshot of the blocks as they are, and the searcher.

  Takes twice the space of a snapshot.

  Raises:
    UserError: the embeddings are read from that folder.
  """
  snapshot, changes = searched.snapshot, searched.changes
  mapped = getattr(snapshot.block_embeds, 'filename', None)
  if mapped and Path(mapped).parent.resolve() == folder.resolve():
    raise UserError(
      f'{folder} holds the embeddings that the index reads. Save to another '
      'folder.'
    )
  target = folder / _SEARCHER
  target.mkdir(parents=True, exist_ok=True)
  # What an older searcher here was built from is about to go.
  (target / MANIFEST).unlink(missing_ok=True)
  shape = (changes.num_rows, snapshot.block_embeds.shape[1])
  live = changes.live[: changes.num_rows]
  snapshot = snapshot._replace(live=None if live.all() else live)
  if len(changes.ids) or changes.num_rows > searched.num_built:
    # They are of the texts that the searcher's rows were embedded from.
    snapshot = snapshot._replace(block_digests=None)
  write_shard(folder, 0, 1, _parts(searched), shape, 'float32')
  finish_snapshot(folder, snapshot, shape, 'float32')
  np.save(target / _CHANGED_FILE, changes.ids, allow_pickle=False)
  write_searcher(
    target,
    searched.searcher,
    num_leaves=searched.config.num_leaves,
    soar=searched.config.soar,
    num_built=searched.num_built,
    snapshot=file_checksum(folder / MANIFEST),
  )


def _parts(searched: Searched) -> Iterator[np.ndarray]:
  num_rows = searched.changes.num_rows
  for start in range(0, num_rows, _PART_SIZE):
    yield embeds(searched, np.arange(start, min(start + _PART_SIZE, num_rows)))


def load_saved(
  folder: Path, corpus_fingerprint: str | None
) -> tuple[Snapshot, Path]:
  """The snapshot that save_index wrote, and the folder of its searcher.

  Raises:
    FileNotFoundError: there is no whole saved index.
    UserError: it is damaged, of another corpus, or its parts do not belong
      together.
  """
  snapshot = load_snapshot(folder, corpus_fingerprint)
  target = folder / _SEARCHER
  manifest = read_manifest(target, KIND, _MADE_BY)
  if manifest.get('snapshot') != file_checksum(folder / MANIFEST):
    raise UserError(
      f'{target} was built from another snapshot than {folder} is. Make it '
      f'again with: {_MADE_BY}'
    )
  return snapshot, target
