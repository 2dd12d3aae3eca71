"""The worker process that builds a searcher while the old one is searched."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from realm_jax.data.pool import num_cores
from realm_jax.errors import UserError
from realm_jax.folders import is_whole
from realm_jax.index.scann_settings import ScannConfig
from realm_jax.index.snapshot import (
  Snapshot,
  finish_snapshot,
  load_snapshot,
  write_shard,
)
from realm_jax.types import Array

# What libraries for numbers take as the number of their threads.
_THREAD_VARIABLES = (
  'OMP_NUM_THREADS',
  'OPENBLAS_NUM_THREADS',
  'MKL_NUM_THREADS',
)
_LINES_TOLD = 15
_PART_SIZE = 65_536  # rows written at a time
_USER_ERROR = 2  # exit status of a worker that says what to mend


class Worker:
  """A process that builds a searcher of a snapshot into a temporary folder.

  It ends, and the folder goes, with this object or with this process, however
  that ends.
  """

  def __init__(self, snapshot: Snapshot, config: ScannConfig):
    """Starts it.

    Args:
      snapshot: read from its file where it is a memory-mapped one, else
        written to a temporary one first.
      config: see ScannConfig.

    Raises:
      UserError: there is no work_folder.
    """
    self.folder = _make_folder(config.work_folder)
    self._stderr = self.folder / 'stderr.txt'
    self.built = self.folder / 'built'
    try:
      self._process = self._start(snapshot, config)
    except BaseException:
      shutil.rmtree(self.folder, ignore_errors=True)
      raise
    self._end = weakref.finalize(self, _end, self._process, self.folder)

  def _start(self, snapshot: Snapshot, config: ScannConfig) -> subprocess.Popen:
    source = folder_of(snapshot)
    if source is None:
      source = self.folder / 'snapshot'
      rows = snapshot.block_embeds
      source.mkdir()
      write_shard(source, 0, 1, _parts(rows), rows.shape, 'float32')
      finish_snapshot(source, snapshot, rows.shape, 'float32')
    num_threads = config.build_threads or max(1, num_cores() // 2)
    with open(self._stderr, 'wb') as stderr:
      return subprocess.Popen(
        [
          *(sys.executable, '-m', 'realm_jax.index.scann_build'),
          *(str(source.resolve()), str(self.built)),
          *('--threads', str(num_threads), '--end-with-parent'),
          *('--config', json.dumps(dataclasses.asdict(config))),
        ],
        env={
          **os.environ,
          **dict.fromkeys(_THREAD_VARIABLES, str(num_threads)),
          # It imports the library from where this process did.
          'PYTHONPATH': os.pathsep.join(filter(None, sys.path)),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
      )

  def is_running(self) -> bool:
    """Whether it is still building."""
    return self._process.poll() is None

  def result(self) -> Path:
    """Waits for the worker; returns the folder of what it built.

    The folder is there until `end`, which an interrupt also calls.

    Raises:
      UserError: the worker says what the user is to mend.
      RuntimeError: it failed otherwise; the message has its last lines.
    """
    try:
      status = self._process.wait()
    except BaseException:
      self.end()
      raise
    if status == 0:
      return self.built
    lines = self._stderr.read_text(encoding='utf-8', errors='replace')
    self.end()
    if status == _USER_ERROR:
      raise UserError(lines.strip())
    ended = f'was ended by signal {-status}' if status < 0 else 'failed'
    if status == -9:
      ended += ', as happens where memory runs out'
    last_lines = '\n'.join(lines.splitlines()[-_LINES_TOLD:])
    raise RuntimeError(
      f'The process that builds a ScaNN index {ended}. The old index stays in '
      f'use. Its last lines:\n{last_lines}'
    )

  def end(self) -> None:
    """Ends the process, if it is running, and removes the folder."""
    self._end()


def folder_of(snapshot: Snapshot) -> Path | None:
  """Folder of the snapshot whose one file these rows are, memory-mapped.

  None where they are in memory, in several files, or some of the rows only.
  """
  rows = mapped = snapshot.block_embeds
  while isinstance(mapped, np.ndarray) and not hasattr(mapped, 'filename'):
    mapped = mapped.base
  if not isinstance(mapped, np.memmap) or not mapped.filename:
    return None
  folder = Path(mapped.filename).parent
  if not is_whole(folder) or rows.flags.writeable:
    return None
  whole = load_snapshot(folder, None, verify=False).block_embeds
  is_all = (
    whole.shape == rows.shape
    and whole.dtype == rows.dtype
    and rows.flags.c_contiguous
  )
  return folder if is_all else None


def _parts(rows: Array) -> Iterator[np.ndarray]:
  for start in range(0, len(rows), _PART_SIZE):
    yield np.asarray(rows[start : start + _PART_SIZE])


def _make_folder(parent: str) -> Path:
  try:
    return Path(tempfile.mkdtemp(prefix='realm_jax-scann-', dir=parent or None))
  except OSError as error:
    raise UserError(
      f'No folder to build a ScaNN index in could be made in '
      f'{parent or tempfile.gettempdir()}: {error}. Give another one '
      '(ScannConfig.work_folder).'
    ) from error


def _end(process: subprocess.Popen, folder: Path) -> None:
  process.kill()
  process.wait()
  if process.stdin:
    process.stdin.close()
  shutil.rmtree(folder, ignore_errors=True)
