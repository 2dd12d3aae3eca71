"""Memory of a device in pre-training, by formula; no array is made.

What a training step keeps for the backward pass is counted as arrays a layer;
how many was fitted to what XLA's CPU compiler reports (experiments/plan). Fused
attention keeps no scores; of a layer that is computed again
(EncoderConfig.remat) only what the policy names is kept, and all of one layer
at a time.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from realm_jax.costs.shapes import ONE_DEVICE, Devices, StepShape, Workload
from realm_jax.costs.work import itemsize
from realm_jax.index.table import table_bytes
from realm_jax.models.encoder import EncoderConfig
from realm_jax.models.realm import RealmConfig, logical_axes
from realm_jax.sharding import DATA, MODEL, RULES, Rules, partition
from realm_jax.train.optimizer import OptimizerConfig, make_optimizer


class _Kept(NamedTuple):
  """What is kept of each layer of a text.

  Attributes:
    hidden: arrays of [length, hidden_size] that each device has whole.
    heads: arrays of [length, hidden_size], divided by attention heads.
    feed_forward: arrays of [length, feed_forward_size].
    score_bytes: for each attention weight: two float32 numbers and what
      dropout kept.
  """

  hidden: float
  heads: float
  feed_forward: float
  score_bytes: float


_KEPT = {
  'none': _Kept(6, 4, 5, 9),
  'dots': _Kept(3, 3, 1, 0),
  'full': _Kept(1, 0, 0, 0),
}
# So many times as much, by two steps on an H200 (experiments/accelerator):
# where attention is fused, and where layers are scanned, so that XLA cannot
# compute a part again.
_FUSED, _SCANNED = 0.73, 1.4
# float32 arrays of [masks, vocab_size] at once.
_LOGITS_KEPT = 2


def tree_bytes(tree: Any) -> int:
  """Bytes of a tree of arrays, or of their shapes."""
  return sum(
    int(np.prod(leaf.shape)) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(tree)
  )


def encoder_kept_bytes(
  config: EncoderConfig,
  num_texts: float,
  length: int,
  num_positions: int,
  fused: bool = False,
  num_parts: int = 1,
) -> float:
  """What the backward pass of an encoder holds at most, in bytes.

  Args:
    config: of the encoder.
    num_texts: how many.
    length: wordpieces of each, padding included.
    num_positions: whose output is asked for, of the last layer.
    fused: attention is one kernel.
    num_parts: devices that divide heads and feed-forward units.
  """
  size = itemsize(config.dtype)

  def layer(kept: _Kept, positions: int) -> float:
    whole = kept.hidden + kept.heads / num_parts
    hidden = whole * (positions + length) / 2 * config.hidden_size
    inner = kept.feed_forward * positions * config.feed_forward_size / num_parts
    # The last layer's few positions are never fused.
    scores = 0 if fused and positions == length else kept.score_bytes
    return size * (hidden + inner) + (
      scores * config.num_heads * positions * length / num_parts
    )

  kept = _KEPT[config.remat]
  layers = (config.num_layers - 1) * layer(kept, length)
  if config.remat == 'none':
    layers *= _SCANNED if config.scan_layers else _FUSED if fused else 1
  layers += layer(kept, num_positions)
  # An only layer has few positions.
  positions = length if config.num_layers > 1 else num_positions
  if config.remat != 'none':
    layers += layer(_KEPT['none'], positions) - layer(kept, positions)
  # Gradients of one layer's widest arrays.
  working = size * positions * config.feed_forward_size
  if not fused:
    working += 4 * config.num_heads * positions * length
  return num_texts * (layers + working / num_parts)


def activation_bytes(
  model: RealmConfig,
  shape: StepShape,
  train_retriever: bool,
  devices: Devices = ONE_DEVICE,
  fused: bool = False,
) -> float:
  """What a step holds beside parameters, gradients and moments, on a device."""
  config = model.encoder
  batch = shape.batch_size / shape.num_microbatches / devices.data
  joint = batch * shape.num_candidates

  def encoder(num_texts: float, length: int, num_positions: int) -> float:
    return encoder_kept_bytes(
      config, num_texts, length, num_positions, fused, devices.model
    )

  kept = encoder(joint, shape.joint_len, shape.max_masks)
  logits = _LOGITS_KEPT * 4 * joint * shape.max_masks * config.vocab_size
  kept += logits / devices.model
  if train_retriever:
    kept += encoder(joint - batch, shape.document_len, 1)
    kept += encoder(batch, shape.query_len, 1)
  return kept


def optimizer_bytes(optimizer: OptimizerConfig, params: Any) -> int:
  """The optimizer's state: moments of what is trained. By shapes alone."""
  transformation, _ = make_optimizer(optimizer, params)
  return tree_bytes(jax.eval_shape(transformation.init, params))


def parameter_bytes(workload: Workload, devices: Devices) -> tuple[int, int]:
  """Bytes of the parameters that one device has: kept, and while in use."""
  whole = tree_bytes(workload.params)
  if devices.number == 1:
    return whole, whole
  mesh = AbstractMesh((devices.data, devices.model), (DATA, MODEL))
  axes = logical_axes(workload.model)

  def spread(rules: Rules) -> int:
    def local(names: Any, leaf: Any) -> int:
      spec = partition(names, leaf.shape, mesh, rules)
      shape = NamedSharding(mesh, spec).shard_shape(leaf.shape)
      return int(np.prod(shape)) * leaf.dtype.itemsize

    sizes = jax.tree.map(
      local,
      axes,
      workload.params,
      is_leaf=lambda node: isinstance(node, PartitionSpec),
    )
    return sum(jax.tree.leaves(sizes))

  rules = RULES[devices.rules]
  return spread(rules), spread(rules._replace(fully_sharded=False))


def device_memory(
  workload: Workload, devices: Devices = ONE_DEVICE, fused: bool = False
) -> dict[str, float]:
  """Bytes on each device.

  Parameters and moments lie as the rules of the mesh say. A step has the
  parameters as it uses them beside those that are kept in parts, and as many
  gradients; in microbatches twice: their sum, and those of a part.

  Args:
    workload: what to do.
    devices: that share it.
    fused: attention is one kernel.

  Returns:
    'parameters', 'gradients', 'optimizer', 'activations', 'index', 'batch'.
  """
  model, shape, index = workload.model, workload.shape, workload.index
  stored, used = parameter_bytes(workload, devices)
  gathered = used if stored < used else 0
  gradients = used * (2 if shape.num_microbatches > 1 else 1)
  table = 0
  if index.kind == 'exact':
    capacity = max(index.capacity, workload.num_blocks)
    table = table_bytes(capacity, model.embed_dim, index.dtype, index.rescore)
  return {
    'parameters': stored + gathered,
    'gradients': gradients,
    'optimizer': optimizer_bytes(workload.optimizer, workload.params)
    * (stored / tree_bytes(workload.params)),
    'activations': activation_bytes(
      model, shape, workload.train_retriever, devices, fused
    ),
    'index': table / devices.number,
    # token ids, mask and segments, int32
    'batch': 3 * 4 * shape.num_tokens / devices.data,
  }
