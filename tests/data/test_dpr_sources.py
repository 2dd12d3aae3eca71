import gzip
from collections import Counter

import pytest

from realm_jax.data import dpr_sources
from realm_jax.data.sources import Article, read_source
from realm_jax.errors import UserError

HEADER = 'id\ttext\ttitle\n'
# The first two rows of psgs_w100.tsv, shortened, and a filling as in its last.
AARON = (
  '1\t"Aaron Aaron ( or ; ""Ahärôn"") is a prophet. Part of the Law (Torah) '
  'that Moses received from"\tAaron\n'
  '2\t"God at Sinai granted Aaron the priesthood. He died. Aaron Aaron ( or ; '
  '""Ahärôn"") is a"\tAaron\n'
)


def write_table(path, rows, header=HEADER):
  path.write_text(header + rows)
  return path


def test_rows_of_a_title_are_joined_and_the_filling_is_taken_off(tmp_path):
  path = tmp_path / 'psgs_w100.tsv.gz'
  rows = AARON + '3\tAn anchor.\t"Anchor ""A"""\n4\tNo title.\t\n5\tNone.\t\n'
  path.write_bytes(gzip.compress((HEADER + rows).encode()))
  assert list(read_source(path)) == [
    Article(
      'Aaron',
      'Aaron Aaron ( or ; "Ahärôn") is a prophet. Part of the Law (Torah) that '
      'Moses received from God at Sinai granted Aaron the priesthood. He died.',
    ),
    Article('Anchor "A"', 'An anchor.'),
    Article('', 'No title.'),
    Article('', 'None.'),
  ]


def test_a_short_article_that_fills_its_row_several_times_comes_once(tmp_path):
  text = 'Ede Ede is a small village. Ede Ede is a small village. Ede Ede is a'
  path = write_table(tmp_path / 'a.tsv', f'1\t{text}\tEde\n')
  assert list(read_source(path)) == [
    Article('Ede', 'Ede Ede is a small village.')
  ]


def test_an_end_that_repeats_few_words_or_an_earlier_row_stays(tmp_path):
  rows = '1\tEde is a town of men.\tEde\n2\tBig is Ede is a\tEde\n'
  rows += '3\tOnce one two three four\tB\n4\tOnce one two three four five\tB\n'
  rows += '5\tIt is one two three\tC\n6\tBig It is one\tC\n7\ttwo three\tC\n'
  rows += '8\tA whole row again\tD\n9\tA whole row again\tD\n'
  path = write_table(tmp_path / 'a.tsv', rows)
  assert [article.text for article in read_source(path)] == [
    'Ede is a town of men. Big is Ede is a',
    'Once one two three four Once one two three four five',
    'It is one two three Big It is one two three',
    'A whole row again A whole row again',
  ]


def test_columns_may_stand_in_another_order_and_empty_rows_are_counted(
  tmp_path,
):
  path = write_table(
    tmp_path / 'a.txt',
    'A\t1\tOne.\nB\t2\t \n\nC\t3\tThree.\n',
    'title\tid\ttext\n',
  )
  skipped = Counter()
  assert list(read_source(path, skipped)) == [
    Article('A', 'One.'),
    Article('C', 'Three.'),
  ]
  assert skipped == {'no text': 1}


def test_memory_is_bounded_for_a_title_without_end(tmp_path, monkeypatch):
  monkeypatch.setattr(dpr_sources, '_MAX_ROWS', 3)
  rows = ''.join(f'{i}\tRow {i}.\tA\n' for i in range(5))
  path = write_table(tmp_path / 'a.tsv', rows)
  assert list(read_source(path)) == [
    Article('A', 'Row 0. Row 1. Row 2.'),
    Article('A', 'Row 3. Row 4.'),
  ]


@pytest.mark.parametrize(
  'row, message',
  [
    ('2\tTwo.', 'line 3: 2 columns. Expected three columns'),
    ('2\t"Two" he said.\tA', "line 3: no row of a table .*'\"'"),
    ('2\t"Two.\tA\n3\tThree.\tB', 'line 4: no row .*unexpected end'),
    (f'2\t{"x" * 150_000}\tA', 'line 3: no row .*field larger than'),
  ],
)
def test_a_bad_row_names_file_and_line(tmp_path, row, message):
  path = write_table(tmp_path / 'a.tsv', f'1\tOne.\tA\n{row}\n')
  with pytest.raises(UserError, match=f'a.tsv, {message}'):
    list(read_source(path))
