"""The model in float64 numpy, one text at a time, as its formulas read."""

import math

import numpy as np


def to_float64(tree):
  if isinstance(tree, dict):
    return {name: to_float64(leaf) for name, leaf in tree.items()}
  return np.asarray(tree, np.float64)


def dense(x, params):
  return x @ params['kernel'] + params['bias']


def layer_norm(x, params, epsilon):
  centered = x - x.mean(axis=-1, keepdims=True)
  variance = (centered**2).mean(axis=-1, keepdims=True)
  return (
    centered / np.sqrt(variance + epsilon) * params['scale'] + params['bias']
  )


def gelu(x):
  return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def softmax(x):
  powers = np.exp(x - x.max(axis=-1, keepdims=True))
  return powers / powers.sum(axis=-1, keepdims=True)


def log_softmax(x):
  return (
    x
    - x.max(axis=-1, keepdims=True)
    - np.log(
      np.exp(x - x.max(axis=-1, keepdims=True)).sum(axis=-1, keepdims=True)
    )
  )


def attention(x, mask, params, num_heads):
  size = x.shape[-1] // num_heads
  contexts = []
  for head in range(num_heads):
    part = slice(head * size, (head + 1) * size)
    query, key, value = (
      dense(x, params[name])[:, part] for name in ('query', 'key', 'value')
    )
    scores = query @ key.T / math.sqrt(size)
    contexts.append(softmax(np.where(mask, scores, -np.inf)) @ value)
  return dense(np.concatenate(contexts, axis=-1), params['output'])


def encode(token_ids, mask, segment_ids, params, config):
  """[length] each -> [length, hidden_size]."""
  tables, epsilon = params['embeddings'], config.layer_norm_epsilon
  x = (
    tables['word'][token_ids]
    + tables['segment'][segment_ids]
    + tables['position'][: len(token_ids)]
  )
  x = layer_norm(x, tables['layer_norm'], epsilon)
  for i in range(config.num_layers):
    layer = params[f'layers_{i}']
    context = attention(x, mask, layer['attention'], config.num_heads)
    x = layer_norm(x + context, layer['attention_layer_norm'], epsilon)
    hidden = gelu(dense(x, layer['intermediate']))
    x = layer_norm(
      x + dense(hidden, layer['output']), layer['output_layer_norm'], epsilon
    )
  return x


def embed(token_ids, mask, segment_ids, params, config):
  """[length] each -> [embed_dim]."""
  x = encode(token_ids, mask, segment_ids, params['encoder'], config.encoder)
  pooled = np.tanh(dense(x[0], params['pooler']))
  return layer_norm(
    dense(pooled, params['projection']),
    params['layer_norm'],
    config.embedder_layer_norm_epsilon,
  )


def mlm_log_probs(token_ids, mask, segment_ids, positions, params, config):
  """[joint_len] each, [max_masks] -> [max_masks, vocab_size]."""
  x = encode(token_ids, mask, segment_ids, params['encoder'], config.encoder)
  head = params['mlm_head']
  hidden = layer_norm(
    gelu(dense(x[positions], head['dense'])),
    head['layer_norm'],
    config.encoder.layer_norm_epsilon,
  )
  words = params['encoder']['embeddings']['word']
  return log_softmax(hidden @ words.T + head['bias'])


def span_score(start_hidden, end_hidden, head, config):
  """[hidden_size] of a span's first and last token -> its score."""
  size = config.span_hidden_size
  start = dense(start_hidden, head['start_and_end'])[:size]
  end = dense(end_hidden, head['start_and_end'])[size:]
  norm = {'scale': head['layer_norm_scale'], 'bias': head['layer_norm_bias']}
  hidden = layer_norm(
    np.maximum(start + end, 0), norm, config.span_layer_norm_epsilon
  )
  return hidden @ head['score_kernel'] + head['score_bias']
