"""A published sentence encoder as a retriever that nothing here has trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from realm_jax.checkpoints.bert import encoder_config_from, load_bert
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.index.config import IndexConfig
from realm_jax.index.retriever import Retriever
from realm_jax.models.encoder import Encoder, EncoderConfig
from realm_jax.models.realm import RealmConfig, init_params
from realm_jax.refresh.reuse import params_fingerprint
from realm_jax.refresh.snapshots import SnapshotMaker
from realm_jax.types import Array, TextInputs


def make_mean_embed(config: EncoderConfig) -> Callable:
  """Embedding of text as sentence-transformers' mean pooling has it.

    e(x) = m / |m|, m the mean of the encoder's output over the tokens of x

  Returns:
    embed({'embedder': parameters of the encoder}, inputs [..., length]) ->
    [..., hidden_size] float32, of length 1.
  """
  encoder = Encoder(config)

  @jax.jit
  def embed(params: Any, inputs: TextInputs) -> Array:
    hidden = encoder.apply({'params': params['embedder']}, inputs)
    mask = inputs.mask[..., None].astype(jnp.float32)
    mean = (hidden * mask).sum(axis=-2) / jnp.maximum(mask.sum(axis=-2), 1)
    norm = jnp.linalg.norm(mean, axis=-1, keepdims=True)
    return mean / jnp.maximum(norm, 1e-12)

  return embed


def dense_retriever(
  folder: str | Path, corpus: Corpus, lengths: Lengths, snapshots: Path
) -> tuple[Retriever, Any]:
  """Makes a retriever of the weights of a sentence encoder.

  Args:
    folder: of the weights, with the corpus's vocabulary; see load_bert.
    corpus: what to search.
    lengths: of questions and documents.
    snapshots: where the embeddings of the corpus are kept.

  Returns:
    The retriever, and its parameters.

  Raises:
    FileNotFoundError: there are no such weights.
    UserError: they are not a BERT's, or have another vocabulary.
  """
  config = RealmConfig(encoder_config_from(folder))
  params = load_bert(
    folder,
    config,
    init_params(config, jax.random.key(0)),
    ('embedder',),
    corpus.wordpiece,
  )
  params = {'embedder': params['embedder']['encoder']}
  embed = make_mean_embed(config.encoder)
  name = f'dense-{params_fingerprint(params)[:8]}-{corpus.fingerprint[:16]}'
  snapshot, _ = SnapshotMaker(embed, corpus, lengths).snapshot(
    snapshots / name, params, 0
  )
  retriever = Retriever(embed, corpus, lengths, IndexConfig(), snapshot)
  return retriever, params
