"""Embedder: a text to the vector that relevance scores compare."""

import jax.numpy as jnp
from flax import linen as nn

from realm_jax.models import encoder
from realm_jax.models.layers import Dropout, at_least_float32
from realm_jax.types import Array, TextInputs


class Embedder(nn.Module):
  """LN(W tanh(V h + c) + b) of the [CLS] output h: REALM, section 3.2.

  Attributes:
    encoder_config: its transformer.
    embed_dim: length of the vector.
    layer_norm_epsilon: of the last layer norm; the official code has 1e-3, a
      default of Keras, where Hugging Face's has 1e-12.
  """

  encoder_config: encoder.EncoderConfig
  embed_dim: int
  layer_norm_epsilon: float

  def setup(self):  # noqa: D102
    config = self.encoder_config
    self.encoder = encoder.Encoder(config)
    self.pooler = encoder.dense(
      config, config.hidden_size, ('hidden', 'pooled')
    )
    self.projection = encoder.dense(
      config, self.embed_dim, ('pooled', 'embed_dim')
    )
    self.layer_norm = encoder.layer_norm(
      config, 'embed_dim', self.layer_norm_epsilon
    )
    self.dropout = Dropout(config.dropout_rate)

  def __call__(self, inputs: TextInputs, deterministic: bool = True) -> Array:
    """Embeds texts.

    Args:
      inputs: [..., length] TextInputs.
      deterministic: False for dropout, which the vectors themselves undergo
        too, as in the official code.

    Returns:
      [..., embed_dim] float32.
    """
    first = self.encoder(inputs, encoder.FIRST, deterministic)
    pooled = jnp.tanh(self.pooler(first[..., 0, :]))
    embeds = self.layer_norm(self.projection(pooled))
    embeds = self.dropout(embeds, deterministic=deterministic)
    return at_least_float32(embeds)
