"""Articles -> chunks of packed blocks: the work of one process.

A pure function of its articles and settings, so that the local pool and an
Apache Beam pipeline make the same corpus of it.
"""

import functools
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from realm_jax.data.blocks import Block, clean_text, pack_blocks, whole_block
from realm_jax.data.corpus import BLOCK_SCHEMA, SENTENCE_SCHEMA
from realm_jax.data.dates import DATE
from realm_jax.data.editions import REVISED
from realm_jax.data.rule_tagger import RuleTagger
from realm_jax.data.salient_spans import EntityTagger, find_salient_spans
from realm_jax.data.sources import Article
from realm_jax.data.spans import Span
from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError

SKIPPED = 'skipped: '  # before a reason, among the counts of a chunk
ENTITIES = ('rules', 'spacy', 'none')
MODEL_PREFIX = 'hf:'  # before the name of a token classifier
# A chunk ends when it has so much, so that workers wait for none and a kill
# costs little.
_CHUNK_ARTICLES = 1024
_CHUNK_CHARS = 1 << 18


class PackedChunk(NamedTuple):
  """The blocks of some consecutive articles.

  Attributes:
    blocks: rows of BLOCK_SCHEMA; article_id counts from 0.
    sentences: rows of SENTENCE_SCHEMA; block_id counts from 0.
    digests: 32 bytes a block; see corpus_writer.
    counts: 'articles' kept, SKIPPED and a reason, REVISED and a day, 'spans: '
      and a kind, and what was cut.
  """

  blocks: pa.RecordBatch
  sentences: pa.RecordBatch
  digests: bytes
  counts: Counter[str]


def check_entities(entities: str) -> None:
  """Raises UserError if make_tagger does not know how to find them."""
  if entities not in ENTITIES and not entities.startswith(MODEL_PREFIX):
    raise UserError(
      f'entities is {entities!r}, expected one of {", ".join(ENTITIES)}, or '
      f'{MODEL_PREFIX} and a token classifier, such as '
      f'{MODEL_PREFIX}dslim/bert-base-NER.'
    )


@functools.cache
def make_tagger(entities: str) -> EntityTagger | None:
  """The tagger that is called so, loaded once a process; see check_entities."""
  if entities == 'spacy':
    from realm_jax.data.ner import SpacyTagger

    return SpacyTagger()
  if entities.startswith(MODEL_PREFIX):
    from realm_jax.data.hf_tagger import HFTagger

    return HFTagger(entities.removeprefix(MODEL_PREFIX))
  tagger: EntityTagger | None = RuleTagger() if entities == 'rules' else None
  return tagger


def span_kinds(tagger: EntityTagger | None) -> tuple[str, ...]:
  """Every kind of span that a corpus tagged so may have."""
  return (DATE, *(tagger.kinds if tagger else ()))


@dataclass(frozen=True)
class Packer:
  """What makes a chunk.

  Attributes:
    wordpiece: what blocks are encoded with.
    tagger: finds the entities; None for dates alone.
    block_len: most wordpieces of a block.
    min_block_len: shorter blocks are left out, and counted.
    section_titles: see wikitext.plain_text.
  """

  wordpiece: WordPiece
  tagger: EntityTagger | None
  block_len: int
  min_block_len: int
  section_titles: bool = False

  def __call__(self, articles: Sequence[Article]) -> PackedChunk:
    """Packs, tags and counts the blocks of some articles."""
    counts: Counter[str] = Counter()
    kept = [
      blocks for article in articles if (blocks := self._pack(article, counts))
    ]
    counts['articles'] = len(kept)
    flat = [block for blocks in kept for block in blocks]
    spans = find_salient_spans(
      [block.text for block in flat],
      [block.sentences for block in flat],
      self.tagger,
    )
    numbers = [i for i, blocks in enumerate(kept) for _ in blocks]
    rows = list(zip(numbers, flat, spans, strict=True))
    chunk = pack_rows(rows, span_kinds(self.tagger))
    return chunk._replace(counts=counts + chunk.counts)

  def _pack(self, article: Article, counts: Counter[str]) -> list[Block]:
    """The blocks of an article that are kept; counts what is not."""
    if article.is_block:
      return [whole_block(article.text, self.wordpiece)]
    article = article.plain(self.section_titles)
    packed = pack_blocks(
      clean_text(article.title).replace('\n', ' '),
      clean_text(article.text),
      self.wordpiece,
      self.block_len,
    )
    blocks = [b for b in packed.blocks if b.block_len >= self.min_block_len]
    counts['sentences cut'] += packed.num_cut_sentences
    counts['titles cut'] += packed.title_was_cut
    counts['short blocks'] += len(packed.blocks) - len(blocks)
    if not blocks:
      counts[SKIPPED + ('too short' if packed.blocks else 'no text')] += 1
    elif article.revised:
      counts[REVISED + article.revised] += 1
    return blocks


def pack_rows(
  rows: Sequence[tuple[int, Block, Sequence[Sequence[Span]]]],
  kinds: Sequence[str],
) -> PackedChunk:
  """A chunk of blocks that are ready.

  Args:
    rows: (article_id, block, the spans of each of its sentences).
    kinds: every kind a span may have; spans keep its place in this list.
  """
  blocks = [block for _, block, _ in rows]
  sentences = [
    (block_id, *bounds, spans)
    for block_id, (_, block, its_spans) in enumerate(rows)
    for bounds, spans in zip(block.sentences, its_spans, strict=True)
  ]
  codes = {kind: code for code, kind in enumerate(kinds)}
  spans = [span for row in sentences for span in row[3]]
  counts = Counter(f'spans: {span.kind}' for span in spans)
  counts['sentences without spans'] = sum(not row[3] for row in sentences)
  block_columns = [
    pa.array([block.title for block in blocks], pa.string()),
    pa.array([block.text for block in blocks], pa.string()),
    _id_lists([block.title_token_ids for block in blocks]),
    _id_lists([block.token_ids for block in blocks]),
    pa.array([article_id for article_id, _, _ in rows], pa.int32()),
    pa.array([block.position for block in blocks], pa.int32()),
  ]
  span_offsets = _offsets([len(row[3]) for row in sentences])
  sentence_columns = [
    *(pa.array([row[i] for row in sentences], pa.int32()) for i in range(3)),
    *(
      pa.ListArray.from_arrays(span_offsets, column)
      for column in (
        pa.array([span.start for span in spans], pa.int32()),
        pa.array([span.stop for span in spans], pa.int32()),
        pa.array([codes[span.kind] for span in spans], pa.uint8()),
      )
    ),
  ]
  return PackedChunk(
    pa.record_batch(block_columns, schema=BLOCK_SCHEMA),
    pa.record_batch(sentence_columns, schema=SENTENCE_SCHEMA),
    b''.join(_block_digest(block) for block in blocks),
    counts,
  )


def chunked(articles: Iterable[Article]) -> Iterator[list[Article]]:
  """Consecutive articles, as many as make a chunk."""
  chunk: list[Article] = []
  num_chars = 0
  for article in articles:
    chunk.append(article)
    num_chars += len(article.text)
    if len(chunk) == _CHUNK_ARTICLES or num_chars >= _CHUNK_CHARS:
      yield chunk
      chunk, num_chars = [], 0
  if chunk:
    yield chunk


def _id_lists(values: Sequence[np.ndarray]) -> pa.ListArray:
  flat = np.concatenate(values).astype(np.uint16) if values else ()
  offsets = _offsets([len(value) for value in values])
  return pa.ListArray.from_arrays(offsets, pa.array(flat, pa.uint16()))


def _offsets(lengths: Sequence[int]) -> pa.Array:
  offsets = np.zeros(len(lengths) + 1, np.int32)
  np.cumsum(lengths, out=offsets[1:])
  return pa.array(offsets)


def _block_digest(block: Block) -> bytes:
  digest = hashlib.sha256()
  for part in (
    block.title.encode(),
    block.text.encode(),
    block.title_token_ids.astype('<u2').tobytes(),
    block.token_ids.astype('<u2').tobytes(),
    str(block.position).encode(),
  ):
    digest.update(len(part).to_bytes(8, 'little'))
    digest.update(part)
  return digest.digest()
