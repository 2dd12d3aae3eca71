"""The three training steps: pure functions, jitted once, the state donated.

Each `make_*_step` returns step(state, batch, rng) -> (state, metrics); metrics
are float32 scalars, read by the host one step later.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from realm_jax import answer_matching, losses
from realm_jax.models.realm import Realm, RealmConfig, relevance_scores
from realm_jax.sharding import Layout
from realm_jax.train.gradients import make_gradient
from realm_jax.train.state import (
  TrainState,
  apply_gradients,
  state_shardings,
)
from realm_jax.train.telemetry import retrieval_metrics
from realm_jax.train.towers import Towers, gradient_norms, join_towers
from realm_jax.types import Array, IctBatch, PretrainBatch, QABatch

# Beside the numbers of the model's calls: what an objective draws with.
_DRAWS = 4

Metrics = dict[str, Array]
Step = Callable[..., tuple[TrainState, Metrics]]


def _caller(config: RealmConfig, rng: Array) -> Callable:
  """Calls a method of the model in training mode, each call its own dropout."""
  model = Realm(config)

  def call(tower: Any, method: Callable, *args: Any, fold: int) -> Any:
    return model.apply(
      {'params': tower},
      *args,
      deterministic=False,
      method=method,
      rngs={'dropout': jax.random.fold_in(rng, fold)},
    )

  return call


def _jit_step(
  step: Callable,
  optimizer: optax.GradientTransformation,
  layout: Layout | None,
) -> Step:
  """Jits a step, which gives its state up; on a mesh the new one lies alike."""
  if layout is None:
    return jax.jit(step, donate_argnums=0)
  shardings = state_shardings(layout, optimizer), layout.whole
  return jax.jit(step, donate_argnums=0, out_shardings=shardings)


def candidate_scores(
  query_embeds: Array,
  null_embed: Array,
  document_embeds: Array,
  null_bias: Array,
) -> Array:
  """f(x, z) of every candidate, the null document first.

  Args:
    query_embeds: [batch, embed_dim] float32.
    null_embed: [1, embed_dim] float32; embedded once for the whole batch.
    document_embeds: [batch, num_candidates - 1, embed_dim] float32.
    null_bias: scalar float32; added to the null document's score.

  Returns:
    [batch, num_candidates] float32.
  """
  batch, embed_dim = query_embeds.shape
  null_embeds = jnp.broadcast_to(null_embed[None], (batch, 1, embed_dim))
  candidate_embeds = jnp.concatenate([null_embeds, document_embeds], axis=1)
  scores = relevance_scores(query_embeds, candidate_embeds)
  return scores.at[:, 0].add(null_bias)


def make_pretrain_step(
  config: RealmConfig,
  optimizer: optax.GradientTransformation,
  objective: str = 'marginal_span',
  train_retriever: bool = True,
  layout: Layout | None = None,
  num_microbatches: int = 1,
  telemetry: bool = True,
) -> Step:
  """REALM's step: likelihood of the blank, given the candidates.

  Args:
    config: of the model.
    optimizer: of all parameters.
    objective: what is minimised: one of objectives.OBJECTIVES.
    train_retriever: False stops the gradient before the relevance scores: the
      reader learns from documents that a fixed retriever finds.
    layout: of state and batches over a mesh; None for one device.
    num_microbatches: parts of the batch that are run one after the other, for
      the same update with less memory; divides the batch.
    telemetry: measure what telemetry.retrieval_metrics and
      towers.gradient_norms say. False leaves the loss and the norm of the
      gradient, which the loop needs.
  """

  def scores_of(towers: Towers, batch: PretrainBatch, call: Callable) -> Array:
    if batch.candidate_mask.shape[1] == 1:  # closed book: nothing to compare
      return jnp.zeros(batch.candidate_mask.shape)
    query_tower, document_tower, _ = towers
    return candidate_scores(
      call(query_tower, Realm.embed_queries, batch.query, fold=0),
      call(document_tower, Realm.embed_documents, batch.null_document, fold=1),
      call(document_tower, Realm.embed_documents, batch.documents, fold=2),
      batch.null_bias,
    )

  def loss_of(
    scores: Array, gold_log_probs: Array, batch: PretrainBatch, rng: Array
  ):
    return losses.pretrain_loss(
      scores,
      gold_log_probs,
      batch.mlm_mask,
      batch.candidate_mask,
      objective,
      jax.random.fold_in(rng, _DRAWS),
    )

  def loss_fn(towers: Towers, batch: PretrainBatch, rng: Array):
    call = _caller(config, rng)
    scores = scores_of(towers, batch, call)
    if not train_retriever:
      scores = jax.lax.stop_gradient(scores)
    gold_log_probs = call(
      towers.reader,
      Realm.gold_log_probs,
      batch.joint,
      batch.mlm_positions,
      batch.mlm_targets,
      fold=3,
    )
    loss, _ = loss_of(scores, gold_log_probs, batch, rng)
    return loss, (scores, gold_log_probs)

  gradient = make_gradient(
    loss_fn,
    layout,
    num_microbatches,
    lambda batch: losses.num_terms(batch.mlm_mask, objective),
    by_tower=telemetry,
  )

  def step(state: TrainState, batch: PretrainBatch, rng: Array):
    step_rng = jax.random.fold_in(rng, state.step)
    grads, (scores, gold_log_probs) = gradient(state.params, batch, step_rng)
    loss, terms = loss_of(scores, gold_log_probs, batch, step_rng)
    if not telemetry:
      metrics = {'loss': loss, 'gradient_norm': optax.tree.norm(grads)}
      return apply_gradients(state, grads, optimizer), metrics
    metrics = {
      'loss': loss,
      **_marginal_loss(terms, batch, objective),
      **retrieval_metrics(terms, batch.candidate_mask),
      **gradient_norms(grads),
    }
    return apply_gradients(state, join_towers(grads), optimizer), metrics

  return _jit_step(step, optimizer, layout)


def _marginal_loss(
  terms: losses.PretrainTerms, batch: PretrainBatch, objective: str
) -> Metrics:
  """The paper's loss beside another, to compare objectives by."""
  if objective.startswith('marginal'):
    return {}
  count = losses.num_terms(batch.mlm_mask, objective)
  total = -terms.marginal_log_probs.sum()
  return {'marginal_loss': total / jnp.maximum(count, 1)}


def make_ict_step(
  config: RealmConfig,
  optimizer: optax.GradientTransformation,
  layout: Layout | None = None,
) -> Step:
  """The inverse cloze task: find a sentence's block among the batch's.

  Where the batch has something for the reader, the masked-LM loss of reading a
  sentence beside its own block is added; the two share no parameters.
  """

  def loss_fn(towers: Towers, batch: IctBatch, rng: Array):
    call = _caller(config, rng)
    loss, accuracy = losses.ict_loss(
      call(towers.query_tower, Realm.embed_queries, batch.query, fold=0),
      call(
        towers.document_tower, Realm.embed_documents, batch.documents, fold=1
      ),
      batch.block_ids,
    )
    metrics = {'ict_loss': loss, 'accuracy': accuracy}
    if batch.reader is not None:
      reader = batch.reader
      gold_log_probs = call(
        towers.reader,
        Realm.gold_log_probs,
        reader.joint,
        reader.mlm_positions,
        reader.mlm_targets,
        fold=2,
      )
      masked = gold_log_probs[:, 0] * reader.mlm_mask
      metrics['reader_loss'] = -masked.sum() / reader.mlm_mask.sum()
      loss += metrics['reader_loss']
    return loss, {**metrics, 'loss': loss}

  gradient = make_gradient(loss_fn, layout)

  def step(state: TrainState, batch: IctBatch, rng: Array):
    grads, metrics = gradient(
      state.params, batch, jax.random.fold_in(rng, state.step)
    )
    metrics |= gradient_norms(grads)
    return apply_gradients(state, join_towers(grads), optimizer), metrics

  return _jit_step(step, optimizer, layout)


def make_finetune_step(
  config: RealmConfig,
  optimizer: optax.GradientTransformation,
  layout: Layout | None = None,
  num_microbatches: int = 1,
) -> Step:
  """ORQA's step: marginal over right blocks plus marginal over right spans.

  Where the batch has documents, these are embedded in the step in place of
  their vectors in the index, and the document embedder learns too.

  Args:
    config: of the model.
    optimizer: of all parameters.
    layout: of state and batches over a mesh; None for one device.
    num_microbatches: as make_pretrain_step has it.
  """

  def loss_fn(towers: Towers, batch: QABatch, rng: Array):
    call = _caller(config, rng)
    query_embeds = call(
      towers.query_tower, Realm.embed_queries, batch.question, fold=0
    )
    beam_embeds = batch.beam_embeds
    if batch.documents is not None:
      embeds = call(
        towers.document_tower, Realm.embed_documents, batch.documents, fold=2
      )
      beam_embeds = beam_embeds.at[:, : embeds.shape[1]].set(embeds)
    retriever_scores = relevance_scores(query_embeds, beam_embeds)
    span_scores = call(
      towers.reader, Realm.span_scores, batch.joint, batch.block_mask, fold=1
    )
    right = answer_matching.right_spans(
      batch.joint.token_ids,
      batch.block_mask,
      batch.answer_ids,
      batch.answer_lens,
      config.max_span_width,
    )
    loss, terms = losses.orqa_loss(
      retriever_scores,
      batch.beam_mask,
      batch.beam_has_answer,
      span_scores,
      right,
    )
    return loss, (terms, right)

  gradient = make_gradient(
    loss_fn, layout, num_microbatches, lambda batch: len(batch.beam_mask)
  )

  def step(state: TrainState, batch: QABatch, rng: Array):
    grads, (terms, right) = gradient(
      state.params, batch, jax.random.fold_in(rng, state.step)
    )
    batch_size = right.shape[0]
    flat_right = right.reshape(batch_size, -1)
    best = terms.joint_scores.reshape(batch_size, -1).argmax(axis=1)
    metrics = {
      'loss': (terms.retriever_loss + terms.reader_loss).mean(),
      'accuracy': flat_right[jnp.arange(batch_size), best].mean(),
      'reader_oracle': terms.has_right_span.mean(),
      'beam_has_answer': terms.has_right_block.mean(),
      **gradient_norms(grads),
    }
    return apply_gradients(state, join_towers(grads), optimizer), metrics

  return _jit_step(step, optimizer, layout)
