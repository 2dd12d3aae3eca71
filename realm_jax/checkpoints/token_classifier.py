"""A Hugging Face token classifier of BERT's shape: weights and labels."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn

from realm_jax.checkpoints.bert import encoder_config_from, open_bert
from realm_jax.checkpoints.bert_names import (
  below,
  dense_sources,
  encoder_sources,
)
from realm_jax.checkpoints.filling import Problems, fill
from realm_jax.checkpoints.model_folder import CONFIG_FILE, read_config
from realm_jax.errors import UserError
from realm_jax.models.encoder import EncoderConfig
from realm_jax.models.token_classifier import TokenClassifier
from realm_jax.types import TextInputs


class LoadedClassifier(NamedTuple):
  """A classifier that is ready.

  Attributes:
    config: of its encoder.
    params: of models.token_classifier.TokenClassifier, float32.
    labels: [num_labels] names, such as 'B-PER' and 'O'.
  """

  config: EncoderConfig
  params: Any
  labels: tuple[str, ...]


def load_token_classifier(folder: Path) -> LoadedClassifier:
  """Reads a folder such as that of BertForTokenClassification.

  Args:
    folder: with config.json, and safetensors or pytorch_model.bin.

  Raises:
    FileNotFoundError: there is no such folder or file.
    UserError: it is no token classifier of BERT's shape; tensors are missing
      or of another shape.
  """
  path = folder / CONFIG_FILE
  if not path.is_file():
    raise FileNotFoundError(f'{path} does not exist: labels are read from it.')
  config = encoder_config_from(folder)
  files = open_bert(folder)
  if 'classifier.weight' not in files:
    raise UserError(
      f'{folder} has no tensor classifier.weight: expected a model for token '
      f'classification, found keys such as {files.names()[-3:]}.'
    )
  num_labels = files.shape('classifier.weight')[0]
  names = read_config(path).get('id2label', {})
  if set(names) != {str(i) for i in range(num_labels)}:
    raise UserError(
      f'{path} names {len(names)} labels in id2label, but the classifier has '
      f'{num_labels}.'
    )
  model = TokenClassifier(config, num_labels)
  text = TextInputs(*(np.zeros((1, 2), np.int32) for _ in range(3)))
  boxed = jax.eval_shape(model.init, jax.random.key(0), text)['params']
  shapes = nn.meta.unbox(boxed)
  sources = {
    **below('encoder', '', encoder_sources(config.num_layers)),
    **dense_sources('classifier', 'classifier'),
  }
  problems = Problems()
  params = fill(shapes, files, '', sources, problems)
  problems.refuse(f'the sizes in {path}')
  labels = tuple(str(names[str(i)]) for i in range(num_labels))
  return LoadedClassifier(config, params, labels)
