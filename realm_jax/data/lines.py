"""Text files read line by line, compressed or not.

Errors name the file and the line.
"""

import bz2
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from realm_jax.errors import UserError

_DAMAGED = (EOFError, OSError, lzma.LZMAError, zlib.error)
_PIECE = 1 << 17  # compressed bytes to read at a time
_SURROGATES = re.compile('[\ud800-\udfff]')  # "\\ud800" in JSON: no UTF-8
MAX_LINE_BYTES = 1 << 23  # decompressed; so that no file fills the memory


class _Decompressed(io.RawIOBase):
  """Compressed streams that follow each other, and nothing behind them.

  bz2.open and lzma.open take whatever is damaged behind the first stream for
  the end of the file.
  """

  def __init__(self, path: Path, make_decompressor: Callable[[], Any]):
    self._file = path.open('rb')
    self._make_decompressor = make_decompressor
    self._decompressor = make_decompressor()

  def readable(self) -> bool:
    return True

  def close(self) -> None:
    self._file.close()
    super().close()

  def readinto(self, buffer: Any) -> int:
    """Fills the buffer in part at least, unless the file ends."""
    while True:
      if self._decompressor.eof:
        piece = self._next_stream()
        if not piece:
          return 0
        self._decompressor = self._make_decompressor()
      elif self._decompressor.needs_input:
        piece = self._file.read(_PIECE)
        if not piece:
          raise EOFError('the compressed data ends too soon')
      else:
        piece = b''
      data = self._decompressor.decompress(piece, len(buffer))
      if data:
        buffer[: len(data)] = data
        return len(data)

  def _next_stream(self) -> bytes:
    """What follows a whole stream, without the zeros that may fill it up."""
    piece = self._decompressor.unused_data or self._file.read(_PIECE)
    while piece and not (stream := piece.lstrip(b'\0')):
      piece = self._file.read(_PIECE)
    return stream if piece else b''


_DECOMPRESSORS = (
  (b'BZh', bz2.BZ2Decompressor),
  (b'\xfd7zXZ\x00', lzma.LZMADecompressor),
)


def open_bytes(path: str | Path) -> BinaryIO:
  """Opens a file, decompressing bz2, gzip and xz, known by their first bytes.

  Raises:
    FileNotFoundError: there is no such file.
    UserError: it is a folder or a pipe, or cannot be read.
  """
  path = Path(path)
  try:
    if path.is_dir():
      raise UserError(f'{path} is a folder, expected a file.')
    if not path.exists():
      raise FileNotFoundError(f'{path} does not exist: expected a file.')
    if not path.is_file():
      raise UserError(
        f'{path} is a pipe or a device, expected a file: it is read more than '
        'once.'
      )
    with open(path, 'rb') as stream:
      head = stream.read(8)
    if head.startswith(b'\x1f\x8b'):
      return cast(BinaryIO, gzip.open(path, 'rb'))
    for magic, decompressor in _DECOMPRESSORS:
      if head.startswith(magic):
        raw = _Decompressed(path, decompressor)
        return cast(BinaryIO, io.BufferedReader(raw, _PIECE))
    return open(path, 'rb')
  except FileNotFoundError:
    raise
  except OSError as error:
    raise UserError(f'{path} cannot be read: {error}.') from error


def read_chunks(path: str | Path, size: int = 1 << 20) -> Iterator[bytes]:
  """The bytes of a file in pieces, decompressed.

  Raises:
    FileNotFoundError: there is no such file.
    UserError: it is truncated or damaged.
  """
  with open_bytes(path) as stream:
    while True:
      try:
        chunk = stream.read(size)
      except _DAMAGED as error:
        raise _damaged(path, error) from error
      if not chunk:
        return
      yield chunk


def read_head(path: str | Path, size: int = 4096) -> bytes:
  """The first bytes of a file, decompressed, without a byte order mark."""
  return next(read_chunks(path, size), b'').removeprefix(b'\xef\xbb\xbf')


def read_lines(path: str | Path) -> Iterator[tuple[int, str]]:
  """The lines of a UTF-8 file with their numbers, from 1, without line ends.

  Raises:
    FileNotFoundError: there is no such file.
    UserError: it is truncated, damaged or not UTF-8; a line is longer than
      MAX_LINE_BYTES.
  """
  with open_bytes(path) as stream:
    number = 0
    while True:
      number += 1
      try:
        line = stream.readline(MAX_LINE_BYTES + 1)
      except _DAMAGED as error:
        raise _damaged(path, error, f', line {number}') from error
      if not line:
        return
      if len(line) > MAX_LINE_BYTES:
        raise UserError(
          f'{path}, line {number}: longer than {MAX_LINE_BYTES:,} bytes. '
          'Expected text in lines of at most that length: cut it.'
        )
      try:
        text = line.decode('utf-8')
      except UnicodeDecodeError as error:
        raise UserError(
          f'{path}, line {number}: invalid UTF-8 at byte {error.start} of the '
          'line. Expected UTF-8: convert it first, for example with iconv.'
        ) from error
      if number == 1:
        text = text.removeprefix('\ufeff')
      yield number, text.rstrip('\r\n')


def whole_characters(text: str) -> str:
  """A text with halves of surrogate pairs replaced, which no file can hold."""
  return _SURROGATES.sub('\ufffd', text)


def read_json_lines(
  path: str | Path, expected: str
) -> Iterator[tuple[int, dict[str, Any]]]:
  """The JSON objects of a file, one a line, with line numbers.

  Blank lines are passed over.

  Args:
    path: the file.
    expected: what a line should be, for messages.

  Raises:
    FileNotFoundError: there is no such file.
    UserError: a line is not a JSON object, or the file cannot be read.
  """
  for number, line in read_lines(path):
    if not line.strip():
      continue
    try:
      row = json.loads(line)
    except (ValueError, RecursionError) as error:
      raise UserError(
        f'{path}, line {number}: not JSON ({error}). Expected {expected}, one '
        'a line.'
      ) from error
    if not isinstance(row, dict):
      raise UserError(
        f'{path}, line {number}: a JSON {type(row).__name__}, expected '
        f'{expected}, one a line.'
      )
    yield number, row


def read_json(path: str | Path, expected: str) -> Any:
  """A whole file as one JSON value.

  Raises:
    FileNotFoundError: there is no such file.
    UserError: it is not JSON, or cannot be read.
  """
  data = b''.join(read_chunks(path))
  try:
    return json.loads(data.decode('utf-8-sig'))
  except UnicodeDecodeError as error:
    raise UserError(
      f'{path}: invalid UTF-8 at byte {error.start}, expected {expected} in '
      'UTF-8.'
    ) from error
  except (ValueError, RecursionError) as error:
    raise UserError(
      f'{path}: not JSON ({error}). Expected {expected}.'
    ) from error


def _damaged(path: str | Path, error: Exception, where: str = '') -> UserError:
  return UserError(
    f'{path}{where}: cannot be read further, it is truncated or damaged '
    f'({error}). Fetch or make it again.'
  )
