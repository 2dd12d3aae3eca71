import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.eval import answers

TEXTS = st.text(alphabet='aAbé É1,.-_ \n\u0301', max_size=9)


def test_normalising_drops_articles_as_words_only():
  assert answers.normalize_answer(' An  anthem of THE  theatre!') == (
    'anthem of theatre'
  )


@given(TEXTS)
def test_an_answer_matches_itself(text):
  assert answers.exact_match(text, ['something else', text])
  assert answers.f1(text, ['something else', text]) == 1


def test_no_answer_is_matched_by_nothing():
  assert not answers.exact_match('x', [])
  assert answers.f1('x', []) == 0
  assert not answers.regex_match('x', [])
  assert not answers.has_answer('x', [])


def test_f1_is_that_of_the_best_answer():
  # Of 'red river' and 'red river valley': precision 1, recall 2/3.
  value = answers.f1('the Red River', ['blue', 'red river valley'])
  assert value == pytest.approx(2 * 1 * (2 / 3) / (1 + 2 / 3))


def test_f1_counts_repeated_words():
  # One of its two words is common: precision 1/2, recall 1.
  assert answers.f1('bora bora', ['bora']) == pytest.approx(2 / 3)
  # Both are: precision 1, recall 2/3.
  assert answers.f1('bora bora', ['bora bora isle']) == pytest.approx(4 / 5)


def test_f1_of_no_words():
  assert answers.f1('the', ['an']) == 1
  assert answers.f1('the', ['x']) == 0


def test_expression_is_anchored_unless_told():
  assert answers.regex_match('June 4', ['june [0-9]'])
  assert not answers.regex_match('on June 4', ['june [0-9]'])
  assert answers.regex_match('on June 4', ['june [0-9]'], anchored=False)


def test_bad_expression_spoils_no_other():
  assert answers.regex_match('x', ['(', 'x'])


def test_missing_prediction_is_wrong():
  counted = answers.evaluate_predictions(
    {'q1': 'the a b', 'q9': 'c'}, {'q1': ['A B'], 'q2': ['c'], 'q3': ['d']}
  )
  assert counted == (1, 2, 3)
  assert counted.accuracy == 1 / 3


@pytest.mark.parametrize(
  'text, answer, by_words, official',
  [
    ('in 18210 souls', '1821', False, True),
    ('a party', 'art', False, True),
    ('the art, he said', 'art', True, True),
    ('The Beatles sang', 'the beatles', True, False),
    ('New  York', 'New York', True, False),
    ('New\nYork', 'New York', True, False),
    ('Newyork', 'New York', False, False),
    ('a café', 'cafe', False, False),
    ('a cafe\u0301', 'CAF\u00c9', True, False),
    ('U.S.A', 'U. S. A', True, False),
    ('twenty - one', 'twenty-one', True, False),
    ('twenty one', 'twenty-one', False, False),
    ('snake_case', 'case', True, True),
    ('xa b a b a', 'a b a', True, True),
    ('xa b ab a', 'a b a', False, True),
    ('cost $5.', '$5', True, True),
    ('cost $55', '$5', False, True),
    ('anything', '', False, False),
    ('any thing', ' ', False, True),
    ('', 'x', False, False),
  ],
)
def test_two_rules_of_what_a_text_holds(text, answer, by_words, official):
  assert answers.has_answer(text, ['missing', answer]) is by_words
  assert answers.has_answer(text, [answer], rule='official') is official


def test_default_rule_is_words():
  assert not answers.has_answer('a party', ['art'])


def _pieces(text):
  """The words and marks of a text, as DPR's tokenizer cuts them."""
  return re.findall('[a-z0-9\u0301]+|[^\\s]', answers._fold(text))


@given(TEXTS, TEXTS)
def test_words_rule_equals_search_in_lists_of_pieces(text, answer):
  haystack, needle = _pieces(text), _pieces(answer)
  expected = bool(needle) and any(
    haystack[i : i + len(needle)] == needle for i in range(len(haystack))
  )
  assert answers.has_answer(text, [answer]) is expected


def test_text_holds_an_expression_anywhere():
  assert answers.has_answer('it was June 4', ['june [0-9]'], is_regex=True)
  assert not answers.has_answer('it was May 4', ['june', '('], is_regex=True)


def test_unknown_rule_is_named():
  with pytest.raises(ValueError, match='dpr'):
    answers.has_answer('x', ['x'], rule='dpr')


def test_spans_are_ranges_of_the_text_as_it_is():
  text = 'É, le CAFÉ Müller: un café; cafés. New\n York'
  spans = answers.answer_spans(text, ['café', 'new york', 'Café Muller'])
  assert [text[start:stop] for start, stop in spans] == [
    'CAFÉ',
    'café',
    'New\n York',
  ]


def test_spans_that_overlap_keep_the_first_and_longer():
  text = 'red river valley river'
  spans = answers.answer_spans(text, ['river valley', 'red river', 'river'])
  assert [text[start:stop] for start, stop in spans] == ['red river', 'river']


@given(TEXTS, TEXTS)
def test_there_is_a_span_where_the_text_holds_the_answer(text, answer):
  spans = answers.answer_spans(text, [answer])
  assert bool(spans) == answers.has_answer(text, [answer])
