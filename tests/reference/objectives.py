"""The losses in float64 numpy, as their formulas read: products and sums of
probabilities, one example after the other."""

import numpy as np


def candidate_probs(relevance_scores, candidate_mask):
  """[num_candidates] each -> p(z|x), 0 at empty slots."""
  powers = np.where(
    candidate_mask, np.exp(relevance_scores - relevance_scores.max()), 0
  )
  return powers / powers.sum()


def pretrain(
  relevance_scores, gold_log_probs, mlm_mask, candidate_mask, objective
):
  """Of a marginal: loss, marginals, posteriors [batch, candidates], utility."""
  marginals, posteriors, gain = [], [], 0.0
  for scores, gold, mask, real in zip(
    relevance_scores, gold_log_probs, mlm_mask, candidate_mask, strict=True
  ):
    p_z = candidate_probs(scores, real)
    gold = np.where(real[:, None], gold, 0)
    span = np.prod(np.where(mask, np.exp(gold), 1), axis=1)
    posteriors.append(p_z * span / (p_z * span).sum())
    assert objective in ('marginal_span', 'marginal_token')
    if objective == 'marginal_span':
      found = [np.log((p_z * span).sum())] if mask.any() else []
    else:
      found = [
        np.log((p_z * np.exp(gold[:, m])).sum()) for m in np.flatnonzero(mask)
      ]
    marginals += found
    gain += sum(found) - gold[0][mask].sum()
  loss = -np.mean(marginals) if marginals else 0.0
  return loss, marginals, np.array(posteriors), gain / max(1, mlm_mask.sum())


def example_loss(objective, scores, gold, held_gold, mask, real):
  """An objective of one example with a mask, from its formula.

  Args:
    objective: one of realm_jax.objectives but 'marginal_token', 'reinforce'.
    scores: [num_candidates].
    gold: [num_candidates, max_masks]; log p(y_m|x,z).
    held_gold: the same, where the formula holds the reader fixed.
    mask: [max_masks] bool.
    real: [num_candidates] bool.
  """
  p_z = candidate_probs(scores, real)[real]
  p_y, held = (
    np.array([np.prod(np.exp(row[mask])) for row in rows[real]])
    for rows in (gold, held_gold)
  )
  if objective == 'marginal_span':
    return -np.log((p_z * p_y).sum())
  if objective == 'hard_em':
    return -np.log((p_z * p_y).max())
  reader = -np.log(p_y.mean())
  if objective == 'emdr2':
    return reader - np.log((p_z * held).sum())
  if objective == 'perplexity_distillation':
    worth = held
  elif objective == 'leave_one_out':
    worth = np.ones(1)
    if len(held) > 1:
      without = [np.delete(held, z).mean() for z in range(len(held))]
      worth = 1 / np.array(without)
  target = worth / worth.sum()
  return reader + (target * np.log(target / p_z)).sum()


def expected_nats(scores, gold, mask, real):
  """-sum_z p(z|x) log p(y|x,z) of one example: what 'reinforce' samples."""
  p_z = candidate_probs(scores, real)
  return -sum(p_z[z] * gold[z][mask].sum() for z in np.flatnonzero(real))


def ict(query_embeds, document_embeds, block_ids):
  """Returns loss and accuracy."""
  nats, hits = [], []
  for i, query in enumerate(query_embeds):
    rivals = [
      query @ document
      for j, document in enumerate(document_embeds)
      if block_ids[j] != block_ids[i]
    ]
    own = query @ document_embeds[i]
    nats.append(np.log(np.exp(np.array([own, *rivals]) - own).sum()))
    hits.append(all(own > rival for rival in rivals))
  return np.mean(nats), np.mean(hits)


def orqa(retriever_scores, beam_mask, has_answer, span_scores, span_correct):
  """Returns the loss of each question."""
  found = []
  for scores, real, right, spans, right_spans in zip(
    retriever_scores,
    beam_mask,
    has_answer,
    span_scores,
    span_correct,
    strict=True,
  ):
    blocks = [
      (score, bool(yes))
      for score, yes, is_real in zip(scores, right, real, strict=True)
      if is_real
    ]
    answers = [
      (score + scores[block], bool(right_spans[block, i]))
      for block in range(len(spans))
      if real[block]
      for i, score in enumerate(spans[block])
    ]
    found.append(minus_log_mass(blocks) + minus_log_mass(answers))
  return np.array(found)


def minus_log_mass(scored):
  """-log of the softmax mass on what is right; 0 if nothing is."""
  if not any(right for _, right in scored):
    return 0.0
  highest = max(score for score, _ in scored)
  powers = [(np.exp(score - highest), right) for score, right in scored]
  mass = sum(power for power, right in powers if right)
  return -np.log(mass / sum(power for power, _ in powers))
