"""How fast a corpus of Wikipedia's size opens and gathers: see README.md.

  python experiments/corpus_scale/run.py --out runs/corpus_scale

Writes a corpus of made-up wordpieces, without texts, unless it is there.
"""

import argparse
import statistics
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa

from realm_jax.data.corpus import BLOCK_SCHEMA, SENTENCE_SCHEMA, Corpus
from realm_jax.data.corpus_writer import CorpusWriter, clear_unfinished
from realm_jax.data.packing import PackedChunk
from realm_jax.data.wordpiece import SPECIAL_TOKENS, WordPiece
from realm_jax.folders import is_whole

NUM_BLOCKS = 13_353_718  # of the original's Wikipedia
VOCAB_SIZE = 30_522
CHUNK = 1 << 16


def chunk_of(num_blocks: int, rng: np.random.Generator) -> PackedChunk:
  """Blocks of 180 to 285 random wordpieces, most of them long."""
  lens = 285 - np.minimum(rng.geometric(0.03, num_blocks), 105)
  offsets = np.zeros(num_blocks + 1, np.int32)
  np.cumsum(lens, out=offsets[1:])
  ids = rng.integers(5, VOCAB_SIZE, offsets[-1], np.uint16)
  zeros = np.zeros(num_blocks, np.int32)
  empty = pa.array([''] * num_blocks, pa.string())
  no_title = pa.ListArray.from_arrays(
    pa.array(np.zeros(num_blocks + 1, np.int32)), pa.array(ids[:0])
  )
  blocks = pa.record_batch(
    [
      empty,
      empty,
      no_title,
      pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids)),
      pa.array(np.arange(num_blocks, dtype=np.int32)),
      pa.array(zeros),
    ],
    schema=BLOCK_SCHEMA,
  )
  sentences = pa.RecordBatch.from_pylist([], SENTENCE_SCHEMA)
  digests = bytes(32 * num_blocks)
  return PackedChunk(blocks, sentences, digests, Counter(articles=num_blocks))


def write(folder: Path, num_blocks: int) -> None:
  """Writes the corpus; a stopped one is written again."""
  clear_unfinished(folder)
  words = [f'w{i}' for i in range(VOCAB_SIZE - len(SPECIAL_TOKENS))]
  writer = CorpusWriter(folder, WordPiece([*SPECIAL_TOKENS, *words]), ('DATE',))
  rng = np.random.default_rng(0)
  for start in range(0, num_blocks, CHUNK):
    writer.add(chunk_of(min(CHUNK, num_blocks - start), rng))
  writer.finish()


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--out', type=Path, default=Path('runs/corpus_scale'))
  parser.add_argument('--num-blocks', type=int, default=NUM_BLOCKS)
  parser.add_argument('--repeats', type=int, default=30)
  args = parser.parse_args()
  if not is_whole(args.out):
    start = time.perf_counter()
    write(args.out, args.num_blocks)
    print(f'written in {time.perf_counter() - start:.0f} s')
  start = time.perf_counter()
  corpus = Corpus.open(args.out)
  opened = time.perf_counter() - start
  rng = np.random.default_rng(1)
  shape = 512, 8
  batches = [
    rng.integers(0, corpus.num_blocks, shape) for _ in range(args.repeats)
  ]
  print(f'{corpus.num_blocks:,} blocks opened in {opened:.3f} s')
  # Everything in memory's page cache first: what is timed is not the disk.
  for name in corpus.manifest['block_files']:
    with open(args.out / name, 'rb') as stream:
      while stream.read(1 << 24):
        pass
  for title in ('first', 'warm'):
    seconds = []
    for ids in batches:
      start = time.perf_counter()
      tokens = corpus.gather(ids)
      seconds.append(time.perf_counter() - start)
    print(
      f'gather {list(shape)}, {title}: median '
      f'{1e3 * statistics.median(seconds):.1f} ms, worst '
      f'{1e3 * max(seconds):.1f} ms, {tokens.body_ids.nbytes >> 20} MiB'
    )
  values = tokens.body_ids.copy()
  floor = []
  for _ in range(args.repeats):
    start = time.perf_counter()
    np.copyto(values, tokens.body_ids)
    floor.append(time.perf_counter() - start)
  print(f'copying that: {1e3 * statistics.median(floor):.1f} ms')


if __name__ == '__main__':
  main()
