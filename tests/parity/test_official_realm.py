"""The same numbers as the official TensorFlow 1 code, gradients and updates."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from parity.official import (
  Official,
  assert_close,
  assert_gradients_close,
)

from realm_jax import losses
from realm_jax.models import realm
from realm_jax.train import optimizer


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
      marginal='token',
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


def test_pretraining_updates(pretraining, pretrain_step):
  arrays = pretraining.arrays
  config = optimizer.OptimizerConfig(
    learning_rate=float(arrays['traj/init_lr']),
    num_steps=int(arrays['traj/num_train_steps']),
    schedule='official',
    frozen=('^reader/span_head/',),
  )
  params = pretraining.tree('var/')
  transformation, schedule = optimizer.make_optimizer(config, params)
  steps = arrays['traj/global_step']
  np.testing.assert_allclose(
    [schedule(step) for step in steps], arrays['traj/lr_used'], rtol=1e-6
  )
  # their moments start at zero in the middle of a run
  state = optax.tree_utils.tree_set(
    transformation.init(params), count=jnp.int32(steps[0])
  )
  update = jax.jit(transformation.update)
  for i in range(len(steps)):
    (loss, _), gradients = pretrain_step(params)
    np.testing.assert_allclose(loss, arrays['traj/loss'][i], atol=1e-4)
    updates, state = update(gradients, state, params)
    params = optax.apply_updates(params, updates)
    if i + 1 not in (1, len(steps)):
      continue
    # Weights change by up to 2e-2 in six updates. The norm that they clip by
    # counts a word that occurs twice as two words; ours is the true one.
    for found, expected in zip(
      jax.tree.leaves(params),
      jax.tree.leaves(pretraining.tree(f'after{i + 1}/')),
      strict=True,
    ):
      assert_close(found, expected, f'weights after {i + 1} updates', 5e-6)
