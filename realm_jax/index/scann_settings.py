"""Settings of a ScaNN index, by the size of the corpus."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from realm_jax.checks import check_at_least
from realm_jax.errors import UserError

# Below this many blocks all are scored: there is nothing to gain, and a build
# to lose. ScaNN's own rule.
MAX_EXACT_BLOCKS = 20_000
# A leaf for each half of the square root up to here; beyond, more leaves would
# cost more to train than they save before the next refresh.
_MANY_BLOCKS = 1_000_000
# Of the leaves, for 8 blocks a query, but no fewer than so many; with SOAR,
# which stores a block in two leaves, half as many find as much.
_SHARE_SEARCHED = 0.02
_MIN_SEARCHED = 20
_SOAR_SHARE = 0.5
_K_EXPONENT = 0.27  # twice the leaves for 100 blocks a query
_MIN_REORDER = 200
_SAMPLE_SIZE = 250_000


@dataclass(frozen=True)
class ScannConfig:
  """How a ScaNN index is built and searched; 0 is by the size of the corpus.

  Attributes:
    num_leaves: of the tree. If it is given there is a tree, however few blocks.
    leaves_to_search: for a query, whatever the number of blocks it asks for.
    reorder: blocks a query that are scored again, exactly.
    soar: store each block in two leaves, of which half as many are searched: a
      build takes 1.5 to 1.8 times as long. For an index that is searched for
      long before it is replaced, if `tune` shows that leaves are what limits
      recall; on made-up embeddings it gained nothing to a fifth.
    training_sample_size: blocks that the leaves are fitted to.
    build_threads: of the worker process that builds; 0 for half of the cores.
    search_threads: 0 for all cores.
    niceness: of the worker process, 0 to 19: how far it stands back.
    work_folder: where the worker writes, as much as a snapshot and a quarter;
      '' for the system's folder of temporary files.
  """

  num_leaves: int = 0
  leaves_to_search: int = 0
  reorder: int = 0
  soar: bool = False
  training_sample_size: int = 0
  build_threads: int = 0
  search_threads: int = 0
  niceness: int = 10
  work_folder: str = ''

  def __post_init__(self):
    check_at_least(
      self,
      num_leaves=0,
      leaves_to_search=0,
      reorder=0,
      training_sample_size=0,
      build_threads=0,
      search_threads=0,
      niceness=0,
    )
    if self.niceness > 19:
      raise UserError(
        f'ScannConfig.niceness is {self.niceness}, expected at most 19.'
      )
    if 0 < self.num_leaves < self.leaves_to_search:
      raise UserError(
        f'ScannConfig.leaves_to_search is {self.leaves_to_search}, expected at '
        f'most num_leaves, which is {self.num_leaves}.'
      )


class ScannSettings(NamedTuple):
  """How a corpus is built and searched.

  Attributes:
    num_leaves: 0 where all blocks are scored exactly.
    leaves_to_search: 0 likewise.
    reorder: blocks a query that are scored again, exactly.
    soar: see ScannConfig.
    training_sample_size: blocks that the leaves are fitted to.
  """

  num_leaves: int
  leaves_to_search: int
  reorder: int
  soar: bool
  training_sample_size: int


def settings_for(num_blocks: int, k: int, config: ScannConfig) -> ScannSettings:
  """Fills in what the configuration leaves to the size of the corpus.

  Measured on made-up embeddings of width 128: experiments/index/approximate.py.
  leaves_to_search and reorder may differ from search to search; the other
  settings are those of the build and do not depend on k.

  Args:
    num_blocks: rows of the corpus.
    k: blocks a query.
    config: what is given in it is kept.

  Raises:
    UserError: more leaves than blocks.
  """
  if config.num_leaves > num_blocks:
    raise UserError(
      f'ScannConfig.num_leaves is {config.num_leaves:,}, but there are '
      f'{num_blocks:,} blocks: expected fewer leaves than blocks. Give 0 for a '
      'number by the size of the corpus.'
    )
  sample_size = min(config.training_sample_size or _SAMPLE_SIZE, num_blocks)
  reorder = max(config.reorder or max(_MIN_REORDER, 4 * k), k)
  if num_blocks < MAX_EXACT_BLOCKS and not config.num_leaves:
    return ScannSettings(0, 0, reorder, False, sample_size)
  num_leaves = config.num_leaves or _default_leaves(num_blocks)
  searched = max(_MIN_SEARCHED, _SHARE_SEARCHED * num_leaves)
  searched *= max(1, k / 8) ** _K_EXPONENT
  if config.soar:
    searched *= _SOAR_SHARE
  leaves_to_search = config.leaves_to_search or math.ceil(searched)
  return ScannSettings(
    num_leaves,
    min(leaves_to_search, num_leaves),
    reorder,
    config.soar,
    sample_size,
  )


def _default_leaves(num_blocks: int) -> int:
  if num_blocks <= _MANY_BLOCKS:
    return round(2 * math.sqrt(num_blocks))
  return round(max(2 * math.sqrt(_MANY_BLOCKS), math.sqrt(num_blocks)))
