"""Where a variable lies in the data files of a TensorFlow checkpoint.

A checkpoint's .index is a table in LevelDB's format, from the name of a
variable to a BundleEntryProto, which says where its bytes are. TensorFlow has
no function that reads a part of a variable; so read, it can be mapped.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from realm_jax.errors import UserError
from realm_jax.optional import require

_FOOTER_BYTES = 48
_MAGIC = 0xDB4775248B80FB57
_UNCOMPRESSED = 0


class Place(NamedTuple):
  """The bytes of a variable.

  Attributes:
    path: the data file.
    dtype: of its values.
    offset: its first byte.
    shape: its shape.
  """

  path: Path
  dtype: np.dtype
  offset: int
  shape: tuple[int, ...]

  def map(self) -> np.ndarray:
    """Its values, mapped from the file and not copied."""
    return np.memmap(self.path, self.dtype, 'r', self.offset, self.shape)


def find_variable(prefix: Path, name: str) -> Place:
  """Where a variable of a checkpoint lies.

  Args:
    prefix: of the checkpoint's files.
    name: of the variable.

  Raises:
    ImportError: TensorFlow is not installed.
    UserError: the checkpoint is damaged, or the variable is cut in pieces or of
      no floating-point dtype.
  """
  tensorflow = require('tensorflow', 'data')
  from google.protobuf.message import DecodeError
  from tensorflow.core.protobuf import tensor_bundle_pb2

  index = prefix.with_name(f'{prefix.name}.index')
  try:
    table = dict(_table(index.read_bytes()))
    header = tensor_bundle_pb2.BundleHeaderProto.FromString(table[b''])
    entry = tensor_bundle_pb2.BundleEntryProto.FromString(table[name.encode()])
    dtype = tensorflow.as_dtype(entry.dtype)
  except (ValueError, LookupError, TypeError, DecodeError) as error:
    raise UserError(f'{index} is damaged: {error}.') from error
  if entry.slices or header.endianness or not dtype.is_floating:
    raise UserError(
      f'{prefix} has {name} of {dtype.name}'
      f'{" in pieces" if entry.slices else ""}'
      f'{" with the high byte first" if header.endianness else ""}, expected '
      'floating-point numbers, low byte first, in one piece.'
    )
  shape = tuple(dim.size for dim in entry.shape.dim)
  place = Place(
    prefix.with_name(
      f'{prefix.name}.data-{entry.shard_id:05d}-of-{header.num_shards:05d}'
    ),
    np.dtype(dtype.as_numpy_dtype),
    entry.offset,
    shape,
  )
  expected = int(np.prod(shape, dtype=object)) * place.dtype.itemsize
  size = place.path.stat().st_size if place.path.is_file() else 0
  if entry.size != expected or not 0 <= entry.offset <= size - expected:
    raise UserError(
      f'{place.path} is damaged: {name}, {dtype.name} {list(shape)}, takes '
      f'{expected} bytes from {entry.offset} on, the file has {size}.'
    )
  return place


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
  """The entries of a table.

  Raises:
    ValueError: it is none, or compressed.
    IndexError: it is damaged.
  """
  footer = data[-_FOOTER_BYTES:]
  if (
    len(footer) < _FOOTER_BYTES
    or int.from_bytes(footer[-8:], 'little') != _MAGIC
  ):
    raise ValueError('it does not end as a table does')
  position = 0
  for _ in range(2):  # the handle of the metaindex, which is skipped
    _, position = _varint(footer, position)
  for _, handle in _block(data, footer[position:]):
    yield from _block(data, handle)


def _block(data: bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
  """The entries of the block at a handle, which is (offset, bytes)."""
  offset, position = _varint(handle, 0)
  size, _ = _varint(handle, position)
  block = data[offset : offset + size]
  if data[offset + size] != _UNCOMPRESSED:
    raise ValueError('its table is compressed')
  (num_restarts,) = struct.unpack('<I', block[-4:].rjust(4, b'\0'))
  stop = size - 4 * (num_restarts + 1)
  key, position = b'', 0
  while position < stop:
    num_shared, position = _varint(block, position)
    num_own, position = _varint(block, position)
    num_value, position = _varint(block, position)
    key = key[:num_shared] + block[position : position + num_own]
    position += num_own
    yield key, block[position : position + num_value]
    position += num_value


def _varint(data: bytes, position: int) -> tuple[int, int]:
  """An integer of seven bits a byte, and where the next one begins."""
  value = shift = 0
  while data[position] & 0x80:
    value |= (data[position] & 0x7F) << shift
    position, shift = position + 1, shift + 7
  return value | data[position] << shift, position + 1
