"""A ScaNN searcher: built, written to a folder and read back.

A swap builds in a process of its own, which this file also is:

  python -m realm_jax.index.scann_build SNAPSHOT OUT --threads 1

Needs neither JAX nor TensorFlow.
"""

import argparse
import contextlib
import json
import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from realm_jax.errors import USER_ERRORS, UserError
from realm_jax.folders import read_manifest, write_manifest
from realm_jax.index.scann_settings import (
  ScannConfig,
  ScannSettings,
  settings_for,
)
from realm_jax.index.snapshot import load_snapshot
from realm_jax.optional import require

# Written by ScaNN: [num_rows, embed_dim] float32.
ROWS_FILE = 'dataset.npy'
KIND = 'scann'  # of a folder with a searcher
# A pickle, which ScaNN would load; nothing here writes one.
_PICKLE = 'scann_docids.pkl'
_DIMS_PER_CODE = 2
_ANISOTROPIC_THRESHOLD = 0.2
_SOAR = {'soar_lambda': 1.5, 'overretrieve_factor': 1.8}
_USUAL_K = 8  # of what a searcher does unless told otherwise


@contextlib.contextmanager
def _without_tensorflow() -> Iterator[None]:
  """Makes TensorFlow seem not to be installed."""
  loaded = 'tensorflow' in sys.modules
  module = sys.modules.get('tensorflow')
  sys.modules['tensorflow'] = None  # type: ignore[assignment]
  try:
    yield
  finally:
    if loaded:
      sys.modules['tensorflow'] = module  # type: ignore[assignment]
    else:
      del sys.modules['tensorflow']


def import_scann() -> ModuleType:
  """ScaNN, without the TensorFlow that it imports if it can.

  That takes over 10 s and half a GiB, for operations that are not used here.

  Raises:
    ImportError: it is not installed; the message says how to install it.
  """
  with _without_tensorflow():
    return require('scann', 'scann')


def needed_bytes(num_rows: int, embed_dim: int, settings: ScannSettings) -> int:
  """Memory that a searcher takes, about; its building takes as much again."""
  rows = 4 * embed_dim * num_rows
  if not settings.num_leaves:
    return rows
  copies = 2 if settings.soar else 1
  # A code is half a byte; a block's leaf is told by a number.
  return rows + copies * num_rows * (embed_dim // _DIMS_PER_CODE // 2 + 8)


def build_searcher(
  block_embeds: np.ndarray, settings: ScannSettings, num_threads: int
) -> Any:
  """A searcher of all rows.

  Args:
    block_embeds: [num_rows, embed_dim] float32; may be memory-mapped.
    settings: see settings_for.
    num_threads: to train with.
  """
  builder = import_scann().scann_ops_pybind.builder(
    block_embeds, _USUAL_K, 'dot_product'
  )
  if not settings.num_leaves:
    return builder.score_brute_force().build()
  return (
    builder.tree(
      settings.num_leaves,
      settings.leaves_to_search,
      training_sample_size=settings.training_sample_size,
      **(_SOAR if settings.soar else {}),
    )
    .score_ah(
      _DIMS_PER_CODE,
      anisotropic_quantization_threshold=_ANISOTROPIC_THRESHOLD,
      training_sample_size=settings.training_sample_size,
    )
    .reorder(settings.reorder)
    .set_n_training_threads(num_threads)
    .build()
  )


def write_searcher(folder: Path, searcher: Any, **fields: Any) -> None:
  """Writes a searcher; its manifest comes last.

  Args:
    folder: made if missing.
    searcher: what build_searcher returned.
    **fields: further entries of the manifest.
  """
  folder.mkdir(parents=True, exist_ok=True)
  searcher.serialize(str(folder), relative_path=True)
  files = sorted(path.name for path in folder.iterdir() if path.is_file())
  write_manifest(folder, KIND, files, **fields)


def read_searcher(
  folder: Path, made_by: str, verify: bool = True
) -> tuple[Any, dict[str, Any]]:
  """Reads a searcher and its manifest.

  Other threads of Python stand still while ScaNN reads its files.

  Args:
    folder: what write_searcher wrote.
    made_by: what makes such a folder, for messages.
    verify: compare checksums, which reads every byte.

  Raises:
    FileNotFoundError: there is no whole searcher.
    UserError: it is damaged, or none of ScaNN's.
  """
  manifest = read_manifest(folder, KIND, made_by, verify=verify)
  if (folder / _PICKLE).exists():
    raise UserError(
      f'{folder / _PICKLE} is no file of a searcher of this library, and '
      'loading it would run whatever it holds. Delete it.'
    )
  scann = import_scann()
  try:
    searcher = scann.scann_ops_pybind.load_searcher(
      str(folder), assets_backcompat_shim=False
    )
  except (RuntimeError, ValueError) as error:
    raise UserError(
      f'ScaNN cannot load {folder}: {error}. Make it again with: {made_by}'
    ) from error
  return searcher, manifest


def build_folder(
  snapshot_folder: Path, folder: Path, config: ScannConfig, num_threads: int
) -> None:
  """Builds a searcher of a snapshot and writes it to a folder."""
  snapshot = load_snapshot(snapshot_folder, None, verify=False)
  # [num_rows, embed_dim]; no copy where it is one file of float32.
  block_embeds = np.asarray(snapshot.block_embeds, np.float32)
  settings = settings_for(len(block_embeds), _USUAL_K, config)
  searcher = build_searcher(block_embeds, settings, num_threads)
  write_searcher(
    folder, searcher, num_leaves=settings.num_leaves, soar=settings.soar
  )


def _stand_back(num_threads: int, niceness: int) -> None:
  """Leaves all cores but some to others, and those to whoever wants them."""
  os.nice(niceness)
  if hasattr(os, 'sched_setaffinity'):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[-num_threads:])


def _end_with_parent() -> None:
  """Lets the kernel end this process when its standard input is closed.

  No thread could watch it: building does not always let others run.
  """
  import fcntl  # not on Windows, where there is no ScaNN either

  fcntl.fcntl(sys.stdin, fcntl.F_SETOWN, os.getpid())
  flags = fcntl.fcntl(sys.stdin, fcntl.F_GETFL)
  fcntl.fcntl(sys.stdin, fcntl.F_SETFL, flags | os.O_ASYNC)
  closed = select.poll()
  closed.register(sys.stdin, 0)
  if closed.poll(0):
    sys.exit('The process that wanted a searcher has ended.')


def main() -> None:
  """Builds in this process; exits with 2 where the user is to mend it."""
  parser = argparse.ArgumentParser(description=main.__doc__)
  parser.add_argument('snapshot', type=Path, help='folder of a snapshot')
  parser.add_argument('out', type=Path, help='folder to write to')
  parser.add_argument('--threads', type=int, default=1)
  parser.add_argument('--config', default='{}', help='of ScannConfig, as JSON')
  parser.add_argument(
    '--end-with-parent',
    action='store_true',
    help='when standard input, a pipe, is closed',
  )
  arguments = parser.parse_args()
  if arguments.end_with_parent:
    _end_with_parent()
  config = ScannConfig(**json.loads(arguments.config))
  _stand_back(arguments.threads, config.niceness)
  try:
    build_folder(arguments.snapshot, arguments.out, config, arguments.threads)
  except USER_ERRORS as error:
    print(error, file=sys.stderr)
    sys.exit(2)


if __name__ == '__main__':
  main()
