"""What a ScaNN index costs and finds, against exact search: see README.md.

  python experiments/index/approximate.py --num-blocks 1000000 --work /tmp/idx

Rates are queries per CPU-second of one thread, which a busy machine hardly
changes; the time to build is told in CPU-seconds and by the clock. The file is
not called scann.py, for `import scann` would then find it.
"""

import argparse
import json
import os
import resource
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from realm_jax.bench.contenders import recall
from realm_jax.bench.embeddings import EMBED_DIM, Mixture, exact_top
from realm_jax.folders import is_whole
from realm_jax.index.scann_index import ScannIndex
from realm_jax.index.scann_settings import ScannConfig, settings_for
from realm_jax.index.snapshot import (
  Snapshot,
  finish_snapshot,
  load_snapshot,
  write_shard,
)

NUM_QUERIES = 500
BATCHES = (1, 64, 512)
MAX_K = 100
_GIB = 1 << 30


def make_snapshot(folder: Path, mixture: Mixture) -> Snapshot:
  """The embeddings on disk, written unless they are there."""
  if not is_whole(folder):
    folder.mkdir(parents=True, exist_ok=True)
    shape = (mixture.num_blocks, EMBED_DIM)
    write_shard(folder, 0, 1, mixture.chunks(), shape, 'float32')
    finish_snapshot(folder, Snapshot(None, 1), shape, 'float32')
  return load_snapshot(folder, None, verify=False)


def exact_ids(
  folder: Path, query_embeds: np.ndarray, snapshot: Snapshot
) -> np.ndarray:
  """Ids that exact search finds: [num_queries, MAX_K]; kept beside the rows."""
  path = folder / f'exact-{NUM_QUERIES}.npy'
  if not path.exists():
    np.save(path, exact_top(query_embeds, snapshot.block_embeds, MAX_K))
  return np.load(path)


def private_gib(pid: int | str = 'self') -> float:
  """Memory of a process's own, without what it maps from files."""
  try:
    status = Path(f'/proc/{pid}/status').read_text(encoding='ascii')
  except (FileNotFoundError, ProcessLookupError):
    return 0.0
  return int(dict(_fields(status)).get('RssAnon', 0)) * 1024 / _GIB


def _fields(status: str):
  for line in status.splitlines():
    name, _, value = line.partition(':')
    yield name, (value.split() or ['0'])[0]


def build(
  snapshot: Snapshot, config: ScannConfig
) -> tuple[ScannIndex, dict[str, Any]]:
  """Swaps the snapshot into a small index, which is searched meanwhile."""
  num_blocks = len(snapshot.block_embeds)
  index = ScannIndex(
    np.array(snapshot.block_embeds[:1000]), config, capacity=num_blocks
  )
  query_embeds = np.ones((1, EMBED_DIM))
  before = resource.getrusage(resource.RUSAGE_CHILDREN)
  started = time.perf_counter()
  index.begin_swap(snapshot)
  worker = index._swap[1]._process.pid
  num_searches, peak = 0, 0.0
  while index._swap[1].is_running():
    index.search(query_embeds, 8)
    num_searches += 1
    peak = max(peak, private_gib(worker))
    time.sleep(0.2)
  built = time.perf_counter()
  own, cpu = private_gib(), time.process_time()
  index.finish_swap()
  loaded = time.perf_counter()
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  return index, {
    'build_cpu_seconds': after.ru_utime
    + after.ru_stime
    - before.ru_utime
    - before.ru_stime,
    'build_wall_seconds': built - started,
    'load_wall_seconds': loaded - built,
    'load_cpu_seconds': time.process_time() - cpu,
    'worker_private_gib': peak,
    'index_private_gib': private_gib() - own,
    'searches_while_building': num_searches,
  }


def queries_per_cpu_second(
  index: ScannIndex, query_embeds: np.ndarray, k: int, batch: int
) -> float:
  """The best of five rounds of at least 512 queries."""
  queries = np.resize(query_embeds, (max(batch, 512), EMBED_DIM))
  parts = [
    queries[start : start + batch] for start in range(0, len(queries), batch)
  ]
  rates = []
  for _ in range(6):
    started = time.process_time()
    for part in parts:
      index.search(part, k)
    rates.append(len(queries) / (time.process_time() - started))
  return max(rates[1:])


def measure(
  index: ScannIndex,
  query_embeds: np.ndarray,
  exact: np.ndarray,
  block_embeds: np.ndarray,
  k: int,
  leaves: int,
  reorder: int,
) -> dict[str, Any]:
  """Recall and rates with some settings; 0 for those by size."""
  index.tune(leaves, reorder)
  settings = settings_for(index.num_blocks, k, index.config)
  found = index.search(query_embeds, k)
  row = {
    'k': k,
    'leaves_to_search': settings.leaves_to_search,
    'reorder': settings.reorder,
    'by_size': not leaves and not reorder,
    'recall': recall(found.block_ids, exact[:, :k], query_embeds, block_embeds),
    **{
      f'queries_per_cpu_second_{batch}': queries_per_cpu_second(
        index, query_embeds, k, batch
      )
      for batch in BATCHES
    },
  }
  print(
    f'k {k}, {settings.leaves_to_search} leaves, {settings.reorder} again: '
    f'recall {row["recall"]:.4f}, queries per CPU-second',
    *(
      f'{row[f"queries_per_cpu_second_{batch}"]:,.0f} (B={batch})'
      for batch in BATCHES
    ),
    flush=True,
  )
  return row


def run(arguments: argparse.Namespace) -> dict[str, Any]:
  mixture = Mixture(arguments.num_blocks, arguments.seed)
  folder = arguments.work / f'blocks-{arguments.num_blocks}-{arguments.seed}'
  snapshot = make_snapshot(folder, mixture)
  query_embeds = mixture.queries(NUM_QUERIES)
  exact = exact_ids(folder, query_embeds, snapshot)
  config = ScannConfig(
    num_leaves=arguments.num_leaves,
    soar=arguments.soar,
    search_threads=1,
    niceness=0,  # or the clock would tell of others
    work_folder=str(arguments.work),
  )
  index, costs = build(snapshot, config)
  settings = settings_for(arguments.num_blocks, 8, config)
  print(f'{arguments.num_blocks:,} blocks, {settings.num_leaves} leaves')
  print(*(f'{name} {value:,.2f}' for name, value in costs.items()), sep='\n')
  tried = [(k, 0, 0) for k in arguments.k] + [
    (k, leaves, reorder)
    for k in arguments.k
    for leaves in arguments.leaves
    for reorder in arguments.reorder
  ]
  return {
    'num_blocks': arguments.num_blocks,
    'num_leaves': settings.num_leaves,
    'soar': arguments.soar,
    'num_queries': NUM_QUERIES,
    'cores': os.cpu_count(),
    'threads_of_this_process': threading.active_count(),
    **costs,
    'searches': [
      measure(index, query_embeds, exact, snapshot.block_embeds, *row)
      for row in tried
    ],
  }


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--num-blocks', type=int, default=1_000_000)
  parser.add_argument('--work', type=Path, required=True, help='for its files')
  parser.add_argument('--out', type=Path, help='of the results, JSON')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--soar', action='store_true')
  parser.add_argument('--num-leaves', type=int, default=0)
  parser.add_argument('--k', type=int, nargs='+', default=[8])
  parser.add_argument('--leaves', type=int, nargs='*', default=[])
  parser.add_argument('--reorder', type=int, nargs='*', default=[0])
  arguments = parser.parse_args()
  result = run(arguments)
  if arguments.out:
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=2)
    arguments.out.write_text(text + '\n', encoding='utf-8')


if __name__ == '__main__':
  main()
