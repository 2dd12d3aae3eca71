"""Modules and checkpoints of the original REALM and ORQA as our parameters.

They have no configuration beside them: sizes are those of the variables, and
epsilons, activation and masking constants those of the original code, which
are RealmConfig's defaults.
"""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

from realm_jax.checkpoints.realm_parts import ForeignModel, assemble
from realm_jax.checkpoints.tensor_files import TensorFiles
from realm_jax.checkpoints.tf_checkpoint import BLOCK_EMBEDS
from realm_jax.errors import UserError
from realm_jax.models.encoder import EncoderConfig
from realm_jax.models.realm import RealmConfig

_logger = logging.getLogger(__name__)

_HEAD_SIZE = 64  # of every BERT that Google published


def read_official(
  paths: Sequence[str | Path],
  vocab: str | Path | None = None,
  num_heads: int | None = None,
  seed: int = 0,
) -> ForeignModel:
  """A model from TF-Hub modules or checkpoints of the original programs.

  Args:
    paths: folders or prefixes of checkpoints: the modules of the embedder and
      of the BERT that pre-training exports; or a checkpoint of fine-tuning,
      which has both; or one of block embeddings, beside them.
    vocab: vocab.txt; None to find it in the folders.
    num_heads: attention heads; None for one each 64 hidden units, as all
      published models have.
    seed: of what none of them has.

  Raises:
    FileNotFoundError: there is no checkpoint, or no vocab.txt.
    ImportError: TensorFlow is not installed.
    UserError: a checkpoint is damaged or of something else; tensors are
      missing, unexpected or of another shape: of each folder and kind, the
      first are named.
  """
  opened = [TensorFiles(path) for path in paths]
  for files in opened:
    if not files.from_tensorflow:
      raise UserError(
        f'{files.folder} is no checkpoint of TensorFlow: import it as hf-realm.'
      )
  return assemble(
    opened,
    _config(opened, num_heads),
    'the sizes of the others, or the programs that are known',
    vocab,
    seed,
  )


def _config(
  opened: Sequence[TensorFiles], num_heads: int | None
) -> RealmConfig:
  """Sizes, from the first files that have them; assemble checks the rest."""
  if all(files.names() == [BLOCK_EMBEDS] for files in opened):
    raise UserError(
      f'{opened[0].folder} has block embeddings and no model: name the '
      'checkpoint of the model as well.'
    )
  shapes = {
    key.removeprefix('reader.').removeprefix('embedder.'): files.shape(key)
    for files in reversed(opened)
    for key in files.names()
  }
  try:
    vocab_size, hidden_size = shapes['realm.embeddings.word_embeddings.weight']
    encoder = EncoderConfig(
      vocab_size=vocab_size,
      hidden_size=hidden_size,
      num_layers=sum(
        key.endswith('attention.self.query.bias') for key in shapes
      ),
      num_heads=num_heads or _num_heads(hidden_size),
      feed_forward_size=shapes['realm.encoder.layer.0.intermediate.dense.bias'][
        0
      ],
      max_positions=shapes['realm.embeddings.position_embeddings.weight'][0],
      num_segments=shapes['realm.embeddings.token_type_embeddings.weight'][0],
    )
  except KeyError as error:
    raise UserError(
      f'{opened[0].folder} has no {error}: expected the variables of a BERT, '
      "of ICT's or REALM's embedder, or of ORQA."
    ) from error
  own = RealmConfig(encoder)
  embed_dim, span_hidden_size = own.embed_dim, own.span_hidden_size
  if 'cls.dense.bias' in shapes:
    embed_dim = shapes['cls.dense.bias'][0]
  if 'qa_outputs.dense_intermediate.bias' in shapes:  # of start, and of end
    span_hidden_size = shapes['qa_outputs.dense_intermediate.bias'][0] // 2
  return dataclasses.replace(
    own, embed_dim=embed_dim, span_hidden_size=span_hidden_size
  )


def _num_heads(hidden_size: int) -> int:
  if hidden_size % _HEAD_SIZE:
    raise UserError(
      f'The weights have {hidden_size} hidden units, and do not tell the '
      'number of attention heads. Give it with --num-heads.'
    )
  num_heads = hidden_size // _HEAD_SIZE
  _logger.info('%d attention heads, of %d units each.', num_heads, _HEAD_SIZE)
  return num_heads
