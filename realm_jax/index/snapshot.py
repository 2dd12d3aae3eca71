"""Block embeddings on disk, with what they were made from."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from realm_jax.errors import UserError
from realm_jax.folders import MANIFEST, read_manifest, write_manifest
from realm_jax.types import Array

_MADE_BY = 'realm-jax build-index --run RUN'
_LIVE_FILE = 'live.npy'
_DIGESTS_FILE = 'block_digests.npy'
# What numpy files call them: bfloat16 is kept as its bits.
_FILE_DTYPES = {'float32': '<f4', 'bfloat16': '<u2'}


class Snapshot(NamedTuple):
  """The embeddings of all blocks of a corpus under some parameters.

  Attributes:
    block_embeds: [num_rows, embed_dim] float32 or bfloat16; row i is block i.
    index_step: training step of the parameters.
    corpus_fingerprint: of the corpus whose blocks these are; '' where the
      embeddings are of no corpus.
    params_fingerprint: of the parameters; '' where they are not known.
    live: [num_rows] bool; whether a row is a block, and not a removed one's.
      None where all are.
    block_digests: [num_rows] void of 16 bytes; what each block says, see
      refresh.reuse; None where that is not known.
  """

  block_embeds: Array
  index_step: int = 0
  corpus_fingerprint: str = ''
  params_fingerprint: str = ''
  live: np.ndarray | None = None
  block_digests: np.ndarray | None = None


def as_snapshot(blocks: Snapshot | Array) -> Snapshot:
  """A snapshot of numpy's rows, or of those in several files.

  Args:
    blocks: a snapshot, or [num_rows, embed_dim] float embeddings.

  Raises:
    UserError: they are not of two dimensions, or there are none.
  """
  snapshot = blocks if isinstance(blocks, Snapshot) else Snapshot(blocks)
  rows = snapshot.block_embeds
  if not isinstance(rows, np.ndarray | ShardedRows):
    rows = np.asarray(rows)
    snapshot = snapshot._replace(block_embeds=rows)
  if len(rows.shape) != 2:
    raise UserError(
      f'block_embeds have shape {rows.shape}, expected two dimensions: '
      '[num_blocks, embed_dim].'
    )
  if not len(rows):
    raise UserError('There are no block embeddings: the corpus is empty.')
  return snapshot


def save_snapshot(
  folder: Path,
  snapshot: Snapshot,
  *,
  dtype: str = 'float32',
  num_shards: int = 1,
) -> None:
  """Writes a snapshot folder; its manifest comes last.

  Args:
    folder: made if missing; what was saved there goes. Rows that are
      memory-mapped from it stay readable.
    snapshot: what to write.
    dtype: 'float32' or 'bfloat16'.
    num_shards: files to spread the rows over.
  """
  folder.mkdir(parents=True, exist_ok=True)
  shape = snapshot.block_embeds.shape
  bounds = shard_bounds(shape[0], num_shards)
  for number in range(num_shards):
    rows = np.asarray(
      snapshot.block_embeds[bounds[number] : bounds[number + 1]]
    )
    write_shard(folder, number, num_shards, [rows], rows.shape, dtype)
  finish_snapshot(folder, snapshot, shape, dtype, num_shards)


def shard_name(number: int, num_shards: int) -> str:
  """Name of a file of a snapshot: block_embeds-00000-of-00004.npy."""
  return f'block_embeds-{number:05d}-of-{num_shards:05d}.npy'


def shard_bounds(num_rows: int, num_shards: int) -> list[int]:
  """First row of each shard and, last, the number of rows."""
  return [num_rows * number // num_shards for number in range(num_shards + 1)]


def write_shard(
  folder: Path,
  number: int,
  num_shards: int,
  parts: Iterable[np.ndarray],
  shape: tuple[int, int],
  dtype: str,
) -> None:
  """Writes a file of a snapshot: the rows within shard_bounds of its number.

  Several processes write a file each; one of them then finishes the snapshot.

  Args:
    folder: of the snapshot.
    number: of the file.
    num_shards: number of files.
    parts: its rows in order, [any number, embed_dim] each.
    shape: of all its rows together.
    dtype: 'float32' or 'bfloat16'.
  """
  file_dtype = _FILE_DTYPES.get(dtype)
  if file_dtype is None:
    raise ValueError(
      f'dtype is {dtype!r}, expected one of {", ".join(_FILE_DTYPES)}.'
    )
  # Until it is finished again, what was here is no snapshot.
  (folder / MANIFEST).unlink(missing_ok=True)
  header = {
    'descr': file_dtype,
    'fortran_order': False,
    'shape': tuple(int(size) for size in shape),
  }
  path = folder / shard_name(number, num_shards)
  partial = path.with_name(path.name + '.partial')
  with open(partial, 'wb') as stream:
    np.lib.format.write_array_header_1_0(stream, header)
    for part in parts:
      rows = np.ascontiguousarray(part, _numpy_dtype(dtype))
      stream.write(rows.view(file_dtype).data)
  # An older file that somebody has mapped is not written to.
  os.replace(partial, path)


def finish_snapshot(
  folder: Path,
  snapshot: Snapshot,
  shape: tuple[int, int],
  dtype: str,
  num_shards: int = 1,
) -> None:
  """Declares a snapshot whole, when all its files have been written.

  Args:
    folder: of the snapshot.
    snapshot: all but block_embeds, which is not used.
    shape: of block_embeds.
    dtype: of the rows.
    num_shards: number of files.
  """
  num_rows, embed_dim = shape
  files = [shard_name(number, num_shards) for number in range(num_shards)]
  for name, array in (
    (_LIVE_FILE, snapshot.live),
    (_DIGESTS_FILE, snapshot.block_digests),
  ):
    if array is not None:
      np.save(folder / name, array, allow_pickle=False)
      files.append(name)
  live = snapshot.live
  write_manifest(
    folder,
    'snapshot',
    files,
    index_step=int(snapshot.index_step),
    corpus_fingerprint=snapshot.corpus_fingerprint,
    params_fingerprint=snapshot.params_fingerprint,
    num_blocks=int(num_rows if live is None else live.sum()),
    num_rows=int(num_rows),
    embed_dim=int(embed_dim),
    dtype=dtype,
    num_shards=num_shards,
  )


def load_snapshot(
  folder: Path, corpus_fingerprint: str | None, *, verify: bool = True
) -> Snapshot:
  """Opens a snapshot; the embeddings stay on disk, memory-mapped.

  Those of a single file are one array. Several files, of several processes,
  are read as one array that is put together where it is sliced: on a mesh each
  device reads the rows it holds, whatever the number of files.

  Args:
    folder: what save_snapshot wrote.
    corpus_fingerprint: of the corpus that is to be searched; None for any.
    verify: compare checksums, which reads every byte.

  Raises:
    FileNotFoundError: there is no whole snapshot.
    UserError: it is damaged, or of another corpus.
  """
  folder = Path(folder)
  manifest = read_manifest(folder, 'snapshot', _MADE_BY, verify=verify)
  if corpus_fingerprint not in (None, manifest['corpus_fingerprint']):
    raise UserError(
      f'Snapshot {folder} embeds corpus {manifest["corpus_fingerprint"][:12]}, '
      f'but the corpus in use is {corpus_fingerprint[:12]}. '
      f'Make one for it with: {_MADE_BY}'
    )
  if 'num_shards' not in manifest:
    raise UserError(
      f'Snapshot {folder} was written by an earlier version of this program. '
      'Delete it, and it is made again.'
    )
  num_shards = manifest['num_shards']
  shards = [
    np.load(
      folder / shard_name(number, num_shards), mmap_mode='r', allow_pickle=False
    ).view(_numpy_dtype(manifest['dtype']))
    for number in range(num_shards)
  ]
  live, digests = (
    np.load(folder / name, allow_pickle=False)
    if name in manifest['files']
    else None
    for name in (_LIVE_FILE, _DIGESTS_FILE)
  )
  return Snapshot(
    shards[0] if num_shards == 1 else ShardedRows(shards),
    manifest['index_step'],
    manifest['corpus_fingerprint'],
    manifest['params_fingerprint'],
    live,
    digests,
  )


def _numpy_dtype(dtype: str) -> np.dtype:
  return np.dtype(ml_dtypes.bfloat16 if dtype == 'bfloat16' else dtype)


class ShardedRows:
  """Memory-mapped files of rows, read as one array [num_rows, embed_dim]."""

  def __init__(self, shards: Sequence[np.ndarray]):
    """Keeps its argument: [any number, embed_dim] each."""
    self._shards = shards
    self._starts = np.cumsum([0, *(len(shard) for shard in shards)])
    self.shape = (int(self._starts[-1]), shards[0].shape[1])
    self.dtype = shards[0].dtype

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
    """Copies rows, named by a slice or by their numbers."""
    if isinstance(rows, slice):
      start, stop, step = rows.indices(len(self))
      if step != 1:
        raise ValueError(f'Rows are read with step 1, not {step}.')
      return np.concatenate(
        [
          shard[max(start - first, 0) : max(stop - first, 0)]
          for shard, first in zip(self._shards, self._starts, strict=False)
        ]
      )
    rows = np.asarray(rows)
    numbers = np.searchsorted(self._starts, rows, 'right') - 1
    found = np.empty((*rows.shape, self.shape[1]), self.dtype)
    for number in np.unique(numbers):
      chosen = numbers == number
      found[chosen] = self._shards[number][rows[chosen] - self._starts[number]]
    return found

  def __array__(self, dtype=None, copy=None) -> np.ndarray:
    """All rows, in memory."""
    array = np.concatenate(self._shards)
    return array if dtype is None else array.astype(dtype)
