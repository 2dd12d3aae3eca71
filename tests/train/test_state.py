"""The state of training."""

import functools

import jax
import jax.numpy as jnp
import optax

from realm_jax.train.state import apply_gradients, create_state


def test_steps_from_restored_parameters_compile_once():
  """Restored parameters are committed to a device; new counters are not."""
  params = jax.device_put({'weight': jnp.ones(3)}, jax.devices()[0])
  optimizer = optax.adam(0.1)
  step = jax.jit(
    functools.partial(apply_gradients, optimizer=optimizer), donate_argnums=0
  )
  state = create_state(params, optimizer)
  for _ in range(3):
    state = step(state, {'weight': jnp.ones(3)})
  assert int(state.step) == 3
  assert step._cache_size() == 1
