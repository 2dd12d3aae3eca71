"""Choose what to blank out in a sentence: the three masks of the paper.

Pure numpy functions of one sentence and a random generator, used by the
trainer and by the seqio tasks alike. Salient spans follow the original code: a
wordpiece is masked if it lies wholly inside the span, every masked piece
becomes its own [MASK], and only the first `max_masks` are predicted while the
rest stay masked. Random spans have SpanBERT's clipped geometric length (Joshi
et al., 2020); random tokens are BERT's 15 %, all replaced by [MASK].
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from realm_jax.data.corpus import Sentence
from realm_jax.data.spans import Span
from realm_jax.data.wordpiece import Encoding

_SPAN_LENGTH_P = 0.2
_MAX_RANDOM_SPAN = 10
_RANDOM_TOKEN_RATE = 0.15


class MaskedSentence(NamedTuple):
  """A sentence with a blank.

  Attributes:
    token_ids: [num_tokens] int32; masked pieces are [MASK]; no special tokens.
    positions: [num_masks] int32; places in token_ids that are to be predicted.
    targets: [num_masks] int32; the token ids that stood there.
  """

  token_ids: np.ndarray
  positions: np.ndarray
  targets: np.ndarray


# (sentence, its encoding, generator) -> indices of the pieces to mask; may be
# empty. The encoding's offsets are relative to the sentence's start.
Masking = Callable[[Sentence, Encoding, np.random.Generator], np.ndarray]


def draw_span(
  sentence: Sentence, encoding: Encoding, rng: np.random.Generator
) -> tuple[Span, np.ndarray] | None:
  """One salient span, drawn uniformly from those of the sentence.

  Spans that cover no whole piece cannot be drawn.

  Returns:
    The span and its pieces, [num_masks] int64, ascending; None if there is
    none to draw.
  """
  drawable = []
  for span in sentence.spans:
    pieces = np.flatnonzero(
      (encoding.starts >= span.start - sentence.start)
      & (encoding.stops <= span.stop - sentence.start)
    )
    if pieces.size:
      drawable.append((span, pieces))
  return drawable[rng.integers(len(drawable))] if drawable else None


def salient_span(
  sentence: Sentence, encoding: Encoding, rng: np.random.Generator
) -> np.ndarray:
  """Pieces of one salient span: see draw_span. [num_masks] int64, ascending."""
  drawn = draw_span(sentence, encoding, rng)
  return np.zeros(0, np.int64) if drawn is None else drawn[1]


def random_span(
  sentence: Sentence, encoding: Encoding, rng: np.random.Generator
) -> np.ndarray:
  """A contiguous run of pieces, anywhere. [num_masks] int64, ascending."""
  del sentence
  num_tokens = encoding.token_ids.size
  # Length 1..10, geometric, clipped; never the whole sentence, or the reader
  # and the retriever would see nothing of it.
  length = min(int(rng.geometric(_SPAN_LENGTH_P)), _MAX_RANDOM_SPAN)
  length = min(length, num_tokens - 1)
  if length < 1:
    return np.zeros(0, np.int64)
  start = int(rng.integers(num_tokens - length + 1))
  return np.arange(start, start + length)


def random_token(
  sentence: Sentence, encoding: Encoding, rng: np.random.Generator
) -> np.ndarray:
  """15 % of the pieces, at least one. [num_masks] int64, ascending."""
  del sentence
  num_tokens = encoding.token_ids.size
  if num_tokens < 2:
    return np.zeros(0, np.int64)
  num_masks = max(1, round(_RANDOM_TOKEN_RATE * num_tokens))
  return np.sort(rng.choice(num_tokens, num_masks, replace=False))


MASKINGS: dict[str, Masking] = {
  'salient_span': salient_span,
  'random_span': random_span,
  'random_token': random_token,
}


def mask_sentence(
  encoding: Encoding,
  masked: np.ndarray,
  mask_id: int,
  max_len: int,
  max_masks: int,
) -> MaskedSentence | None:
  """Replaces the chosen pieces by [MASK].

  Args:
    encoding: of the sentence.
    masked: [num_masks] int, ascending; the pieces to mask.
    mask_id: token id of [MASK].
    max_len: pieces that the query has room for, special tokens not counted.
    max_masks: predict at most so many pieces; the others stay masked.

  Returns:
    None if nothing is masked or the last masked piece does not fit: such a
    sentence is dropped, as in the original code.
  """
  if not masked.size or masked[-1] >= max_len:
    return None
  token_ids = encoding.token_ids.copy()
  targets = token_ids[masked]
  token_ids[masked] = mask_id
  return MaskedSentence(
    token_ids[:max_len],
    masked[:max_masks].astype(np.int32),
    targets[:max_masks].astype(np.int32),
  )
