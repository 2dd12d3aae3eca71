import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads
from reference import objectives
from reference.arrays import doubled, pretrain_arrays

from realm_jax import losses
from realm_jax.objectives import OBJECTIVES

SEEDS = st.integers(0, 2**32 - 1)
MARGINALS = st.sampled_from(['marginal_span', 'marginal_token'])

# Shapes are fixed, for one compilation each; masks make them smaller.
pretrain_loss = jax.jit(losses.pretrain_loss, static_argnames='objective')
ict_loss = jax.jit(losses.ict_loss)
orqa_loss = jax.jit(losses.orqa_loss)
pretrain_gradient = jax.jit(
  jax.grad(losses.pretrain_loss, argnums=(0, 1), has_aux=True),
  static_argnames='objective',
)
orqa_gradient = jax.jit(
  jax.grad(losses.orqa_loss, argnums=(0, 3), has_aux=True)
)


def orqa_arrays(seed, scale=5.0, batch=3, beam=5, num_read=2, num_spans=7):
  rng = np.random.default_rng(seed)
  return (
    np.float32(scale * rng.normal(size=(batch, beam))),
    np.arange(beam) < rng.integers(1, beam + 1, size=(batch, 1)),
    rng.random((batch, beam)) < 0.4,
    np.float32(scale * rng.normal(size=(batch, num_read, num_spans))),
    rng.random((batch, num_read, num_spans)) < 0.1,
  )


@given(SEEDS, MARGINALS, st.sampled_from([0.01, 5.0, 30.0]))
def test_pretraining_equals_the_formula(seed, objective, scale):
  arrays = pretrain_arrays(seed, scale)
  loss, terms = pretrain_loss(*arrays, objective=objective)
  expected_loss, marginals, posteriors, utility = objectives.pretrain(
    *doubled(arrays), objective
  )
  mlm_mask = arrays[2]
  is_span = objective == 'marginal_span'
  real = mlm_mask.any(axis=1) if is_span else mlm_mask
  close = {'rtol': 1e-5, 'atol': 2e-5}
  np.testing.assert_allclose(loss, expected_loss, **close)
  np.testing.assert_allclose(terms.marginal_log_probs[real], marginals, **close)
  assert (terms.marginal_log_probs[~real] == 0).all()
  np.testing.assert_allclose(terms.retrieval_utility, utility, **close)
  np.testing.assert_allclose(
    np.exp(terms.posterior_log_probs), posteriors, atol=1e-4
  )
  expected = [
    objectives.candidate_probs(scores, real)
    for scores, real in zip(np.float64(arrays[0]), arrays[3], strict=True)
  ]
  np.testing.assert_allclose(
    np.exp(terms.candidate_log_probs), expected, atol=2e-5
  )


def test_the_two_marginals_worked_out_by_hand():
  # p(z|x) = 1/4, 3/4; the second document knows both tokens, the null neither
  scores = np.log(np.array([[1.0, 3.0]]))
  gold = np.log(np.array([[[0.5, 0.25], [1.0, 0.5]]]))
  masks = np.ones((1, 2), bool)
  span, terms = losses.pretrain_loss(scores, gold, masks, masks)
  token, _ = losses.pretrain_loss(scores, gold, masks, masks, 'marginal_token')
  # 1/4 * 1/8 + 3/4 * 1/2 and (1/4 * 1/2 + 3/4) (1/4 * 1/4 + 3/8), halved
  np.testing.assert_allclose(span, -np.log(13 / 32), rtol=1e-6)
  np.testing.assert_allclose(
    token, -(np.log(7 / 8) + np.log(7 / 16)) / 2, rtol=1e-6
  )
  np.testing.assert_allclose(
    terms.posterior_log_probs, [np.log([1 / 13, 12 / 13])], rtol=1e-5
  )
  np.testing.assert_allclose(
    terms.retrieval_utility, np.log(13 / 32 / (1 / 8)) / 2, rtol=1e-6
  )


@given(SEEDS, MARGINALS)
def test_what_is_masked_changes_nothing(seed, objective):
  scores, gold, mlm_mask, candidate_mask = pretrain_arrays(seed)
  real = mlm_mask[:, None, :] & candidate_mask[:, :, None]
  loss, _ = pretrain_loss(
    scores, gold, mlm_mask, candidate_mask, objective=objective
  )
  changed, _ = pretrain_loss(
    np.where(candidate_mask, scores, np.float32(1e9)),
    np.where(real, gold, np.float32(np.nan)),
    mlm_mask,
    candidate_mask,
    objective=objective,
  )
  assert loss == changed


@given(SEEDS, MARGINALS, st.floats(-50, 50))
def test_a_constant_added_to_the_scores_changes_nothing(seed, objective, shift):
  scores, *rest = pretrain_arrays(seed)
  loss, _ = pretrain_loss(scores, *rest, objective=objective)
  shifted, _ = pretrain_loss(
    scores + np.float32(shift), *rest, objective=objective
  )
  np.testing.assert_allclose(shifted, loss, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('objective', OBJECTIVES)
def test_nothing_masked_gives_no_loss_and_no_gradient(objective):
  scores, gold, mlm_mask, candidate_mask = pretrain_arrays(1)
  for candidates in (candidate_mask, np.zeros_like(candidate_mask)):
    arrays = (scores, gold, np.zeros_like(mlm_mask), candidates)
    settings = {'objective': objective, 'rng': jax.random.key(0)}
    loss, terms = pretrain_loss(*arrays, **settings)
    assert loss == 0
    assert terms.retrieval_utility == 0
    gradient, _ = pretrain_gradient(*arrays, **settings)
    assert all((leaf == 0).all() for leaf in gradient)


@pytest.mark.parametrize('objective', sorted(OBJECTIVES.keys() - {'reinforce'}))
def test_an_example_without_masks_does_not_weigh(objective):
  scores, gold, mlm_mask, candidate_mask = pretrain_arrays(2)
  mlm_mask[1] = False
  mlm_mask[[0, 2], 0] = True
  loss, _ = losses.pretrain_loss(
    scores, gold, mlm_mask, candidate_mask, objective
  )
  others, _ = losses.pretrain_loss(
    *(array[[0, 2]] for array in (scores, gold, mlm_mask, candidate_mask)),
    objective,
  )
  np.testing.assert_allclose(loss, others, rtol=1e-6)


def test_the_gradient_of_a_score_is_prior_minus_posterior():
  scores, gold, mlm_mask, candidate_mask = pretrain_arrays(3)
  mlm_mask[:, 0] = True
  (gradient, _), terms = pretrain_gradient(
    scores, gold, mlm_mask, candidate_mask, objective='marginal_span'
  )
  prior = np.exp(terms.candidate_log_probs)
  posterior = np.exp(terms.posterior_log_probs)
  np.testing.assert_allclose(gradient, (prior - posterior) / 3, atol=1e-6)


@pytest.mark.parametrize(
  'objective', ['marginal_span', 'marginal_token', 'hard_em']
)
def test_pretraining_gradients_equal_finite_differences(objective):
  scores, gold, mlm_mask, candidate_mask = pretrain_arrays(4, scale=2.0)
  with jax.enable_x64(True):
    check_grads(
      lambda scores, gold: losses.pretrain_loss(
        scores, gold, mlm_mask, candidate_mask, objective
      )[0],
      doubled((scores, gold)),
      order=1,
      modes=['rev'],
      rtol=1e-5,
      atol=1e-7,
    )


def test_half_precision_inputs_are_summed_in_float32():
  scores, gold, mlm_mask, candidate_mask = pretrain_arrays(5)
  loss, terms = losses.pretrain_loss(
    jnp.asarray(scores, jnp.bfloat16), gold, mlm_mask, candidate_mask
  )
  assert loss.dtype == jnp.float32
  assert {term.dtype for term in terms} == {jnp.dtype('f4')}


@given(SEEDS, st.sampled_from([1, 2, 9]))
def test_ict_equals_the_formula(seed, num_blocks):
  rng = np.random.default_rng(seed)
  queries, documents = np.float32(2 * rng.normal(size=(2, 6, 4)))
  block_ids = rng.integers(0, num_blocks, size=6)
  loss, accuracy = ict_loss(queries, documents, block_ids)
  expected = objectives.ict(*doubled((queries, documents)), block_ids)
  np.testing.assert_allclose(loss, expected[0], rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(accuracy, expected[1], rtol=1e-6)


def test_equal_scores_of_two_blocks_are_no_hit():
  embeds = np.ones((3, 2), np.float32)
  loss, accuracy = losses.ict_loss(embeds, embeds, np.arange(3))
  np.testing.assert_allclose(loss, np.log(3), rtol=1e-6)
  assert accuracy == 0


def test_ict_gradients_equal_finite_differences():
  rng = np.random.default_rng(6)
  queries, documents = rng.normal(size=(2, 5, 3))
  with jax.enable_x64(True):
    check_grads(
      lambda *embeds: losses.ict_loss(*embeds, np.array([4, 7, 4, 9, 1]))[0],
      (queries, documents),
      order=1,
      modes=['rev'],
      rtol=1e-5,
      atol=1e-7,
    )


@given(SEEDS, st.sampled_from([0.01, 5.0, 30.0]))
def test_orqa_equals_the_formula(seed, scale):
  arrays = orqa_arrays(seed, scale)
  loss, terms = orqa_loss(*arrays)
  expected = objectives.orqa(*doubled(arrays))
  np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(
    terms.retriever_loss + terms.reader_loss, expected, rtol=1e-5, atol=1e-5
  )


def test_each_term_of_orqa_is_gated_on_its_own():
  scores, beam_mask, _, span_scores, _ = orqa_arrays(7)
  beam_mask[:] = True
  no_block, no_span = (
    np.zeros_like(beam_mask),
    np.zeros(span_scores.shape, bool),
  )
  block, span = no_block.copy(), no_span.copy()
  block[:, 4], span[:, 1, 3] = True, True
  for has_answer, correct, gates in (
    (no_block, no_span, (False, False)),
    (block, no_span, (True, False)),
    (no_block, span, (False, True)),
    (block, span, (True, True)),
  ):
    arrays = (scores, beam_mask, has_answer, span_scores, correct)
    _, terms = orqa_loss(*arrays)
    assert (terms.has_right_block == gates[0]).all()
    assert (terms.has_right_span == gates[1]).all()
    assert ((terms.retriever_loss > 0) == gates[0]).all()
    assert ((terms.reader_loss > 0) == gates[1]).all()
    (by_block, by_span), _ = orqa_gradient(*arrays)
    assert np.isfinite(by_block).all()
    assert (by_span != 0).any() == gates[1]
    # the reader's term teaches the retriever, too
    assert (by_block != 0).any() == any(gates)


def test_an_empty_slot_of_the_beam_is_neither_right_nor_predicted():
  scores, beam_mask, has_answer, span_scores, correct = orqa_arrays(8)
  beam_mask[:] = True
  beam_mask[:, 1:] = False
  has_answer[:], correct[:] = True, True
  span_scores[:, 1] = 1e6
  _, terms = orqa_loss(scores, beam_mask, has_answer, span_scores, correct)
  np.testing.assert_allclose(terms.retriever_loss, 0, atol=1e-6)
  np.testing.assert_allclose(terms.reader_loss, 0, atol=1e-6)
  assert (terms.joint_scores.reshape(3, -1).argmax(axis=1) < 7).all()


def test_orqa_gradients_equal_finite_differences():
  scores, beam_mask, has_answer, span_scores, correct = orqa_arrays(
    9, scale=2.0
  )
  correct[:, 0, :2] = True
  with jax.enable_x64(True):
    check_grads(
      lambda scores, spans: losses.orqa_loss(
        scores, beam_mask, has_answer, spans, correct
      )[0],
      doubled((scores, span_scores)),
      order=1,
      modes=['rev'],
      rtol=1e-5,
      atol=1e-7,
    )


def test_spans_are_right_where_start_and_stop_of_one_answer_agree():
  right = losses.span_correct(
    np.array([[[2, -1, 5], [-1, -1, -1]]]),
    np.array([[[4, -1, 6], [-1, -1, -1]]]),
    np.array([2, 2, 5, 5]),
    np.array([3, 4, 6, 4]),
  )
  np.testing.assert_array_equal(right, [[[0, 1, 1, 0], [0, 0, 0, 0]]])


def test_no_slot_for_answers_makes_no_span_right():
  none = np.zeros((1, 2, 0), int)
  starts = np.arange(3)
  right = losses.span_correct(none, none, starts, starts + 1)
  assert right.shape == (1, 2, 3)
  assert not right.any()


def test_bad_arguments_are_refused():
  scores, gold, mlm_mask, candidate_mask = pretrain_arrays(0)
  with pytest.raises(
    ValueError, match="objective is 'word', expected one of marginal_span"
  ):
    losses.pretrain_loss(scores, gold, mlm_mask, candidate_mask, 'word')
  with pytest.raises(ValueError, match='its max_masks is 4, but'):
    losses.pretrain_loss(scores, gold, mlm_mask[:, :4], candidate_mask)
  arrays = orqa_arrays(0, beam=1)
  with pytest.raises(
    ValueError, match='2 blocks read, but the beam holds only 1'
  ):
    losses.orqa_loss(*arrays)
