"""REALM: embedder and reader in one parameter tree."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from realm_jax.errors import UserError
from realm_jax.models.embedder import Embedder
from realm_jax.models.encoder import EncoderConfig
from realm_jax.models.reader import Reader, span_positions
from realm_jax.types import Array, TextInputs

__all__ = [
  'Realm',
  'RealmConfig',
  'abstract_params',
  'init_params',
  'logical_axes',
  'relevance_scores',
  'span_positions',
  'split_embedders',
]


@dataclasses.dataclass(frozen=True)
class RealmConfig:
  """Sizes of REALM. The defaults are the official ones.

  Attributes:
    encoder: the transformer of the embedders and of the reader, which have
      weights of their own.
    embed_dim: length of the vectors that relevance scores compare.
    share_embedders: one embedder for queries and documents, as the official
      code has it; the paper has two.
    embedder_layer_norm_epsilon: of the layer norm after the projection.
    span_hidden_size: hidden units of the span head.
    max_span_width: wordpieces in the widest answer.
    span_layer_norm_epsilon: of the layer norm in the span head.
    span_mask_bias: added to the scores of spans outside the block; None is the
      most negative finite float.

  Raises:
    UserError: a value is out of its range.
  """

  encoder: EncoderConfig = dataclasses.field(default_factory=EncoderConfig)
  embed_dim: int = 128
  share_embedders: bool = True
  embedder_layer_norm_epsilon: float = 1e-3
  span_hidden_size: int = 256
  max_span_width: int = 10
  span_layer_norm_epsilon: float = 1e-3
  span_mask_bias: float | None = -1e4

  def __post_init__(self):
    if not isinstance(self.encoder, EncoderConfig):
      raise UserError(
        f'RealmConfig.encoder is {self.encoder!r}, expected an EncoderConfig.'
      )
    for name in ('embed_dim', 'span_hidden_size', 'max_span_width'):
      value = getattr(self, name)
      if not isinstance(value, int) or value < 1:
        raise UserError(
          f'RealmConfig.{name} is {value!r}, expected a whole number of at '
          'least 1.'
        )


class Realm(nn.Module):
  """The model. Call its methods: `apply({'params': params}, ..., method=...)`.

  With deterministic=False every method needs the rng 'dropout'.
  """

  config: RealmConfig

  def setup(self):  # noqa: D102
    config = self.config

    def embedder() -> Embedder:
      return Embedder(
        config.encoder, config.embed_dim, config.embedder_layer_norm_epsilon
      )

    if config.share_embedders:
      self.embedder = embedder()
    else:
      self.query_embedder = embedder()
      self.document_embedder = embedder()
    self.reader = Reader(
      config.encoder,
      config.span_hidden_size,
      config.max_span_width,
      config.span_layer_norm_epsilon,
      config.span_mask_bias,
    )

  def embed_queries(
    self, inputs: TextInputs, deterministic: bool = True
  ) -> Array:
    """[..., query_len] TextInputs -> [..., embed_dim] float32."""
    shared = self.config.share_embedders
    embedder = self.embedder if shared else self.query_embedder
    return embedder(inputs, deterministic)

  def embed_documents(
    self, inputs: TextInputs, deterministic: bool = True
  ) -> Array:
    """[..., document_len] TextInputs -> [..., embed_dim] float32."""
    shared = self.config.share_embedders
    embedder = self.embedder if shared else self.document_embedder
    return embedder(inputs, deterministic)

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
    return self.reader.gold_log_probs(
      joint, mlm_positions, mlm_targets, deterministic
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
    return self.reader.mlm_log_probs(joint, mlm_positions, deterministic)

  def span_scores(
    self, joint: TextInputs, block_mask: Array, deterministic: bool = True
  ) -> Array:
    """Scores of all spans as answers, without the retriever's score.

    Args:
      joint: [batch, num_read, joint_len] TextInputs.
      block_mask: [batch, num_read, joint_len] int or bool; true where an
        answer may lie.
      deterministic: False for dropout.

    Returns:
      [batch, num_read, num_spans] float32, in the order of span_positions;
      masked spans have RealmConfig.span_mask_bias added.
    """
    return self.reader.span_scores(joint, block_mask, deterministic)

  def _touch_all(self) -> None:
    """Runs every part once, for their parameters to be made."""
    ids = jnp.zeros((1, 1, 2), jnp.int32)
    inputs = TextInputs(ids, ids, ids)
    self.embed_queries(inputs)
    self.embed_documents(inputs)
    self.gold_log_probs(inputs, ids[0], ids[0])
    self.span_scores(inputs, ids)


def relevance_scores(query_embeds: Array, candidate_embeds: Array) -> Array:
  """f(x, z), the inner product: REALM, section 3.2.

  Args:
    query_embeds: [batch, embed_dim] float.
    candidate_embeds: [batch, num_candidates, embed_dim] float.

  Returns:
    [batch, num_candidates] float, in full precision on every device.
  """
  return jnp.einsum(
    'bd,bnd->bn',
    query_embeds,
    candidate_embeds,
    precision=jax.lax.Precision.HIGHEST,
  )


def _boxed_params(config: RealmConfig, rng: Array) -> Any:
  """New parameters, each with the names of its axes around it."""
  return Realm(config).init(rng, method='_touch_all')['params']


@functools.cache
def _boxed_shapes(config: RealmConfig) -> Any:
  """_boxed_params, of shapes: of a deep model it takes seconds."""
  return jax.eval_shape(lambda: _boxed_params(config, jax.random.key(0)))


@functools.partial(jax.jit, static_argnums=0)
def init_params(config: RealmConfig, rng: Array) -> Any:
  """New parameters, float32.

  Args:
    config: the sizes.
    rng: a JAX random key.

  Returns:
    A tree of arrays. Its top level has 'reader', and 'embedder' or, without
    share_embedders, 'query_embedder' and 'document_embedder'.
  """
  return nn.unbox(_boxed_params(config, rng))


def abstract_params(config: RealmConfig) -> Any:
  """The tree of init_params with shapes and dtypes, but no arrays."""
  return nn.unbox(_boxed_shapes(config))


def logical_axes(config: RealmConfig) -> Any:
  """The names of the axes of every parameter, for sharding.

  Returns:
    The tree of init_params with a jax.sharding.PartitionSpec of logical names
    ('vocab', 'hidden', 'heads', 'feed_forward', ...) for each array.
  """
  return nn.get_partition_spec(_boxed_shapes(config))


def split_embedders(
  config: RealmConfig, params: Any
) -> tuple[RealmConfig, Any]:
  """Gives queries and documents an embedder each, equal at first.

  Fine-tuning moves the query embedder while the index, and so the document
  embedder, stays as it was.

  Args:
    config: of the model; without share_embedders nothing changes.
    params: as init_params makes them.

  Returns:
    The configuration without share_embedders, and its parameters.
  """
  if not config.share_embedders:
    return config, params
  others = {name: tree for name, tree in params.items() if name != 'embedder'}
  split = {
    'query_embedder': params['embedder'],
    'document_embedder': params['embedder'],
    **others,
  }
  return dataclasses.replace(config, share_embedders=False), split
