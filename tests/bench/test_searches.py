"""What there is no memory for is left out; the rest is measured."""

import numpy as np
import pytest

from realm_jax.bench import contenders, searches
from realm_jax.bench.contenders import Built, Contender, build
from realm_jax.bench.embeddings import exact_top
from realm_jax.bench.searches import measure_searches
from realm_jax.index import exact_index
from realm_jax.index.table import is_aliased
from realm_jax.runs.bench import _made_up_embeds

RNG = np.random.default_rng(0)
BLOCKS = RNG.normal(size=(70, 8)).astype(np.float32)
QUERIES = RNG.normal(size=(64, 8)).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize('largest', [0, 1, 5])
def test_recall_is_measured_on_batches_that_fit(monkeypatch, largest):
  monkeypatch.setattr(
    contenders, 'free_host_bytes', lambda: 3 * 4 * largest * len(BLOCKS)
  )
  sizes = []

  def search(query_embeds, k):
    sizes.append(len(query_embeds))
    return exact_top(np.asarray(query_embeds), BLOCKS, k)

  built = {'numpy': Built(Contender(search, None, holds_scores=True))}
  found = measure_searches(built, BLOCKS, QUERIES, (1, 64), (3,), rounds=1)
  one, many = found['rows']
  assert many['left_out'] == 'its scores do not fit into memory'
  if largest == 0:
    assert one['left_out'] == many['left_out']
    assert not sizes
  else:
    assert one['recall'] == 1
    assert one['milliseconds'] > 0
    assert max(sizes) <= largest


def test_a_method_without_memory_is_left_out_and_says_why(monkeypatch):
  monkeypatch.setattr(exact_index, 'free_device_bytes', lambda device: 300)
  built = {'exact int8': build('exact int8', BLOCKS)}
  found = measure_searches(built, BLOCKS, QUERIES, (1,), (3,), rounds=1)
  assert 'GiB are free' in found['rows'][0]['left_out']


@pytest.mark.parametrize('method', ['faiss flat', 'faiss ivf'])
def test_the_copy_that_faiss_makes_is_foreseen(monkeypatch, method):
  pytest.importorskip('faiss')
  monkeypatch.setattr(contenders, 'free_host_bytes', lambda: 300)
  assert build(method, BLOCKS).contender is None
  assert 'Its copy of the embeddings needs' in build(method, BLOCKS).reason


def test_recalls_are_of_all_queries(monkeypatch):
  monkeypatch.setattr(
    contenders, 'free_host_bytes', lambda: 3 * 4 * 5 * len(BLOCKS)
  )

  def worst(query_embeds, k):
    return exact_top(-np.asarray(query_embeds), BLOCKS, k)

  built = {'worst': Built(Contender(worst, None, holds_scores=True))}
  assert searches._recalls(built, BLOCKS, QUERIES, 3) == {'worst': 0}


def test_made_up_embeddings_are_held_once():
  block_embeds, queries = _made_up_embeds(300, 64)
  assert is_aliased(block_embeds, 300, 'float32', None)
  assert queries.shape == (64, block_embeds.shape[1])
