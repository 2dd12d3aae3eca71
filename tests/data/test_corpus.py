import copy
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.data.blocks import pack_blocks
from realm_jax.data.corpus import Corpus
from realm_jax.data.corpus_writer import CorpusWriter
from realm_jax.data.packing import pack_rows
from realm_jax.data.spans import Span
from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError

WORDPIECE = WordPiece.train(['ab cd ef gh. Ij kl mn op.'] * 3, 200)
# 11 blocks of 5 articles, of different lengths; one without a title.
ARTICLES = [
  ('gh', 'Ab cd ef gh ij. ' * 5),
  ('', 'Ij.'),
  ('ab cd ef', 'Kl mn. ' * 8),
  ('op', 'Ef gh ij kl mn op. ' * 7),
  ('ij', 'Né日本 ab.'),
]
NUM_BLOCKS = 11


def number_spans(start, number):
  """As many spans as the sentence's number in its block, of either kind."""
  kinds = ('DATE', 'NAME')
  return tuple(
    Span(start + i, start + i + 1, kinds[i % 2]) for i in range(number)
  )


def write(
  folder, shard_size=4, articles=ARTICLES, wordpiece=WORDPIECE, **fields
):
  writer = CorpusWriter(folder, wordpiece, ('DATE', 'NAME'), shard_size)
  for title, text in articles:
    blocks = pack_blocks(title, text, wordpiece, 20).blocks
    for block in blocks:
      spans = [
        number_spans(start, number)
        for number, (start, _) in enumerate(block.sentences)
      ]
      chunk = pack_rows([(0, block, spans)], ('DATE', 'NAME'))
      is_last = block.position + 1 == len(blocks)
      writer.add(
        chunk._replace(counts=chunk.counts + Counter(articles=int(is_last)))
      )
  return writer.finish(**fields)


@pytest.fixture(params=[4, 1, 100], scope='module')
def corpus(request, tmp_path_factory):
  folder = tmp_path_factory.mktemp('corpus')
  write(folder, request.param)
  return Corpus.open(folder)


def all_blocks():
  return [
    (article_id, block)
    for article_id, (title, text) in enumerate(ARTICLES)
    for block in pack_blocks(title, text, WORDPIECE, 20).blocks
  ]


def test_blocks_come_back_as_they_were_written(corpus):
  expected = all_blocks()
  assert corpus.num_blocks == len(expected) == NUM_BLOCKS
  for block_id, (article_id, block) in enumerate(expected):
    assert corpus.title(block_id) == block.title
    assert corpus.text(block_id) == block.text
    assert corpus.article_ids[block_id] == article_id
    assert corpus.block_lens[block_id] == block.block_len
  assert corpus.article_ids.dtype == corpus.block_lens.dtype == np.int32


def test_gather_gives_the_tokens_of_any_ids_in_any_shape(corpus):
  blocks = [block for _, block in all_blocks()]
  ids = np.array([[[0, 10, -1]], [[5, 5, 3]]])  # [2, 1, 3]
  tokens = corpus.gather(ids)
  max_title = max(len(block.title_token_ids) for block in blocks)
  max_body = max(len(block.token_ids) for block in blocks)
  assert tokens.title_ids.shape == (2, 1, 3, max_title)
  assert tokens.body_ids.shape == (2, 1, 3, max_body)
  assert all(column.dtype == np.int32 for column in tokens)
  for place in np.ndindex(ids.shape):
    block = blocks[ids[place]] if ids[place] >= 0 else None
    for padded, lens, expected in (
      (tokens.title_ids, tokens.title_len, block and block.title_token_ids),
      (tokens.body_ids, tokens.body_len, block and block.token_ids),
    ):
      expected = np.zeros(0) if expected is None else expected
      assert lens[place] == len(expected)
      np.testing.assert_array_equal(padded[place][: len(expected)], expected)
      assert not padded[place][len(expected) :].any()


def test_gathered_tokens_are_those_of_the_text(corpus):
  tokens = corpus.gather(np.arange(corpus.num_blocks))
  for block_id in range(corpus.num_blocks):
    ids = tokens.body_ids[block_id, : tokens.body_len[block_id]]
    expected = corpus.wordpiece.encode(corpus.text(block_id)).token_ids
    np.testing.assert_array_equal(ids, expected)


def test_gather_of_nothing_is_empty(corpus):
  tokens = corpus.gather(np.zeros((0, 3), np.int32))
  assert tokens.body_ids.shape[:2] == tokens.body_len.shape == (0, 3)


@given(st.lists(st.integers(-1, NUM_BLOCKS - 1), max_size=9))
def test_gather_of_many_is_gather_of_each(tmp_path_factory, ids):
  folder = tmp_path_factory.getbasetemp() / 'many'
  if not folder.exists():
    write(folder, 3)
  corpus = Corpus.open(folder)
  together = corpus.gather(np.array(ids, np.int64))
  for place, block_id in enumerate(ids):
    alone = corpus.gather(np.array(block_id))
    for many, one in zip(together, alone, strict=True):
      np.testing.assert_array_equal(many[place], one)


@pytest.mark.parametrize('ids', [[-2], [0, 11], [1.0]])
def test_ids_of_no_block_are_refused(corpus, ids):
  with pytest.raises(ValueError, match=r'block_ids (are|lie)'):
    corpus.gather(np.array(ids))
  with pytest.raises(ValueError, match='block_id is 11, expected 0 to 10'):
    corpus.text(11)


def test_sentences_lie_in_their_blocks_with_their_spans(corpus):
  expected = [
    (block_id, start, stop, number)
    for block_id, (_, block) in enumerate(all_blocks())
    for number, (start, stop) in enumerate(block.sentences)
  ]
  assert len(corpus.sentences) == len(expected)
  for sentence, (block_id, start, stop, number) in zip(
    corpus.sentences, expected, strict=True
  ):
    assert sentence[:3] == (block_id, start, stop)
    assert sentence.spans == number_spans(start, number)
  np.testing.assert_array_equal(
    np.stack(
      [
        corpus.sentences.block_ids,
        corpus.sentences.starts,
        corpus.sentences.stops,
        corpus.sentences.num_spans,
      ]
    ),
    np.transpose(expected),
  )
  assert corpus.sentences[-1] == corpus.sentences[len(expected) - 1]
  assert corpus.sentences[np.int64(2)] == corpus.sentences[:3][2]
  with pytest.raises(IndexError):
    corpus.sentences[len(expected)]


def test_the_fingerprint_covers_blocks_and_vocabulary_not_shards(tmp_path):
  other_vocab = WordPiece([*WORDPIECE.vocab, 'unused'])
  changed = [*ARTICLES[:4], ('ij', 'Né日本 aB.')]  # the same pieces
  prints = [
    write(tmp_path / str(number), *arguments)['fingerprint']
    for number, arguments in enumerate(
      [(4,), (5,), (4, changed), (4, ARTICLES, other_vocab)]
    )
  ]
  assert prints[0] == prints[1]
  assert len(set(prints)) == 3


def test_the_same_blocks_give_the_same_bytes(tmp_path):
  first, second = (write(tmp_path / name)['files'] for name in 'ab')
  assert first == second
  assert len(first) == 1 + 3 + 3  # vocabulary, blocks, sentences


def test_a_folder_without_manifest_is_no_corpus(tmp_path):
  with pytest.raises(FileNotFoundError, match='realm-jax prepare'):
    Corpus.open(tmp_path / 'none')
  write(tmp_path)
  (tmp_path / 'manifest.json').unlink()
  with pytest.raises(FileNotFoundError, match='was never finished'):
    Corpus.open(tmp_path)


def test_damage_is_found(tmp_path):
  write(tmp_path)
  shard = tmp_path / 'blocks-00001.arrow'
  content = bytearray(shard.read_bytes())
  place = content.index(b'Kl mn')
  content[place : place + 1] = b'k'
  shard.write_bytes(content)
  Corpus.open(tmp_path)
  with pytest.raises(UserError, match='has checksum'):
    Corpus.open(tmp_path, verify=True)
  shard.write_bytes(content[:-8])
  with pytest.raises(UserError, match='bytes, its manifest says'):
    Corpus.open(tmp_path)


def test_another_vocabulary_is_refused(tmp_path):
  write(tmp_path)
  corpus = Corpus.open(tmp_path)
  corpus.check_vocabulary(WORDPIECE, 'mine')
  vocab = list(WORDPIECE.vocab)
  vocab[-1], vocab[-2] = vocab[-2], vocab[-1]
  with pytest.raises(
    UserError, match=r'mine .* is not the vocabulary of corpus'
  ):
    corpus.check_vocabulary(WordPiece(vocab), 'mine')
  WordPiece(vocab).save(tmp_path / 'vocab.txt')  # as long as the right one
  with pytest.raises(UserError, match='is not the vocabulary of corpus'):
    _ = Corpus.open(tmp_path).wordpiece


def test_a_vocabulary_beyond_16_bits_is_refused(tmp_path):
  many = WordPiece([*WORDPIECE.vocab, *(f'w{i}' for i in range(65_535))])
  with pytest.raises(UserError, match='expected at most 65535'):
    CorpusWriter(tmp_path, many, ())


def test_the_largest_token_id_survives(tmp_path):
  filler = [f'w{i}' for i in range(65_534 - WORDPIECE.size)]
  wordpiece = WordPiece([*WORDPIECE.vocab, *filler, 'zzz'])
  write(tmp_path, articles=[('', 'zzz')], wordpiece=wordpiece)
  tokens = Corpus.open(tmp_path).gather(np.array([0]))
  assert tokens.body_ids.tolist() == [[65_534]]


def test_worker_processes_open_it_themselves(corpus):
  # What a worker is sent is the folder: copying goes the same way.
  again = copy.copy(corpus)
  assert corpus.__reduce__()[1] == (str(corpus.folder),)
  assert again.fingerprint == corpus.fingerprint
  assert isinstance(again.folder, Path)
