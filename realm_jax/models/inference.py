"""Jitted uses of the model outside training, without dropout."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from realm_jax.models.realm import Realm, RealmConfig, span_positions
from realm_jax.sharding import Layout, jit_spread
from realm_jax.types import Array, TextInputs


def make_embed(
  config: RealmConfig, method: Callable, layout: Layout | None = None
) -> Callable:
  """Embedding of text.

  Args:
    config: of the model.
    method: Realm.embed_queries or Realm.embed_documents.
    layout: of params over a mesh, over which texts are spread too; None for one
      device.

  Returns:
    embed(params, inputs [..., length]) -> [..., embed_dim] float32.
  """
  model = Realm(config)

  def embed(params: Any, inputs: TextInputs) -> Array:
    return model.apply({'params': params}, inputs, method=method)

  return jit_spread(embed, layout)


def make_gold_log_probs(config: RealmConfig) -> Callable:
  """log p(y|x,z): gold(params, joint, mlm_positions, mlm_targets).

  Shapes as in Realm.gold_log_probs.
  """
  model = Realm(config)

  @jax.jit
  def gold(params: Any, joint, mlm_positions, mlm_targets) -> Array:
    return model.apply(
      {'params': params},
      joint,
      mlm_positions,
      mlm_targets,
      method=Realm.gold_log_probs,
    )

  return gold


def make_fill_in(config: RealmConfig) -> Callable:
  """The likeliest token at each masked position, with its log probability.

  Returns:
    fill(params, joint [batch, n, joint_len], mlm_positions [batch, max_masks])
    -> token ids int32 and log probabilities float32, [batch, n, max_masks].
  """
  model = Realm(config)

  @jax.jit
  def fill(params: Any, joint: TextInputs, mlm_positions: Array):
    log_probs: Array = model.apply(
      {'params': params}, joint, mlm_positions, method=Realm.mlm_log_probs
    )
    return log_probs.argmax(axis=-1), log_probs.max(axis=-1)

  return fill


class SpanReading(NamedTuple):
  """What the span reader made of some blocks.

  Attributes:
    log_probs: [batch, num_read, num_spans] float32; over all spans of all
      blocks together, the retriever's score of a block counting for its spans.
    best_log_probs: [batch] float32; of the best span.
    slots: [batch] int32; the block that the best span lies in.
    starts: [batch] int32; its first position in the joint sequence.
    stops: [batch] int32; one past its last position.
  """

  log_probs: Array
  best_log_probs: Array
  slots: Array
  starts: Array
  stops: Array


def make_read_spans(config: RealmConfig) -> Callable:
  """The answer spans of some blocks.

  Returns:
    read(params, retriever_scores [batch, num_read], joint
    [batch, num_read, joint_len], block_mask of the same shape) -> SpanReading.
  """
  model = Realm(config)

  @jax.jit
  def read(
    params: Any, retriever_scores: Array, joint: TextInputs, block_mask: Array
  ) -> SpanReading:
    # [batch, num_read, num_spans]
    scores = model.apply(
      {'params': params}, joint, block_mask, method=Realm.span_scores
    )
    scores += retriever_scores[:, :, None]
    batch, _, num_spans = scores.shape
    starts, stops = span_positions(
      joint.token_ids.shape[-1], config.max_span_width
    )
    log_probs = jax.nn.log_softmax(scores.reshape(batch, -1))
    best = log_probs.argmax(axis=1)
    return SpanReading(
      log_probs.reshape(scores.shape),
      log_probs.max(axis=1),
      best // num_spans,
      jnp.asarray(starts)[best % num_spans],
      jnp.asarray(stops)[best % num_spans],
    )

  return read
