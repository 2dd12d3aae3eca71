import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax.errors import UserError
from realm_jax.models import attention, encoder
from realm_jax.models.layers import Dropout
from realm_jax.types import TextInputs

FUSES = {
  'choice': 'auto',
  'dtype': 'bfloat16',
  'head_size': 64,
  'dropout_rate': 0.0,
  'num_positions': 96,
  'length': 96,
}


def random_heads(*shape, seed=0, dtype=np.float32):
  rng = np.random.default_rng(seed)
  return [jnp.asarray(rng.normal(size=shape), dtype) for _ in range(3)]


def prefix_mask(lengths, length):
  return np.arange(length) < np.array(lengths)[:, None]


def by_numpy(query, key, value, mask):
  """Softmax over the real tokens alone, in float64."""
  query, key, value = (np.asarray(a, np.float64) for a in (query, key, value))
  scores = np.einsum('bqhd,bkhd->bhqk', query, key) / query.shape[-1] ** 0.5
  weights = np.exp(scores) * mask[:, None, None, :]
  weights /= weights.sum(axis=-1, keepdims=True)
  return np.einsum('bhqk,bkhd->bqhd', weights, value)


def attend(query, key, value, mask, kept=None, mask_bias=-1e4):
  return attention.attend(
    query, key, value, mask, kept, mask_bias, Dropout(0.25).apply_to
  )


@pytest.fixture
def gpu_of_numbers(monkeypatch):
  """One device that fuses, whose kernel is JAX's own, computed by XLA."""
  plain = jax.nn.dot_product_attention

  def kernel(*args, implementation, **kwargs):
    assert implementation == 'cudnn'
    return plain(*args, implementation='xla', **kwargs)

  monkeypatch.setattr(jax.nn, 'dot_product_attention', kernel)
  monkeypatch.setattr(attention, '_has_fused_kernel', lambda: True)
  monkeypatch.setattr(jax, 'device_count', lambda: 1)


def test_attention_is_a_softmax_over_real_tokens(gpu_of_numbers):
  query, key, value = random_heads(3, 7, 2, 5)
  mask = prefix_mask([7, 1, 4], 7)
  expected = by_numpy(query, key, value, mask)
  plain = attend(query, key, value, mask)
  np.testing.assert_allclose(plain, expected, atol=2e-6)
  fused = attention.attend_fused(query, key, value, mask)
  np.testing.assert_allclose(fused, expected, atol=2e-6)


def test_some_positions_attend_as_they_do_among_all():
  query, key, value = random_heads(2, 7, 2, 5)
  mask = prefix_mask([7, 3], 7)
  some = attend(query[:, 2:5], key, value, mask, mask_bias=None)
  expected = by_numpy(query, key, value, mask)[:, 2:5]
  np.testing.assert_allclose(some, expected, atol=2e-6)


def test_a_text_without_any_token_is_finite_when_fused(gpu_of_numbers):
  query, key, value = random_heads(2, 6, 2, 4)
  fused = attention.attend_fused(query, key, value, prefix_mask([0, 6], 6))
  assert np.isfinite(fused).all()


@pytest.mark.slow
def test_an_encoder_that_fuses_has_the_numbers_of_one_that_does_not(
  gpu_of_numbers, monkeypatch
):
  monkeypatch.setattr(attention, '_FUSED_LENGTH', 5)
  calls = []
  fused = attention.attend_fused
  monkeypatch.setattr(
    encoder, 'attend_fused', lambda *args: calls.append(1) or fused(*args)
  )
  config = encoder.EncoderConfig(
    vocab_size=31,
    hidden_size=16,
    num_layers=3,
    num_heads=2,
    feed_forward_size=12,
    max_positions=13,
    dtype='bfloat16',
  )
  ids = np.random.default_rng(0).integers(0, 31, (2, 11))
  mask = prefix_mask([11, 6], 11).astype(np.int32)
  text = TextInputs(ids, mask, 0 * ids)
  params = encoder.Encoder(config).init(jax.random.key(0), text)['params']

  def hidden(choice, positions):
    model = encoder.Encoder(dataclasses.replace(config, attention=choice))
    return model.apply({'params': params}, text, positions).astype(np.float32)

  expected = hidden('xla', encoder.FIRST)
  del calls[:]
  np.testing.assert_allclose(hidden('auto', encoder.FIRST), expected, atol=0.05)
  assert len(calls) == 2  # the last layer is computed at one position


@pytest.mark.parametrize(
  'others',
  [
    {'choice': 'xla'},
    {'dtype': 'float32'},
    {'head_size': 20},
    {'head_size': 136},
    {'dropout_rate': 0.1},
    {'num_positions': 10},
    {'num_positions': 3, 'length': 3},
  ],
)
def test_auto_fuses_only_what_the_kernel_does_well(gpu_of_numbers, others):
  assert attention.is_fused(**FUSES)
  assert not attention.is_fused(**FUSES | others)


def test_auto_leaves_several_devices_to_xla(gpu_of_numbers, monkeypatch):
  monkeypatch.setattr(jax, 'device_count', lambda: 2)
  assert not attention.is_fused(**FUSES)
  assert attention.is_fused(**FUSES | {'choice': 'fused'})


@pytest.mark.skipif(jax.default_backend() == 'gpu', reason='has no GPU')
def test_without_a_gpu_auto_is_xla_and_fused_is_refused():
  assert not attention.is_fused(**FUSES)
  with pytest.raises(UserError, match="'fused', but the device is cpu"):
    attention.is_fused(**FUSES | {'choice': 'fused'})


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'dtype': 'float32'}, 'dtype is float32, expected one of bfloat16'),
    ({'num_heads': 192}, 'a head is 4 wide, expected a multiple of 8'),
    ({'attention_dropout_rate': 0.1}, 'attention_dropout_rate is 0.1'),
  ],
)
def test_fused_is_refused_where_nothing_fuses(changes, message):
  fused = {'attention': 'fused', 'dtype': 'bfloat16'}
  encoder.EncoderConfig(**fused, attention_dropout_rate=0)
  settings = {'attention_dropout_rate': 0, **fused, **changes}
  with pytest.raises(UserError, match=message):
    encoder.EncoderConfig(**settings)


@pytest.mark.parametrize('parts', [1, 3, 7])
def test_parts_have_the_numbers_and_gradients_of_the_whole(parts):
  heads = random_heads(7, 5, 2, 3)
  mask = prefix_mask([5, 1, 4, 5, 2, 3, 5], 5)
  kept = np.random.default_rng(2).random((7, 2, 5, 5)) < 0.75
  weights = random_heads(7, 5, 2, 3, seed=1)[0]

  def value_and_gradients(in_parts):
    def total(*heads):
      return (in_parts(*heads, mask, kept) * weights).sum()

    return jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2)))(*heads)

  expected = value_and_gradients(attend)
  actual = value_and_gradients(
    lambda *args: attention.attend_in_parts(*args, attend, parts)
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 2e-6), actual, expected
  )
  without = value_and_gradients(lambda *args: attend(*args[:4]))
  assert abs(without[0] - expected[0]) > 1e-3


@pytest.mark.slow
def test_an_encoder_drops_the_same_weights_in_parts(monkeypatch):
  config = encoder.EncoderConfig(
    vocab_size=31,
    hidden_size=8,
    num_layers=2,
    num_heads=2,
    feed_forward_size=12,
    max_positions=13,
    attention_dropout_rate=0.4,
  )
  ids = np.random.default_rng(0).integers(0, 31, (3, 11))
  text = TextInputs(ids, np.ones_like(ids), 0 * ids)
  model = encoder.Encoder(config)
  params = model.init(jax.random.key(0), text)['params']

  def hidden():
    rngs = {'dropout': jax.random.key(1)}
    return model.apply({'params': params}, text, deterministic=False, rngs=rngs)

  expected = hidden()
  numbers = []
  monkeypatch.setattr(jax, 'device_count', lambda: 1)
  monkeypatch.setattr(attention, '_SCORES_IN_ONE', 3 * 2 * 11 * 11)
  monkeypatch.setattr(
    encoder,
    'num_parts',
    lambda *args: numbers.append(attention.num_parts(*args)) or numbers[-1],
  )
  np.testing.assert_allclose(hidden(), expected, atol=1e-5)
  assert numbers == ([3, 3] if jax.default_backend() == 'cpu' else [1, 1])


def test_few_scores_and_meshes_are_computed_whole(monkeypatch):
  assert attention.num_parts(32, 1 << 24) == 1  # eight devices
  monkeypatch.setattr(jax, 'device_count', lambda: 1)
  assert attention.num_parts(32, (1 << 20) - 1) == 1
  on_cpu = jax.default_backend() == 'cpu'
  assert attention.num_parts(32, 1 << 20) == (8 if on_cpu else 1)
  assert attention.num_parts(5, 1 << 20) == (5 if on_cpu else 1)


@pytest.mark.gpu
def test_the_kernel_has_the_numbers_and_gradients_of_xla():
  heads = random_heads(3, 96, 4, 64, dtype=jnp.bfloat16)
  mask = prefix_mask([96, 1, 40], 96)
  weights = random_heads(3, 96, 4, 64, seed=1)[0]

  def value_and_gradients(attend):
    def total(*heads):
      return (attend(*heads, mask).astype(jnp.float32) * weights).sum()

    return jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2)))(*heads)

  plain = attend
  expected, expected_gradients = value_and_gradients(plain)
  actual, gradients = value_and_gradients(attention.attend_fused)
  np.testing.assert_allclose(actual, expected, rtol=0.02)
  for one, other in zip(gradients, expected_gradients, strict=True):
    one, other = np.float32(one), np.float32(other)
    assert np.linalg.norm(one - other) < 0.02 * np.linalg.norm(other)
