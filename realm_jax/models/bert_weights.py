"""Starting weights from a published BERT (adapter).

Keys are those of Hugging Face's BertModel and BertForPreTraining, with or
without 'bert.' in front; older files say gamma and beta in layer norms.
Checkpoints of TensorFlow 1, Google's own, are read as well.
"""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from realm_jax.checkpoints.tensor_files import TensorFiles
from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError
from realm_jax.folders import read_json
from realm_jax.models.encoder import EncoderConfig
from realm_jax.models.realm import RealmConfig

_logger = logging.getLogger(__name__)


class Source(NamedTuple):
  """Where a parameter lies in a BERT file.

  Attributes:
    key: its key there, without 'bert.'.
    transposed: it is the kernel of a dense layer, [out, in] there.
  """

  key: str
  transposed: bool = False


def dense_sources(path: str, key: str) -> dict[str, Source]:
  """Kernel and bias of the dense layer at a path, which is a key there."""
  return {
    f'{path}/kernel': Source(f'{key}.weight', transposed=True),
    f'{path}/bias': Source(f'{key}.bias'),
  }


def layer_norm_sources(path: str, key: str) -> dict[str, Source]:
  """Scale and bias of the layer norm at a path, which is a key there."""
  return {
    f'{path}/scale': Source(f'{key}.weight'),
    f'{path}/bias': Source(f'{key}.bias'),
  }


def encoder_sources(num_layers: int) -> dict[str, Source]:
  """Path of a parameter below 'encoder' -> where it lies in a BERT file."""
  sources = {
    'embeddings/word': Source('embeddings.word_embeddings.weight'),
    'embeddings/position': Source('embeddings.position_embeddings.weight'),
    'embeddings/segment': Source('embeddings.token_type_embeddings.weight'),
    **layer_norm_sources('embeddings/layer_norm', 'embeddings.LayerNorm'),
  }
  for i in range(num_layers):
    path, key = f'layers_{i}', f'encoder.layer.{i}'
    for name in ('query', 'key', 'value'):
      sources |= dense_sources(
        f'{path}/attention/{name}', f'{key}.attention.self.{name}'
      )
    for name, its_key in (
      ('attention/output', 'attention.output.dense'),
      ('intermediate', 'intermediate.dense'),
      ('output', 'output.dense'),
    ):
      sources |= dense_sources(f'{path}/{name}', f'{key}.{its_key}')
    for name, its_key in (
      ('attention_layer_norm', 'attention.output.LayerNorm'),
      ('output_layer_norm', 'output.LayerNorm'),
    ):
      sources |= layer_norm_sources(f'{path}/{name}', f'{key}.{its_key}')
  return sources


def mlm_head_sources() -> dict[str, Source]:
  """Path of a parameter below 'mlm_head' -> where it lies in a BERT file.

  The output matrix is not there: it is the word embeddings.
  """
  transform = 'cls.predictions.transform'
  return {
    **dense_sources('dense', f'{transform}.dense'),
    **layer_norm_sources('layer_norm', f'{transform}.LayerNorm'),
    'bias': Source('cls.predictions.bias'),
  }


def _part_sources(part: str, num_layers: int) -> dict[str, Source]:
  """Path below the part -> where a BERT file has it."""
  encoder = encoder_sources(num_layers)
  sources = {f'encoder/{path}': encoder[path] for path in encoder}
  if part == 'reader':
    head = mlm_head_sources()
    return sources | {f'mlm_head/{path}': head[path] for path in head}
  return sources | dense_sources('pooler', 'pooler.dense')


def _plain_key(key: str) -> str:
  key = re.sub(r'^(bert|realm)\.', '', key)
  for old, new in (('.gamma', '.weight'), ('.beta', '.bias')):
    if key.endswith(old):
      key = key.removesuffix(old) + new
  return key


def _open(folder: Path) -> TensorFiles:
  return TensorFiles(folder, _plain_key)


def encoder_config_from(
  folder: str | Path, num_heads: int | None = None
) -> EncoderConfig:
  """The encoder that the weights of a folder fit.

  Sizes are read from the weights. config.json or bert_config.json, where there
  is one, gives the number of heads, which weights do not tell, and the kind of
  gelu: TensorFlow's 'gelu' is the tanh approximation, others' is the exact one.

  Args:
    folder: tensor files (see TensorFiles), and perhaps a configuration.
    num_heads: attention heads, where there is no configuration.

  Raises:
    FileNotFoundError: there is no such folder, or no tensor file in it.
    UserError: the weights are not BERT's, or the number of heads is unknown.
  """
  folder = Path(folder)
  bert = _open(folder)
  tables = encoder_sources(num_layers=1)
  missing = [source.key for source in tables.values() if source.key not in bert]
  if missing:
    raise UserError(
      f'{folder} has no tensor {missing[0]!r}: expected the weights of a BERT, '
      f'found keys such as {bert.names()[:3]}.'
    )
  settings = _read_settings(folder)
  num_heads = num_heads or settings.get('num_attention_heads')
  if num_heads is None:
    raise UserError(
      f'{folder} has no config.json or bert_config.json, and weights do not '
      'tell the number of attention heads. Give num_heads: BERT-base has 12, '
      'MiniLM-L6-H384 too.'
    )
  vocab_size, hidden_size = bert.shape(tables['embeddings/word'].key)
  activation = settings.get('hidden_act', 'gelu')
  exact = activation == 'gelu' and not bert.from_tensorflow
  return EncoderConfig(
    vocab_size=vocab_size,
    hidden_size=hidden_size,
    num_layers=_num_layers(bert),
    num_heads=num_heads,
    feed_forward_size=bert.shape(tables['layers_0/intermediate/bias'].key)[0],
    max_positions=bert.shape(tables['embeddings/position'].key)[0],
    num_segments=bert.shape(tables['embeddings/segment'].key)[0],
    gelu='erf' if exact else 'tanh',
  )


def _num_layers(bert: TensorFiles) -> int:
  layers = 0
  while f'encoder.layer.{layers}.output.dense.weight' in bert:
    layers += 1
  return layers


def beside(path: Path, names: Sequence[str]) -> Path | None:
  """The first of these files in a folder, or where a prefix lies."""
  folder = path if path.is_dir() else path.parent
  for name in names:
    if (folder / name).is_file():
      return folder / name
  return None


def find_vocab(path: Path) -> Path | None:
  """The vocabulary of some weights; a TF-Hub module has it in assets/."""
  return beside(path, ('vocab.txt', 'assets/vocab.txt'))


def _read_settings(folder: Path) -> dict[str, Any]:
  path = beside(folder, ('config.json', 'bert_config.json'))
  if path is None:
    return {}
  settings = read_json(path)
  activation = settings.get('hidden_act', 'gelu')
  if activation not in ('gelu', 'gelu_new', 'gelu_pytorch_tanh'):
    raise UserError(
      f'{path} has hidden_act {activation!r}, expected gelu or gelu_new: this '
      'encoder has no other activation.'
    )
  return settings


def load_bert(
  folder: str | Path,
  config: RealmConfig,
  params: Any,
  parts: tuple[str, ...] = ('embedder', 'reader'),
  wordpiece: WordPiece | None = None,
) -> Any:
  """Parameters with the encoders' weights taken from a BERT.

  Pooler and masked-LM head are taken where the file has them; those that it
  does not have stay as they are, and the log lists them. Projection and span
  head always stay.

  Args:
    folder: a folder of tensor files, and perhaps vocab.txt, which is held
      against the vocabulary.
    config: the model that params belong to.
    params: as init_params makes them.
    parts: which to fill: 'embedder' (both, where they are not shared),
      'query_embedder', 'document_embedder', 'reader'.
    wordpiece: of the corpus; None to compare the vocabularies' sizes only.

  Returns:
    A new tree like params, float32.

  Raises:
    FileNotFoundError: there is no such folder, or no tensor file in it.
    UserError: a part is unknown; vocabularies differ; an encoder's tensor is
      missing; a shape differs from that of the parameter; the file is damaged.
  """
  folder = Path(folder)
  bert = _open(folder)
  if vocab := find_vocab(folder):
    _check_vocab(vocab, config.encoder.vocab_size, wordpiece)
  _check_layers(folder, _num_layers(bert), config.encoder.num_layers)
  filled, missing = dict(params), []
  for part in _parts_of(params, parts):
    sources = _part_sources(part, config.encoder.num_layers)

    def fill(path, leaf, part=part, sources=sources):
      name = jax.tree_util.keystr(path, simple=True, separator='/')
      if name not in sources:
        return leaf
      if sources[name].key not in bert:
        missing.append(f'{part}/{name}')
        return leaf
      return _read_leaf(bert, sources[name], f'{part}/{name}', leaf.shape)

    filled[part] = jax.tree_util.tree_map_with_path(fill, params[part])
  lost = [name for name in missing if '/encoder/' in name]
  if lost:
    raise UserError(
      f'{folder} has no weights for {lost[0]} (and {len(lost) - 1} more of the '
      f'encoder): expected a BERT, found keys such as {bert.names()[:3]}.'
    )
  if missing:
    _logger.warning(
      '%s has no weights for %s: newly initialised.', folder, ', '.join(missing)
    )
  return filled


def _parts_of(params: Any, parts: tuple[str, ...]) -> list[str]:
  """The top-level keys of params that `parts` speaks of."""
  found = []
  for part in parts:
    if part in params:
      found.append(part)
    elif part == 'embedder':
      found += ['query_embedder', 'document_embedder']
    else:
      raise UserError(
        f'parts has {part!r}, expected some of {", ".join(params)}.'
      )
  return found


def _read_leaf(
  bert: TensorFiles, source: Source, name: str, shape: tuple[int, ...]
) -> jax.Array:
  found = bert.shape(source.key)
  expected = tuple(reversed(shape)) if source.transposed else tuple(shape)
  if found != expected:
    raise UserError(
      f'{bert.path(source.key)} has {source.key} of shape {found}, but {name} '
      f'takes {expected}. Build the model with encoder_config_from(folder).'
    )
  value = bert.read(source.key)
  return jnp.asarray(value.T if source.transposed else value)


def _check_layers(folder: Path, found: int, expected: int) -> None:
  if found != expected:
    raise UserError(
      f'{folder} has {found} encoder layers, but EncoderConfig.num_layers is '
      f'{expected}. Build the model with encoder_config_from(folder).'
    )


def _check_vocab(
  path: Path, vocab_size: int, wordpiece: WordPiece | None
) -> None:
  with open(path, encoding='utf-8') as lines:
    found = sum(1 for line in lines if line.strip('\r\n'))
  if found != vocab_size:
    raise UserError(
      f'{path} has {found} wordpieces, but EncoderConfig.vocab_size is '
      f'{vocab_size}. The model and its corpus need the vocabulary of the '
      'weights: prepare the corpus with it.'
    )
  if wordpiece is None:
    return
  if WordPiece.from_vocab_file(path).fingerprint != wordpiece.fingerprint:
    raise UserError(
      f'{path} has as many wordpieces as the vocabulary of the corpus, but not '
      f'the same: prepare the corpus with --vocab {path}.'
    )
