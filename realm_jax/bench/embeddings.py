"""Made-up block embeddings with the shape of real ones, and exact answers.

A mixture of num_blocks / 100 Gaussians of unequal weight under the square root
of as many super-topics, with decaying spectra, then a LayerNorm with a gain:
what ORQA and REALM put behind their projection. Real embeddings may be harder
or easier to search approximately.
"""

from collections.abc import Iterator

import numpy as np

EMBED_DIM = 128
# Of one random generator each: what a chunk holds depends on seed and place.
CHUNK_SIZE = 1 << 16

# Standard deviations of super-topics, topics and blocks around their parents,
# and of a query around its block; chosen so that about half of all queries find
# their block first, four fifths among 8 and nearly all among 100, and the
# participation ratio is about 35 of 128.
_SUPER_SCALE, _TOPIC_SCALE, _BLOCK_SCALE, _QUERY_SCALE = 1.0, 0.8, 0.3, 0.85
_DECAY = 0.35


class Mixture:
  """A mixture of Gaussians to draw block embeddings from."""

  def __init__(self, num_blocks: int, seed: int = 0):
    """Draws the topics; the same for the same arguments."""
    self.num_blocks, self.seed = num_blocks, seed
    rng = np.random.default_rng([seed, 0])
    num_topics = max(1, num_blocks // 100)
    num_super = max(1, int(num_topics**0.5))
    spectrum = np.arange(1, EMBED_DIM + 1, dtype=np.float32) ** -_DECAY
    # [embed_dim, embed_dim]; a spectrum in directions of no coordinate's own.
    self._basis = spectrum[:, None] * _rotation(rng)
    weights = rng.lognormal(0, 1, num_topics)
    self._cumulative = np.cumsum(weights / weights.sum())
    super_topics = _SUPER_SCALE * _normal(rng, num_super)
    parents = rng.integers(num_super, size=num_topics)
    self._topics = super_topics[parents] + _TOPIC_SCALE * _normal(
      rng, num_topics
    )
    self._gain = np.exp(rng.normal(0, 0.1, EMBED_DIM)).astype(np.float32)

  def chunks(self) -> Iterator[np.ndarray]:
    """All block embeddings in order: [chunk_size, embed_dim] float32 each."""
    for number in range(-(-self.num_blocks // CHUNK_SIZE)):
      yield self._embed(self._draw(number))

  def queries(self, num_queries: int, seed: int = 1) -> np.ndarray:
    """Queries near blocks drawn at random: [num_queries, embed_dim] float32."""
    rng = np.random.default_rng([self.seed, 2, seed])
    sources = np.sort(rng.choice(self.num_blocks, num_queries, replace=False))
    found = []
    for number in np.unique(sources // CHUNK_SIZE):
      inside = sources[sources // CHUNK_SIZE == number] % CHUNK_SIZE
      found.append(self._draw(number)[inside])
    latents = np.concatenate(found)
    latents += _QUERY_SCALE * _normal(rng, num_queries)
    # In no order, so that a batch is of all topics.
    return self._embed(rng.permutation(latents))

  def _draw(self, number: int) -> np.ndarray:
    """Latent vectors of a chunk, before the rotation and LayerNorm."""
    rng = np.random.default_rng([self.seed, 1, number])
    size = min(CHUNK_SIZE, self.num_blocks - number * CHUNK_SIZE)
    topics = np.searchsorted(self._cumulative, rng.random(size))
    topics = np.minimum(topics, len(self._topics) - 1)
    return self._topics[topics] + _BLOCK_SCALE * _normal(rng, size)

  def _embed(self, latents: np.ndarray) -> np.ndarray:
    rows = latents @ self._basis
    rows -= rows.mean(axis=1, keepdims=True)
    rows /= rows.std(axis=1, keepdims=True)
    rows *= self._gain
    return rows


def _normal(rng: np.random.Generator, num_rows: int) -> np.ndarray:
  return rng.standard_normal((num_rows, EMBED_DIM), np.float32)


def _rotation(rng: np.random.Generator) -> np.ndarray:
  return np.linalg.qr(_normal(rng, EMBED_DIM))[0]


def exact_top(
  query_embeds: np.ndarray, block_embeds: np.ndarray, k: int
) -> np.ndarray:
  """Ids of the k best blocks of each query by numpy: [num_queries, k] int64.

  Args:
    query_embeds: [num_queries, embed_dim] float32.
    block_embeds: [num_blocks, embed_dim] float32; may be memory-mapped.
    k: at most num_blocks.
  """
  num_queries = len(query_embeds)
  scores = np.full((num_queries, k), -np.inf, np.float32)
  ids = np.full((num_queries, k), -1, np.int64)
  for start in range(0, len(block_embeds), CHUNK_SIZE):
    found = query_embeds @ block_embeds[start : start + CHUNK_SIZE].T
    # What beats the k-th best so far is rare after the first chunks.
    for row in np.flatnonzero((found > scores[:, -1:]).any(axis=1)):
      better = np.flatnonzero(found[row] > scores[row, -1])
      all_scores = np.concatenate([scores[row], found[row, better]])
      all_ids = np.concatenate([ids[row], better + start])
      best = np.argsort(-all_scores, kind='stable')[:k]
      scores[row], ids[row] = all_scores[best], all_ids[best]
  return ids
