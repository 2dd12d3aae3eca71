"""Batches whose documents are searched for in an index that may change."""

from typing import Any

from realm_jax.data.batches import Batches
from realm_jax.refresh.refresher import Refresher
from realm_jax.train.loop import Event
from realm_jax.train.pipeline import BatchSource


class IndexedSource(BatchSource):
  """A source that has a refresher decide which block embeddings are searched.

  It tells the refresher of the run's start, steps, checkpoints and end.
  """

  def __init__(self, batches: Batches, refresher: Refresher):
    """Keeps the stream of examples and the refresher."""
    super().__init__(batches)
    self._refresher = refresher

  def start(self, params: Any) -> None:
    """Builds the first index."""
    self._refresher.start(params)

  def events(self) -> list[Event]:
    """What the refresher does between steps."""
    refresher = self._refresher
    # A step is not waited for: what this sends off comes behind it.
    events = [Event(1, refresher.advance, checked=False)]
    if refresher.every:
      events.append(Event(refresher.every, refresher.refresh, refresher.at_end))
    return events

  def position(self, step: int) -> dict[str, Any]:
    """Which snapshot is in use."""
    return self._refresher.position(step)

  def resume(self, position: dict[str, Any], step: int, params: Any) -> None:
    """Goes back to a position; its snapshot is loaded from the run."""
    super().resume(position, step, params)
    self._refresher.resume(position, step, params)

  def prune(self, oldest: dict[str, Any]) -> None:
    """Deletes snapshots that no checkpoint needs any more."""
    self._refresher.prune(oldest)

  def close(self) -> None:
    """Ends what the refresher does in the background."""
    super().close()
    self._refresher.close()
