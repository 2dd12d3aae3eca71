"""Checkpoints with Orbax: the state, and what the host needs to go on."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

from realm_jax.train.state import TrainState


class Checkpoints:
  """The checkpoints of a run. Each is whole or, to a reader, not there."""

  def __init__(self, folder: Path, keep: int = 2):
    """Opens the folder, which is made if needed.

    Args:
      folder: of the checkpoints.
      keep: how many of the newest to keep.
    """
    self._manager = ocp.CheckpointManager(
      folder.resolve(),
      options=ocp.CheckpointManagerOptions(
        max_to_keep=keep, enable_async_checkpointing=False
      ),
    )

  def latest_step(self) -> int | None:
    """Steps done at the newest checkpoint; None if there is none."""
    return self._manager.latest_step()

  def save(self, state: TrainState, host: dict[str, Any]) -> None:
    """Writes a checkpoint.

    Args:
      state: of the training.
      host: JSON values: data position, which snapshot is in use, ...
    """
    self._manager.save(
      int(state.step),
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state._asdict()),
        host=ocp.args.JsonSave(host),
      ),
      force=True,
    )
    self._manager.wait_until_finished()

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
