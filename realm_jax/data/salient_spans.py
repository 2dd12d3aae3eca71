"""Salient spans of sentences: named entities and dates.

What masked-language pre-training hides, so that knowledge is needed to fill it
in (REALM, section 3.4: entities of a CoNLL-2003 tagger, and dates by a regular
expression). Dates are found by rule here; entities by any EntityTagger.
"""

from collections.abc import Sequence
from typing import Protocol

from realm_jax.data.dates import find_dates
from realm_jax.data.spans import Span, merge_spans


class EntityTagger(Protocol):
  """Anything that finds named entities.

  Attributes:
    name: what it is, with its version; part of a corpus's settings.
    kinds: every kind of span that tag may return.
  """

  name: str
  kinds: tuple[str, ...]

  def tag(self, texts: Sequence[str]) -> list[list[Span]]:
    """Entities of each text, in order and without overlap."""
    ...


def find_salient_spans(
  texts: Sequence[str],
  sentences: Sequence[Sequence[tuple[int, int]]],
  tagger: EntityTagger | None,
) -> list[list[tuple[Span, ...]]]:
  """Finds the salient spans of every sentence.

  Args:
    texts: block texts.
    sentences: per text, its sentences as character ranges.
    tagger: finds the entities; None for dates alone.

  Returns:
    Per text and sentence, spans in characters of the *text*, in order, without
    overlap, each inside its sentence. A date wins over an entity it overlaps.
  """
  entities = tagger.tag(texts) if tagger else [[] for _ in texts]
  found = []
  for text, ranges, spans in zip(texts, sentences, entities, strict=True):
    merged = merge_spans(find_dates(text), spans)
    found.append(
      [
        tuple(s for s in merged if start <= s.start and s.stop <= stop)
        for start, stop in ranges
      ]
    )
  return found
