"""Blocks of the originals in this library's own pipeline."""

from pathlib import Path

import numpy as np
import tiny

from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.runs.prepare import prepare

_SHORTEST = 8  # that Lengths takes


def corpus_of(records: np.ndarray, vocab: Path, folder: Path) -> Corpus:
  """Prepares texts, one a block, as block_records.npy.

  Args:
    records: [num_blocks] bytes.
    vocab: the vocab.txt.
    folder: where to write.
  """
  np.save(folder / 'block_records.npy', records)
  prepare(
    [str(folder / 'block_records.npy')],
    str(folder / 'corpus'),
    vocab=str(vocab),
    entities='none',
    console=tiny.quiet(),
  )
  return Corpus.open(folder / 'corpus')


def reader_lengths(reader_len: int) -> Lengths:
  """Joint sequences of a length; the question is not cut, the block is."""
  return Lengths(reader_len - _SHORTEST, _SHORTEST, reader_len)
