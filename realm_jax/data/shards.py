"""Arrow files, mapped, end to end as one table.

A file is one record batch, so that each of its columns is one flat buffer and
picking rows is plain numpy indexing into the mapped file.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from realm_jax.errors import UserError


class Shard:
  """A mapped file: flat buffers of its columns, offsets of its lists."""

  def __init__(self, path: Path, schema: pa.Schema):
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    if reader.schema != schema or reader.num_record_batches != 1:
      raise UserError(
        f'{path} has columns {reader.schema.names} in '
        f'{reader.num_record_batches} batches, expected {schema.names} in one. '
        'It is damaged or of another version.'
      )
    self.batch = reader.get_batch(0)
    self.flat: dict[str, np.ndarray] = {}
    self.offsets: dict[str, np.ndarray] = {}
    for field in schema:
      column = self.batch.column(field.name)
      if pa.types.is_list(field.type):
        self.offsets[field.name] = column.offsets.to_numpy()
        self.flat[field.name] = column.values.to_numpy()
      elif pa.types.is_integer(field.type):
        self.flat[field.name] = column.to_numpy()


class Shards:
  """Shards end to end, as if they were one table."""

  def __init__(self, folder: Path, names: list[str], schema: pa.Schema):
    self._shards = [Shard(folder / name, schema) for name in names]
    sizes = [shard.batch.num_rows for shard in self._shards]
    self._bounds = np.cumsum([0, *sizes])  # [num_shards + 1]

  def locate(self, row: int) -> tuple[Shard, int]:
    """The shard of a row, and its row there."""
    index = int(np.searchsorted(self._bounds, row, 'right')) - 1
    return self._shards[index], row - int(self._bounds[index])

  def value(self, name: str, row: int) -> Any:
    """One value of a column."""
    shard, row = self.locate(row)
    return shard.batch.column(name)[row].as_py()

  def column(self, name: str) -> np.ndarray:
    """A column of integers; a view of the file where there is one shard."""
    columns = [shard.flat[name] for shard in self._shards]
    return columns[0] if len(columns) == 1 else np.concatenate(columns)

  def lengths(self, name: str) -> np.ndarray:
    """[num_rows] int32; the lengths of a column's lists."""
    lengths = [np.diff(shard.offsets[name]) for shard in self._shards]
    return np.concatenate(lengths).astype(np.int32)

  def rows(
    self, name: str, rows: np.ndarray, width: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """Lists of some rows, padded with zeros; negative rows are empty.

    Args:
      name: a column of lists.
      rows: [num_rows] integers.
      width: at least the longest list.

    Returns:
      [num_rows, width] int32 and the lengths, [num_rows] int32.
    """
    padded = np.zeros((len(rows), width), np.int32)
    lens = np.zeros(len(rows), np.int32)
    shard_of = np.searchsorted(self._bounds, rows, 'right') - 1
    for index in np.unique(shard_of[rows >= 0]):
      where = np.flatnonzero(shard_of == index)
      offsets = self._shards[index].offsets[name]
      local = rows[where] - self._bounds[index]
      first = offsets[local].astype(np.int64)
      lens[where] = offsets[local + 1] - first
      places = first[:, None] + np.arange(width)
      real = np.arange(width) < lens[where, None]
      values = self._shards[index].flat[name]
      if len(values):  # a shard of empty titles has none
        padded[where] = np.where(real, values[np.where(real, places, 0)], 0)
    return padded, lens
