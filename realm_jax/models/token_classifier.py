"""A label for every wordpiece: the tagger that finds salient spans."""

from flax import linen as nn

from realm_jax.models.encoder import Encoder, EncoderConfig, dense
from realm_jax.types import Array, TextInputs


class TokenClassifier(nn.Module):
  """An encoder and a dense layer, as BertForTokenClassification.

  Attributes:
    config: of the encoder.
    num_labels: labels a wordpiece may have.
  """

  config: EncoderConfig
  num_labels: int

  def setup(self):  # noqa: D102
    self.encoder = Encoder(self.config)
    self.classifier = dense(self.config, self.num_labels, ('hidden', 'label'))

  def __call__(self, inputs: TextInputs) -> Array:
    """Scores of the labels: [batch, length, num_labels].

    Args:
      inputs: [batch, length] TextInputs.
    """
    return self.classifier(self.encoder(inputs))
