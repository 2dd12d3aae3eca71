"""Which rows of a batch each process makes, and how they become the batch."""

from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from realm_jax.sharding import DATA, Layout


class OwnRows:
  """The rows of a batch that this process makes; of one process all of them.

  Attributes:
    batch_size: rows in all.
    numbers: [num_rows] int, ascending. Of several processes these are the rows
      that its devices need, which those of others may need as well.
  """

  def __init__(self, layout: Layout | None = None, batch_size: int = 0):
    """Finds out which.

    Args:
      layout: of the batch over a mesh; None for one device.
      batch_size: rows in all; a multiple of the parts that they lie in. Of one
        process nothing but `numbers` depends on it.
    """
    self._layout = layout
    self.batch_size = batch_size
    self.numbers = np.arange(batch_size)
    if layout is not None:
      sharding = NamedSharding(layout.mesh, P(DATA))
      parts = sharding.addressable_devices_indices_map((batch_size,)).values()
      self.numbers = np.unique(
        np.concatenate([self.numbers[part] for part in parts])
      )
    self._are_all = len(self.numbers) == batch_size

  def of(self, batch: Any) -> Any:
    """Own rows of a tree of arrays that have all of them."""
    if self._are_all:
      return batch
    return jax.tree.map(lambda array: array[self.numbers], batch)

  def among(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of some rows of a batch, those that are own ones.

    Args:
      numbers: [n] int, ascending.

    Returns:
      [n] bool, which are; and their places among the own rows.
    """
    if self._are_all:
      return np.ones(len(numbers), bool), numbers
    is_own = np.isin(numbers, self.numbers)
    return is_own, np.searchsorted(self.numbers, numbers[is_own])

  def place(self, batch: Any) -> Any:
    """Own rows -> what a function of jit_spread takes for the whole batch."""
    if self._are_all or self._layout is None:
      return batch
    return self._layout.place(batch)

  def share(self, batch: Any) -> Any:
    """Own rows -> all rows, in each process; small arrays, such as lengths.

    All processes do this together. Nothing is waited for until numpy reads it.
    """
    if self._are_all or self._layout is None:
      return batch
    return self._layout.replicate(self._layout.place(batch))

  def whole(self, batch: Any) -> Any:
    """What is no row, such as the null document -> what Layout.place takes."""
    if self._are_all or self._layout is None:
      return batch
    return self._layout.place_whole(batch, ())
