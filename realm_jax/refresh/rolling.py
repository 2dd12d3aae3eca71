"""A few blocks are embedded at every step and written into the index.

Blocks are cut into groups of one padded length each, and the groups are taken
in a shuffled order, so that no part of the corpus is always the oldest. What is
embedded after step t is sent off behind it and written between steps t + 1 and
t + 2: nothing is waited for.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from realm_jax import hosts
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.data.featurize import bucket_len, document_inputs
from realm_jax.index.snapshot import Snapshot, save_snapshot
from realm_jax.refresh.refresher import Refresher, overlap
from realm_jax.refresh.schedule import Rolling
from realm_jax.types import NULL_BLOCK_ID, Array, SearchResult, TextInputs

_MOST_BLOCKS = 128  # of a group, on each device
_OVERLAP_K = 8


class Groups:
  """Blocks that are embedded together, and the order of their turns.

  Attributes:
    block_ids: [num_groups, group_size] int64; -1 behind the last block.
    order: [num_groups] in which they have their turns.
  """

  def __init__(
    self,
    corpus: Corpus,
    lengths: Lengths,
    pass_every: int,
    num_devices: int,
    seed: int,
  ):
    """Cuts the blocks, sorted by length, into groups.

    Args:
      corpus: of the blocks.
      lengths: document_len and multiple are used.
      pass_every: steps in which each block has its turn once; groups are small
        enough that there is one for each step, where there are so many blocks.
      num_devices: a group is a multiple of it.
      seed: of the order.
    """
    self._corpus = corpus
    self._lengths = lengths
    self._pass_every = pass_every
    a_step = -(-corpus.num_blocks // (pass_every * num_devices))
    size = num_devices * min(a_step, _MOST_BLOCKS)
    num_groups = -(-corpus.num_blocks // size)
    self.block_ids = np.full((num_groups, size), NULL_BLOCK_ID, np.int64)
    self.block_ids.flat[: corpus.num_blocks] = np.argsort(
      corpus.block_lens, kind='stable'
    )
    self.order = np.random.default_rng(seed).permutation(num_groups)

  def turns(self, step: int) -> np.ndarray:
    """Numbers of the groups whose turn it is after so many steps."""
    num_groups = len(self.order)
    first, stop = (n * num_groups // self._pass_every for n in (step, step + 1))
    return self.order[np.arange(first, stop) % num_groups]

  def inputs(self, group: int) -> TextInputs:
    """What the document embedder reads: [group_size, length] each."""
    block_ids = self.block_ids[group]
    real = block_ids[block_ids != NULL_BLOCK_ID]
    needed = int(self._corpus.block_lens[real].max())
    lengths = self._lengths
    length = bucket_len(needed, lengths.multiple, lengths.document_len)
    return document_inputs(
      self._corpus.gather(block_ids),
      self._corpus.wordpiece,
      lengths.multiple,
      length,
    )


class RollingRefresher(Refresher):
  """Writes rows of the index in place, in turn.

  A copy of the embeddings in float32 is kept on the host: checkpoints save it,
  so that a run goes on with exactly the index that it had.
  """

  def __init__(
    self,
    schedule: Rolling,
    embed_documents: Callable,
    *args: Any,
    seed: int = 0,
    num_devices: int = 1,
    **kwargs: Any,
  ):
    """Cuts the corpus into groups.

    Args:
      schedule: how long a pass takes.
      embed_documents: embed_documents(params, inputs) -> embeddings.
      *args: of Refresher.
      seed: of the order of the groups.
      num_devices: that embed.
      **kwargs: of Refresher.
    """
    super().__init__(*args, **kwargs)
    self._embed_documents = embed_documents
    self._pass_every = schedule.pass_every
    corpus, lengths = self._retriever.corpus, self._retriever.lengths
    self._groups = Groups(
      corpus, lengths, schedule.pass_every, num_devices, seed
    )
    self._block_embeds = np.zeros((0, 0), np.float32)
    self._group_steps = np.zeros(len(self._groups.order), np.int64)
    # Step, and group and embeddings of each that was sent off after it.
    self._sent: tuple[int, list[tuple[int, Array]]] = (0, [])
    self._seconds = self._wait_seconds = 0.0
    self._before: tuple[Array, SearchResult] | None = None

  def _load(self, snapshot: Snapshot) -> None:
    super()._load(snapshot)
    self._block_embeds = np.array(snapshot.block_embeds, np.float32)

  def advance(self, step: int, params: Any) -> dict[str, float]:
    """See Refresher.advance; measures once a pass."""
    start = time.perf_counter()
    self._write()
    self._wait_seconds += time.perf_counter() - start
    self._send(step, params)
    self._seconds += time.perf_counter() - start
    if step == 0 or step % self._pass_every:
      return {}
    metrics = {
      'refresh_age': self.mean_age(step),
      'refresh_seconds': self._seconds,
      'refresh_wait_seconds': self._wait_seconds,
      **self._overlap(params),
    }
    self._seconds = self._wait_seconds = 0.0
    return metrics

  def _send(self, step: int, params: Any) -> None:
    """Sends off the embedding of the groups whose turn it is."""
    self._sent = (
      step,
      [
        (group, self._embed_documents(params, self._groups.inputs(group)))
        for group in self._groups.turns(step).tolist()
      ],
    )

  def _write(self) -> None:
    """Writes what was sent off last into the index."""
    step, groups = self._sent
    for group, embeds in groups:
      block_ids = self._groups.block_ids[group]
      is_block = block_ids != NULL_BLOCK_ID
      rows = np.asarray(embeds, np.float32)[is_block]
      self._retriever.index.update(block_ids[is_block], rows)
      self._block_embeds[block_ids[is_block]] = rows
      self._group_steps[group] = step
    self._sent = step, []

  def mean_age(self, step: int) -> float:
    """See Refresher.mean_age."""
    num_blocks = (self._groups.block_ids != NULL_BLOCK_ID).sum(axis=1)
    return step - float(np.average(self._group_steps, weights=num_blocks))

  def _overlap(self, params: Any) -> dict[str, float]:
    """How much of what was found a pass ago is found for the same queries."""
    metrics = {}
    if self._before is not None:
      query_embeds, found = self._before
      now = self._retriever.index.search(query_embeds, found.block_ids.shape[1])
      metrics['index_overlap'] = overlap(
        np.asarray(found.block_ids), np.asarray(now.block_ids)
      )
    if self.queries is not None:
      search = self._retriever.begin(params, self.queries, _OVERLAP_K)
      found = self._retriever.finish(search)
      self._before = search.query_embeds, found
    return metrics

  def position(self, step: int) -> dict[str, Any]:
    """See Refresher.position; writes the embeddings as a snapshot."""
    snapshot = Snapshot(
      self._block_embeds, step, self._retriever.corpus.fingerprint
    )
    folder = self._snapshot_folder(step)
    hosts.by_first(lambda: save_snapshot(folder, snapshot))
    return {'index_step': step}

  def resume(self, position: dict[str, Any], step: int, params: Any) -> None:
    """See Refresher.resume; what had been sent off is sent off again."""
    super().resume(position, step, params)
    for earlier in range(max(0, step - self._pass_every), step):
      self._group_steps[self._groups.turns(earlier)] = earlier
    self._send(step, params)
