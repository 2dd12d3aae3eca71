"""Operations and memory traffic of the model's parts, by formula.

`flops` are those of matrix products, two for a multiplication with its
addition, as model FLOP utilisation has them; a test holds them equal to the
products in the traced step. `num_bytes` are those of everything beside the
products: layer norms, softmax, dropout, gelu. They are counted as passes over
arrays; how many passes was fitted to steps on a CPU (experiments/plan).

L is the length, P the positions whose output is asked for, H hidden_size,
F feed_forward_size.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from realm_jax.costs.shapes import StepShape
from realm_jax.models.encoder import EncoderConfig
from realm_jax.models.realm import RealmConfig

# Passes over arrays of a layer in the forward direction; a layer that is
# trained makes three times as many.
_HIDDEN_PASSES, _FEED_FORWARD_PASSES, _SCORE_PASSES = 16, 4, 4
_LOGIT_PASSES = 3
# Of float32 numbers a trained parameter: read for the norms, the moments and
# the weight, written back.
_UPDATE_PASSES = 9
# Of two numbers that are added, and their sum.
_SUM_PASSES = 3
_TRAINED = 3  # forward, and twice as much backward

_BYTES = {'float32': 4, 'bfloat16': 2, 'float16': 2, 'float64': 8, 'int8': 1}


def itemsize(dtype: str) -> int:
  """Bytes of a number of a dtype, by its name."""
  return _BYTES[dtype]


@dataclasses.dataclass(frozen=True)
class Work:
  """What has to be done.

  Attributes:
    flops: of matrix products.
    num_bytes: read and written beside them.
  """

  flops: float = 0.0
  num_bytes: float = 0.0

  def __add__(self, other: 'Work') -> 'Work':
    return Work(self.flops + other.flops, self.num_bytes + other.num_bytes)

  def times(self, factor: float) -> 'Work':
    """As often."""
    return Work(self.flops * factor, self.num_bytes * factor)


def _layer(
  config: EncoderConfig, length: int, positions: int, fused: bool = False
) -> Work:
  """One layer for one text, forward; fused attention holds no scores."""
  hidden, inner = config.hidden_size, config.feed_forward_size
  products = (
    2 * 2 * positions * hidden**2  # query, output
    + 2 * 2 * length * hidden**2  # key, value
    + 2 * 2 * positions * length * hidden  # scores, context
    + 2 * 2 * positions * hidden * inner
  )
  size = itemsize(config.dtype)
  # The last layer's few positions are never fused.
  score_passes = 0 if fused and positions == length else _SCORE_PASSES
  num_bytes = (
    _HIDDEN_PASSES * size * (positions + length) / 2 * hidden
    + _FEED_FORWARD_PASSES * size * positions * inner
    # float32 whatever the compute dtype
    + score_passes * max(4, size) * config.num_heads * positions * length
  )
  return Work(products, num_bytes)


def encoder_work(
  config: EncoderConfig,
  num_texts: int,
  length: int,
  num_positions: int,
  train: bool,
  fused: bool = False,
) -> Work:
  """Encoding texts.

  Args:
    config: of the encoder.
    num_texts: how many.
    length: wordpieces of each, padding included.
    num_positions: whose output is asked for: the last layer computes no other.
    train: backward as well.
    fused: attention is one kernel.
  """
  layers = _layer(config, length, length, fused).times(config.num_layers - 1)
  layers += _layer(config, length, num_positions, fused)
  # Segments are multiplied one-hot; only their table has a gradient.
  segments = 2 * length * config.num_segments * config.hidden_size
  passes = 3 * itemsize(config.dtype) * length * config.hidden_size
  work = layers.times(_TRAINED if train else 1)
  work += Work(segments, passes).times(2 if train else 1)
  return work.times(num_texts)


def embedder_work(
  model: RealmConfig,
  num_texts: int,
  length: int,
  train: bool,
  fused: bool = False,
) -> Work:
  """Embedding texts; arguments as encoder_work has them."""
  hidden = model.encoder.hidden_size
  head = Work(2 * hidden * (hidden + model.embed_dim))
  work = head.times(num_texts * (_TRAINED if train else 1))
  return work + encoder_work(model.encoder, num_texts, length, 1, train, fused)


def mlm_head_work(config: EncoderConfig, num_masks: int, train: bool) -> Work:
  """Log probabilities of so many masked positions' targets."""
  hidden, vocab = config.hidden_size, config.vocab_size
  products = 2 * hidden * (hidden + vocab + 1)
  work = Work(products, _LOGIT_PASSES * 4 * vocab)
  return work.times(num_masks * (_TRAINED if train else 1))


def step_work(
  model: RealmConfig,
  shape: StepShape,
  train_retriever: bool = True,
  fused: bool = False,
) -> dict[str, Work]:
  """The parts of a pre-training step, forward and backward.

  Args:
    model: sizes.
    shape: of the batch, over all devices together.
    train_retriever: False for no gradient of the embedders.
    fused: attention is one kernel.

  Returns:
    'query', 'documents', 'null document', 'scores', 'reader', 'mlm head'.
  """
  batch, joint = shape.batch_size, shape.batch_size * shape.num_candidates
  num_documents = joint - batch
  scores = 2 * joint * model.embed_dim

  def embed(num_texts: int, length: int) -> Work:
    return embedder_work(model, num_texts, length, train_retriever, fused)

  return {
    'query': embed(batch, shape.query_len),
    'documents': embed(num_documents, shape.document_len),
    'null document': embed(1, 3),  # [CLS] [SEP] [SEP]
    'scores': Work(scores * (_TRAINED if train_retriever else 1)),
    'reader': encoder_work(
      model.encoder, joint, shape.joint_len, shape.max_masks, True, fused
    ),
    'mlm head': mlm_head_work(
      model.encoder, joint * shape.max_masks, train=True
    ),
  }


def recomputed_work(
  model: RealmConfig,
  shape: StepShape,
  train_retriever: bool = True,
  fused: bool = False,
) -> Work:
  """What the backward pass does again, by EncoderConfig.remat.

  No part of step_work, whose operations are the model's. 'full' computes every
  layer again; 'dots' all but its dense layers.

  Args:
    model: sizes.
    shape: as step_work has it, like those that follow.
    train_retriever: False for no gradient of the embedders.
    fused: attention is one kernel.
  """
  config = model.encoder
  batch, joint = shape.batch_size, shape.batch_size * shape.num_candidates
  texts = [(joint, shape.joint_len, shape.max_masks)]
  if train_retriever:
    texts += [
      (joint - batch, shape.document_len, 1),
      (batch, shape.query_len, 1),
    ]

  def again(length: int, positions: int) -> Work:
    layer = _layer(config, length, positions, fused)
    if config.remat == 'dots':
      scores_and_context = 2 * 2 * positions * length * config.hidden_size
      return Work(scores_and_context, layer.num_bytes)
    return layer

  if config.remat == 'none':
    return Work()
  return sum(
    (
      (
        again(length, length).times(config.num_layers - 1)
        + again(length, positions)
      ).times(number)
      for number, length, positions in texts
    ),
    Work(),
  )


def update_work(num_trained: int, num_microbatches: int = 1) -> Work:
  """Clipping, Adam and weight decay of so many parameters.

  Args:
    num_trained: parameters.
    num_microbatches: each part's gradients are added to their sum.
  """
  passes = _UPDATE_PASSES
  if num_microbatches > 1:
    passes += _SUM_PASSES * num_microbatches
  return Work(0, passes * 4 * num_trained)


def search_work(
  batch_size: int, num_blocks: int, embed_dim: int, dtype: str
) -> Work:
  """Exact search of a batch of queries: every block is read once."""
  return Work(
    2 * batch_size * num_blocks * embed_dim,
    num_blocks * embed_dim * itemsize(dtype),
  )


def retrieve_work(
  model: RealmConfig, shape: StepShape, num_blocks: int, dtype: str
) -> Work:
  """Embedding the queries without dropout, and searching them."""
  batch = shape.batch_size
  return embedder_work(model, batch, shape.query_len, False) + search_work(
    batch, num_blocks, model.embed_dim, dtype
  )


def refresh_work(
  model: RealmConfig, num_blocks: int, document_len: int, fused: bool = False
) -> Work:
  """Embedding all blocks."""
  return embedder_work(model, num_blocks, document_len, False, fused)


def parameter_counts(params: Mapping[str, Any]) -> dict[str, int]:
  """Numbers in each top-level part of a tree of parameters or shapes."""
  return {
    part: sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))
    for part, tree in params.items()
  }
