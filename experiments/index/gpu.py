"""Exact search on a GPU: the Pallas kernel, XLA's form, torch; see README.md.

  python experiments/index/gpu.py --out DIR [--num-blocks N] [--rounds 7]

Writes results.json and results.md, as far as it got, and prints the latter. On
an H100 or H200 it takes about five minutes. Without a GPU, with --interpret and
few blocks, it only shows that it runs.
"""

import argparse
import functools
import itertools
import json
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

# Not installed where it runs; and torch needs some of the memory.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')

import jax
import jax.numpy as jnp
import numpy as np

from realm_jax.index import exact, search_plan
from realm_jax.index.group_maxima import convert_queries, group_maxima
from realm_jax.index.pallas_group_maxima import (
  Tiling,
  choose_tiling,
  kernel_maxima,
)
from realm_jax.index.table import Table, quantise

EMBED_DIM = 128
K = 8
GROUP_SIZE = 128
# Scores that the forms with a score matrix hold at a time.
SCORE_BYTES = 8 << 30
# Calls sent at a time, so that sending them is not what is measured.
CALLS = 10


def seconds(call: Callable[[], object], calls: int) -> float:
  """Seconds a call of what sends work to the device."""
  start = time.perf_counter()
  for _ in range(calls):
    result = call()
  wait(result)
  return (time.perf_counter() - start) / calls


def wait(result: object) -> None:
  if isinstance(jax.tree.leaves(result)[0], jax.Array):
    jax.block_until_ready(result)
  else:
    sys.modules['torch'].cuda.synchronize()


def alternate(
  contenders: dict[str, Callable], rounds: int, errors: dict[str, str]
) -> dict[str, float]:
  """Median seconds of each, taking turns; what fails is left out."""
  for name in list(contenders):
    try:
      seconds(contenders[name], 2)  # compiles, and warms up
    except Exception:
      errors[name] = traceback.format_exc(limit=1)[-400:]
      del contenders[name]
  calls = CALLS if jax.default_backend() == 'gpu' else 1
  times: dict[str, list[float]] = {name: [] for name in contenders}
  for _ in range(rounds):
    for name, call in contenders.items():
      times[name].append(seconds(call, calls))
  return {name: statistics.median(taken) for name, taken in times.items()}


@functools.partial(jax.jit, static_argnums=0)
def random_rows(num_rows: int) -> jax.Array:
  """[num_rows, EMBED_DIM] bfloat16, made on the device."""
  return jax.random.normal(
    jax.random.key(0), (num_rows, EMBED_DIM), jnp.bfloat16
  )


def measure_floors(
  rows: jax.Array, rounds: int, size: int, errors: dict[str, str]
) -> dict[str, float]:
  """What the device reads, copies (read and write) and multiplies a second."""
  copy = jax.jit(lambda rows: rows * jnp.bfloat16(1.5))
  read = jax.jit(lambda rows: rows.max())
  multiply = jax.jit(lambda a, b: a @ b)
  a = random_rows(size * size // EMBED_DIM).reshape(size, size)
  b = a.T + jnp.bfloat16(1)
  taken = alternate(
    {
      'read': lambda: read(rows),
      'copy': lambda: copy(rows),
      'multiply': lambda: multiply(a, b),
    },
    rounds,
    errors,
  )
  amounts = {
    'read': rows.nbytes,
    'copy': 2 * rows.nbytes,
    'multiply': 2 * size**3,
  }
  return {name: amounts[name] / taken[name] for name in taken}


def floor_seconds(
  batch: int, num_blocks: int, rates: dict[str, float]
) -> float:
  """The time of reading the table once, or of the products if that is more."""
  return max(
    2 * EMBED_DIM * num_blocks / max(rates['read'], rates['copy']),
    2 * EMBED_DIM * num_blocks * batch / rates['multiply'],
  )


@functools.partial(jax.jit, static_argnums=2)
def naive_search(query_embeds: jax.Array, rows: jax.Array, chunk: int):
  """matmul and top_k, some queries at a time."""

  def search_some(some: jax.Array):
    scores = jnp.einsum(
      'bd,id->bi',
      some.astype(rows.dtype),
      rows,
      preferred_element_type=jnp.float32,
    )
    return jax.lax.top_k(scores, K)

  chunks = query_embeds.reshape(-1, chunk, EMBED_DIM)
  return jax.lax.map(search_some, chunks)


def torch_search(
  query_embeds: jax.Array, rows: jax.Array, chunk: int
) -> Callable[[], object]:
  """torch's matmul and topk; ImportError where there is no torch."""
  import torch

  table = torch.from_dlpack(rows)
  queries = torch.from_dlpack(query_embeds.astype(rows.dtype))
  return lambda: [
    torch.topk(part @ table.T, K, dim=1).indices
    for part in queries.split(chunk)
  ]


def chunk_size(batch: int, num_blocks: int) -> int:
  """A power of two queries whose scores fit, at most the batch."""
  chunk = batch
  while chunk > 1 and 4 * chunk * num_blocks > SCORE_BYTES:
    chunk //= 2
  return chunk


def compare(
  batch: int, table: Table, rounds: int, interpret: bool, errors: dict
) -> dict[str, float]:
  """Seconds of whole searches, and of first passes alone, for one batch."""
  num_blocks = table.rows.shape[0]
  query_embeds = jax.random.normal(jax.random.key(1), (batch, EMBED_DIM))
  queries = convert_queries(query_embeds, table)
  plan = search_plan.plan_search(batch, K, table)._replace(
    form='groups', group_size=GROUP_SIZE, kernel=False
  )
  # Wide tiles: an accelerator wants few large calls.
  tile = max(1 << 10, (256 << 20) // (4 * batch) // GROUP_SIZE * GROUP_SIZE)
  plan = plan._replace(tile_size=min(tile, num_blocks // 2048 * 1024))
  chunk = chunk_size(batch, num_blocks)
  kernel = jax.jit(
    functools.partial(kernel_maxima, interpret=interpret), static_argnums=2
  )
  xla = jax.jit(group_maxima, static_argnums=(2, 3))
  contenders = {
    'kernel maxima': lambda: kernel(queries, table, GROUP_SIZE),
    'XLA maxima': lambda: xla(queries, table, GROUP_SIZE, plan.tile_size),
    'XLA search': lambda: exact.search(query_embeds, table, K, plan=plan),
    'jax matmul + top_k': lambda: naive_search(query_embeds, table.rows, chunk),
  }
  if not interpret:
    contenders['kernel search'] = lambda: exact.search(
      query_embeds, table, K, plan=plan._replace(kernel=True)
    )
  try:
    contenders['torch matmul + topk'] = torch_search(
      query_embeds, table.rows, chunk
    )
  except Exception:
    errors['torch'] = traceback.format_exc(limit=1)[-400:]
  return alternate(contenders, rounds, errors)


def same_results(batch: int, table: Table, interpret: bool) -> dict[str, float]:
  """How far kernel and XLA's form agree on random numbers."""
  query_embeds = jax.random.normal(jax.random.key(2), (batch, EMBED_DIM))
  queries = convert_queries(query_embeds, table)
  tile = min(1 << 16, table.rows.shape[0] // 256 * 128)
  found = kernel_maxima(queries, table, GROUP_SIZE, interpret=interpret)
  expected = jax.jit(group_maxima, static_argnums=(2, 3))(
    queries, table, GROUP_SIZE, tile
  )
  report = {'largest difference of maxima': float(abs(found - expected).max())}
  if not interpret:
    plan = search_plan.plan_search(batch, K, table)._replace(
      form='groups', group_size=GROUP_SIZE, tile_size=tile
    )
    ids = [
      exact.search(query_embeds, table, K, plan=plan._replace(kernel=kernel))[1]
      for kernel in (False, True)
    ]
    report['share of equal ids'] = float((ids[0] == ids[1]).mean())
  return report


def exact_cases(num_rows: int, interpret: bool) -> dict[str, bool]:
  """Whether maxima of whole numbers are equal, bit for bit, case by case."""
  rng = np.random.default_rng(0)
  blocks = rng.integers(-9, 10, (num_rows, EMBED_DIM)).astype(np.float32)
  live = rng.random(num_rows) < 0.99
  live[num_rows // 2 :][:1000] = False
  codes, scales = quantise(blocks)
  tables = {
    'bfloat16': Table(jnp.asarray(blocks, jnp.bfloat16), jnp.asarray(live)),
    'int8': Table(jnp.asarray(codes), jnp.asarray(live), jnp.asarray(scales)),
  }
  report = {}
  for (name, table), batch, group_size in itertools.product(
    tables.items(), (1, 64, 200), (8, 32, 128)
  ):
    query_embeds = rng.integers(-9, 10, (batch, EMBED_DIM)).astype(np.float32)
    queries = convert_queries(query_embeds, table)
    found = kernel_maxima(queries, table, group_size, interpret=interpret)
    expected = jax.jit(group_maxima, static_argnums=(2, 3))(
      queries, table, group_size, 1024
    )
    report[f'{name}, batch {batch}, groups of {group_size}'] = bool(
      (found == expected).all()
    )
  return report


def sweep(batch: int, table: Table, rounds: int, errors: dict) -> list[dict]:
  """Seconds of the first pass under many tilings, fastest first."""
  query_embeds = jax.random.normal(jax.random.key(1), (batch, EMBED_DIM))
  queries = convert_queries(query_embeds, table)
  chosen = choose_tiling(table.rows.shape[0], batch)
  sizes = {chosen.num_queries, max(16, chosen.num_queries // 2)}
  if batch > 128:
    sizes.add(256)
  variants = {
    (Tiling(size, num_tiles, num_warps, num_stages), group_size)
    for size, num_warps, num_stages, num_tiles, group_size in itertools.product(
      sizes, (4, 8), (2, 3, 4), (16,), (GROUP_SIZE,)
    )
  }
  variants |= {(chosen._replace(num_tiles=n), GROUP_SIZE) for n in (8, 32, 64)}
  variants |= {(chosen, group_size) for group_size in (16, 32, 64)}
  found = []
  for tiling, group_size in sorted(variants):
    run = jax.jit(
      functools.partial(kernel_maxima, tiling=tiling), static_argnums=2
    )
    name = f'{tuple(tiling)}, groups of {group_size}'
    taken = alternate(
      {name: lambda run=run, size=group_size: run(queries, table, size)},
      min(rounds, 3),
      errors,
    )
    for value in taken.values():
      found.append(
        {**tiling._asdict(), 'group_size': group_size, 'seconds': value}
      )
  return sorted(found, key=lambda variant: variant['seconds'])


def markdown(results: dict) -> str:
  """The results as a table a person reads."""
  rates = results['rates']
  lines = [
    f'{results["device"]}, jax {results["jax"]}: reads '
    f'{rates["read"] / 1e12:.2f} TB/s, copies {rates["copy"] / 1e12:.2f} TB/s, '
    f'multiplies {rates["multiply"] / 1e12:.0f} TF/s. '
    f'{results["num_blocks"]:,} blocks, bfloat16, k {K}; ms, x floor.',
    '',
  ]
  for batch, times in results['times'].items():
    floor = results['floors'][batch]
    lines += [f'| batch {batch} | ms | x floor |', '|---|---|---|']
    lines += [f'| floor | {1e3 * floor:.3f} | 1 |']
    for name, value in sorted(times.items(), key=lambda item: item[1]):
      lines.append(f'| {name} | {1e3 * value:.3f} | {value / floor:.2f} |')
    for variant in results['sweep'].get(batch, [])[:5]:
      size = ', '.join(f'{k} {v}' for k, v in variant.items() if k != 'seconds')
      lines.append(f'| {size} | {1e3 * variant["seconds"]:.3f} | |')
    lines.append('')
  cases = results['exact_cases']
  lines.append(f'{sum(cases.values())} of {len(cases)} exact cases are equal.')
  lines += [f'NOT EQUAL: {name}' for name, equal in cases.items() if not equal]
  lines += [f'{batch}: {report}' for batch, report in results['same'].items()]
  lines += [f'failed: {name}' for name in results['errors']]
  return '\n'.join(lines)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--out', type=Path, required=True)
  parser.add_argument('--num-blocks', type=int, default=13_353_718)
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument('--batches', type=int, nargs='*', default=[1, 64, 512])
  parser.add_argument('--interpret', action='store_true')
  parser.add_argument('--no-sweep', action='store_true')
  options = parser.parse_args()
  options.out.mkdir(parents=True, exist_ok=True)
  device = jax.devices()[0]
  errors: dict[str, str] = {}
  results = {
    'device': device.device_kind,
    'jax': jax.__version__,
    'num_blocks': options.num_blocks,
    'exact_cases': {},
    'rates': {},
    'floors': {},
    'times': {},
    'same': {},
    'sweep': {},
    'errors': errors,
  }

  def save() -> None:
    (options.out / 'results.json').write_text(json.dumps(results, indent=1))
    if results['rates']:
      (options.out / 'results.md').write_text(markdown(results) + '\n')

  # Correct first.
  results['exact_cases'] = exact_cases(
    1500 if options.interpret else 100_003, options.interpret
  )
  save()
  rows = jax.block_until_ready(random_rows(options.num_blocks))
  table = Table(rows, jnp.ones(options.num_blocks, bool))
  results['rates'] = measure_floors(
    rows, options.rounds, 512 if options.interpret else 8192, errors
  )
  for batch in options.batches:
    results['floors'][batch] = floor_seconds(
      batch, options.num_blocks, results['rates']
    )
    results['same'][batch] = same_results(batch, table, options.interpret)
    results['times'][batch] = compare(
      batch, table, options.rounds, options.interpret, errors
    )
    save()
  if not options.no_sweep and not options.interpret:
    for batch in options.batches:
      results['sweep'][batch] = sweep(batch, table, options.rounds, errors)
      save()
  print(markdown(results))


if __name__ == '__main__':
  main()
