import dataclasses

import numpy as np
import pytest
import tiny

from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import (
  InverseCloze,
  Lengths,
  MaskedSentences,
  example_rng,
  split_sentences,
)
from realm_jax.errors import UserError

LENGTHS = tiny.LENGTHS  # 24, 40, 3 masks


@pytest.fixture(scope='module')
def corpus(tiny_corpus):
  return Corpus.open(tiny_corpus)


def text_of(corpus, sentence):
  return corpus.text(sentence.block_id)[sentence.start : sentence.stop]


def assert_same(first, second):
  assert first.keys() == second.keys()
  for name in first:
    np.testing.assert_array_equal(first[name], second[name], name)


def differ(first, second):
  return any(not np.array_equal(first[n], second[n]) for n in first)


class TestMaskedSentences:
  @pytest.mark.parametrize(
    'masking', ['salient_span', 'random_span', 'random_token']
  )
  def test_targets_put_back_give_the_sentence(self, corpus, masking):
    make = MaskedSentences(corpus, masking, LENGTHS, seed=2)
    made = 0
    for number in range(0, 126, 5):
      example = make(number)
      if example is None:
        continue
      made += 1
      sentence = corpus.sentences[number]
      ids = example['query_ids'].copy()
      real = example['mlm_mask'].astype(bool)
      places = example['mlm_positions'][real] - 1  # they count [CLS]
      assert (ids[places] == corpus.wordpiece.mask_id).all()
      ids[places] = example['mlm_targets'][real]
      expected = corpus.wordpiece.encode(text_of(corpus, sentence)).token_ids
      assert example['query_lens'] == min(len(expected), 22)
      whole = ids != corpus.wordpiece.mask_id  # beyond max_masks they stay
      whole &= np.arange(22) < example['query_lens']
      np.testing.assert_array_equal(
        ids[whole], expected[:22][whole[: len(expected)]]
      )
      assert (ids[example['query_lens'] :] == 0).all()
      assert example['source_block_id'] == sentence.block_id
      assert example['sentence_id'] == number
      assert example['query_ids'].shape == (22,)
      assert example['mlm_targets'].shape == (3,)
      assert (example['mlm_targets'][~real] == 0).all()
    assert made > 15

  def test_a_salient_span_is_what_is_blanked_out(self, corpus):
    make = MaskedSentences(corpus, 'salient_span', LENGTHS)
    sentence = corpus.sentences[2]  # Many a ... of Dunholm spoke of it.
    (span,) = sentence.spans
    name = corpus.text(sentence.block_id)[span.start : span.stop]
    expected = corpus.wordpiece.encode(name).token_ids[:3]
    example = make(2)
    number = int(example['mlm_mask'].sum())
    assert example['mlm_targets'][:number].tolist() == expected.tolist()

  def test_an_example_depends_on_seed_epoch_and_sentence_alone(self, corpus):
    make = MaskedSentences(corpus, 'random_token', LENGTHS, seed=1)
    again = MaskedSentences(corpus, 'random_token', LENGTHS, seed=1)
    other = MaskedSentences(corpus, 'random_token', LENGTHS, seed=2)
    numbers = range(0, 30, 3)
    for number in numbers:
      assert_same(make(number, 3), again(number, 3))
    assert any(differ(make(n, 3), make(n, 4)) for n in numbers)
    assert any(differ(make(n, 3), other(n, 3)) for n in numbers)

  def test_a_mask_that_does_not_fit_leaves_the_sentence_out(self, corpus):
    short = dataclasses.replace(LENGTHS, query_len=8)
    make = MaskedSentences(corpus, 'salient_span', short)
    made = [make(number) for number in range(126)]
    assert any(example is None for example in made)
    assert any(example is not None for example in made)

  def test_another_masking_is_refused(self, corpus):
    with pytest.raises(UserError, match="masking is 'spans', expected one of"):
      MaskedSentences(corpus, 'spans', LENGTHS)


class TestInverseCloze:
  @pytest.mark.parametrize('remove_probability', [0.0, 1.0])
  def test_a_block_is_without_its_sentence_or_whole(
    self, corpus, remove_probability
  ):
    make = InverseCloze(corpus, LENGTHS, 0, remove_probability)
    for number in (0, 1, 2, 50, 125):
      example = make(number)
      sentence = corpus.sentences[number]
      text = corpus.text(sentence.block_id)
      if remove_probability:
        text = text[: sentence.start] + text[sentence.stop :]
      for name, expected in (
        ('query', text_of(corpus, sentence)),
        ('title', corpus.title(sentence.block_id)),
        ('body', text),
      ):
        ids = corpus.wordpiece.encode(expected).token_ids
        assert example[f'{name}_lens'] == len(ids)
        assert example[f'{name}_ids'][: len(ids)].tolist() == ids.tolist()
        assert (example[f'{name}_ids'][len(ids) :] == 0).all()
      assert example['block_id'] == sentence.block_id

  def test_most_often_the_sentence_is_removed(self, corpus):
    make = InverseCloze(corpus, LENGTHS)
    whole = 0
    for number in range(126):
      block_id = corpus.sentences[number].block_id
      length = len(corpus.wordpiece.encode(corpus.text(block_id)).token_ids)
      whole += make(number)['body_lens'] == length
    assert 4 <= whole <= 25  # a tenth of 126

  def test_a_block_of_one_sentence_gives_nothing(self, tmp_path):
    rows = [
      {'title': 'A', 'text': 'One in 1801 alone.'},
      {'title': 'B', 'text': 'One here in 1802. Two there.'},
    ]
    corpus = Corpus.open(tiny.make_corpus(tmp_path, rows))
    make = InverseCloze(corpus, LENGTHS)
    assert make(0) is None
    assert make(1) is not None

  def test_it_depends_on_seed_and_epoch(self, corpus):
    first = InverseCloze(corpus, LENGTHS, 1)
    assert_same(first(4, 2), InverseCloze(corpus, LENGTHS, 1)(4, 2))
    assert any(differ(first(4, 0), first(4, epoch)) for epoch in range(1, 40))


def test_generators_differ_by_each_of_their_numbers():
  values = {
    example_rng(*numbers).random()
    for numbers in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 2))
  }
  assert len(values) == 5


class TestSplitSentences:
  def test_held_out_sentences_are_never_trained_on(self, corpus):
    train, held_out = split_sentences(corpus, 7, with_spans=False)
    assert len(held_out) == 7
    assert sorted([*train, *held_out]) == list(range(126))
    assert (corpus.sentences.num_spans[held_out] > 0).all()

  def test_with_spans_and_without_hold_out_the_same(self, tmp_path):
    rows = [
      {'title': 'A', 'text': f'It was {1800 + n}. So it is here at all.'}
      for n in range(30)
    ]
    corpus = Corpus.open(tiny.make_corpus(tmp_path, rows))
    assert set(corpus.sentences.num_spans.tolist()) == {0, 1}
    everything, held_out = split_sentences(corpus, 500, with_spans=False)
    with_spans, again = split_sentences(corpus, 500, with_spans=True)
    assert held_out.tolist() == again.tolist()
    assert len(held_out) == 3  # at most a tenth
    assert len(everything) == 57
    assert (corpus.sentences.num_spans[with_spans] > 0).all()
    assert len(with_spans) == 27

  def test_a_corpus_without_spans_is_refused(self, tmp_path):
    corpus = tiny.make_corpus(tmp_path, [{'title': '', 'text': 'it is so.'}])
    with pytest.raises(UserError, match='has no salient spans: prepare it'):
      split_sentences(Corpus.open(corpus), 5, with_spans=True)


@pytest.mark.parametrize(
  ('name', 'value'),
  [('query_len', 7), ('document_len', 7), ('multiple', 0), ('max_masks', 0)],
)
def test_lengths_out_of_range_are_refused(name, value):
  with pytest.raises(UserError, match=f'{name} is {value}, expected at least'):
    Lengths(**{name: value})


class TestLengthsCheck:
  def test_a_block_that_would_be_cut_is_refused(self, tiny_corpus):
    corpus = Corpus.open(tiny_corpus)
    longest = int(corpus.block_lens.max())
    Lengths(query_len=8, document_len=longest).check(corpus, 8 + longest)
    with pytest.raises(UserError, match=f'--block-len {longest - 1}'):
      Lengths(query_len=8, document_len=longest - 1).check(corpus, 512)

  def test_too_few_positions_are_refused(self, tiny_corpus):
    corpus = Corpus.open(tiny_corpus)
    longest = int(corpus.block_lens.max())
    with pytest.raises(UserError, match='max_positions'):
      Lengths(query_len=8, document_len=longest).check(corpus, 7 + longest)
