"""Parameters of this library as Hugging Face's REALM models."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file

from realm_jax.checkpoints.hf_names import (
  CONFIG_FILE,
  OWN_CONFIG,
  OWN_PART,
  VOCAB_FILE,
  in_span_head,
  part_sources,
  their_shape,
)
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


def write_hf_realm(
  out: str | Path, config: RealmConfig, params: Any, wordpiece: WordPiece
) -> list[Path]:
  """Writes the parts of a model as folders that transformers loads.

  `embedder` for RealmEmbedder (or `query_embedder` and `document_embedder`),
  `encoder` for RealmKnowledgeAugEncoder and `reader` for RealmReader; the
  latter two have the same transformer. Weights that a class has but never uses
  are written as zeros.

  Args:
    out: folder to write them to.
    config: of the model.
    params: its parameters.
    wordpiece: its vocabulary.

  Returns:
    The folders.
  """
  if config.embedder_layer_norm_epsilon != config.encoder.layer_norm_epsilon:
    _logger.warning(
      'RealmConfig.embedder_layer_norm_epsilon is %g, but transformers will '
      "use the encoder's, %g: embeddings will differ a little.",
      config.embedder_layer_norm_epsilon,
      config.encoder.layer_norm_epsilon,
    )
  written = []
  for name, (architecture, part) in _EXPORTS.items():
    if part not in params:
      continue
    folder = make_folder(Path(out) / name)
    tensors = _tensors(config, part, params[part], architecture)
    save_file(tensors, folder / 'model.safetensors', {'format': 'pt'})
    wordpiece.save(folder / VOCAB_FILE)
    theirs = _their_config(config, architecture) | {OWN_PART: name}
    write_json(folder / CONFIG_FILE, theirs)
    written.append(folder)
  return written


def _tensors(
  config: RealmConfig, part: str, tree: Any, architecture: str
) -> dict[str, np.ndarray]:
  """key -> tensor of one of their classes."""
  sources = part_sources(part, config.encoder.num_layers)
  tensors = {}
  for path, value in jax.tree_util.tree_leaves_with_path(tree):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
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


def _their_config(config: RealmConfig, architecture: str) -> dict[str, Any]:
  encoder = config.encoder
  return {
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
