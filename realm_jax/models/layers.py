"""Layers that Flax has too, made for where these models spend their time."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from realm_jax.types import Array


def at_least_float32(array: Array) -> Array:
  """The array in float32, or as it is where it is more precise."""
  array = jnp.asarray(array)
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

  def __call__(self, inputs: Array, deterministic: bool) -> Array:
    """[...] -> [...]; with deterministic, as it is. Reads rng 'dropout'."""
    return self.apply_to(inputs, self.draw(inputs.shape, deterministic))

  def draw(self, shape: tuple[int, ...], deterministic: bool) -> Array | None:
    """What to keep of an array of this shape, bool; None: all of it."""
    if deterministic or self._num_kept == 256:
      return None
    *leading, last = shape
    words = jax.random.bits(
      self.make_rng('dropout'), (*leading, -(-last // 4)), jnp.uint32
    )
    draws = jax.lax.bitcast_convert_type(words, jnp.uint8)
    return draws.reshape(*leading, -1)[..., :last] < self._num_kept

  def apply_to(self, inputs: Array, kept: Array | None) -> Array:
    """The array without what is not kept; the rest is scaled."""
    if kept is None:
      return inputs
    scale = jnp.array(256 / max(1, self._num_kept), inputs.dtype)
    return jnp.where(kept, inputs * scale, 0)

  @property
  def _num_kept(self) -> int:
    """Of each 256 entries."""
    return round((1 - self.rate) * 256)
