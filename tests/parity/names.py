"""Names of the parameters in the original programs.

`Source.key` speaks of Hugging Face's REALM; checkpoints.tf_checkpoint says
which variables of TensorFlow these are.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from realm_jax.checkpoints.hf_names import part_sources
from realm_jax.models.bert_weights import Source

NUM_LAYERS = 12  # enough for any fixture: names of layers that are not there
# are never asked for

SOURCES = {
  part: part_sources(part, NUM_LAYERS) for part in ('embedder', 'reader')
}


def fill(tree: Any, part: str, read: Callable[[Source], Any]) -> Any:
  """The tree of a part of the model, with arrays from elsewhere.

  Args:
    tree: its parameters, for paths and shapes.
    part: 'embedder' or 'reader'.
    read: source -> array in this library's layout, or None, where the original
      has none, for zeros.
  """

  def leaf(path, own):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    value = read(SOURCES[part][name])
    if value is None:
      return np.zeros(own.shape)
    return np.reshape(value, own.shape)

  return jax.tree_util.tree_map_with_path(leaf, tree)


def assert_trees_close(actual: Any, expected: Any, relative: float) -> float:
  """Compares gradients, each relative to its tensor's largest entry.

  Returns:
    The largest relative deviation.
  """
  worst = 0.0
  wanted = jax.tree_util.tree_leaves_with_path(expected)
  found = jax.tree.leaves(actual)
  for (path, want), have in zip(wanted, found, strict=True):
    scale = np.abs(want).max()
    deviation = np.abs(np.asarray(have, np.float64) - want).max()
    limit = relative * scale + relative / 10
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    assert deviation <= limit, f'{name}: off by {deviation} at scale {scale}'
    worst = max(worst, deviation / max(scale, 0.1))
  return worst
