"""Names of the parameters in the original programs.

`Source.key` speaks of Hugging Face's REALM; checkpoints.tf_checkpoint says
which variables of TensorFlow these are.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from realm_jax.checkpoints.bert_names import Source
from realm_jax.checkpoints.hf_names import part_sources


def sources(tree: Any, part: str) -> dict[str, Source]:
  """Path of each parameter of a part -> where the originals have it.

  Args:
    tree: the part's parameters, for the number of its layers.
    part: 'embedder' or 'reader'.
  """
  layers = [name for name in tree['encoder'] if name.startswith('layers_')]
  return part_sources(part, len(layers))


def fill(tree: Any, part: str, read: Callable[[Source], Any]) -> Any:
  """The tree of a part of the model, with arrays from elsewhere.

  Args:
    tree: its parameters, for paths and shapes.
    part: 'embedder' or 'reader'.
    read: source -> array in this library's layout, or None, where the original
      has none, for zeros.
  """

  known = sources(tree, part)

  def leaf(path, own):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    value = read(known[name])
    if value is None:
      return np.zeros(own.shape)
    return np.reshape(value, own.shape)

  return jax.tree_util.tree_map_with_path(leaf, tree)


def assert_trees_close(
  actual: Any, expected: Any, relative: float, noise: float = 0.1
) -> float:
  """Compares trees, each array relative to its largest entry.

  Args:
    actual: ours.
    expected: theirs.
    relative: largest deviation of an entry, to the largest of its array.
    noise: added to the largest entry: some arrays are zero in theory.

  Returns:
    The largest relative deviation.
  """
  worst = 0.0
  wanted = jax.tree_util.tree_leaves_with_path(expected)
  found = jax.tree.leaves(actual)
  for (path, want), have in zip(wanted, found, strict=True):
    scale = np.abs(want).max()
    deviation = np.abs(np.asarray(have, np.float64) - want).max()
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    assert deviation <= relative * (scale + noise), (
      f'{name}: off by {deviation} at scale {scale}'
    )
    worst = max(worst, deviation / max(scale, noise))
  return worst
