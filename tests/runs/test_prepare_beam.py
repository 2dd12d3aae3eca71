"""The corpus of a Beam pipeline is that of one machine."""

import json

import pytest
import tiny

from realm_jax.data import corpus_writer, packing
from realm_jax.data.corpus import Corpus
from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError
from realm_jax.runs.prepare import prepare

pytest.importorskip('apache_beam')

from realm_jax.runs import prepare_beam


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
  """Several shards, each of several chunks."""
  monkeypatch.setattr(corpus_writer, 'SHARD_SIZE', 30)
  monkeypatch.setattr(prepare_beam, 'SHARD_SIZE', 30)
  monkeypatch.setattr(packing, '_CHUNK_ARTICLES', 4)


@pytest.fixture
def sources(tmp_path):
  """Two files: skipped articles, whole chunks of them, one of many blocks."""
  rows = [*tiny.documents(), {'title': 'None', 'text': '  '}]
  rows[8:8] = [{'title': 'b', 'text': 'a'}] * 9  # of less than min_block_len
  more = [{'title': 'Long', 'text': 'Ada Quist left in 1850. ' * 99}]
  return [
    str(tiny.write_lines(tmp_path / name, content))
    for name, content in (('a.jsonl', rows), ('b.jsonl', [*more, *rows[:7]]))
  ]


def run(sources, folder, **settings):
  prepare(
    sources,
    str(folder),
    vocab_size=250,
    block_len=40,
    min_block_len=6,
    console=tiny.quiet(),
    **settings,
  )
  corpus = Corpus.open(folder, verify=True)
  manifest = dict(corpus.manifest)
  del manifest['command']
  return manifest, sorted(path.name for path in folder.iterdir())


def test_both_make_the_same_files(sources, tmp_path):
  local = run(sources, tmp_path / 'local')
  assert len(local[0]['block_files']) > 2
  assert local == run(sources, tmp_path / 'beam', runner='beam')


def test_both_know_the_edition(tmp_path):
  dump = tmp_path / 'dump.xml'
  dump.write_text(
    '<mediawiki>'
    + ''.join(
      f'<page><title>A</title><ns>0</ns><revision><timestamp>20{year:02}-05-01T'
      f'</timestamp><text>== B ==\nIt is the page of {year}.</text></revision>'
      '</page>'
      for year in range(3, 14)
    )
    + '</mediawiki>'
  )
  settings = {'since': '2018-12-20', 'section_titles': 'keep'}
  manifest, _ = local = run([str(dump)], tmp_path / 'local', **settings)
  assert manifest['edition'] == {
    'since': '2018-12-20',
    'oldest_revision': '2003-05-01',
    'newest_revision': '2013-05-01',
  }
  assert local == run([str(dump)], tmp_path / 'b', runner='beam', **settings)


def test_a_stopped_pipeline_packs_nothing_twice(sources, tmp_path, monkeypatch):
  expected = run(sources, tmp_path / 'local')
  folder = tmp_path / 'beam'
  with monkeypatch.context() as stopped, pytest.raises(ZeroDivisionError):
    stopped.setattr(prepare_beam, '_plan', lambda folder: 1 / 0)
    run(sources, folder, runner='beam')
  assert list(folder.glob('chunks/*.arrow'))
  monkeypatch.setattr(prepare_beam, '_save', lambda path, packed: 1 / 0)
  assert run(sources, folder, runner='beam') == expected


def test_a_vocabulary_beyond_16_bits_is_refused(sources, tmp_path):
  words = WordPiece.train(['ab'], 150).vocab
  vocab = tmp_path / 'vocab.txt'
  WordPiece([*words, *(f'w{i}' for i in range(65_535))]).save(vocab)
  with pytest.raises(UserError, match='expected at most 65535'):
    run(sources, tmp_path / 'corpus', runner='beam', vocab=str(vocab))


def test_nothing_left_is_said(tmp_path):
  path = tmp_path / 'empty.jsonl'
  path.write_text(json.dumps({'title': 'A', 'text': ' '}))
  with pytest.raises(UserError, match=r'gave no block.*1 no text'):
    run([str(path)], tmp_path / 'corpus', runner='beam')
