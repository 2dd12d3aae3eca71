# ruff: noqa: RUF001 (typographic marks are meant)
import copy
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.data.wordpiece import SPECIAL_TOKENS, WordPiece
from realm_jax.errors import UserError

TEXTS = ['The quick brown foxes were jumping over the lazy dogs.'] * 3
VOCAB = [
  '[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'the', 'caf', '##e', 'in',
  'paris', '[', ']', 'se', '##p', ',',
]  # fmt: skip


def write_vocab(path, tokens, line_end='\n', last=True):
  text = line_end.join(tokens) + (line_end if last else '')
  path.write_bytes(text.encode())
  return path


def test_pieces_carry_the_characters_they_came_from():
  text = 'The CAFÉ, in  Paris'
  encoding = WordPiece(VOCAB).encode(text)
  pieces = [
    (VOCAB[i], text[start:stop])
    for i, start, stop in zip(*encoding, strict=True)
  ]
  assert pieces == [
    ('the', 'The'), ('caf', 'CAF'), ('##e', 'É'), (',', ','), ('in', 'in'),
    ('paris', 'Paris'),
  ]  # fmt: skip
  assert all(column.dtype == np.int32 for column in encoding)


def test_offsets_count_characters_not_bytes():
  encoding = WordPiece(VOCAB).encode('日本 😀 in')
  assert (encoding.starts[-1], encoding.stops[-1]) == (5, 7)


def test_text_never_becomes_a_special_token():
  wordpiece = WordPiece(VOCAB)
  ids = wordpiece.encode('[SEP]').token_ids
  assert wordpiece.tokens(ids) == ['[', 'se', '##p', ']']


def test_an_empty_text_has_no_pieces():
  encoding = WordPiece(VOCAB).encode('')
  assert [column.shape for column in encoding] == [(0,)] * 3


def test_a_batch_gives_what_single_texts_give():
  wordpiece = WordPiece(VOCAB)
  texts = ['the café', '', 'Paris in the xyz']
  for text, batched in zip(texts, wordpiece.encode_batch(texts), strict=True):
    for one, other in zip(wordpiece.encode(text), batched, strict=True):
      np.testing.assert_array_equal(one, other)


def test_decode_joins_pieces_to_words():
  assert WordPiece(VOCAB).decode([5, 6, 7, 8]) == 'the cafe in'


@pytest.mark.parametrize('line_end', ['\n', '\r\n'])
@pytest.mark.parametrize('last', [True, False])
def test_a_vocabulary_file_reads_with_either_line_end(tmp_path, line_end, last):
  path = write_vocab(tmp_path / 'vocab.txt', VOCAB, line_end, last)
  wordpiece = WordPiece.from_vocab_file(path)
  assert wordpiece.vocab == tuple(VOCAB)
  assert (wordpiece.pad_id, wordpiece.unk_id, wordpiece.cls_id) == (0, 1, 2)
  assert (wordpiece.sep_id, wordpiece.mask_id, wordpiece.size) == (3, 4, 15)


def test_a_saved_vocabulary_is_the_same(tmp_path):
  wordpiece = WordPiece.train(TEXTS, 200)
  wordpiece.save(tmp_path / 'vocab.txt')
  again = WordPiece.from_vocab_file(tmp_path / 'vocab.txt')
  assert again.fingerprint == wordpiece.fingerprint
  assert again.vocab == wordpiece.vocab


def test_the_fingerprint_tells_vocabularies_apart():
  swapped = [*VOCAB[:5], VOCAB[6], VOCAB[5], *VOCAB[7:]]
  assert WordPiece(VOCAB).fingerprint != WordPiece(swapped).fingerprint


@pytest.mark.parametrize('token', SPECIAL_TOKENS)
def test_a_vocabulary_without_a_special_token_is_refused(tmp_path, token):
  tokens = [t for t in VOCAB if t != token]
  path = write_vocab(tmp_path / 'vocab.txt', tokens)
  with pytest.raises(UserError) as error:
    WordPiece.from_vocab_file(path)
  assert f'lacks {token}:' in str(error.value)
  assert 'vocab.txt' in str(error.value)


def test_bad_vocabulary_files_are_refused(tmp_path):
  path = tmp_path / 'vocab.txt'
  with pytest.raises(FileNotFoundError, match='does not exist'):
    WordPiece.from_vocab_file(path)
  write_vocab(path, [*VOCAB, 'in'])
  with pytest.raises(UserError, match="'in' twice"):
    WordPiece.from_vocab_file(path)
  write_vocab(path, [*VOCAB[:6], '', 'more'])
  with pytest.raises(UserError, match='empty line, line 7'):
    WordPiece.from_vocab_file(path)
  path.write_bytes(b'[PAD]\n\xff\n')
  with pytest.raises(UserError, match='not UTF-8 at byte 6'):
    WordPiece.from_vocab_file(path)


def test_training_puts_special_tokens_first_and_whole_words_in():
  wordpiece = WordPiece.train(TEXTS, 300)
  assert wordpiece.vocab[:5] == SPECIAL_TOKENS
  assert wordpiece.tokens(wordpiece.encode('quick foxes').token_ids) == [
    'quick',
    'foxes',
  ]


def test_training_keeps_to_the_size():
  assert WordPiece.train(TEXTS, 160).size == 160


def test_no_ordinary_character_is_unknown_to_a_trained_vocabulary():
  wordpiece = WordPiece.train(['aa'], 200)
  unseen = 'Zebra 0123456789 “quoted” – née Ærøskøbing, $5 (100%) & more; #1?'
  assert wordpiece.unk_id not in wordpiece.encode(unseen).token_ids


def test_training_learns_the_characters_of_its_texts():
  wordpiece = WordPiece.train(['Москва'] * 3, 400)
  assert wordpiece.unk_id not in wordpiece.encode('Мак').token_ids


def test_too_small_a_vocabulary_is_refused():
  with pytest.raises(UserError, match='vocab_size is 50, expected more than'):
    WordPiece.train(TEXTS, 50)


def test_training_is_the_same_whatever_the_threads_and_hash_seeds():
  # Many words of equal counts, so that ties decide most merges.
  rng = random.Random(7)
  words = {''.join(rng.choices('abcdefgh', k=5)) for _ in range(900)}
  code = (
    'import sys; from realm_jax.data.wordpiece import WordPiece;'
    'print(WordPiece.train(sys.stdin.read().split("\\n"), 700).fingerprint)'
  )
  printed = {
    subprocess.run(
      [sys.executable, '-c', code],
      input='\n'.join(sorted(words) * 2),
      env={**os.environ, **variables},
      check=True,
      capture_output=True,
      text=True,
    ).stdout
    for variables in (
      {'TOKENIZERS_PARALLELISM': 'false'},
      {'TOKENIZERS_PARALLELISM': 'true', 'RAYON_NUM_THREADS': '1'},
      {'TOKENIZERS_PARALLELISM': 'true', 'RAYON_NUM_THREADS': '7'},
    )
  }
  assert len(printed) == 1


@given(st.text(max_size=60), st.text(max_size=60))
def test_white_space_separates_texts_for_the_pieces(left, right):
  # What blocks rest on: sentences may be encoded together.
  wordpiece = WordPiece.train(TEXTS, 200)
  together = wordpiece.encode(f'{left} {right}')
  apart = [wordpiece.encode(left), wordpiece.encode(right)]
  np.testing.assert_array_equal(
    together.token_ids, np.concatenate([e.token_ids for e in apart])
  )


@given(st.lists(st.text(max_size=60) | st.sampled_from(TEXTS), max_size=4))
def test_ids_without_offsets_are_the_same(texts):
  wordpiece = WordPiece.train(TEXTS, 200)
  for text in ['  '.join(texts), '\n'.join(texts)]:
    expected = wordpiece.encode(text).token_ids.tolist()
    assert wordpiece.token_ids(text) == expected
    assert wordpiece.token_ids(text) == expected  # known by now


def test_only_so_many_words_are_remembered(monkeypatch):
  monkeypatch.setattr('realm_jax.data.wordpiece._MAX_KNOWN_WORDS', 3)
  wordpiece = WordPiece(VOCAB)
  text = f'in paris the caf\xe9 , {"e" * 99} in ,'
  assert wordpiece.token_ids(text) == wordpiece.encode(text).token_ids.tolist()
  assert set(wordpiece._words) == {'caf\xe9', ',', 'in'}  # forgotten once
  # As worker processes are given it: without what it remembers.
  copied = copy.deepcopy(wordpiece)
  assert not copied._words
  assert copied.token_ids(text) == wordpiece.token_ids(text)
