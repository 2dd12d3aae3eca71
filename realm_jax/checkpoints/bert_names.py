"""Where Hugging Face's BERT keeps the parameters of this library."""

from typing import NamedTuple


class Source(NamedTuple):
  """Where a parameter lies in a file.

  Attributes:
    key: its key there, without 'bert.'.
    transposed: it is the kernel of a dense layer, [out, in] there.
  """

  key: str
  transposed: bool = False


def dense_sources(path: str, key: str) -> dict[str, Source]:
  """Kernel and bias of the dense layer at a path, which is a key there."""
  return {
    f'{path}/kernel': Source(f'{key}.weight', transposed=True),
    f'{path}/bias': Source(f'{key}.bias'),
  }


def layer_norm_sources(path: str, key: str) -> dict[str, Source]:
  """Scale and bias of the layer norm at a path, which is a key there."""
  return {
    f'{path}/scale': Source(f'{key}.weight'),
    f'{path}/bias': Source(f'{key}.bias'),
  }


def encoder_sources(num_layers: int) -> dict[str, Source]:
  """Path of a parameter below 'encoder' -> where it lies in a BERT file."""
  sources = {
    'embeddings/word': Source('embeddings.word_embeddings.weight'),
    'embeddings/position': Source('embeddings.position_embeddings.weight'),
    'embeddings/segment': Source('embeddings.token_type_embeddings.weight'),
    **layer_norm_sources('embeddings/layer_norm', 'embeddings.LayerNorm'),
  }
  for i in range(num_layers):
    path, key = f'layers_{i}', f'encoder.layer.{i}'
    for name in ('query', 'key', 'value'):
      sources |= dense_sources(
        f'{path}/attention/{name}', f'{key}.attention.self.{name}'
      )
    for name, its_key in (
      ('attention/output', 'attention.output.dense'),
      ('intermediate', 'intermediate.dense'),
      ('output', 'output.dense'),
    ):
      sources |= dense_sources(f'{path}/{name}', f'{key}.{its_key}')
    for name, its_key in (
      ('attention_layer_norm', 'attention.output.LayerNorm'),
      ('output_layer_norm', 'output.LayerNorm'),
    ):
      sources |= layer_norm_sources(f'{path}/{name}', f'{key}.{its_key}')
  return sources


def mlm_head_sources() -> dict[str, Source]:
  """Path of a parameter below 'mlm_head' -> where it lies in a BERT file.

  The output matrix is not there: it is the word embeddings.
  """
  transform = 'cls.predictions.transform'
  return {
    **dense_sources('dense', f'{transform}.dense'),
    **layer_norm_sources('layer_norm', f'{transform}.LayerNorm'),
    'bias': Source('cls.predictions.bias'),
  }


def below(path: str, key: str, sources: dict[str, Source]) -> dict[str, Source]:
  """Sources of a part, of a module that lies at a path, and at a key there."""
  return {
    f'{path}/{name}': Source(key + source.key, source.transposed)
    for name, source in sources.items()
  }
