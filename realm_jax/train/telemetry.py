"""What a pre-training step says of its retriever, from what the loss knows."""

from collections.abc import Sequence

import jax.numpy as jnp

from realm_jax.losses import PretrainTerms
from realm_jax.types import Array

_QUANTILES = (0.1, 0.5, 0.9)


def retrieval_metrics(
  terms: PretrainTerms, candidate_mask: Array
) -> dict[str, Array]:
  """Does the retriever choose, and is what it chooses of use?

  Args:
    terms: of a batch, as losses.pretrain_loss gives them.
    candidate_mask: [batch, num_candidates] int or bool; false at slots with no
      document.

  Returns:
    float32 scalars, nats where they are logarithms:
    'retrieval_utility', see PretrainTerms;
    'retrieval_entropy', of p(z|x), mean over the batch;
    'posterior_kl', KL(p(z|x,y) || p(z|x)), mean over the batch: how far the
    answer moves what was retrieved, the retriever's signal;
    'null_mass', p(null document|x), mean over the batch;
    'document_utility', log p(y|x,z) - log p(y|x,null) of the whole span, mean
    over all real documents of the batch, and its quantiles
    'document_utility_p10', '_p50', '_p90'; 0 where there is no document.
  """
  prior, posterior = terms.candidate_log_probs, terms.posterior_log_probs
  # [batch, num_candidates]; 0 at empty slots
  prior_mass = jnp.exp(prior)
  # [batch, num_candidates - 1]
  is_document = jnp.asarray(candidate_mask)[:, 1:].astype(bool)
  utilities = terms.document_utilities[:, 1:]
  quantiles = masked_quantiles(utilities, is_document, _QUANTILES)
  total = jnp.where(is_document, utilities, 0).sum()
  return {
    'retrieval_utility': terms.retrieval_utility,
    'retrieval_entropy': _mean_sum(prior_mass, -prior),
    'posterior_kl': _mean_sum(jnp.exp(posterior), posterior - prior),
    'null_mass': prior_mass[:, 0].mean(),
    'document_utility': total / jnp.maximum(is_document.sum(), 1),
    **{
      f'document_utility_p{100 * share:.0f}': quantile
      for share, quantile in zip(_QUANTILES, quantiles, strict=True)
    },
  }


def _mean_sum(weights: Array, values: Array) -> Array:
  """Mean over rows of sum(weights * values), where 0 * inf counts as 0."""
  terms = jnp.where(weights > 0, weights * values, 0.0)
  return terms.sum(axis=-1).mean()


def masked_quantiles(
  values: Array, mask: Array, shares: Sequence[float]
) -> Array:
  """Quantiles of the values where a mask is true, as numpy.quantile has them.

  Args:
    values: float, of any shape.
    mask: bool, of the same shape.
    shares: [num_shares], each 0 to 1.

  Returns:
    [num_shares], interpolated linearly; 0 where the mask is true nowhere.
  """
  if not values.size:  # closed book: no document has a slot
    return jnp.zeros(len(shares), values.dtype)
  count = mask.sum()
  last = jnp.finfo(values.dtype).max
  ordered = jnp.sort(jnp.where(mask, values, last), axis=None)
  places = jnp.asarray(shares, values.dtype) * jnp.maximum(count - 1, 0)
  below = jnp.floor(places)
  lower, upper = (
    ordered[place.astype(jnp.int32)] for place in (below, jnp.ceil(places))
  )
  found = lower + (places - below) * (upper - lower)
  return jnp.where(count > 0, found, 0)
