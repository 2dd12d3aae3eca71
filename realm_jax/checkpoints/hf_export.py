"""Parameters of this library as Hugging Face's REALM models."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors.numpy import save_file

from realm_jax.checkpoints.filling import name_of
from realm_jax.checkpoints.hf_names import (
  OWN_CONFIG,
  OWN_PART,
  OWN_UNTRAINED,
  in_span_head,
  part_sources,
  their_shape,
)
from realm_jax.checkpoints.model_folder import CONFIG_FILE, VOCAB_FILE
from realm_jax.data.examples import Lengths
from realm_jax.data.wordpiece import WordPiece
from realm_jax.folders import make_folder, write_json
from realm_jax.models.realm import RealmConfig

_logger = logging.getLogger(__name__)

# Name of a folder -> class, part of the model in it.
_EXPORTS = {
  'embedder': ('RealmEmbedder', 'embedder'),
  'query_embedder': ('RealmEmbedder', 'query_embedder'),
  'document_embedder': ('RealmEmbedder', 'document_embedder'),
  'encoder': ('RealmKnowledgeAugEncoder', 'reader'),
  'reader': ('RealmReader', 'reader'),
}


class Exported(NamedTuple):
  """What was written.

  Attributes:
    folders: the folders.
    left_out: names of those that would hold what was never trained.
  """

  folders: list[Path]
  left_out: list[str]


def write_hf_realm(
  out: str | Path,
  config: RealmConfig,
  params: Any,
  wordpiece: WordPiece,
  untrained: Sequence[str] = (),
  lengths: Lengths | None = None,
) -> Exported:
  """Writes the parts of a model as folders that transformers loads.

  `embedder` for RealmEmbedder (or `query_embedder` and `document_embedder`),
  `encoder` for RealmKnowledgeAugEncoder and `reader` for RealmReader; the
  latter two have the same transformer. Weights that a class has but never uses
  are written as zeros.

  A folder of which nothing was trained is left out, and `reader` without a
  trained span head. Other parameters that never were, are named in config.json,
  and what imports the folder here knows them by that.

  Args:
    out: folder to write them to.
    config: of the model.
    params: its parameters.
    wordpiece: its vocabulary.
    untrained: parts, and paths of parameters and of their groups, that were
      never trained, such as 'reader/span_head'.
    lengths: sequence lengths to read with; None for transformers' own.
  """
  if config.embedder_layer_norm_epsilon != config.encoder.layer_norm_epsilon:
    _logger.warning(
      'RealmConfig.embedder_layer_norm_epsilon is %g, but transformers will '
      "use the encoder's, %g: embeddings will differ a little.",
      config.embedder_layer_norm_epsilon,
      config.encoder.layer_norm_epsilon,
    )
  exported = Exported([], [])
  for name, (architecture, part) in _EXPORTS.items():
    if part not in params:
      continue
    paths = _paths(params[part], architecture)
    new = [p for p in paths if _is_below(f'{part}/{p}', untrained)]
    if new == paths or any(in_span_head(path) for path in new):
      exported.left_out.append(name)
      continue
    folder = make_folder(Path(out) / name)
    tensors = _tensors(config, part, params[part], architecture)
    save_file(tensors, folder / 'model.safetensors', {'format': 'pt'})
    wordpiece.save(folder / VOCAB_FILE)
    theirs = _their_config(config, architecture, lengths)
    write_json(
      folder / CONFIG_FILE, {**theirs, OWN_PART: name, OWN_UNTRAINED: new}
    )
    exported.folders.append(folder)
  return exported


def _paths(tree: Any, architecture: str) -> list[str]:
  """The parameters of a part that one of their classes has."""
  paths = [
    name_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)
  ]
  with_head = architecture == 'RealmReader'
  return [path for path in paths if with_head or not in_span_head(path)]


def _is_below(path: str, names: Sequence[str]) -> bool:
  return any(path == name or path.startswith(f'{name}/') for name in names)


def _tensors(
  config: RealmConfig, part: str, tree: Any, architecture: str
) -> dict[str, np.ndarray]:
  """key -> tensor of one of their classes."""
  sources = part_sources(part, config.encoder.num_layers)
  tensors = {}
  for path, value in jax.tree_util.tree_leaves_with_path(tree):
    name = name_of(path)
    if in_span_head(name) and architecture != 'RealmReader':
      continue
    source = sources[name]
    array = np.asarray(value, np.float32)
    array = array.T if source.transposed else array
    tensors[source.key] = np.ascontiguousarray(
      array.reshape(their_shape(source, value.shape))
    )
  words = tensors['realm.embeddings.word_embeddings.weight']
  vocab_size, hidden_size = words.shape
  idle: dict[str, tuple[int, ...]] = {}
  if part == 'reader':
    idle['realm.pooler.dense.weight'] = (hidden_size, hidden_size)
    idle['realm.pooler.dense.bias'] = (hidden_size,)
  else:
    transform = 'cls.predictions.transform'
    idle['cls.predictions.bias'] = (vocab_size,)
    idle[f'{transform}.dense.weight'] = (hidden_size, hidden_size)
    for layer in ('dense.bias', 'LayerNorm.weight', 'LayerNorm.bias'):
      idle[f'{transform}.{layer}'] = (hidden_size,)
  if architecture != 'RealmKnowledgeAugEncoder':  # there it is tied
    idle['cls.predictions.decoder.weight'] = (vocab_size, hidden_size)
  return tensors | {key: np.zeros(s, np.float32) for key, s in idle.items()}


def _their_config(
  config: RealmConfig, architecture: str, lengths: Lengths | None
) -> dict[str, Any]:
  encoder = config.encoder
  sequences = {}
  if lengths is not None:
    sequences = {
      'searcher_seq_len': lengths.query_len,
      'reader_seq_len': lengths.joint_len,
    }
  return {
    **sequences,
    'model_type': 'realm',
    'architectures': [architecture],
    'vocab_size': encoder.vocab_size,
    'hidden_size': encoder.hidden_size,
    'retriever_proj_size': config.embed_dim,
    'num_hidden_layers': encoder.num_layers,
    'num_attention_heads': encoder.num_heads,
    'intermediate_size': encoder.feed_forward_size,
    'hidden_act': 'gelu_new' if encoder.gelu == 'tanh' else 'gelu',
    'hidden_dropout_prob': encoder.dropout_rate,
    'attention_probs_dropout_prob': encoder.attention_dropout_rate,
    'max_position_embeddings': encoder.max_positions,
    'type_vocab_size': encoder.num_segments,
    'initializer_range': encoder.initializer_range,
    'layer_norm_eps': encoder.layer_norm_epsilon,
    'span_hidden_size': config.span_hidden_size,
    'max_span_width': config.max_span_width,
    'reader_layer_norm_eps': config.span_layer_norm_epsilon,
    # its row gets no gradient there; [PAD] of most vocabularies
    'pad_token_id': 0,
    OWN_CONFIG: dataclasses.asdict(config),
  }
