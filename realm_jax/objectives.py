"""What pre-training may minimise: one function an objective.

Each takes what the retriever thinks of the candidates and how well the reader
predicts the blank from each, and returns a loss a term: an example, or, of
'marginal_token' alone, a masked token. losses.pretrain_loss takes their mean.

They differ in what teaches the retriever. Marginals and hard EM differentiate
one likelihood through both models. EMDR2, perplexity distillation and
leave-one-out have two terms: the reader learns from all documents alike,
whatever the retriever thinks of them, and the retriever from what the reader
says, held fixed. Their papers have a reader that sees all documents at once
(fusion in the decoder); here, where each document is read alone, the likelihood
given several documents is the mean of those given each.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from realm_jax.types import Array

# Far below any score, and far enough from float32's end to be added to. Finite,
# so that a row with nothing in it has gradients of zero, and not NaN.
NEVER = -1e30


class Likelihoods(NamedTuple):
  """What an objective is made of. float32 at least, nats.

  Attributes:
    candidate_log_probs: [batch, num_candidates]; log p(z|x), at most about
      -1e30 at empty slots.
    gold_log_probs: [batch, num_candidates, max_masks]; log p(y_m|x,z), 0 at
      empty slots and where nothing is masked.
    candidate_mask: [batch, num_candidates] bool; false at empty slots.
  """

  candidate_log_probs: Array
  gold_log_probs: Array
  candidate_mask: Array

  @property
  def span_log_probs(self) -> Array:
    """[batch, num_candidates]; log p(y|x,z) of whole spans."""
    return self.gold_log_probs.sum(axis=2)

  @property
  def joint_log_probs(self) -> Array:
    """[batch, num_candidates]; log p(y,z|x) of whole spans."""
    return self.candidate_log_probs + self.span_log_probs

  @property
  def real_span_log_probs(self) -> Array:
    """[batch, num_candidates]; span_log_probs, NEVER at empty slots."""
    return jnp.where(self.candidate_mask, self.span_log_probs, NEVER)


# objective(likelihoods, rng) -> loss of each term
Objective = Callable[[Likelihoods, Array | None], Array]


def marginal_span(given: Likelihoods, rng: Array | None = None) -> Array:
  """-log sum_z p(z|x) prod_m p(y_m|x,z). [batch].

  REALM (Guu et al., 2020), eq. 1 and 2: the paper's.
  """
  del rng
  return -jax.nn.logsumexp(given.joint_log_probs, axis=1)


def marginal_token(given: Likelihoods, rng: Array | None = None) -> Array:
  """-log sum_z p(z|x) p(y_m|x,z). [batch, max_masks].

  The official code's: every masked token may have a document of its own.
  """
  del rng
  return -jax.nn.logsumexp(
    given.candidate_log_probs[:, :, None] + given.gold_log_probs, axis=1
  )


def hard_em(given: Likelihoods, rng: Array | None = None) -> Array:
  """-max_z [log p(z|x) + log p(y|x,z)]. [batch].

  Hard EM (Min et al., 2019, "A Discrete Hard EM Approach for Weakly Supervised
  Question Answering"), with the document as the latent variable: the most
  likely one alone is learned from.
  """
  del rng
  joint_log_probs = jnp.where(
    given.candidate_mask, given.joint_log_probs, NEVER
  )
  return -joint_log_probs.max(axis=1)


def emdr2(given: Likelihoods, rng: Array | None = None) -> Array:
  """-log mean_z p(y|x,z) - log sum_z p(z|x) sg[p(y|x,z)]. [batch].

  EMDR2 (Sachan et al., 2021, "End-to-End Training of Multi-Document Reader and
  Retriever"), eq. 4; sg holds fixed.
  """
  del rng
  held = jax.lax.stop_gradient(given.span_log_probs)
  retriever = jax.nn.logsumexp(given.candidate_log_probs + held, axis=1)
  return _reader_loss(given) - retriever


def perplexity_distillation(
  given: Likelihoods, rng: Array | None = None
) -> Array:
  """-log mean_z p(y|x,z) + KL(softmax_z sg[log p(y|x,z)] || p(z|x)). [batch].

  PDist (Izacard et al., 2022, "Atlas", section 2.2): the posterior under a
  uniform prior is what the retriever is taught.
  """
  del rng
  return _reader_loss(given) + _distillation(given, given.real_span_log_probs)


def leave_one_out(given: Likelihoods, rng: Array | None = None) -> Array:
  """-log mean_z p(y|x,z) + KL(softmax_z sg[-log p(y|x, all but z)] || p(z|x)).

  LOOP (Izacard et al., 2022, "Atlas", section 2.2): a document is worth what is
  lost without it. p(y|x, all but z) is the mean over the other documents; of a
  single document there are none, and its KL is 0. [batch].
  """
  del rng
  real = given.candidate_mask
  others = real[:, None, :] & ~jnp.eye(real.shape[1], dtype=bool)[None]
  # [batch, num_candidates]; the number of others is the same in every slot
  without = jax.nn.logsumexp(
    jnp.where(others, given.span_log_probs[:, None, :], NEVER), axis=2
  )
  worth = jnp.where(others.any(axis=2), -without, 0)
  worth = jnp.where(real, worth, NEVER)
  return _reader_loss(given) + _distillation(given, worth)


def reinforce(given: Likelihoods, rng: Array | None = None) -> Array:
  """A sample of -sum_z p(z|x) log p(y|x,z), with its gradient. [batch].

  REINFORCE (Williams, 1992): one document z is drawn from p(z|x), and
    -log p(y|x,z) - sg[log p(y|x,z) - baseline] log p(z|x)
  has a gradient whose mean over draws is that of the expectation, which bounds
  the marginal loss from above. The baseline, sum_z p(z|x) log p(y|x,z), does
  not depend on the draw, and so changes the gradient's variance alone. The
  value is -log p(y|x,z).

  Raises:
    ValueError: there is no rng to draw with.
  """
  if rng is None:
    raise ValueError("objective 'reinforce' draws documents and needs an rng.")
  drawn = jax.random.categorical(rng, given.candidate_log_probs, axis=1)

  def of_drawn(array: Array) -> Array:
    return jnp.take_along_axis(array, drawn[:, None], axis=1)[:, 0]

  rewards = jax.lax.stop_gradient(given.span_log_probs)
  baseline = (jnp.exp(given.candidate_log_probs) * rewards).sum(axis=1)
  gain = of_drawn(rewards) - jax.lax.stop_gradient(baseline)
  log_prob = of_drawn(given.candidate_log_probs)
  # Of value 0: only its gradient counts.
  score = gain * (log_prob - jax.lax.stop_gradient(log_prob))
  return -of_drawn(given.span_log_probs) - score


def _reader_loss(given: Likelihoods) -> Array:
  """-log mean_z p(y|x,z), over the documents there are. [batch]."""
  num_real = jnp.maximum(given.candidate_mask.sum(axis=1), 1)
  total = jax.nn.logsumexp(given.real_span_log_probs, axis=1)
  return jnp.log(num_real.astype(total.dtype)) - total


def _distillation(given: Likelihoods, worth: Array) -> Array:
  """KL(softmax_z sg[worth] || p(z|x)). [batch].

  Args:
    given: whose candidate_log_probs are taught.
    worth: [batch, num_candidates], nats; NEVER at empty slots.
  """
  target = jax.nn.log_softmax(jax.lax.stop_gradient(worth))
  terms = jnp.exp(target) * (target - given.candidate_log_probs)
  return jnp.where(given.candidate_mask, terms, 0).sum(axis=1)


OBJECTIVES: dict[str, Objective] = {
  'marginal_span': marginal_span,
  'marginal_token': marginal_token,
  'hard_em': hard_em,
  'emdr2': emdr2,
  'perplexity_distillation': perplexity_distillation,
  'leave_one_out': leave_one_out,
  'reinforce': reinforce,
}
