"""Another process embeds: it meets the trainer in the run's folder only.

The trainer publishes parameters, `realm-jax build-index --follow RUN` leaves
snapshots made with them.
"""

import shutil
from typing import Any

from realm_jax.refresh.background import BackgroundRefresher
from realm_jax.refresh.follow import builder_pid
from realm_jax.refresh.publishing import prune_published, publish, published
from realm_jax.refresh.schedule import SeparateProcess

_NUM_KEPT = 2  # the builder may be reading the older one


class SeparateProcessRefresher(BackgroundRefresher):
  """Publishes parameters every so many steps."""

  def __init__(self, schedule: SeparateProcess, *args: Any, **kwargs: Any):
    """Keeps the schedule; the rest is a Refresher's."""
    super().__init__(schedule.every, schedule.at_most_late, *args, **kwargs)

  def refresh(self, step: int, params: Any) -> dict[str, float]:
    """See Refresher.refresh: publishes the parameters."""
    if step == self._retriever.index_step:
      return {}
    try:
      self.expected[step] = publish(self._folder, step, params)
    except OSError as error:
      self._warn(
        f'The parameters of step {step} could not be published: {error}. '
        f'Training goes on with the index of step {self._retriever.index_step}.'
      )
      return {}
    kept = [entry.step for entry in published(self._folder)][-_NUM_KEPT:]
    prune_published(self._folder, kept[0])
    return {}

  def start(self, params: Any) -> None:
    """See Refresher.start."""
    super().start(params)
    self._forget_after(0)

  def resume(self, position: dict[str, Any], step: int, params: Any) -> None:
    """See Refresher.resume."""
    super().resume(position, step, params)
    self._forget_after(step)

  def _forget_after(self, step: int) -> None:
    """Deletes what a run that was stopped later has published."""
    for entry in published(self._folder):
      if entry.step > step:
        shutil.rmtree(entry.folder)
      else:
        self.expected[entry.step] = entry.params_fingerprint

  def _why_late(self) -> str:
    pid = builder_pid(self._folder)
    if pid is None:
      return (
        'No process makes a new one. Start it: realm-jax build-index --follow '
        f'{self._folder}'
      )
    return (
      f'Process {pid} takes longer than the steps from one refresh to the '
      'next: give it more devices, or refresh less often.'
    )
