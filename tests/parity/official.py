"""Files of numbers that the official TensorFlow 1 code made."""

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
from parity import deviations, names

from realm_jax.checkpoints.tf_checkpoint import keys_of
from realm_jax.models import realm
from realm_jax.models.encoder import EncoderConfig
from realm_jax.types import TextInputs

# Of losses and log probabilities; both programs are in float32.
TOLERANCE = 2e-5
# Of a gradient, to its tensor's largest entry.
GRADIENT_TOLERANCE = 1e-4
# Of weights, to the sum of the learning rates they were updated with. Adam
# makes a step of about the learning rate of any gradient, so that noise in one
# that is nearly zero shows in the weight as a share of the rate, however small
# or large the rate is.
UPDATE_TOLERANCE = 5e-3
# |m| / sqrt(v) of BERT's Adam, at most: m is 0.1 times the sum of 0.9^k g_k
# over the updates, the newest first, and v nearly 0.001 times that of g_k^2.
# The inequality of Cauchy and Schwarz bounds their ratio.
LARGEST_STEP = 0.1 / np.sqrt(0.001) / np.sqrt(1 - 0.81)


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
        for source in names.sources(shapes, part).values()
      }
      for part, shapes in self._shapes.items()
    }

  def tree(self, kind: str, suffix: str = ''):
    """E.g. 'var/' or 'grad/'; zeros for what the program does not have."""

    def read(part, source):
      name = self.names[part][source]
      return None if name is None else self.arrays.get(kind + name + suffix)

    return {
      part: names.fill(self._shapes[part], part, functools.partial(read, part))
      for part in self._shapes
    }

  def updates_recorded(self) -> list[int]:
    """After how many updates the weights are recorded."""
    matches = (re.match(r'after(\d+)/', key) for key in self.arrays)
    return sorted({int(match[1]) for match in matches if match})

  def text(self, prefix: str) -> TextInputs:
    return TextInputs(
      *(
        self.arrays[f'{prefix}/{name}']
        for name in ('token_ids', 'mask', 'segment_ids')
      )
    )


class Clipping:
  """The two norms that the gradient of a recorded run can be clipped by.

  The original clips by a norm that counts a word that occurs twice as two
  words: its gradient is in two pieces, which are not added up before. Ours is
  the true norm.

  Attributes:
    learning_rates: of the updates.
    recorded: the original's norms.
    own: whether to clip by ours.
  """

  def __init__(self, file: Official, own: bool):
    self.learning_rates = file.arrays['traj/lr_used']
    self.recorded = file.arrays['traj/clip_global_norm']
    self.own = own
    self._first_step = int(file.arrays['traj/global_step'][0])
    self._gap = 0.0

  @property
  def name(self) -> str:
    return 'our own' if self.own else 'recorded'

  @property
  def clip_norm(self) -> float | None:
    """For OptimizerConfig."""
    return 1.0 if self.own else None

  def before(self, transformation, params):
    """(transformation, its state), with clipping by the recorded norms.

    Adam's moments start at zero in the middle of a run.
    """
    state = optax.tree_utils.tree_set(
      transformation.init(params), count=jnp.int32(self._first_step)
    )
    if self.own:
      return transformation, state
    clip = _clip_by(self.recorded, self._first_step)
    state = clip.init(params), state
    return optax.chain(clip, transformation), state

  def see_norm(self, i: int, norm: float) -> None:
    """Keeps how much update i is scaled differently than the original's."""
    if self.own:
      ratio = max(1.0, self.recorded[i]) / max(1.0, norm)
      self._gap = max(self._gap, abs(ratio - 1))

  def weight_tolerance(self, num_updates: int) -> float:
    """By how much weights may differ after some updates.

    Where all gradients are scaled by factors up to a share apart from the
    original's, m and sqrt(v) are each off by up to that share of their bounds,
    and so a step by up to twice that share of the largest step. (With equal
    factors for all steps nothing would change.) From weights that are off come
    gradients that are off, at each later update again: hence times the updates.
    """
    sum_of_rates = float(self.learning_rates[:num_updates].sum())
    if not self.own:
      return UPDATE_TOLERANCE * sum_of_rates
    share = UPDATE_TOLERANCE + 2 * self._gap * LARGEST_STEP
    return share * num_updates * sum_of_rates

  def loss_tolerance(self, i: int) -> float:
    """Of the loss before update i: its gradient times what weights are off."""
    return TOLERANCE + float(self.recorded[i]) * self.weight_tolerance(i)


def _clip_by(norms, first_step: int) -> optax.GradientTransformation:
  """Clips to 1 as if the norm of each update were the one recorded."""
  norms = jnp.asarray(norms)

  def update(updates, count, params=None):
    del params
    factor = 1 / jnp.maximum(1, norms[count - first_step])
    return jax.tree.map(lambda update: factor * update, updates), count + 1

  return optax.GradientTransformation(lambda _: jnp.int32(first_step), update)
