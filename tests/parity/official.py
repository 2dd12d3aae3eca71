"""Files of numbers that the official TensorFlow 1 code made."""

import functools
import json

import jax
import numpy as np
from parity import deviations, names

from realm_jax.checkpoints.tf_checkpoint import keys_of
from realm_jax.models import realm
from realm_jax.models.encoder import EncoderConfig
from realm_jax.types import TextInputs

# Of losses and log probabilities; both programs are in float32.
TOLERANCE = 2e-5
# Of a gradient, to its tensor's largest entry.
GRADIENT_TOLERANCE = 1e-4


def assert_close(actual, expected, quantity: str, atol: float = TOLERANCE):
  deviations.assert_close(
    actual, expected, atol, f'TensorFlow {quantity}', 'float32'
  )


def assert_gradients_close(actual, expected, name: str):
  worst = names.assert_trees_close(actual, expected, GRADIENT_TOLERANCE)
  quantity = f'TensorFlow {name}: gradients, to the largest entry'
  deviations.record(quantity, 'float32', worst)


def model_config(settings) -> realm.RealmConfig:
  return realm.RealmConfig(
    encoder=EncoderConfig(
      vocab_size=settings['vocab_size'],
      hidden_size=settings['hidden_size'],
      num_layers=settings['num_hidden_layers'],
      num_heads=settings['num_attention_heads'],
      feed_forward_size=settings['intermediate_size'],
      max_positions=settings['max_position_embeddings'],
      num_segments=settings['type_vocab_size'],
    ),
    embed_dim=settings['projection_size'],
    # pre-training has no span head
    span_hidden_size=settings.get('span_hidden_size', 1),
    max_span_width=settings.get('max_span_width', 1),
  )


class Official:
  """A file of fixtures, with trees of its arrays in our layout.

  Attributes:
    names: part -> path of a parameter -> its variable, where there is one.
  """

  def __init__(self, path):
    self.arrays = np.load(path)
    self.settings = json.loads(str(self.arrays['meta/config_json']))
    self.config = model_config(self.settings)
    self._shapes = jax.eval_shape(
      lambda: realm.init_params(self.config, jax.random.key(0))
    )
    variables = (
      key.removeprefix('var/') for key in self.arrays if key.startswith('var/')
    )
    by_key = {key: name for name, key in keys_of(variables).items()}
    self.names = {
      part: {
        source: by_key.get(f'{part}.{source.key}', by_key.get(source.key))
        for source in names.SOURCES[part].values()
      }
      for part in self._shapes
    }

  def tree(self, kind: str):
    """E.g. 'var/' or 'grad/'; zeros for what the program does not have."""

    def read(part, source):
      name = self.names[part][source]
      return None if name is None else self.arrays.get(kind + name)

    return {
      part: names.fill(self._shapes[part], part, functools.partial(read, part))
      for part in self._shapes
    }

  def text(self, prefix: str) -> TextInputs:
    return TextInputs(
      *(
        self.arrays[f'{prefix}/{name}']
        for name in ('token_ids', 'mask', 'segment_ids')
      )
    )
