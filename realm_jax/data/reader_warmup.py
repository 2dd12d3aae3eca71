"""Batches that teach a reader to read: a sentence beside its own block.

BERT learns to copy between two segments of one document while it is trained; a
reader that starts from nothing has not. Here sentence and block are read
together, the block with the sentence in it; pieces are blanked out all over,
and in most rows a salient span of the sentence as well, as in pre-training.
"""

import numpy as np

from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Example, Lengths
from realm_jax.data.featurize import Ragged, joint_inputs
from realm_jax.types import ReaderBatch, TextInputs

_MASK_RATE = 0.25
_SPAN_RATE = 0.7


def reader_batch(
  examples: Example, corpus: Corpus, lengths: Lengths, rng: np.random.Generator
) -> ReaderBatch:
  """Sentences with their blocks, a quarter of the pieces blanked out.

  Args:
    examples: of InverseCloze, stacked: [batch, ...].
    corpus: the blocks.
    lengths: joint_len and multiple are used.
    rng: decides what is blanked out.
  """
  blocks = corpus.gather(examples['block_id'][:, None])
  joint = joint_inputs(
    Ragged(examples['query_ids'], examples['query_lens']),
    blocks,
    corpus.wordpiece,
    lengths.multiple,
    lengths.joint_len,
  )
  # [batch, joint_len]
  token_ids = joint.token_ids[:, 0]
  wordpiece = corpus.wordpiece
  special = (token_ids == wordpiece.cls_id) | (token_ids == wordpiece.sep_id)
  maskable = joint.mask[:, 0].astype(bool) & ~special
  masked = maskable & (rng.random(token_ids.shape) < _MASK_RATE)
  masked |= _span_pieces(examples, token_ids.shape) & (
    rng.random((len(token_ids), 1)) < _SPAN_RATE
  )
  positions, real = _first_true(masked, int(_MASK_RATE * token_ids.shape[1]))
  return ReaderBatch(
    joint=TextInputs(
      np.where(masked, wordpiece.mask_id, token_ids)[:, None],
      joint.mask,
      joint.segment_ids,
    ),
    mlm_positions=positions,
    mlm_targets=np.take_along_axis(token_ids, positions, axis=1),
    mlm_mask=real,
  )


def _span_pieces(examples: Example, shape: tuple[int, ...]) -> np.ndarray:
  """True at the pieces of each example's salient span: [batch, joint_len]."""
  pieces = np.zeros(shape, bool)
  rows, columns = np.nonzero(
    np.arange(examples['span_pieces'].shape[1])
    < examples['num_span_pieces'][:, None]
  )
  # Pieces count from the sentence's start, positions from [CLS].
  positions = examples['span_pieces'][rows, columns] + 1
  pieces[rows, positions] = True
  return pieces


def _first_true(
  values: np.ndarray, max_positions: int
) -> tuple[np.ndarray, np.ndarray]:
  """Columns of the first true values of each row, and which are real.

  The sentence comes first in a row, so it is the block that is cut.

  Returns:
    [batch, max_positions] int32 twice; 0 where a row has fewer.
  """
  order = np.argsort(~values, axis=1, kind='stable')[:, :max_positions]
  real = np.take_along_axis(values, order, axis=1)
  return (order * real).astype(np.int32), real.astype(np.int32)
