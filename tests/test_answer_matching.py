"""Where answers lie, against a search by hand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.answer_matching import match_answers, right_spans

BATCH, NUM_READ, LENGTH, NUM_ANSWERS, ANSWER_LEN = 2, 3, 9, 4, 3
MAX_SPAN_WIDTH = 2  # narrower than the longest answer


def draw(seed, num_tokens):
  """Few different tokens, so that answers are found, also overlapping."""
  rng = np.random.default_rng(seed)
  token_ids = rng.integers(0, num_tokens, (BATCH, NUM_READ, LENGTH))
  mask = (rng.random(token_ids.shape) < 0.8).astype(np.int32)
  answer_lens = rng.integers(0, ANSWER_LEN + 1, (BATCH, NUM_ANSWERS))
  answer_ids = rng.integers(0, num_tokens, (BATCH, NUM_ANSWERS, ANSWER_LEN))
  answer_ids[np.arange(ANSWER_LEN) >= answer_lens[..., None]] = 0
  return [
    a.astype(np.int32) for a in (token_ids, mask, answer_ids, answer_lens)
  ]


def stands_at(start, tokens, mask, answer):
  stop = start + len(answer)
  return (
    len(answer) > 0
    and stop <= LENGTH
    and mask[start:stop].all()
    and tokens[start:stop].tolist() == answer.tolist()
  )


@given(seed=st.integers(0, 2**32 - 1), num_tokens=st.integers(1, 4))
def test_matches_equal_a_search_by_hand(seed, num_tokens):
  token_ids, mask, answer_ids, answer_lens = draw(seed, num_tokens)
  actual = match_answers(token_ids, mask, answer_ids, answer_lens)
  assert actual.shape == (BATCH, NUM_READ, LENGTH, NUM_ANSWERS)
  for b, n, i, a in np.ndindex(*actual.shape):
    answer = answer_ids[b, a, : answer_lens[b, a]]
    expected = stands_at(i, token_ids[b, n], mask[b, n], answer)
    assert bool(actual[b, n, i, a]) == expected, (b, n, i, a)


@given(seed=st.integers(0, 2**32 - 1), num_tokens=st.integers(1, 4))
def test_right_spans_equal_a_search_by_hand(seed, num_tokens):
  token_ids, mask, answer_ids, answer_lens = draw(seed, num_tokens)
  actual = right_spans(token_ids, mask, answer_ids, answer_lens, MAX_SPAN_WIDTH)
  for b, n in np.ndindex(BATCH, NUM_READ):
    expected = [
      any(
        answer_lens[b, a] == width
        and stands_at(
          start, token_ids[b, n], mask[b, n], answer_ids[b, a, :width]
        )
        for a in range(NUM_ANSWERS)
      )
      for width in range(1, MAX_SPAN_WIDTH + 1)
      for start in range(LENGTH - width + 1)
    ]
    assert np.asarray(actual)[b, n].tolist() == expected


def test_an_answer_is_not_found_in_padding():
  token_ids = np.array([[[5, 0, 0]]], np.int32)
  mask = np.array([[[1, 0, 0]]], np.int32)
  answer_ids = np.array([[[0, 0]]], np.int32)
  matches = match_answers(token_ids, mask, answer_ids, np.array([[1]]))
  assert not np.asarray(matches).any()


def test_spans_are_as_many_as_fit_into_a_short_text():
  token_ids, mask, answer_ids, answer_lens = draw(0, 2)
  spans = right_spans(
    token_ids[..., :2], mask[..., :2], answer_ids, answer_lens, 10
  )
  assert spans.shape == (BATCH, NUM_READ, 3)
