"""Variables of a TensorFlow 1 checkpoint or TF-Hub module.

Google's BERT, and the modules and checkpoints of the original REALM and ORQA,
are such files. Variables go by the keys that Hugging Face gave them when it
converted these programs, so that what reads its files reads these as well.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from realm_jax.errors import UserError
from realm_jax.optional import require

BLOCK_EMBEDS = 'block_emb'
# Of a BERT: what lies below its scope.
_IN_BERT = re.compile(r'^(.*?)(bert/(?:embeddings|encoder|pooler)/.*)$')
_IN_MLM_HEAD = re.compile(r'^(.*?)(cls/predictions/.*)$')
_WORDS = 'bert/embeddings/word_embeddings'
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


class Variable(NamedTuple):
  """A variable of a checkpoint, under its name in Hugging Face's files.

  Attributes:
    key: that name.
    shape: its shape there: of a kernel [out, in].
    read: () -> its values; mapped where the file holds nothing else.
  """

  key: str
  shape: tuple[int, ...]
  read: Callable[[], np.ndarray]


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


def read_tf_checkpoint(prefix: Path) -> list[Variable]:
  """The variables of the parts of REALM, or of a BERT.

  What training left beside them, such as Adam's moments, is left out. Only
  numbers are read; no graph is run.

  Args:
    prefix: of the checkpoint's files.

  Raises:
    ImportError: TensorFlow is not installed.
    UserError: the checkpoint is damaged, or has parts of unknown names.
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
  if set(shapes) == {BLOCK_EMBEDS}:
    return [_mapped(prefix, shapes[BLOCK_EMBEDS])]

  def variable(name: str, key: str) -> Variable:
    is_kernel = name.endswith('/kernel')

    def read() -> np.ndarray:
      try:
        value = reader.get_tensor(name)
      except damaged as error:
        raise UserError(f'{prefix} is damaged: {error}.') from error
      return value.T if is_kernel else value

    shape = shapes[name][::-1] if is_kernel else shapes[name]
    return Variable(key, shape, read)

  keys = keys_of(shapes)
  return [variable(name, keys[name]) for name in sorted(keys)]


def _mapped(prefix: Path, shape: tuple[int, ...]) -> Variable:
  """The block embeddings of a checkpoint that has nothing else.

  TensorFlow reads a variable whole, whatever part is asked for. The data file
  is the numbers and no more.
  """
  path = prefix.with_name(f'{prefix.name}.data-00000-of-00001')
  dtype = np.dtype('<f4')
  expected = int(np.prod(shape)) * dtype.itemsize
  if not path.is_file() or path.stat().st_size != expected:
    raise UserError(
      f'{path} is missing or not {expected} bytes long, as {shape} numbers are.'
    )
  return Variable(
    BLOCK_EMBEDS, shape, lambda: np.memmap(path, dtype, 'r', 0, shape)
  )


def keys_of(names: Iterable[str]) -> dict[str, str]:
  """Name of a variable -> its key in Hugging Face's files.

  A BERT alone has keys such as `realm.encoder...`; an embedder is one whose
  scope also has a projection, and lies below `embedder.`; one beside a span
  head, or of the scope `reader`, lies below `reader.`. Other variables, those
  of optimizers among them, have no key.

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
    if f'{outer}dense_1/kernel' in names or outer.endswith('reader/'):
      prefix, head = 'reader.', _SPAN_HEAD
    elif f'{outer}dense/kernel' in names:
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
