"""Does the reader read? Losses with right and wrong documents, by numpy."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny
from reference import objectives

from realm_jax.data.corpus import Corpus
from realm_jax.data.featurize import Ragged, query_inputs
from realm_jax.eval.utility import HeldOut
from realm_jax.index.candidates import Candidates
from realm_jax.models.realm import Realm, init_params
from realm_jax.train.pretrain_source import pretrain_batch
from realm_jax.train.step import candidate_scores

BATCH, CANDIDATES = 4, 3
MASK = np.array([[1, 1, 1], [1, 1, 0], [1, 1, 1], [1, 1, 1]], np.int32)


@pytest.fixture(scope='module')
def corpus(tiny_corpus):
  return Corpus.open(tiny_corpus)


@pytest.fixture(scope='module')
def model(corpus):
  model = tiny.with_vocab_of(corpus)
  encoder = dataclasses.replace(model.encoder, initializer_range=0.2)
  return dataclasses.replace(model, encoder=encoder)


class Assembled:
  """Batches whose candidates are two blocks that follow the source block."""

  def __init__(self, corpus):
    self.corpus = corpus
    self.batches = []

  def candidates(self, examples, shift=1):
    source = examples['source_block_id']
    ids = np.stack([np.full(BATCH, -1), source + shift, source + shift + 1], 1)
    return np.where(ids < 42, ids, ids - 42)

  def batch(self, examples, block_ids, mask):
    wordpiece, length = self.corpus.wordpiece, tiny.LENGTHS.query_len
    queries = Ragged(examples['query_ids'], examples['query_lens'])
    return pretrain_batch(
      examples,
      block_ids,
      mask,
      self.corpus,
      tiny.LENGTHS,
      query_inputs(queries, length, wordpiece),
      0.25,
    )

  def __call__(self, params, examples):
    block_ids = self.candidates(examples)
    # of another query: the source block of this one, which must not be read
    block_ids[3, 1] = examples['source_block_id'][1]
    self.batches.append((examples, block_ids))
    batch = self.batch(examples, block_ids, MASK)
    return batch, Candidates(block_ids, MASK, 0, 0, 0, 0)


@pytest.mark.slow
def test_the_reading_is_what_the_loss_gains_from_the_right_documents(
  corpus, model
):
  params = init_params(model, jax.random.key(1))
  assemble = Assembled(corpus)
  held_out = HeldOut(
    model,
    assemble,
    corpus,
    np.arange(0, 60, 7),
    tiny.LENGTHS,
    batch_size=BATCH,
  )
  found = held_out(params)
  apply = jax.jit(Realm(model).apply, static_argnames='method')

  losses, shuffled_losses = [], []
  for examples, block_ids in assemble.batches:
    batch = assemble.batch(examples, block_ids, MASK)
    call = {'params': params}
    scores = candidate_scores(
      apply(call, batch.query, method='embed_queries'),
      apply(call, batch.null_document, method='embed_documents'),
      apply(call, batch.documents, method='embed_documents'),
      0.25,
    )

    def loss(ids, mask, examples=examples, scores=scores, call=call):
      batch = assemble.batch(examples, ids, mask)
      gold = apply(
        call,
        batch.joint,
        batch.mlm_positions,
        batch.mlm_targets,
        method='gold_log_probs',
      )
      masks = batch.mlm_mask.astype(bool), mask.astype(bool)
      arrays = (np.asarray(array, np.float64) for array in (scores, gold))
      return objectives.pretrain(*arrays, *masks, 'marginal_span')[0]

    losses.append(loss(block_ids, MASK))
    # rows 0 and 2 change places, as do 1 and 3; row 1 would get its source
    both = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 1], [1, 1, 0]], np.int32)
    shuffled_losses.append(loss(block_ids[[2, 3, 0, 1]], both))
  assert len(losses) == 2
  expected = np.mean(losses), np.mean(shuffled_losses)
  assert found['held_out_loss'] == pytest.approx(expected[0], rel=1e-5)
  assert found['held_out_shuffled_loss'] == pytest.approx(expected[1], rel=1e-5)
  assert found['held_out_reading'] == pytest.approx(
    1 - expected[0] / expected[1], rel=1e-3, abs=1e-5
  )
  assert abs(expected[0] / expected[1] - 1) > 1e-4  # they do differ


def test_one_sentence_at_a_time_still_has_others_to_exchange_with(
  corpus, model
):
  held_out = HeldOut(
    model, None, corpus, np.arange(0, 60, 7), tiny.LENGTHS, batch_size=1
  )
  assert {len(b['query_lens']) for b in held_out._batches} == {2}
