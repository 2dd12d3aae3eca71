"""The same numbers as the official TensorFlow 1 code, gradients and updates."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from parity import deviations, names
from parity.official import (
  Clipping,
  Official,
  assert_close,
  assert_gradients_close,
)

from realm_jax import losses
from realm_jax.models import realm
from realm_jax.train import optimizer

# Of a moment after the updates, to its tensor's largest entry.
MOMENT_TOLERANCE = 2e-4


@pytest.fixture(scope='module')
def pretraining(fixtures_folder):
  return Official(fixtures_folder / 'official_realm' / 'pretrain.npz')


@pytest.fixture(scope='module')
def pretrain_step(pretraining):
  """params -> ((loss, (terms, gold, scores)), gradients) of the one batch."""
  arrays = pretraining.arrays
  model = realm.Realm(pretraining.config)

  def loss(params):
    apply = functools.partial(model.apply, {'params': params})
    query_embeds = apply(
      pretraining.text('in/query_inputs'), method='embed_queries'
    )
    embeds = apply(
      pretraining.text('in/candidate_inputs'), method='embed_documents'
    )
    gold = apply(
      pretraining.text('in/joint_inputs'),
      arrays['in/mlm_positions'],
      arrays['in/mlm_targets'],
      method='gold_log_probs',
    )
    scores = realm.relevance_scores(query_embeds, embeds)
    value, terms = losses.pretrain_loss(
      scores,
      gold,
      arrays['in/mlm_mask'],
      jnp.ones_like(scores, bool),
      objective='marginal_token',
    )
    return value, (terms, gold, scores)

  return jax.jit(jax.value_and_grad(loss, has_aux=True))


def test_every_variable_with_a_gradient_has_its_parameter(pretraining):
  known = {
    name for part in pretraining.names.values() for name in part.values()
  }
  trained = {
    key.removeprefix('grad/')
    for key in pretraining.arrays
    if key.startswith('grad/')
  }
  assert trained
  assert trained <= known


def test_pretraining_loss_and_its_terms(pretraining, pretrain_step):
  arrays = pretraining.arrays
  (loss, (terms, gold, scores)), _ = pretrain_step(pretraining.tree('var/'))
  mask = arrays['in/mlm_mask']
  for actual, expected in (
    (loss, 'loss'),
    (terms.retrieval_utility, 'retrieval_utility'),
    (scores, 'retrieval_score'),
    (terms.candidate_log_probs, 'candidate_log_probs'),
    (gold, 'gold_log_probs'),
  ):
    assert_close(actual, arrays[f'out/{expected}'], f'pretrain: {expected}')
  assert_close(
    terms.marginal_log_probs,
    arrays['out/marginal_gold_log_probs'] * mask,
    'pretrain: marginal_gold_log_probs',
  )


def test_pretraining_log_probs_of_all_words(pretraining):
  arrays = pretraining.arrays
  model = realm.Realm(pretraining.config)
  log_probs = jax.jit(functools.partial(model.apply, method='mlm_log_probs'))(
    {'params': pretraining.tree('var/')},
    pretraining.text('in/joint_inputs'),
    arrays['in/mlm_positions'],
  )
  assert_close(
    log_probs, arrays['out/mlm_log_probs'], 'pretrain: mlm_log_probs'
  )


def test_pretraining_gradients(pretraining, pretrain_step):
  _, gradients = pretrain_step(pretraining.tree('var/'))
  assert_gradients_close(gradients, pretraining.tree('grad/'), 'pretrain')
  np.testing.assert_allclose(
    optax.tree.norm(gradients),
    pretraining.arrays['out/dense_global_norm'],
    rtol=1e-5,
  )


def trained(tree):
  """Without the span head, which pre-training has not."""
  reader = {k: v for k, v in tree['reader'].items() if k != 'span_head'}
  return {**tree, 'reader': reader}


def assert_weights_close(params, pretraining, num_updates, clipping):
  quantity = f'weights after {num_updates} updates, norm {clipping.name}'
  for found, expected in zip(
    jax.tree.leaves(params),
    jax.tree.leaves(pretraining.tree(f'after{num_updates}/')),
    strict=True,
  ):
    tolerance = clipping.weight_tolerance(num_updates)
    assert_close(found, expected, f'pretrain: {quantity}', tolerance)


def assert_moments_close(opt_state, pretraining):
  """Adam's moments after all updates, each to its tensor's largest entry."""
  for field, slot in (('mu', 'adam_m'), ('nu', 'adam_v')):
    expected = trained(pretraining.tree('slot/', f'/{slot}'))
    largest = max(np.abs(array).max() for array in jax.tree.leaves(expected))
    found = optax.tree_utils.tree_get(opt_state, field)
    worst = names.assert_trees_close(
      trained(found), expected, MOMENT_TOLERANCE, noise=1e-2 * largest
    )
    quantity = f'TensorFlow pretrain: {slot}, to the largest entry'
    deviations.record(quantity, 'float32', worst)


@pytest.mark.parametrize('own_norm', [False, True])
def test_pretraining_updates(pretraining, pretrain_step, own_norm):
  arrays = pretraining.arrays
  clipping = Clipping(pretraining, own_norm)
  config = optimizer.OptimizerConfig(
    learning_rate=float(arrays['traj/init_lr']),
    num_steps=int(arrays['traj/num_train_steps']),
    schedule='official',
    clip_norm=clipping.clip_norm,
    frozen=('^reader/span_head/',),
  )
  params = pretraining.tree('var/')
  transformation, schedule = optimizer.make_optimizer(config, params)
  steps = arrays['traj/global_step']
  np.testing.assert_allclose(
    [schedule(step) for step in steps], arrays['traj/lr_used'], rtol=1e-6
  )
  transformation, state = clipping.before(transformation, params)
  update = jax.jit(transformation.update)
  recorded = pretraining.updates_recorded()
  assert len(steps) in recorded
  for i, expected in enumerate(arrays['traj/loss']):
    (loss, _), gradients = pretrain_step(params)
    assert_close(
      loss,
      expected,
      f'pretrain: losses of {len(steps)} updates, norm {clipping.name}',
      clipping.loss_tolerance(i),
    )
    clipping.see_norm(i, float(optax.tree.norm(gradients)))
    updates, state = update(gradients, state, params)
    params = optax.apply_updates(params, updates)
    if i + 1 in recorded:
      assert_weights_close(params, pretraining, i + 1, clipping)
  if not own_norm:
    assert_moments_close(state, pretraining)
