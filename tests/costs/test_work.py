"""Operations by formula are those of the traced step, one by one."""

import dataclasses
import math
from typing import Any

import jax
import pytest

from realm_jax.bench.steps import MadeUpBatches
from realm_jax.costs.shapes import StepShape
from realm_jax.costs.work import (
  Work,
  embedder_work,
  encoder_work,
  mlm_head_work,
  parameter_counts,
  recomputed_work,
  refresh_work,
  search_work,
  step_work,
)
from realm_jax.models.encoder import EncoderConfig
from realm_jax.models.realm import (
  Realm,
  RealmConfig,
  abstract_params,
  init_params,
)
from realm_jax.train.optimizer import OptimizerConfig, make_optimizer
from realm_jax.train.state import create_state
from realm_jax.train.step import make_pretrain_step

ENCODER = EncoderConfig(
  vocab_size=53,
  hidden_size=12,
  num_layers=3,
  num_heads=2,
  feed_forward_size=20,
  max_positions=64,
)
MODEL = RealmConfig(ENCODER, embed_dim=7, span_hidden_size=5)
SHAPE = StepShape(
  batch_size=3,
  num_candidates=4,
  query_len=11,
  document_len=17,
  joint_len=23,
  max_masks=2,
)


def _inner(value: Any) -> list[Any]:
  """Jaxprs among the parameters of an equation."""
  values = value if isinstance(value, list | tuple) else [value]
  found = [getattr(v, 'jaxpr', v) for v in values]
  return [v for v in found if hasattr(v, 'eqns')]


def product_flops(jaxpr: Any) -> int:
  """Two for each multiplication with its addition, of all matrix products."""
  flops = 0
  for equation in jaxpr.eqns:
    assert equation.primitive.name not in ('scan', 'while'), 'counted once'
    if equation.primitive.name == 'dot_general':
      (contracted, _), _ = equation.params['dimension_numbers']
      left = equation.invars[0].aval.shape
      depth = math.prod(left[axis] for axis in contracted)
      flops += 2 * depth * math.prod(equation.outvars[0].aval.shape)
    for value in equation.params.values():
      flops += sum(product_flops(inner) for inner in _inner(value))
  return flops


def traced_flops(model: RealmConfig, train_retriever: bool) -> int:
  params = abstract_params(model)
  optimizer, _ = make_optimizer(OptimizerConfig(1e-3), params)
  step = make_pretrain_step(model, optimizer, train_retriever=train_retriever)
  state = jax.eval_shape(lambda p: create_state(p, optimizer), params)
  batch = MadeUpBatches(SHAPE, model.encoder.vocab_size)()
  traced = jax.make_jaxpr(step)(state, batch, jax.random.key(0))
  return product_flops(traced.jaxpr)


@pytest.mark.slow
@pytest.mark.parametrize('train_retriever', [True, False])
@pytest.mark.parametrize('share_embedders', [True, False])
def test_a_step_multiplies_as_often_as_the_traced_one(
  train_retriever, share_embedders
):
  model = dataclasses.replace(MODEL, share_embedders=share_embedders)
  parts = step_work(model, SHAPE, train_retriever)
  assert sum(parts.values(), Work()).flops == pytest.approx(
    traced_flops(model, train_retriever), rel=1e-3
  )


@pytest.mark.slow
@pytest.mark.parametrize('remat', ['dots', 'full'])
def test_what_is_computed_again_is_counted_apart(remat):
  encoder = dataclasses.replace(ENCODER, remat=remat)
  model = dataclasses.replace(MODEL, encoder=encoder)
  work = sum(step_work(model, SHAPE).values(), Work())
  again = recomputed_work(model, SHAPE)
  assert again.flops > 0.05 * work.flops
  assert work.flops + again.flops == pytest.approx(
    traced_flops(model, train_retriever=True), rel=0.03
  )


def test_an_embedding_multiplies_as_often_as_the_traced_one():
  batch = MadeUpBatches(SHAPE, ENCODER.vocab_size)()
  traced = jax.make_jaxpr(
    lambda params, inputs: Realm(MODEL).apply(
      {'params': params}, inputs, method=Realm.embed_queries
    )
  )(abstract_params(MODEL), batch.query)
  work = embedder_work(MODEL, SHAPE.batch_size, SHAPE.query_len, train=False)
  assert work.flops == product_flops(traced.jaxpr)


def test_flops_of_an_encoder_by_hand():
  config = EncoderConfig(
    hidden_size=4, num_layers=2, num_heads=2, feed_forward_size=8
  )
  # Of 3 positions: four products with [4, 4], two with [3, 4] for scores and
  # context, two with [4, 8]. The last layer: key and value of all positions.
  whole = 4 * (2 * 3 * 4 * 4) + 2 * (2 * 3 * 3 * 4) + 2 * (2 * 3 * 4 * 8)
  last = (
    2 * (2 * 3 * 4 * 4)
    + 2 * (2 * 1 * 4 * 4)
    + 2 * (2 * 1 * 3 * 4)
    + 2 * (2 * 1 * 4 * 8)
  )
  segments = 2 * 3 * 2 * 4
  forward = encoder_work(config, 5, 3, 1, train=False)
  assert forward.flops == 5 * (whole + last + segments)
  trained = encoder_work(config, 5, 3, 1, train=True)
  assert trained.flops == 5 * (3 * (whole + last) + 2 * segments)
  assert trained.num_bytes > 2 * forward.num_bytes > 0


def test_flops_of_the_head_are_those_of_masked_positions_alone():
  config = EncoderConfig(vocab_size=11, hidden_size=4, num_heads=2)
  work = mlm_head_work(config, 6, train=False)
  assert work.flops == 6 * 2 * (4 * 4 + 4 * 11 + 4)
  assert mlm_head_work(config, 6, train=True).flops == 3 * work.flops


def test_a_search_reads_every_block_once_for_the_batch():
  work = search_work(5, 1000, 8, 'bfloat16')
  assert (work.flops, work.num_bytes) == (2 * 5 * 1000 * 8, 1000 * 8 * 2)


def test_a_refresh_embeds_every_block():
  one = embedder_work(MODEL, 1, 17, train=False)
  assert refresh_work(MODEL, 1000, 17).flops == pytest.approx(1000 * one.flops)


@pytest.mark.slow
def test_parameters_are_those_that_are_made():
  params = init_params(MODEL, jax.random.key(0))
  counted = parameter_counts(abstract_params(MODEL))
  assert counted == {
    part: sum(leaf.size for leaf in jax.tree.leaves(tree))
    for part, tree in params.items()
  }


@pytest.mark.slow
def test_bert_base_has_as_many_parameters_as_it_is_known_to_have():
  counted = parameter_counts(abstract_params(RealmConfig()))
  # Encoder of BERT-base with its pooler: 109,482,240 (Devlin et al.: 110 M).
  projection = 768 * 128 + 128 + 2 * 128
  assert counted['embedder'] == 109_482_240 + projection
