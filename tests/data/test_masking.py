import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.data.corpus import Sentence
from realm_jax.data.masking import (
  mask_sentence,
  random_span,
  random_token,
  salient_span,
)
from realm_jax.data.spans import Span
from realm_jax.data.wordpiece import Encoding, WordPiece

# Every word is its characters: pieces are easy to count.
WORDPIECE = WordPiece.train([''], 200)
TEXT = 'ab cde f, ghi 12'
ENCODING = WORDPIECE.encode(TEXT)  # 12 pieces
MASK = 99


def sentence(*spans, start=0):
  return Sentence(
    3,
    start,
    start + len(TEXT),
    tuple(Span(start + a, start + b, 'DATE') for a, b in spans),
  )


def encoding(num_tokens):
  ids = np.arange(50, 50 + num_tokens, dtype=np.int32)
  return Encoding(ids, ids, ids + 1)


def rng(seed=0):
  return np.random.default_rng(seed)


# The sentence begins anywhere in its block; spans count from the block's start.
@pytest.mark.parametrize('start', [0, 17])
def test_a_salient_span_is_all_its_pieces(start):
  for span, pieces in (((3, 6), [2, 3, 4]), ((14, 16), [10, 11])):
    found = salient_span(sentence(span, start=start), ENCODING, rng())
    assert found.tolist() == pieces
    assert TEXT[span[0] : span[1]].replace(' ', '') == ''.join(
      WORDPIECE.tokens(ENCODING.token_ids[found])
    ).replace('##', '')


def test_spans_are_drawn_uniformly():
  three = sentence((0, 2), (3, 6), (14, 16))
  generator = rng()
  drawn = [int(salient_span(three, ENCODING, generator)[0]) for _ in range(900)]
  counts = [drawn.count(piece) for piece in (0, 2, 10)]
  assert sum(counts) == 900
  assert min(counts) > 240


def test_only_whole_pieces_are_masked():
  encoding = Encoding(
    np.array([5, 6], np.int32), np.array([0, 4]), np.array([3, 9])
  )
  assert salient_span(sentence((0, 5)), encoding, rng()).tolist() == [0]
  assert salient_span(sentence((5, 9)), encoding, rng()).tolist() == []


def test_spans_without_a_whole_piece_are_not_drawn():
  encoding = Encoding(
    np.array([5, 6], np.int32), np.array([0, 4]), np.array([3, 9])
  )
  both = sentence((0, 3), (5, 9))
  for seed in range(20):
    assert salient_span(both, encoding, rng(seed)).tolist() == [0]


def test_without_spans_nothing_is_masked():
  assert salient_span(sentence(), ENCODING, rng()).size == 0


@given(seed=st.integers(0, 2**32 - 1), num_tokens=st.integers(0, 30))
def test_a_random_span_is_contiguous_and_never_everything(seed, num_tokens):
  found = random_span(sentence(), encoding(num_tokens), rng(seed))
  if num_tokens < 2:
    assert found.size == 0
    return
  assert 1 <= found.size <= min(10, num_tokens - 1)
  assert (np.diff(found) == 1).all()
  assert found[0] >= 0
  assert found[-1] < num_tokens


def test_random_spans_have_spanberts_lengths_and_stand_anywhere():
  generator = rng()
  found = [
    random_span(sentence(), encoding(40), generator) for _ in range(4000)
  ]
  lens = np.array([span.size for span in found])
  p = 0.2
  expected = p * (1 - p) ** np.arange(9)
  shares = [(lens == n).mean() for n in range(1, 10)]
  np.testing.assert_allclose(shares, expected, atol=0.02)
  assert {span[0] for span in found} >= set(range(30))
  assert max(span[-1] for span in found) == 39


@given(seed=st.integers(0, 2**32 - 1), num_tokens=st.integers(0, 60))
def test_random_tokens_are_fifteen_percent(seed, num_tokens):
  found = random_token(sentence(), encoding(num_tokens), rng(seed))
  if num_tokens < 2:
    assert found.size == 0
    return
  assert found.size == max(1, round(0.15 * num_tokens))
  assert (np.diff(found) > 0).all()
  assert found[0] >= 0
  assert found[-1] < num_tokens


def test_masked_pieces_become_masks_and_targets():
  masked = mask_sentence(encoding(6), np.array([2, 3]), MASK, 10, 4)
  assert masked.token_ids.tolist() == [50, 51, MASK, MASK, 54, 55]
  assert masked.positions.tolist() == [2, 3]
  assert masked.targets.tolist() == [52, 53]
  assert {array.dtype for array in masked} == {np.dtype(np.int32)}


def test_beyond_max_masks_pieces_stay_masked_but_are_no_targets():
  masked = mask_sentence(encoding(6), np.array([1, 2, 3]), MASK, 10, 2)
  assert masked.token_ids.tolist() == [50, MASK, MASK, MASK, 54, 55]
  assert masked.positions.tolist() == [1, 2]
  assert masked.targets.tolist() == [51, 52]


def test_a_long_sentence_is_cut_after_its_mask():
  masked = mask_sentence(encoding(6), np.array([1, 3]), MASK, 4, 5)
  assert masked.token_ids.tolist() == [50, MASK, 52, MASK]
  assert mask_sentence(encoding(6), np.array([1, 4]), MASK, 4, 5) is None
  assert mask_sentence(encoding(6), np.zeros(0, int), MASK, 9, 5) is None


def test_the_encoding_is_not_changed():
  given_encoding = encoding(6)
  mask_sentence(given_encoding, np.array([1]), MASK, 9, 5)
  assert given_encoding.token_ids.tolist() == list(range(50, 56))
