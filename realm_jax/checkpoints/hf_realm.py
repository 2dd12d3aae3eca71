"""Hugging Face's REALM models as parameters of this library.

The transformers library (until 4.40) has RealmEmbedder, RealmScorer,
RealmKnowledgeAugEncoder, RealmReader and RealmForOpenQA.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from realm_jax.checkpoints.hf_names import OWN_CONFIG
from realm_jax.checkpoints.model_folder import CONFIG_FILE, gelu_of, read_config
from realm_jax.checkpoints.realm_parts import ForeignModel, assemble
from realm_jax.checkpoints.tensor_files import TensorFiles
from realm_jax.data.examples import Lengths
from realm_jax.errors import UserError
from realm_jax.models.encoder import EncoderConfig
from realm_jax.models.realm import RealmConfig

_QUESTION_LEN = 32  # of the reader's positions, in the original


def read_hf_realm(
  folders: Sequence[str | Path],
  vocab: str | Path | None = None,
  seed: int = 0,
) -> ForeignModel:
  """A model from the folders of Hugging Face REALM models.

  Parts that no folder has are made anew, and the log names them.

  Args:
    folders: each with config.json, vocab.txt, and safetensors or
      pytorch_model.bin.
    vocab: its vocab.txt; None to find it in the folders.
    seed: of what is made anew.

  Raises:
    FileNotFoundError: a folder or a file of it is missing.
    UserError: folders do not fit together; tensors are missing, unexpected or
      of another shape: of each folder and kind, the first are named.
  """
  opened = [TensorFiles(folder) for folder in folders]
  model = assemble(
    opened,
    _one_config([files.folder for files in opened]),
    f'the {CONFIG_FILE} beside them',
    vocab,
    seed,
    _config_json,
  )
  lengths = [_lengths_from(_config_json(files.folder)) for files in opened]
  return model._replace(lengths=next(filter(None, lengths), None))


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
  return read_config(path)


def _lengths_from(theirs: dict[str, Any]) -> Lengths | None:
  """The lengths of questions and blocks there; None if it does not tell.

  Blocks of the published models have up to 288 pieces, of the reader's 320,
  though questions may have 64: so they get all but _QUESTION_LEN.
  """
  query_len = theirs.get('searcher_seq_len', 64)
  joint_len = theirs.get('reader_seq_len')
  if not isinstance(query_len, int) or not isinstance(joint_len, int):
    return None
  document_len = joint_len - _QUESTION_LEN
  fits = query_len + document_len <= theirs.get('max_position_embeddings', 0)
  if OWN_CONFIG in theirs or not fits:
    document_len = joint_len - query_len
  return Lengths(query_len, document_len)


def _read_config(folder: Path) -> RealmConfig:
  theirs = _config_json(folder)
  try:
    if OWN_CONFIG in theirs:
      own = dict(theirs[OWN_CONFIG])
      return RealmConfig(**{**own, 'encoder': EncoderConfig(**own['encoder'])})
    return config_from(theirs, folder / CONFIG_FILE)
  except (KeyError, TypeError) as error:
    raise UserError(
      f'{folder / CONFIG_FILE} is no REALM configuration ({error!r}): '
      "expected the fields of transformers' RealmConfig."
    ) from error


def config_from(
  theirs: dict[str, Any], path: str | Path = CONFIG_FILE
) -> RealmConfig:
  """Our configuration from the fields of theirs.

  Their pad_token_id is not read: it is 1, where the vocabulary has [PAD] at 0.

  Args:
    theirs: all fields.
    path: where they are from, for messages.

  Raises:
    KeyError, TypeError: a field is missing or of another type.
    UserError: they describe what this model cannot be.
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
      gelu=gelu_of(theirs, path),
      mask_bias=None,
    ),
    embed_dim=theirs['retriever_proj_size'],
    embedder_layer_norm_epsilon=theirs['layer_norm_eps'],
    span_hidden_size=theirs['span_hidden_size'],
    max_span_width=theirs['max_span_width'],
    span_layer_norm_epsilon=theirs['reader_layer_norm_eps'],
    span_mask_bias=None,
  )
