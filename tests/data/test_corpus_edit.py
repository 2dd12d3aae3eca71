"""Blocks of a corpus taken over as they are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_corpus import ARTICLES, NUM_BLOCKS, WORDPIECE, write

from realm_jax.data import corpus_edit
from realm_jax.data.corpus import Corpus
from realm_jax.data.corpus_edit import (
  choose_blocks,
  copied_chunks,
  missing_titles,
  read_titles,
)
from realm_jax.data.corpus_writer import CorpusWriter

TITLES = [title for title, _ in ARTICLES]
KINDS = ('DATE', 'NAME')


@pytest.fixture(params=[4, 100], scope='module')
def corpus(request, tmp_path_factory):
  folder = tmp_path_factory.mktemp('corpus')
  write(folder, request.param)
  return Corpus.open(folder)


@pytest.fixture(scope='module')
def added(tmp_path_factory):
  """Two articles, of which the corpus has a title."""
  folder = tmp_path_factory.mktemp('added')
  articles = [('op', 'Gh ij. ' * 9), ('ab ab', 'Cd ef. Kl mn.')]
  write(folder, articles=articles)
  return Corpus.open(folder)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
  monkeypatch.setattr(corpus_edit, '_PIECE', 3)


def copy(folder, parts, shard_size=4):
  writer = CorpusWriter(folder, WORDPIECE, KINDS, shard_size)
  for chunk in copied_chunks(parts):
    writer.add(chunk)
  writer.finish()
  return Corpus.open(folder, verify=True)


def sentences_of(corpus, block_id):
  return [
    sentence._replace(block_id=0)
    for sentence in corpus.sentences
    if sentence.block_id == block_id
  ]


def check_same_block(old, old_id, new, new_id):
  assert new.title(new_id) == old.title(old_id)
  assert new.text(new_id) == old.text(old_id)
  for name in ('title', 'body'):
    for old_pieces, new_pieces in zip(
      pieces(old, old_id, name), pieces(new, new_id, name), strict=True
    ):
      assert new_pieces == old_pieces
  assert sentences_of(new, new_id) == sentences_of(old, old_id)


def pieces(corpus, block_id, name):
  tokens = corpus.gather(np.array([block_id]))._asdict()
  return tokens[f'{name}_ids'][0, : tokens[f'{name}_len'][0]].tolist()


def test_with_nothing_left_out_the_corpus_is_the_same(corpus, tmp_path):
  new = copy(tmp_path, [(corpus, choose_blocks(corpus))])
  assert new.fingerprint == corpus.fingerprint
  same = 'num_articles num_blocks num_sentences num_spans max_title_len'
  for name in (*same.split(), 'max_body_len', 'num_sentences_without_spans'):
    assert new.manifest[name] == corpus.manifest[name], name
  np.testing.assert_array_equal(new.article_ids, corpus.article_ids)
  assert list(new.sentences) == list(corpus.sentences)


@pytest.mark.slow
@given(chosen=st.sets(st.sampled_from(TITLES)), piece=st.integers(1, 12))
def test_blocks_that_stay_are_the_old_ones(
  corpus, added, tmp_path_factory, chosen, piece
):
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(corpus_edit, '_PIECE', piece)
    choice = choose_blocks(corpus, sorted(chosen), added)
    parts = [(corpus, choice), (added, choose_blocks(added))]
    new = copy(tmp_path_factory.mktemp('new'), parts)
  gone = (chosen | {'op'}) - {''}
  kept = [i for i in range(NUM_BLOCKS) if corpus.title(i) not in gone]
  old = [(corpus, i) for i in kept]
  old += [(added, i) for i in range(added.num_blocks)]
  assert new.num_blocks == len(old)
  for new_id, (source, old_id) in enumerate(old):
    check_same_block(source, old_id, new, new_id)
  # One number an article, from 0 in order.
  articles = [(source.folder, source.article_ids[i]) for source, i in old]
  numbers = {article: i for i, article in enumerate(dict.fromkeys(articles))}
  assert new.article_ids.tolist() == [numbers[a] for a in articles]
  assert new.manifest['num_articles'] == len(numbers)
  num_spans = sum(new.manifest['num_spans'].values())
  assert num_spans == new.sentences.num_spans.sum()
  without = new.manifest['num_sentences_without_spans']
  assert without == (new.sentences.num_spans == 0).sum()


def test_a_corpus_of_the_same_articles_is_the_same(corpus, tmp_path):
  write(tmp_path / 'less', 100, ARTICLES[:3] + ARTICLES[4:])
  less = Corpus.open(tmp_path / 'less')
  parts = [(corpus, choose_blocks(corpus, ['op']))]
  new = copy(tmp_path / 'new', parts, shard_size=100)
  assert new.fingerprint == less.fingerprint
  assert list(new.sentences) == list(less.sentences)
  assert new.manifest['files'] == less.manifest['files']


def test_chunks_can_be_left_out_from_the_start(corpus):
  parts = [(corpus, choose_blocks(corpus, ['gh']))]
  chunks = list(copied_chunks(parts))
  assert len(chunks) > 3
  rest = list(copied_chunks(parts, 2))
  assert [chunk.blocks for chunk in rest] == [c.blocks for c in chunks[2:]]


def test_articles_and_blocks_are_counted(corpus, added):
  choice = choose_blocks(corpus, ['ij', 'op', 'gh'], added)
  num_blocks = [
    sum(corpus.title(i) == title for i in range(NUM_BLOCKS)) for title in TITLES
  ]
  assert choice.num_articles == {'kept': 2, 'removed': 2, 'replaced': 1}
  assert choice.num_blocks == {
    'kept': num_blocks[1] + num_blocks[2],
    'removed': num_blocks[0] + num_blocks[4],
    'replaced': num_blocks[3],
  }


def test_articles_without_a_title_are_never_meant(tmp_path):
  write(tmp_path / 'old', articles=[('', 'Ab cd.'), ('', 'Ef.')])
  write(tmp_path / 'new', articles=[('', 'Gh ij.')])
  old, new = (Corpus.open(tmp_path / name) for name in ('old', 'new'))
  assert choose_blocks(old, [''], new).num_articles['kept'] == 2


def test_missing_titles_are_found(corpus):
  assert missing_titles(corpus, ['gh', 'Gh', 'op', 'op op']) == ['Gh', 'op op']
  assert missing_titles(corpus, []) == []


def test_titles_are_read_as_a_corpus_has_them(tmp_path):
  path = tmp_path / 'titles.txt'
  path.write_bytes('\ufeffNé  日本 \r\n\nab\u00a0cd\nab cd\n'.encode())
  assert read_titles(path) == ['Né 日本', 'ab cd']
