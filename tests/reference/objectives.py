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
  relevance_scores, gold_log_probs, mlm_mask, candidate_mask, marginal
):
  """Returns loss, marginals, posteriors [batch, num_candidates], utility."""
  marginals, posteriors, gain = [], [], 0.0
  for scores, gold, mask, real in zip(
    relevance_scores, gold_log_probs, mlm_mask, candidate_mask, strict=True
  ):
    p_z = candidate_probs(scores, real)
    gold = np.where(real[:, None], gold, 0)
    span = np.prod(np.where(mask, np.exp(gold), 1), axis=1)
    posteriors.append(p_z * span / (p_z * span).sum())
    if marginal == 'span':
      found = [np.log((p_z * span).sum())] if mask.any() else []
    else:
      found = [
        np.log((p_z * np.exp(gold[:, m])).sum()) for m in np.flatnonzero(mask)
      ]
    marginals += found
    gain += sum(found) - gold[0][mask].sum()
  loss = -np.mean(marginals) if marginals else 0.0
  return loss, marginals, np.array(posteriors), gain / max(1, mlm_mask.sum())


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
