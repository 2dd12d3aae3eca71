"""The parts of a REALM model, wherever in some files they lie.

What a folder holds is told by its keys; several folders together make one
model.
"""

import dataclasses
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from realm_jax.checkpoints.hf_names import (
  in_span_head,
  part_sources,
  their_shape,
)
from realm_jax.checkpoints.tensor_files import TensorFiles
from realm_jax.checkpoints.tf_checkpoint import BLOCK_EMBEDS
from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError
from realm_jax.models.bert_weights import Source, find_vocab
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


class ForeignModel(NamedTuple):
  """A model as other programs' files have it.

  Attributes:
    config: sizes.
    params: float32, as init_params makes them.
    vocab: the vocab.txt that belongs to it.
    made_anew: parts and parameters that the files do not have.
    block_embeds: files with the key BLOCK_EMBEDS, [num_blocks, embed_dim];
      None where none has it.
  """

  config: RealmConfig
  params: Any
  vocab: Path
  made_anew: tuple[str, ...]
  block_embeds: TensorFiles | None = None


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


# Part of the model -> the files that have it, and what stands before its keys.
_Found = dict[str, tuple[TensorFiles, str]]


def assemble(
  opened: Sequence[TensorFiles],
  config: RealmConfig,
  vocab: str | Path | None = None,
  seed: int = 0,
  own_part: Callable[[Path], str | None] = lambda folder: None,
) -> ForeignModel:
  """A model of the parts that some folders have.

  Parts that no folder has are made anew, and the log names them.

  Args:
    opened: the folders.
    config: of the model; share_embedders is told by the parts.
    vocab: its vocab.txt; None to find it in the folders.
    seed: of what is made anew.
    own_part: folder -> which embedder it holds, if it says so itself.

  Raises:
    FileNotFoundError: there is no vocab.txt.
    UserError: folders do not fit together; tensors are missing, unexpected or
      of another shape, all of them named.
  """
  found = _find_parts(opened, own_part)
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
  vocab = _one_vocabulary([files.folder for files in opened], vocab)
  _check_size(vocab, config)
  params = init_params(config, jax.random.key(seed))
  params, made_anew = _fill(params, found, config.encoder.num_layers)
  with_blocks = [files for files in opened if BLOCK_EMBEDS in files]
  if len(with_blocks) > 1:
    folders = ' and '.join(str(files.folder) for files in with_blocks)
    raise UserError(f'{folders} all hold block embeddings: expected one.')
  return ForeignModel(
    config,
    params,
    vocab,
    tuple(made_anew),
    with_blocks[0] if with_blocks else None,
  )


def _find_parts(
  opened: Sequence[TensorFiles], own_part: Callable[[Path], str | None]
) -> _Found:
  found: _Found = {}
  for files in opened:
    parts = _parts_of(files.names())
    if not parts and BLOCK_EMBEDS not in files:
      raise UserError(
        f'{files.folder} has no REALM model in it: expected keys such as '
        f'realm.encoder.layer.0..., found {files.names()[:3]}.'
      )
    for name, prefix in parts:
      if prefix == '' and name == 'embedder':
        name = own_part(files.folder) or name
      part = files, prefix
      if name == 'reader' and name in found:
        part = _with_span_head(found.pop(name), part)
      if name in found:
        raise UserError(
          f'{files.folder} and {found[name][0].folder} both hold the {name}: '
          'expected each part once.'
        )
      found[name] = part
  if not found:
    raise UserError(
      f'{opened[0].folder} has block embeddings and no model: name the folders '
      'of embedder and reader as well.'
    )
  return found


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


def _fill(params: Any, found: _Found, num_layers: int) -> tuple[Any, list[str]]:
  """params with the tensors of the files, and what they do not have.

  UserError lists all that is wrong.
  """
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
  return filled, made_anew


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


def _one_vocabulary(folders: Sequence[Path], given: str | Path | None) -> Path:
  if given is not None:
    return Path(given)
  found = [path for folder in folders if (path := find_vocab(folder))]
  if not found:
    raise FileNotFoundError(
      f'None of {", ".join(map(str, folders))} has a vocab.txt. Name one with '
      '--vocab.'
    )
  fingerprints = [WordPiece.from_vocab_file(path).fingerprint for path in found]
  for path, fingerprint in zip(found, fingerprints, strict=True):
    if fingerprint != fingerprints[0]:
      raise UserError(
        f'{path.parent} and {found[0].parent} have different vocabularies.'
      )
  return found[0]


def _check_size(vocab: Path, config: RealmConfig) -> None:
  size = WordPiece.from_vocab_file(vocab).size
  if size != config.encoder.vocab_size:
    raise UserError(
      f'{vocab} has {size} wordpieces, but the model '
      f'{config.encoder.vocab_size}: name its own vocabulary with --vocab.'
    )
