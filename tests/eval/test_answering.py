"""Answers and their sources, against loops over every span of every block."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
import tiny

from realm_jax.data.corpus import Corpus
from realm_jax.data.qa import Question
from realm_jax.data.qa_examples import qa_examples
from realm_jax.eval.answering import Answerer, batches_of, pad_blocks
from realm_jax.eval.answers import normalize_answer
from realm_jax.index.retriever import Retriever
from realm_jax.index.snapshot import Snapshot
from realm_jax.models.inference import make_embed
from realm_jax.models.realm import Realm, init_params
from realm_jax.train.qa_source import read_inputs

# Wider than the widest answer that is trained on.
MAX_SPAN_WIDTH = 12
QUESTIONS = [
  Question('Where did Ada Quist live?', ('Dunholm',)),
  Question(
    'When did Bela Rook, of whom it is said that nobody knew why, leave the '
    'town that we all love so well?',
    ('1805',),
  ),
  Question('Who?', ('Ada',)),
]
BLOCK_IDS = np.array(
  [[0, 5, 41, 7], [9, 9, 30, -1], [12, -1, -1, -1]], np.int32
)


@pytest.fixture(scope='module')
def corpus(tiny_corpus):
  return Corpus.open(tiny_corpus)


def answerer_of(corpus, model, block_embeds):
  retriever = Retriever(
    make_embed(model, Realm.embed_queries),
    corpus,
    tiny.LENGTHS,
    snapshot=Snapshot(block_embeds),
  )
  return Answerer(model, retriever, num_candidates=5)


@pytest.fixture(scope='module')
def setup(corpus):
  """Model, parameters, block embeddings, examples and answers."""
  model = dataclasses.replace(
    tiny.with_vocab_of(corpus),
    max_span_width=MAX_SPAN_WIDTH,
    share_embedders=False,
  )
  params = jax.tree.map(
    # far from uniform, so that there is a best span
    lambda array: 8 * array,
    init_params(model, jax.random.key(8)),
  )
  block_embeds = (
    np.random.default_rng(0)
    .normal(size=(corpus.num_blocks, model.embed_dim))
    .astype(np.float32)
  )
  examples = qa_examples(QUESTIONS, corpus.wordpiece, tiny.LENGTHS)
  rows = examples.rows(np.arange(len(QUESTIONS)))
  answers = answerer_of(corpus, model, block_embeds).answer(
    params, rows, BLOCK_IDS
  )
  return model, params, block_embeds, rows, answers


@functools.partial(jax.jit, static_argnums=(0, 1))
def apply(model, method, params, *inputs):
  return Realm(model).apply({'params': params}, *inputs, method=method)


def spans_of(corpus, setup, row):
  """{(slot, start, stop): log p} of all spans, with the pieces they cover.

  start and stop count the body's pieces; of what is cut off there is none.
  """
  model, params, block_embeds, rows, _ = setup
  one = {name: array[row : row + 1] for name, array in rows.items()}
  block_ids = BLOCK_IDS[row]
  wordpiece = corpus.wordpiece
  question = wordpiece.encode(QUESTIONS[row].question).token_ids[:22]
  query = np.zeros((1, 24), np.int32)
  query[0, : len(question) + 2] = [
    wordpiece.cls_id,
    *question,
    wordpiece.sep_id,
  ]
  query_embed = apply(model, Realm.embed_queries, params, tiny_inputs(query))[0]
  joint, block_mask = read_inputs(
    one, corpus.gather(block_ids[None]), corpus, tiny.LENGTHS
  )
  scores = apply(model, Realm.span_scores, params, joint, block_mask)[0]
  offset = 2 + len(question)
  found = {}
  length = joint.token_ids.shape[-1]
  for slot, block_id in enumerate(block_ids):
    if block_id < 0:
      continue
    relevance = float(
      np.float64(query_embed) @ np.float64(block_embeds[block_id])
    )
    body = wordpiece.encode(corpus.text(block_id)).token_ids
    body = body[: length - offset - 1]
    column = 0
    for width in range(1, MAX_SPAN_WIDTH + 1):
      for start in range(length - width + 1):
        first = start - offset
        if first >= 0 and first + width <= len(body):
          found[slot, first, first + width] = (
            relevance + float(scores[slot, column]),
            tuple(body[first : first + width]),
          )
        column += 1
  total = np.logaddexp.reduce([score for score, _ in found.values()])
  relevances = {
    slot: float(np.float64(query_embed) @ np.float64(block_embeds[block_id]))
    for slot, block_id in enumerate(block_ids)
    if block_id >= 0
  }
  spans = {
    key: (score - total, pieces) for key, (score, pieces) in found.items()
  }
  return spans, relevances


def tiny_inputs(token_ids):
  from realm_jax.types import TextInputs

  mask = (token_ids > 0).astype(np.int32)
  return TextInputs(token_ids, mask, np.zeros_like(token_ids))


@pytest.mark.parametrize('row', range(3))
def test_the_best_span_is_mapped_back_to_its_block(corpus, setup, row):
  spans, _ = spans_of(corpus, setup, row)
  answer = setup[-1][row]
  slot, start, stop = max(spans, key=lambda key: spans[key][0])
  block_id = int(BLOCK_IDS[row, slot])
  text = corpus.text(block_id)
  encoding = corpus.wordpiece.encode(text)
  assert answer.block_id == block_id
  assert answer.start == encoding.starts[start]
  assert answer.stop == encoding.stops[stop - 1]
  assert answer.text == text[answer.start : answer.stop] != ''
  log_prob = spans[slot, start, stop][0]
  assert answer.probability == pytest.approx(np.exp(log_prob), rel=1e-3)


@pytest.mark.parametrize('row', range(3))
def test_documents_have_their_probability_and_utility(corpus, setup, row):
  spans, relevances = spans_of(corpus, setup, row)
  answer = setup[-1][row]
  assert [d.block_id for d in answer.documents] == [
    i for i in BLOCK_IDS[row].tolist() if i >= 0
  ]
  best = max(spans.values())[1]
  total = np.logaddexp.reduce(list(relevances.values()))
  mass = {
    slot: np.logaddexp.reduce(
      [-np.inf]
      + [
        log_prob
        for (at, _, _), (log_prob, pieces) in spans.items()
        if at == slot and pieces == best
      ]
    )
    for slot in relevances
  }
  log_answer = np.logaddexp.reduce(list(mass.values()))
  for slot, document in enumerate(answer.documents):
    assert document.title == corpus.title(document.block_id)
    assert document.text == corpus.text(document.block_id)
    assert document.score == pytest.approx(relevances[slot], rel=1e-4)
    prior = relevances[slot] - total
    assert document.probability == pytest.approx(np.exp(prior), rel=1e-3)
    # log p(y|x,z) - log p(y|x)
    expected = max(mass[slot] - prior - log_answer, -20.0)
    assert document.retrieval_utility == pytest.approx(expected, abs=2e-3)


def test_some_answer_stands_more_than_once_and_one_is_wide(corpus, setup):
  """Else the tests above would not see occurrences and widths summed."""
  answers = setup[-1]
  widths = [len(corpus.wordpiece.encode(a.text).token_ids) for a in answers]
  assert max(widths) > 10
  twice = [a for a in answers if sum(a.text in d.text for d in a.documents) > 1]
  assert twice


@pytest.mark.parametrize('row', range(3))
def test_candidates_sum_what_is_said_in_several_places(corpus, setup, row):
  spans, _ = spans_of(corpus, setup, row)
  # As many of the best spans as are considered, at their places in the texts.
  best = sorted(spans, key=lambda key: -spans[key][0])[:100]
  expected = {}
  for slot, start, stop in best:
    text = corpus.text(BLOCK_IDS[row, slot])
    encoding = corpus.wordpiece.encode(text)
    name = normalize_answer(
      text[encoding.starts[start] : encoding.stops[stop - 1]]
    )
    expected[name] = expected.get(name, 0) + np.exp(spans[slot, start, stop][0])
  candidates = setup[-1][row].candidates
  ranked = sorted(expected.values(), reverse=True)
  assert len(candidates) == min(5, len(ranked))
  for candidate, probability in zip(candidates, ranked, strict=False):
    assert candidate.probability == pytest.approx(probability, rel=2e-3)
    assert candidate.probability == pytest.approx(
      expected[normalize_answer(candidate.text)], rel=2e-3
    )
    assert (
      candidate.text
      == (corpus.text(candidate.block_id)[candidate.start : candidate.stop])
    )


def test_without_any_block_there_is_no_answer(corpus, setup):
  model, params, block_embeds, rows, _ = setup
  answerer = answerer_of(corpus, model, block_embeds)
  answers = answerer.answer(params, rows, np.full_like(BLOCK_IDS, -1))
  assert [a.text for a in answers] == [''] * 3
  assert {(a.block_id, a.probability, a.documents) for a in answers} == {
    (-1, 0.0, ())
  }


def test_batches_repeat_the_last_row():
  assert [rows.tolist() for rows in batches_of(5, 3)] == [[0, 1, 2], [3, 4, 4]]
  assert list(batches_of(0, 3)) == []


@pytest.mark.parametrize(
  ('num_read', 'expected'),
  [(1, [[3], [4]]), (2, [[3, 5], [4, 6]]), (3, [[3, 5, -1], [4, 6, -1]])],
)
def test_blocks_are_cut_or_filled_up(num_read, expected):
  block_ids = np.array([[3, 5], [4, 6]], np.int32)
  assert pad_blocks(block_ids, num_read).tolist() == expected
