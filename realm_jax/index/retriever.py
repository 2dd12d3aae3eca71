"""Queries -> the blocks nearest to them: embedder and index together."""

from collections.abc import Callable
from typing import Any

import numpy as np

from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.data.featurize import Ragged, query_inputs
from realm_jax.index.exact import ExactIndex
from realm_jax.types import SearchResult, TextInputs


class Retriever:
  """Embeds queries with the parameters it is handed and searches an index.

  Attributes:
    corpus: whose blocks the index holds.
    index: what is searched.
    lengths: of queries.
  """

  def __init__(
    self,
    embed_queries: Callable,
    corpus: Corpus,
    index: ExactIndex,
    lengths: Lengths,
  ):
    """Keeps its arguments; embed_queries(params, inputs) -> embeddings."""
    self._embed_queries = embed_queries
    self.corpus = corpus
    self.index = index
    self.lengths = lengths

  def query_inputs(self, queries: Ragged) -> TextInputs:
    """Queries as the embedder reads them: [batch, query_len] each."""
    return query_inputs(queries, self.lengths.query_len, self.corpus.wordpiece)

  def embed(self, params: Any, query: TextInputs) -> np.ndarray:
    """Embeddings of queries: [batch, embed_dim] float32."""
    return np.asarray(self._embed_queries(params, query))

  def retrieve(self, params: Any, query: TextInputs, k: int) -> SearchResult:
    """The k best blocks of each query, as numpy arrays.

    Args:
      params: current parameters of the model.
      query: [batch, query_len] TextInputs.
      k: blocks a query; fewer where the corpus is smaller.
    """
    k = min(k, self.index.num_blocks)
    found = self.index.search(self._embed_queries(params, query), k)
    return SearchResult(np.asarray(found.scores), np.asarray(found.block_ids))
