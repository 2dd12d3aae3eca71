import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from realm_jax.models.copying_init import copying_init
from realm_jax.models.realm import init_params

ENCODER = dataclasses.replace(tiny.ENCODER, num_layers=2, vocab_size=30)
MODEL = dataclasses.replace(tiny.MODEL, encoder=ENCODER)
SIZE = ENCODER.hidden_size


@pytest.fixture(scope='module')
def readers():
  """The tree before and after."""
  params = init_params(MODEL, jax.random.key(0))['reader']
  return params, copying_init(params, ENCODER, jax.random.key(1))


def kernel(reader, layer, name):
  attention = reader['encoder'][f'layers_{layer}']['attention']
  return np.asarray(attention[name]['kernel'])


@pytest.mark.parametrize('layer', [0, 1])
def test_output_undoes_value(readers, layer):
  _, reader = readers
  value = kernel(reader, layer, 'value').reshape(SIZE, SIZE)
  output = kernel(reader, layer, 'output').reshape(SIZE, SIZE)
  np.testing.assert_allclose(value.T @ value, np.eye(SIZE), atol=0.4)
  np.testing.assert_allclose(value @ output, np.eye(SIZE), atol=0.4)
  assert np.abs(value @ value.T - np.eye(SIZE)).max() > 1e-3  # noise


def test_layers_differ(readers):
  first, second = (kernel(readers[1], layer, 'value') for layer in (0, 1))
  assert np.abs(first - second).max() > 0.1


def test_the_head_begins_as_the_identity(readers):
  dense = np.asarray(readers[1]['mlm_head']['dense']['kernel'])
  np.testing.assert_allclose(dense, np.eye(SIZE), atol=0.1)


def test_neighbouring_positions_are_alike(readers):
  position = np.asarray(readers[1]['encoder']['embeddings']['position'])
  assert position.shape == (ENCODER.max_positions, SIZE)
  assert np.abs(position).max() <= ENCODER.initializer_range * 1.001
  product = position @ position.T
  near = np.diagonal(product, 1).mean()
  far = np.diagonal(product, 20).mean()
  assert np.diagonal(product).mean() > near > far
  assert len(np.unique(position.round(6), axis=0)) == len(position)


def test_nothing_else_is_changed_in_shape_or_value(readers):
  before, after = readers
  changed = set()
  leaves = jax.tree_util.tree_leaves_with_path(before)
  for (path, old), new in zip(leaves, jax.tree.leaves(after), strict=True):
    assert old.shape == new.shape
    assert old.dtype == new.dtype
    if (old != new).any():
      changed.add(jax.tree_util.keystr(path, simple=True, separator='/'))
  assert changed == {
    'encoder/embeddings/position',
    'mlm_head/dense/kernel',
    *(
      f'encoder/layers_{layer}/attention/{name}/kernel'
      for layer in (0, 1)
      for name in ('value', 'output')
    ),
  }
  assert jax.tree.structure(before) == jax.tree.structure(after)


def test_an_odd_size_has_sinusoids_too():
  from realm_jax.models.copying_init import _sinusoids

  waves = _sinusoids(4, 5)
  assert waves.shape == (4, 5)
  np.testing.assert_allclose(waves[0], [0, 0, 0, 1, 1], atol=1e-6)
  np.testing.assert_allclose(
    waves[1, [0, 3]], [np.sin(1), np.cos(1)], rtol=1e-5
  )
  assert waves.dtype == jnp.float32
