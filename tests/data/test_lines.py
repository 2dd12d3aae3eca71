import bz2
import gzip
import lzma

import pytest

from realm_jax.data.lines import (
  read_head,
  read_json,
  read_json_lines,
  read_lines,
)
from realm_jax.errors import UserError


@pytest.mark.parametrize(
  'compress', [bytes, bz2.compress, gzip.compress, lzma.compress]
)
def test_lines_are_read_through_any_compression(tmp_path, compress):
  path = tmp_path / 'lines'
  path.write_bytes(compress('\ufeffone\r\ntwö\n\nfour'.encode()))
  assert list(read_lines(path)) == [
    (1, 'one'),
    (2, 'twö'),
    (3, ''),
    (4, 'four'),
  ]
  assert read_head(path, 4) == b'o'  # what follows the byte order mark


@pytest.mark.parametrize(
  'compress', [bz2.compress, gzip.compress, lzma.compress]
)
def test_a_truncated_file_names_itself(tmp_path, compress):
  path = tmp_path / 'cut'
  whole = compress(b''.join(b'%d\n' % (i**3) for i in range(9000)))
  path.write_bytes(whole[: len(whole) // 2])
  with pytest.raises(UserError, match=r'cut, line \d+: .*truncated or damaged'):
    list(read_lines(path))


def test_invalid_utf8_names_file_and_line(tmp_path):
  path = tmp_path / 'latin'
  path.write_bytes(b'{"a": 1}\n{"a": "caf\xe9"}\n')
  with pytest.raises(
    UserError, match=r'latin, line 2: invalid UTF-8 at byte 10'
  ):
    list(read_json_lines(path, 'an object'))


@pytest.mark.parametrize(
  'line, message',
  [('{"a": ', 'line 3: not JSON'), ('[1]', 'line 3: a JSON list')],
)
def test_a_line_that_is_no_object_names_file_and_line(tmp_path, line, message):
  path = tmp_path / 'rows.jsonl'
  path.write_text(f'{{"a": 1}}\n\n{line}\n')
  with pytest.raises(
    UserError, match=f'rows.jsonl, {message}.*Expected|expected'
  ):
    list(read_json_lines(path, 'an object'))


def test_missing_files_and_folders_are_told_apart(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'does not exist'):
    list(read_lines(tmp_path / 'none'))
  with pytest.raises(UserError, match=r'is a folder'):
    list(read_lines(tmp_path))


def test_a_whole_file_that_is_not_json_is_refused(tmp_path):
  path = tmp_path / 'whole.json'
  path.write_bytes(b'{"a": [}')
  with pytest.raises(UserError, match=r'whole.json: not JSON'):
    read_json(path, 'an object')
  path.write_bytes(b'"\xff"')
  with pytest.raises(UserError, match=r'invalid UTF-8 at byte 1'):
    read_json(path, 'an object')
