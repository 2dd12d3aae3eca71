"""Parameters and gradients by the path they are used on.

A shared embedder stands on two paths, that of the queries and that of the
documents. Differentiated by each apart, one backward pass gives both gradients,
and their sum is the embedder's.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from realm_jax.types import Array

# Of an embedder, what comes after its transformer.
_PROJECTIONS = ('pooler', 'projection', 'layer_norm')


class Towers(NamedTuple):
  """Trees like the top level of the parameters, one for each path.

  Attributes:
    query_tower: {name of the queries' embedder: its tree}.
    document_tower: {name of the documents' embedder: its tree}; the same name
      and arrays where it is shared.
    reader: {'reader': its tree}.
  """

  query_tower: dict[str, Any]
  document_tower: dict[str, Any]
  reader: dict[str, Any]


def split_towers(params: Any) -> Towers:
  """A tree of parameters, or of anything like them, by path."""
  shared = 'embedder' in params
  names = (
    'embedder' if shared else 'query_embedder',
    'embedder' if shared else 'document_embedder',
    'reader',
  )
  return Towers(*({name: params[name]} for name in names))


def join_towers(grads: Towers) -> dict[str, Any]:
  """Gradients by path -> gradients of the parameters."""
  joined = dict(grads.query_tower)
  for name, tree in (*grads.document_tower.items(), *grads.reader.items()):
    joined[name] = (
      jax.tree.map(jnp.add, joined[name], tree) if name in joined else tree
    )
  return joined


def gradient_norms(grads: Towers) -> dict[str, Array]:
  """Global norms: of each path, of the projections, of the whole gradient.

  Args:
    grads: by path.

  Returns:
    'gradient_norm/query_tower', '.../document_tower', '.../reader': of the
    gradient along each path; '.../projections': of pooler, projection and layer
    norm of the embedders, both paths summed; 'gradient_norm': of everything.
    float32 scalars. Where the embedder is shared the towers' squares do not add
    up to the whole: their gradients are parts of one.
  """
  joined = join_towers(grads)
  projections = [
    tree[part]
    for name, tree in joined.items()
    if name != 'reader'
    for part in _PROJECTIONS
  ]
  parts = {**grads._asdict(), 'projections': projections}
  norms = {
    f'gradient_norm/{name}': optax.tree.norm(tree)
    for name, tree in parts.items()
  }
  return {**norms, 'gradient_norm': optax.tree.norm(joined)}
