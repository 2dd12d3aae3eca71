"""What a training step reads and returns."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from realm_jax.sharding import Layout
from realm_jax.types import Array


class TrainState(NamedTuple):
  """Everything that a step changes. The index is never part of it.

  Attributes:
    step: scalar int32; updates done.
    params: parameters of the model.
    opt_state: of the optimizer.
  """

  step: Array
  params: Any
  opt_state: Any


def create_state(
  params: Any,
  optimizer: optax.GradientTransformation,
  layout: Layout | None = None,
) -> TrainState:
  """The state before the first step.

  All arrays are copies, each its own: steps donate them, and an optimizer may
  begin with one array of zeros in two places.

  Args:
    params: of the model.
    optimizer: whose state goes with them.
    layout: spreads the state over a mesh; None for one device.
  """
  if layout is not None:
    create = jax.jit(
      functools.partial(_new_state, optimizer=optimizer),
      out_shardings=state_shardings(layout, optimizer),
    )
    return create(layout.place_params(params))
  # Restored parameters are committed to their device, and so is all that a step
  # returns: with a state that is not, the second step would be compiled anew.
  return jax.device_put(_new_state(params, optimizer), jax.local_devices()[0])


def _new_state(
  params: Any, optimizer: optax.GradientTransformation
) -> TrainState:
  state = TrainState(jnp.int32(0), params, optimizer.init(params))
  return jax.tree.map(jnp.copy, state)


def state_shardings(
  layout: Layout, optimizer: optax.GradientTransformation
) -> TrainState:
  """Where each array of create_state lies on a mesh."""
  state = jax.eval_shape(
    lambda params: _new_state(params, optimizer), layout.param_shapes
  )
  return layout.like_params(state)


def apply_gradients(
  state: TrainState, grads: Any, optimizer: optax.GradientTransformation
) -> TrainState:
  """One update."""
  updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  return TrainState(state.step + 1, params, opt_state)
