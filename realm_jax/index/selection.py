"""The k largest of long rows, by maxima of groups of neighbours.

lax.top_k over a long row is slow, and on a GPU may sort all of it.
"""

import jax
import jax.numpy as jnp

from realm_jax.types import Array

# With fewer groups than this for each of k, selecting twice gains nothing.
_MIN_GROUPS_PER_K = 8


def top_k_by_groups(
  values: Array, k: int, group_size: int, live: Array | None = None
) -> tuple[jax.Array, jax.Array]:
  """lax.top_k over long rows: selects among maxima of groups first.

  Args:
    values: [batch, length] float.
    k: at most length.
    group_size: neighbours of which one maximum is looked at.
    live: [length] bool; values where it is false count as -inf. None for all.

  Returns:
    [batch, k] values and int32 positions; ties to the lower position. Where
    fewer than k values are above -inf, positions may lie at or beyond length.
  """
  batch, length = values.shape
  num_groups = -(-length // group_size)
  if k > num_groups // _MIN_GROUPS_PER_K:
    return jax.lax.top_k(masked(values, live, slice(None)), k)
  # Mask and padding become part of the maximum: no value is written anew.
  padding = ((0, 0), (0, num_groups * group_size - length))
  maxima = (
    jnp.pad(
      masked(values, live, slice(None)), padding, constant_values=-jnp.inf
    )
    .reshape(batch, num_groups, group_size)
    .max(axis=2)
  )
  _, groups = jax.lax.top_k(maxima, k)
  # Ascending, so that ties go to the lower position. [batch, k * group_size]
  positions = (
    jnp.sort(groups, axis=1)[:, :, None] * group_size
    + jnp.arange(group_size)[None, None]
  ).reshape(batch, -1)
  inside = jnp.minimum(positions, length - 1)
  chosen = masked(jnp.take_along_axis(values, inside, axis=1), live, inside)
  chosen = jnp.where(positions < length, chosen, -jnp.inf)
  best_values, places = jax.lax.top_k(chosen, k)
  return best_values, jnp.take_along_axis(positions, places, axis=1)


def masked(
  values: Array, live: Array | None, positions: Array | slice
) -> jax.Array:
  """Values, [batch, n], -inf where a position is not live."""
  if live is None:
    return values
  mask = live[positions]
  return jnp.where(mask if mask.ndim == 2 else mask[None], values, -jnp.inf)
