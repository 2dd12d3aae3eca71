"""Embedder and index together, with an embedder that needs no model."""

import numpy as np
import pytest
import tiny
from test_exact import assert_found, oracle

from realm_jax.data.corpus import Corpus
from realm_jax.errors import UserError
from realm_jax.index.config import IndexConfig
from realm_jax.index.retriever import Retriever
from realm_jax.index.snapshot import Snapshot
from realm_jax.types import TextInputs

RNG = np.random.default_rng(0)
QUERIES = RNG.integers(-5, 6, (4, 3)).astype(np.float32)
BLOCKS = RNG.integers(-5, 6, (42, 3)).astype(np.float32)
IDS = np.ones((4, 2), np.int32)


@pytest.fixture
def make_retriever(tiny_corpus):
  corpus = Corpus.open(tiny_corpus)

  def make(**config):
    return Retriever(
      lambda params, inputs: params * QUERIES,
      corpus,
      tiny.LENGTHS,
      IndexConfig(**config),
    )

  return make


def retrieve(retriever, k, params=1.0):
  return retriever.retrieve(params, TextInputs(IDS, IDS, IDS), k)


def test_what_is_loaded_last_is_searched_with_current_parameters(
  make_retriever,
):
  retriever = make_retriever()
  assert retriever.index_step == -1
  with pytest.raises(RuntimeError, match='No snapshot has been loaded'):
    retrieve(retriever, 3)
  for step, blocks in ((0, BLOCKS), (50, BLOCKS[::-1])):
    retriever.load(Snapshot(blocks, step))
    assert retriever.index_step == step
    assert_found(retrieve(retriever, 3), oracle(QUERIES, blocks, 3))
  assert_found(retrieve(retriever, 3, -1.0), oracle(-QUERIES, BLOCKS[::-1], 3))
  # Fewer than were asked for, where there are fewer.
  assert retrieve(retriever, 50).block_ids.shape == (4, 42)


@pytest.mark.parametrize('kind', ['exact', 'scann'])
def test_recall_is_measured_now_and_then(make_retriever, kind):
  if kind == 'scann':
    pytest.importorskip('scann')
  retriever = make_retriever(kind=kind, audit_every=2)
  retriever.load(Snapshot(BLOCKS))
  assert retriever.recall is None
  retrieve(retriever, 3)
  assert retriever.recall == 1
  retriever.recall = None
  retrieve(retriever, 3)
  assert retriever.recall is None


@pytest.mark.parametrize(
  ('config', 'message'),
  [
    ({'kind': 'faiss'}, "kind is 'faiss', expected one of exact, scann"),
    ({'dtype': 'float16'}, "'float16', expected one of float32"),
    ({'capacity': -1}, 'capacity is -1, expected at least 0'),
    ({'audit_every': -1}, 'audit_every is -1'),
    ({'recall_target': 0.0}, 'recall_target is 0.0, expected more than 0'),
  ],
)
def test_bad_settings_are_refused(config, message):
  with pytest.raises(UserError, match=message):
    IndexConfig(**config)


def test_room_for_more_is_kept(make_retriever):
  retriever = make_retriever(capacity=50)
  retriever.load(Snapshot(BLOCKS))
  retriever.index.add(BLOCKS[:8])
  with pytest.raises(UserError, match=r'51 blocks .*IndexConfig\.capacity'):
    retriever.index.add(BLOCKS[:1])
