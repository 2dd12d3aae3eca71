import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import transformer

from realm_jax.errors import UserError
from realm_jax.models import realm
from realm_jax.models.encoder import EncoderConfig
from realm_jax.types import TextInputs

CONFIG = realm.RealmConfig(
  encoder=EncoderConfig(
    vocab_size=61,
    hidden_size=12,
    num_layers=2,
    num_heads=3,
    feed_forward_size=20,
    max_positions=17,
    dropout_rate=0.2,
  ),
  embed_dim=7,
  span_hidden_size=5,
  max_span_width=4,
)


def texts(seed, *shape, config=CONFIG):
  """Random token ids and segments; real lengths from 1 to the longest."""
  rng = np.random.default_rng(seed)
  lengths = rng.integers(1, shape[-1] + 1, size=(*shape[:-1], 1))
  return TextInputs(
    rng.integers(0, config.encoder.vocab_size, size=shape),
    (np.arange(shape[-1]) < lengths).astype(np.int32),
    rng.integers(0, config.encoder.num_segments, size=shape),
  )


@pytest.fixture(scope='module')
def params():
  """All-different values, so that no bias, scale or table goes unnoticed."""
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda leaf: jnp.asarray(leaf + 0.3 * rng.normal(size=leaf.shape)),
    realm.init_params(CONFIG, jax.random.key(0)),
  )


def call(config, method, deterministic=True):
  model = realm.Realm(config)

  @jax.jit
  def run(params, *args, rng=None):
    rngs = None if rng is None else {'dropout': rng}
    return model.apply(
      {'params': params},
      *args,
      deterministic=deterministic,
      method=method,
      rngs=rngs,
    )

  return run


@pytest.mark.parametrize('method', ['embed_queries', 'embed_documents'])
def test_embeddings_equal_the_formula(params, method):
  inputs = texts(1, 2, 3, 9)
  embeds = call(CONFIG, method)(params, inputs)
  exact = transformer.to_float64(params['embedder'])
  assert embeds.shape == (2, 3, 7)
  assert embeds.dtype == jnp.float32
  for at in np.ndindex(2, 3):
    expected = transformer.embed(*(part[at] for part in inputs), exact, CONFIG)
    np.testing.assert_allclose(embeds[at], expected, atol=2e-5)


def test_log_probs_equal_the_formula(params):
  joint, rng = texts(2, 2, 3, 11), np.random.default_rng(2)
  positions = rng.integers(0, 11, size=(2, 4))
  targets = rng.integers(0, 61, size=(2, 4))
  gold = call(CONFIG, 'gold_log_probs')(params, joint, positions, targets)
  full = call(CONFIG, 'mlm_log_probs')(params, joint, positions)
  exact = transformer.to_float64(params['reader'])
  assert gold.shape == (2, 3, 4)
  assert full.shape == (2, 3, 4, 61)
  for b, n in np.ndindex(2, 3):
    expected = transformer.mlm_log_probs(
      *(part[b, n] for part in joint), positions[b], exact, CONFIG
    )
    np.testing.assert_allclose(full[b, n], expected, atol=2e-5)
    np.testing.assert_allclose(
      gold[b, n], expected[np.arange(4), targets[b]], atol=2e-5
    )


def test_span_scores_equal_the_formula(params):
  joint, rng = texts(3, 2, 3, 9), np.random.default_rng(3)
  block_mask = rng.integers(0, 2, size=(2, 3, 9))
  scores = call(CONFIG, 'span_scores')(params, joint, block_mask)
  exact = transformer.to_float64(params['reader'])
  spans = [
    (start, start + width)
    for width in range(1, CONFIG.max_span_width + 1)
    for start in range(9 - width + 1)
  ]
  starts, stops = realm.span_positions(9, CONFIG.max_span_width)
  assert list(zip(starts, stops, strict=True)) == spans
  assert scores.shape == (2, 3, len(spans))
  for b, n in np.ndindex(2, 3):
    hidden = transformer.encode(
      *(part[b, n] for part in joint), exact['encoder'], CONFIG.encoder
    )
    for i, (start, stop) in enumerate(spans):
      expected = transformer.span_score(
        hidden[start], hidden[stop - 1], exact['span_head'], CONFIG
      )
      if not (block_mask[b, n, start] and block_mask[b, n, stop - 1]):
        expected += CONFIG.span_mask_bias
      np.testing.assert_allclose(scores[b, n, i], expected, atol=2e-3)
      if expected > -100:
        np.testing.assert_allclose(scores[b, n, i], expected, atol=2e-5)


def test_spans_wider_than_the_text_do_not_exist(params):
  scores = call(CONFIG, 'span_scores')(
    params, texts(4, 1, 2, 3), np.ones((1, 2, 3), bool)
  )
  assert scores.shape == (1, 2, 3 + 2 + 1)


@pytest.mark.slow
def test_separate_embedders_have_their_own_weights(params):
  config = dataclasses.replace(CONFIG, share_embedders=False)
  separate = realm.init_params(config, jax.random.key(1))
  assert set(separate) == {'query_embedder', 'document_embedder', 'reader'}
  assert set(params) == {'embedder', 'reader'}
  inputs = texts(5, 2, 6)
  queries = call(config, 'embed_queries')(separate, inputs)
  documents = call(config, 'embed_documents')(separate, inputs)
  assert abs(queries - documents).max() > 0.1
  shared = {'embedder': separate['document_embedder'], **separate}
  del shared['query_embedder'], shared['document_embedder']
  np.testing.assert_array_equal(
    documents, call(CONFIG, 'embed_queries')(shared, inputs)
  )


@pytest.mark.slow
def test_the_same_key_makes_the_same_parameters():
  first, again, other = (
    realm.init_params(CONFIG, jax.random.key(seed)) for seed in (3, 3, 4)
  )
  jax.tree.map(np.testing.assert_array_equal, first, again)
  kernel = first['reader']['mlm_head']['dense']['kernel']
  assert (kernel != other['reader']['mlm_head']['dense']['kernel']).all()
  assert {leaf.dtype for leaf in jax.tree.leaves(first)} == {jnp.dtype('f4')}


def test_every_axis_of_every_parameter_has_a_name(params):
  axes = realm.logical_axes(CONFIG)

  def check(leaf, names):
    assert len(names) == leaf.ndim
    assert None not in names

  jax.tree.map(check, params, axes)


@pytest.mark.slow
def test_candidates_do_not_see_each_other(params):
  joint = texts(6, 2, 3, 8)
  positions, targets = np.array([[1, 5], [2, 7]]), np.array([[9, 4], [33, 60]])
  run = call(CONFIG, 'gold_log_probs')
  together = run(params, joint, positions, targets)
  alone = run(
    params, TextInputs(*(part[:, 1:2] for part in joint)), positions, targets
  )
  np.testing.assert_allclose(together[:, 1:2], alone, atol=1e-6)


def sizes(jaxpr):
  """Shapes of all arrays that a computation makes, inner ones included."""
  for equation in jaxpr.eqns:
    for variable in equation.outvars:
      yield getattr(variable.aval, 'shape', ())
    for value in equation.params.values():
      for inner in value if isinstance(value, (list, tuple)) else [value]:
        inner = getattr(inner, 'jaxpr', inner)
        if hasattr(inner, 'eqns'):
          yield from sizes(inner)


def test_only_masked_positions_reach_the_vocabulary(params):
  batch, num_candidates, joint_len, max_masks = 2, 3, 11, 4
  joint = texts(7, batch, num_candidates, joint_len)
  slots = np.ones((batch, max_masks), np.int32)
  model = realm.Realm(CONFIG)
  run = functools.partial(model.apply, method='gold_log_probs')
  loss = lambda params: run({'params': params}, joint, slots, slots).sum()  # noqa: E731
  jaxpr = jax.make_jaxpr(jax.value_and_grad(loss))(params)
  logits = [shape for shape in sizes(jaxpr.jaxpr) if 61 in shape[2:]]
  assert (batch, num_candidates, max_masks, 61) in logits
  assert max(np.prod(shape) for shape in logits) <= (
    batch * num_candidates * max_masks * 61
  )


@pytest.mark.slow
def test_dropout_acts_in_every_method_and_only_in_training(params):
  joint, slots = texts(8, 2, 3, 8), np.array([[1, 5], [2, 7]])
  for method, args in (
    ('embed_queries', (joint,)),
    ('embed_documents', (joint,)),
    ('gold_log_probs', (joint, slots, slots)),
    ('span_scores', (joint, joint.mask)),
  ):
    run = call(CONFIG, method, deterministic=False)
    first, again, other = (
      run(params, *args, rng=jax.random.key(seed)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any(), method
    assert (first != call(CONFIG, method)(params, *args)).any(), method


def test_relevance_scores_are_inner_products():
  rng = np.random.default_rng(9)
  queries, candidates = rng.normal(size=(2, 5)), rng.normal(size=(2, 3, 5))
  scores = realm.relevance_scores(np.float32(queries), np.float32(candidates))
  np.testing.assert_allclose(
    scores, (queries[:, None] * candidates).sum(-1), atol=1e-5
  )


@pytest.mark.parametrize('name', ['embed_dim', 'max_span_width'])
def test_a_bad_size_is_refused_by_name(name):
  with pytest.raises(UserError, match=f'{name} is 0, expected a whole number'):
    dataclasses.replace(CONFIG, **{name: 0})
  with pytest.raises(UserError, match='encoder is None, expected an Encoder'):
    realm.RealmConfig(encoder=None)
