from pathlib import Path

import jax
import numpy as np
import pytest
import tiny

from realm_jax.data.corpus import Corpus
from realm_jax.data.qa import load_questions
from realm_jax.data.qa_examples import qa_examples
from realm_jax.errors import UserError
from realm_jax.eval.rankers import make_ranker
from realm_jax.index.retriever import Retriever
from realm_jax.index.snapshot import Snapshot
from realm_jax.models.inference import make_embed
from realm_jax.models.realm import Realm, init_params

ROWS = np.array([3, 0, 83])


@pytest.fixture(scope='module')
def questions(tiny_questions):
  return load_questions(tiny_questions)


@pytest.fixture(scope='module')
def setup(tiny_corpus, questions):
  """Corpus, model, parameters, block embeddings and rank(kind, ...)."""
  corpus = Corpus.open(tiny_corpus)
  model = tiny.with_vocab_of(corpus)
  params = init_params(model, jax.random.key(0))
  block_embeds = np.random.default_rng(1).normal(size=(42, 8))
  block_embeds = block_embeds.astype(np.float32)
  retriever = Retriever(
    make_embed(model, Realm.embed_queries),
    corpus,
    tiny.LENGTHS,
    snapshot=Snapshot(block_embeds),
  )
  examples = qa_examples(questions, corpus.wordpiece, tiny.LENGTHS)

  def rank(kind, k, rows=ROWS, questions=questions):
    ranker = make_ranker(
      kind, questions, examples, retriever, params, Path('not used')
    )
    block_ids = ranker(rows, k)
    assert block_ids.dtype == np.int32
    assert block_ids.shape == (len(rows), k)
    return block_ids

  return corpus, model, params, block_embeds, rank


def test_the_retriever_ranks_by_inner_product(setup, questions):
  corpus, model, params, block_embeds, rank = setup
  for row, found in zip(ROWS, rank('retriever', 9), strict=True):
    pieces = corpus.wordpiece.encode(questions[row].question).token_ids
    ids = np.zeros((1, 24), np.int32)
    ids[0, : len(pieces) + 2] = [
      corpus.wordpiece.cls_id,
      *pieces,
      corpus.wordpiece.sep_id,
    ]
    from realm_jax.types import TextInputs

    inputs = TextInputs(ids, (ids > 0).astype(np.int32), 0 * ids)
    embed = Realm(model).apply(
      {'params': params}, inputs, method=Realm.embed_queries
    )
    scores = (np.float64(embed) @ block_embeds.T)[0]
    assert found.tolist() == np.argsort(-scores)[:9].tolist()


def test_bm25_finds_the_named_first(setup, questions):
  pytest.importorskip('bm25s')
  corpus, *_, rank = setup
  found = rank('bm25', 4)
  for row, block_ids in zip(ROWS, found, strict=True):
    assert corpus.title(block_ids[0]) == questions[row].titles[0]


def test_bm25_ranks_something_for_unknown_words(setup, questions):
  pytest.importorskip('bm25s')
  asked = [questions[0]._replace(question='Xyzzy plugh?')] * len(questions)
  found = setup[-1]('bm25', 42, questions=asked)
  assert all(set(row) <= set(range(42)) for row in found.tolist())


def test_gold_are_the_blocks_of_the_articles_named(setup, questions):
  corpus, *_, rank = setup
  for row, block_ids in zip(ROWS, rank('gold', 3), strict=True):
    assert corpus.title(block_ids[0]) == questions[row].titles[0]
    assert block_ids[1:].tolist() == [-1, -1]


def test_gold_blocks_with_the_answer_come_first(setup, questions):
  corpus, *_, rank = setup
  others = [corpus.title(0), corpus.title(1)]
  asked = [
    question._replace(titles=(*others, *question.titles))
    for question in questions
  ]
  rows = np.array([5, 83])  # their answers are years of one article each
  found = rank('gold', 3, rows, asked)
  for row, block_ids in zip(rows, found, strict=True):
    titles = [corpus.title(block_id) for block_id in block_ids]
    assert titles == [*questions[row].titles, *others]


def test_gold_asks_for_titles(setup, questions):
  untitled = [question._replace(titles=()) for question in questions]
  with pytest.raises(UserError, match='gold documents are not known'):
    setup[-1]('gold', 3, questions=untitled)


def test_random_blocks_differ_and_come_again(setup):
  rank = setup[-1]
  found = rank('random', 30)
  np.testing.assert_array_equal(found, rank('random', 30))
  for row in found:
    assert len(set(row.tolist())) == 30
  assert found[0].tolist() != found[1].tolist()


def test_another_kind_is_refused(setup):
  with pytest.raises(UserError, match="ranker is 'gould'"):
    setup[-1]('gould', 3)
