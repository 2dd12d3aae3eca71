"""Pickled arrays of bytes: texts come out, and nothing runs."""

import pickle
import struct

import numpy as np
import pytest

from realm_jax.data.block_records import count_block_records, read_block_records
from realm_jax.errors import UserError

TEXTS = [
  'A block.',
  '',
  '',
  'Größe',
  'x',
  'x',
  'long ' * 100,
  *map(str, range(2000)),
]
RECORDS = [text.encode() for text in TEXTS]


def objects(values) -> np.ndarray:
  array = np.empty(len(values), object)
  array[:] = values
  return array


def write(path, value, protocol=4, shape=None):
  """A .npy with any pickle as its data, as numpy would write it."""
  header = {
    'shape': np.shape(value) if shape is None else shape,
    'fortran_order': False,
    'descr': '|O',
  }
  with open(path, 'wb') as stream:
    np.lib.format.write_array_header_1_0(stream, header)
    pickle.dump(value, stream, protocol=protocol)
  return path


@pytest.mark.parametrize('protocol', [3, 4, 5])
def test_texts_come_back(tmp_path, protocol):
  again = [*RECORDS, RECORDS[6]]  # one object twice
  path = write(tmp_path / 'blocks.npy', objects(again), protocol)
  assert list(read_block_records(path)) == [*TEXTS, TEXTS[6]]


def test_what_numpy_saves_comes_back(tmp_path):
  np.save(tmp_path / 'objects.npy', objects(RECORDS), allow_pickle=True)
  np.save(tmp_path / 'fixed.npy', np.array(RECORDS))
  for name in ('objects.npy', 'fixed.npy'):
    assert list(read_block_records(tmp_path / name)) == TEXTS


class Mischief:
  def __init__(self, function, *arguments):
    self.call = function, arguments

  def __reduce__(self):
    return self.call


@pytest.mark.parametrize('protocol', [0, 2, 3, 4, 5])
@pytest.mark.parametrize('inside', [True, False])
def test_a_pickle_with_anything_else_runs_nothing(tmp_path, protocol, inside):
  victim = tmp_path / 'victim'
  mischief = Mischief(eval, f'open({str(victim)!r}, "w")')
  value = objects([b'good', mischief, b'good']) if inside else mischief
  path = write(tmp_path / 'blocks.npy', value, protocol, shape=(3,))
  with pytest.raises(UserError, match='Nothing of it was run'):
    list(read_block_records(path))
  assert not victim.exists()
  # It is mischief indeed: numpy's reader falls for it.
  np.load(path, allow_pickle=True)
  assert victim.exists()


@pytest.mark.parametrize(
  'value', ['text', 7, None, [b'list'], (b'tuple',), {b'a': b'b'}, 1.5]
)
def test_only_bytes_are_records(tmp_path, value):
  path = write(tmp_path / 'blocks.npy', objects([b'a', value]))
  with pytest.raises(UserError, match='expected an array of bytes'):
    list(read_block_records(path))


def test_damage_is_said(tmp_path):
  whole = write(tmp_path / 'whole', objects(RECORDS))
  cut = tmp_path / 'cut'
  cut.write_bytes(whole.read_bytes()[:-50])
  header = tmp_path / 'header'
  header.write_bytes(whole.read_bytes()[:40])
  np.save(tmp_path / 'floats.npy', np.zeros(3))
  np.save(tmp_path / 'table.npy', np.array([RECORDS[:2]]))
  cases = {
    'is damaged': cut,
    'no whole .npy': header,
    r'array \[3\] of float64': tmp_path / 'floats.npy',
    r'array \[1, 2\]': tmp_path / 'table.npy',
    'has 2 records, but its header says 3': write(
      tmp_path / 'few', objects([b'a', b'b']), shape=(3,)
    ),
    'record 1 is no valid UTF-8': write(
      tmp_path / 'latin', objects([b'a', b'\xe9'])
    ),
  }
  for words, path in cases.items():
    with pytest.raises(UserError, match=words):
      list(read_block_records(path))


def test_the_header_tells_how_many_there_are(tmp_path):
  np.save(tmp_path / 'fixed.npy', np.array(RECORDS))
  assert count_block_records(tmp_path / 'fixed.npy') == len(RECORDS)
  np.save(tmp_path / 'floats.npy', np.zeros(3))
  with pytest.raises(UserError, match='expected one dimension of bytes'):
    count_block_records(tmp_path / 'floats.npy')


def npy(path, header, data=b''):
  """A file with any header and any data."""
  text = header.encode().ljust(117) + b'\n'
  size = struct.pack('<H', len(text))
  path.write_bytes(b'\x93NUMPY\x01\x00' + size + text + data)
  return path


@pytest.mark.parametrize(
  'opcode', [b'\x8e', b'\x8d', b'\x96']
)  # BINBYTES8, BINUNICODE8, BYTEARRAY8
@pytest.mark.parametrize('size', [1 << 40, (1 << 63) - 1, 1 << 63, 1 << 25])
def test_nothing_long_is_read(tmp_path, opcode, size):
  header = "{'descr': '|O', 'fortran_order': False, 'shape': (3,)}"
  data = b'\x80\x04]' + opcode + struct.pack('<Q', size) + b'abc'
  with pytest.raises(UserError, match='is damaged'):
    list(read_block_records(npy(tmp_path / 'a.npy', header, data)))
  with pytest.raises(UserError, match='is damaged: a line of more than'):
    path = npy(tmp_path / 'b.npy', header, b'c' + b'x' * 9999)
    list(read_block_records(path))


@pytest.mark.parametrize(
  'shape, kind, message',
  [
    ('(3,)', 'S7', '3 records of 7 bytes, 20 bytes follow'),
    (f'({1 << 62},)', 'S7', 'bytes follow'),
    ('(-3,)', 'S7', 'bytes follow'),
    (f'({1 << 62},)', 'S0', 'expected one dimension of bytes'),
    ('(' * 3000, 'O', r'no whole \.npy'),
    ('(3,', 'O', r'no whole \.npy'),
  ],
)
def test_a_header_may_say_anything(tmp_path, shape, kind, message):
  header = f"{{'descr': '|{kind}', 'fortran_order': False, 'shape': {shape}}}"
  path = npy(tmp_path / 'a.npy', header, b'x' * 20)
  with pytest.raises(UserError, match=message):
    list(read_block_records(path))


def test_tensorflow_records(tmp_path):
  tensorflow = pytest.importorskip('tensorflow')
  path = tmp_path / 'blocks.tfr'
  with tensorflow.io.TFRecordWriter(str(path)) as writer:
    for record in RECORDS:
      writer.write(record)
  assert list(read_block_records(path)) == TEXTS
  path.write_bytes(path.read_bytes()[:-3])
  with pytest.raises(UserError, match='no whole TFRecord'):
    list(read_block_records(path))
  path.write_bytes(struct.pack('<Q', 1 << 60) + b'x' * 20)
  with pytest.raises(UserError, match='no whole TFRecord'):
    list(read_block_records(path))
