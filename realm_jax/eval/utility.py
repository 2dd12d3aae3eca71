"""What documents are good for, on sentences that are never trained on."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from realm_jax import losses
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Example, Lengths, MaskedSentences
from realm_jax.index.candidates import Candidates
from realm_jax.models.realm import Realm, RealmConfig
from realm_jax.sharding import Layout, jit_spread
from realm_jax.train.pretrain_source import pretrain_batch
from realm_jax.train.step import candidate_scores
from realm_jax.types import Array, PretrainBatch, TextInputs

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
      batch_size: sentences at a time, at least two, for their documents are
        exchanged; a last, smaller batch is left out.
      layout: of the parameters over a mesh; None for one device.
    """
    make = MaskedSentences(corpus, 'salient_span', lengths)
    batch_size = max(batch_size, 2)
    made = (make(int(i)) for i in sentence_ids[:_MAX_SENTENCES])
    examples = [example for example in made if example is not None]
    self._batches = [
      jax.tree.map(
        lambda *leaves: np.stack(leaves), *examples[i : i + batch_size]
      )
      for i in range(0, len(examples) - batch_size + 1, batch_size)
    ]
    self._assemble = assemble
    self._corpus = corpus
    self._lengths = lengths
    self._evaluate = make_evaluate(model, layout)

  def __call__(self, params: Any) -> dict[str, float]:
    """Measures what params find, and what they make of it.

    Returns:
      Means over the sentences, no dropout, nats:
      'held_out_loss', see losses.pretrain_loss;
      'held_out_retrieval_utility', see losses.PretrainTerms;
      'held_out_shuffled_loss', the same loss with the same p(z|x) where the
      reader is given, rank for rank, the documents of another query;
      'held_out_reading', 1 - loss / shuffled loss: the share of the loss that
      the right documents take away. At 0 or below the reader does not read.
    """
    results = []
    for examples in self._batches:
      batch, candidates = self._assemble(params, examples)
      shuffled = self._shuffled(examples, batch, candidates)
      results.append(self._evaluate(params, (batch, *shuffled)))
    if not results:
      return {}
    measured = {
      f'held_out_{name}': float(np.mean([r[name] for r in results]))
      for name in results[0]
    }
    shuffled_loss = measured['held_out_shuffled_loss']
    reading = 1 - measured['held_out_loss'] / max(shuffled_loss, 1e-9)
    return {**measured, 'held_out_reading': reading}

  def _shuffled(
    self, examples: Example, batch: PretrainBatch, candidates: Candidates
  ) -> tuple[TextInputs, Array]:
    """Joint inputs with another query's documents, and which of them count.

    That query is half a batch away, for neighbours may be of one article. The
    block that a sentence is from is left out here too.
    """
    distance = len(candidates.mask) // 2
    block_ids, mask = (
      np.roll(array, distance, axis=0)
      for array in (candidates.block_ids, candidates.mask)
    )
    is_source = block_ids == examples['source_block_id'][:, None]
    mask = mask * candidates.mask * ~is_source
    shuffled = pretrain_batch(
      examples,
      block_ids,
      mask,
      self._corpus,
      self._lengths,
      batch.query,
      float(batch.null_bias),
    )
    return shuffled.joint, mask


def make_evaluate(model: RealmConfig, layout: Layout | None = None) -> Callable:
  """Jits the forward pass without dropout: evaluate(params, inputs).

  Its inputs are a PretrainBatch, joint inputs with other documents, and which
  of those there are, [batch, num_candidates]; it returns 'loss',
  'retrieval_utility' and 'shuffled_loss', as HeldOut has them.
  """
  realm = Realm(model)

  def evaluate(
    params: Any, inputs: tuple[PretrainBatch, TextInputs, Array]
  ) -> dict[str, Any]:
    batch, other_joint, other_mask = inputs

    def call(method: Callable, *args: Any) -> Any:
      return realm.apply({'params': params}, *args, method=method)

    scores = candidate_scores(
      call(Realm.embed_queries, batch.query),
      call(Realm.embed_documents, batch.null_document),
      call(Realm.embed_documents, batch.documents),
      batch.null_bias,
    )

    def loss_of(joint: TextInputs, candidate_mask: Array):
      gold_log_probs = call(
        Realm.gold_log_probs, joint, batch.mlm_positions, batch.mlm_targets
      )
      return losses.pretrain_loss(
        scores, gold_log_probs, batch.mlm_mask, candidate_mask
      )

    loss, terms = loss_of(batch.joint, batch.candidate_mask)
    shuffled_loss, _ = loss_of(other_joint, other_mask)
    return {
      'loss': loss,
      'retrieval_utility': terms.retrieval_utility,
      'shuffled_loss': shuffled_loss,
    }

  return jit_spread(evaluate, layout)
