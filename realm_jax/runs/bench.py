"""Measure searches of block embeddings, on the machine at hand."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from realm_jax.bench.contenders import METHODS, build
from realm_jax.bench.embeddings import EMBED_DIM, Mixture
from realm_jax.bench.searches import measure_searches
from realm_jax.errors import UserError
from realm_jax.index.memory import check_free, free_host_bytes
from realm_jax.index.snapshot import load_snapshot
from realm_jax.index.table import aligned_zeros

_NUM_QUERIES = 64  # at least: recall is measured on them
# With more blocks, what takes minutes to build is left to who asks for it.
_MANY_BLOCKS = 2_000_000
_SLOW_TO_BUILD = ('faiss ivf', 'scann')
_NUMBERS = ('batch', 'k', 'ms', 'x floor', 'recall', 'build s', 'GiB')


def bench_index(
  *,
  num_blocks: int = 1_000_000,
  batch: Sequence[int] = (1, 64, 512),
  k: Sequence[int] = (8,),
  snapshot: str | None = None,
  method: Sequence[str] | None = None,
  rounds: int = 5,
  as_json: bool = False,
  console: Console | None = None,
) -> dict[str, Any]:
  """Times searches side by side, next to the floor of the machine.

  Args:
    num_blocks: made-up embeddings to search, where no snapshot is given.
    batch: numbers of queries.
    k: numbers of blocks a query.
    snapshot: folder of block embeddings to search.
    method: some of bench.contenders.METHODS; None for all that are installed,
      without the slow builds if there are many blocks.
    rounds: times that each is measured, in turn.
    as_json: print JSON in place of a table.
    console: where to print; None for the terminal.

  Returns:
    See bench.searches.measure_searches.

  Raises:
    UserError: an argument is out of its range, or memory is lacking.
  """
  console = console or Console()
  _check_arguments([num_blocks, *batch, *k, rounds], method)
  num_queries = max(_NUM_QUERIES, *batch)
  if snapshot:
    block_embeds, queries = _snapshot_embeds(Path(snapshot), num_queries)
  else:
    block_embeds, queries = _made_up_embeds(num_blocks, num_queries)
  if max(k) > len(block_embeds):
    raise UserError(
      f'k is {max(k)}, but there are {len(block_embeds)} blocks to search.'
    )
  many = len(block_embeds) > _MANY_BLOCKS
  methods = method or [
    name for name in METHODS if not (many and name in _SLOW_TO_BUILD)
  ]
  built = {name: build(name, block_embeds) for name in methods}
  found = measure_searches(built, block_embeds, queries, batch, k, rounds)
  if as_json:
    console.out(json.dumps(found, indent=2), highlight=False)
  else:
    _show(found, console)
  return found


def _check_arguments(
  counts: Sequence[int], method: Sequence[str] | None
) -> None:
  if min(counts) < 1:
    raise UserError(
      f'{min(counts)} was given as a number of blocks, queries or rounds, '
      'expected at least 1.'
    )
  for name in method or ():
    if name not in METHODS:
      raise UserError(
        f'{name!r} is no method, expected some of: {", ".join(METHODS)}.'
      )


def _made_up_embeds(
  num_blocks: int, num_queries: int
) -> tuple[np.ndarray, np.ndarray]:
  check_free(
    # Once as they come, and once as an index has them.
    2 * 4 * num_blocks * EMBED_DIM,
    free_host_bytes(),
    f'Measuring with {num_blocks:,} blocks',
    'Give a smaller --num-blocks, or a --snapshot, which stays on disk.',
  )
  mixture = Mixture(num_blocks)
  block_embeds = aligned_zeros((num_blocks, EMBED_DIM), np.float32)
  start = 0
  for chunk in mixture.chunks():
    block_embeds[start : start + len(chunk)] = chunk
    start += len(chunk)
  # An index may use them as they are; see index.table.
  block_embeds.flags.writeable = False
  queries = mixture.queries(min(num_queries, num_blocks))
  return block_embeds, np.resize(queries, (num_queries, EMBED_DIM))


def _snapshot_embeds(
  folder: Path, num_queries: int
) -> tuple[np.ndarray, np.ndarray]:
  """Its rows, and as queries some of them with noise of half their size."""
  rows = np.asarray(load_snapshot(folder, None).block_embeds)
  rows = rows.astype(np.float32, copy=False)
  rng = np.random.default_rng(0)
  some = rows[rng.integers(len(rows), size=num_queries)]
  noise = rng.standard_normal(some.shape, np.float32)
  return rows, some + 0.5 * some.std(axis=1, keepdims=True) * noise


def _show(found: dict[str, Any], console: Console) -> None:
  machine, rates = found['machine'], found['rates']
  table = Table(
    title=f'{machine["num_blocks"]:,} blocks of width {machine["embed_dim"]}',
    box=box.SIMPLE,
  )
  table.add_column('method', no_wrap=True)
  for name in _NUMBERS:
    table.add_column(name, justify='right', no_wrap=True)
  for row in found['rows']:
    cells = [row['method'], str(row['batch']), str(row['k'])]
    if 'left_out' not in row:
      memory = row['memory_bytes']
      cells += [
        f'{row["milliseconds"]:,.2f}',
        f'{row["ratio_to_floor"]:.2f}',
        f'{row["recall"]:.4f}',
        f'{row["build_seconds"]:.1f}',
        '' if memory is None else f'{memory / (1 << 30):.2f}',
      ]
    table.add_row(*cells)
  console.print(table)
  console.print(
    f'{machine["device"]}, {machine["cores"]} cores: matrix products at '
    f'{rates["flops_per_second"] / 1e9:,.0f} GFLOP/s, reading at '
    f'{rates["bytes_per_second"] / 1e9:,.0f} GB/s; medians of '
    f'{machine["rounds"]} rounds in turn.'
  )
  left_out = {
    row['method']: row['left_out'] for row in found['rows'] if 'left_out' in row
  }
  for name, reason in left_out.items():
    console.print(f'{name}: left out. {reason}', highlight=False)
