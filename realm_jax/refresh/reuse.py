"""Embeddings made before: which blocks need not be embedded again."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from realm_jax import hosts
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.folders import is_whole
from realm_jax.index.snapshot import load_snapshot
from realm_jax.types import Array

_CHUNK_SIZE = 4096
_DIGEST = np.dtype('V16')


def document_embedder(params: Any) -> dict[str, Any]:
  """The parameters that embed documents, by the name the model has for them.

  Whether queries share them or not: {'document_embedder': ...} where they have
  an embedder of their own, {'embedder': ...} elsewhere.
  """
  name = 'document_embedder' if 'document_embedder' in params else 'embedder'
  return {name: params[name]}


def params_fingerprint(params: Any) -> str:
  """SHA-256 of the parameters that embed documents, however they are spread.

  A model whose embedders were split embeds the same documents to the same
  vectors, and has the same fingerprint.
  """
  (embedder,) = document_embedder(params).values()
  digest = hashlib.sha256()
  for path, array in jax.tree_util.tree_leaves_with_path(embedder):
    array = np.ascontiguousarray(hosts.as_numpy(array))
    name = jax.tree_util.keystr(path)
    digest.update(f'{name} {array.dtype} {array.shape};'.encode())
    digest.update(array.reshape(-1).view(np.uint8).data)
  return digest.hexdigest()


def array_fingerprint(array: np.ndarray) -> str:
  """SHA-256 of the numbers of an array."""
  return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def block_digests(corpus: Corpus, lengths: Lengths) -> np.ndarray:
  """What the embedder sees of each block, as 16 bytes: [num_blocks] void.

  Equal wordpieces of title and body, cut to document_len, in an equal
  vocabulary have equal digests.
  """
  salt = hashlib.sha256(
    f'{corpus.wordpiece.fingerprint} {lengths.document_len}'.encode()
  ).digest()[: hashlib.blake2b.SALT_SIZE]
  digests = np.empty(corpus.num_blocks, _DIGEST)
  for start in range(0, corpus.num_blocks, _CHUNK_SIZE):
    stop = min(start + _CHUNK_SIZE, corpus.num_blocks)
    blocks = corpus.gather(np.arange(start, stop))
    for row, (title_ids, title_len, body_ids, body_len) in enumerate(
      zip(*blocks, strict=True)
    ):
      seen = (
        title_ids[:title_len].tobytes() + b'|' + body_ids[:body_len].tobytes()
      )
      digest = hashlib.blake2b(seen, digest_size=_DIGEST.itemsize, salt=salt)
      digests[start + row] = digest.digest()
  return digests


def holds_embeds_of(folder: Path, fingerprint: str) -> bool:
  """Whether a snapshot can be reused for parameters of this fingerprint."""
  if not is_whole(folder):
    return False
  snapshot = load_snapshot(folder, None, verify=False)
  return (
    snapshot.params_fingerprint == fingerprint
    and snapshot.block_digests is not None
  )


def reuse_embeds(
  folders: Sequence[Path], digests: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Copies embeddings from snapshots, of other corpora for example.

  Args:
    folders: of snapshots, at least one, of the parameters in use.
    digests: [num_blocks] of the corpus in use.

  Returns:
    [num_blocks, embed_dim] float32, and [num_blocks] bool: which were found.

  Raises:
    UserError: one is damaged.
  """
  found = np.zeros(len(digests), bool)
  first = load_snapshot(folders[0], None, verify=False)
  shape = (len(digests), first.block_embeds.shape[1])
  block_embeds = np.empty(shape, np.float32)
  for folder in folders:
    snapshot = load_snapshot(folder, None)
    rows = _places(snapshot.block_digests, digests)
    new = np.flatnonzero((rows >= 0) & ~found)
    block_embeds[new] = snapshot.block_embeds[rows[new]]
    found[new] = True
  return block_embeds, found


def _places(old: Array, new: np.ndarray) -> np.ndarray:
  """Where each new digest stands among the old ones; -1 where nowhere."""
  # Void arrays cannot be sorted; strings of bytes can.
  old, new = (np.asarray(array).view('S16') for array in (old, new))
  order = np.argsort(old)
  places = order[np.minimum(np.searchsorted(old[order], new), len(old) - 1)]
  return np.where(old[places] == new, places, -1)
