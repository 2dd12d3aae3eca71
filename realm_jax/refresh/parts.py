"""Embeddings that a stopped build left behind: the next one goes on from them.

parts/ in the folder of a snapshot that is being made:

origin.json                      what the rows were made from
00000000-00004096-1a2b3c4d.npy   first row, one past the last, CRC-32; rows in
                                 the order in which they were embedded
"""

import os
import shutil
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from realm_jax.folders import read_json, write_json

PARTS = 'parts'
_ORIGIN_FILE = 'origin.json'
# A part is written when what would be lost has taken so many seconds and this
# share of the time since the start: short builds write none, long ones
# hundreds.
_SECONDS, _SHARE = 10.0, 0.01


class Parts:
  """The rows that one build has embedded so far, on disk.

  Attributes:
    num_rows: how many are kept, from the first on.
  """

  def __init__(self, folder: Path, origin: dict[str, Any]):
    """Opens what is there, or nothing; parts of anything else are deleted.

    Args:
      folder: of the snapshot.
      origin: JSON values; all that the rows and their order depend on.
    """
    self._folder = folder / PARTS
    self._origin = origin
    self._start = self._last = time.monotonic()
    self.num_rows = 0
    if self._folder.is_dir() and not self._is_ours():
      shutil.rmtree(self._folder)

  def _is_ours(self) -> bool:
    path = self._folder / _ORIGIN_FILE
    return path.is_file() and read_json(path) == self._origin

  def read(self) -> Iterator[np.ndarray]:
    """The rows that are there, [any number, embed_dim] float32 at a time.

    Each goes on where the last one ended. A part that is torn, and all beyond
    it, is deleted and embedded again.
    """
    for path in sorted(self._folder.glob('*.npy')):
      rows = self._read(path)
      if rows is None:
        path.unlink()
        continue
      yield rows
      self.num_rows += len(rows)

  def _read(self, path: Path) -> np.ndarray | None:
    """The rows of a part; None if it is torn or does not follow the last."""
    first, stop, checksum = path.stem.split('-')
    if int(first) != self.num_rows:
      return None
    try:
      rows = np.load(path, allow_pickle=False)
    except ValueError:  # shorter than its header says
      return None
    is_whole = len(rows) == int(stop) - int(first)
    return rows if is_whole and _checksum(rows) == checksum else None

  def is_due(self) -> bool:
    """Whether enough would be lost by now for a part to be written."""
    now = time.monotonic()
    return now - self._last > max(_SECONDS, _SHARE * (now - self._start))

  def write(self, rows: np.ndarray) -> None:
    """Adds rows behind the last: [any number, embed_dim] float32.

    Raises:
      OSError: they cannot be written.
    """
    if not self.num_rows:
      self._folder.mkdir(parents=True, exist_ok=True)
      write_json(self._folder / _ORIGIN_FILE, self._origin)
    stop = self.num_rows + len(rows)
    name = f'{self.num_rows:08d}-{stop:08d}-{_checksum(rows)}.npy'
    partial = self._folder / f'{name}.partial'
    with open(partial, 'wb') as stream:
      np.save(stream, rows, allow_pickle=False)
      stream.flush()
      os.fsync(stream.fileno())
    os.replace(partial, self._folder / name)
    self.num_rows = stop
    self._last = time.monotonic()


def remove_parts(folder: Path) -> None:
  """Deletes what a build of a snapshot left, when the snapshot is whole."""
  shutil.rmtree(folder / PARTS, ignore_errors=True)


def _checksum(rows: np.ndarray) -> str:
  return f'{zlib.crc32(np.ascontiguousarray(rows).data):08x}'
