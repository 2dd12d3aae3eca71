"""The jitted uses of the model, against the model's own methods."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny

from realm_jax.models.inference import (
  SpanInputs,
  make_embed,
  make_fill_in,
  make_gold_log_probs,
  make_read_spans,
)
from realm_jax.models.realm import Realm, init_params, span_positions
from realm_jax.types import TextInputs

MODEL = dataclasses.replace(
  tiny.MODEL,
  max_span_width=3,
  encoder=dataclasses.replace(tiny.ENCODER, vocab_size=30),
)
BATCH, NUM_READ, LENGTH, MAX_MASKS = 2, 3, 9, 4


@pytest.fixture(scope='module')
def params():
  scaled = init_params(MODEL, jax.random.key(0))
  return jax.tree.map(lambda array: 5 * array, scaled)


def inputs(*shape):
  rng = np.random.default_rng(len(shape))
  ids = rng.integers(1, 30, shape).astype(np.int32)
  return TextInputs(ids, np.ones_like(ids), np.zeros_like(ids))


def apply(params, method, *args):
  return np.asarray(
    Realm(MODEL).apply({'params': params}, *args, method=method)
  )


JOINT = inputs(BATCH, NUM_READ, LENGTH)
POSITIONS = np.array([[1, 5, 2, 0], [3, 3, 8, 7]], np.int32)
TARGETS = np.array([[4, 9, 29, 1], [2, 3, 3, 8]], np.int32)


@pytest.mark.parametrize('method', [Realm.embed_queries, Realm.embed_documents])
def test_texts_are_embedded(params, method):
  texts = inputs(BATCH, LENGTH)
  embeds = make_embed(MODEL, method)(params, texts)
  assert embeds.shape == (BATCH, MODEL.embed_dim)
  np.testing.assert_allclose(embeds, apply(params, method, texts), atol=1e-5)


@pytest.mark.slow
def test_blanks_are_filled_with_the_likeliest(params):
  log_probs = apply(params, Realm.mlm_log_probs, JOINT, POSITIONS)
  ids, best = make_fill_in(MODEL)(params, JOINT, POSITIONS)
  assert ids.shape == (BATCH, NUM_READ, MAX_MASKS)
  np.testing.assert_array_equal(ids, log_probs.argmax(axis=-1))
  np.testing.assert_allclose(best, log_probs.max(axis=-1), atol=1e-4)
  gold = make_gold_log_probs(MODEL)(params, JOINT, POSITIONS, TARGETS)
  targets = np.broadcast_to(TARGETS[:, None], (BATCH, NUM_READ, MAX_MASKS))
  np.testing.assert_allclose(
    gold,
    np.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0],
    atol=1e-4,
  )


def span_inputs(scores, block_mask, answer_ids=None, answer_lens=None):
  if answer_ids is None:
    answer_ids = np.zeros((BATCH, 1, 3), np.int32)
    answer_lens = np.zeros((BATCH, 1), np.int32)
  return SpanInputs(scores, JOINT, block_mask, answer_ids, answer_lens)


@pytest.mark.slow
def test_the_best_spans_of_all_blocks_are_read(params):
  block_mask = np.zeros((BATCH, NUM_READ, LENGTH), np.int32)
  block_mask[:, :, 3:8] = 1
  retriever_scores = np.array([[0, 4, -3], [2, 1, 9]], np.float32)
  read = make_read_spans(MODEL, num_spans=4)
  reading = read(params, span_inputs(retriever_scores, block_mask))
  scores = apply(params, Realm.span_scores, JOINT, block_mask)
  scores = np.float64(scores) + retriever_scores[:, :, None]
  starts, stops = span_positions(LENGTH, 3)
  for row in range(BATCH):
    log_probs = scores[row] - np.logaddexp.reduce(scores[row].reshape(-1))
    order = np.argsort(-log_probs, axis=None, kind='stable')[:4]
    slots, spans = np.unravel_index(order, log_probs.shape)
    np.testing.assert_allclose(
      reading.log_probs[row], log_probs[slots, spans], atol=1e-3
    )
    np.testing.assert_array_equal(reading.slots[row], slots)
    np.testing.assert_array_equal(reading.starts[row], starts[spans])
    np.testing.assert_array_equal(reading.stops[row], stops[spans])
    assert (reading.starts[row] >= 3).all() and (reading.stops[row] <= 8).all()


def test_a_span_is_right_if_its_pieces_are_an_answers(params):
  block_mask = np.zeros((BATCH, NUM_READ, LENGTH), np.int32)
  block_mask[:, :, 3:8] = 1
  scores = np.zeros((BATCH, NUM_READ), np.float32)
  read = make_read_spans(MODEL)
  reading = read(params, span_inputs(scores, block_mask))
  slots, starts, stops = (
    np.asarray(array)[:, 0]
    for array in (reading.slots, reading.starts, reading.stops)
  )
  # The best span of the first row is right; in the second no span is.
  answer_ids = np.zeros((BATCH, 1, 3), np.int32)
  answer_lens = np.array([[stops[0] - starts[0]], [1]], np.int32)
  pieces = JOINT.token_ids[0, slots[0], starts[0] : stops[0]]
  answer_ids[0, 0, : len(pieces)] = pieces
  answer_ids[1, 0, 0] = MODEL.encoder.vocab_size  # in no text
  again = read(params, span_inputs(scores, block_mask, answer_ids, answer_lens))
  assert np.asarray(again.is_right).tolist() == [True, False]
  assert np.asarray(again.has_right).tolist() == [True, False]


def test_the_retrievers_score_counts(params):
  block_mask = np.ones((BATCH, NUM_READ, LENGTH), np.int32)
  read = make_read_spans(MODEL)
  for slot in range(NUM_READ):
    scores = np.zeros((BATCH, NUM_READ), np.float32)
    scores[:, slot] = 1e3
    assert (
      np.asarray(read(params, span_inputs(scores, block_mask)).slots) == slot
    ).all()
