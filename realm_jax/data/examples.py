"""Sentences of a corpus -> training examples, one at a time.

An example is a dictionary of fixed-length arrays, a pure function of seed,
epoch and sentence: the trainer (Grain) and the seqio tasks call these functions
and so see the same examples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from realm_jax.data.companions import Companions
from realm_jax.data.corpus import Corpus
from realm_jax.data.featurize import PAIR_SPECIALS, QUERY_SPECIALS
from realm_jax.data.masking import MASKINGS, mask_sentence
from realm_jax.errors import UserError

Example = dict[str, Any]  # name -> numpy array or scalar


@dataclass(frozen=True)
class Lengths:
  """Sequence lengths in wordpieces, special tokens included.

  Attributes:
    query_len: of masked sentences and questions (the paper has 96 and 64).
    document_len: of documents (the paper has 288). The reader sees up to
      query_len + document_len.
    multiple: batches are padded to a multiple of this, not to the full length.
    max_masks: pieces predicted for a query; further ones stay masked.
  """

  query_len: int = 96
  document_len: int = 288
  multiple: int = 32
  max_masks: int = 10

  def __post_init__(self):
    for name in ('query_len', 'document_len'):
      if getattr(self, name) < 8:
        raise UserError(
          f'Lengths.{name} is {getattr(self, name)}, expected at least 8.'
        )
    for name in ('multiple', 'max_masks'):
      if getattr(self, name) < 1:
        raise UserError(
          f'Lengths.{name} is {getattr(self, name)}, expected at least 1.'
        )

  def check(self, corpus: Corpus, max_positions: int) -> None:
    """Raises UserError where blocks or joint sequences would not fit.

    Args:
      corpus: no block of it may be longer than document_len.
      max_positions: of the encoder; joint sequences may not be longer.
    """
    longest = int(corpus.block_lens.max())
    if longest > self.document_len:
      raise UserError(
        f'Corpus {corpus.folder} has blocks of up to {longest} wordpieces, but '
        f'Lengths.document_len is {self.document_len}: their ends would never '
        f'be read. Prepare the corpus with --block-len {self.document_len}, or '
        'raise Lengths.document_len.'
      )
    if self.query_len + longest > max_positions:
      raise UserError(
        f'Lengths.query_len is {self.query_len}, the longest block of corpus '
        f'{corpus.folder} {longest}, together more than the '
        f'{max_positions} of EncoderConfig.max_positions. Lower query_len, '
        'prepare shorter blocks, or give the encoder more positions.'
      )

  @property
  def joint_len(self) -> int:
    """The longest joint sequence."""
    return self.query_len + self.document_len


def padded(values: Sequence[int] | np.ndarray, length: int) -> np.ndarray:
  """[length] int32: the values, cut or filled up with zeros."""
  out = np.zeros(length, np.int32)
  out[: len(values)] = values[:length]
  return out


def example_rng(seed: int, epoch: int, sentence_id: int) -> np.random.Generator:
  """The generator of one sentence in one epoch."""
  return np.random.default_rng([seed, epoch, sentence_id])


def masked_shapes(lengths: Lengths) -> dict[str, tuple[int, ...]]:
  """Name -> shape of what MaskedSentences gives; all int32."""
  masks = (lengths.max_masks,)
  return {
    'query_ids': (lengths.query_len - QUERY_SPECIALS,),
    'query_lens': (),
    'mlm_positions': masks,
    'mlm_targets': masks,
    'mlm_mask': masks,
    'source_block_id': (),
    'sentence_id': (),
  }


def inverse_cloze_shapes(lengths: Lengths) -> dict[str, tuple[int, ...]]:
  """Name -> shape of what InverseCloze gives; all int32."""
  room = (lengths.document_len - PAIR_SPECIALS,)
  return {
    'query_ids': (lengths.query_len - QUERY_SPECIALS,),
    'query_lens': (),
    'title_ids': room,
    'title_lens': (),
    'body_ids': room,
    'body_lens': (),
    'block_id': (),
  }


@dataclass(frozen=True)
class MaskedSentences:
  """Sentences with a blank, for pre-training.

  Attributes:
    corpus: where the sentences come from.
    masking: 'salient_span', 'random_span' or 'random_token'.
    lengths: see Lengths.
    seed: of the choice of blanks.
    companions: of the corpus; spans without one are not blanked out. None for
      all spans.
  """

  corpus: Corpus
  masking: str
  lengths: Lengths
  seed: int = 0
  companions: Companions | None = None

  def __post_init__(self):
    if self.masking not in MASKINGS:
      raise UserError(
        f'masking is {self.masking!r}, expected one of {", ".join(MASKINGS)}.'
      )

  def __call__(self, sentence_id: int, epoch: int = 0) -> Example | None:
    """One example, or None if the sentence has nothing to mask.

    Returns:
      query_ids [query_len - 2], query_lens [], mlm_positions, mlm_targets,
      mlm_mask [max_masks], source_block_id [], sentence_id []; all int32.
      Positions count from [CLS], as in the joint sequence.
    """
    sentence = self.corpus.sentences[sentence_id]
    if self.companions is not None:
      sentence = sentence._replace(spans=self.companions.restated(sentence))
    text = self.corpus.text(sentence.block_id)[sentence.start : sentence.stop]
    encoding = self.corpus.wordpiece.encode(text)
    rng = example_rng(self.seed, epoch, sentence_id)
    room = self.lengths.query_len - QUERY_SPECIALS
    masked = mask_sentence(
      encoding,
      MASKINGS[self.masking](sentence, encoding, rng),
      self.corpus.wordpiece.mask_id,
      room,
      self.lengths.max_masks,
    )
    if masked is None:
      return None
    max_masks = self.lengths.max_masks
    return {  # shapes: see masked_shapes
      'query_ids': padded(masked.token_ids, room),
      'query_lens': np.int32(masked.token_ids.size),
      'mlm_positions': padded(masked.positions + 1, max_masks),
      'mlm_targets': padded(masked.targets, max_masks),
      'mlm_mask': padded(np.ones(masked.targets.size, np.int32), max_masks),
      'source_block_id': np.int32(sentence.block_id),
      'sentence_id': np.int32(sentence_id),
    }


@dataclass(frozen=True)
class InverseCloze:
  """A sentence and its block, most often without it (Lee et al., 2019).

  Attributes:
    corpus: where the sentences come from.
    lengths: see Lengths.
    seed: of the choice whether the sentence is removed.
    remove_probability: how often the sentence is taken out of its block.
  """

  corpus: Corpus
  lengths: Lengths
  seed: int = 0
  remove_probability: float = 0.9

  def __call__(self, sentence_id: int, epoch: int = 0) -> Example | None:
    """One example, or None if the block is nothing but the sentence.

    Returns:
      query_ids [query_len - 2], query_lens [], title_ids, body_ids
      [document_len - 3], title_lens, body_lens [], block_id []; all int32.
    """
    sentence = self.corpus.sentences[sentence_id]
    text = self.corpus.text(sentence.block_id)
    rng = example_rng(self.seed, epoch, sentence_id)
    removed = text[: sentence.start] + text[sentence.stop :]
    if not removed.strip():
      return None
    shown = removed if rng.random() < self.remove_probability else text
    query, title, body = map(
      self.corpus.wordpiece.token_ids,
      (
        text[sentence.start : sentence.stop],
        self.corpus.title(sentence.block_id),
        shown,
      ),
    )
    query_room = self.lengths.query_len - QUERY_SPECIALS
    room = self.lengths.document_len - PAIR_SPECIALS
    return {
      'query_ids': padded(query, query_room),
      'query_lens': np.int32(min(len(query), query_room)),
      'title_ids': padded(title, room),
      'title_lens': np.int32(min(len(title), room)),
      'body_ids': padded(body, room),
      'body_lens': np.int32(min(len(body), room)),
      'block_id': np.int32(sentence.block_id),
    }


def split_sentences(
  corpus: Corpus, num_held_out: int, with_spans: bool
) -> tuple[np.ndarray, np.ndarray]:
  """Sentences to train on and sentences never trained on.

  The held-out ones have salient spans and are the same for every masking.

  Args:
    corpus: the corpus.
    num_held_out: how many to hold out; at most a tenth of the candidates.
    with_spans: train only on sentences that have a salient span.

  Returns:
    train [num_train] and held-out [num_held_out] sentence ids, int64.
  """
  has_span = corpus.sentences.num_spans > 0
  candidates = np.flatnonzero(has_span)
  if not candidates.size:
    raise UserError(
      f'Corpus {corpus.folder} has no salient spans: prepare it with '
      '--entities rules or --entities spacy.'
    )
  num_held_out = min(num_held_out, candidates.size // 10)
  held_out = np.sort(
    np.random.default_rng(0).permutation(candidates)[:num_held_out]
  )
  train = candidates if with_spans else np.arange(has_span.size)
  return np.setdiff1d(train, held_out, assume_unique=True), held_out
