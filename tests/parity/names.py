"""Names of the parameters in the original programs.

`Source.key` speaks of Hugging Face's BERT; its REALM says 'realm.' before what
belongs to the transformer. TensorFlow's names follow from those by rule.
"""

import re
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

# Scopes of TensorFlow's heads, where ICT's and ORQA's programs made them.
_TF_HEADS = {
  'cls.dense': 'dense',
  'cls.LayerNorm': 'layer_normalization',
  'qa_outputs.dense_intermediate': 'dense',
  'qa_outputs.layer_normalization': 'layer_normalization',
  'qa_outputs.dense_output': 'dense_1',
}


def tf_name(source: Source, bert_scope: str, head_scope: str) -> str:
  """The TensorFlow variable that Hugging Face's `source` was made from.

  Args:
    source: where Hugging Face has it.
    bert_scope: what stands before 'bert/' and 'cls/'.
    head_scope: what stands before the projection or the span head.
  """
  layer, leaf = source.key.rsplit('.', 1)
  if layer == 'cls.predictions':
    return f'{bert_scope}cls/predictions/output_bias'
  if layer in _TF_HEADS:
    path = head_scope + _TF_HEADS[layer]
  else:
    path = re.sub(r'layer\.(\d+)', r'layer_\1', layer)
    path = bert_scope + path.replace('realm.', 'bert.').replace('.', '/')
  if path.endswith('_embeddings'):
    return path
  if path.endswith(('LayerNorm', 'layer_normalization')):
    return path + {'weight': '/gamma', 'bias': '/beta'}[leaf]
  return path + {'weight': '/kernel', 'bias': '/bias'}[leaf]


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
