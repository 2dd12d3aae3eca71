"""Queries -> the blocks nearest to them: embedder and index together."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from realm_jax import hosts
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Example, Lengths
from realm_jax.data.featurize import Ragged, query_inputs
from realm_jax.index.api import Index
from realm_jax.index.audit import Audit
from realm_jax.index.config import IndexConfig
from realm_jax.index.snapshot import Snapshot
from realm_jax.types import Array, SearchResult, TextInputs


class Search(NamedTuple):
  """A search that was sent off.

  Attributes:
    query_embeds: [batch, embed_dim] float32, on the device.
    k: blocks a query.
    found: on the device; None where the search is the host's and not begun.
  """

  query_embeds: Array
  k: int
  found: SearchResult | None


class Retriever:
  """Embeds queries with the parameters it is handed and searches an index.

  Attributes:
    corpus: whose blocks the index holds.
    lengths: of queries.
    recall: of the index at the last audit; None before the first.
  """

  def __init__(
    self,
    embed_queries: Callable,
    corpus: Corpus,
    lengths: Lengths,
    config: IndexConfig | None = None,
    snapshot: Snapshot | None = None,
    mesh: Mesh | None = None,
  ):
    """Takes over what it is given.

    Args:
      embed_queries: embed_queries(params, inputs) -> embeddings.
      corpus: whose blocks are searched.
      lengths: query_len is used.
      config: of the index.
      snapshot: what to search; None until one is loaded.
      mesh: whose devices an exact index is spread over; None for one device.
    """
    self._embed_queries = embed_queries
    self.corpus = corpus
    self.lengths = lengths
    self.recall: float | None = None
    self._config = config or IndexConfig()
    self._mesh = mesh
    self._audit = Audit(self._config.audit_every)
    self._index: Index | None = None
    if snapshot is not None:
      self.load(snapshot)

  def load(self, snapshot: Snapshot) -> None:
    """Searches the blocks of a snapshot from now on."""
    if self._index is None:
      self._index = self._config.make(snapshot, self._mesh)
    else:
      self._index.swap(snapshot)

  @property
  def index(self) -> Index:
    """What is searched.

    Raises:
      RuntimeError: nothing has been loaded.
    """
    if self._index is None:
      raise RuntimeError('No snapshot has been loaded to search in.')
    return self._index

  @property
  def index_step(self) -> int:
    """Training step of the index; -1 if nothing has been loaded."""
    return -1 if self._index is None else self._index.index_step

  def query_inputs(self, queries: Ragged) -> TextInputs:
    """Queries as the embedder reads them: [batch, query_len] each."""
    return query_inputs(queries, self.lengths.query_len, self.corpus.wordpiece)

  def question_inputs(self, examples: Example) -> TextInputs:
    """Rows of QAExamples as query_inputs gives them."""
    return self.query_inputs(
      Ragged(examples['question_ids'], examples['question_lens'])
    )

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
    return self.finish(self.begin(params, query, k))

  def begin(self, params: Any, query: TextInputs, k: int) -> Search:
    """Sends off what `retrieve` does, as far as it is done on the device.

    Args:
      params: of the model; may be given up as soon as this returns.
      query: [batch, query_len] TextInputs.
      k: blocks a query; fewer where the corpus is smaller.
    """
    k = min(k, self.index.num_blocks)
    query_embeds = self._embed_queries(params, query)
    found = None
    if self.index.searches_on_device:
      found = self.index.search(query_embeds, k)
    return Search(query_embeds, k, found)

  def finish(self, search: Search) -> SearchResult:
    """Waits for a search, of the index as it still is: numpy arrays."""
    found = search.found
    if found is None:
      found = self._search_on_host(np.asarray(search.query_embeds), search.k)
    found = SearchResult(np.asarray(found.scores), np.asarray(found.block_ids))
    recall = self._audit(self.index, search.query_embeds, found)
    if recall is not None:
      self.recall = recall
    return found

  def _search_on_host(self, query_embeds: np.ndarray, k: int) -> SearchResult:
    """Searches; of several processes each a part, in an index of its own.

    An approximate one need not be the same in all: what one has found is what
    all have.
    """
    here = hosts.part_of(query_embeds)
    if here is query_embeds:
      return self.index.search(query_embeds, k)
    found = self.index.search(here, k)
    return SearchResult(
      *(hosts.join_parts(array, len(query_embeds)) for array in found)
    )
