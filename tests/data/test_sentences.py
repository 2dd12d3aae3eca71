# ruff: noqa: RUF001 (typographic marks are meant)
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.data.sentences import split_sentences


def split(text):
  return [text[start:stop] for start, stop in split_sentences(text)]


@pytest.mark.parametrize(
  'sentences',
  [
    ['He left.', 'She stayed!', 'Why?', 'Nobody knows.'],
    ['Dr. Smith met J. R. R. Tolkien in St. Louis.', 'They talked.'],
    ['The U.S. Army came.', 'It left the U.S.', 'The end.'],
    ['It is 3.5 km long, i.e. short, e.g. for cars.', '25 people came.'],
    ['Acme Inc. of Ohio made No. 5 in Jan. 1950.', 'In 1951 it closed.'],
    ['He worked for Acme Inc.', 'In 1951 he left.'],
    ['He said "Go home."', 'She went.'],
    ['It rained (a lot).', '(It often does.)', 'We went.'],
    ['"Who?" asked the owl.', 'Nobody answered.'],
    ['Wait... what is it?', 'Nothing.'],
    ['The text is tokenised .', 'So is this .', "`` Yes '' , he said ."],
    ['It is rich in vitamin C.', 'The body needs it.'],
    ['It began in 44 B.C.', 'The war ended soon.'],
    ['Prices rose by 4%.', '“Too much,” he said.', '‘Yes.’'],
    ['A first line', 'and a second one', 'No. 3 is the last'],
    ['It ended.[12]', 'Then it began.'],
    ['At 5 p.m. Eastern time it closed.', 'At 6 p.m.', 'The rest left.'],
    ['They were of modern art.', 'The answer was no.', 'He left.'],
  ],
)  # fmt: skip
def test_sentences_end_where_a_reader_ends_them(sentences):
  separator = '\n' if sentences[0] == 'A first line' else ' '
  assert split(separator.join(sentences)) == sentences


def test_an_initial_does_not_end_a_sentence_before_a_name():
  text = 'George W. Bush and Harry S. Truman met.'
  assert split(text) == [text]


@pytest.mark.parametrize('text', ['', '  \n ', '\n'])
def test_no_text_has_no_sentences(text):
  assert split_sentences(text) == []


@given(st.text(alphabet='aZ.!? \n"\'()U1', max_size=80) | st.text(max_size=80))
def test_ranges_are_in_order_and_hold_every_visible_character(text):
  ranges = split_sentences(text)
  flat = [bound for both in ranges for bound in both]
  assert flat == sorted(flat)
  for start, stop in ranges:
    assert text[start:stop] == text[start:stop].strip() != ''
  kept = ''.join(text[start:stop] for start, stop in ranges)
  assert ''.join(kept.split()) == ''.join(text.split())
