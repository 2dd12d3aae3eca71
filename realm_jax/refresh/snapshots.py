"""Snapshots of a run: made once, found again after a restart."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from realm_jax import hosts
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.errors import UserError
from realm_jax.folders import is_whole
from realm_jax.index.snapshot import Snapshot, load_snapshot, save_snapshot
from realm_jax.refresh.embed_blocks import embed_blocks
from realm_jax.refresh.parts import remove_parts
from realm_jax.refresh.reuse import (
  block_digests,
  holds_embeds_of,
  params_fingerprint,
  reuse_embeds,
)
from realm_jax.refresh.throughput import Throughput
from realm_jax.sharding import Layout
from realm_jax.types import TextInputs


class SnapshotMaker:
  """Makes the snapshots of one run, or finds those it has made already.

  Attributes:
    num_embedded: blocks embedded for the snapshot that was asked for last; the
      others were embedded before.
    throughput: how fast they were embedded.
  """

  def __init__(
    self,
    embed_documents: Callable,
    corpus: Corpus,
    lengths: Lengths,
    on_progress: Callable[[int], None] = lambda num_done: None,
    reuse_from: Sequence[Path] = (),
    layout: Layout | None = None,
  ):
    """Keeps its arguments.

    Args:
      embed_documents: embed_documents(params, inputs) -> embeddings.
      corpus: what to embed.
      lengths: document_len and multiple are used.
      on_progress: called with the number of blocks done so far.
      reuse_from: folders of other snapshots; blocks that are in one made with
        the same parameters are not embedded again.
      layout: that embed_documents was made with.
    """
    self._embed_documents = embed_documents
    self._corpus = corpus
    self._lengths = lengths
    self._on_progress = on_progress
    self._reuse_from = reuse_from
    self._layout = layout
    self.num_embedded = 0
    self.throughput = Throughput()

  @cached_property
  def _digests(self) -> np.ndarray:
    return block_digests(self._corpus, self._lengths)

  def embed(self, params: Any, documents: TextInputs) -> np.ndarray:
    """Embeddings of documents: [num_documents, embed_dim] float32."""
    return np.asarray(self._embed_documents(params, documents))

  def snapshot(
    self, folder: Path, params: Any, index_step: int
  ) -> tuple[Snapshot, float]:
    """The snapshot in a folder, made with params if it is not there.

    One that was being made when a process ended is gone on with.

    Args:
      folder: where it lies or will lie.
      params: of the model.
      index_step: the training step of params.

    Returns:
      The snapshot, and the seconds spent embedding.
    """
    self.num_embedded = 0
    self.throughput = Throughput()
    if hosts.by_first(lambda: is_whole(folder)):
      hosts.by_first(lambda: remove_parts(folder))  # ended just before that
      return self._found(folder, index_step), 0.0
    known = self._known(params)
    self.throughput = Throughput()
    snapshot = embed_blocks(
      self._embed_documents,
      params,
      self._corpus,
      self._lengths,
      index_step,
      self._on_progress,
      known,
      self._layout,
      # Several processes would have to agree on where to go on.
      None if hosts.are_several() else folder,
      self.throughput,
    )
    self.throughput.stop()
    self.num_embedded = self.throughput.num_blocks
    snapshot = snapshot._replace(block_digests=self._digests)

    def save() -> None:
      save_snapshot(folder, snapshot)
      remove_parts(folder)

    hosts.by_first(save)
    if not hosts.are_several():
      # Mapped from the file: what was filled is not held beside it.
      snapshot = load_snapshot(folder, self._corpus.fingerprint, verify=False)
    return snapshot, self.throughput.seconds

  def _found(self, folder: Path, index_step: int) -> Snapshot:
    """Opens a snapshot that is there; raises UserError for another step's."""
    snapshot = load_snapshot(folder, self._corpus.fingerprint)
    if snapshot.index_step != index_step:
      raise UserError(
        f'Snapshot {folder} is of step {snapshot.index_step}, expected step '
        f'{index_step}. Delete it, and it is made again.'
      )
    return snapshot

  def _known(self, params: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """What embed_blocks need not make; None where there is nothing."""
    if not self._reuse_from:
      return None
    fingerprint = params_fingerprint(params)
    folders = [
      folder
      for folder in self._reuse_from
      if holds_embeds_of(folder, fingerprint)
    ]
    if not folders:
      return None
    return reuse_embeds(folders, self._digests)
