"""Layers that Flax has too, made for where these models spend their time."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from realm_jax.types import Array


def at_least_float32(array: Array) -> Array:
  """The array in float32, or as it is where it is more precise."""
  return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def lowest_if_none(bias: float | None, dtype: jnp.dtype) -> Array:
  """A scalar bias for what is masked; for None the most negative finite one."""
  return jnp.array(jnp.finfo(dtype).min if bias is None else bias, dtype)


def weight_init(initializer, *axes: str):
  """An initializer whose parameter carries the names of its axes."""
  return nn.with_logical_partitioning(initializer, axes)


class Dense(nn.Dense):
  """A dense layer that sees one long row of vectors.

  Of three dimensions, XLA's CPU backend takes twice as long for the gradient of
  the kernel.
  """

  def __call__(self, inputs: Array) -> Array:
    """[..., in_features] -> [..., features]."""
    outputs = super().__call__(inputs.reshape(-1, inputs.shape[-1]))
    return outputs.reshape(*inputs.shape[:-1], self.features)


class Dropout(nn.Module):
  """Dropout with four draws from each 32 random bits.

  Random numbers are most of dropout's cost on a CPU. The rate is rounded to a
  multiple of 1/256; what is kept is scaled by the rate as it really is.

  Attributes:
    rate: share of entries set to zero; at 0 nothing is drawn.
  """

  rate: float

  @nn.compact
  def __call__(self, inputs: Array, deterministic: bool) -> Array:
    """[...] -> [...]; with deterministic, as it is. Reads rng 'dropout'."""
    num_kept = round((1 - self.rate) * 256)
    if deterministic or num_kept == 256:
      return inputs
    *leading, last = inputs.shape
    words = jax.random.bits(
      self.make_rng('dropout'), (*leading, -(-last // 4)), jnp.uint32
    )
    draws = jax.lax.bitcast_convert_type(words, jnp.uint8)
    draws = draws.reshape(*leading, -1)[..., :last]
    scale = jnp.array(256 / max(1, num_kept), inputs.dtype)
    return jnp.where(draws < num_kept, inputs * scale, 0)
