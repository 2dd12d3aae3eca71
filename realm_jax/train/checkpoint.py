"""Checkpoints with Orbax: the state, and what the host needs to go on."""

import contextlib
import errno
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

from realm_jax.train.state import TrainState

# Orbax compresses; trained weights shrink by less than a tenth.
_LEAST_SHARE_WRITTEN = 0.9


class Checkpoints:
  """The checkpoints of a run. Each is whole or, to a reader, not there."""

  def __init__(self, folder: Path, keep: int = 2):
    """Opens the folder, which is made if needed.

    Args:
      folder: of the checkpoints.
      keep: how many of the newest to keep.
    """
    self._folder = folder.resolve()
    self._manager = ocp.CheckpointManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        enable_async_checkpointing=False,
        # What a save that was killed has left; it may fill the disk.
        cleanup_tmp_directories=True,
      ),
    )

  def latest_step(self) -> int | None:
    """Steps done at the newest checkpoint; None if there is none."""
    return self._manager.latest_step()

  def save(self, state: TrainState, host: dict[str, Any]) -> None:
    """Writes a checkpoint; older ones are deleted when it is whole.

    Args:
      state: of the training.
      host: JSON values: data position, which snapshot is in use, ...

    Raises:
      OSError, ValueError: it could not be written; nothing is left of it.
    """
    step = int(state.step)
    self._check_space(state)
    try:
      with _no_tracebacks():
        self._manager.save(
          step,
          args=ocp.args.Composite(
            state=ocp.args.StandardSave(state._asdict()),
            host=ocp.args.JsonSave(host),
          ),
          force=True,
        )
        self._manager.wait_until_finished()
    except Exception:
      # Other arrays that were being written fail too, and later.
      logging.getLogger('asyncio').setLevel(logging.CRITICAL)
      for unfinished in self._folder.glob(f'{step}.orbax-checkpoint-tmp*'):
        shutil.rmtree(unfinished, ignore_errors=True)
      raise

  def _check_space(self, state: TrainState) -> None:
    """Raises OSError if there is clearly too little room for a state.

    A save that fails half-way is dealt with, but noisily.
    """
    needed = sum(array.nbytes for array in jax.tree.leaves(state))
    free = shutil.disk_usage(self._folder).free
    if free < _LEAST_SHARE_WRITTEN * needed:
      raise OSError(
        errno.ENOSPC,
        f'{needed / 1e6:,.1f} MB to write, {free / 1e6:,.1f} MB free',
        str(self._folder),
      )

  def restore(self, state: TrainState) -> tuple[TrainState, dict[str, Any]]:
    """Reads the newest checkpoint.

    Args:
      state: with the shapes and dtypes expected, and where to put them, which
        need not be where they were; its values are not read.

    Returns:
      The state and the host's values, as they were saved.
    """
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state._asdict())
    restored = self._manager.restore(
      self.latest_step(),
      args=ocp.args.Composite(
        state=ocp.args.StandardRestore(abstract), host=ocp.args.JsonRestore()
      ),
    )
    return TrainState(**restored['state']), restored['host']

  def oldest_host(self) -> dict[str, Any] | None:
    """The host's values in the oldest checkpoint that is kept."""
    steps = sorted(self._manager.all_steps())
    if not steps:
      return None
    restored = self._manager.restore(
      steps[0], args=ocp.args.Composite(host=ocp.args.JsonRestore())
    )
    return restored['host']

  def close(self) -> None:
    """Waits for what is being written."""
    self._manager.close()


@contextlib.contextmanager
def _no_tracebacks() -> Iterator[None]:
  """Orbax logs an error's traceback in every thread, and then raises it."""
  logger = logging.getLogger('absl')
  level = logger.level
  logger.setLevel(logging.CRITICAL)
  try:
    yield
  finally:
    logger.setLevel(level)


def save_params(folder: Path, params: Any) -> None:
  """Writes parameters alone, as a finished run keeps them."""
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(folder.resolve(), params, force=True)


def load_params(folder: Path, params: Any) -> Any:
  """Reads parameters; `params` gives structure, shapes and dtypes.

  They are put on one device, on however many they were when they were saved.
  """
  sharding = SingleDeviceSharding(jax.local_devices()[0])
  abstract = jax.tree.map(
    lambda array: jax.ShapeDtypeStruct(
      array.shape, array.dtype, sharding=sharding
    ),
    params,
  )
  with ocp.StandardCheckpointer() as checkpointer:
    return checkpointer.restore(folder.resolve(), abstract)
