"""Training stops while all blocks are embedded with current parameters."""

import time
from typing import Any

from realm_jax.refresh.refresher import Refresher
from realm_jax.refresh.schedule import Synchronous


class SynchronousRefresher(Refresher):
  """Replaces the index every so many steps, and after the last one."""

  at_end = True

  def __init__(self, schedule: Synchronous, *args: Any, **kwargs: Any):
    """Keeps the schedule; the rest is a Refresher's."""
    super().__init__(*args, **kwargs)
    self.every = schedule.every

  def refresh(self, step: int, params: Any) -> dict[str, float]:
    """See Refresher.refresh."""
    if step == self._retriever.index_step:
      return {}
    start = time.perf_counter()
    snapshot, seconds = self._make(step, params)
    metrics = self._take_into_use(step, snapshot, params, start, seconds)
    if seconds:
      throughput = self._snapshots.throughput
      metrics['blocks_per_second'] = throughput.blocks_per_second
    return metrics
