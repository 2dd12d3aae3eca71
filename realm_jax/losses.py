"""The losses of the three training stages, in float32 at least.

Every softmax and sum runs over whole rows with what is masked put at a large
negative number: finite, so that a row with nothing in it has gradients of zero
where an infinite one would give NaN.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from realm_jax.checks import check_shapes
from realm_jax.models.layers import at_least_float32
from realm_jax.objectives import (
  NEVER,
  OBJECTIVES,
  Likelihoods,
  marginal_span,
  marginal_token,
)
from realm_jax.types import Array


class PretrainTerms(NamedTuple):
  """What a pre-training loss was made of. All float32, nats.

  Attributes:
    marginal_log_probs: log p(y|x), whatever was minimised: [batch, max_masks],
      each token's own, with objective 'marginal_token', else [batch]; 0 where
      nothing is masked.
    candidate_log_probs: [batch, num_candidates]; log p(z|x), at most about
      -1e30 at empty slots.
    posterior_log_probs: [batch, num_candidates]; log p(z|x,y) given the whole
      span, whatever the objective; at most about -1e30 at empty slots.
    retrieval_utility: scalar; marginal log probability minus that of the reader
      given the null document alone (candidate 0), per masked token.
    document_utilities: [batch, num_candidates]; log p(y|x,z) - log p(y|x,null)
      of the whole span; of no meaning at empty slots.
  """

  marginal_log_probs: Array
  candidate_log_probs: Array
  posterior_log_probs: Array
  retrieval_utility: Array
  document_utilities: Array


class OrqaTerms(NamedTuple):
  """What a fine-tuning loss was made of.

  Attributes:
    joint_scores: [batch, num_read, num_spans] float32; span score plus the
      retriever's score of its block. The largest of a row is the prediction.
    retriever_loss: [batch] float32; 0 where no block of the beam is right.
    reader_loss: [batch] float32; 0 where no span that was read is right.
    has_right_block: [batch] bool; the retriever's term counts.
    has_right_span: [batch] bool; the reader's term counts.
  """

  joint_scores: Array
  retriever_loss: Array
  reader_loss: Array
  has_right_block: Array
  has_right_span: Array


def _divide_no_nan(total: Array, count: Array) -> Array:
  """total / count; 0, with no gradient, where count is 0."""
  return total / jnp.maximum(count, 1)


def pretrain_loss(
  relevance_scores: Array,
  gold_log_probs: Array,
  mlm_mask: Array,
  candidate_mask: Array,
  objective: str = 'marginal_span',
  rng: Array | None = None,
) -> tuple[Array, PretrainTerms]:
  """What pre-training minimises, and what can be told of the retriever.

  The mean of an objective over the examples that have a mask; of
  'marginal_token' over the masked tokens of the batch.

  Args:
    relevance_scores: [batch, num_candidates] float; f(x, z), up to a constant
      a row. Their softmax over the candidates is p(z|x).
    gold_log_probs: [batch, num_candidates, max_masks] float; log p(y_m|x,z).
    mlm_mask: [batch, max_masks] int or bool; true at real targets.
    candidate_mask: [batch, num_candidates] int or bool; false at slots with no
      document, which have probability 0.
    objective: one of objectives.OBJECTIVES, which has the formulas.
    rng: what 'reinforce' draws documents with; the others need none.

  Returns:
    (loss, terms): loss is a float32 scalar, nats; 0 where nothing is masked.

  Raises:
    ValueError: shapes disagree, or there is no such objective.
  """
  check_shapes(
    relevance_scores=(relevance_scores, 'batch num_candidates'),
    gold_log_probs=(gold_log_probs, 'batch num_candidates max_masks'),
    mlm_mask=(mlm_mask, 'batch max_masks'),
    candidate_mask=(candidate_mask, 'batch num_candidates'),
  )
  if objective not in OBJECTIVES:
    raise ValueError(
      f'objective is {objective!r}, expected one of {", ".join(OBJECTIVES)}.'
    )
  candidate_mask = jnp.asarray(candidate_mask).astype(bool)
  mlm_mask = jnp.asarray(mlm_mask).astype(bool)
  given = Likelihoods(
    _masked_log_softmax(relevance_scores, candidate_mask),
    # What a reader says of an empty slot or a padded target may be anything.
    jnp.where(
      mlm_mask[:, None, :] & candidate_mask[:, :, None],
      at_least_float32(gold_log_probs),
      0,
    ),
    candidate_mask,
  )
  real = _terms(mlm_mask, objective)
  by_term = jnp.where(real, OBJECTIVES[objective](given, rng), 0)
  loss = _divide_no_nan(by_term.sum(), real.sum())
  return loss, _pretrain_terms(given, mlm_mask, real)


def _pretrain_terms(
  given: Likelihoods, mlm_mask: Array, real: Array
) -> PretrainTerms:
  """PretrainTerms of likelihoods.

  Args:
    given: of the batch.
    mlm_mask: [batch, max_masks] bool; true at real targets.
    real: as _terms gives it: which marginals there are.
  """
  marginal = marginal_span if real.ndim == 1 else marginal_token
  marginal_log_probs = jnp.where(real, -marginal(given), 0)
  span_log_probs = given.span_log_probs
  gain = marginal_log_probs.sum() - span_log_probs[:, 0].sum()
  return PretrainTerms(
    marginal_log_probs=marginal_log_probs,
    candidate_log_probs=given.candidate_log_probs,
    posterior_log_probs=jax.nn.log_softmax(given.joint_log_probs),
    retrieval_utility=_divide_no_nan(gain, mlm_mask.sum()),
    document_utilities=span_log_probs - span_log_probs[:, :1],
  )


def _terms(mlm_mask: Array, objective: str) -> Array:
  """Which terms there are: [batch, max_masks] bool of tokens, else [batch]."""
  return mlm_mask if objective == 'marginal_token' else mlm_mask.any(axis=1)


def num_terms(mlm_mask: Array, objective: str) -> Array:
  """How many terms pretrain_loss is the mean of.

  Args:
    mlm_mask: [batch, max_masks] int or bool; true at real targets.
    objective: one of objectives.OBJECTIVES.

  Returns:
    scalar int32.
  """
  return _terms(jnp.asarray(mlm_mask).astype(bool), objective).sum()


def _masked_log_softmax(scores: Array, mask: Array) -> Array:
  """Log softmax over the last axis, of what the mask leaves."""
  return jax.nn.log_softmax(jnp.where(mask, at_least_float32(scores), NEVER))


def ict_loss(
  query_embeds: Array, document_embeds: Array, block_ids: Array
) -> tuple[Array, Array]:
  """Inverse cloze task: which block of the batch does a sentence come from?

  Softmax over the documents of the batch: ORQA (Lee et al., 2019), section 5.

  Args:
    query_embeds: [batch, embed_dim] float.
    document_embeds: [batch, embed_dim] float; row i belongs to query i.
    block_ids: [batch] int; documents with the id of a query's own are left out
      of its negatives, for they are right, too.

  Returns:
    (loss, accuracy): float32 scalars; loss in nats a query; accuracy is the
    share of queries that score their own document higher than all negatives.

  Raises:
    ValueError: the shapes disagree.
  """
  check_shapes(
    query_embeds=(query_embeds, 'batch embed_dim'),
    document_embeds=(document_embeds, 'batch embed_dim'),
    block_ids=(block_ids, 'batch'),
  )
  # [batch, batch]: queries by documents
  scores = jnp.einsum(
    'qd,bd->qb',
    at_least_float32(query_embeds),
    at_least_float32(document_embeds),
    precision=jax.lax.Precision.HIGHEST,
  )
  block_ids = jnp.asarray(block_ids)
  same_block = block_ids[:, None] == block_ids[None, :]
  own = jnp.eye(len(block_ids), dtype=bool)
  scores = jnp.where(same_block & ~own, NEVER, scores)
  own_scores = jnp.diagonal(scores)
  loss = (jax.nn.logsumexp(scores, axis=1) - own_scores).mean()
  best_negatives = jnp.where(own, NEVER, scores).max(axis=1)
  return loss, (own_scores > best_negatives).astype(loss.dtype).mean()


def span_correct(
  span_starts: Array,
  span_stops: Array,
  candidate_starts: Array,
  candidate_stops: Array,
) -> Array:
  """Which of the scored spans are answers.

  Args:
    span_starts: [batch, num_read, max_answers] int; first positions of the
      answers in the joint sequence, -1 for none.
    span_stops: [batch, num_read, max_answers] int; one past their last.
    candidate_starts: [num_spans] int; starts of the scored spans.
    candidate_stops: [num_spans] int; one past their last positions.

  Returns:
    [batch, num_read, num_spans] bool.

  Raises:
    ValueError: the shapes disagree.
  """
  check_shapes(
    span_starts=(span_starts, 'batch num_read max_answers'),
    span_stops=(span_stops, 'batch num_read max_answers'),
    candidate_starts=(candidate_starts, 'num_spans'),
    candidate_stops=(candidate_stops, 'num_spans'),
  )
  # [batch, num_read, num_spans, max_answers]
  equal = (
    jnp.asarray(span_starts)[:, :, None, :]
    == jnp.asarray(candidate_starts)[None, None, :, None]
  ) & (
    jnp.asarray(span_stops)[:, :, None, :]
    == jnp.asarray(candidate_stops)[None, None, :, None]
  )
  return equal.any(axis=-1)


def _marginal_loss(scores: Array, correct: Array) -> Array:
  """-log of the softmax mass on what is correct; 0 where nothing is. [batch].

  The official code computes the second sum with -1e4 added to what is wrong;
  to put it at NEVER is the same, but where nothing is correct.
  """
  right = jax.nn.logsumexp(jnp.where(correct, scores, NEVER), axis=1)
  loss = jax.nn.logsumexp(scores, axis=1) - right
  return jnp.where(correct.any(axis=1), loss, 0)


def orqa_loss(
  retriever_scores: Array,
  beam_mask: Array,
  beam_has_answer: Array,
  span_scores: Array,
  span_correct: Array,
) -> tuple[Array, OrqaTerms]:
  """Fine-tuning: right blocks among the beam, right spans among those read.

  Per question, with S(C) = -log of the softmax mass on the right ones C,
    [any block right] S(blocks) + [any span right] S(spans),
  the second over all spans of all blocks read together, each with the
  retriever's score of its block added: ORQA (Lee et al., 2019), section 6, as
  the official code has it. Either term is dropped on its own.

  Args:
    retriever_scores: [batch, beam] float; inner products, best block first.
    beam_mask: [batch, beam] int or bool; false at slots with no block.
    beam_has_answer: [batch, beam] bool; the block contains an answer.
    span_scores: [batch, num_read, num_spans] float; of the first num_read
      blocks of the beam; without the retriever's scores.
    span_correct: [batch, num_read, num_spans] bool.

  Returns:
    (loss, terms): loss is a float32 scalar, the mean over the batch, nats.

  Raises:
    ValueError: the shapes disagree, or more blocks are read than retrieved.
  """
  sizes = check_shapes(
    retriever_scores=(retriever_scores, 'batch beam'),
    beam_mask=(beam_mask, 'batch beam'),
    beam_has_answer=(beam_has_answer, 'batch beam'),
    span_scores=(span_scores, 'batch num_read num_spans'),
    span_correct=(span_correct, 'batch num_read num_spans'),
  )
  batch, num_read = sizes['batch'], sizes['num_read']
  if num_read > sizes['beam']:
    raise ValueError(
      f'span_scores has {num_read} blocks read, but the beam holds only '
      f'{sizes["beam"]}: expected the first blocks of the beam.'
    )
  beam_mask = jnp.asarray(beam_mask).astype(bool)
  right_blocks = jnp.asarray(beam_has_answer).astype(bool) & beam_mask
  read_mask = beam_mask[:, :num_read, None]
  right_spans = jnp.asarray(span_correct).astype(bool) & read_mask
  retriever_scores = jnp.where(
    beam_mask, at_least_float32(retriever_scores), NEVER
  )
  joint_scores = jnp.where(
    read_mask,
    at_least_float32(span_scores) + retriever_scores[:, :num_read, None],
    NEVER,
  )
  # all spans of all blocks of a question in one row
  right_spans = right_spans.reshape(batch, -1)
  retriever_loss = _marginal_loss(retriever_scores, right_blocks)
  reader_loss = _marginal_loss(joint_scores.reshape(batch, -1), right_spans)
  terms = OrqaTerms(
    joint_scores=joint_scores,
    retriever_loss=retriever_loss,
    reader_loss=reader_loss,
    has_right_block=right_blocks.any(axis=1),
    has_right_span=right_spans.any(axis=1),
  )
  return (retriever_loss + reader_loss).mean(), terms
