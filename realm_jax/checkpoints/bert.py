"""Starting weights from a published BERT (adapter).

Keys are those of Hugging Face's BertModel and BertForPreTraining, with or
without 'bert.' in front; older files say gamma and beta in layer norms.
Checkpoints of TensorFlow 1, Google's own, are read as well.
"""

import dataclasses
import logging
import re
from pathlib import Path
from typing import Any

import jax

from realm_jax.checkpoints.bert_names import (
  Source,
  below,
  dense_sources,
  encoder_sources,
  mlm_head_sources,
)
from realm_jax.checkpoints.filling import (
  Problems,
  fill,
  name_of,
  note_unexpected,
)
from realm_jax.checkpoints.model_folder import (
  beside,
  find_vocab,
  gelu_of,
  one_vocabulary,
  read_config,
)
from realm_jax.checkpoints.realm_parts import ForeignModel
from realm_jax.checkpoints.tensor_files import TensorFiles
from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError
from realm_jax.models.encoder import EncoderConfig
from realm_jax.models.realm import RealmConfig, init_params

_logger = logging.getLogger(__name__)

# Copies of other tensors, and what tasks have put on top of a BERT.
_IDLE = re.compile(
  r'embeddings\.position_ids$|cls\.predictions\.decoder\.|'
  r'cls\.seq_relationship\.|classifier\.|qa_outputs\.|'
  r'cls/squad/|output_(weights|bias)$'
)
# A field of their configuration -> of EncoderConfig; weights do not tell them.
_SETTINGS = {
  'layer_norm_eps': 'layer_norm_epsilon',
  'hidden_dropout_prob': 'dropout_rate',
  'attention_probs_dropout_prob': 'attention_dropout_rate',
}


def _part_sources(part: str, num_layers: int) -> dict[str, Source]:
  """Path below the part -> where a BERT file has it."""
  encoder = below('encoder', '', encoder_sources(num_layers))
  if part == 'reader':
    return encoder | below('mlm_head', '', mlm_head_sources())
  return encoder | dense_sources('pooler', 'pooler.dense')


def _plain_key(key: str) -> str:
  key = re.sub(r'^(bert|realm)\.', '', key)
  for old, new in (('.gamma', '.weight'), ('.beta', '.bias')):
    if key.endswith(old):
      key = key.removesuffix(old) + new
  return key


def open_bert(folder: Path) -> TensorFiles:
  """The tensors of a BERT, by the keys of bert_names."""
  return TensorFiles(folder, _plain_key)


def encoder_config_from(
  folder: str | Path, num_heads: int | None = None
) -> EncoderConfig:
  """The encoder that the weights of a folder fit.

  Sizes are read from the weights. config.json or bert_config.json, where there
  is one, gives what weights do not tell: the number of heads, rates of dropout,
  the epsilon of layer norms, and the kind of gelu: TensorFlow's 'gelu' is the
  tanh approximation, others' is the exact one.

  Args:
    folder: tensor files (see TensorFiles), and perhaps a configuration.
    num_heads: attention heads, where there is no configuration.

  Raises:
    FileNotFoundError: there is no such folder, or no tensor file in it.
    UserError: the weights are not BERT's, the number of heads is unknown, or
      the configuration is of something else.
  """
  folder = Path(folder)
  bert = open_bert(folder)
  sources = encoder_sources(num_layers=1)
  keys = {
    name: sources[path].key
    for name, path in (
      ('words', 'embeddings/word'),
      ('positions', 'embeddings/position'),
      ('segments', 'embeddings/segment'),
      ('intermediate', 'layers_0/intermediate/bias'),
    )
  }
  missing = [key for key in keys.values() if key not in bert]
  if missing:
    raise UserError(
      f'{folder} has no tensor {", ".join(missing)}: expected the weights of a '
      f'BERT, found keys such as {bert.names()[:3]}.'
    )
  path = beside(folder, ('config.json', 'bert_config.json'))
  fields = read_config(path) if path else {}
  num_heads = num_heads or fields.get('num_attention_heads')
  if num_heads is None:
    raise UserError(
      f'{folder} has no config.json or bert_config.json, and weights do not '
      'tell the number of attention heads. Give num_heads: BERT-base has 12, '
      'MiniLM-L6-H384 too.'
    )
  gelu = gelu_of(fields, path or folder)
  vocab_size, hidden_size = bert.shape(keys['words'])
  try:
    return EncoderConfig(
      vocab_size=vocab_size,
      hidden_size=hidden_size,
      num_layers=_num_layers(bert),
      num_heads=num_heads,
      feed_forward_size=bert.shape(keys['intermediate'])[0],
      max_positions=bert.shape(keys['positions'])[0],
      num_segments=bert.shape(keys['segments'])[0],
      gelu='tanh' if bert.from_tensorflow else gelu,
      **{our: fields[its] for its, our in _SETTINGS.items() if its in fields},
    )
  except TypeError as error:
    raise UserError(
      f'{path} is no configuration of a BERT: {error}.'
    ) from error


def _num_layers(bert: TensorFiles) -> int:
  numbers = (re.match(r'encoder\.layer\.(\d+)\.', k) for k in bert.names())
  return max((int(number[1]) + 1 for number in numbers if number), default=0)


def read_bert(
  folder: str | Path,
  vocab: str | Path | None = None,
  num_heads: int | None = None,
  model: RealmConfig | None = None,
  seed: int = 0,
) -> ForeignModel:
  """A model whose encoders are those of a BERT.

  Args:
    folder: see encoder_config_from.
    vocab: its vocab.txt; None to find it in the folder.
    num_heads: attention heads, where there is no configuration.
    model: sizes of what BERT does not have.
    seed: of what BERT does not have.

  Raises:
    FileNotFoundError: there is no such folder, or a file of it is missing.
    UserError: as encoder_config_from and load_bert have it.
  """
  folder = Path(folder)
  config = dataclasses.replace(
    model or RealmConfig(), encoder=encoder_config_from(folder, num_heads)
  )
  vocab_file = one_vocabulary([folder], vocab)
  bert = open_bert(folder)
  params, made_anew = _fill(
    bert,
    config,
    init_params(config, jax.random.key(seed)),
    ('embedder', 'reader'),
    WordPiece.from_vocab_file(vocab_file),
  )
  return ForeignModel(config, params, vocab_file, made_anew, paths=bert.paths)


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
      missing, or one is unexpected or of another shape, of which the first are
      named; the file is damaged.
  """
  return _fill(open_bert(Path(folder)), config, params, parts, wordpiece)[0]


def _fill(
  bert: TensorFiles,
  config: RealmConfig,
  params: Any,
  parts: tuple[str, ...],
  wordpiece: WordPiece | None,
) -> tuple[Any, tuple[str, ...]]:
  """As load_bert; and the paths of the parameters that stay as they are."""
  if vocab := find_vocab(bert.folder):
    _check_vocab(vocab, config.encoder.vocab_size, wordpiece)
  num_layers = config.encoder.num_layers
  _check_layers(bert, num_layers)
  problems = Problems()
  filled, stay = dict(params), []
  for part in _parts_of(params, parts):
    sources = {
      path: source
      for path, source in _part_sources(part, num_layers).items()
      if path.startswith('encoder/') or source.key in bert
    }
    filled[part] = fill(params[part], bert, '', sources, problems)
    leaves = jax.tree_util.tree_leaves_with_path(params[part])
    names = [name_of(path) for path, _ in leaves]
    stay += [f'{part}/{name}' for name in names if name not in sources]
  known = {
    source.key
    for part in ('embedder', 'reader')
    for source in _part_sources(part, num_layers).values()
  }
  note_unexpected(bert, known, _IDLE.match, problems)
  problems.refuse("a BERT of the model's sizes")
  missing = [name for name in stay if re.search('/(pooler|mlm_head)/', name)]
  if missing:
    _logger.warning(
      '%s has no weights for %s: newly initialised.',
      bert.folder,
      ', '.join(missing),
    )
  return filled, tuple(stay)


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


def _check_layers(bert: TensorFiles, expected: int) -> None:
  found = _num_layers(bert)
  if found != expected:
    raise UserError(
      f'{bert.folder} has {found} encoder layers, but EncoderConfig.num_layers '
      f'is {expected}. Build the model with encoder_config_from(folder).'
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
      f'{path} ({found} wordpieces) is not the vocabulary of the corpus '
      f'({wordpiece.size} wordpieces): prepare the corpus with --vocab {path}.'
    )
