"""An exact index of Wikipedia's size on one machine, straight from its file.

  python experiments/index/large.py --out /tmp/large

writes a snapshot of 13,353,718 made-up embeddings (6.8 GB, once), opens it, and
searches it where it lies. Prints and writes OUT/large.json: seconds of a search
next to the floor of the same rounds, memory above the file, and recall.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
from approximate import make_snapshot, private_gib

from realm_jax.bench.contenders import recall
from realm_jax.bench.embeddings import EMBED_DIM, Mixture, exact_top
from realm_jax.bench.floors import PRODUCT, READ, Probes
from realm_jax.bench.timing import time_in_turn
from realm_jax.index.exact_index import ExactIndex
from realm_jax.index.snapshot import load_snapshot


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--num-blocks', type=int, default=13_353_718)
  parser.add_argument('--batch', type=int, nargs='+', default=[1, 64])
  parser.add_argument('--k', type=int, default=8)
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--out', type=Path, required=True)
  arguments = parser.parse_args()
  mixture = Mixture(arguments.num_blocks)
  folder = arguments.out / 'snapshot'
  make_snapshot(folder, mixture)
  start = time.perf_counter()
  snapshot = load_snapshot(folder, None)
  verify_seconds = time.perf_counter() - start
  queries = mixture.queries(max(arguments.batch))
  del mixture
  probes = Probes('cpu', 'float32')
  before = private_gib()
  start = time.perf_counter()
  index = ExactIndex(snapshot)
  open_seconds = time.perf_counter() - start
  aliased = (
    index.table.rows.unsafe_buffer_pointer()
    == snapshot.block_embeds.ctypes.data
  )
  rows = []
  for batch in arguments.batch:
    some = queries[:batch]
    seconds = time_in_turn(
      {
        **probes.calls,
        'search': lambda some=some: index.search(some, arguments.k).block_ids,
      },
      arguments.rounds,
    )
    ratios = [
      searched
      / probes.floor(product, read, batch, arguments.num_blocks, EMBED_DIM, 4)
      for searched, product, read in zip(
        seconds['search'], seconds[PRODUCT], seconds[READ], strict=True
      )
    ]
    rows.append(
      {
        'batch': batch,
        'seconds': statistics.median(seconds['search']),
        'ratio_to_floor': statistics.median(ratios),
      }
    )
  after = private_gib()
  some = queries[:16]
  exact_ids = exact_top(some, snapshot.block_embeds, arguments.k)
  found = {
    'num_blocks': arguments.num_blocks,
    'verify_seconds': verify_seconds,
    'open_seconds': open_seconds,
    'aliased': aliased,
    'private_gib_before': before,
    'private_gib_after': after,
    'recall': recall(
      index.search(some, arguments.k).block_ids,
      exact_ids,
      some,
      snapshot.block_embeds,
    ),
    'rows': rows,
  }
  print(json.dumps(found, indent=2))
  np.testing.assert_equal(aliased, True)
  (arguments.out / 'large.json').write_text(json.dumps(found, indent=2))


if __name__ == '__main__':
  main()
