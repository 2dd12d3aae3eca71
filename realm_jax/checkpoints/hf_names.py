"""Where Hugging Face's REALM keeps the parameters of this library."""

from realm_jax.checkpoints.bert_names import (
  Source,
  below,
  dense_sources,
  encoder_sources,
  layer_norm_sources,
  mlm_head_sources,
)

# keys in a config.json that we wrote: our RealmConfig, which part this is, and
# those of its parameters that were never trained
OWN_CONFIG = 'realm_jax'
OWN_PART = 'realm_jax_part'
OWN_UNTRAINED = 'realm_jax_untrained'
EMBEDDERS = ('embedder', 'query_embedder', 'document_embedder')


def embedder_sources(num_layers: int) -> dict[str, Source]:
  """Path of a parameter of an embedder -> where a RealmEmbedder has it."""
  return {
    **below('encoder', 'realm.', encoder_sources(num_layers)),
    **dense_sources('pooler', 'realm.pooler.dense'),
    **dense_sources('projection', 'cls.dense'),
    **layer_norm_sources('layer_norm', 'cls.LayerNorm'),
  }


def reader_sources(num_layers: int) -> dict[str, Source]:
  """Path of a parameter of the reader -> where a RealmReader has it.

  A RealmKnowledgeAugEncoder has all but the span head.
  """
  return {
    **below('encoder', 'realm.', encoder_sources(num_layers)),
    **below('mlm_head', '', mlm_head_sources()),
    **dense_sources('span_head/start_and_end', 'qa_outputs.dense_intermediate'),
    'span_head/layer_norm_scale': Source(
      'qa_outputs.layer_normalization.weight'
    ),
    'span_head/layer_norm_bias': Source('qa_outputs.layer_normalization.bias'),
    'span_head/score_kernel': Source('qa_outputs.dense_output.weight'),
    'span_head/score_bias': Source('qa_outputs.dense_output.bias'),
  }


def part_sources(part: str, num_layers: int) -> dict[str, Source]:
  """The sources of a part of the model: 'reader' or one of the embedders."""
  if part == 'reader':
    return reader_sources(num_layers)
  return embedder_sources(num_layers)


def in_span_head(path: str) -> bool:
  """Whether a parameter of the reader belongs to its span head."""
  return path.startswith('span_head/')


def their_shape(source: Source, shape: tuple[int, ...]) -> tuple[int, ...]:
  """The shape that a parameter of a shape here has there."""
  if source.key.startswith('qa_outputs.dense_output.'):  # a layer of one unit
    return (1, *shape)
  return tuple(reversed(shape)) if source.transposed else tuple(shape)
