"""What a training step reads and returns."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

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
  params: Any, optimizer: optax.GradientTransformation
) -> TrainState:
  """The state before the first step.

  All arrays are copies, each its own: steps donate them, and an optimizer may
  begin with one array of zeros in two places.
  """
  state = TrainState(jnp.int32(0), params, optimizer.init(params))
  return jax.tree.map(jnp.copy, state)


def apply_gradients(
  state: TrainState, grads: Any, optimizer: optax.GradientTransformation
) -> TrainState:
  """One update."""
  updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  return TrainState(state.step + 1, params, opt_state)
