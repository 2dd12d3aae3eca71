"""What a corpus looks like, and what looks wrong in it."""

import dataclasses
import hashlib
import re
from collections.abc import Callable

import numpy as np

from realm_jax.data.corpus import Corpus

# Marks of wikitext and HTML that a converter left behind.
DEBRIS = re.compile(
  r"""\{\{|\}\}|\[\[|\]\]|\{\||\|\}|<ref|</?(?:div|span|br|table|math|nowiki)\b
  |&(?:nbsp|amp|lt|gt|quot);|'''|__[A-Z]+__|^[|!]|[|]\s""",
  re.VERBOSE | re.MULTILINE,
)
_SHORT_BLOCK = 24  # wordpieces, special ones included
_MAX_SHORT = 0.1  # of the blocks
_MAX_UNKNOWN = 0.01  # of the wordpieces
_MAX_DUPLICATES = 0.02  # of the blocks
_MAX_BLOCKS_OF_ARTICLE = 1000
_MIN_WITH_SPANS = 0.3  # of the sentences
_PART = 4096  # blocks whose wordpieces are gathered at once


@dataclasses.dataclass(frozen=True)
class CorpusChecks:
  """Figures of a corpus.

  Attributes:
    num_checked: blocks whose text was read; the others are like them.
    length_histogram: [num_bins] int64; blocks by length, bin_width pieces each.
    bin_width: wordpieces.
    num_duplicates: checked blocks whose text an earlier one has.
    num_short: blocks of fewer than 24 pieces, all told.
    num_debris: marks of markup in the checked blocks.
    debris_block_ids: the first blocks that have some.
    unknown_share: of the checked blocks' wordpieces, those that are [UNK].
    longest_article: (title, blocks) of the article with the most blocks.
    warnings: what looks wrong, in words.
  """

  num_checked: int
  length_histogram: np.ndarray
  bin_width: int
  num_duplicates: int
  num_short: int
  num_debris: int
  debris_block_ids: tuple[int, ...]
  unknown_share: float
  longest_article: tuple[str, int]
  warnings: tuple[str, ...]


def check_corpus(
  corpus: Corpus,
  max_checked: int = 200_000,
  on_progress: Callable[[int], None] = lambda num_done: None,
) -> CorpusChecks:
  """Reads a corpus and says what looks wrong.

  Args:
    corpus: any; lengths are those of all blocks.
    max_checked: of a larger corpus so many blocks are read, evenly spread.
    on_progress: called with the number of blocks read so far.
  """
  num_checked = min(max_checked, corpus.num_blocks)
  ids = np.linspace(0, corpus.num_blocks - 1, num_checked).astype(np.int64)
  seen: set[bytes] = set()
  num_debris = num_unknown = num_pieces = 0
  with_debris: list[int] = []
  for start in range(0, num_checked, _PART):
    part = ids[start : start + _PART]
    for block_id in part.tolist():
      text = corpus.text(block_id)
      seen.add(hashlib.blake2b(text.encode(), digest_size=12).digest())
      if marks := len(DEBRIS.findall(text)):
        num_debris += marks
        with_debris.append(block_id)
    tokens = corpus.gather(part)
    num_unknown += int((tokens.body_ids == corpus.wordpiece.unk_id).sum())
    num_pieces += int(tokens.body_len.sum())
    on_progress(start + len(part))
  lens = corpus.block_lens
  bin_width = max(8, -(-int(lens.max()) // 12))
  article_ids, num_blocks = np.unique(corpus.article_ids, return_counts=True)
  longest = int(num_blocks.argmax())
  first_block = int(np.searchsorted(corpus.article_ids, article_ids[longest]))
  checks = CorpusChecks(
    num_checked=num_checked,
    length_histogram=np.bincount(lens // bin_width),
    bin_width=bin_width,
    num_duplicates=num_checked - len(seen),
    num_short=int((lens < _SHORT_BLOCK).sum()),
    num_debris=num_debris,
    debris_block_ids=tuple(with_debris[:5]),
    unknown_share=num_unknown / max(1, num_pieces),
    longest_article=(corpus.title(first_block), int(num_blocks[longest])),
    warnings=(),
  )
  warnings = tuple(_warnings(corpus, checks))
  return dataclasses.replace(checks, warnings=warnings)


def _warnings(corpus: Corpus, checks: CorpusChecks) -> list[str]:
  found = []
  num_blocks, num_checked = corpus.num_blocks, checks.num_checked
  if checks.num_debris:
    ids = ', '.join(map(str, checks.debris_block_ids))
    found.append(
      f'Markup was left in the text: {checks.num_debris} marks in '
      f'{num_checked:,} blocks, such as blocks {ids}.'
    )
  if checks.num_short > _MAX_SHORT * num_blocks:
    found.append(
      f'{checks.num_short:,} of {num_blocks:,} blocks have fewer than '
      f'{_SHORT_BLOCK} wordpieces, which say little: prepare leaves them out '
      'with min_block_len.'
    )
  if checks.num_duplicates > _MAX_DUPLICATES * num_checked:
    found.append(
      f'{checks.num_duplicates:,} of {num_checked:,} blocks have the text of '
      'another one. In pre-training they are one candidate.'
    )
  if checks.unknown_share > _MAX_UNKNOWN:
    found.append(
      f'{checks.unknown_share:.1%} of the wordpieces are [UNK]: the vocabulary '
      'was made for another language or case.'
    )
  title, blocks = checks.longest_article
  if blocks > _MAX_BLOCKS_OF_ARTICLE:
    found.append(
      f'{blocks:,} blocks belong to one article, {title!r}: is it one?'
    )
  with_spans = float((corpus.sentences.num_spans > 0).mean())
  if with_spans < _MIN_WITH_SPANS:
    found.append(
      f'Only {with_spans:.0%} of the sentences have a salient span; '
      'pre-training reads no others.'
    )
  return found
