import gzip
from collections import Counter

import pytest

from realm_jax.data import text_sources
from realm_jax.data.sources import Article, read_source
from realm_jax.errors import UserError


def test_a_text_file_is_an_article_called_as_the_file(tmp_path):
  path = tmp_path / 'St. Ives.v2.TXT'
  path.write_bytes('\ufeffErste Zeile.\r\n\r\n"Zweite"\tZeile.'.encode())
  text = 'Erste Zeile.\n\n"Zweite"\tZeile.'
  assert list(read_source(path)) == [Article('St. Ives.v2', text)]
  packed = tmp_path / 'Packed.txt.gz'
  packed.write_bytes(gzip.compress(b'{ is no JSON, < no XML', mtime=0))
  assert list(read_source(packed)) == [
    Article('Packed', '{ is no JSON, < no XML')
  ]


def test_json_and_xml_are_known_though_they_are_called_txt(tmp_path):
  path = tmp_path / 'a.txt'
  path.write_text(' {"title": "A", "text": "One."}\n')
  assert list(read_source(path)) == [Article('A', 'One.')]
  path.write_text('<mediawiki></mediawiki>')
  assert list(read_source(path)) == []


def test_a_folder_of_texts_is_read_in_order_with_its_sub_folders(tmp_path):
  (tmp_path / 'b').mkdir()
  (tmp_path / 'b' / 'c.txt').write_text('Three.')
  (tmp_path / 'b.txt').write_text('Two.')
  (tmp_path / 'a.txt').write_text('One.')
  (tmp_path / 'empty.txt').write_text('\n')
  skipped = Counter()
  assert list(read_source(tmp_path, skipped)) == [
    Article('a', 'One.'),
    Article('b', 'Two.'),
    Article('c', 'Three.'),
  ]
  assert skipped == {'empty file': 1}


def test_a_long_text_is_cut_at_line_ends_and_loses_nothing(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(text_sources, 'MAX_ARTICLE_CHARS', 11)
  lines = ['12345', '67890', 'a line that is longer', '', 'end']
  (tmp_path / 'a.txt').write_text('\n'.join(lines))
  articles = list(read_source(tmp_path))
  assert [article.text for article in articles] == [
    '12345\n67890',
    'a line that is longer',
    '\nend',
  ]
  assert {article.title for article in articles} == {'a'}


@pytest.mark.parametrize(
  'content, message',
  [
    (b'One.\nTw\0o.', 'line 2: a null byte'),
    (b'One.\n\xff.', 'line 2: invalid UTF-8 at byte 0'),
    ('One.'.encode('utf-16'), 'line 1: invalid UTF-8'),
    (b'One.\n' + b'x' * 10_000_000, 'line 2: longer than 8,388,608 bytes'),
    (gzip.compress(b'One.\n' * 9, mtime=0)[:-9], '.*truncated or damaged'),
  ],
)
def test_what_is_no_text_names_file_and_line(tmp_path, content, message):
  (tmp_path / 'a.txt').write_bytes(content)
  with pytest.raises(UserError, match=rf'a\.txt(, |: ){message}'):
    list(read_source(tmp_path))
