"""Memory of a device in pre-training, by formula; no array is made.

What a training step keeps for the backward pass, with nothing computed twice
(no rematerialisation), is counted as arrays a layer; how many was fitted to
what XLA's CPU compiler reports (experiments/plan).
"""

from typing import Any

import jax
import numpy as np

from realm_jax.costs.shapes import StepShape, Workload
from realm_jax.costs.work import itemsize
from realm_jax.index.table import table_bytes
from realm_jax.models.encoder import EncoderConfig
from realm_jax.models.realm import RealmConfig
from realm_jax.train.optimizer import OptimizerConfig, make_optimizer

# Kept for each layer of a text: arrays of [length, hidden_size], of [length,
# feed_forward_size], and bytes for each attention weight: two float32 numbers
# and what dropout kept.
_HIDDEN_KEPT, _FEED_FORWARD_KEPT, _SCORE_BYTES_KEPT = 10, 5, 9
# float32 arrays of [masks, vocab_size] at once.
_LOGITS_KEPT = 2


def tree_bytes(tree: Any) -> int:
  """Bytes of a tree of arrays, or of their shapes."""
  return sum(
    int(np.prod(leaf.shape)) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(tree)
  )


def encoder_kept_bytes(
  config: EncoderConfig, num_texts: float, length: int, num_positions: int
) -> float:
  """What the backward pass of an encoder holds at most, in bytes."""
  size = itemsize(config.dtype)

  def layer(positions: int) -> float:
    hidden = _HIDDEN_KEPT * size * (positions + length) / 2
    return (
      hidden * config.hidden_size
      + _FEED_FORWARD_KEPT * size * positions * config.feed_forward_size
      + _SCORE_BYTES_KEPT * config.num_heads * positions * length
    )

  layers = (config.num_layers - 1) * layer(length) + layer(num_positions)
  # Gradients of one layer's widest arrays; an only layer has few positions.
  positions = length if config.num_layers > 1 else num_positions
  working = (
    size * positions * config.feed_forward_size
    + 4 * config.num_heads * positions * length
  )
  return num_texts * (layers + working)


def activation_bytes(
  model: RealmConfig,
  shape: StepShape,
  train_retriever: bool,
  num_devices: int,
) -> float:
  """What a step holds beside parameters, gradients and moments, on a device."""
  config = model.encoder
  batch = shape.batch_size / num_devices
  joint = batch * shape.num_candidates
  kept = encoder_kept_bytes(config, joint, shape.joint_len, shape.max_masks)
  kept += _LOGITS_KEPT * 4 * joint * shape.max_masks * config.vocab_size
  if train_retriever:
    kept += encoder_kept_bytes(
      config, joint - batch, shape.document_len, num_positions=1
    )
    kept += encoder_kept_bytes(config, batch, shape.query_len, num_positions=1)
  return kept


def optimizer_bytes(optimizer: OptimizerConfig, params: Any) -> int:
  """The optimizer's state: moments of what is trained. By shapes alone."""
  transformation, _ = make_optimizer(optimizer, params)
  return tree_bytes(jax.eval_shape(transformation.init, params))


def device_memory(workload: Workload, num_devices: int) -> dict[str, float]:
  """Bytes on each device.

  Parameters, moments, index and batch are spread over the devices; each makes
  the parameters whole where a step uses them, and a gradient of all of them.

  Args:
    workload: what to do.
    num_devices: how many.

  Returns:
    'parameters', 'gradients', 'optimizer', 'activations', 'index', 'batch'.
  """
  model, shape, index = workload.model, workload.shape, workload.index
  stored = tree_bytes(workload.params)
  gathered = stored if num_devices > 1 else 0
  table = 0
  if index.kind == 'exact':
    capacity = max(index.capacity, workload.num_blocks)
    table = table_bytes(capacity, model.embed_dim, index.dtype, index.rescore)
  return {
    'parameters': stored / num_devices + gathered,
    'gradients': stored,
    'optimizer': optimizer_bytes(workload.optimizer, workload.params)
    / num_devices,
    'activations': activation_bytes(
      model, shape, workload.train_retriever, num_devices
    ),
    'index': table / num_devices,
    # token ids, mask and segments, int32
    'batch': 3 * 4 * shape.num_tokens / num_devices,
  }
