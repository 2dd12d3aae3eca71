"""Examples on disk: made once, read at random by trainers without TensorFlow.

A row an example, each feature a column of fixed shape, in Arrow shards. What
made them, a seqio task most often, is in the manifest.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from realm_jax.data.examples import Example
from realm_jax.errors import UserError
from realm_jax.folders import (
  MANIFEST,
  make_folder,
  read_manifest,
  write_manifest,
)

KIND = 'examples'
MADE_BY = 'realm-jax materialise'
_SHARD_SIZE = 1 << 17


def write_examples(
  folder: str | Path, examples: Iterable[Example], **fields: Any
) -> dict[str, Any]:
  """Writes a folder of examples; its manifest comes last.

  Args:
    folder: made if missing; examples that are there are replaced.
    examples: dictionaries of int32 arrays, all of the same names and shapes.
    **fields: further entries of the manifest.

  Returns:
    The manifest.

  Raises:
    UserError: there are no examples, or their shapes differ.
  """
  folder = make_folder(folder)
  (folder / MANIFEST).unlink(missing_ok=True)  # an earlier one is replaced
  files: list[str] = []
  shapes: dict[str, tuple[int, ...]] = {}
  num_examples = 0
  for rows in _parts(examples, _SHARD_SIZE):
    columns = {
      name: np.stack([np.asarray(row[name], np.int32) for row in rows])
      for name in rows[0]
    }
    found = {name: array.shape[1:] for name, array in columns.items()}
    shapes = shapes or found
    if found != shapes:
      raise UserError(f'Examples have shapes {found}, others {shapes}.')
    files.append(f'examples-{len(files):05d}.arrow')
    _write_shard(folder / files[-1], columns)
    num_examples += len(rows)
  if not num_examples:
    raise UserError(f'There are no examples to write to {folder}.')
  return write_manifest(
    folder,
    KIND,
    files,
    **fields,
    num_examples=num_examples,
    shapes={name: list(shape) for name, shape in shapes.items()},
    example_files=files,
  )


def _parts(examples: Iterable[Example], size: int) -> Iterator[list[Example]]:
  part: list[Example] = []
  for example in examples:
    part.append(example)
    if len(part) == size:
      yield part
      part = []
  if part:
    yield part


def _write_shard(path: Path, columns: Mapping[str, np.ndarray]) -> None:
  arrays = []
  for array in columns.values():
    flat = pa.array(np.ascontiguousarray(array).reshape(-1))
    width = int(np.prod(array.shape[1:]))
    arrays.append(pa.FixedSizeListArray.from_arrays(flat, width))
  batch = pa.record_batch(arrays, names=list(columns))
  with pa.ipc.new_file(str(path), batch.schema) as writer:
    writer.write_batch(batch)


class MaterialisedExamples:
  """The examples of a folder, mapped; call it with a row, as Batches does.

  Attributes:
    manifest: of the folder.
    num_examples: rows.
    shapes: name -> shape of one example's array.
  """

  def __init__(self, folder: str | Path):
    """Opens a folder without reading it.

    Raises:
      FileNotFoundError: there is no such folder, or it was never finished.
      UserError: it is something else, or damaged.
    """
    folder = Path(folder)
    self.manifest = read_manifest(folder, KIND, MADE_BY)
    self.num_examples: int = self.manifest['num_examples']
    self.shapes = {
      name: tuple(shape) for name, shape in self.manifest['shapes'].items()
    }
    shards = [
      pa.ipc.open_file(pa.memory_map(str(folder / name))).get_batch(0)
      for name in self.manifest['example_files']
    ]
    self._columns = [
      {
        name: shard.column(name)
        .values.to_numpy()
        .reshape(shard.num_rows, *shape)
        for name, shape in self.shapes.items()
      }
      for shard in shards
    ]
    self._bounds = np.cumsum([0, *(shard.num_rows for shard in shards)])

  def __call__(self, row: int, epoch: int = 0) -> Example:
    """One example; the same in every epoch."""
    del epoch
    shard = int(np.searchsorted(self._bounds, row, 'right')) - 1
    place = row - int(self._bounds[shard])
    return {name: array[place] for name, array in self._columns[shard].items()}

  def check_shapes(self, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raises UserError if a trainer's example needs other arrays."""
    wrong = [
      f'{name} is {found}, expected {list(shape)}'
      for name, shape in expected.items()
      if (found := self.manifest['shapes'].get(name, 'missing')) != list(shape)
    ]
    if wrong:
      raise UserError(
        f'The examples of task {self.manifest.get("task")} do not fit this '
        f'stage and its Lengths: {"; ".join(wrong)}. Materialise them with the '
        'same Lengths.'
      )
