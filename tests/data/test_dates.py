# ruff: noqa: RUF001 (typographic marks are meant)
import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.data.dates import find_dates
from realm_jax.data.sentences import split_sentences
from realm_jax.data.sources import read_source

REALTEXT = Path(__file__).resolve().parents[2] / '..' / 'shared' / 'realtext'
CASES = [
  line
  for line in Path(__file__)
  .with_name('date_cases.txt')
  .read_text(encoding='utf-8')
  .splitlines()
  if line and not line.startswith('#')
]


def dates(text):
  return [text[span.start : span.stop] for span in find_dates(text)]


def mark_dates(text):
  """The text with its dates in braces, as in date_cases.txt."""
  pieces = []
  stop = 0
  for span in find_dates(text):
    pieces += text[stop : span.start], '{', text[span.start : span.stop], '}'
    stop = span.stop
  return ''.join([*pieces, text[stop:]])


@pytest.mark.parametrize('marked', CASES)
def test_the_dates_of_a_sentence_are_found_and_nothing_else(marked):
  assert mark_dates(re.sub('[{}]', '', marked)) == marked


def test_the_table_has_cases_with_and_without_dates():
  assert len(CASES) == len(set(CASES)) > 250
  without = [case for case in CASES if '{' not in case]
  assert len(without) > 70


@pytest.mark.parametrize(
  'date',
  [
    '14 March 1432', 'March 14, 1432', 'March 1432', '14 March', 'March 14th',
    '14th of March 1432', '14–16 March 1432', 'March 14–16, 1432',
    'June–July 1944', '1432', '2024', '1914–1918', '1914–18', '1914 to 1918',
    '1920s', '1920s–1930s', '19th century', 'sixteenth century',
    'twenty-first century', '3rd century BC', '44 BC', 'AD 79', '480–323 BC',
    'Sept. 3, 1939', '1 May 44 BC', 'March 14 , 1432', '2007/08',
    'spring of 1432', 'late 1432', 'mid-1920s', '’60s', '2001-09-11',
    '9/11/2001', 'late 18th and early 19th centuries', '1990s to the present',
    'June, July and May 1944',
  ],
)  # fmt: skip
@pytest.mark.parametrize('around', ['It began in {}.', 'It ({}) was', '{} saw'])
def test_a_written_date_is_found_whole(date, around):
  assert dates(around.format(date)) == [date]


@pytest.mark.parametrize(
  'text',
  [
    'He may march in May with 14 men.', 'some 2000 people came',
    'over 1,500 of them', 'at 1432 metres', 'room 1432', '$1500 a month',
    'the 0999 line', '12345 items', '3100 km', 'about 2.1432', 'ISO 1432',
    'a 1500-ton ship', '1500% more', 'x = 1432', 'the Boeing 747', 'June',
    'more than 1800 votes', 'MC1432', '1500.5',
  ],
)  # fmt: skip
def test_other_numbers_and_months_are_no_dates(text):
  assert dates(text) == []


def test_dates_of_one_text_come_in_order():
  text = 'Born 2 May 1901 (or 1902), she wrote in the 1920s.'
  assert dates(text) == ['2 May 1901', '1902', '1920s']


def test_no_date_crosses_a_line_end():
  assert dates('It was May\n1901\n–\n1905') == ['1901', '1905']
  assert dates('the 2nd\nto 5th\ncentury of\nspring\n1901') == ['1901']


WORDS = [
  '1914', '18', '3', '1920s', "'60s", '2001-09-11', 'May', 'March', 'Sept.',
  'spring', 'early', 'mid-', 'Sunday', '19th', 'second', 'century', 'centuries',
  'BC', 'AD', 'c.', 'in', 'the', 'of', 'to', 'and', '–', '-', ',', '.', '/',
  '(', "'", 'km', '\n',
]  # fmt: skip


@given(st.lists(st.sampled_from([*WORDS, *5 * [' ']]), max_size=25))
def test_dates_never_overlap_and_begin_and_end_with_a_mark_of_theirs(words):
  text = ''.join(words)
  spans = find_dates(text)
  bounds = [bound for span in spans for bound in span[:2]]
  assert bounds == sorted(bounds)
  for date in dates(text):
    assert date == date.strip()
    assert '\n' not in date
    assert re.search(r'\d|century|centuries', date)


@pytest.mark.skipif(
  not REALTEXT.is_dir(), reason='../shared/realtext is absent'
)
def test_no_date_of_real_text_crosses_a_sentence_end():
  crossing = []
  articles = itertools.islice(
    read_source(REALTEXT / 'nq_paragraphs.jsonl'), 300
  )
  for article in articles:
    stops = [stop for _, stop in split_sentences(article.text)]
    for span in find_dates(article.text):
      if any(span.start < stop < span.stop for stop in stops):
        crossing.append(article.text[span.start - 20 : span.stop + 20])
  assert crossing == []
