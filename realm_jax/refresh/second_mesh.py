"""Devices set aside from training embed all blocks in the background."""

import shutil
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from realm_jax.errors import UserError
from realm_jax.folders import is_whole
from realm_jax.index.snapshot import load_snapshot
from realm_jax.models.inference import make_embed
from realm_jax.models.realm import Realm, RealmConfig
from realm_jax.refresh.background import BackgroundRefresher
from realm_jax.refresh.reuse import document_embedder, params_fingerprint
from realm_jax.refresh.schedule import SecondMesh
from realm_jax.refresh.snapshots import SnapshotMaker
from realm_jax.sharding import DATA, MODEL, RULES, Layout


def set_aside(
  schedule: SecondMesh,
) -> tuple[list[jax.Device], list[jax.Device]]:
  """Divides the devices: those that train, and the last, which embed.

  Raises:
    UserError: none is left to train.
  """
  devices = jax.devices()
  if schedule.num_devices >= len(devices):
    raise UserError(
      f'The refresh second_mesh sets {schedule.num_devices} devices aside, but '
      f'there are {len(devices)}, and at least one must train. Lower '
      'num_devices, or take rolling or separate_process.'
    )
  return (
    devices[: -schedule.num_devices],
    devices[-schedule.num_devices :],
  )


class _Cancelled(Exception):
  """The run has ended: nobody waits for the snapshot."""


class SecondMeshRefresher(BackgroundRefresher):
  """Copies the document embedder to other devices, which embed all blocks."""

  def __init__(
    self,
    schedule: SecondMesh,
    devices: list[jax.Device],
    model: RealmConfig,
    *args: Any,
    **kwargs: Any,
  ):
    """Prepares the devices.

    Args:
      schedule: when.
      devices: that embed.
      model: whose document embedder it is.
      *args: of Refresher.
      **kwargs: of Refresher.
    """
    super().__init__(schedule.every, schedule.every, *args, **kwargs)
    self._device = devices[0]
    self._layout: Layout | None = None
    if len(devices) > 1:
      mesh = Mesh(
        np.array(devices)[:, None],
        (DATA, MODEL),
        axis_types=(AxisType.Auto, AxisType.Auto),
      )
      self._layout = Layout(mesh, RULES['replicated'], model)
    self._maker = SnapshotMaker(
      make_embed(model, Realm.embed_documents, self._layout),
      self._retriever.corpus,
      self._retriever.lengths,
      self._stop_if_closed,
      layout=self._layout,
    )
    self._closed = threading.Event()
    self._builder = ThreadPoolExecutor(1, 'embed blocks')
    self._building: tuple[int, Future] | None = None
    self._seconds: dict[int, float] = {}
    self._num_left_out = 0

  def _stop_if_closed(self, num_done: int) -> None:
    del num_done
    if self._closed.is_set():
      raise _Cancelled

  def refresh(self, step: int, params: Any) -> dict[str, float]:
    """See Refresher.refresh: starts a build, if none is under way."""
    if step == self._retriever.index_step or self._log.needs(step, step):
      return {}  # it is there
    self._look_after_builder()
    if self._building is not None:
      self._num_left_out += 1
      return {'refreshes_left_out': self._num_left_out}
    # A copy on the other devices: the step gives the parameters up.
    where = self._layout.whole if self._layout else self._device
    embedder = jax.device_put(document_embedder(params), where)
    self._building = step, self._builder.submit(self._build, step, embedder)
    return {}

  def _build(self, step: int, embedder: Any) -> tuple[str, float]:
    """Makes a snapshot on the other devices; runs in a thread.

    Returns:
      The fingerprint of the parameters, and the seconds it took.
    """
    fingerprint = params_fingerprint(embedder)
    folder = self._snapshot_folder(step)
    if is_whole(folder):
      # Left by a run that was stopped, perhaps with other devices.
      there = load_snapshot(folder, None, verify=False)
      if there.params_fingerprint != fingerprint:
        shutil.rmtree(folder)
    _, seconds = self._maker.snapshot(folder, embedder, step)
    return fingerprint, seconds

  def _look_after_builder(self) -> None:
    """Sees whether a build has ended; warns if it failed."""
    if self._building is None or not self._building[1].done():
      return
    step, future = self._building
    self._building = None
    if (error := future.exception()) is not None:
      self._warn(
        f'The snapshot of step {step} could not be made: '
        f'{type(error).__name__}: {error} Training goes on with that of step '
        f'{self._retriever.index_step}; the next is tried when it is due.'
      )
      return
    self.expected[step], self._seconds[step] = future.result()

  def advance(self, step: int, params: Any) -> dict[str, float]:
    """See Refresher.advance."""
    self._look_after_builder()
    metrics = super().advance(step, params)
    index_step = self._retriever.index_step
    if 'refresh_age' in metrics and index_step in self._seconds:
      metrics['refresh_seconds'] = self._seconds[index_step]
    return metrics

  def _why_late(self) -> str:
    if self._building is None:
      return 'The last one could not be made.'
    return (
      'Embedding all blocks takes longer than the steps from one refresh to '
      'the next: set more devices aside, or refresh less often.'
    )

  def close(self) -> None:
    """Stops the build that is under way."""
    self._closed.set()
    self._builder.shutdown(wait=True, cancel_futures=True)
    super().close()
