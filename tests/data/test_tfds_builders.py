"""The almanac and a corpus through tfds.load."""

import json

import numpy as np
import pytest

from realm_jax.almanac import write_almanac
from realm_jax.data.corpus import Corpus

tfds = pytest.importorskip('tensorflow_datasets')
builders = pytest.importorskip('realm_jax.data.tfds_builders')

SMALL = {'num_documents': 120, 'seed': 4}


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def strings(value):
  return value.decode() if isinstance(value, bytes) else value


@pytest.mark.parametrize('edition', ['2018', '2020'])
def test_the_almanac_is_what_the_command_writes(tmp_path, edition):
  write_almanac(tmp_path / 'almanac', edition=edition, **SMALL)
  load = {
    'data_dir': str(tmp_path / 'tfds'),
    'builder_kwargs': {
      'config': builders.AlmanacConfig(edition=edition, **SMALL)
    },
  }
  loaded = tfds.as_numpy(tfds.load('realm_almanac', split='train', **load))
  found = {row['title'].decode(): row['text'].decode() for row in loaded}
  written = lines(tmp_path / 'almanac' / 'documents.jsonl')
  assert found == {row['title']: row['text'] for row in written}
  for split in ('train', 'dev', 'test'):
    loaded = tfds.as_numpy(
      tfds.load('realm_almanac_questions', split=split, **load)
    )
    found = {
      (row['question'].decode(), *map(strings, row['answer'])) for row in loaded
    }
    written = lines(tmp_path / 'almanac' / f'questions.{split}.jsonl')
    assert found == {(row['question'], *row['answer']) for row in written}


def test_the_builders_are_known_by_name():
  names = tfds.list_builders()
  assert {'realm_almanac', 'realm_almanac_questions'} <= set(names)
  assert tfds.builder('realm_almanac/2020').builder_config.edition == '2020'


def test_a_corpus_comes_block_by_block(tiny_corpus, tmp_path):
  loaded = builders.load_corpus(tiny_corpus, data_dir=str(tmp_path))
  corpus = Corpus.open(tiny_corpus)
  rows = list(tfds.as_numpy(loaded))
  assert [row['block_id'] for row in rows] == list(range(corpus.num_blocks))
  tokens = corpus.gather(np.arange(corpus.num_blocks))
  for i, row in enumerate(rows):
    assert row['title'].decode() == corpus.title(i)
    assert row['text'].decode() == corpus.text(i)
    assert row['token_ids'].tolist() == (
      tokens.body_ids[i, : tokens.body_len[i]].tolist()
    )


def test_no_corpus_is_said(tmp_path):
  with pytest.raises(FileNotFoundError, match='realm-jax prepare'):
    builders.load_corpus(tmp_path)
