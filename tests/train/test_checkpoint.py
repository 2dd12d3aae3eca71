import jax.numpy as jnp
import numpy as np
import optax
import pytest

from realm_jax.train.checkpoint import Checkpoints, load_params, save_params
from realm_jax.train.state import TrainState, create_state

PARAMS = {
  'reader': {'kernel': jnp.arange(6.0).reshape(2, 3)},
  'embedder': {'bias': jnp.array([0.5, -1e-38, 3e38])},
}


@pytest.fixture
def state():
  return create_state(PARAMS, optax.adam(0.1))


def at_step(state: TrainState, step: int) -> TrainState:
  params = {**state.params, 'embedder': {'bias': jnp.full(3, float(step))}}
  return state._replace(step=jnp.int32(step), params=params)


def test_what_is_saved_is_restored(tmp_path, state):
  saved = at_step(state, 7)
  host = {'data': {'position': 3, 'seeds': [1, 2]}, 'index_step': 4}
  Checkpoints(tmp_path).save(saved, host)
  restored, restored_host = Checkpoints(tmp_path).restore(state)
  assert restored_host == host
  assert isinstance(restored, TrainState)
  assert int(restored.step) == 7
  assert type(restored.opt_state) is type(saved.opt_state)
  for part, name in (('reader', 'kernel'), ('embedder', 'bias')):
    actual = restored.params[part][name]
    np.testing.assert_array_equal(actual, saved.params[part][name])
    assert actual.dtype == jnp.float32


def test_the_newest_are_kept(tmp_path, state):
  checkpoints = Checkpoints(tmp_path, keep=2)
  assert checkpoints.latest_step() is None
  assert checkpoints.oldest_host() is None
  for step in (0, 3, 5):
    checkpoints.save(at_step(state, step), {'index_step': step})
  assert checkpoints.latest_step() == 5
  assert checkpoints.oldest_host() == {'index_step': 3}
  checkpoints.close()


def test_an_unfinished_checkpoint_is_not_there(tmp_path, state, monkeypatch):
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(at_step(state, 1), {'n': 1})
  # what a kill in the middle of the next one leaves
  whole = tmp_path / '1'
  partial = tmp_path / '2.orbax-checkpoint-tmp'
  partial.mkdir()
  (partial / 'state').mkdir()
  reopened = Checkpoints(tmp_path)
  assert whole.is_dir()
  assert reopened.latest_step() == 1
  reopened.save(at_step(state, 2), {'n': 2})
  assert Checkpoints(tmp_path).restore(state)[1] == {'n': 2}


def test_parameters_alone_are_kept(tmp_path):
  save_params(tmp_path / 'params', PARAMS)
  save_params(tmp_path / 'params', PARAMS)  # again, after a kill
  loaded = load_params(tmp_path / 'params', PARAMS)
  np.testing.assert_array_equal(
    loaded['reader']['kernel'], PARAMS['reader']['kernel']
  )
