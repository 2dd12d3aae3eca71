import json
import re

import pytest
import tiny

from realm_jax.data.corpus import Corpus
from realm_jax.data.qa import load_questions
from realm_jax.data.qa_examples import qa_examples
from realm_jax.data.regex_answers import expand_expressions
from realm_jax.errors import UserError
from realm_jax.eval.answers import regex_match
from realm_jax.runs.expand_answers import expand_answers

EXPRESSIONS = [
  ['18[0-4][0-9]'],
  ['ada (quist|rook)', 'BELTON'],
  ['nowhere at all'],
  ['(', 'arnby'],  # the first does not compile
  ['^'],  # matches, but nothing
]


@pytest.fixture(scope='module')
def corpus(tiny_corpus):
  return Corpus.open(tiny_corpus)


@pytest.fixture(scope='module')
def expanded(corpus):
  return expand_expressions(EXPRESSIONS, corpus)


def test_matches_are_strings_of_the_texts_that_fit(corpus, expanded):
  texts = [corpus.text(i) for i in range(corpus.num_blocks)]
  for own, matches in zip(EXPRESSIONS, expanded, strict=True):
    assert all(any(match in text for text in texts) for match in matches)
    assert all(regex_match(match, own) for match in matches)
  assert set(expanded[1]) == {'Ada Quist', 'Ada Rook', 'Belton'}
  assert expanded[2] == expanded[4] == ()
  assert expanded[3] == ('Arnby',)


def test_what_most_blocks_have_comes_first(corpus, expanded):
  texts = [corpus.text(i) for i in range(corpus.num_blocks)]
  counts = [sum(bool(re.search(m, t)) for t in texts) for m in expanded[0]]
  assert len(counts) > 3
  assert counts == sorted(counts, reverse=True)


@pytest.mark.slow
def test_several_processes_find_the_same(corpus, expanded):
  assert expand_expressions(EXPRESSIONS, corpus, workers=2) == expanded


def test_expanded_questions_can_be_trained_on(tiny_corpus, corpus, tmp_path):
  rows = [
    {'question': 'When?', 'answer': ['18[0-9]{2}'], 'regex': True},
    {'question': 'Where?', 'answer': ['Belton']},
  ]
  source = tiny.write_lines(tmp_path / 'trec.jsonl', rows)
  out = tmp_path / 'expanded.jsonl'
  found = expand_answers(
    str(source), str(out), str(tiny_corpus), workers=1, console=tiny.quiet()
  )
  assert found == 1
  (row,) = map(json.loads, out.read_text().splitlines())
  assert row['answer'] == ['18[0-9]{2}']
  (question,) = load_questions(out)
  assert question.is_regex and question.strings == tuple(row['matches'])
  examples = qa_examples([question], corpus.wordpiece, tiny.LENGTHS)
  assert examples.answer_lens[0, 0] > 0


def test_without_expressions_there_is_nothing_to_expand(
  tiny_corpus, tiny_questions, tmp_path
):
  with pytest.raises(UserError, match='nothing to expand'):
    expand_answers(
      str(tiny_questions), str(tmp_path / 'out.jsonl'), str(tiny_corpus)
    )
