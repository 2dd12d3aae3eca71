"""A batch in parts has the update of the whole batch, and less in memory."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest
import tiny

from realm_jax.bench.steps import MadeUpBatches
from realm_jax.costs.shapes import StepShape
from realm_jax.errors import UserError
from realm_jax.models.realm import init_params
from realm_jax.runs.finetune import FinetuneConfig
from realm_jax.runs.pretrain import PretrainConfig
from realm_jax.sharding import MeshConfig, check_batch, make_layout
from realm_jax.train.state import create_state
from realm_jax.train.step import make_finetune_step, make_pretrain_step
from realm_jax.types import QABatch, TextInputs

BATCH = 8
SHAPE = StepShape(
  batch_size=BATCH,
  num_candidates=3,
  query_len=12,
  document_len=14,
  joint_len=26,
  max_masks=3,
)
ENCODER = dataclasses.replace(
  tiny.ENCODER,
  vocab_size=128,
  num_heads=4,
  initializer_range=0.2,
  dropout_rate=0.0,
  attention_dropout_rate=0.0,
)
MODEL = dataclasses.replace(tiny.MODEL, encoder=ENCODER)
# The gradient is what the update takes off the parameters.
OPTIMIZER = optax.sgd(1.0)
RNG = jax.random.key(2)


@pytest.fixture(scope='module')
def pretraining():
  """Rows with 3, 2, 1 and no masked tokens, and with empty slots."""
  batch = MadeUpBatches(SHAPE, ENCODER.vocab_size)()
  num_masks = np.array([3, 1, 0, 2, 3, 3, 1, 0])
  candidate_mask = np.ones((BATCH, 3), np.int32)
  candidate_mask[[1, 6], 2] = 0
  return batch._replace(
    mlm_mask=(np.arange(3) < num_masks[:, None]).astype(np.int32),
    candidate_mask=candidate_mask,
    null_bias=np.float32(0.3),
  )


@pytest.fixture(scope='module')
def questions():
  """Beams of random vectors; some answers stand in the blocks that are read."""
  rng = np.random.default_rng(5)
  joint = MadeUpBatches(SHAPE, ENCODER.vocab_size)().joint
  token_ids = joint.token_ids[:, 1:]
  lens = np.array([[1], [2], [0], [1], [2], [1], [1], [1]], np.int32)
  answer_ids = np.zeros((BATCH, 1, 2), np.int32)
  for row in range(6):  # those of the last rows are in no block
    answer_ids[row, 0, : lens[row, 0]] = token_ids[
      row, 0, 15 : 15 + lens[row, 0]
    ]
  answer_ids[6:, :, 0] = 1
  return QABatch(
    question=MadeUpBatches(SHAPE, ENCODER.vocab_size)().query,
    beam_embeds=rng.normal(size=(BATCH, 6, 8)).astype(np.float32),
    beam_mask=np.ones((BATCH, 6), np.int32),
    beam_has_answer=rng.random((BATCH, 6)) < 0.4,
    joint=TextInputs(*(array[:, 1:] for array in joint)),
    block_mask=joint.segment_ids[:, 1:],
    answer_ids=answer_ids,
    answer_lens=lens,
  )


@functools.cache
def new_params():
  return init_params(MODEL, jax.random.key(0))


def updated(make_step, batch, mesh=None, **options):
  """The parameters after one update, and its metrics."""
  layout = make_layout(mesh, MODEL)
  step = make_step(MODEL, OPTIMIZER, layout=layout, **options)
  state = create_state(new_params(), OPTIMIZER, layout)
  state, metrics = step(state, layout.place(batch) if layout else batch, RNG)
  return state.params, {name: float(value) for name, value in metrics.items()}


def assert_same_update(actual, expected):
  for name, value in expected[1].items():
    assert actual[1][name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5),
    actual[0],
    expected[0],
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  ('objective', 'num_microbatches'),
  [
    ('marginal_token', 2),
    ('marginal_span', 4),
  ],
)
def test_pretraining_in_parts_is_that_of_the_whole_batch(
  pretraining, objective, num_microbatches
):
  make_step = functools.partial(make_pretrain_step, objective=objective)
  whole = updated(make_step, pretraining)
  parts = updated(make_step, pretraining, num_microbatches=num_microbatches)
  assert whole[1]['gradient_norm'] > 0.01
  assert_same_update(parts, whole)


@pytest.mark.slow
@pytest.mark.parametrize(
  'mesh', [MeshConfig(2), MeshConfig(2, 2, 'tensor')], ids=str
)
def test_in_parts_on_a_mesh_too(pretraining, mesh):
  make_step = functools.partial(make_pretrain_step, objective='marginal_token')
  whole = updated(make_step, pretraining)
  parts = updated(make_step, pretraining, mesh, num_microbatches=4)
  assert_same_update(parts, whole)


@pytest.mark.slow
def test_fine_tuning_in_parts_is_that_of_the_whole_batch(questions):
  whole = updated(make_finetune_step, questions)
  parts = updated(make_finetune_step, questions, num_microbatches=4)
  assert 0 < whole[1]['reader_oracle'] < 1
  assert_same_update(parts, whole)


def temporary_bytes(batch, num_microbatches):
  step = make_pretrain_step(MODEL, OPTIMIZER, num_microbatches=num_microbatches)
  state = create_state(new_params(), OPTIMIZER)
  compiled = step.lower(state, batch, RNG).compile()
  return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_parts_need_less_memory():
  shape = dataclasses.replace(SHAPE, batch_size=64)
  batch = MadeUpBatches(shape, ENCODER.vocab_size)()
  whole, parts = (temporary_bytes(batch, number) for number in (1, 8))
  # of the activations an eighth; gradients are summed beside those of a part
  gradients = sum(leaf.nbytes for leaf in jax.tree.leaves(new_params()))
  assert parts < whole / 4 + 3 * gradients
  assert 3 * gradients < whole / 4


@pytest.mark.slow
def test_each_part_has_dropout_of_its_own():
  encoder = dataclasses.replace(ENCODER, dropout_rate=0.5)
  model = dataclasses.replace(MODEL, encoder=encoder)
  shape = dataclasses.replace(SHAPE, batch_size=1)
  one = MadeUpBatches(shape, ENCODER.vocab_size)()
  # the same row twice, each a part
  batch = jax.tree.map(
    lambda array: np.repeat(array, 2, axis=0) if np.ndim(array) else array, one
  )._replace(null_document=one.null_document)

  def utility(batch, num_microbatches):
    step = make_pretrain_step(
      model, OPTIMIZER, num_microbatches=num_microbatches
    )
    _, metrics = step(create_state(new_params(), OPTIMIZER), batch, RNG)
    low, high = (metrics[f'document_utility_p{n}'] for n in (10, 90))
    return float(low), float(high)

  once, twice = utility(one, 1), utility(batch, 2)
  assert not np.allclose(once, twice, rtol=1e-3)


@pytest.mark.parametrize('config', [PretrainConfig, FinetuneConfig])
def test_a_batch_that_cannot_be_split_evenly_is_refused(config):
  name = config.__name__
  with pytest.raises(
    UserError,
    match=f'{name}.batch_size is 16, expected .*{name}.num_microbatches.* 3',
  ):
    config(num_microbatches=3)
  with pytest.raises(UserError, match='num_microbatches is 0'):
    config(num_microbatches=0)


def test_each_part_has_to_spread_over_the_mesh():
  layout = make_layout(MeshConfig(4), MODEL)
  check_batch(layout, 'PretrainConfig.batch_size', 16, 4)
  with pytest.raises(
    UserError, match=r'batch_size is 8, expected a multiple of 16: 4 parts.* 4'
  ):
    check_batch(layout, 'PretrainConfig.batch_size', 8, 4)
