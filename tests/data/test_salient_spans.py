# ruff: noqa: RUF001 (typographic marks are meant)
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.data.rule_tagger import RuleTagger
from realm_jax.data.salient_spans import find_salient_spans
from realm_jax.data.sentences import split_sentences
from realm_jax.data.spans import Span, merge_spans


class WholeTextTagger:
  name = 'whole'
  kinds = ('ALL',)

  def tag(self, texts):
    return [[Span(0, len(text), 'ALL')] for text in texts]


def test_a_date_wins_over_the_entities_that_it_overlaps():
  dates = [Span(4, 9, 'DATE')]
  others = [
    Span(0, 4, 'A'), Span(2, 5, 'A'), Span(5, 7, 'A'), Span(3, 12, 'A'),
    Span(9, 11, 'A'),
  ]  # fmt: skip
  assert merge_spans(dates, others) == [others[0], dates[0], others[4]]


def test_spans_of_a_sentence_are_in_characters_of_the_block():
  text = 'Ada met Bob. On 2 May 1901 Eve left.'
  ranges = [(0, 12), (13, len(text))]
  first, second = find_salient_spans([text], [ranges], RuleTagger())[0]
  assert [text[s.start : s.stop] for s in first] == ['Ada', 'Bob']
  assert [(text[s.start : s.stop], s.kind) for s in second] == [
    ('2 May 1901', 'DATE'),
    ('Eve', 'ENTITY'),
  ]


def test_a_span_across_a_sentence_end_belongs_to_none():
  text = 'One two. Three four.'
  ranges = [(0, 8), (9, 20)]
  assert find_salient_spans([text], [ranges], WholeTextTagger()) == [[(), ()]]


def test_without_a_tagger_there_are_dates_alone():
  text = 'Ada was born in 1815.'
  spans = find_salient_spans([text], [[(0, len(text))]], None)
  assert spans == [[(Span(16, 20, 'DATE'),)]]


@given(st.text(alphabet="Aab .?1890'\n(“–,", max_size=120))
def test_spans_lie_in_their_sentences_without_overlap(text):
  ranges = split_sentences(text)
  spans = find_salient_spans([text], [ranges], RuleTagger())[0]
  for (start, stop), found in zip(ranges, spans, strict=True):
    bounds = [start, *(b for span in found for b in span[:2]), stop]
    assert bounds == sorted(bounds)
    assert all(span.start < span.stop for span in found)
