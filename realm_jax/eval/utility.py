"""Retrieval utility on sentences that are never trained on."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from realm_jax import losses
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths, MaskedSentences
from realm_jax.models.realm import Realm, RealmConfig
from realm_jax.sharding import Layout, jit_spread
from realm_jax.train.step import candidate_scores
from realm_jax.types import PretrainBatch

_MAX_SENTENCES = 256


class HeldOut:
  """Salient spans of a fixed set of sentences, filled in with documents."""

  def __init__(
    self,
    model: RealmConfig,
    assemble: Callable,
    corpus: Corpus,
    sentence_ids: np.ndarray,
    lengths: Lengths,
    batch_size: int,
    layout: Layout | None = None,
  ):
    """Makes the examples.

    Args:
      model: sizes.
      assemble: (params, examples) -> batch and candidates.
      corpus: where the sentences come from.
      sentence_ids: [num_sentences] int; the first 256 are used.
      lengths: see Lengths.
      batch_size: sentences at a time; a last, smaller batch is left out.
      layout: of the parameters over a mesh; None for one device.
    """
    make = MaskedSentences(corpus, 'salient_span', lengths)
    made = (make(int(i)) for i in sentence_ids[:_MAX_SENTENCES])
    examples = [example for example in made if example is not None]
    self._batches = [
      jax.tree.map(
        lambda *leaves: np.stack(leaves), *examples[i : i + batch_size]
      )
      for i in range(0, len(examples) - batch_size + 1, batch_size)
    ]
    self._assemble = assemble
    self._evaluate = make_evaluate(model, layout)

  def __call__(self, params: Any) -> dict[str, float]:
    """Means over the sentences, of the candidates found with params."""
    results = [
      self._evaluate(params, self._assemble(params, batch)[0])
      for batch in self._batches
    ]
    if not results:
      return {}
    return {
      f'held_out_{name}': float(np.mean([r[name] for r in results]))
      for name in results[0]
    }


def make_evaluate(model: RealmConfig, layout: Layout | None = None) -> Callable:
  """Jitted evaluate(params, PretrainBatch) -> loss and utility, no dropout."""
  realm = Realm(model)

  def evaluate(params: Any, batch: PretrainBatch) -> dict[str, Any]:
    def call(method: Callable, *args: Any) -> Any:
      return realm.apply({'params': params}, *args, method=method)

    scores = candidate_scores(
      call(Realm.embed_queries, batch.query),
      call(Realm.embed_documents, batch.null_document),
      call(Realm.embed_documents, batch.documents),
      batch.null_bias,
    )
    gold_log_probs = call(
      Realm.gold_log_probs,
      batch.joint,
      batch.mlm_positions,
      batch.mlm_targets,
    )
    loss, terms = losses.pretrain_loss(
      scores, gold_log_probs, batch.mlm_mask, batch.candidate_mask
    )
    return {'loss': loss, 'retrieval_utility': terms.retrieval_utility}

  return jit_spread(evaluate, layout)
