"""Blocks that seem to say the same as a sentence, or not, told by names alone.

A reader that starts from nothing must first learn that documents are worth
reading. What it retrieves is mostly of no help before the retriever has
learned, so it is warmed up on companions: blocks, other than the sentence's
own, that mention the blanked-out span and another salient span of the sentence.
And on distractors, which mention the other span alone: a reader that trusts
every document would teach the retriever to fetch the harmless ones. No labels
are used, and the retriever does not see any of this.
"""

import numpy as np

from realm_jax.data.corpus import Corpus, Sentence
from realm_jax.data.spans import Span
from realm_jax.types import NULL_BLOCK_ID

# A name in more blocks than this tells nothing: it is a country or a century.
_MAX_BLOCKS = 200


class Companions:
  """Where in a corpus each salient span's text stands. Kept in memory."""

  def __init__(self, corpus: Corpus):
    """Reads all salient spans of the corpus."""
    self._corpus = corpus
    blocks: dict[str, set[int]] = {}
    text, text_of = '', -1
    for sentence in corpus.sentences:
      if sentence.spans and sentence.block_id != text_of:
        text, text_of = corpus.text(sentence.block_id), sentence.block_id
      for span in sentence.spans:
        blocks.setdefault(text[span.start : span.stop], set()).add(
          sentence.block_id
        )
    self._blocks = {
      name: found for name, found in blocks.items() if len(found) > 1
    }

  def companion(
    self, sentence: Sentence, span: Span, rng: np.random.Generator
  ) -> int:
    """A block that mentions a span and another one of its sentence.

    Args:
      sentence: with its spans.
      span: the one that is blanked out.
      rng: chooses among several.

    Returns:
      A block id, not the sentence's own; NULL_BLOCK_ID if there is none.
    """
    with_span, with_other = self._with_span_and_others(sentence, span)
    return _pick(with_span & with_other - {sentence.block_id}, rng)

  def distractor(
    self, sentence: Sentence, span: Span, rng: np.random.Generator
  ) -> int:
    """A block that mentions another span of the sentence, but not this one.

    Args and returns as `companion`.
    """
    with_span, with_other = self._with_span_and_others(sentence, span)
    return _pick(with_other - with_span - {sentence.block_id}, rng)

  def restated(self, sentence: Sentence) -> tuple[Span, ...]:
    """The spans of a sentence that have a companion."""
    found = []
    for span in sentence.spans:
      with_span, with_other = self._with_span_and_others(sentence, span)
      if with_span & with_other - {sentence.block_id}:
        found.append(span)
    return tuple(found)

  def _with_span_and_others(
    self, sentence: Sentence, span: Span
  ) -> tuple[set[int], set[int]]:
    """Blocks that mention a span; blocks that mention another of its sentence.

    Either may lack blocks where a name stands in one block only.
    """
    text = self._corpus.text(sentence.block_id)
    with_span = self._blocks.get(text[span.start : span.stop], set())
    with_other: set[int] = set()
    for other in sentence.spans:
      found = self._blocks.get(text[other.start : other.stop], set())
      if other != span and len(found) <= _MAX_BLOCKS:
        with_other |= found
    return with_span, with_other


def _pick(block_ids: set[int], rng: np.random.Generator) -> int:
  if not block_ids:
    return NULL_BLOCK_ID
  return int(rng.choice(sorted(block_ids)))
