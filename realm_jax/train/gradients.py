"""The gradient of a batch, all at once or part by part (accumulation)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from realm_jax.sharding import DATA, Layout
from realm_jax.train.towers import Towers, split_towers
from realm_jax.types import Array

# loss(towers, batch, rng) -> (loss, what else is kept of the batch)
LossFn = Callable[[Towers, Any, Array], tuple[Array, Any]]


def make_gradient(
  loss_fn: LossFn,
  layout: Layout | None = None,
  num_microbatches: int = 1,
  count: Callable[[Any], Array] | None = None,
  by_tower: bool = True,
) -> Callable[[Any, Any, Array], tuple[Any, Any]]:
  """Makes gradient(params, batch, rng) -> (gradient, what loss_fn keeps).

  In parts, one of which is in memory at a time, the gradient is
    sum_parts count(part) / count(batch) * grad loss_fn(part),
  that of the whole batch but for rounding and dropout: each part draws its own.

  Args:
    loss_fn: a mean over the batch, and what is kept of it.
    layout: of the parameters over a mesh: they are gathered here, and their
      gradients lie as they do. None for one device.
    num_microbatches: parts that are run one after the other, of as many rows
      each. What loss_fn keeps must then have a row for each of the batch's.
    count: of a batch or of a part, the terms that loss_fn is the mean of;
      needed for parts.
    by_tower: give the gradient as Towers; else as a tree like the parameters.
  """
  arrange = split_towers if by_tower else lambda params: params

  def loss(params: Any, batch: Any, rng: Array) -> tuple[Array, Any]:
    return loss_fn(params if by_tower else split_towers(params), batch, rng)

  def gradient(loss: LossFn, params: Any, batch: Any, rng: Array) -> Any:
    grads, kept = jax.grad(loss, has_aux=True)(params, batch, rng)
    return _as_kept(grads), kept

  def _as_kept(tree: Any) -> Any:
    if layout is None:
      return tree
    return jax.lax.with_sharding_constraint(tree, arrange(layout.params))

  def accumulated(params: Any, batch: Any, rng: Array) -> Any:
    assert count is not None
    parts, with_rows = _split(batch, num_microbatches, layout)
    total = jnp.maximum(count(batch), 1)

    def share_of_loss(params: Any, part: Any, rng: Array) -> Any:
      value, kept = loss(params, part, rng)
      return value * (count(part) / total), kept

    def add(grads: Any, numbered: tuple[Array, list[Array]]) -> Any:
      number, rows = numbered
      more, kept = gradient(
        share_of_loss, params, with_rows(rows), jax.random.fold_in(rng, number)
      )
      return jax.tree.map(jnp.add, grads, more), kept

    nothing = _as_kept(jax.tree.map(jnp.zeros_like, params))
    numbers = jnp.arange(num_microbatches)
    grads, kept = jax.lax.scan(add, nothing, (numbers, parts))
    return grads, jax.tree.map(_join_rows, kept)

  def call(params: Any, batch: Any, rng: Array) -> tuple[Any, Any]:
    used = arrange(params if layout is None else layout.gather(params))
    if num_microbatches == 1:
      return gradient(loss, used, batch, rng)
    return accumulated(used, batch, rng)

  return call


def _split(
  batch: Any, num_microbatches: int, layout: Layout | None
) -> tuple[list[Array], Callable[[list[Array]], Any]]:
  """The rows of a batch in parts; what has other rows belongs to every part.

  Returns:
    Arrays [num_microbatches, rows / num_microbatches, ...], and a function that
    makes a batch of one part of each.
  """
  leaves, structure = jax.tree.flatten(batch)
  num_rows = len(leaves[0])
  has_rows = [jnp.ndim(leaf) > 0 and len(leaf) == num_rows for leaf in leaves]

  def with_rows(rows: list[Array]) -> Any:
    remaining = iter(rows)
    return jax.tree.unflatten(
      structure,
      [
        next(remaining) if own else leaf
        for leaf, own in zip(leaves, has_rows, strict=True)
      ],
    )

  parts = [
    _split_rows(leaf, num_microbatches, layout)
    for leaf, own in zip(leaves, has_rows, strict=True)
    if own
  ]
  return parts, with_rows


def _split_rows(
  array: Array, num_microbatches: int, layout: Layout | None
) -> Array:
  """Of n parts, part i has the rows i, i + n, i + 2n, ...

  So that on a mesh every device splits the rows that it has.
  """
  rows = jnp.reshape(array, (-1, num_microbatches, *array.shape[1:]))
  parts = rows.swapaxes(0, 1)
  if layout is None:
    return parts
  spread = NamedSharding(layout.mesh, P(None, DATA))
  return jax.lax.with_sharding_constraint(parts, spread)


def _join_rows(parts: Array) -> Array:
  """Undoes _split_rows."""
  rows = parts.swapaxes(0, 1)
  return rows.reshape(-1, *parts.shape[2:])
