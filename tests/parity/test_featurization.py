"""Masks and inputs, against what the original featurizers made of them."""

import json

import numpy as np
import pytest

from realm_jax.data.corpus import BlockTokens, Sentence
from realm_jax.data.featurize import (
  Ragged,
  document_inputs,
  null_document_inputs,
  query_inputs,
  ragged,
)
from realm_jax.data.masking import mask_sentence, salient_span
from realm_jax.data.spans import Span
from realm_jax.data.wordpiece import WordPiece


@pytest.fixture(scope='module')
def fixture(fixtures_folder):
  folder = fixtures_folder / 'official_realm'
  text = (folder / 'featurization.json').read_text(encoding='utf-8')
  return json.loads(text), WordPiece.from_vocab_file(folder / 'vocab.txt')


def characters(text, byte_span):
  """Character offsets of a span in bytes."""
  return [
    len(text.encode()[:offset].decode(errors='ignore')) for offset in byte_span
  ]


def masked_pieces(case, wordpiece):
  """All masked pieces of all spans of a case, each masked as one span is."""
  text = case['text']
  encoding = wordpiece.encode(text)
  pieces = [
    salient_span(
      Sentence(0, 0, len(text), (Span(start, stop, 'DATE'),)),
      encoding,
      np.random.default_rng(0),
    )
    for start, stop in (
      characters(text, span) for span in case['mask_spans_bytes']
    )
  ]
  return encoding, np.unique(np.concatenate([np.zeros(0, int), *pieces]))


def test_masked_queries_agree(fixture):
  content, wordpiece = fixture
  length = content['config']['query_seq_len']
  compared = 0
  for case in content['query_cases']:
    if 'mask_query' not in case or not case['mask_spans_bytes']:
      continue
    encoding, pieces = masked_pieces(case, wordpiece)
    expected = case['mask_query']
    masked = mask_sentence(encoding, pieces, wordpiece.mask_id, 999, 999)
    assert masked is not None, case['note']
    assert masked.token_ids.tolist() == expected['token_ids_after_masking']
    assert masked.targets.tolist() == expected['masked_token_ids']
    assert masked.positions.tolist() == expected['mask_indices']
    inputs = query_inputs(ragged([masked.token_ids]), length, wordpiece)
    for name, values in case['query_inputs'].items():
      assert getattr(inputs, name)[0].tolist() == values, (case['note'], name)
    compared += 1
  assert compared >= 7


@pytest.mark.parametrize(
  'note',
  [
    'span cuts through a word',
    'the mask lies beyond query_seq_len - 2',
    'the span cuts a one-token word',
  ],
)
def test_sentences_that_the_original_drops_are_dropped(fixture, note):
  content, wordpiece = fixture
  length = content['config']['query_seq_len']
  (case,) = [c for c in content['query_cases'] if c['note'].startswith(note)]
  assert 'error' in case
  encoding, pieces = masked_pieces(case, wordpiece)
  masked = mask_sentence(encoding, pieces, wordpiece.mask_id, length - 2, 5)
  assert masked is None


def test_documents_agree(fixture):
  content, wordpiece = fixture
  length = content['config']['candidate_seq_len']
  for document in content['documents']:
    title, body = (
      ragged([np.array(document[f'{part}_token_ids'], np.int32)])
      for part in ('title', 'body')
    )
    encoded = wordpiece.encode(document['body']).token_ids
    assert encoded.tolist() == document['body_token_ids']
    blocks = BlockTokens(*title, *body)
    inputs = document_inputs(blocks, wordpiece, 1000, length)
    for name, values in document['candidate_inputs'].items():
      assert getattr(inputs, name)[0].tolist() == values, document['title']


def test_the_null_document_agrees(fixture):
  content, wordpiece = fixture
  expected = content['null_document']['candidate_inputs']
  inputs = null_document_inputs(wordpiece)
  assert sum(expected['mask']) == 3
  for name, values in expected.items():
    assert getattr(inputs, name)[0].tolist() == values[:3]
  empty = Ragged(np.zeros((1, 0), np.int32), np.zeros(1, np.int32))
  padded = document_inputs(BlockTokens(*empty, *empty), wordpiece, 40, 40)
  assert padded.token_ids[0].tolist() == expected['token_ids']
