"""bench embed times what a refresh does; how fast is no test's."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import tiny
from rich.console import Console

from realm_jax import cli
from realm_jax.bench.document_embedding import (
  FULL,
  REAL,
  MadeUpBlocks,
  made_up_lens,
  sampled_lens,
)
from realm_jax.costs.embedding import embedding_flops, product_rate
from realm_jax.costs.work import embedder_work
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.errors import UserError
from realm_jax.runs.bench_embed import bench_embed
from realm_jax.sharding import MeshConfig

MODEL = dataclasses.replace(
  tiny.MODEL, encoder=dataclasses.replace(tiny.ENCODER, vocab_size=50)
)


@pytest.fixture(autouse=True)
def small_probes(monkeypatch):
  monkeypatch.setattr('realm_jax.bench.floors._SIZE', {'cpu': 64})
  monkeypatch.setattr('realm_jax.bench.floors._READ_BYTES', {'cpu': 1 << 20})


def options(**others) -> dict:
  lengths = Lengths(query_len=8, document_len=20, multiple=10)
  return {
    'model': MODEL,
    'lengths': lengths,
    'rounds': 1,
    'num_blocks': 11,
    **others,
  }


def test_made_up_blocks_are_as_long_as_they_say():
  lens = np.array([5, 3, 20, 9])
  blocks = MadeUpBlocks(lens, 50)
  found = blocks.gather(np.array([2, -1, 0, 1]))
  np.testing.assert_array_equal(found.title_len + found.body_len, [17, 0, 2, 0])
  assert found.body_ids.max() < 50


def test_made_up_lengths_are_mostly_full():
  lens = made_up_lens(5000, 288)
  assert lens.min() >= 8 and lens.max() == 288
  assert 0.6 < np.mean(lens > 0.85 * 288) < 0.75
  assert np.mean(lens < 144) > 0.15


def test_lengths_are_sampled_evenly(tiny_corpus):
  corpus = Corpus.open(tiny_corpus)
  lens = np.sort(corpus.block_lens)
  np.testing.assert_array_equal(sampled_lens(corpus, 42), lens)
  np.testing.assert_array_equal(sampled_lens(corpus, 84), np.repeat(lens, 2))
  assert lens[0] <= sampled_lens(corpus, 1)[0] <= lens[-1]


@pytest.mark.slow
def test_both_kinds_are_timed_and_shown():
  console = Console(record=True, width=120)
  found = bench_embed(**options(console=console))
  full, real = found['parts'][FULL], found['parts'][REAL]
  # A batch is filled up to 112 texts of 20 wordpieces.
  assert full['padding_share'] == pytest.approx(1 - 11 / 112)
  assert full['padding_share'] < real['padding_share'] < 1
  flops = embedding_flops(MODEL, {20: 112})
  assert full['flops_per_second'] * full['seconds'] == pytest.approx(flops)
  text = console.export_text()
  assert FULL in text and REAL in text and 'blocks/s' in text


@pytest.mark.slow
def test_json_is_all_that_is_printed_and_a_mesh_shares_the_work(tiny_corpus):
  console = Console(record=True, width=80)
  found = bench_embed(
    **options(
      as_json=True,
      console=console,
      mesh=MeshConfig(data=2),
      corpus=str(tiny_corpus),
    )
  )
  assert json.loads(console.export_text()) == json.loads(json.dumps(found))
  assert found['machine']['num_devices'] == 2
  assert found['parts'][FULL]['padding_share'] == pytest.approx(1 - 11 / 224)


def test_bad_arguments_are_refused():
  with pytest.raises(UserError, match='rounds is 0'):
    bench_embed(**options(rounds=0))
  lengths = Lengths(document_len=65)
  with pytest.raises(UserError, match='at most the 64'):
    bench_embed(**options(lengths=lengths))
  with pytest.raises(FileNotFoundError, match='does not exist'):
    cli.run(['bench', 'embed', '--corpus', 'nowhere'])


def test_work_is_summed_over_lengths():
  expected = embedder_work(MODEL, 3, 8, False) + embedder_work(
    MODEL, 5, 16, False
  )
  assert embedding_flops(MODEL, {8: 3, 16: 5}) == expected.flops


def test_a_device_that_is_not_known_has_no_rate(monkeypatch):
  rate = product_rate(MODEL, 1)
  assert rate is not None and rate > 0

  class Other:
    platform = 'gpu'
    device_kind = 'Abacus 9000'

  monkeypatch.setattr(jax, 'local_devices', lambda: [Other()])
  assert product_rate(MODEL, 1) is None
  Other.device_kind = 'NVIDIA H100 80GB HBM3'
  # Float32 products are of half the rate.
  assert product_rate(MODEL, 4) == 4 * 798e12 / 2
