import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax.models import layers


def drop(rate, inputs, seed=0, deterministic=False):
  return layers.Dropout(rate).apply(
    {}, inputs, deterministic, rngs={'dropout': jax.random.key(seed)}
  )


@pytest.mark.parametrize('rate', [0.1, 0.5, 0.9])
def test_dropout_zeroes_its_share_and_keeps_the_mean(rate):
  inputs = jnp.ones((101, 33))
  outputs = np.asarray(drop(rate, inputs))
  assert abs((outputs == 0).mean() - rate) < 0.03
  assert len(np.unique(outputs)) == 2
  mean = np.mean([drop(rate, inputs, seed).mean() for seed in range(8)])
  np.testing.assert_allclose(mean, 1, atol=0.06)


def test_dropout_draws_every_entry_on_its_own():
  kept = (
    np.stack([drop(0.5, jnp.ones((7, 6)), seed) for seed in range(400)]) > 0
  )
  correlation = np.corrcoef(kept.reshape(400, -1).T) - np.eye(42)
  assert abs(correlation).max() < 0.25


def test_no_dropout_draws_nothing():
  inputs = jnp.arange(6.0).reshape(2, 3)
  for rate, deterministic in ((0.0, False), (0.3, True)):
    # there is no rng to draw from
    outputs = layers.Dropout(rate).apply({}, inputs, deterministic)
    assert outputs is inputs


def test_dense_acts_on_the_last_axis():
  inputs = jax.random.normal(jax.random.key(0), (2, 3, 5))
  layer = layers.Dense(4)
  params = layer.init(jax.random.key(1), inputs)
  np.testing.assert_allclose(
    layer.apply(params, inputs),
    inputs @ params['params']['kernel'],
    atol=1e-5,
  )


def test_no_precision_is_lost_below_or_above_float32():
  assert layers.at_least_float32(jnp.ones(2, jnp.bfloat16)).dtype == jnp.float32
  with jax.enable_x64(True):
    assert layers.at_least_float32(jnp.ones(2)).dtype == jnp.float64
