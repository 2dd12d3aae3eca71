import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from realm_jax.errors import UserError
from realm_jax.models import encoder
from realm_jax.types import TextInputs

CONFIG = encoder.EncoderConfig(
  vocab_size=31,
  hidden_size=8,
  num_layers=2,
  num_heads=2,
  feed_forward_size=12,
  max_positions=13,
)


def random_text(*shape, lengths=None):
  rng = np.random.default_rng(sum(shape))
  mask = np.ones(shape, np.int32)
  if lengths is not None:
    mask = (np.arange(shape[-1]) < np.array(lengths)[:, None]).astype(np.int32)
  return TextInputs(rng.integers(0, 31, shape), mask, rng.integers(0, 2, shape))


@pytest.fixture(scope='module')
def params():
  text = random_text(1, 2)
  made = jax.jit(encoder.Encoder(CONFIG).init)(jax.random.key(0), text)
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda leaf: jnp.asarray(leaf + 0.4 * rng.normal(size=leaf.shape)),
    nn.unbox(made)['params'],
  )


def encode(params, text, positions=None, config=CONFIG):
  model = encoder.Encoder(config)
  if isinstance(positions, slice):
    run = jax.jit(
      lambda params: model.apply({'params': params}, text, positions)
    )
    return run(params)
  return jax.jit(model.apply)({'params': params}, text, positions)


def test_some_positions_have_the_numbers_they_have_among_all(params):
  text = random_text(3, 11, lengths=[11, 4, 7])
  hidden = encode(params, text)
  positions = np.array([[0, 5, 5, 10], [3, 1, 0, 2], [6, 10, 4, 4]])
  some = encode(params, text, positions)
  assert some.shape == (3, 4, 8)
  expected = np.take_along_axis(np.asarray(hidden), positions[:, :, None], 1)
  np.testing.assert_allclose(some, expected, atol=1e-6)
  first = encode(params, text, encoder.FIRST)
  np.testing.assert_allclose(first, hidden[:, :1], atol=1e-6)


@pytest.mark.slow
def test_some_positions_have_the_gradients_they_have_among_all(params):
  text = random_text(2, 9, lengths=[9, 5])
  positions = np.array([[0, 8, 3], [2, 2, 4]])
  weights = np.random.default_rng(1).normal(size=(2, 3, 8)).astype(np.float32)
  model = encoder.Encoder(CONFIG)

  @jax.jit
  @jax.grad
  def few(params):
    hidden = model.apply({'params': params}, text, positions)
    return (hidden * weights).sum()

  @jax.jit
  @jax.grad
  def all_of_them(params):
    hidden = model.apply({'params': params}, text)
    hidden = jnp.take_along_axis(hidden, positions[:, :, None], axis=1)
    return (hidden * weights).sum()

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5),
    few(params),
    all_of_them(params),
  )


def test_the_first_position_alone_costs_about_half_of_two_layers(params):
  config = dataclasses.replace(CONFIG, max_positions=64)
  params = jax.tree.map(lambda leaf: leaf, params)
  params['embeddings']['position'] = jnp.zeros((64, 8))
  text, model = random_text(3, 64), encoder.Encoder(config)

  def flops(positions):
    run = jax.jit(
      lambda params: model.apply({'params': params}, text, positions)
    )
    return run.lower(params).compile().cost_analysis()['flops']

  assert flops(encoder.FIRST) < 0.65 * flops(None)


def test_padding_changes_nothing(params):
  text = random_text(2, 5)
  padded = TextInputs(
    *(np.pad(part, ((0, 0), (0, 6)), constant_values=1) for part in text)
  )
  padded.mask[:, 5:] = 0
  np.testing.assert_allclose(
    encode(params, padded)[:, :5], encode(params, text), atol=1e-6
  )


def test_padding_is_as_good_as_gone_with_any_large_bias(params):
  text = random_text(2, 6, lengths=[6, 2])
  lowest = dataclasses.replace(CONFIG, mask_bias=None)
  np.testing.assert_array_equal(
    encode(params, text), encode(params, text, config=lowest)
  )


def test_text_without_any_token_is_finite(params):
  text = random_text(2, 6, lengths=[6, 0])
  for bias in (-1e4, None):
    config = dataclasses.replace(CONFIG, mask_bias=bias)
    assert np.isfinite(encode(params, text, config=config)).all()


def test_leading_dimensions_are_kept(params):
  text = random_text(2, 3, 7)
  flat = TextInputs(*(part.reshape(6, 7) for part in text))
  positions = np.arange(12).reshape(2, 3, 2) % 7
  some = encode(params, text, positions)
  assert some.shape == (2, 3, 2, 8)
  np.testing.assert_array_equal(
    some.reshape(6, 2, 8), encode(params, flat, positions.reshape(6, 2))
  )


@pytest.mark.slow
def test_bfloat16_arithmetic_is_close_to_float32(params):
  text = random_text(2, 9)
  config = dataclasses.replace(CONFIG, dtype='bfloat16')
  hidden = encode(params, text, config=config)
  assert hidden.dtype == jnp.bfloat16
  np.testing.assert_allclose(
    hidden.astype(np.float32), encode(params, text), atol=0.1
  )
  gradient = jax.jit(
    jax.grad(lambda params: encode(params, text, config=config).sum())
  )(params)
  assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype('f4')}


def test_the_erf_gelu_is_another_function(params):
  text = random_text(2, 4)
  exact = encode(params, text, config=dataclasses.replace(CONFIG, gelu='erf'))
  assert 1e-5 < abs(exact - encode(params, text)).max() < 1e-2


def gradient_of(params, remat, dropout=False, **changes):
  """Of the numbers of all positions; what to differentiate and its value."""
  text = random_text(2, 9, lengths=[9, 5])
  changes['remat'] = remat
  model = encoder.Encoder(dataclasses.replace(CONFIG, **changes))
  weights = np.random.default_rng(1).normal(size=(2, 9, 8)).astype(np.float32)

  def total(params):
    rngs = {'dropout': jax.random.key(4)}
    hidden = model.apply(
      {'params': params}, text, deterministic=not dropout, rngs=rngs
    )
    return (hidden * weights).sum()

  gradient = jax.grad(total)
  return gradient, jax.jit(gradient)(params)


@pytest.mark.slow
@pytest.mark.parametrize('remat', ['dots', 'full'])
def test_what_is_computed_again_has_the_same_gradient(params, remat):
  _, expected = gradient_of(params, 'none', dropout=True)
  _, actual = gradient_of(params, remat, dropout=True)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), actual, expected
  )
  _, without_dropout = gradient_of(params, remat)
  assert not np.allclose(
    without_dropout['embeddings']['word'], actual['embeddings']['word']
  )


@pytest.mark.slow
def test_each_remat_computes_again_what_it_says(params):
  num_products = {}
  for remat in ('none', 'dots', 'full'):
    gradient, _ = gradient_of(params, remat)
    text = str(jax.make_jaxpr(gradient)(params))
    num_products[remat] = text.count('dot_general[')
  # In each of two layers: the scores and the context.
  assert num_products['dots'] - num_products['none'] == 2 * 2
  # Query, key, value, output and the first of the feed-forward layers too.
  assert num_products['full'] - num_products['dots'] >= 2 * 5


def test_remat_changes_no_name_of_a_parameter(params):
  model = encoder.Encoder(dataclasses.replace(CONFIG, remat='full'))
  made = jax.eval_shape(model.init, jax.random.key(0), random_text(1, 2))
  assert jax.tree.structure(nn.unbox(made)['params']) == jax.tree.structure(
    params
  )


@pytest.mark.slow
@pytest.mark.parametrize('remat', ['none', 'full'])
def test_scanned_layers_have_the_same_gradient(remat):
  config = dataclasses.replace(CONFIG, num_layers=4)
  text = random_text(1, 2)
  made = encoder.Encoder(config).init(jax.random.key(0), text)
  params = nn.unbox(made)['params']
  # The layers must differ: their order counts.
  keys = iter(jax.random.split(jax.random.key(1), 1000))
  params = jax.tree.map(
    lambda p: p + 0.1 * jax.random.normal(next(keys), p.shape), params
  )
  _, expected = gradient_of(params, 'none', num_layers=4)
  gradient, actual = gradient_of(params, remat, num_layers=4, scan_layers=True)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-4),
    actual,
    expected,
  )
  assert 'scan[' in str(jax.make_jaxpr(gradient)(params))


@pytest.mark.slow
def test_scanned_layers_draw_dropout_anew_with_every_key():
  changes = {'num_layers': 3, 'dropout_rate': 0.5, 'scan_layers': True}
  model = encoder.Encoder(dataclasses.replace(CONFIG, **changes))
  text = random_text(2, 9)
  made = nn.unbox(model.init(jax.random.key(0), text))
  apply = functools.partial(model.apply, made, text, deterministic=False)
  first, again, other = (
    apply(rngs={'dropout': jax.random.key(seed)}) for seed in (1, 1, 2)
  )
  np.testing.assert_array_equal(first, again)
  assert not np.allclose(first, other)


def test_text_longer_than_the_position_table_is_refused(params):
  with pytest.raises(ValueError, match=r'14 tokens long, .* has 13 positions'):
    encode(params, random_text(2, 14))


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'hidden_size': 9}, 'hidden_size is 9, expected a multiple of num_heads'),
    ({'num_layers': 0}, 'num_layers is 0, expected a whole number'),
    ({'vocab_size': 2.5}, 'vocab_size is 2.5, expected a whole number'),
    ({'dropout_rate': 1.0}, 'dropout_rate is 1.0, expected at least 0'),
    ({'mask_bias': 1e4}, 'mask_bias is 10000.0, expected a large negative'),
    ({'gelu': 'relu'}, "gelu is 'relu', expected one of tanh, erf"),
    ({'dtype': 'int8'}, "dtype is 'int8', expected one of float32"),
    ({'remat': 'some'}, "remat is 'some', expected one of none, dots, full"),
    ({'attention': 'fast'}, "attention is 'fast', expected one of auto, xla"),
    ({'attention': 'fused'}, "attention is 'fused', but dtype is float32"),
  ],
)
def test_a_bad_setting_is_refused_by_name(changes, message):
  with pytest.raises(UserError, match=message):
    dataclasses.replace(CONFIG, **changes)
