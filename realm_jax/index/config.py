"""Which index a run searches: one choice, for every stage."""

from dataclasses import dataclass

from jax.sharding import Mesh

from realm_jax.checks import check_at_least
from realm_jax.errors import UserError
from realm_jax.index.api import Index
from realm_jax.index.exact_index import ExactIndex
from realm_jax.index.scann_settings import ScannConfig
from realm_jax.index.snapshot import Snapshot
from realm_jax.index.table import check_dtype

KINDS = ('exact', 'scann')


@dataclass(frozen=True)
class IndexConfig:
  """What searches block embeddings.

  Attributes:
    kind: 'exact', on the devices, or 'scann', approximate, on the host.
    dtype: of an exact index's table: 'float32', 'bfloat16' or 'int8'.
    rescore: keep float32 rows beside a smaller dtype; see ExactIndex.
    capacity: blocks to make room for; 0 for as many as the corpus has.
    recall_target: of an exact index; below 1 a TPU selects approximately.
    audit_every: searches from one measurement of recall to the next; 0 for
      none. A measurement reads all embeddings on the host.
    scann: of a ScaNN index; None for settings by the size of the corpus.
  """

  kind: str = 'exact'
  dtype: str = 'float32'
  rescore: bool = True
  capacity: int = 0
  recall_target: float = 1.0
  audit_every: int = 0
  scann: ScannConfig | None = None

  def __post_init__(self):
    check_at_least(self, capacity=0, audit_every=0)
    check_dtype(self.dtype)
    if self.kind not in KINDS:
      raise UserError(
        f'IndexConfig.kind is {self.kind!r}, expected one of '
        f'{", ".join(KINDS)}.'
      )
    if not 0 < self.recall_target <= 1:
      raise UserError(
        f'IndexConfig.recall_target is {self.recall_target}, expected more '
        'than 0 and at most 1.'
      )

  def make(self, snapshot: Snapshot, mesh: Mesh | None = None) -> Index:
    """An index of a snapshot.

    Args:
      snapshot: what to search.
      mesh: whose devices an exact index is spread over; None for one device.

    Raises:
      UserError, ImportError: see ExactIndex and ScannIndex.
    """
    if self.kind == 'scann':
      from realm_jax.index.scann_index import ScannIndex

      return ScannIndex(snapshot, self.scann, capacity=self.capacity or None)
    return ExactIndex(
      snapshot,
      capacity=self.capacity or None,
      dtype=self.dtype,
      rescore=self.rescore,
      mesh=mesh,
      recall_target=self.recall_target,
    )
