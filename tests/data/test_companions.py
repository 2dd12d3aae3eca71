import numpy as np
import pytest
import tiny

from realm_jax.data import companions as module
from realm_jax.data.companions import Companions
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths, MaskedSentences

ROWS = [
  {'title': 'A', 'text': 'In 1801 Ada Quist saw Lake Orla.'},
  {'title': 'B', 'text': 'Lake Orla was seen by Ada Quist. So it was in 1802.'},
  {'title': 'C', 'text': 'In 1801 nobody saw Lake Orla.'},
  {'title': 'D', 'text': 'In 1802 there was Lake Orla.'},
  {'title': 'E', 'text': 'Bela Rook went away in 1803.'},
]


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  folder = tmp_path_factory.mktemp('companions')
  return Corpus.open(tiny.make_corpus(folder, ROWS))


def chosen(corpus, kind, sentence_id, name):
  """The blocks that are ever chosen for a blanked-out name."""
  sentence = corpus.sentences[sentence_id]
  text = corpus.text(sentence.block_id)
  (span,) = [s for s in sentence.spans if text[s.start : s.stop] == name]
  choose = getattr(Companions(corpus), kind)
  return {
    choose(sentence, span, np.random.default_rng(seed)) for seed in range(40)
  }


def test_a_companion_has_the_span_and_another_one_of_its_sentence(corpus):
  assert corpus.num_blocks == 5
  assert chosen(corpus, 'companion', 0, 'Lake Orla') == {1, 2}
  assert chosen(corpus, 'companion', 0, 'Ada Quist') == {1}
  assert chosen(corpus, 'companion', 0, '1801') == {2}


def test_a_distractor_has_another_span_of_the_sentence_but_not_this(corpus):
  assert chosen(corpus, 'distractor', 0, 'Ada Quist') == {2, 3}
  assert chosen(corpus, 'distractor', 0, '1801') == {1, 3}
  assert chosen(corpus, 'distractor', 0, 'Lake Orla') == {-1}


@pytest.mark.parametrize('kind', ['companion', 'distractor'])
def test_where_there_is_none_the_null_document_is_told(corpus, kind):
  assert chosen(corpus, kind, 5, 'Bela Rook') == {-1}
  # 1802 also stands in another block, but alone in this sentence
  assert chosen(corpus, kind, 2, '1802') == {-1}


def test_names_that_stand_everywhere_tell_nothing(corpus, monkeypatch):
  monkeypatch.setattr(module, '_MAX_BLOCKS', 3)
  # Lake Orla stands in four blocks: it brings no companion to others.
  assert chosen(corpus, 'companion', 0, 'Ada Quist') == {-1}
  assert chosen(corpus, 'companion', 0, 'Lake Orla') == {1, 2}
  assert chosen(corpus, 'distractor', 0, 'Ada Quist') == {2}


def test_spans_that_another_block_states_beside_another_are_restated(corpus):
  companions = Companions(corpus)

  def restated(sentence_id):
    sentence = corpus.sentences[sentence_id]
    text = corpus.text(sentence.block_id)
    return [text[s.start : s.stop] for s in companions.restated(sentence)]

  assert restated(0) == ['1801', 'Ada Quist', 'Lake Orla']
  assert restated(5) == []
  lengths = Lengths(query_len=24, document_len=40)
  masked = MaskedSentences(
    corpus, 'salient_span', lengths, companions=companions
  )
  assert masked(0) is not None
  assert masked(5) is None
