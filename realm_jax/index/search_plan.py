"""How to search: the form and its sizes, by what was measured to be best.

See experiments/index for the measurements.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from realm_jax.index.pallas_group_maxima import kernel_applies
from realm_jax.index.table import Table

# Where the first pass is not in float32, so many more groups (or rows, where
# scores are kept) are scored again: rounding moves some across the border.
SPARE_GROUPS = 24
SPARE_ROWS = 256
# A CPU multiplies float32 faster than bfloat16, and than int8 below this batch.
_MIN_INT8_BATCH = 256


class Plan(NamedTuple):
  """How a search is done: all static.

  Attributes:
    form: 'groups' scores the best groups again; 'scores' keeps all scores;
      'approximate' is lax.approx_max_k.
    group_size: neighbouring rows of which one maximum is kept.
    tile_size: rows scored at a time, of form 'groups'.
    queries_at_once: queries of which scores or groups are held at a time.
    kernel: make the group maxima with the Pallas kernel.
    recall_target: of form 'approximate'.
    full: read the float32 rows whole rather than the smaller ones beside them.
  """

  form: str
  group_size: int
  tile_size: int
  queries_at_once: int
  kernel: bool = False
  recall_target: float = 1.0
  full: bool = False


class _Limits(NamedTuple):
  """What was measured to be best, by platform.

  Attributes:
    group_sizes: as in Plan; for k up to _SMALL_K, up to max_k and beyond: large
      groups are fewer to select from, and more to look into.
    min_batch: below it, form 'scores'.
    max_k: above it, form 'scores'.
    tile_bytes: scores of a tile: a CPU's caches hold them next to the rows; an
      accelerator wants few large calls.
    score_bytes: scores that form 'scores' holds at a time.
    group_bytes: rows of groups that are scored again at a time.
  """

  group_sizes: tuple[int, int, int]
  min_batch: int
  max_k: int
  tile_bytes: int
  score_bytes: int
  group_bytes: int


_LIMITS = {
  'cpu': _Limits((64, 32, 16), 16, 500, 16 << 20, 1 << 30, 1 << 20),
  'gpu': _Limits((128, 128, 32), 1, 500, 32 << 20, 4 << 30, 256 << 20),
  'tpu': _Limits((128, 128, 32), 16, 500, 64 << 20, 1 << 30, 64 << 20),
}
_SMALL_K = 16
_MIN_TILE, _MAX_CPU_TILE = 1024, 8192


def plan_search(
  batch: int,
  k: int,
  table: Table,
  device: jax.Device | None = None,
  recall_target: float = 1.0,
) -> Plan:
  """Chooses the form of a search and its sizes.

  Args:
    batch: queries.
    k: blocks a query.
    table: arrays or their shapes; what one device holds.
    device: the kind of device; None for the default one.
    recall_target: below 1 a TPU selects with lax.approx_max_k, which its
      hardware is fast at; elsewhere that is no faster and is not used.
  """
  device = device or jax.local_devices()[0]
  platform = device.platform
  limits = _LIMITS.get(platform, _LIMITS['gpu'])
  capacity, embed_dim = table.rows.shape
  group_size = limits.group_sizes[(k > _SMALL_K) + (k > limits.max_k)]
  num_groups = -(-capacity // group_size)
  full = (
    platform == 'cpu'
    and table.full is not None
    and (table.scales is None or batch < _MIN_INT8_BATCH)
  )
  # All rows at a time in another dtype would be a table of their own.
  widened = platform == 'cpu' and table.rows.dtype == jnp.bfloat16 and not full
  few_queries = batch < limits.min_batch and not widened
  if recall_target < 1 and platform == 'tpu':
    form = 'approximate'
  elif few_queries or k > min(limits.max_k, num_groups // 2 - SPARE_GROUPS):
    form = 'scores'
  else:
    form = 'groups'
  tile = limits.tile_bytes // (4 * batch) // group_size * group_size
  if platform == 'cpu':
    tile = min(tile, _MAX_CPU_TILE)
  held, each = (
    (limits.group_bytes, 4 * (k + SPARE_GROUPS) * group_size * embed_dim)
    if form == 'groups'
    else (limits.score_bytes, 4 * capacity)
  )
  return Plan(
    form,
    group_size,
    max(tile, _MIN_TILE),
    max(1, min(batch, held // max(each, 1))),
    form == 'groups'
    and kernel_applies(
      platform,
      batch,
      group_size,
      table,
      getattr(device, 'compute_capability', None),
    ),
    recall_target,
    full,
  )
