"""What lies beside the weights of a model: vocabulary and configuration."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError
from realm_jax.folders import read_json

CONFIG_FILE = 'config.json'
VOCAB_FILE = 'vocab.txt'
# Names of activations; of the last two the formula is one.
_ACTIVATIONS = ('gelu', 'gelu_new', 'gelu_pytorch_tanh')


def beside(path: Path, names: Sequence[str]) -> Path | None:
  """The first of these files in a folder, or where a prefix lies."""
  folder = path if path.is_dir() else path.parent
  for name in names:
    if (folder / name).is_file():
      return folder / name
  return None


def find_vocab(path: Path) -> Path | None:
  """The vocabulary of some weights; a TF-Hub module has it in assets/."""
  return beside(path, (VOCAB_FILE, f'assets/{VOCAB_FILE}'))


def one_vocabulary(
  folders: Sequence[Path], given: str | Path | None = None
) -> Path:
  """The vocab.txt of a model that lies in some folders.

  Args:
    folders: the folders, or prefixes of checkpoints.
    given: where it is, if not there.

  Raises:
    FileNotFoundError: there is none.
    UserError: two folders have different vocabularies, or one is none.
  """
  if given is not None:
    if not Path(given).is_file():
      raise FileNotFoundError(
        f'Vocabulary {given} does not exist. Expected the vocab.txt that the '
        'model was trained with.'
      )
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


def read_config(path: Path) -> dict[str, Any]:
  """The fields of a config.json.

  Raises:
    UserError: it is not JSON, or no object.
  """
  fields = read_json(path)
  if not isinstance(fields, dict):
    raise UserError(
      f'{path} holds a {type(fields).__name__}, expected the fields of a '
      "model's configuration by name."
    )
  return fields


def gelu_of(fields: dict[str, Any], path: str | Path) -> str:
  """The gelu of a configuration, as EncoderConfig calls it: 'erf' or 'tanh'.

  Args:
    fields: hidden_act counts, and position_embedding_type.
    path: where they are from, for messages.

  Raises:
    UserError: it has another activation, or positions that are not absolute,
      which this encoder has not.
  """
  activation = fields.get('hidden_act', 'gelu')
  if activation not in _ACTIVATIONS:
    raise UserError(
      f'{path} has hidden_act {activation!r}, expected gelu or gelu_new: this '
      'encoder has no other activation.'
    )
  positions = fields.get('position_embedding_type', 'absolute')
  if positions != 'absolute':
    raise UserError(
      f'{path} has position_embedding_type {positions!r}, expected absolute: '
      'this encoder has no others.'
    )
  return 'erf' if activation == 'gelu' else 'tanh'
