"""The table that an exact search reads: embeddings on the device, padded.

It is an argument of every jitted function, padded to a static capacity, so that
adding, removing, refreshing or swapping blocks compiles nothing, and a refresh
cannot be missed by a table baked into a compiled function.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from realm_jax.errors import UserError
from realm_jax.types import Array

DTYPES = ('float32', 'bfloat16', 'int8')

# Rows of each device's part of a table are a multiple of this.
_SHARD_MULTIPLE = 128
# Rows converted at a time.
_PART_SIZE = 65_536
# Rows that one call writes; a last, smaller part is padded to as many.
_WRITE_SIZE = 4096
# XLA takes over host memory that is aligned like this.
_ALIGNMENT = 64


class Table(NamedTuple):
  """Block embeddings as a search reads them.

  Attributes:
    rows: [capacity, embed_dim] float32, bfloat16 or int8; row i is block i.
    live: [capacity] bool; whether a row holds a block; None: all do.
    scales: [capacity] float32; int8 only: a row is its numbers times this.
    full: [capacity, embed_dim] float32; what the best rows are scored with
      again; None where rows itself is good enough.
  """

  rows: Array
  live: Array | None = None
  scales: Array | None = None
  full: Array | None = None


def padded_capacity(num_rows: int, mesh: Mesh | None) -> int:
  """Rows of a table for so many: the same number in whole groups a device."""
  if mesh is None:
    return num_rows
  multiple = _SHARD_MULTIPLE * mesh.size
  return -(-num_rows // multiple) * multiple


def quantise(block_embeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Rows as int8 and their scales: [num_rows, embed_dim], [num_rows] float32.

  The largest number of a row becomes 127 or -127.
  """
  largest = np.abs(block_embeds).max(axis=1, initial=0)
  scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
  return np.rint(block_embeds / scales[:, None]).astype(np.int8), scales


def make_table(
  block_embeds: np.ndarray,
  live: np.ndarray,
  capacity: int,
  dtype: str,
  rescore: bool,
  mesh: Mesh | None,
) -> Table:
  """Puts embeddings on the devices.

  On one CPU device a float32 table that needs no padding is not copied but
  aliased: a memory-mapped file stays on disk, and pages are read as they are
  searched.

  Args:
    block_embeds: [num_blocks, embed_dim] float32 or bfloat16; may be
      memory-mapped.
    live: [num_blocks] bool.
    capacity: rows of the table; a multiple of the mesh's devices.
    dtype: of rows: one of DTYPES.
    rescore: keep float32 rows beside those of a smaller dtype.
    mesh: whose devices the rows are spread over, all of its axes; None for the
      default device.
  """
  place = functools.partial(_place, capacity=capacity, mesh=mesh)
  dim = block_embeds.shape[1]
  scales = full = None
  if dtype == 'int8':
    # Quantised where it is placed, a slice at a time, and so twice.
    rows = place(block_embeds, (dim,), np.int8, lambda part: quantise(part)[0])
    scales = place(block_embeds, (), np.float32, lambda part: quantise(part)[1])
  else:
    rows = place(block_embeds, (dim,), jnp.dtype(dtype))
  if rescore and dtype != 'float32':
    full = place(block_embeds, (dim,), np.float32)
  return Table(rows, place(live, (), np.bool_), scales, full)


def set_live(table: Table, live: np.ndarray, mesh: Mesh | None) -> Table:
  """The table with other rows in use; live is [capacity] bool."""
  return table._replace(
    live=_place(live, (), np.bool_, capacity=len(live), mesh=mesh)
  )


def is_aliased(
  source: np.ndarray, capacity: int, dtype: Any, mesh: Mesh | None
) -> bool:
  """Whether an array is used as the table itself, with no copy of it."""
  return (
    mesh is None
    and jax.local_devices()[0].platform == 'cpu'
    and isinstance(source, np.ndarray)
    and source.dtype == dtype
    and len(source) == capacity
    and source.flags.c_contiguous
    and source.ctypes.data % _ALIGNMENT == 0
    # What could be written to later must not be aliased.
    and not source.flags.writeable
  )


def _place(
  source: np.ndarray,
  row_shape: tuple[int, ...],
  dtype: Any,
  convert: Callable[[np.ndarray], np.ndarray] | None = None,
  *,
  capacity: int,
  mesh: Mesh | None,
) -> jax.Array:
  """Rows on the devices, with zeros behind the last; compiles nothing."""
  if convert is None and is_aliased(source, capacity, dtype, mesh):
    return jax.device_put(source, may_alias=True)

  def rows_between(start: int, stop: int) -> np.ndarray:
    rows = aligned_zeros((stop - start, *row_shape), dtype)
    # In parts, so that a conversion does not double what is held.
    for first in range(start, min(stop, len(source)), _PART_SIZE):
      part = source[first : min(first + _PART_SIZE, stop)]
      rows[first - start :][: len(part)] = convert(part) if convert else part
    return rows

  # Nobody else has these rows, so that they need not be copied.
  if mesh is None:
    # On no device in particular, as other arguments of a jitted function are.
    return jax.device_put(rows_between(0, capacity), may_alias=True)
  shape = (capacity, *row_shape)
  sharding = NamedSharding(mesh, P(mesh.axis_names))
  arrays = []
  for device, index in sharding.addressable_devices_indices_map(shape).items():
    assert index is not None
    rows = rows_between(*index[0].indices(capacity)[:2])
    arrays.append(jax.device_put(rows, device, may_alias=True))
  return jax.make_array_from_single_device_arrays(shape, sharding, arrays)


def aligned_zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
  """Zeros where XLA can take them over without a copy."""
  num_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
  buffer = np.zeros(num_bytes + _ALIGNMENT, np.uint8)
  start = -buffer.ctypes.data % _ALIGNMENT
  return buffer[start : start + num_bytes].view(dtype).reshape(shape)


@functools.partial(jax.jit, donate_argnums=0, static_argnames='mesh')
def _write(
  array: jax.Array, row_ids: Array, values: Array, mesh: Mesh | None
) -> jax.Array:
  """Writes rows in place; ids beyond the array are left out."""
  if mesh is None:
    return array.at[row_ids].set(values.astype(array.dtype), mode='drop')
  axes = mesh.axis_names

  def write_local(local: jax.Array, row_ids: jax.Array, values: jax.Array):
    rows_here = local.shape[0]
    row_ids = row_ids - jax.lax.axis_index(axes) * rows_here
    # Negative ids would count from the end.
    row_ids = jnp.where(row_ids < 0, rows_here, row_ids)
    return local.at[row_ids].set(values.astype(local.dtype), mode='drop')

  return jax.shard_map(
    write_local, mesh=mesh, in_specs=(P(axes), P(), P()), out_specs=P(axes)
  )(array, row_ids, values)


def write_rows(
  table: Table,
  row_ids: np.ndarray,
  block_embeds: np.ndarray,
  mesh: Mesh | None,
) -> Table:
  """Replaces rows in place, without compiling for any new number of them.

  Args:
    table: given up: its arrays must not be used any more.
    row_ids: [num_rows] int.
    block_embeds: [num_rows, embed_dim] float32.
    mesh: as the table was made with.
  """
  capacity = table.rows.shape[0]
  for start in range(0, len(row_ids), _WRITE_SIZE):
    part = block_embeds[start : start + _WRITE_SIZE].astype(np.float32)
    ids = np.full(_WRITE_SIZE, capacity, np.int32)
    ids[: len(part)] = row_ids[start : start + _WRITE_SIZE]
    padded = np.zeros((_WRITE_SIZE, part.shape[1]), np.float32)
    padded[: len(part)] = part
    rows, scales = padded, None
    if table.scales is not None:
      rows, scales = quantise(padded)
      table = table._replace(scales=_write(table.scales, ids, scales, mesh))
    if table.full is not None:
      table = table._replace(full=_write(table.full, ids, padded, mesh))
    table = table._replace(rows=_write(table.rows, ids, rows, mesh))
  return table


@functools.partial(jax.jit, static_argnames='mesh')
def take_rows(table: Table, row_ids: Array, mesh: Mesh | None) -> jax.Array:
  """Rows in float32, the best that the table has: [..., embed_dim].

  NULL_BLOCK_ID gives zeros.
  """

  def take_local(table: Table, row_ids: jax.Array) -> jax.Array:
    rows = table.rows if table.full is None else table.full
    inside = (row_ids >= 0) & (row_ids < rows.shape[0])
    places = jnp.where(inside, row_ids, 0)
    rows = rows[places].astype(jnp.float32)
    if table.full is None and table.scales is not None:
      rows *= table.scales[places][..., None]
    return jnp.where(inside[..., None], rows, 0)

  if mesh is None:
    return take_local(table, row_ids)
  axes = mesh.axis_names

  def take_from_all(table: Table, row_ids: jax.Array) -> jax.Array:
    first = jax.lax.axis_index(axes) * table.rows.shape[0]
    # Every row is on one device, and zeros come from the others.
    return jax.lax.psum(take_local(table, row_ids - first), axes)

  return jax.shard_map(
    take_from_all, mesh=mesh, in_specs=(P(axes), P()), out_specs=P()
  )(table, row_ids)


def table_bytes(
  capacity: int, embed_dim: int, dtype: str, rescore: bool
) -> int:
  """Memory that a table takes, on all devices together."""
  width = {'float32': 4, 'bfloat16': 2, 'int8': 1}[dtype]
  per_row = embed_dim * width + 1 + (4 if dtype == 'int8' else 0)
  if rescore and dtype != 'float32':
    per_row += 4 * embed_dim
  return capacity * per_row


def check_dtype(dtype: str) -> None:
  """Raises UserError if no table can have this dtype."""
  if dtype not in DTYPES:
    raise UserError(
      f'The dtype of the index is {dtype!r}, expected one of '
      f'{", ".join(DTYPES)}.'
    )
