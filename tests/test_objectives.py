"""Objectives beside their formulas in float64, and what they teach."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import objectives as reference
from reference.arrays import doubled, pretrain_arrays

from realm_jax import losses
from realm_jax.objectives import OBJECTIVES

OF_EXAMPLES = sorted(OBJECTIVES.keys() - {'marginal_token', 'reinforce'})

loss_of = jax.jit(losses.pretrain_loss, static_argnames='objective')
gradient_of = jax.jit(
  jax.grad(losses.pretrain_loss, argnums=(0, 1), has_aux=True),
  static_argnames='objective',
)


def expected_loss(objective, scores, gold, held_gold, mlm_mask, candidate_mask):
  """The mean over the examples that have a mask, in float64."""
  losses_of_examples = [
    reference.example_loss(objective, *rows)
    for rows in zip(
      scores, gold, held_gold, mlm_mask, candidate_mask, strict=True
    )
    if rows[3].any()
  ]
  return np.mean(losses_of_examples) if losses_of_examples else 0.0


@pytest.mark.parametrize('objective', OF_EXAMPLES)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.01, 1.0, 5.0]))
def test_a_loss_equals_its_formula(objective, seed, scale):
  arrays = pretrain_arrays(seed, scale)
  loss, terms = loss_of(*arrays, objective=objective)
  scores, gold, *masks = doubled(arrays)
  expected = expected_loss(objective, scores, gold, gold, *masks)
  np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=2e-5)
  _, marginal_terms = loss_of(*arrays, objective='marginal_span')
  for found, usual in zip(terms, marginal_terms, strict=True):
    np.testing.assert_array_equal(found, usual)


@pytest.mark.parametrize('objective', OF_EXAMPLES)
@pytest.mark.parametrize('seed', [4, 5])
def test_a_gradient_equals_differences_of_the_formula(objective, seed):
  """Where the formula holds the reader fixed, it is not moved."""
  arrays = pretrain_arrays(seed, scale=1.0)
  scores, gold, *masks = doubled(arrays)
  gradients, _ = gradient_of(*arrays, objective=objective)
  for which, found in enumerate(gradients):
    differences = np.zeros(found.shape)
    for place in np.ndindex(found.shape):
      values = []
      for step in (1e-6, -1e-6):
        moved = [scores.copy(), gold.copy()]
        moved[which][place] += step
        values.append(expected_loss(objective, *moved, gold, *masks))
      differences[place] = (values[0] - values[1]) / 2e-6
    np.testing.assert_allclose(found, differences, rtol=1e-3, atol=2e-6)


def test_draws_have_the_gradient_of_the_expectation():
  """Mean of 20,000 draws, within four of its standard errors."""
  scores, gold, mlm_mask, candidate_mask = pretrain_arrays(6, scale=1.0)
  keys = jax.random.split(jax.random.key(1), 20_000)

  def draw(key):
    loss, gradients = jax.value_and_grad(
      lambda scores, gold: losses.pretrain_loss(
        scores, gold, mlm_mask, candidate_mask, 'reinforce', key
      )[0],
      argnums=(0, 1),
    )(scores, gold)
    return loss, *gradients

  drawn = jax.jit(jax.vmap(draw))(keys)

  def expectation(scores, gold):
    log_probs = jax.nn.log_softmax(jnp.where(candidate_mask, scores, -1e30))
    nats = -(gold * mlm_mask[:, None]).sum(axis=2)
    real = mlm_mask.any(axis=1)
    of_examples = (jnp.exp(log_probs) * nats * candidate_mask).sum(axis=1)
    return (of_examples * real).sum() / real.sum()

  value, gradients = jax.value_and_grad(expectation, argnums=(0, 1))(
    scores, gold
  )
  by_example = [
    reference.expected_nats(*rows)
    for rows in zip(
      *doubled((scores, gold)), mlm_mask, candidate_mask, strict=True
    )
    if rows[2].any()
  ]
  np.testing.assert_allclose(value, np.mean(by_example), rtol=1e-5)
  for found, expected in zip(drawn, (value, *gradients), strict=True):
    found = np.asarray(found, np.float64)
    error = found.std(axis=0) / np.sqrt(len(keys))
    assert (np.abs(found.mean(axis=0) - expected) <= 4 * error + 1e-6).all()


def test_drawing_needs_an_rng():
  with pytest.raises(ValueError, match="'reinforce' draws documents"):
    losses.pretrain_loss(*pretrain_arrays(1), 'reinforce')


@pytest.mark.parametrize('objective', sorted(OBJECTIVES.keys() - {'reinforce'}))
def test_a_constant_on_the_scores_or_an_empty_slot_changes_nothing(objective):
  scores, gold, mlm_mask, candidate_mask = pretrain_arrays(7)
  loss, _ = loss_of(scores, gold, mlm_mask, candidate_mask, objective=objective)
  real = mlm_mask[:, None, :] & candidate_mask[:, :, None]
  changed, _ = loss_of(
    np.where(candidate_mask, scores + np.float32(3), np.float32(1e9)),
    np.where(real, gold, np.float32(np.nan)),
    mlm_mask,
    candidate_mask,
    objective=objective,
  )
  np.testing.assert_allclose(changed, loss, rtol=1e-5)


@pytest.mark.parametrize('objective', sorted(OBJECTIVES))
def test_the_document_that_helps_is_taught(objective):
  """All else equal, a step down the gradient raises the helpful document."""
  gold = np.full((1, 3, 2), -2.0, np.float32)
  gold[0, 1] = -0.1
  masks = np.ones((1, 2), bool), np.ones((1, 3), bool)
  scores = np.zeros((1, 3), np.float32)
  gradients = [
    gradient_of(scores, gold, *masks, objective=objective, rng=key)[0][0]
    for key in jax.random.split(jax.random.key(2), 200)
  ]
  mean = np.mean(gradients, axis=0)[0]
  assert mean[1] < 0 < mean[0]
  # A single candidate teaches nothing.
  (alone, _), _ = gradient_of(
    scores[:, :1],
    gold[:, :1],
    masks[0],
    masks[1][:, :1],
    objective=objective,
    rng=jax.random.key(3),
  )
  np.testing.assert_allclose(alone, 0, atol=1e-6)
