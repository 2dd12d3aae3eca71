"""What a step says of its retriever, against float64 numpy, row by row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import objectives

from realm_jax.losses import pretrain_loss
from realm_jax.train.telemetry import masked_quantiles, retrieval_metrics

BATCH, CANDIDATES, MASKS = 4, 5, 3


@pytest.fixture
def arrays():
  """Scores, gold log probs, MLM mask, candidate mask; some slots empty."""
  rng = np.random.default_rng(3)
  scores = rng.normal(0, 2, (BATCH, CANDIDATES))
  gold = -rng.exponential(2, (BATCH, CANDIDATES, MASKS))
  mlm_mask = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 0]], bool)
  candidate_mask = np.ones((BATCH, CANDIDATES), bool)
  candidate_mask[1, 3:] = candidate_mask[2, 4:] = False
  return scores, gold, mlm_mask, candidate_mask


@pytest.mark.parametrize('objective', ['marginal_span', 'marginal_token'])
def test_metrics_are_those_of_float64(arrays, objective):
  scores, gold, mlm_mask, candidate_mask = arrays
  _, terms = pretrain_loss(*map(jnp.asarray, arrays), objective)
  found = jax.jit(retrieval_metrics)(terms, candidate_mask)

  *_, posteriors, utility = objectives.pretrain(*arrays, objective)
  entropies, divergences, null_masses, utilities = [], [], [], []
  for row in range(BATCH):
    real = candidate_mask[row]
    prior = objectives.candidate_probs(scores[row], real)[real]
    posterior = posteriors[row][real]
    entropies.append(-(prior * np.log(prior)).sum())
    divergences.append((posterior * np.log(posterior / prior)).sum())
    null_masses.append(prior[0])
    spans = gold[row][:, mlm_mask[row]].sum(axis=1)
    utilities += list((spans - spans[0])[real][1:])
  expected = {
    'retrieval_utility': utility,
    'retrieval_entropy': np.mean(entropies),
    'posterior_kl': np.mean(divergences),
    'null_mass': np.mean(null_masses),
    'document_utility': np.mean(utilities),
    'document_utility_p10': np.quantile(utilities, 0.1),
    'document_utility_p50': np.quantile(utilities, 0.5),
    'document_utility_p90': np.quantile(utilities, 0.9),
  }
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    assert found[name].dtype == jnp.float32
    np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)


def test_where_no_document_was_found_utilities_are_0(arrays):
  candidate_mask = arrays[-1]
  candidate_mask[:, 1:] = False
  _, terms = pretrain_loss(*map(jnp.asarray, arrays))
  found = retrieval_metrics(terms, candidate_mask)
  assert found['null_mass'] == 1
  for name, value in found.items():
    if name != 'null_mass':
      np.testing.assert_allclose(value, 0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize('count', [1, 2, 11])
def test_quantiles_are_those_of_numpy(count):
  rng = np.random.default_rng(count)
  values = rng.normal(size=(3, 7)).astype(np.float32)
  mask = np.zeros(21, bool)
  mask[rng.permutation(21)[:count]] = True
  mask = mask.reshape(3, 7)
  shares = (0.0, 0.1, 0.5, 0.77, 1.0)
  np.testing.assert_allclose(
    masked_quantiles(jnp.asarray(values), jnp.asarray(mask), shares),
    np.quantile(values[mask].astype(np.float64), shares),
    rtol=1e-5,
  )


def test_nothing_has_quantiles_of_zero():
  # no document has a slot, as in a closed book; or all slots are empty
  for shape in ((4, 0), (4, 2)):
    nothing = jnp.zeros(shape), jnp.zeros(shape, bool)
    np.testing.assert_array_equal(masked_quantiles(*nothing, (0.1, 0.9)), 0)
