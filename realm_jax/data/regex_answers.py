"""Regular expressions -> the strings that they match in a corpus.

A step compares wordpieces, and cannot match expressions: CuratedTREC's answers
are expanded beforehand to what they match in the blocks (ORQA's release leaves
the data set out for that reason).
"""

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat

from realm_jax.data.corpus import Corpus
from realm_jax.data.expressions import compile_expression

_CHUNK_SIZE = 1000  # blocks
# Of what an expression like '.*' matches, nobody needs all.
_MAX_MATCHES = 100

# For each question, how many blocks each string was matched in.
_Counts = list[Counter[str]]


def expand_expressions(
  expressions: Sequence[Sequence[str]],
  corpus: Corpus,
  workers: int = 1,
  on_progress: Callable[[int], None] = lambda num_done: None,
) -> list[tuple[str, ...]]:
  """What expressions match in the blocks' bodies, as regex_match compiles them.

  Every expression looks at every block, which takes some 10 microseconds: of
  13 million blocks and 1,353 questions 50 hours of one core.

  Args:
    expressions: of each question; bad ones match nothing.
    corpus: the blocks.
    workers: processes.
    on_progress: called with the number of blocks done so far.

  Returns:
    For each question at most 100 strings, as they stand in the texts, those in
    most blocks first, of equals the first in the alphabet.
  """
  starts = range(0, corpus.num_blocks, _CHUNK_SIZE)
  counts: _Counts = [Counter() for _ in expressions]
  for number, found in enumerate(
    _counts(corpus, starts, expressions, workers), start=1
  ):
    for own, more in zip(counts, found, strict=True):
      own.update(more)
    on_progress(min(number * _CHUNK_SIZE, corpus.num_blocks))
  return [_commonest(own) for own in counts]


def _commonest(counts: Counter[str]) -> tuple[str, ...]:
  ranked = sorted(counts, key=lambda text: (-counts[text], text))
  return tuple(ranked[:_MAX_MATCHES])


def _counts(
  corpus: Corpus,
  starts: Sequence[int],
  expressions: Sequence[Sequence[str]],
  workers: int,
) -> Iterator[_Counts]:
  """Of each chunk of blocks, in order."""
  if workers == 1:
    yield from map(_count, repeat(corpus), starts, repeat(expressions))
    return
  context = multiprocessing.get_context('spawn')
  with ProcessPoolExecutor(workers, context) as pool:
    yield from pool.map(_count, repeat(corpus), starts, repeat(expressions))


def _count(
  corpus: Corpus, start: int, expressions: Sequence[Sequence[str]]
) -> _Counts:
  """Of the chunk that begins with a block."""
  stop = min(start + _CHUNK_SIZE, corpus.num_blocks)
  texts = [corpus.text(block_id) for block_id in range(start, stop)]
  counts: _Counts = []
  for own in expressions:
    patterns = [p for p in map(compile_expression, own) if p is not None]
    counts.append(
      Counter(
        text
        for block in texts
        for text in {
          match[0].strip() for p in patterns for match in p.finditer(block)
        }
        if text
      )
    )
  return counts
