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
from realm_jax.train.state import (
  TrainState,
  apply_gradients,
  state_shardings,
)
from realm_jax.types import Array, IctBatch, PretrainBatch, QABatch

Metrics = dict[str, Array]
Step = Callable[..., tuple[TrainState, Metrics]]


def _caller(
  config: RealmConfig, params: Any, rng: Array, layout: Layout | None
) -> Callable:
  """Calls a method of the model in training mode, each call its own dropout."""
  model = Realm(config)
  if layout is not None:
    params = layout.gather(params)

  def call(method: Callable, *args: Any, fold: int) -> Any:
    return model.apply(
      {'params': params},
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


def _gradient_norms(grads: Any) -> Metrics:
  """Global norm of the gradient of each part of the model, and of all."""
  norms = {
    f'gradient_norm/{part}': optax.tree.norm(tree)
    for part, tree in grads.items()
  }
  return {**norms, 'gradient_norm': optax.tree.norm(grads)}


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
  marginal: str = 'span',
  train_retriever: bool = True,
  layout: Layout | None = None,
) -> Step:
  """REALM's step: marginal likelihood of the blank over the candidates.

  Args:
    config: of the model.
    optimizer: of all parameters.
    marginal: 'span' or 'token'; see losses.pretrain_loss.
    train_retriever: False stops the gradient before the relevance scores: the
      reader learns from documents that a fixed retriever finds.
    layout: of state and batches over a mesh; None for one device.
  """

  def loss_fn(params: Any, batch: PretrainBatch, rng: Array):
    call = _caller(config, params, rng, layout)
    if batch.candidate_mask.shape[1] == 1:  # closed book: nothing to compare
      scores = jnp.zeros(batch.candidate_mask.shape)
    else:
      scores = candidate_scores(
        call(Realm.embed_queries, batch.query, fold=0),
        call(Realm.embed_documents, batch.null_document, fold=1),
        call(Realm.embed_documents, batch.documents, fold=2),
        batch.null_bias,
      )
    if not train_retriever:
      scores = jax.lax.stop_gradient(scores)
    gold_log_probs = call(
      Realm.gold_log_probs,
      batch.joint,
      batch.mlm_positions,
      batch.mlm_targets,
      fold=3,
    )
    return losses.pretrain_loss(
      scores, gold_log_probs, batch.mlm_mask, batch.candidate_mask, marginal
    )

  def step(state: TrainState, batch: PretrainBatch, rng: Array):
    (loss, terms), grads = jax.value_and_grad(loss_fn, has_aux=True)(
      state.params, batch, jax.random.fold_in(rng, state.step)
    )
    prior = terms.candidate_log_probs
    posterior = terms.posterior_log_probs
    # [batch, num_candidates]; an empty slot has log probability -inf.
    prior_mass = jnp.exp(prior)
    metrics = {
      'loss': loss,
      'retrieval_utility': terms.retrieval_utility,
      'retrieval_entropy': _mean_sum(prior_mass, -prior),
      'posterior_kl': _mean_sum(jnp.exp(posterior), posterior - prior),
      'null_mass': prior_mass[:, 0].mean(),
      **_gradient_norms(grads),
    }
    return apply_gradients(state, grads, optimizer), metrics

  return _jit_step(step, optimizer, layout)


def _mean_sum(weights: Array, values: Array) -> Array:
  """Mean over rows of sum(weights * values), where 0 * inf counts as 0."""
  terms = jnp.where(weights > 0, weights * values, 0.0)
  return terms.sum(axis=-1).mean()


def make_ict_step(
  config: RealmConfig,
  optimizer: optax.GradientTransformation,
  layout: Layout | None = None,
) -> Step:
  """The inverse cloze task: find a sentence's block among the batch's.

  Where the batch has something for the reader, the masked-LM loss of reading a
  sentence beside its own block is added; the two share no parameters.
  """

  def loss_fn(params: Any, batch: IctBatch, rng: Array):
    call = _caller(config, params, rng, layout)
    loss, accuracy = losses.ict_loss(
      call(Realm.embed_queries, batch.query, fold=0),
      call(Realm.embed_documents, batch.documents, fold=1),
      batch.block_ids,
    )
    metrics = {'ict_loss': loss, 'accuracy': accuracy}
    if batch.reader is not None:
      reader = batch.reader
      gold_log_probs = call(
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

  def step(state: TrainState, batch: IctBatch, rng: Array):
    (_, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(
      state.params, batch, jax.random.fold_in(rng, state.step)
    )
    metrics |= _gradient_norms(grads)
    return apply_gradients(state, grads, optimizer), metrics

  return _jit_step(step, optimizer, layout)


def make_finetune_step(
  config: RealmConfig,
  optimizer: optax.GradientTransformation,
  layout: Layout | None = None,
) -> Step:
  """ORQA's step: marginal over right blocks plus marginal over right spans."""

  def loss_fn(params: Any, batch: QABatch, rng: Array):
    call = _caller(config, params, rng, layout)
    query_embeds = call(Realm.embed_queries, batch.question, fold=0)
    retriever_scores = relevance_scores(query_embeds, batch.beam_embeds)
    span_scores = call(Realm.span_scores, batch.joint, batch.block_mask, fold=1)
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

  def step(state: TrainState, batch: QABatch, rng: Array):
    (loss, (terms, right)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
      state.params, batch, jax.random.fold_in(rng, state.step)
    )
    batch_size = right.shape[0]
    flat_right = right.reshape(batch_size, -1)
    best = terms.joint_scores.reshape(batch_size, -1).argmax(axis=1)
    metrics = {
      'loss': loss,
      'accuracy': flat_right[jnp.arange(batch_size), best].mean(),
      'reader_oracle': terms.has_right_span.mean(),
      'beam_has_answer': terms.has_right_block.mean(),
      **_gradient_norms(grads),
    }
    return apply_gradients(state, grads, optimizer), metrics

  return _jit_step(step, optimizer, layout)
