"""Hugging Face's REALM models as parameters of this library.

The transformers library (until 4.40) has RealmEmbedder, RealmScorer,
RealmKnowledgeAugEncoder, RealmReader and RealmForOpenQA. What a folder holds is
told by its keys; several folders together make one model.
"""

import dataclasses
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from realm_jax.checkpoints.hf_names import (
  CONFIG_FILE,
  OWN_CONFIG,
  OWN_PART,
  VOCAB_FILE,
  in_span_head,
  part_sources,
  their_shape,
)
from realm_jax.checkpoints.tensor_files import TensorFiles
from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError
from realm_jax.folders import read_json
from realm_jax.models.bert_weights import Source
from realm_jax.models.encoder import EncoderConfig
from realm_jax.models.realm import RealmConfig, init_params

_logger = logging.getLogger(__name__)

_MAX_LISTED = 8
# Keys that stand for nothing: copies of other tensors, and, in embedder and
# reader, what their classes have but never use.
_IDLE = re.compile(
  r'(^|\.)(embeddings\.position_ids|cls\.predictions\.decoder\.(weight|bias))$'
)
_IDLE_IN = {
  'embedder': re.compile(r'^cls\.predictions\.'),
  'reader': re.compile(r'^realm\.pooler\.'),
}


class _Part(NamedTuple):
  """A part of the model that a folder has.

  Attributes:
    name: 'embedder', 'query_embedder', 'document_embedder' or 'reader'.
    prefix: what stands before its keys there.
  """

  name: str
  prefix: str


def _parts_of(keys: Sequence[str]) -> list[_Part]:
  """What the keys of a folder tell of its class; empty if it is none."""

  def has(prefix: str, layer: str) -> bool:
    return any(key.startswith(prefix + layer) for key in keys)

  parts = []
  if has('embedder.', 'cls.dense.'):
    if has('query_embedder.', 'cls.dense.'):
      parts += [
        _Part('document_embedder', 'embedder.'),
        _Part('query_embedder', 'query_embedder.'),
      ]
    else:
      parts.append(_Part('embedder', 'embedder.'))
  if has('reader.', 'realm.'):
    parts.append(_Part('reader', 'reader.'))
  if not parts and has('', 'realm.'):
    is_embedder = has('', 'cls.dense.')
    parts.append(_Part('embedder' if is_embedder else 'reader', ''))
  return parts


def read_hf_realm(
  folders: Sequence[str | Path], seed: int = 0
) -> tuple[RealmConfig, Any, WordPiece]:
  """A model from the folders of Hugging Face REALM models.

  Parts that no folder has are made anew, and the log names them.

  Args:
    folders: each with config.json, vocab.txt, and safetensors or
      pytorch_model.bin.
    seed: of what is made anew.

  Returns:
    (config, params, wordpiece): params float32, as init_params makes them.

  Raises:
    FileNotFoundError: a folder or a file of it is missing.
    UserError: folders do not fit together; tensors are missing, unexpected or
      of another shape, all of them named.
  """
  opened = [TensorFiles(folder) for folder in folders]
  found: dict[str, tuple[TensorFiles, str]] = {}
  for files in opened:
    parts = _parts_of(files.names())
    if not parts:
      raise UserError(
        f'{files.folder} has no REALM model in it: expected keys such as '
        f'realm.encoder.layer.0..., found {files.names()[:3]}.'
      )
    for name, prefix in parts:
      if prefix == '' and name == 'embedder':
        name = _config_json(files.folder).get(OWN_PART, name)
      part = files, prefix
      if name == 'reader' and name in found:
        part = _with_span_head(found.pop(name), part)
      if name in found:
        raise UserError(
          f'{files.folder} and {found[name][0].folder} both hold the {name}: '
          'expected each part once.'
        )
      found[name] = part
  config = _one_config([files.folder for files in opened])
  if found.keys() >= {'query_embedder', 'document_embedder'}:
    if _same_tensors(found['query_embedder'], found['document_embedder']):
      found['embedder'] = found.pop('document_embedder')
      del found['query_embedder']
  else:
    for name in ('query_embedder', 'document_embedder'):
      if name in found:  # of one alone: it serves for both
        found['embedder'] = found.pop(name)
  config = dataclasses.replace(
    config, share_embedders='query_embedder' not in found
  )
  params = init_params(config, jax.random.key(seed))
  filled = _fill(params, found, config.encoder.num_layers)
  return config, filled, _one_vocabulary([files.folder for files in opened])


def _with_span_head(
  one: tuple[TensorFiles, str], other: tuple[TensorFiles, str]
) -> tuple[TensorFiles, str]:
  """Of an encoder and a reader of the same weights, the reader."""
  with_head = [
    part
    for part in (one, other)
    if f'{part[1]}qa_outputs.dense_output.weight' in part[0]
  ]
  if len(with_head) == 1:
    (reader,) = with_head
    if _same_tensors(other if reader is one else one, reader):
      return reader
  raise UserError(
    f'{one[0].folder} and {other[0].folder} both hold a reader, and not the '
    'same: expected one, or an encoder and a reader of the same weights.'
  )


def _same_tensors(
  one: tuple[TensorFiles, str], other: tuple[TensorFiles, str]
) -> bool:
  (files, prefix), (others, its_prefix) = one, other
  names = [
    key.removeprefix(prefix) for key in files.names() if key.startswith(prefix)
  ]
  return all(
    its_prefix + name in others
    and np.array_equal(
      files.read(prefix + name), others.read(its_prefix + name)
    )
    for name in names
    if not _IDLE.search(name)
  )


def _fill(
  params: Any, found: dict[str, tuple[TensorFiles, str]], num_layers: int
) -> Any:
  """params with the tensors of the files; UserError lists all that is wrong."""
  filled = dict(params)
  problems: list[str] = []
  made_anew: list[str] = []
  for name, tree in params.items():
    if name in found:
      sources = part_sources(name, num_layers)
      files, prefix = found[name]
      if not any('qa_outputs.' in key for key in files.names()):
        made_anew += [
          f'{name}/{path}' for path in sources if in_span_head(path)
        ]
        sources = {
          path: source
          for path, source in sources.items()
          if not in_span_head(path)
        }
      filled[name] = _fill_part(tree, files, prefix, sources, problems)
      problems += _unexpected(files, name, prefix, sources)
    else:
      made_anew.append(name)
  if problems:
    listed = problems[:_MAX_LISTED]
    more = len(problems) - len(listed)
    raise UserError(
      'These tensors do not fit the config.json beside them:\n  '
      + '\n  '.join(listed)
      + (f'\n  and {more} more' if more else '')
    )
  if made_anew:
    _logger.warning('Made anew: %s.', ', '.join(made_anew))
  return filled


def _fill_part(
  tree: Any,
  files: TensorFiles,
  prefix: str,
  sources: dict[str, Source],
  problems: list[str],
) -> Any:
  """A part with the tensors that sources names; adds what is wrong."""

  def leaf(path: tuple, own: Any) -> Any:
    source = sources.get(jax.tree_util.keystr(path, simple=True, separator='/'))
    if source is None:
      return own
    key = prefix + source.key
    if key not in files:
      problems.append(f'{key} is missing')
      return own
    shape = their_shape(source, own.shape)
    if files.shape(key) != shape:
      problems.append(f'{key} has shape {files.shape(key)}, expected {shape}')
      return own
    value = files.read(key)
    return jax.numpy.asarray(
      (value.T if source.transposed else value).reshape(own.shape)
    )

  return jax.tree_util.tree_map_with_path(leaf, tree)


def _unexpected(
  files: TensorFiles, name: str, prefix: str, sources: dict[str, Source]
) -> list[str]:
  known = {source.key for source in sources.values()}
  idle = _IDLE_IN['reader' if name == 'reader' else 'embedder']
  others = ('embedder.', 'query_embedder.', 'reader.', 'block_emb')
  return [
    f'{key} is unexpected'
    for key in files.names()
    if key.startswith(prefix)
    and (plain := key.removeprefix(prefix)) not in known
    and not (prefix == '' and plain.startswith(others))
    and not _IDLE.search(plain)
    and not idle.search(plain)
  ]


def _one_config(folders: Sequence[Path]) -> RealmConfig:
  configs = {folder: _read_config(folder) for folder in folders}
  first = configs[folders[0]]
  for folder, config in configs.items():
    if config != first:
      raise UserError(
        f'{folder} and {folders[0]} have different sizes in their '
        f'{CONFIG_FILE}: expected parts of one model.'
      )
  return first


def _config_json(folder: Path) -> dict[str, Any]:
  path = folder / CONFIG_FILE
  if not path.is_file():
    raise FileNotFoundError(f'{path} does not exist: sizes are read from it.')
  return read_json(path)


def _read_config(folder: Path) -> RealmConfig:
  theirs = _config_json(folder)
  try:
    if OWN_CONFIG in theirs:
      own = dict(theirs[OWN_CONFIG])
      return RealmConfig(**{**own, 'encoder': EncoderConfig(**own['encoder'])})
    return config_from(theirs)
  except (KeyError, TypeError) as error:
    raise UserError(
      f'{folder / CONFIG_FILE} is no REALM configuration ({error!r}): '
      "expected the fields of transformers' RealmConfig."
    ) from error


def config_from(theirs: dict[str, Any]) -> RealmConfig:
  """Our configuration from the fields of theirs.

  Their pad_token_id is not read: it is 1, where the vocabulary has [PAD] at 0.
  """
  return RealmConfig(
    encoder=EncoderConfig(
      vocab_size=theirs['vocab_size'],
      hidden_size=theirs['hidden_size'],
      num_layers=theirs['num_hidden_layers'],
      num_heads=theirs['num_attention_heads'],
      feed_forward_size=theirs['intermediate_size'],
      max_positions=theirs['max_position_embeddings'],
      num_segments=theirs['type_vocab_size'],
      dropout_rate=theirs['hidden_dropout_prob'],
      attention_dropout_rate=theirs['attention_probs_dropout_prob'],
      layer_norm_epsilon=theirs['layer_norm_eps'],
      initializer_range=theirs['initializer_range'],
      gelu='erf' if theirs['hidden_act'] == 'gelu' else 'tanh',
      mask_bias=None,
    ),
    embed_dim=theirs['retriever_proj_size'],
    embedder_layer_norm_epsilon=theirs['layer_norm_eps'],
    span_hidden_size=theirs['span_hidden_size'],
    max_span_width=theirs['max_span_width'],
    span_layer_norm_epsilon=theirs['reader_layer_norm_eps'],
    span_mask_bias=None,
  )


def _one_vocabulary(folders: Sequence[Path]) -> WordPiece:
  found = [folder for folder in folders if (folder / VOCAB_FILE).is_file()]
  if not found:
    raise FileNotFoundError(
      f'None of {", ".join(map(str, folders))} has a {VOCAB_FILE}.'
    )
  words = [WordPiece.from_vocab_file(folder / VOCAB_FILE) for folder in found]
  for folder, wordpiece in zip(found, words, strict=True):
    if wordpiece.fingerprint != words[0].fingerprint:
      raise UserError(f'{folder} and {found[0]} have different vocabularies.')
  return words[0]
