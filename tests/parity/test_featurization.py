"""Masks and inputs, against what the original featurizers made of them."""

import itertools
import json
import unicodedata
from typing import Any

import numpy as np
import pytest

from realm_jax.data.corpus import BlockTokens, Sentence
from realm_jax.data.examples import padded
from realm_jax.data.featurize import (
  PAIR_SPECIALS,
  QUERY_SPECIALS,
  Ragged,
  document_inputs,
  joint_inputs,
  null_document_inputs,
  query_inputs,
  ragged,
)
from realm_jax.data.masking import mask_sentence, salient_span
from realm_jax.data.spans import Span
from realm_jax.data.wordpiece import Encoding, WordPiece
from realm_jax.index.candidates import choose_candidates
from realm_jax.types import NULL_BLOCK_ID


class Featurization:
  """The texts and what the original made of them.

  Attributes:
    content: of featurization.json.
    settings: its lengths.
    wordpiece: the vocabulary.
    documents: [num_documents] titles and bodies, in wordpieces; the null
      document, whose id is -1, is the last.
    block_ids: uid -> place among the documents, -1 for the null document's.
  """

  def __init__(self, folder):
    text = (folder / 'featurization.json').read_text(encoding='utf-8')
    self.content = json.loads(text)
    self.settings = self.content['config']
    self.wordpiece = WordPiece.from_vocab_file(folder / 'vocab.txt')
    documents = self.content['documents']
    self.documents = self._encode(
      [*documents, {'title': '', 'body': ''}], ('title', 'body')
    )
    uids = [document['uid'] for document in documents]
    self.block_ids = {uid: i for i, uid in enumerate(uids)}
    self.block_ids[self.content['null_document']['uid']] = NULL_BLOCK_ID

  def _encode(self, documents, parts) -> BlockTokens:
    arrays: list[Any] = []
    for part in parts:
      texts = [document[part] for document in documents]
      encodings = self.wordpiece.encode_batch(texts)
      arrays += ragged([encoding.token_ids for encoding in encodings])
    return BlockTokens(*arrays)

  def cases(self, error: str | None) -> list[dict]:
    """The queries that raised this error, or none; skips if there are none."""
    queries = self.content['query_cases']
    found = [case for case in queries if case.get('error') == error]
    if not found:
      pytest.skip(f'no query case with error {error}')
    return found

  def masked_pieces(self, case, encoding: Encoding) -> np.ndarray:
    """The pieces of all spans of a case, each masked as one span is."""
    text = case['text']
    whole = Sentence(0, 0, len(text), ())
    pieces = [
      salient_span(
        whole._replace(spans=(Span(start, stop, 'DATE'),)),
        encoding,
        np.random.default_rng(0),
      )
      for start, stop in (
        characters(text, span) for span in case['mask_spans_bytes']
      )
    ]
    return np.unique(np.concatenate([np.zeros(0, int), *pieces]))

  def masked(self, case):
    """The masked sentence as pre-training has it; None where it is dropped."""
    encoding = self.wordpiece.encode(case['text'])
    return mask_sentence(
      encoding,
      self.masked_pieces(case, encoding),
      self.wordpiece.mask_id,
      self.settings['query_seq_len'] - QUERY_SPECIALS,
      self.settings['max_masks'],
    )


@pytest.fixture(scope='module')
def fixture(fixtures_folder):
  return Featurization(fixtures_folder / 'official_realm')


@pytest.fixture(scope='module')
def pretraining_arrays(fixtures_folder):
  return np.load(fixtures_folder / 'official_realm' / 'pretrain.npz')


def characters(text, byte_span):
  """Character offsets of a span in bytes."""
  return [
    len(text.encode()[:offset].decode(errors='ignore')) for offset in byte_span
  ]


def byte_offsets(text, offsets):
  """Offsets in bytes of offsets in characters."""
  lens = (len(character.encode()) for character in text)
  return np.array([0, *itertools.accumulate(lens)])[offsets]


def assert_rows_equal(inputs, expected, where):
  """Compares row 0 of TextInputs with lists by name."""
  assert set(expected) == set(inputs._fields)
  for name, values in expected.items():
    assert getattr(inputs, name)[0].tolist() == values, (where, name)


def test_special_tokens_agree(fixture):
  wordpiece = fixture.wordpiece
  assert fixture.content['special_ids'] == {
    'cls': wordpiece.cls_id,
    'sep': wordpiece.sep_id,
    'mask': wordpiece.mask_id,
  }


def test_pieces_and_their_places_agree(fixture):
  cases = [c for c in fixture.content['query_cases'] if 'tokens' in c]
  assert cases
  for case in cases:
    text = case['text']
    encoding = fixture.wordpiece.encode(text)
    found = zip(
      fixture.wordpiece.tokens(encoding.token_ids),
      byte_offsets(text, encoding.starts).tolist(),
      byte_offsets(text, encoding.stops).tolist(),
      encoding.token_ids.tolist(),
      strict=True,
    )
    assert [list(piece) for piece in found] == case['tokens'], text


def test_masked_queries_agree(fixture):
  wordpiece = fixture.wordpiece
  for case in fixture.cases(error=None):
    encoding = wordpiece.encode(case['text'])
    pieces = fixture.masked_pieces(case, encoding)
    expected = case['mask_query']
    token_ids = encoding.token_ids
    everything = token_ids.size
    masked = mask_sentence(
      encoding, pieces, wordpiece.mask_id, everything, everything
    )
    if masked is None:  # nothing to predict: ours is no example
      assert not expected['masked_token_ids'], case
    else:
      token_ids = masked.token_ids
      assert masked.targets.tolist() == expected['masked_token_ids'], case
      assert masked.positions.tolist() == expected['mask_indices'], case
    assert token_ids.tolist() == expected['token_ids_after_masking'], case
    inputs = query_inputs(
      ragged([token_ids]), fixture.settings['query_seq_len'], wordpiece
    )
    assert_rows_equal(inputs, case['query_inputs'], case['text'])


def test_sentences_that_the_original_cannot_mask_are_dropped(fixture):
  for case in fixture.cases(error='MaskingError'):
    assert fixture.masked(case) is None, case


def num_characters_change(text: str) -> bool:
  """Whether lower-casing or stripping accents makes it longer or shorter."""
  decomposed = unicodedata.normalize('NFD', text.lower())
  kept = [c for c in decomposed if unicodedata.category(c) != 'Mn']
  return len(kept) != len(text)


def test_what_the_original_cannot_tokenize_has_an_unknown_word(fixture):
  """A known difference: it drops sentences whose pieces it does not find.

  It looks for each piece in the text, and for "[UNK]" in vain; ours are kept.
  """
  wordpiece = fixture.wordpiece
  for case in fixture.cases(error='TokenizationError'):
    text = case['text']
    unknown = wordpiece.unk_id in wordpiece.encode(text).token_ids
    assert unknown or num_characters_change(text), case


def test_no_other_error_is_recorded(fixture):
  errors = {case.get('error') for case in fixture.content['query_cases']}
  assert errors <= {None, 'MaskingError', 'TokenizationError'}


def test_documents_agree(fixture):
  length = fixture.settings['candidate_seq_len']
  documents = fixture.content['documents']
  assert documents
  blocks = BlockTokens(*(array[:-1] for array in fixture.documents))
  found = document_inputs(blocks, fixture.wordpiece, length, length)
  for i, document in enumerate(documents):
    for part in ('title', 'body'):
      encoded = fixture.wordpiece.encode(document[part]).token_ids
      assert encoded.tolist() == document[f'{part}_token_ids'], document
    row = type(found)(*(array[i : i + 1] for array in found))
    assert_rows_equal(row, document['candidate_inputs'], document['title'])


def test_the_null_document_agrees(fixture):
  expected = fixture.content['null_document']['candidate_inputs']
  inputs = null_document_inputs(fixture.wordpiece)
  assert sum(expected['mask']) == PAIR_SPECIALS == inputs.mask.sum()
  for name, values in expected.items():
    assert getattr(inputs, name)[0].tolist() == values[:PAIR_SPECIALS]
  length = fixture.settings['candidate_seq_len']
  empty = Ragged(np.zeros((1, 0), np.int32), np.zeros(1, np.int32))
  padded_inputs = document_inputs(
    BlockTokens(*empty, *empty), fixture.wordpiece, length, length
  )
  assert_rows_equal(padded_inputs, expected, 'null document')


class Batch:
  """The rows of pretrain.npz, made anew of their texts."""

  def __init__(self, fixture: Featurization, arrays):
    rows = fixture.content['batch']
    assert len(rows) == len(arrays['in/mlm_mask'])
    self.masked = [fixture.masked(row) for row in rows]
    self.queries = ragged([masked.token_ids for masked in self.masked])
    self.candidate_ids = np.array(
      [
        [
          fixture.block_ids[uid]
          for uid in row['candidate_uids_after_postprocess']
        ]
        for row in rows
      ]
    )
    self.blocks = BlockTokens(
      *(array[self.candidate_ids] for array in fixture.documents)
    )


@pytest.fixture(scope='module')
def batch(fixture, pretraining_arrays):
  return Batch(fixture, pretraining_arrays)


def cut_to_fit(blocks: BlockTokens, document_len: int) -> BlockTokens:
  """Bodies as long as the original's reader is given them at most.

  It cuts them as if they were documents without a title, before it joins them
  to the query. No block of a corpus of this library is so long: Lengths.check
  refuses those that do not fit with their titles.
  """
  room = document_len - QUERY_SPECIALS  # a body has [CLS] and [SEP] there
  return blocks._replace(body_len=np.minimum(blocks.body_len, room))


def test_the_inputs_of_the_pretraining_batch_agree(
  fixture, pretraining_arrays, batch
):
  def length(kind):
    return pretraining_arrays[f'in/{kind}_inputs/token_ids'].shape[-1]

  def assert_inputs_equal(kind, inputs):
    for name, values in zip(inputs._fields, inputs, strict=True):
      expected = pretraining_arrays[f'in/{kind}_inputs/{name}']
      np.testing.assert_array_equal(values, expected, f'{kind} {name}')

  wordpiece = fixture.wordpiece
  assert_inputs_equal(
    'query', query_inputs(batch.queries, length('query'), wordpiece)
  )
  longest = length('candidate')
  assert_inputs_equal(
    'candidate', document_inputs(batch.blocks, wordpiece, longest, longest)
  )
  blocks = cut_to_fit(batch.blocks, longest)
  longest = length('joint')
  assert_inputs_equal(
    'joint', joint_inputs(batch.queries, blocks, wordpiece, longest, longest)
  )


def test_the_targets_of_the_pretraining_batch_agree(pretraining_arrays, batch):
  for row, masked in enumerate(batch.masked):
    # positions count from [CLS]
    for name, values in (
      ('positions', masked.positions + 1),
      ('targets', masked.targets),
      ('mask', np.ones_like(masked.targets)),
    ):
      expected = pretraining_arrays[f'in/mlm_{name}'][row]
      np.testing.assert_array_equal(padded(values, len(expected)), expected)


def chosen(found_ids, source_id, num_candidates, num_blocks):
  """The candidates of one query, without empty slots."""
  candidates = choose_candidates(
    np.array([found_ids]),
    np.array([source_id]),
    num_candidates,
    np.arange(num_blocks),
  )
  return candidates.block_ids[candidates.mask == 1].tolist()


def test_the_candidates_of_the_pretraining_batch_agree(fixture, batch):
  for row, expected in zip(
    fixture.content['batch'], batch.candidate_ids.tolist(), strict=True
  ):
    found = chosen(
      row['retrieved_doc_indices'],
      row['orig_doc_index'],
      len(expected),
      len(fixture.content['documents']),
    )
    assert found == expected, row


def test_candidates_agree(fixtures_folder):
  path = fixtures_folder / 'official_realm' / 'postprocess_cases.json'
  cases = json.loads(path.read_text(encoding='utf-8'))
  assert cases
  for case in cases:
    source, retrieved = case['query_orig_doc_uid'], case['retrieved_uids']
    block_ids = {uid: i for i, uid in enumerate(sorted({source, *retrieved}))}
    found = chosen(
      [block_ids[uid] for uid in retrieved],
      block_ids[source],
      case['num_candidates'],
      len(block_ids),
    )
    block_ids['NULL'] = NULL_BLOCK_ID
    assert found == [block_ids[uid] for uid in case['result_uids']], case
