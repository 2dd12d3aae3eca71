"""Variables of a TensorFlow 1 checkpoint or TF-Hub module.

Google's BERT, and the modules and checkpoints of the original REALM and ORQA,
are such files. Variables go by the keys that Hugging Face gave them when it
converted these programs, so that what reads its files reads these as well.
"""

import glob
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import numpy as np

from realm_jax.checkpoints.entry import ALL, Entry
from realm_jax.checkpoints.tf_bundle import find_variable
from realm_jax.errors import UserError
from realm_jax.optional import require

BLOCK_EMBEDS = 'block_emb'
# Of a BERT: what lies below its scope.
_IN_BERT = re.compile(r'^(.*?)(bert/(?:embeddings|encoder|pooler)/.*)$')
_IN_MLM_HEAD = re.compile(r'^(.*?)(cls/predictions/.*)$')
_WORDS = 'bert/embeddings/word_embeddings'
# What BERT's pre-training has beside it, and optimizers.
_LEFT_BY_TRAINING = re.compile(r'(^|/)(cls/seq_relationship/|adam_[mv]$)')
# Scopes of the heads below those of ICT's and ORQA's modules.
_EMBEDDER_HEAD = {
  'dense': 'cls.dense',
  'layer_normalization': 'cls.LayerNorm',
  'LayerNorm': 'cls.LayerNorm',
}
_SPAN_HEAD = {
  'dense': 'qa_outputs.dense_intermediate',
  'layer_normalization': 'qa_outputs.layer_normalization',
  'dense_1': 'qa_outputs.dense_output',
}
_LEAVES = {
  'kernel': 'weight',
  'gamma': 'weight',
  'beta': 'bias',
  'bias': 'bias',
  'output_bias': 'bias',
}


def find_checkpoint(path: Path) -> Path | None:
  """The prefix of the checkpoint that a path means; None if there is none.

  Args:
    path: the prefix itself; a folder with one checkpoint or with the file
      `checkpoint`, which names the newest; or a TF-Hub module or SavedModel.

  Raises:
    UserError: a folder has several checkpoints and no file that names one.
  """
  if _index(path).is_file():
    return path
  for folder in (path, path / 'variables'):
    found = sorted(folder.glob('*.index'))
    if len(found) > 1 and (newest := _newest(folder)) in found:
      found = [newest]
    if len(found) > 1:
      names = ', '.join(index.stem for index in found[:3])
      raise UserError(
        f'{folder} has {len(found)} checkpoints ({names}): name one of them, '
        f'such as {folder / found[-1].stem}.'
      )
    if found:
      return found[0].with_suffix('')
  return None


def _index(prefix: Path) -> Path:
  return prefix.with_name(prefix.name + '.index')


def _newest(folder: Path) -> Path | None:
  """What TensorFlow's file `checkpoint` names, within this folder."""
  path = folder / 'checkpoint'
  if not path.is_file():
    return None
  text = path.read_text(encoding='utf-8', errors='replace')
  match = re.match(r'model_checkpoint_path: "([^"]+)"', text)
  # Only the name: the folder may have been moved, and is not to be left.
  return _index(folder / Path(match[1]).name) if match else None


def checkpoint_files(prefix: Path) -> list[Path]:
  """The files of a checkpoint: its index, and its data."""
  data = prefix.parent.glob(f'{glob.escape(prefix.name)}.data-*')
  return [_index(prefix), *sorted(data)]


def read_tf_checkpoint(prefix: Path) -> Iterator[Entry]:
  """The variables of the parts of REALM, or of a BERT.

  Kernels have the shape that they have in Hugging Face's files, [out, in].
  Other variables keep their own name; what training left beside them, such as
  Adam's moments, is left out. Only numbers are read; no graph is run.

  Args:
    prefix: of the checkpoint's files.

  Raises:
    ImportError: TensorFlow is not installed.
    UserError: the checkpoint is damaged, or has a part twice.
  """
  tensorflow = require('tensorflow', 'data')
  # What its bindings make of a status is not in the documentation.
  damaged = (
    tensorflow.errors.OpError, IndexError, RuntimeError, ValueError
  )  # fmt: skip
  try:
    reader = tensorflow.train.load_checkpoint(str(prefix))
  except damaged as error:
    raise UserError(
      f'{prefix} is no whole checkpoint of TensorFlow ({error}). Expected '
      f'{prefix.name}.index and {prefix.name}.data-... side by side.'
    ) from error
  shapes = {
    name: tuple(shape)
    for name, shape in reader.get_variable_to_shape_map().items()
  }
  dtypes = reader.get_variable_to_dtype_map()

  def entry(name: str, key: str) -> Entry:
    is_kernel = name.endswith('/kernel')

    def read(rows: slice) -> np.ndarray:
      if not dtypes[name].is_floating:
        raise UserError(
          f'{prefix} has {name} of {dtypes[name].name}, expected '
          'floating-point numbers.'
        )
      try:
        value = reader.get_tensor(name)
      except damaged as error:
        raise UserError(f'{prefix} is damaged: {error}.') from error
      value = value.T if is_kernel else value
      return value[rows] if rows != ALL else value

    shape = shapes[name][::-1] if is_kernel else shapes[name]
    return Entry(key, shape, read)

  weights = [n for n in shapes if shapes[n] and dtypes[n].is_floating]
  keys = keys_of(shapes)
  keys |= {name: name for name in _unplaced(weights, keys)}
  for name in sorted(keys):
    if name == BLOCK_EMBEDS:  # 6.3 GiB of all Wikipedia: never read whole
      yield _mapped(prefix)
    else:
      yield entry(name, keys[name])


def _mapped(prefix: Path) -> Entry:
  """The block embeddings of a checkpoint, mapped."""
  place = find_variable(prefix, BLOCK_EMBEDS)
  return Entry(BLOCK_EMBEDS, place.shape, lambda rows: place.map()[rows])


def _unplaced(weights: Collection[str], placed: Collection[str]) -> list[str]:
  """Names that are of no part, and are not what training leaves beside one.

  Whatever the optimizer, its values lie below the variable's own name.
  """
  return [
    name
    for name in weights
    if name not in placed
    and name.rpartition('/')[0] not in weights
    and not _LEFT_BY_TRAINING.search(name)
  ]


def keys_of(names: Iterable[str]) -> dict[str, str]:
  """Name of a variable -> its key in Hugging Face's files.

  A BERT alone has keys such as `realm.encoder...`; an embedder is one whose
  scope also has a layer of a projection, and lies below `embedder.`; one beside
  a span head, or of the scope `reader`, lies below `reader.`. Other variables,
  those of optimizers among them, have no key.

  Args:
    names: of all variables of a checkpoint.

  Raises:
    UserError: two scopes hold the same part.
  """
  names = set(names)
  scopes: dict[str, str] = {}  # of a BERT -> what stands before its keys
  heads: dict[str, str] = {}  # name of a variable of a head -> key
  for scope in sorted(
    n.removesuffix(_WORDS) for n in names if n.endswith(_WORDS)
  ):
    outer = scope.removesuffix('module/')
    layers = {
      layer
      for name in names
      if name.startswith(outer)
      and '/' not in (layer := name.removeprefix(outer).rpartition('/')[0])
    }
    if 'dense_1' in layers or outer.endswith('reader/'):
      prefix, head = 'reader.', _SPAN_HEAD
    elif layers & _EMBEDDER_HEAD.keys():
      prefix, head = 'embedder.', _EMBEDDER_HEAD
    else:
      prefix, head = '', {}
    if prefix in scopes.values():
      (other,) = (s for s, known in scopes.items() if known == prefix)
      raise UserError(
        f'Scopes {other!r} and {scope!r} both hold the '
        f'{prefix.removesuffix(".") or "BERT"}: expected each part once.'
      )
    scopes[scope] = prefix
    for name in names:
      layer, _, leaf = name.removeprefix(outer).rpartition('/')
      if name.startswith(outer) and layer in head and leaf in _LEAVES:
        heads[name] = f'{prefix}{head[layer]}.{_LEAVES[leaf]}'
  keys = heads
  for name in names:
    match = _IN_BERT.match(name) or _IN_MLM_HEAD.match(name)
    if match and match[1] in scopes and (key := _bert_key(match[2])):
      keys[name] = scopes[match[1]] + key
    elif name == BLOCK_EMBEDS:
      keys[name] = name
  return keys


def _bert_key(name: str) -> str | None:
  """The key of a variable of a BERT; None for what an optimizer added."""
  path = re.sub(r'\blayer_(\d+)', r'layer.\1', name).replace('/', '.')
  path = re.sub('^bert', 'realm', path)
  layer, leaf = path.rsplit('.', 1)
  if leaf.endswith('_embeddings'):
    return f'{path}.weight'
  if leaf in _LEAVES:
    return f'{layer}.{_LEAVES[leaf]}'
  return None
