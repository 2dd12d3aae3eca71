"""Block embeddings on disk, with what they were made from."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from realm_jax.errors import UserError
from realm_jax.folders import read_manifest, write_manifest
from realm_jax.types import Array

_FILE = 'block_embeds.npy'
_MADE_BY = 'realm-jax build-index --run RUN'


class Snapshot(NamedTuple):
  """The embeddings of all blocks of a corpus under some parameters.

  Attributes:
    block_embeds: [num_blocks, embed_dim] float32; row i is block i.
    index_step: training step of the parameters.
    corpus_fingerprint: of the corpus whose blocks these are.
  """

  block_embeds: Array
  index_step: int
  corpus_fingerprint: str


def save_snapshot(folder: Path, snapshot: Snapshot) -> None:
  """Writes a snapshot folder; its manifest comes last."""
  block_embeds = np.asarray(snapshot.block_embeds)
  write_snapshot(
    folder,
    [block_embeds],
    block_embeds.shape,
    snapshot.index_step,
    snapshot.corpus_fingerprint,
  )


def write_snapshot(
  folder: Path,
  parts: Iterable[np.ndarray],
  shape: tuple[int, int],
  index_step: int,
  corpus_fingerprint: str,
) -> None:
  """Writes a snapshot folder of embeddings that come part by part.

  Args:
    folder: made if missing.
    parts: the rows in order, [any number, embed_dim] each.
    shape: (num_blocks, embed_dim), of all parts together.
    index_step: training step of the parameters.
    corpus_fingerprint: of the corpus whose blocks these are.
  """
  folder.mkdir(parents=True, exist_ok=True)
  header = {'descr': '<f4', 'fortran_order': False, 'shape': tuple(shape)}
  with open(folder / _FILE, 'wb') as stream:
    np.lib.format.write_array_header_1_0(stream, header)
    for part in parts:
      stream.write(np.ascontiguousarray(part, '<f4').data)
  write_manifest(
    folder,
    'snapshot',
    [_FILE],
    index_step=int(index_step),
    corpus_fingerprint=corpus_fingerprint,
    num_blocks=int(shape[0]),
    embed_dim=int(shape[1]),
  )


def load_snapshot(folder: Path, corpus_fingerprint: str) -> Snapshot:
  """Opens a snapshot; the embeddings stay on disk, memory-mapped.

  Args:
    folder: what save_snapshot wrote.
    corpus_fingerprint: of the corpus that is to be searched.

  Raises:
    FileNotFoundError: there is no whole snapshot.
    UserError: it is damaged, or of another corpus.
  """
  manifest = read_manifest(folder, 'snapshot', _MADE_BY, verify=True)
  if manifest['corpus_fingerprint'] != corpus_fingerprint:
    raise UserError(
      f'Snapshot {folder} embeds corpus {manifest["corpus_fingerprint"][:12]}, '
      f'but the corpus in use is {corpus_fingerprint[:12]}. '
      f'Make one for it with: {_MADE_BY}'
    )
  block_embeds = np.load(folder / _FILE, mmap_mode='r', allow_pickle=False)
  return Snapshot(block_embeds, manifest['index_step'], corpus_fingerprint)
