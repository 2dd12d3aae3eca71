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

from realm_jax.checkpoints.bert_names import Source
from realm_jax.checkpoints.filling import Problems, fill, note_unexpected
from realm_jax.checkpoints.hf_names import (
  EMBEDDERS,
  OWN_PART,
  OWN_UNTRAINED,
  in_span_head,
  part_sources,
)
from realm_jax.checkpoints.model_folder import one_vocabulary
from realm_jax.checkpoints.tensor_files import TensorFiles
from realm_jax.checkpoints.tf_checkpoint import BLOCK_EMBEDS
from realm_jax.data.examples import Lengths
from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError
from realm_jax.models.realm import RealmConfig, init_params

_logger = logging.getLogger(__name__)

# Keys that stand for nothing: copies of other tensors, and, in embedder and
# reader, what their classes have but never use.
_IDLE = (
  r'realm\.embeddings\.position_ids$|'
  r'cls\.predictions\.decoder\.(weight|bias)$'
)
_IDLE_IN = {
  'embedder': re.compile(rf'{_IDLE}|cls\.predictions\.'),
  'reader': re.compile(rf'{_IDLE}|realm\.pooler\.'),
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
    paths: the files of the weights.
    lengths: sequence lengths that its configuration tells; None if it does not.
  """

  config: RealmConfig
  params: Any
  vocab: Path
  made_anew: tuple[str, ...]
  block_embeds: TensorFiles | None = None
  paths: tuple[Path, ...] = ()
  lengths: Lengths | None = None


class _Part(NamedTuple):
  """A part of the model that a folder has.

  Attributes:
    name: 'embedder', 'query_embedder', 'document_embedder' or 'reader'.
    files: the folder.
    prefix: what stands before its keys there.
    untrained: paths of parameters that were never trained, though there.
  """

  name: str
  files: TensorFiles
  prefix: str
  untrained: tuple[str, ...] = ()

  @property
  def has_span_head(self) -> bool:
    """Whether it is a reader that gives answers."""
    head = f'{self.prefix}qa_outputs.'
    return any(key.startswith(head) for key in self.files.names())

  def sources(self, num_layers: int) -> dict[str, Source]:
    """Path of a parameter -> where it is; without a span head it has not."""
    return {
      path: source
      for path, source in part_sources(self.name, num_layers).items()
      if self.has_span_head or not in_span_head(path)
    }


def _parts_of(files: TensorFiles, own: dict[str, Any]) -> list[_Part]:
  """What the keys of a folder tell of its class; empty if it is none.

  Args:
    files: the folder.
    own: what our export wrote into its configuration.
  """

  def has(prefix: str) -> bool:
    return any(key.startswith(prefix) for key in files.names())

  parts = []
  if has('query_embedder.'):
    parts.append(_Part('query_embedder', files, 'query_embedder.'))
  if has('embedder.'):
    name = 'document_embedder' if parts else 'embedder'
    parts.append(_Part(name, files, 'embedder.'))
  if has('reader.'):
    parts.append(_Part('reader', files, 'reader.'))
  if not has('realm.') or has('reader.'):
    return parts
  name = 'reader'
  if not parts and (has('cls.dense.') or has('cls.LayerNorm.')):
    name = own.get(OWN_PART, 'embedder')
    name = name if name in EMBEDDERS else 'embedder'
  return [*parts, _Part(name, files, '', _untrained(files, own))]


def _untrained(files: TensorFiles, own: dict[str, Any]) -> tuple[str, ...]:
  paths = own.get(OWN_UNTRAINED, [])
  if not isinstance(paths, list) or not all(isinstance(p, str) for p in paths):
    raise UserError(
      f'{files.folder} has {OWN_UNTRAINED} {paths!r} in its configuration, '
      'expected paths of parameters.'
    )
  return tuple(paths)


def assemble(
  opened: Sequence[TensorFiles],
  config: RealmConfig,
  sizes_from: str,
  vocab: str | Path | None = None,
  seed: int = 0,
  own_config: Callable[[Path], dict[str, Any]] = lambda folder: {},
) -> ForeignModel:
  """A model of the parts that some folders have.

  Parts that no folder has are made anew, and the log names them.

  Args:
    opened: the folders.
    config: of the model; share_embedders is told by the parts.
    sizes_from: where config is from, for messages.
    vocab: its vocab.txt; None to find it in the folders.
    seed: of what is made anew.
    own_config: folder -> what our export wrote into its configuration.

  Raises:
    FileNotFoundError: there is no vocab.txt.
    UserError: folders do not fit together; tensors are missing, unexpected or
      of another shape: of each folder and kind, the first are named.
  """
  parts = [_all_parts_of(files, own_config(files.folder)) for files in opened]
  num_layers = config.encoder.num_layers
  found = _one_of_each([part for some in parts for part in some], num_layers)
  if not found:
    raise UserError(
      f'{opened[0].folder} has block embeddings and no model: name the folders '
      'of embedder and reader as well.'
    )
  found = _one_embedder_for_both(found, num_layers)
  config = dataclasses.replace(
    config, share_embedders='query_embedder' not in found
  )
  vocab = one_vocabulary([files.folder for files in opened], vocab)
  _check_size(vocab, config)
  problems = Problems()
  params, made_anew = _fill(
    init_params(config, jax.random.key(seed)), found, num_layers, problems
  )
  for files, some in zip(opened, parts, strict=True):
    _note_unexpected(files, some, num_layers, problems)
  problems.refuse(sizes_from)
  if made_anew:
    _logger.warning('Made anew: %s.', ', '.join(made_anew))
  return ForeignModel(
    config,
    params,
    vocab,
    tuple(made_anew),
    _one_with_blocks(opened),
    tuple(path for files in opened for path in files.paths),
  )


def _all_parts_of(files: TensorFiles, own: dict[str, Any]) -> list[_Part]:
  parts = _parts_of(files, own)
  if not parts and BLOCK_EMBEDS not in files:
    raise UserError(
      f'{files.folder} has no REALM model in it: expected keys such as '
      f'realm.encoder.layer.0..., found {files.names()[:3]}.'
    )
  return parts


def _one_of_each(parts: Sequence[_Part], num_layers: int) -> dict[str, _Part]:
  """Name of a part -> the part; of an encoder and its reader, the reader."""
  found: dict[str, _Part] = {}
  for part in parts:
    if part.name == 'reader' and 'reader' in found:
      part = _with_span_head(found.pop('reader'), part, num_layers)
    if part.name in found:
      raise UserError(
        f'{part.files.folder} and {found[part.name].files.folder} both hold '
        f'the {part.name}: expected each part once.'
      )
    found[part.name] = part
  return found


def _with_span_head(one: _Part, other: _Part, num_layers: int) -> _Part:
  """Of an encoder and a reader of the same weights, the reader."""
  if one.has_span_head != other.has_span_head:
    reader, encoder = (one, other) if one.has_span_head else (other, one)
    if _same_tensors(encoder, reader, num_layers):
      return reader
  raise UserError(
    f'{one.files.folder} and {other.files.folder} both hold a reader, and not '
    'the same: expected one, or an encoder and a reader of the same weights.'
  )


def _one_embedder_for_both(
  found: dict[str, _Part], num_layers: int
) -> dict[str, _Part]:
  """Parts with one embedder where the files have one, or twice the same."""
  two = [found[name] for name in EMBEDDERS[1:] if name in found]
  if not two or not _same_tensors(two[0], two[-1], num_layers):
    return found
  if 'embedder' in found:
    raise UserError(
      f'{two[0].files.folder} holds the {two[0].name}, and '
      f'{found["embedder"].files.folder} an embedder for both: expected one or '
      'the other.'
    )
  others = {name: part for name, part in found.items() if part not in two}
  return {'embedder': two[0]._replace(name='embedder'), **others}


def _same_tensors(one: _Part, other: _Part, num_layers: int) -> bool:
  """Whether parts have the same weights, but for a span head in the second."""
  keys = [source.key for source in one.sources(num_layers).values()]

  def same(key: str, its_key: str) -> bool:
    if key not in one.files or its_key not in other.files:
      return (key in one.files) == (its_key in other.files)
    return np.array_equal(one.files.read(key), other.files.read(its_key))

  return all(same(one.prefix + key, other.prefix + key) for key in keys)


def _one_with_blocks(opened: Sequence[TensorFiles]) -> TensorFiles | None:
  with_blocks = [files for files in opened if BLOCK_EMBEDS in files]
  if len(with_blocks) > 1:
    folders = ' and '.join(str(files.folder) for files in with_blocks)
    raise UserError(f'{folders} all hold block embeddings: expected one.')
  return with_blocks[0] if with_blocks else None


def _fill(
  params: Any, found: dict[str, _Part], num_layers: int, problems: Problems
) -> tuple[Any, list[str]]:
  """params with the tensors of the files, and what they do not have."""
  filled = dict(params)
  made_anew: list[str] = []
  for name, tree in params.items():
    if name not in found:
      made_anew.append(name)
      continue
    part = found[name]
    sources = part.sources(num_layers)
    filled[name] = fill(tree, part.files, part.prefix, sources, problems)
    lacking = part_sources(name, num_layers).keys() - sources.keys()
    made_anew += sorted(
      f'{name}/{path}' for path in {*lacking, *part.untrained}
    )
  return filled, made_anew


def _note_unexpected(
  files: TensorFiles,
  parts: Sequence[_Part],
  num_layers: int,
  problems: Problems,
) -> None:
  """Adds the tensors that none of the parts of a folder takes."""
  known = {BLOCK_EMBEDS} | {
    part.prefix + source.key
    for part in parts
    for source in part.sources(num_layers).values()
  }

  def is_idle(key: str) -> bool:
    return any(
      key.startswith(part.prefix)
      and _IDLE_IN['reader' if part.name == 'reader' else 'embedder'].match(
        key.removeprefix(part.prefix)
      )
      for part in parts
    )

  note_unexpected(files, known, is_idle, problems)


def _check_size(vocab: Path, config: RealmConfig) -> None:
  size = WordPiece.from_vocab_file(vocab).size
  if size != config.encoder.vocab_size:
    raise UserError(
      f'{vocab} has {size} wordpieces, but the model '
      f'{config.encoder.vocab_size}: name its own vocabulary with --vocab.'
    )
