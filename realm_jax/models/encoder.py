"""Transformer encoder of BERT's shape: post-norm, absolute positions.

Devlin et al. (2019), as the REALM code runs it. Parameters are float32; the
arithmetic is in `EncoderConfig.dtype`, but for layer norm statistics and the
softmax, which are in float32 at least.

Every parameter is created through `dense`, `layer_norm` or `weight_init`, which
name its axes for sharding.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from realm_jax.errors import UserError
from realm_jax.models.attention import (
  ATTENTIONS,
  attend,
  attend_fused,
  attend_in_parts,
  fused_problem,
  is_fused,
  num_parts,
)
from realm_jax.models.layers import Dense, Dropout, weight_init
from realm_jax.types import Array, TextInputs

FIRST = slice(0, 1)  # the [CLS] position, for `positions` of Encoder

_GELUS = ('tanh', 'erf')
_DTYPES = ('float32', 'bfloat16', 'float16', 'float64')
# What the backward pass finds of a layer, beside its input.
_REMAT_POLICIES = {
  'none': jax.checkpoint_policies.everything_saveable,
  'dots': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  'full': jax.checkpoint_policies.nothing_saveable,
}


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
  """Size and arithmetic of an encoder. The defaults are BERT-base, uncased.

  Attributes:
    vocab_size: number of wordpieces.
    hidden_size: width; a multiple of num_heads.
    num_layers: layers, at least 1.
    num_heads: attention heads.
    feed_forward_size: width inside the feed-forward layers.
    max_positions: longest sequence that has position embeddings.
    num_segments: rows of the segment embedding table.
    dropout_rate: dropout of hidden states, in training.
    attention_dropout_rate: dropout of attention probabilities, in training.
    layer_norm_epsilon: added to the variance; BERT has 1e-12.
    mask_bias: added to the attention scores of padding. BERT has -1e4; None is
      the most negative finite float, as in Hugging Face's REALM.
    gelu: 'tanh', the approximation that BERT and REALM use, or 'erf'.
    initializer_range: standard deviation of new weights.
    dtype: name of the dtype of the arithmetic, such as 'bfloat16'.
    attention: 'xla', 'fused', one kernel on NVIDIA GPUs, or 'auto', fused where
      it can be; see models.attention. In training fused needs
      attention_dropout_rate 0, always 16 bits.
    scan_layers: trace and compile one layer for all. A deep encoder compiles
      several times faster; dropout draws other numbers, all else is the same.
    remat: what the backward pass computes again rather than keeps: 'none';
      'dots', all but the outputs of dense layers; 'full', whole layers. The
      numbers are the same; the memory of a long or large batch is not.

  Raises:
    UserError: a value is out of its range.
  """

  vocab_size: int = 30522
  hidden_size: int = 768
  num_layers: int = 12
  num_heads: int = 12
  feed_forward_size: int = 3072
  max_positions: int = 512
  num_segments: int = 2
  dropout_rate: float = 0.1
  attention_dropout_rate: float = 0.1
  layer_norm_epsilon: float = 1e-12
  mask_bias: float | None = -1e4
  gelu: str = 'tanh'
  initializer_range: float = 0.02
  dtype: str = 'float32'
  attention: str = 'auto'
  scan_layers: bool = False
  remat: str = 'none'

  @property
  def head_size(self) -> int:
    """Width of an attention head."""
    return self.hidden_size // self.num_heads

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if field.type is int and (not isinstance(value, int) or value < 1):
        raise UserError(
          f'EncoderConfig.{field.name} is {value!r}, expected a whole number '
          'of at least 1.'
        )
    if self.hidden_size % self.num_heads:
      raise UserError(
        f'EncoderConfig.hidden_size is {self.hidden_size}, expected a multiple '
        f'of num_heads, which is {self.num_heads}.'
      )
    for name in ('dropout_rate', 'attention_dropout_rate'):
      if not 0 <= getattr(self, name) < 1:
        raise UserError(
          f'EncoderConfig.{name} is {getattr(self, name)}, expected at least 0 '
          'and less than 1.'
        )
    if self.mask_bias is not None and self.mask_bias >= 0:
      raise UserError(
        f'EncoderConfig.mask_bias is {self.mask_bias}, expected a large '
        'negative number such as -1e4, or None for the most negative one.'
      )
    for name, allowed in (
      ('gelu', _GELUS),
      ('dtype', _DTYPES),
      ('attention', ATTENTIONS),
      ('remat', tuple(_REMAT_POLICIES)),
    ):
      if getattr(self, name) not in allowed:
        raise UserError(
          f'EncoderConfig.{name} is {getattr(self, name)!r}, expected one of '
          f'{", ".join(allowed)}.'
        )
    problem = fused_problem(
      self.dtype, self.head_size, self.attention_dropout_rate
    )
    if self.attention == 'fused' and problem:
      raise UserError(
        f"EncoderConfig.attention is 'fused', but {problem}. Set it to 'auto' "
        'for fused attention only where it can be.'
      )


# What no weights depend on.
_COMPUTING = (
  'dropout_rate',
  'attention_dropout_rate',
  'dtype',
  'attention',
  'scan_layers',
  'remat',
)


def computed_as(sizes: EncoderConfig, other: EncoderConfig) -> EncoderConfig:
  """An encoder of the sizes of one, with dropout and arithmetic of another.

  Args:
    sizes: weights fit it; vocabulary, layers, activation and the like.
    other: dropout rates, dtype, attention, scan_layers and remat.
  """
  settings = {name: getattr(other, name) for name in _COMPUTING}
  return dataclasses.replace(sizes, **settings)


def dense(config: EncoderConfig, features: int, axes: tuple[str, str]) -> Dense:
  """A dense layer with bias; `axes` are the logical axes of its kernel."""
  initializer = nn.initializers.truncated_normal(config.initializer_range)
  return Dense(
    features,
    dtype=config.dtype,
    kernel_init=weight_init(initializer, *axes),
    bias_init=weight_init(nn.initializers.zeros, axes[-1]),
  )


def layer_norm(
  config: EncoderConfig, axis: str = 'hidden', epsilon: float | None = None
) -> nn.LayerNorm:
  """Layer norm over the last axis, with the encoder's epsilon by default."""
  return nn.LayerNorm(
    epsilon=config.layer_norm_epsilon if epsilon is None else epsilon,
    dtype=config.dtype,
    scale_init=weight_init(nn.initializers.ones, axis),
    bias_init=weight_init(nn.initializers.zeros, axis),
    use_fast_variance=False,
  )


def gelu(config: EncoderConfig, hidden: Array) -> Array:
  """The activation of feed-forward layers and of the masked-LM head."""
  return jax.nn.gelu(hidden, approximate=config.gelu == 'tanh')


def _take(hidden: Array, positions: Array | slice) -> Array:
  """[batch, length, hidden_size] -> [batch, num_positions, hidden_size]."""
  if isinstance(positions, slice):
    return hidden[:, positions]
  return jnp.take_along_axis(hidden, positions[:, :, None], axis=1)


class Embeddings(nn.Module):
  """Word, segment and position embeddings, added and normalised."""

  config: EncoderConfig

  def setup(self):  # noqa: D102
    config = self.config
    initializer = nn.initializers.truncated_normal(config.initializer_range)
    for name, size, axis in (
      ('word', config.vocab_size, 'vocab'),
      ('position', config.max_positions, 'positions'),
      ('segment', config.num_segments, 'segments'),
    ):
      init = weight_init(initializer, axis, 'hidden')
      setattr(self, name, self.param(name, init, (size, config.hidden_size)))
    self.layer_norm = layer_norm(config)
    self.dropout = Dropout(config.dropout_rate)

  def __call__(self, inputs: TextInputs, deterministic: bool) -> Array:
    """[batch, length] TextInputs -> [batch, length, hidden_size]."""
    length = inputs.token_ids.shape[-1]
    # One-hot, because its gradient is a matrix product where that of a lookup
    # adds every token's row into the same two, one after the other.
    segments = jax.nn.one_hot(
      inputs.segment_ids, self.config.num_segments, dtype=self.segment.dtype
    )
    hidden = (
      jnp.take(self.word, inputs.token_ids, axis=0)
      + segments @ self.segment
      + self.position[None, :length]
    )
    hidden = self.layer_norm(hidden)
    return self.dropout(hidden, deterministic=deterministic)


class SelfAttention(nn.Module):
  """Multi-head attention of some positions to all positions."""

  config: EncoderConfig

  def setup(self):  # noqa: D102
    size = self.config.hidden_size
    self.query = dense(self.config, size, ('hidden', 'heads'))
    self.key = dense(self.config, size, ('hidden', 'heads'))
    self.value = dense(self.config, size, ('hidden', 'heads'))
    self.output = dense(self.config, size, ('heads', 'hidden'))
    self.dropout = Dropout(self.config.attention_dropout_rate)

  def _heads(self, hidden: Array) -> Array:
    """[batch, length, hidden_size] -> [batch, length, num_heads, head_size]."""
    return hidden.reshape(*hidden.shape[:-1], self.config.num_heads, -1)

  def __call__(
    self, from_hidden: Array, hidden: Array, mask: Array, deterministic: bool
  ) -> Array:
    """Attends from some positions to all.

    Args:
      from_hidden: [batch, num_positions, hidden_size].
      hidden: [batch, length, hidden_size].
      mask: [batch, length] bool; true at real tokens.
      deterministic: False for dropout.

    Returns:
      [batch, num_positions, hidden_size].
    """
    config = self.config
    query = self._heads(self.query(from_hidden))
    key = self._heads(self.key(hidden))
    value = self._heads(self.value(hidden))
    if is_fused(
      config.attention,
      config.dtype,
      config.head_size,
      0 if deterministic else config.attention_dropout_rate,
      query.shape[1],
      key.shape[1],
    ):
      context = attend_fused(query, key, value, mask)
    else:
      scores = (len(query), config.num_heads, query.shape[1], key.shape[1])
      kept = self.dropout.draw(scores, deterministic)
      context = attend_in_parts(
        query,
        key,
        value,
        mask,
        kept,
        functools.partial(
          attend, mask_bias=config.mask_bias, dropout=self.dropout.apply_to
        ),
        num_parts(len(query), math.prod(scores)),
      )
    return self.output(context.reshape(from_hidden.shape))


class Layer(nn.Module):
  """Attention and feed-forward, each added to its input and normalised."""

  config: EncoderConfig

  def setup(self):  # noqa: D102
    config = self.config
    self.attention = SelfAttention(config)
    self.attention_layer_norm = layer_norm(config)
    self.intermediate = dense(
      config, config.feed_forward_size, ('hidden', 'feed_forward')
    )
    self.output = dense(config, config.hidden_size, ('feed_forward', 'hidden'))
    self.output_layer_norm = layer_norm(config)
    self.dropout = Dropout(config.dropout_rate)

  def __call__(
    self, from_hidden: Array, hidden: Array, mask: Array, deterministic: bool
  ) -> Array:
    """As SelfAttention: the positions of from_hidden, [batch, num_positions,
    hidden_size], are those that are computed."""
    context = self.attention(from_hidden, hidden, mask, deterministic)
    context = self.dropout(context, deterministic=deterministic)
    hidden = self.attention_layer_norm(from_hidden + context)
    output = self.output(gelu(self.config, self.intermediate(hidden)))
    output = self.dropout(output, deterministic=deterministic)
    return self.output_layer_norm(hidden + output)


def _layer_class(remat: str) -> type[Layer]:
  """Layer, computed again in the backward pass as EncoderConfig.remat has it.

  Its parameters have the same names whatever that is.
  """
  if remat == 'none':
    return Layer
  deterministic = 4  # the place of this argument, the module being 0
  return nn.remat(
    Layer, static_argnums=(deterministic,), policy=_REMAT_POLICIES[remat]
  )


class Encoder(nn.Module):
  """Text to one vector a position."""

  config: EncoderConfig

  def setup(self):  # noqa: D102
    self.embeddings = Embeddings(self.config)
    layer = _layer_class(self.config.remat)
    self.layers = [layer(self.config) for _ in range(self.config.num_layers)]

  @property
  def word_embeddings(self) -> Array:
    """[vocab_size, hidden_size] float32: what a tied output layer reads."""
    return self.embeddings.word

  def __call__(
    self,
    inputs: TextInputs,
    positions: Array | slice | None = None,
    deterministic: bool = True,
  ) -> Array:
    """Encodes text.

    The last layer is computed only where its output is asked for: the numbers
    are the same, and a model of two layers does half the work.

    Args:
      inputs: [..., length] TextInputs.
      positions: [..., num_positions] int32, which positions to return, or a
        static slice of positions, such as FIRST for [CLS]; None for all.
      deterministic: False for dropout, with rng 'dropout'.

    Returns:
      [..., num_positions, hidden_size] in the compute dtype; num_positions is
      length where positions is None.

    Raises:
      ValueError: length exceeds max_positions.
    """
    *leading, length = inputs.token_ids.shape
    if length > self.config.max_positions:
      raise UserError(
        f'The text is {length} tokens long, but the encoder has '
        f'{self.config.max_positions} positions. Shorten the text or raise '
        'EncoderConfig.max_positions.'
      )
    # [batch, length], whatever the leading dimensions
    inputs = TextInputs(*(part.reshape(-1, length) for part in inputs))
    if positions is None:
      positions = slice(None)
    elif not isinstance(positions, slice):
      positions = positions.reshape(-1, positions.shape[-1])
    mask = inputs.mask.astype(bool)
    hidden = self.embeddings(inputs, deterministic)
    if self.config.scan_layers and not self.is_initializing():
      hidden = self._scan(hidden, mask, deterministic)
    else:
      for layer in self.layers[:-1]:
        hidden = layer(hidden, hidden, mask, deterministic)
    hidden = self.layers[-1](
      _take(hidden, positions), hidden, mask, deterministic
    )
    return hidden.reshape(*leading, *hidden.shape[1:])

  def _scan(self, hidden: Array, mask: Array, deterministic: bool) -> Array:
    """All layers but the last, traced and compiled once: jax.lax.scan."""
    layers = self.layers[:-1]
    if not layers:
      return hidden
    layer = _layer_class(self.config.remat)(self.config, parent=None)
    params = [layer.variables['params'] for layer in layers]
    stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *params)
    keys = None
    if not deterministic:
      keys = jax.random.split(self.make_rng('dropout'), len(layers))

    def one(hidden: Array, params_and_key: tuple) -> tuple[Array, None]:
      params, key = params_and_key
      rngs = {} if key is None else {'dropout': key}
      variables = {'params': params}
      return (
        layer.apply(variables, hidden, hidden, mask, deterministic, rngs=rngs),
        None,
      )

    return jax.lax.scan(one, hidden, (stacked, keys))[0]
