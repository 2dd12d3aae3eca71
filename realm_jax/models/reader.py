"""Reader: the paper's knowledge-augmented encoder, with its two heads.

It reads query and document in one sequence. The masked-LM head gives p(y|x,z)
in pre-training; the span head scores answers in fine-tuning.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from realm_jax.models import encoder
from realm_jax.models.layers import (
  at_least_float32,
  lowest_if_none,
  weight_init,
)
from realm_jax.types import Array, TextInputs


def span_positions(
  joint_len: int, max_span_width: int
) -> tuple[np.ndarray, np.ndarray]:
  """The spans that a span head scores, by width and then by start.

  Args:
    joint_len: length of the joint sequence.
    max_span_width: wordpieces in the widest span.

  Returns:
    (starts, stops), each [num_spans] int32; half-open, as everywhere.
  """
  widths = range(1, min(max_span_width, joint_len) + 1)
  starts = [np.arange(joint_len - width + 1) for width in widths]
  stops = [start + width for start, width in zip(starts, widths, strict=True)]
  return (
    np.concatenate(starts).astype(np.int32),
    np.concatenate(stops).astype(np.int32),
  )


class MlmHead(nn.Module):
  """Dense, gelu, layer norm; then the word embeddings and a bias a word."""

  config: encoder.EncoderConfig

  def setup(self):  # noqa: D102
    config = self.config
    self.dense = encoder.dense(config, config.hidden_size, ('hidden', 'mlm'))
    self.layer_norm = encoder.layer_norm(config, 'mlm')
    self.bias = self.param(
      'bias',
      weight_init(nn.initializers.zeros, 'vocab'),
      (config.vocab_size,),
    )

  def _logits(self, hidden: Array, word_embeddings: Array) -> Array:
    """[..., vocab_size] float32, from transformed hidden states."""
    logits = jnp.einsum(
      '...h,vh->...v',
      hidden,
      word_embeddings.astype(hidden.dtype),
      preferred_element_type=jnp.promote_types(hidden.dtype, jnp.float32),
    )
    return logits + jnp.broadcast_to(self.bias, logits.shape)

  def log_probs(self, hidden: Array, word_embeddings: Array) -> Array:
    """[..., hidden_size] -> [..., vocab_size] float32 log probabilities."""
    hidden = self._transform(hidden)
    return jax.nn.log_softmax(self._logits(hidden, word_embeddings))

  def gold_log_probs(
    self, hidden: Array, word_embeddings: Array, targets: Array
  ) -> Array:
    """Log probabilities of the targets alone.

    The target's logit is computed from its own row of the table: of the
    [..., vocab_size] logits only the sum of their exponentials is kept, and
    their gradient needs no scatter.

    Args:
      hidden: [..., hidden_size].
      word_embeddings: [vocab_size, hidden_size].
      targets: [...] int32.

    Returns:
      [...] float32, nats.
    """
    hidden = self._transform(hidden)
    norms = jax.nn.logsumexp(self._logits(hidden, word_embeddings), axis=-1)
    rows = jnp.take(word_embeddings, targets, axis=0).astype(hidden.dtype)
    scores = jnp.einsum(
      '...h,...h->...', hidden, rows, preferred_element_type=norms.dtype
    )
    return scores + jnp.take(self.bias, targets) - norms

  def _transform(self, hidden: Array) -> Array:
    return self.layer_norm(encoder.gelu(self.config, self.dense(hidden)))


class SpanHead(nn.Module):
  """Score of a span: w . LN(relu(start_i + end_j)) + c, as in ORQA.

  Lee et al. (2019), section 4. Start and end are the two halves of one dense
  layer of the encoder's output.
  """

  config: encoder.EncoderConfig
  span_hidden_size: int
  max_span_width: int
  layer_norm_epsilon: float

  def setup(self):  # noqa: D102
    config, size = self.config, self.span_hidden_size
    self.start_and_end = encoder.dense(config, 2 * size, ('hidden', 'span'))
    ones, zeros = nn.initializers.ones, nn.initializers.zeros
    normal = nn.initializers.truncated_normal(config.initializer_range)
    for name, initializer in (
      ('layer_norm_scale', ones),
      ('layer_norm_bias', zeros),
      ('score_kernel', normal),
    ):
      init = weight_init(initializer, 'span')
      setattr(self, name, self.param(name, init, (size,)))
    self.score_bias = self.param('score_bias', zeros, ())

  def __call__(self, hidden: Array) -> Array:
    """Scores every span.

    Args:
      hidden: [..., joint_len, hidden_size].

    Returns:
      [..., num_spans] float32, in the order of span_positions.
    """
    joint_len = hidden.shape[-2]
    starts, ends = jnp.split(self.start_and_end(hidden), 2, axis=-1)
    scale = self.layer_norm_scale * self.score_kernel
    offset = self.layer_norm_bias @ self.score_kernel + self.score_bias
    scores = [
      _scores_of_width(
        starts[..., : joint_len - width + 1, :],
        ends[..., width - 1 :, :],
        scale,
        self.layer_norm_epsilon,
      )
      for width in range(1, min(self.max_span_width, joint_len) + 1)
    ]
    return jnp.concatenate(scores, axis=-1) + offset


@functools.partial(jax.checkpoint, static_argnums=3)
def _scores_of_width(
  starts: Array, ends: Array, scale: Array, epsilon: float
) -> Array:
  """sum_k scale_k LN(relu(start + end))_k, with no more than one width held.

  The backward pass computes the hidden units of a width again: kept for all
  widths they would be the largest array of fine-tuning by far.
  """
  units = at_least_float32(jax.nn.relu(starts + ends))
  units = units - units.mean(axis=-1, keepdims=True)
  variance = jnp.square(units).mean(axis=-1)
  return (units @ scale) * jax.lax.rsqrt(variance + epsilon)


class Reader(nn.Module):
  """Joint encoding of query and document, and its two heads.

  Attributes:
    encoder_config: its transformer.
    span_hidden_size: hidden units of the span head.
    max_span_width: wordpieces in the widest answer.
    span_layer_norm_epsilon: of the layer norm in the span head.
    span_mask_bias: added to spans outside the block; None is the most negative
      finite float.
  """

  encoder_config: encoder.EncoderConfig
  span_hidden_size: int
  max_span_width: int
  span_layer_norm_epsilon: float
  span_mask_bias: float | None

  def setup(self):  # noqa: D102
    self.encoder = encoder.Encoder(self.encoder_config)
    self.mlm_head = MlmHead(self.encoder_config)
    self.span_head = SpanHead(
      self.encoder_config,
      self.span_hidden_size,
      self.max_span_width,
      self.span_layer_norm_epsilon,
    )

  def _masked_hidden(
    self, joint: TextInputs, mlm_positions: Array, deterministic: bool
  ) -> Array:
    """[batch, num_candidates, max_masks, hidden_size]."""
    positions = jnp.broadcast_to(
      mlm_positions[:, None, :],
      (*joint.token_ids.shape[:2], mlm_positions.shape[-1]),
    )
    return self.encoder(joint, positions, deterministic)

  def gold_log_probs(
    self,
    joint: TextInputs,
    mlm_positions: Array,
    mlm_targets: Array,
    deterministic: bool = True,
  ) -> Array:
    """log p(y_m | x, z) of each masked token given each candidate.

    Args:
      joint: [batch, num_candidates, joint_len] TextInputs.
      mlm_positions: [batch, max_masks] int32, positions in the joint sequence.
      mlm_targets: [batch, max_masks] int32, token ids.
      deterministic: False for dropout.

    Returns:
      [batch, num_candidates, max_masks] float32, nats.
    """
    hidden = self._masked_hidden(joint, mlm_positions, deterministic)
    targets = jnp.broadcast_to(mlm_targets[:, None, :], hidden.shape[:-1])
    return self.mlm_head.gold_log_probs(
      hidden, self.encoder.word_embeddings, targets
    )

  def mlm_log_probs(
    self, joint: TextInputs, mlm_positions: Array, deterministic: bool = True
  ) -> Array:
    """Log probabilities of the whole vocabulary at each masked position.

    Args:
      joint: [batch, num_candidates, joint_len] TextInputs.
      mlm_positions: [batch, max_masks] int32.
      deterministic: False for dropout.

    Returns:
      [batch, num_candidates, max_masks, vocab_size] float32, nats.
    """
    hidden = self._masked_hidden(joint, mlm_positions, deterministic)
    return self.mlm_head.log_probs(hidden, self.encoder.word_embeddings)

  def span_scores(
    self, joint: TextInputs, block_mask: Array, deterministic: bool = True
  ) -> Array:
    """Scores of all spans as answers; comparable between the blocks of a row.

    Args:
      joint: [..., joint_len] TextInputs.
      block_mask: [..., joint_len] int or bool; true where an answer may lie. A
        span counts where its first and last wordpiece do.
      deterministic: False for dropout.

    Returns:
      [..., num_spans] float32, in the order of span_positions; masked spans
      have span_mask_bias added.
    """
    hidden = self.encoder(joint, deterministic=deterministic)
    scores = self.span_head(hidden)
    starts, stops = span_positions(hidden.shape[-2], self.max_span_width)
    block_mask = block_mask.astype(bool)
    inside = block_mask[..., starts] & block_mask[..., stops - 1]
    bias = lowest_if_none(self.span_mask_bias, scores.dtype)
    return scores + jnp.where(inside, 0, bias)
