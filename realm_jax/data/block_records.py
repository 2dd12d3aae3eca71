"""The blocks of ORQA and of Hugging Face's REALM: raw texts, row by row.

block_records.npy is an array of Python objects, and so one pickle, 12.6 GB of
it. It is not unpickled: its instructions are read one by one and those that
push bytes give the texts. Nothing is built, imported or called, whatever the
file says, and no more than a record is held.
"""

import io
import os
import pickletools
import tokenize
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from realm_jax.errors import UserError
from realm_jax.optional import require

NPY_MAGIC = b'\x93NUMPY'
TFRECORD_SUFFIXES = ('.tfr', '.tfrecord', '.tfrecords')
_MAX_RECORD = 16 << 20  # bytes; a block has some hundred words
_MAX_LINE = 1024  # bytes of a name
_BYTES = frozenset({'SHORT_BINBYTES', 'BINBYTES', 'BINBYTES8'})
_PUTS = frozenset({'BINPUT', 'LONG_BINPUT', 'MEMOIZE'})
_GETS = frozenset({'BINGET', 'LONG_BINGET'})
_IN_LIST = frozenset({'MARK', 'APPEND', 'APPENDS', 'FRAME'})
_AROUND_LIST = frozenset(
  """PROTO FRAME MARK EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 BININT BININT1
  BININT2 NONE NEWFALSE NEWTRUE REDUCE BUILD STOP STACK_GLOBAL""".split()  # noqa: SIM905
)
# What numpy names in the pickle of an array of objects; its dtype's parts.
_NAMES = frozenset(
  """numpy numpy.core.multiarray numpy._core.multiarray _reconstruct ndarray
  dtype O8 O |""".split()  # noqa: SIM905
)
_GLOBALS = frozenset(
  {
    'numpy.core.multiarray _reconstruct',
    'numpy._core.multiarray _reconstruct',
    'numpy ndarray',
    'numpy dtype',
  }
)


def read_block_records(path: Path) -> Iterator[str]:
  """The texts of all blocks, in the order of the block embeddings.

  Args:
    path: a .npy of bytes objects or of fixed-width bytes, one-dimensional; or
      a TFRecord file of raw strings.

  Raises:
    ImportError: it is a TFRecord file, and TensorFlow is not installed.
    UserError: it is damaged or holds anything else; a text is no UTF-8.
  """
  if path.suffix in TFRECORD_SUFFIXES:
    records = _read_tfrecord(path)
  else:
    records = _read_npy(path)
  for number, record in enumerate(records):
    try:
      yield record.decode()
    except UnicodeDecodeError as error:
      raise UserError(
        f'{path}: record {number} is no valid UTF-8 ({error}).'
      ) from error


def _read_tfrecord(path: Path) -> Iterator[bytes]:
  tensorflow = require('tensorflow', 'data')
  try:
    yield from tensorflow.data.TFRecordDataset(str(path)).as_numpy_iterator()
  except tensorflow.errors.OpError as error:
    raise UserError(f'{path} is no whole TFRecord file: {error}.') from error


def count_block_records(path: Path) -> int:
  """The number of texts that the header of a .npy promises.

  Raises:
    UserError: it is damaged or holds anything else.
  """
  with _open(path) as stream:
    return _read_header(path, stream)[0]


def _read_header(path: Path, stream: BinaryIO) -> tuple[int, np.dtype]:
  """The number of records and their dtype: objects, or bytes of one width."""
  try:
    version = np.lib.format.read_magic(stream)
    read_header = {
      (1, 0): np.lib.format.read_array_header_1_0,
      (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, _, dtype = read_header(stream)
  # What a crafted one can make numpy raise, besides ValueError.
  except (
    ValueError, KeyError, TypeError, SyntaxError, tokenize.TokenError,
    RecursionError, MemoryError,
  ) as error:  # fmt: skip
    raise UserError(f'{path} is no whole .npy file ({error}).') from error
  if len(shape) != 1 or dtype.kind not in 'OS' or not dtype.itemsize:
    raise UserError(
      f'{path} is an array {list(shape)} of {dtype}, expected one dimension '
      'of bytes: a text for each block.'
    )
  return shape[0], dtype


def _read_npy(path: Path) -> Iterator[bytes]:
  with _open(path) as stream:
    expected, dtype = _read_header(path, stream)
    if dtype.kind == 'S':
      yield from _fixed_width(path, stream, expected, dtype)
      return
    num_records = 0
    for record in _pickled_bytes(path, stream):
      num_records += 1
      if num_records <= expected:
        yield record
    if num_records != expected:
      raise UserError(
        f'{path} has {num_records} records, but its header says {expected}.'
      )


def _fixed_width(
  path: Path, stream: BinaryIO, num_records: int, dtype: np.dtype
) -> Iterator[bytes]:
  left = _bytes_left(stream)
  if not 0 <= num_records * dtype.itemsize <= left:
    raise UserError(
      f'{path} is damaged: its header says {num_records} records of '
      f'{dtype.itemsize} bytes, {left} bytes follow.'
    )
  if num_records:
    mapped = np.memmap(path, dtype, 'r', stream.tell(), (num_records,))
    yield from map(bytes, mapped)


def _bytes_left(stream: BinaryIO) -> int:
  return os.fstat(stream.fileno()).st_size - stream.tell()


class _Bounded(io.BufferedReader):
  """A file of which nothing long is read: memory is taken before it is."""

  def read(self, size: int | None = -1, /) -> bytes:
    """Some bytes; ValueError where they are more than a record has."""
    if size is None or not 0 <= size <= _MAX_RECORD:
      raise ValueError(
        f'a value of {size} bytes, expected at most {_MAX_RECORD}'
      )
    return super().read(size)

  def readline(self, size: int | None = -1, /) -> bytes:
    """A line; ValueError where it is longer than any name."""
    line = super().readline(_MAX_LINE)
    if len(line) == _MAX_LINE:
      raise ValueError(f'a line of more than {_MAX_LINE} bytes')
    return line


def _open(path: Path) -> _Bounded:
  return _Bounded(io.FileIO(path))


def _pickled_bytes(path: Path, stream: BinaryIO) -> Iterator[bytes]:
  """The bytes in the list of a pickled array of objects."""
  in_list = False
  num_lists = 0
  # Memo number -> where the instruction that pushed bytes is; -1 for others.
  places: array[int] = array('q')
  place = -1
  for name, argument, position in _instructions(path, stream):
    if name in _PUTS:
      if argument not in (None, len(places)):
        raise _refusal(path, f'keeps values out of order ({argument})')
      places.append(place)
      continue
    place = -1
    if name in _BYTES:
      place = position
      if in_list:
        yield argument
    elif in_list and name in _GETS:  # the same object again
      place = places[argument] if argument < len(places) else -1
      if place < 0:
        raise _refusal(path, 'has something other than bytes in its list')
      yield _bytes_at(path, place)
    elif name == 'EMPTY_LIST' and not num_lists:
      in_list, num_lists = True, 1
    elif in_list and name == 'TUPLE':  # of what the array is built from
      in_list = False
    elif name in ('GLOBAL', 'SHORT_BINUNICODE', 'BINUNICODE') and not in_list:
      if argument not in (_GLOBALS if name == 'GLOBAL' else _NAMES):
        raise _refusal(path, f'asks for {argument.replace(" ", ".")!r}')
    elif name not in (_IN_LIST if in_list else _AROUND_LIST | _GETS):
      raise _refusal(path, f'has the instruction {name}')


def _instructions(
  path: Path, stream: BinaryIO
) -> Iterator[tuple[str, Any, int]]:
  try:
    for opcode, argument, position in pickletools.genops(stream):
      yield opcode.name, argument, int(position or 0)
  except (ValueError, UnicodeDecodeError) as error:
    raise UserError(f'{path} is damaged: {error}.') from error


def _bytes_at(path: Path, position: int) -> bytes:
  with _open(path) as stream:
    stream.seek(position)
    _, record, _ = next(pickletools.genops(stream))
    assert isinstance(record, bytes)
    return record


def _refusal(path: Path, what: str) -> UserError:
  return UserError(
    f'{path} {what}, expected an array of bytes and nothing else. Nothing of '
    'it was run; do not load this file with other programs unless you trust '
    'who made it.'
  )
