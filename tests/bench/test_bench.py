"""The benchmark measures what it says; how fast things are is no test's."""

import json

import numpy as np
import pytest
from rich.console import Console

from realm_jax.bench.contenders import METHODS, build, recall
from realm_jax.bench.embeddings import EMBED_DIM, Mixture, exact_top
from realm_jax.bench.floors import Probes
from realm_jax.bench.timing import time_in_turn
from realm_jax.errors import UserError
from realm_jax.index.snapshot import Snapshot, save_snapshot
from realm_jax.runs.bench import bench_index

OWN = (
  'exact float32',
  'exact bfloat16',
  'exact int8',
  'matmul + top_k',
  'numpy',
)


def test_calls_are_made_in_turn():
  calls = []
  found = time_in_turn(
    {name: lambda name=name: calls.append(name) for name in 'ab'}, rounds=2
  )
  assert calls == list('ababab')
  assert [len(seconds) for seconds in found.values()] == [2, 2]


def test_what_lay_idle_is_called_once_before_it_is_timed():
  calls = []
  time_in_turn(
    {name: lambda name=name: calls.append(name) for name in 'ab'},
    rounds=1,
    warm=True,
  )
  assert calls == list('abaabb')


def test_the_floor_is_the_slower_of_product_and_read():
  probes = Probes('cpu', 'float32')
  rates = probes.rates(2.0, 3.0)
  assert rates['flops_per_second'] == 2 * 2048**3 / 2.0
  # One query: reading 10 x 4 x 2 bytes; very many: multiplying.
  assert probes.floor(2.0, 3.0, 1, 10, 4, 2) == pytest.approx(
    80 / rates['bytes_per_second']
  )
  assert probes.floor(2.0, 3.0, 10**6, 10, 4, 2) == pytest.approx(
    2 * 10**6 * 10 * 4 / rates['flops_per_second']
  )


@pytest.mark.parametrize('method', METHODS)
def test_every_method_finds_the_best_blocks(method):
  if method == 'scann':
    pytest.importorskip('scann')
  if method.startswith('faiss'):
    pytest.importorskip('faiss')
  mixture = Mixture(3000)
  blocks, queries = np.concatenate(list(mixture.chunks())), mixture.queries(20)
  contender = build(method, blocks).contender
  exact_ids = exact_top(queries, blocks, 8)
  assert recall(contender.search(queries, 8), exact_ids, queries, blocks) >= (
    0.9 if method == 'faiss ivf' else 1.0
  )


def test_embeddings_are_those_of_their_seed():
  first = np.concatenate(list(Mixture(500, seed=1).chunks()))
  assert first.shape == (500, EMBED_DIM)
  np.testing.assert_array_equal(
    first, np.concatenate(list(Mixture(500, seed=1).chunks()))
  )
  assert np.abs(first - next(Mixture(500, seed=2).chunks())).mean() > 0.1


def test_exact_top_is_a_full_sort():
  mixture = Mixture(300)
  blocks, queries = next(mixture.chunks()), mixture.queries(5)
  np.testing.assert_array_equal(
    exact_top(queries, blocks, 7),
    np.argsort(-queries @ blocks.T, axis=1)[:, :7],
  )


@pytest.mark.slow
def test_a_row_for_every_method_batch_and_k(tmp_path):
  blocks = np.concatenate(list(Mixture(700).chunks()))
  save_snapshot(tmp_path, Snapshot(blocks))
  console = Console(record=True, width=120)
  found = bench_index(
    snapshot=str(tmp_path),
    batch=(1, 20),
    k=(8,),
    method=OWN,
    rounds=1,
    console=console,
  )
  assert len(found['rows']) == 2 * len(OWN)
  for row in found['rows']:
    assert row['recall'] == 1
    assert row['milliseconds'] > 0
    assert row['ratio_to_floor'] > 0
  assert found['machine']['num_blocks'] == 700
  text = console.export_text()
  assert all(name in text for name in OWN)
  assert '700 blocks of width 128' in text


def test_json_is_all_that_is_printed():
  console = Console(record=True, width=80)
  found = bench_index(
    num_blocks=300,
    batch=(2,),
    method=('numpy',),
    rounds=1,
    as_json=True,
    console=console,
  )
  assert json.loads(console.export_text()) == json.loads(json.dumps(found))


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'batch': (0,)}, '0 was given'),
    ({'method': ('fais',)}, "'fais' is no method"),
    ({'k': (301,)}, 'k is 301, but there are 300 blocks'),
    ({'num_blocks': 10**12}, r'GiB, but .* --num-blocks'),
  ],
)
def test_bad_arguments_are_refused(options, message):
  with pytest.raises(UserError, match=message):
    bench_index(**{'num_blocks': 300, 'rounds': 1, **options})
