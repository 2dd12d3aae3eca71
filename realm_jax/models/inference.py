"""Jitted uses of the model outside training, without dropout."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from realm_jax.answer_matching import right_spans
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


class SpanInputs(NamedTuple):
  """What the span reader reads.

  Attributes:
    retriever_scores: [batch, num_read] float32; of the blocks.
    joint: [batch, num_read, joint_len] TextInputs; question, then block.
    block_mask: [batch, num_read, joint_len] int32; 1 where an answer may lie.
    answer_ids: [batch, num_answers, answer_len] int32; those known to be right.
    answer_lens: [batch, num_answers] int32; 0 for a slot without an answer.
  """

  retriever_scores: Array
  joint: TextInputs
  block_mask: Array
  answer_ids: Array
  answer_lens: Array


class SpanReading(NamedTuple):
  """What the span reader made of some blocks: the best spans, best first.

  Attributes:
    log_probs: [batch, num_spans] float32; over all spans of all blocks
      together, the retriever's score of a block counting for its spans.
    slots: [batch, num_spans] int32; the block that a span lies in.
    starts: [batch, num_spans] int32; its first position in the joint sequence.
    stops: [batch, num_spans] int32; one past its last position.
    is_right: [batch] bool; the best span is a right answer, piece by piece.
    has_right: [batch] bool; some span of some block is one.
    answer_mass: [batch, num_read] float32; log p(y, z | x) of the best span's
      pieces y, over all their occurrences in a block z.
  """

  log_probs: Array
  slots: Array
  starts: Array
  stops: Array
  is_right: Array
  has_right: Array
  answer_mass: Array


def make_read_spans(
  config: RealmConfig, num_spans: int = 1, layout: Layout | None = None
) -> Callable:
  """The answer spans of some blocks.

  Args:
    config: of the model.
    num_spans: of the best to return; fewer if there are not so many.
    layout: of params over a mesh, over which questions are spread too; None for
      one device.

  Returns:
    read(params, SpanInputs) -> SpanReading.
  """
  model = Realm(config)

  def read(params: Any, inputs: SpanInputs) -> SpanReading:
    joint, block_mask = inputs.joint, inputs.block_mask
    # [batch, num_read, spans of a block]
    scores = model.apply(
      {'params': params}, joint, block_mask, method=Realm.span_scores
    )
    scores += inputs.retriever_scores[:, :, None]
    batch, _, per_block = scores.shape
    log_probs = jax.nn.log_softmax(scores.reshape(batch, -1))
    best_log_probs, best = jax.lax.top_k(
      log_probs, min(num_spans, log_probs.shape[1])
    )
    starts, stops = (
      jnp.asarray(ends)[best % per_block]
      for ends in span_positions(
        joint.token_ids.shape[-1], config.max_span_width
      )
    )
    slots = best // per_block

    def equal_to(answer_ids: Array, answer_lens: Array) -> Array:
      right = right_spans(
        joint.token_ids,
        block_mask,
        answer_ids,
        answer_lens,
        config.max_span_width,
      )
      return right.reshape(batch, -1)

    right = equal_to(inputs.answer_ids, inputs.answer_lens)
    same = equal_to(
      *_pieces(
        joint.token_ids,
        slots[:, 0],
        starts[:, 0],
        stops[:, 0],
        config.max_span_width,
      )
    )
    mass = jnp.where(same, log_probs, -1e30).reshape(scores.shape)
    return SpanReading(
      best_log_probs,
      slots,
      starts,
      stops,
      jnp.take_along_axis(right, best[:, :1], axis=1)[:, 0],
      right.any(axis=1),
      jax.nn.logsumexp(mass, axis=2),
    )

  return jit_spread(read, layout)


def _pieces(
  token_ids: Array, slots: Array, starts: Array, stops: Array, width: int
) -> tuple[Array, Array]:
  """What spans cover: [batch, 1, width] int32, and lengths [batch, 1].

  Args:
    token_ids: [batch, num_read, joint_len] int32.
    slots: [batch] int32.
    starts: [batch] int32.
    stops: [batch] int32.
    width: of the widest.
  """
  columns = jnp.minimum(
    starts[:, None] + jnp.arange(width)[None], token_ids.shape[-1] - 1
  )
  ids = token_ids[jnp.arange(len(slots))[:, None], slots[:, None], columns]
  lens = stops - starts
  ids = jnp.where(jnp.arange(width)[None] < lens[:, None], ids, 0)
  return ids[:, None], lens[:, None]
