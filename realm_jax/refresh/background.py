"""Snapshots that others make while training goes on.

Whoever makes them leaves whole folders in the run's folder. They are verified
in a thread and taken into use between two steps. Nothing that happens to those
who make them stops the training: a snapshot that is damaged, or of another
corpus or model, is set aside, and the old one stays in use.
"""

import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from realm_jax.errors import UserError
from realm_jax.folders import is_whole
from realm_jax.index.api import check_finite, check_width
from realm_jax.index.snapshot import Snapshot, load_snapshot
from realm_jax.refresh.refresher import Refresher

_REFUSED = 'refused'  # a folder of the run


class BackgroundRefresher(Refresher):
  """Takes into use what is made in the background: see the two kinds of it.

  Attributes:
    expected: step -> fingerprint of the parameters that a snapshot of this step
      must be of. One of any other step is not looked at.
  """

  def __init__(self, every: int, at_most_late: int, *args: Any, **kwargs: Any):
    """Keeps its arguments.

    Args:
      every: steps between requests for a snapshot.
      at_most_late: warn when the index is by more steps older than that.
      *args: of Refresher.
      **kwargs: of Refresher.
    """
    super().__init__(*args, **kwargs)
    self.every = every
    self._at_most_late = at_most_late
    self.expected: dict[int, str] = {}
    self._verifier = ThreadPoolExecutor(1, 'verify snapshot')
    self._verifying: tuple[int, Future] | None = None
    self._is_late = False

  def advance(self, step: int, params: Any) -> dict[str, float]:
    """See Refresher.advance; behind the end of the log, what is there."""
    if step <= self._log.last_step:
      return super().advance(step, params)
    start = time.perf_counter()
    snapshot = self._arrived(step)
    if snapshot is not None:
      return self._take_into_use(step, snapshot, params, start, None)
    self._warn_if_late(step)
    return {}

  def _arrived(self, step: int) -> Snapshot | None:
    """A snapshot that is newer than the index, whole and verified."""
    if self._verifying is None:
      index_step = self._newest(step)
      if index_step is not None:
        future = self._verifier.submit(self._verified, index_step)
        self._verifying = index_step, future
      return None
    index_step, future = self._verifying
    if not future.done():
      return None
    self._verifying = None
    if (error := future.exception()) is not None:
      self._set_aside(index_step, error)
      return None
    return future.result()

  def _newest(self, step: int) -> int | None:
    """Step of the newest whole snapshot that would be an improvement."""
    found = [
      index_step
      for index_step in self.expected
      if self._retriever.index_step < index_step <= step
      and is_whole(self._snapshot_folder(index_step))
    ]
    return max(found, default=None)

  def _verified(self, index_step: int) -> Snapshot:
    """Opens a snapshot; raises UserError if it must not be searched."""
    folder = self._snapshot_folder(index_step)
    corpus = self._retriever.corpus
    snapshot = load_snapshot(folder, corpus.fingerprint)
    if snapshot.index_step != index_step:
      raise UserError(
        f'Snapshot {folder} is of step {snapshot.index_step}, expected step '
        f'{index_step}.'
      )
    expected = self.expected[index_step]
    if snapshot.params_fingerprint != expected:
      raise UserError(
        f'Snapshot {folder} was made with parameters '
        f'{snapshot.params_fingerprint[:12]}, but those of step {index_step} '
        f'are {expected[:12]}.'
      )
    if len(snapshot.block_embeds) != corpus.num_blocks:
      raise UserError(
        f'Snapshot {folder} has {len(snapshot.block_embeds)} rows, expected '
        f'{corpus.num_blocks}, the blocks of the corpus.'
      )
    check_width(
      'block_embeds', snapshot.block_embeds, self._retriever.index.embed_dim
    )
    check_finite(snapshot.block_embeds)
    return snapshot

  def _set_aside(self, index_step: int, error: BaseException) -> None:
    """Moves a snapshot out of the way, and says why."""
    folder = self._snapshot_folder(index_step)
    aside = self._folder / _REFUSED / folder.name
    shutil.rmtree(aside, ignore_errors=True)
    aside.parent.mkdir(exist_ok=True)
    try:
      folder.rename(aside)
      place = f'lies in {aside} now'
    except OSError as problem:  # whoever made it may be at it again
      del self.expected[index_step]
      place = f'could not be moved ({problem})'
    self._warn(
      f'The snapshot of step {index_step} is not used, and {place}; training '
      f'goes on with that of step {self._retriever.index_step}. {error}'
    )

  def _warn_if_late(self, step: int) -> None:
    """Warns once when the index is too old, and again after it was not."""
    age = step - self._retriever.index_step
    was_late, self._is_late = (
      self._is_late,
      age > self.every + self._at_most_late,
    )
    if self._is_late and not was_late:
      self._warn(
        f'After {step} steps the index is {age} steps old, more than '
        f'{self.every + self._at_most_late}. {self._why_late()} Training goes '
        'on with it.'
      )

  def _why_late(self) -> str:
    """What may be the matter, and what to do."""
    raise NotImplementedError

  def close(self) -> None:
    """See Refresher.close."""
    self._verifier.shutdown(wait=True, cancel_futures=True)
