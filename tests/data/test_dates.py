# ruff: noqa: RUF001 (typographic marks are meant)
import pytest

from realm_jax.data.dates import find_dates


def dates(text):
  return [text[span.start : span.stop] for span in find_dates(text)]


@pytest.mark.parametrize(
  'date',
  [
    '14 March 1432', 'March 14, 1432', 'March 1432', '14 March', 'March 14th',
    '14th of March 1432', '14–16 March 1432', 'March 14–16, 1432',
    'June–July 1944', '1432', '2024', '1914–1918', '1914–18', '1914 to 1918',
    '1920s', '1920s–1930s', '19th century', 'sixteenth century',
    'twenty-first century', '3rd century BC', '44 BC', 'AD 79', '480–323 BC',
    'Sept. 3, 1939', '1 May 44 BC', 'March 14 , 1432', '2007/08',
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
