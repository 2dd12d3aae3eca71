"""What the work of a step depends on beside the model."""

import dataclasses
from typing import Any

from realm_jax.index.config import IndexConfig
from realm_jax.models.realm import RealmConfig
from realm_jax.train.optimizer import OptimizerConfig


@dataclasses.dataclass(frozen=True)
class StepShape:
  """Sizes of one pre-training batch, as it is padded.

  Attributes:
    batch_size: masked sentences.
    num_candidates: documents a sentence, the null document included.
    query_len: wordpieces of a query.
    document_len: wordpieces of a document for the embedder.
    joint_len: wordpieces of query and document for the reader.
    max_masks: wordpieces predicted for a query.
    num_microbatches: parts that the batch is taken in, one after the other.
  """

  batch_size: int
  num_candidates: int
  query_len: int
  document_len: int
  joint_len: int
  max_masks: int
  num_microbatches: int = 1

  @property
  def num_tokens(self) -> int:
    """Wordpieces that embedder and reader see in a step, padding included."""
    documents = (self.num_candidates - 1) * self.document_len
    joint = self.num_candidates * self.joint_len
    return self.batch_size * (self.query_len + documents + joint)


@dataclasses.dataclass(frozen=True)
class Devices:
  """Devices that share a run, as sharding.MeshConfig has them.

  Attributes:
    data: parts of a batch.
    model: parts of a tensor-parallel parameter.
    rules: one of sharding.RULES.
  """

  data: int = 1
  model: int = 1
  rules: str = 'fsdp'

  @property
  def number(self) -> int:
    """How many."""
    return self.data * self.model


ONE_DEVICE = Devices()


@dataclasses.dataclass(frozen=True)
class Workload:
  """A pre-training run, as its configuration says.

  Attributes:
    model: sizes.
    params: shapes of its parameters, as abstract_params gives them.
    shape: of a batch over all devices, texts at their full length.
    optimizer: as OptimizerConfig.for_stage gives it.
    index: what is searched.
    num_blocks: of the corpus.
    num_steps: updates in all.
    refresh_every: steps in which all blocks are embedded once; 0 for one index
      all along.
    refresh_aside: other devices than those that train embed them, but for the
      first index.
    train_retriever: False leaves the embedders as they are.
  """

  model: RealmConfig
  params: Any
  shape: StepShape
  optimizer: OptimizerConfig
  index: IndexConfig
  num_blocks: int
  num_steps: int
  refresh_every: int
  refresh_aside: bool = False
  train_retriever: bool = True
