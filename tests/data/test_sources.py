import bz2
import gzip
import json
from collections import Counter

import pytest

from realm_jax.data.sources import Article, read_source
from realm_jax.errors import UserError


def write_lines(path, *rows):
  path.write_text(''.join(f'{json.dumps(row)}\n' for row in rows))
  return path


def test_json_lines_give_an_article_a_line(tmp_path):
  path = write_lines(
    tmp_path / 'a.jsonl',
    {'title': 'A', 'text': 'One.', 'url': 'x'},
    {'text': 'Two.'},
    {'title': 'C', 'text': ' \n'},
  )
  skipped = Counter()
  assert list(read_source(path, skipped)) == [
    Article('A', 'One.'),
    Article('', 'Two.'),
  ]
  assert skipped == {'no text': 1}


def test_paragraphs_of_question_sets_are_articles_once(tmp_path):
  row = {'question': 'q', 'title': 'A', 'paragraph': 'One .'}
  other = {**row, 'paragraph': 'Two .'}
  path = write_lines(
    tmp_path / 'nq.jsonl', row, other, {**row, 'question': 'p'}
  )
  skipped = Counter()
  assert list(read_source(path, skipped)) == [
    Article('A', 'One .'),
    Article('A', 'Two .'),
  ]
  assert skipped == {'paragraph seen before': 1}


def test_squad_gives_an_article_a_title(tmp_path):
  content = {
    'version': '1.1',
    'data': [
      {
        'title': 'Nikola_Tesla',
        'paragraphs': [{'context': 'One.', 'qas': []}, {'context': 'Two.'}],
      }
    ],
  }
  path = tmp_path / 'squad.json'
  path.write_text(json.dumps(content, indent=1))
  assert list(read_source(path)) == [Article('Nikola Tesla', 'One.\nTwo.')]
  path.write_text('{"data": [{"title": "A"}]}')
  with pytest.raises(
    UserError, match=r'"data" entry 0.*paragraphs.*Expected SQuAD'
  ):
    list(read_source(path))


def test_a_dump_is_known_by_its_content_whatever_its_name(tmp_path):
  path = tmp_path / 'dump.bin'
  path.write_bytes(
    bz2.compress(
      b'<mediawiki><page><title>A</title><ns>0</ns><revision><text>'
      b"'''A''' is the first letter.</text></revision></page></mediawiki>"
    )
  )
  assert list(read_source(path)) == [Article('A', 'A is the first letter.')]


@pytest.mark.parametrize(
  'row, message',
  [
    ({'title': 'A'}, 'line 2: "text" is missing, expected a string'),
    ({'title': 'A', 'text': None}, 'line 2: "text" is None'),
    ({'title': 3, 'text': 'One.'}, 'line 2: "title" is 3'),
  ],
)
def test_a_line_without_text_names_file_and_line(tmp_path, row, message):
  path = write_lines(tmp_path / 'bad.jsonl', {'text': 'One.'}, row)
  with pytest.raises(UserError, match=f'bad.jsonl, {message}'):
    list(read_source(path))


@pytest.mark.parametrize(
  'content, message',
  [
    (b'', 'is empty'),
    (b' \n', 'is empty'),
    (b'title,text\n', 'no format known'),
  ],
)
def test_unknown_formats_are_refused_before_reading(tmp_path, content, message):
  path = tmp_path / 'a.csv'
  path.write_bytes(content)
  with pytest.raises(UserError, match=f'a.csv .*{message}.*JSON lines'):
    read_source(path)


def test_a_missing_file_is_found_before_reading(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'none.jsonl does not exist'):
    read_source(tmp_path / 'none.jsonl')


@pytest.mark.parametrize(
  'content, message',
  [
    (b'{"text": "' + b'x' * 10_000_000 + b'"}', 'longer than 8,388,608 bytes'),
    (b'{"text": ' + b'[' * 100_000, 'not JSON .*recursion'),
    (b'{"text": "a\0b"}', 'not JSON .*control character'),
    (b'{"text": "caf\xe9"}', 'invalid UTF-8 at byte 13'),
  ],
)
def test_lines_that_cannot_be_read_are_refused(tmp_path, content, message):
  path = tmp_path / 'a.jsonl'
  path.write_bytes(b'{"text": "One."}\n' + content)
  with pytest.raises(UserError, match=f'a.jsonl, line 2: {message}'):
    list(read_source(path))


def test_damage_within_compressed_data_is_refused(tmp_path):
  rows = b''.join(b'{"text": "%d"}\n' % i**5 for i in range(20_000))
  content = bytearray(gzip.compress(rows))
  content[50_000:50_040] = b'\xff' * 40
  path = tmp_path / 'a.jsonl.gz'
  path.write_bytes(content)
  with pytest.raises(UserError, match=r'a.jsonl.gz.*(damaged|not JSON|UTF-8)'):
    list(read_source(path))
