"""What bench step times is the step of training; how fast is no test's."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import tiny
from rich.console import Console

from realm_jax import cli
from realm_jax.bench import steps
from realm_jax.costs.shapes import StepShape
from realm_jax.data.examples import Lengths
from realm_jax.errors import UserError
from realm_jax.models.realm import init_params
from realm_jax.runs.bench_step import bench_step
from realm_jax.runs.pretrain import PretrainConfig

pytestmark = pytest.mark.slow

SHAPE = StepShape(2, 3, 10, 14, 24, 3)
MODEL = dataclasses.replace(
  tiny.MODEL, encoder=dataclasses.replace(tiny.ENCODER, vocab_size=50)
)


@pytest.fixture(autouse=True)
def small_probes(monkeypatch):
  monkeypatch.setattr('realm_jax.bench.floors._SIZE', {'cpu': 64})
  monkeypatch.setattr('realm_jax.bench.floors._READ_BYTES', {'cpu': 1 << 20})


def test_a_made_up_batch_is_of_full_length():
  batch = steps.MadeUpBatches(SHAPE, 50)()
  assert batch.query.token_ids.shape == (2, 10)
  assert batch.documents.token_ids.shape == (2, 2, 14)
  assert batch.joint.token_ids.shape == (2, 3, 24)
  assert batch.null_document.token_ids.shape == (1, 3)
  assert batch.query.mask.all() and batch.documents.mask.all()
  # A query has one special token fewer than its part of a pair: of 24 places
  # 23 are taken. The null document's leave off after the query.
  np.testing.assert_array_equal(
    batch.joint.mask.sum(axis=2), [[11, 22, 22]] * 2
  )
  assert batch.joint.token_ids.max() < 50
  assert (batch.mlm_positions < SHAPE.query_len).all()


def test_parts_of_the_gradient_are_those_of_their_parameters():
  params = init_params(MODEL, jax.random.key(0))
  batch = steps.MadeUpBatches(SHAPE, 50)()
  embedders, reader = steps._split(params)
  assert set(embedders) | set(reader) == set(params)
  rng = jax.random.key(1)
  for part, own in (
    (steps.make_embed_part(MODEL), embedders),
    (steps.make_read_part(MODEL), reader),
  ):
    _, grads = part(own, batch, rng)
    norms = [np.abs(leaf).max() for leaf in jax.tree.leaves(grads)]
    assert max(norms) > 0


def options(**others) -> dict:
  return {
    'model': MODEL,
    'config': PretrainConfig(batch_size=2, num_candidates=3),
    'lengths': Lengths(query_len=10, document_len=14, max_masks=3),
    'rounds': 1,
    'num_blocks': 40,
    **others,
  }


def test_every_part_is_timed_and_shown():
  console = Console(record=True, width=120)
  found = bench_step(**options(console=console))
  assert tuple(found['parts']) == steps.PARTS
  for name, part in found['parts'].items():
    assert part['milliseconds'] > 0
    assert ('planned_milliseconds' in part) == (name != steps.GATHER)
  step = found['parts'][steps.STEP]
  assert step['share_of_step'] == 1
  assert step['flops_per_second'] == pytest.approx(
    step['flops'] / step['milliseconds'] * 1e3
  )
  assert found['memory_bytes'] > 0
  text = console.export_text()
  assert all(name in text for name in steps.PARTS)
  assert 'tokens/s' in text


def test_utilisation_is_shown_where_the_peak_is_known(monkeypatch):
  monkeypatch.setattr(steps, 'peak_at_hand', lambda: 1e12)
  console = Console(record=True, width=120)
  found = bench_step(**options(num_blocks=0, console=console))
  step = found['parts'][steps.STEP]
  assert step['utilisation'] == step['flops_per_second'] / 1e12
  assert f'{step["utilisation"]:.1%}' in console.export_text()


def test_made_up_rows_are_all_drawn_and_not_to_be_written(monkeypatch):
  monkeypatch.setattr(steps, 'CHUNK_SIZE', 8)
  rows = steps._made_up_rows(21, 4, 'bfloat16')
  assert rows.shape == (21, 4) and rows.dtype == 'bfloat16'
  assert len(np.unique(rows.astype(np.float32), axis=0)) == 21
  assert not rows.flags.writeable


def test_json_is_all_that_is_printed_and_retrieval_can_be_left_out():
  console = Console(record=True, width=80)
  found = bench_step(**options(num_blocks=0, as_json=True, console=console))
  assert json.loads(console.export_text()) == json.loads(json.dumps(found))
  assert steps.RETRIEVE not in found['parts']


def test_bad_arguments_are_refused():
  with pytest.raises(UserError, match='rounds is 0'):
    bench_step(**options(rounds=0))
  with pytest.raises(UserError, match='num_blocks -1'):
    bench_step(**options(num_blocks=-1))


def test_an_unknown_subject_lists_those_that_there_are(capsys):
  with pytest.raises(SystemExit) as caught:
    cli.run(['bench', 'speed'])
  assert caught.value.code == 2
  message = capsys.readouterr().err
  assert 'speed' in message and 'index' in message and 'step' in message
