"""Searches of the same embeddings, timed in turn, next to the floor."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from realm_jax.bench.contenders import Built, fits, recall
from realm_jax.bench.embeddings import exact_top
from realm_jax.bench.floors import PRODUCT, READ, Probes
from realm_jax.bench.timing import machine, time_in_turn

_NUM_RECALL = 64  # queries that recall is measured on
_NO_MEMORY = 'its scores do not fit into memory'


def measure_searches(
  built: Mapping[str, Built],
  block_embeds: np.ndarray,
  query_embeds: np.ndarray,
  batches: Sequence[int],
  ks: Sequence[int],
  rounds: int,
) -> dict[str, Any]:
  """Times all contenders at each batch size and k.

  Args:
    built: name -> what bench.contenders.build made.
    block_embeds: [num_blocks, embed_dim] float32.
    query_embeds: [num_queries, embed_dim] float32; as many as the largest
      batch, at least.
    batches: numbers of queries.
    ks: numbers of blocks a query.
    rounds: times that each is measured.

  Returns:
    'machine'; 'rates', operations and bytes a second; 'rows', for each method,
    batch and k: milliseconds (median), ratio_to_floor (median of the rounds'
    own ratios), recall, queries_per_second, build_seconds, memory_bytes; or
    left_out, the reason why it was not measured.
  """
  device = jax.local_devices()[0]
  probes = Probes(device.platform, 'bfloat16')
  rows = []
  rates = []
  num_blocks, embed_dim = block_embeds.shape
  for k in ks:
    recalls = _recalls(built, block_embeds, query_embeds[:_NUM_RECALL], k)
    for batch in batches:
      calls = {
        name: _search(built[name], query_embeds[:batch], k)
        for name in recalls
        if _left_out(built[name], batch, num_blocks) is None
      }
      seconds = time_in_turn({**probes.calls, **calls}, rounds)
      both = list(zip(seconds[PRODUCT], seconds[READ], strict=True))
      rates += [probes.rates(*pair) for pair in both]
      for name, entry in built.items():
        row = {'method': name, 'batch': batch, 'k': k}
        if name not in calls:
          reason = _left_out(entry, batch, num_blocks) or _NO_MEMORY
          rows.append({**row, 'left_out': reason})
          continue
        assert entry.contender is not None
        itemsize = entry.contender.itemsize
        floors = [
          probes.floor(*pair, batch, num_blocks, embed_dim, itemsize)
          for pair in both
        ]
        figures = _figures(entry, batch, seconds[name], floors)
        rows.append({**row, **figures, 'recall': recalls[name]})
  return {
    'machine': {
      **machine(),
      'num_blocks': block_embeds.shape[0],
      'embed_dim': block_embeds.shape[1],
      'rounds': rounds,
    },
    'rates': {
      name: statistics.median(rate[name] for rate in rates) for name in rates[0]
    },
    'rows': rows,
  }


def _search(entry: Built, queries: np.ndarray, k: int):
  assert entry.contender is not None
  search = entry.contender.search
  # Where they are in training, so that no copy is timed.
  placed = jax.device_put(queries)
  return lambda: search(placed, k)


def _figures(
  entry: Built, batch: int, seconds: Sequence[float], floors: Sequence[float]
) -> dict[str, Any]:
  """What a row says of a contender, but for its recall."""
  assert entry.contender is not None
  median = statistics.median(seconds)
  return {
    'milliseconds': 1e3 * median,
    'ratio_to_floor': statistics.median(
      time / floor for time, floor in zip(seconds, floors, strict=True)
    ),
    'queries_per_second': batch / median,
    'build_seconds': entry.build_seconds,
    'memory_bytes': entry.contender.memory_bytes,
  }


def _left_out(entry: Built, batch: int, num_blocks: int) -> str | None:
  """Why a contender is not measured, if it is not."""
  if entry.contender is None:
    return entry.reason
  if not fits(entry.contender, batch, num_blocks):
    return _NO_MEMORY
  return None


def _recalls(
  built: Mapping[str, Built],
  block_embeds: np.ndarray,
  queries: np.ndarray,
  k: int,
) -> dict[str, float]:
  """Recall at k of all contenders that have memory for at least one query."""
  exact_ids = exact_top(queries, block_embeds, k)
  recalls = {}
  for name, entry in built.items():
    at_once = len(queries)
    while at_once and _left_out(entry, at_once, len(block_embeds)):
      at_once //= 2
    if at_once:
      found = [
        np.asarray(_search(entry, queries[start : start + at_once], k)())
        for start in range(0, len(queries), at_once)
      ]
      recalls[name] = recall(
        np.concatenate(found), exact_ids, queries, block_embeds
      )
  return recalls
