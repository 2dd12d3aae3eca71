"""Texts sorted by length, in batches of few shapes and about as many tokens."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from realm_jax.data.examples import Lengths

# Wordpieces that a device embeds at a time. A CPU's caches hold the activations
# of some thousand; an accelerator needs many to be busy with.
_TOKENS = {'cpu': 2304}
_ACCELERATOR_TOKENS = 128 * 288
_ROWS_MULTIPLE = 8


class LengthBatch(NamedTuple):
  """A batch.

  Attributes:
    start: place of the first of its texts among all.
    stop: one past the place of the last.
    size: rows; those behind the last text are filled up.
    length: that all are padded or cut to.
  """

  start: int
  stop: int
  size: int
  length: int


def tokens_at_a_time() -> int:
  """Wordpieces that each device of this machine embeds at a time."""
  platform = jax.local_devices()[0].platform
  return _TOKENS.get(platform, _ACCELERATOR_TOKENS)


def length_batches(
  lens: np.ndarray, lengths: Lengths, num_devices: int, start: int = 0
) -> Iterator[LengthBatch]:
  """Batches of texts: one size for each length, so that few are compiled.

  What is left of one length when its batches are full goes into the next.

  Args:
    lens: [num_texts] int, ascending; wordpieces of each.
    lengths: document_len and multiple are used.
    num_devices: that share a batch; sizes are multiples of it.
    start: the first text to take. From where a batch ends the batches are the
      same as those that would have followed it.
  """
  buckets = -(-lens // lengths.multiple) * lengths.multiple
  buckets = np.minimum(buckets, lengths.document_len)
  num_texts = len(lens)
  while start < num_texts:
    length = int(buckets[start])
    stop = min(start + _size(length, num_devices), num_texts)
    length = int(buckets[stop - 1])
    size = _size(length, num_devices)
    stop = min(start + size, num_texts)
    yield LengthBatch(start, stop, size, length)
    start = stop


def _size(length: int, num_devices: int) -> int:
  """Rows of a batch of texts of one length, on all devices together."""
  size = max(tokens_at_a_time() // length, 1)
  if size > _ROWS_MULTIPLE:
    size -= size % _ROWS_MULTIPLE
  return num_devices * size
