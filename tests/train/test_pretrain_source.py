"""What a pre-training step is given: candidates, index, position."""

import json

import jax
import numpy as np
import pytest
import tiny

from realm_jax.data.batches import Batches
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import MaskedSentences
from realm_jax.data.featurize import document_inputs
from realm_jax.index.candidates import Candidates
from realm_jax.index.retriever import Retriever
from realm_jax.models.inference import make_embed
from realm_jax.models.realm import Realm, init_params
from realm_jax.refresh.schedule import Synchronous
from realm_jax.refresh.snapshots import SnapshotMaker
from realm_jax.refresh.synchronous import SynchronousRefresher
from realm_jax.train.pipeline import Pipeline
from realm_jax.train.pretrain_source import PretrainSource, retrieval_spread
from realm_jax.train.state import TrainState

BATCH, NUM_CANDIDATES = 3, 5
# Some say the same, and the first sentences of some stand in others.
ROWS = [
  {'title': 'A', 'text': f'It was seen in {1800 + n // 2}. {end}'}
  for n, end in enumerate(['So it was.', 'Nobody saw it then.'] * 6)
]
ROWS += [ROWS[0], ROWS[1]]


@pytest.fixture(scope='module')
def setup(tmp_path_factory):
  """Corpus, parameters and make_source(folder, ...) with its options."""
  folder = tmp_path_factory.mktemp('source')
  corpus = Corpus.open(tiny.make_corpus(folder, ROWS))
  model = tiny.with_vocab_of(corpus)
  params = init_params(model, jax.random.key(0))
  embed_queries = make_embed(model, Realm.embed_queries)
  embed_documents = make_embed(model, Realm.embed_documents)

  def make_source(out, drop_near_duplicates=False, level_null=False):
    lengths = tiny.LENGTHS
    out.mkdir(exist_ok=True)
    retriever = Retriever(embed_queries, corpus, lengths)
    snapshots = SnapshotMaker(embed_documents, corpus, lengths)
    refresher = SynchronousRefresher(
      Synchronous(4), out, retriever, snapshots, 'synchronous(every=4)'
    )
    return PretrainSource(
      Batches(
        np.flatnonzero(corpus.sentences.num_spans),
        MaskedSentences(corpus, 'salient_span', lengths),
        BATCH,
        seed=0,
      ),
      retriever,
      snapshots,
      refresher,
      NUM_CANDIDATES,
      drop_near_duplicates,
      level_null,
    )

  return corpus, params, make_source


def state(params, step=0):
  return TrainState(np.int32(step), params, ())


def bodies(corpus, batch):
  """[batch][candidate] the body's pieces as the reader reads them."""
  ids, segments = batch.joint.token_ids, batch.joint.segment_ids
  return [
    [
      ids[row, n][segments[row, n].astype(bool)][:-1].tolist()
      for n in range(NUM_CANDIDATES)
    ]
    for row in range(len(ids))
  ]


def test_candidates_are_other_blocks_after_the_null_document(setup, tmp_path):
  corpus, params, make_source = setup
  source = make_source(tmp_path)
  source.start(params)
  body_of = {
    tuple(corpus.wordpiece.encode(corpus.text(i)).token_ids.tolist()): i
    for i in range(corpus.num_blocks)
  }
  for _ in range(6):
    batch, metrics = source.next_batch(state(params))
    assert batch.joint.token_ids.shape[:2] == (BATCH, NUM_CANDIDATES)
    assert batch.documents.token_ids.shape[:2] == (BATCH, NUM_CANDIDATES - 1)
    assert batch.null_document.token_ids.shape == (1, 3)
    for row, candidates in enumerate(bodies(corpus, batch)):
      assert candidates[0] == []
      real = [c for c in candidates[1:] if c]
      assert len(set(map(tuple, real))) == len(real)
      assert all(tuple(body) in body_of for body in real)
      assert batch.candidate_mask[row].sum() == 1 + len(real)
      # The sentence with its blank filled in, as its block begins.
      positions = batch.mlm_positions[row][batch.mlm_mask[row].astype(bool)]
      query = batch.query.token_ids[row].copy()
      query[positions] = batch.mlm_targets[row][: len(positions)]
      query = query[1 : batch.query.mask[row].sum() - 1].tolist()
      own = [body for body in real if body[: len(query)] == query]
      assert len(own) <= 1  # the other block that begins so, not its own
    assert metrics['index_age'] == 0
    assert 0 < metrics['distinct_blocks'] <= 1
    assert 0 <= metrics['retrieval_spread'] <= 1


def test_blocks_with_the_querys_sentence_are_dropped_on_demand(setup, tmp_path):
  corpus, params, make_source = setup
  source = make_source(tmp_path, drop_near_duplicates=True)
  source.start(params)
  dropped = 0
  for _ in range(6):
    batch, metrics = source.next_batch(state(params))
    dropped += metrics['near_duplicates_dropped']
    for row, candidates in enumerate(bodies(corpus, batch)):
      positions = batch.mlm_positions[row][batch.mlm_mask[row].astype(bool)]
      query = batch.query.token_ids[row].copy()
      query[positions] = batch.mlm_targets[row][: len(positions)]
      query = query[1 : batch.query.mask[row].sum() - 1].tolist()
      assert not [b for b in candidates if b[: len(query)] == query]
  assert dropped > 0


def test_a_refresh_replaces_the_index_once(setup, tmp_path):
  _, params, make_source = setup
  source = make_source(tmp_path)
  source.start(params)
  source.next_batch(state(params))
  refresh = source.events()[-1].action
  assert refresh(0, params) == {}  # nothing has changed since
  other = jax.tree.map(lambda array: -array, params)
  metrics = refresh(9, other)
  assert metrics['refresh_age'] == 9
  assert 0 <= metrics['index_overlap'] <= 1
  assert metrics['refresh_wait_seconds'] >= metrics['refresh_seconds'] > 0
  assert source.position(9)['index_step'] == 9
  _, metrics = source.next_batch(state(other, 11))
  assert metrics['index_age'] == 2


def test_a_position_brings_back_data_and_index(setup, tmp_path):
  _, params, make_source = setup
  other = jax.tree.map(lambda array: -array, params)
  source = make_source(tmp_path)
  source.start(params)
  source.next_batch(state(params))
  source.events()[-1].action(4, other)
  position = Pipeline(source, 11).position(4)
  expected = [source.next_batch(state(other, 4))[0] for _ in range(3)]
  resumed = make_source(tmp_path)
  resumed.resume(position, 4, other)
  for batch in expected:
    jax.tree.map(
      np.testing.assert_array_equal,
      batch,
      resumed.next_batch(state(other, 4))[0],
    )
  source.prune(position)
  assert [p.name for p in (tmp_path / 'snapshots').iterdir()] == ['00000004']


def test_a_batch_ahead_is_made_again_without_another_search(setup, tmp_path):
  _, params, make_source = setup
  other = jax.tree.map(lambda array: -array, params)
  source = make_source(tmp_path)
  source.start(params)
  pipeline = Pipeline(source, 11, retrieve_ahead=1)
  pipeline.take(0, params)
  pipeline.begin(1, params)
  pipeline.finish()
  position = json.loads(json.dumps(pipeline.position(1)))
  resumed = make_source(tmp_path)
  again = Pipeline(resumed, 11, retrieve_ahead=1)
  again.resume(position, 1, other)
  for _ in range(2):  # the batch ahead, and one that is begun after it
    (expected, measured), (actual, figures) = (
      which.take(1, other) for which in (pipeline, again)
    )
    jax.tree.map(np.testing.assert_array_equal, actual, expected)
    for name in measured.keys() - {'retrieve_seconds', 'gather_seconds'}:
      assert figures[name] == measured[name], name


@pytest.mark.slow
def test_a_levelled_null_document_scores_like_what_is_found(setup, tmp_path):
  corpus, params, make_source = setup
  plain, level = (
    make_source(tmp_path / name, level_null=name == 'level')
    for name in ('plain', 'level')
  )
  for source in (plain, level):
    source.start(params)
  before, _ = plain.next_batch(state(params))
  after, _ = level.next_batch(state(params))
  np.testing.assert_array_equal(before.query.token_ids, after.query.token_ids)
  assert before.null_bias == 0
  model = Realm(tiny.with_vocab_of(corpus))
  query, null, every = (
    np.asarray(model.apply({'params': params}, inputs, method=method))
    for inputs, method in (
      (after.query, Realm.embed_queries),
      (after.null_document, Realm.embed_documents),
      (
        document_inputs(
          corpus.gather(np.arange(corpus.num_blocks)),
          corpus.wordpiece,
          tiny.LENGTHS.multiple,
          tiny.LENGTHS.document_len,
        ),
        Realm.embed_documents,
      ),
    )
  )
  best = np.sort(query @ every.T, axis=1)[:, -(NUM_CANDIDATES - 1) :]
  levelled = (query @ null.T).mean() + after.null_bias
  np.testing.assert_allclose(levelled, best.mean(), atol=1e-4)
  other = make_source(tmp_path / 'level')
  other.resume(Pipeline(level, 11).position(0), 0, params)
  assert other.next_batch(state(params))[0].null_bias == after.null_bias


@pytest.mark.parametrize(
  ('found', 'num_blocks', 'spread'),
  [
    ([[4, 7], [7, 4], [4, 7]], 50, 0.0),  # the same for all
    ([[4, 7], [1, 2], [3, 0]], 50, 1.0),  # different for all
    ([[4, 7], [7, 1], [4, 1]], 50, 0.25),  # one of four more than two
    ([[0, 1], [1, 2], [2, 0]], 3, 1.0),  # all that there are
    ([[4, 7], [-1, -1], [7, 4]], 50, 0.0),  # empty slots
    ([[4, 7]], 50, 1.0),  # one query: nothing to compare with
  ],
)
def test_retrieval_spread_is_of_what_could_differ(found, num_blocks, spread):
  block_ids = np.pad(np.int32(found), ((0, 0), (1, 0)), constant_values=-1)
  mask = np.int32(block_ids >= 0)
  mask[:, 0] = 1
  candidates = Candidates(block_ids, mask, 0, 0, 0, 0)
  assert retrieval_spread(candidates, num_blocks) == spread
