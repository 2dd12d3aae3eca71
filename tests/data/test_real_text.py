"""Real pages through the text side; skipped where they are not at hand."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from realm_jax.data.corpus import Corpus
from realm_jax.data.qa import load_questions
from realm_jax.data.sources import read_source
from realm_jax.runs.prepare import prepare

REALTEXT = Path(__file__).resolve().parents[2] / '..' / 'shared' / 'realtext'
pytestmark = pytest.mark.skipif(
  not REALTEXT.is_dir(), reason='../shared/realtext is absent'
)

# What markup leaves behind where it is not read as markup.
DEBRIS = re.compile(
  r"\[\[|\]\]|\{\{|\}\}|''|</?(?:ref|br|small|sub|sup|div|span|nowiki)\b|&nbsp;"
  r'|\{\||\|\}|\bthumb\||https?://|__[A-Z]+__|\(\s*[,;)]|\s[,;)]|^[*#:;|!]'
)


@pytest.mark.slow
def test_a_real_dump_leaves_no_debris():
  skipped = Counter()
  articles = list(read_source(REALTEXT / 'enwiki-sample.xml.bz2', skipped))
  # Counted in the dump by hand: of 206 pages, 1 of another namespace.
  assert len(articles) == 96
  assert skipped == {
    'redirect': 99,
    'disambiguation': 8,
    'list': 2,
    'not an article': 1,
  }
  lines = [line for article in articles for line in article.text.split('\n')]
  assert len(lines) > 5000
  found = [line for line in lines if DEBRIS.search(line)]
  assert found == []


def test_paragraphs_with_their_questions_become_a_corpus(tmp_path):
  sources = [
    REALTEXT / 'nq_paragraphs.jsonl',
    REALTEXT / 'squad_paragraphs.json',
  ]
  manifest = prepare([str(path) for path in sources], str(tmp_path / 'corpus'))
  assert manifest['num_articles'] == 811
  assert manifest['num_skipped'] == {'paragraph seen before': 9}
  assert manifest['num_sentences_cut'] <= 1  # one list is a sentence
  corpus = Corpus.open(tmp_path / 'corpus')
  assert corpus.block_lens.max() <= 288
  tokens = corpus.gather(np.arange(0, corpus.num_blocks, 7))
  for row, block_id in enumerate(range(0, corpus.num_blocks, 7)):
    ids = corpus.wordpiece.encode(corpus.text(block_id)).token_ids
    np.testing.assert_array_equal(
      tokens.body_ids[row, : tokens.body_len[row]], ids
    )
    assert corpus.wordpiece.unk_id not in ids[:50]


@pytest.mark.parametrize(
  'name, count',
  [('nq_paragraphs.jsonl', 798), ('squad_paragraphs.json', 525)],
)
def test_real_questions_name_the_article_that_answers_them(name, count):
  questions = load_questions(REALTEXT / name)
  assert len(questions) == count
  assert all(len(question.titles) == 1 for question in questions)


@pytest.mark.parametrize('path', sorted(REALTEXT.glob('openqa/*.jsonl')))
def test_open_question_files_are_read_whole(path):
  with open(path, encoding='utf-8') as stream:
    assert len(load_questions(path)) == sum(1 for _ in stream)
