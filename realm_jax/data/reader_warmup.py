"""Batches that teach a reader to read, before it has a retriever to read with.

BERT learns to copy between two segments while it is trained; a reader that
starts from nothing has not. Here a sentence is read beside a companion (see
data.companions), or its own block where it has none, or beside a distractor or
the null document; pieces are blanked out all over, and in most rows a salient
span of the sentence as well, as in pre-training.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from realm_jax.data.companions import Companions
from realm_jax.data.corpus import Corpus, Sentence
from realm_jax.data.examples import Example, Lengths, example_rng, padded
from realm_jax.data.featurize import QUERY_SPECIALS, Ragged, joint_inputs
from realm_jax.data.masking import draw_span
from realm_jax.data.spans import Span
from realm_jax.types import NULL_BLOCK_ID, ReaderBatch, TextInputs

_MASK_RATE = 0.25
_SPAN_RATE = 0.7
# What a sentence is read beside: else its companion, or its own block.
_NULL_RATE = 0.15
_DISTRACTOR_RATE = 0.35


@dataclass(frozen=True)
class Readings:
  """What is blanked out of a sentence, and which block it is read beside.

  Attributes:
    corpus: where the sentences come from.
    companions: of the corpus.
    lengths: see Lengths.
    seed: of the choices.
  """

  corpus: Corpus
  companions: Companions
  lengths: Lengths
  seed: int = 0

  def __call__(self, sentence_id: int, epoch: int = 0) -> Example:
    """One example.

    Returns:
      span_pieces [max_masks], num_span_pieces [], read_block_id []; all int32.
      No pieces for a sentence without salient span.
    """
    sentence = self.corpus.sentences[sentence_id]
    text = self.corpus.text(sentence.block_id)
    encoding = self.corpus.wordpiece.encode(
      text[sentence.start : sentence.stop]
    )
    rng = example_rng(self.seed, epoch, sentence_id)
    drawn = draw_span(sentence, encoding, rng)
    span, pieces = drawn if drawn else (None, np.zeros(0, np.int64))
    block_id = self._read_beside(sentence, span, rng)
    pieces = pieces[pieces < self.lengths.query_len - QUERY_SPECIALS]
    max_masks = self.lengths.max_masks
    return {
      'span_pieces': padded(pieces, max_masks),
      'num_span_pieces': np.int32(min(pieces.size, max_masks)),
      'read_block_id': np.int32(block_id),
    }

  def _read_beside(
    self, sentence: Sentence, span: Span | None, rng: np.random.Generator
  ) -> int:
    """The block to read a sentence beside; NULL_BLOCK_ID for none."""
    draw = rng.random()
    if draw < _NULL_RATE:
      return NULL_BLOCK_ID
    if span is None:
      return sentence.block_id
    if draw < _NULL_RATE + _DISTRACTOR_RATE:
      return self.companions.distractor(sentence, span, rng)
    found = self.companions.companion(sentence, span, rng)
    return sentence.block_id if found == NULL_BLOCK_ID else found


def reader_batch(
  examples: Example,
  corpus: Corpus,
  lengths: Lengths,
  draw: Callable[[int], np.ndarray],
  joint_len: int | None = None,
) -> ReaderBatch:
  """Sentences beside blocks, a quarter of the pieces blanked out.

  Args:
    examples: of InverseCloze and Readings together, stacked: [batch, ...].
    corpus: the blocks.
    lengths: joint_len and multiple are used.
    draw: width -> [batch, width] numbers from 0 to 1; what is blanked out.
    joint_len: to pad to; None for what these rows need.
  """
  blocks = corpus.gather(examples['read_block_id'][:, None])
  joint = joint_inputs(
    Ragged(examples['query_ids'], examples['query_lens']),
    blocks,
    corpus.wordpiece,
    joint_len or lengths.multiple,
    joint_len or lengths.joint_len,
  )
  # [batch, joint_len]
  token_ids = joint.token_ids[:, 0]
  wordpiece = corpus.wordpiece
  special = (token_ids == wordpiece.cls_id) | (token_ids == wordpiece.sep_id)
  maskable = joint.mask[:, 0].astype(bool) & ~special
  masked = maskable & (draw(token_ids.shape[1]) < _MASK_RATE)
  masked |= _span_pieces(examples, token_ids.shape) & (draw(1) < _SPAN_RATE)
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
