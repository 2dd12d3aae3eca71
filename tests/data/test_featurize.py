"""Layouts, against lists written by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.data.corpus import BlockTokens
from realm_jax.data.featurize import (
  Ragged,
  bucket_len,
  document_inputs,
  joint_inputs,
  null_document_inputs,
  pair_inputs,
  query_inputs,
  ragged,
)
from realm_jax.data.wordpiece import WordPiece

WORDPIECE = WordPiece.train([''], 200)
CLS, SEP = WORDPIECE.cls_id, WORDPIECE.sep_id
assert (CLS, SEP) == (2, 3)


def blocks(titles, bodies):
  """[num] documents; padded with 7, which must not be seen."""
  title, body = ragged(titles), ragged(bodies)
  return BlockTokens(
    np.where(title.token_ids == 0, 7, title.token_ids),
    title.lens,
    np.where(body.token_ids == 0, 7, body.token_ids),
    body.lens,
  )


def test_sequences_are_padded_to_the_longest():
  padded = ragged([np.array([5, 6]), np.array([], int), np.array([8])])
  assert padded.token_ids.tolist() == [[5, 6], [0, 0], [8, 0]]
  assert padded.lens.tolist() == [2, 0, 1]
  assert ragged([]).token_ids.shape == (0, 0)


@pytest.mark.parametrize(
  ('needed', 'expected'), [(1, 8), (8, 8), (9, 16), (17, 20), (90, 20)]
)
def test_lengths_are_few(needed, expected):
  assert bucket_len(needed, 8, 20) == expected


def test_a_query():
  queries = Ragged(
    np.array([[11, 12, 13, 14, 15], [21, 22, 7, 7, 7], [7] * 5]),
    np.array([5, 2, 0], np.int32),
  )
  inputs = query_inputs(queries, 6, WORDPIECE)
  assert inputs.token_ids.tolist() == [
    [2, 11, 12, 13, 14, 3],
    [2, 21, 22, 3, 0, 0],
    [2, 3, 0, 0, 0, 0],
  ]
  assert inputs.mask.tolist() == [
    [1, 1, 1, 1, 1, 1],
    [1, 1, 1, 1, 0, 0],
    [1, 1, 0, 0, 0, 0],
  ]
  assert inputs.segment_ids.tolist() == [[0] * 6] * 3
  assert {array.dtype for array in inputs} == {np.dtype(np.int32)}


def test_a_document_is_title_and_body():
  documents = blocks([[11, 12], [], [31]], [[41], [51, 52, 53], []])
  inputs = document_inputs(documents, WORDPIECE, 4, 100)
  assert inputs.token_ids.tolist() == [
    [2, 11, 12, 3, 41, 3, 0, 0],
    [2, 3, 51, 52, 53, 3, 0, 0],
    [2, 31, 3, 3, 0, 0, 0, 0],
  ]
  assert inputs.mask.sum(axis=1).tolist() == [6, 6, 4]
  assert inputs.segment_ids.tolist() == [
    [0, 0, 0, 0, 1, 1, 0, 0],
    [0, 0, 1, 1, 1, 1, 0, 0],
    [0, 0, 0, 1, 0, 0, 0, 0],
  ]


def test_a_long_document_loses_the_end_of_its_body():
  documents = blocks([[11, 12], [21] * 9], [[41, 42, 43, 44], [51]])
  inputs = document_inputs(documents, WORDPIECE, 4, 7)
  assert inputs.token_ids.tolist() == [
    [2, 11, 12, 3, 41, 42, 3],
    [2, 21, 21, 21, 21, 3, 3],
  ]


def test_the_null_document_is_nothing_but_its_ends():
  inputs = null_document_inputs(WORDPIECE)
  assert inputs.token_ids.tolist() == [[2, 3, 3]]
  assert inputs.mask.tolist() == [[1, 1, 1]]
  assert inputs.segment_ids.tolist() == [[0, 0, 1]]


def test_the_reader_sees_query_and_body_but_no_title():
  documents = blocks(
    [[11], [12], [13], [14], [15], [16]], [[], [41, 42], [43], [], [51], [52]]
  )
  # [2 queries, 3 documents]
  documents = BlockTokens(
    *(array.reshape(2, 3, *array.shape[1:]) for array in documents)
  )
  queries = Ragged(np.array([[61, 62], [71, 7]]), np.array([2, 1], np.int32))
  inputs = joint_inputs(queries, documents, WORDPIECE, 4, 100)
  assert inputs.token_ids.tolist() == [
    [
      [2, 61, 62, 3, 3, 0, 0, 0],
      [2, 61, 62, 3, 41, 42, 3, 0],
      [2, 61, 62, 3, 43, 3, 0, 0],
    ],
    [
      [2, 71, 3, 3, 0, 0, 0, 0],
      [2, 71, 3, 51, 3, 0, 0, 0],
      [2, 71, 3, 52, 3, 0, 0, 0],
    ],
  ]
  assert inputs.segment_ids[0].tolist() == [
    [0, 0, 0, 0, 1, 0, 0, 0],
    [0, 0, 0, 0, 1, 1, 1, 0],
    [0, 0, 0, 0, 1, 1, 0, 0],
  ]
  assert inputs.mask.sum(axis=2).tolist() == [[5, 7, 6], [4, 5, 5]]


def test_the_reader_loses_the_end_of_a_long_body():
  documents = BlockTokens(
    *(array[:, None] for array in blocks([[11]], [[41, 42, 43]]))
  )
  queries = Ragged(np.array([[61, 62]]), np.array([2], np.int32))
  inputs = joint_inputs(queries, documents, WORDPIECE, 4, 6)
  assert inputs.token_ids.tolist() == [[[2, 61, 62, 3, 41, 3]]]


@given(
  pairs=st.lists(
    st.tuples(
      st.lists(st.integers(10, 99), max_size=6),
      st.lists(st.integers(10, 99), max_size=6),
    ),
    min_size=1,
    max_size=5,
  ),
  length=st.integers(3, 15),
)
def test_pairs_are_laid_out_as_by_hand(pairs, length):
  inputs = pair_inputs(
    ragged([np.array(a, int) for a, _ in pairs]),
    ragged([np.array(b, int) for _, b in pairs]),
    length,
    WORDPIECE,
  )
  for row, (first, second) in enumerate(pairs):
    first = first[: length - 3]
    second = second[: length - 3 - len(first)]
    head, tail = [CLS, *first, SEP], [*second, SEP]
    padding = [0] * (length - len(head) - len(tail))
    assert inputs.token_ids[row].tolist() == head + tail + padding
    assert inputs.mask[row].tolist() == [1] * (length - len(padding)) + padding
    segments = [0] * len(head) + [1] * len(tail) + padding
    assert inputs.segment_ids[row].tolist() == segments
