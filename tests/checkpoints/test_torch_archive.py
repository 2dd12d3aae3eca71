"""Archives are written here by hand: PyTorch is not needed to read them."""

import collections
import io
import pickle
import sys
import types
import zipfile

import numpy as np
import pytest

from realm_jax.checkpoints.torch_archive import read_torch_archive
from realm_jax.errors import UserError

STORAGES = {'<f4': 'FloatStorage', '<f8': 'DoubleStorage', '<i8': 'LongStorage'}


@pytest.fixture
def torch(monkeypatch):
  """Names that a pickle can speak of, without PyTorch."""
  for module in ('torch', 'torch._utils'):
    monkeypatch.setitem(sys.modules, module, types.ModuleType(module))

  def named(module, name):
    function = types.FunctionType((lambda: None).__code__, {}, name)
    function.__module__, function.__qualname__ = module, name
    setattr(sys.modules[module], name, function)
    return function

  names = {name: named('torch', name) for name in STORAGES.values()}
  for name in ('_rebuild_tensor_v2', '_rebuild_parameter'):
    names[name] = named('torch._utils', name)
  return names


class Tensor:
  """Pickled as torch pickles a tensor."""

  def __init__(self, torch, key, values, shape, strides, start=0):
    self.arguments = (torch, key, values)
    self.layout = (start, shape, strides)

  def __reduce__(self):
    torch, key, values = self.arguments
    storage = Storage(torch[STORAGES[values.dtype.str]], key, values.size)
    layout = (*self.layout, False, collections.OrderedDict())
    return torch['_rebuild_tensor_v2'], (storage, *layout)


class Storage(collections.namedtuple('Storage', 'kind key size')):
  """Known to the pickle by its place in the archive."""


class Pickler(pickle.Pickler):
  def persistent_id(self, value):
    if isinstance(value, Storage):
      return ('storage', value.kind, value.key, 'cpu', value.size)
    return None


def write(path, state, storages=(), compression=zipfile.ZIP_STORED, protocol=2):
  stream = io.BytesIO()
  Pickler(stream, protocol=protocol).dump(state)
  with zipfile.ZipFile(path, 'w', compression) as archive:
    archive.writestr('archive/data.pkl', stream.getvalue())
    for key, values in storages:
      archive.writestr(f'archive/data/{key}', values.tobytes())
  return path


@pytest.fixture
def values():
  return np.arange(12, dtype=np.float32) * 1.5


def test_tensors_are_read_in_any_layout(tmp_path, torch, values):
  whole = np.array([7, -8], np.int64)
  path = write(
    tmp_path / 'm.bin',
    collections.OrderedDict(
      weight=Tensor(torch, '0', values, (3, 4), (4, 1)),
      transposed=Tensor(torch, '0', values, (4, 3), (1, 4)),
      part=Tensor(torch, '0', values, (2,), (3,), start=5),
      ids=Tensor(torch, '1', whole, (1, 2), (2, 1)),
      empty=Tensor(torch, '1', whole, (0, 5), (5, 1)),
      version=3,
    ),
    [('0', values), ('1', whole)],
  )
  found = read_torch_archive(path)
  assert found.keys() == {'weight', 'transposed', 'part', 'ids', 'empty'}
  weight = values.reshape(3, 4)
  np.testing.assert_array_equal(found['weight'].read(), weight)
  np.testing.assert_array_equal(found['transposed'].read(), weight.T)
  np.testing.assert_array_equal(found['part'].read(), values[[5, 8]])
  np.testing.assert_array_equal(found['ids'].read(), whole[None])
  assert found['ids'].read().dtype == np.int64
  assert found['empty'].read().shape == (0, 5)


class Mischief:
  def __init__(self, function, *arguments):
    self.call = function, arguments

  def __reduce__(self):
    return self.call


@pytest.mark.parametrize(
  'function, name',
  [(open, 'open'), (eval, 'eval'), (getattr, 'getattr'), (exec, 'exec')],
)
def test_a_pickle_that_calls_anything_else_runs_nothing(
  tmp_path, function, name
):
  victim = tmp_path / 'victim'
  arguments = {
    'open': (str(victim), 'w'),
    'eval': (f'open({str(victim)!r}, "w")',),
    'exec': (f'open({str(victim)!r}, "w")',),
    'getattr': (victim, 'touch'),
  }[name]
  path = write(tmp_path / 'm.bin', {'weight': Mischief(function, *arguments)})
  with pytest.raises(UserError, match='Nothing of it was run'):
    read_torch_archive(path)
  assert not victim.exists()


@pytest.mark.parametrize(
  'shape, strides, start',
  [((13,), (1,), 0), ((3, 5), (4, 1), 0), ((2,), (1,), 11), ((1,), (1,), 12)],
)
def test_a_tensor_may_not_leave_its_storage(
  tmp_path, torch, values, shape, strides, start
):
  tensor = Tensor(torch, '0', values, shape, strides, start)
  path = write(tmp_path / 'm.bin', {'a': tensor}, [('0', values)])
  with pytest.raises(UserError, match='leaves its storage'):
    read_torch_archive(path)


@pytest.mark.parametrize(
  'shape, strides, start',
  [
    ((2,), (-1,), 5),
    ((-1,), (1,), 0),
    ((2.0,), (1,), 0),
    ((True,), (1,), 0),
    ((1,), (1 << 62,), 0),
    ((0, 1 << 80), (1, 1), 0),
    ((0, 1 << 39, 1 << 39), (1, 1, 1), 0),
    ((2,), (1,), 0.0),
    ((2,), (1, 1), 0),
    ('ab', (1, 1), 0),
    ((1,) * 99, (1,) * 99, 0),
    (3, (1,), 0),
  ],
)
def test_sizes_are_whole_numbers_that_numpy_can_hold(
  tmp_path, torch, values, shape, strides, start
):
  tensor = Tensor(torch, '0', values, shape, strides, start)
  path = write(tmp_path / 'm.bin', {'a': tensor}, [('0', values)])
  with pytest.raises(UserError, match=r'is damaged|without a storage'):
    read_torch_archive(path)


def test_the_number_of_values_is_one(tmp_path, torch, values):
  tensor = Tensor(torch, '0', values, (12,), (1,))

  class Counted:
    dtype, size = values.dtype, 12.0

  tensor.arguments = (torch, '0', Counted)
  path = write(tmp_path / 'm.bin', {'a': tensor}, [('0', values)])
  with pytest.raises(UserError, match='is damaged'):
    read_torch_archive(path)


def write_pickle(path, data):
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('archive/data.pkl', data)
  return path


DICT = b'\x80\x02ccollections\nOrderedDict\n)R'
TENSOR = b'\x80\x02ctorch._utils\n_rebuild_tensor_v2\n'


@pytest.mark.parametrize(
  'data, message',
  [
    # each tuple holds the one before it twice: 2^60 values to hash
    (b'\x80\x02})' + b'q\x00h\x00\x86' * 60 + b'K\x01s.', 'has keys other'),
    (b'\x80\x02})' + b'q\x00h\x00\x86' * 60 + b'Q.', 'is damaged'),
    (TENSOR + b'}U\x01aK\x01sb.', 'sets attributes of what is no dict'),
    (b'\x80\x02]K\x01K\x02s.', 'sets items'),
    (b'\x80\x02}K\x01a.', 'appends to'),
    (b'\x80\x02K\x01)R.', 'calls something'),
    (TENSOR + b'(K\x01K\x01K\x01K\x01tR.', 'without a storage'),
    (b'\x80\x02I12\n.', 'has the instruction INT'),
    (b'\x80\x04)K\x01\x93.', 'without a name'),
    (b'\x80\x02h\x07.', 'is damaged'),
    (b'\x80\x02u.', 'is damaged'),
    (b'\x80\x04\x8d' + b'\xff' * 8 + b'a.', 'is damaged'),
    (b'', 'is damaged'),
  ],
)
def test_a_pickle_may_say_anything(tmp_path, data, message):
  with pytest.raises(UserError, match=message):
    read_torch_archive(write_pickle(tmp_path / 'm.bin', data))


def test_what_an_ordered_dict_keeps_beside_its_items_is_left_out(
  tmp_path, torch, values
):
  state = collections.OrderedDict(a=Tensor(torch, '0', values, (12,), (1,)))
  state._metadata = {'': {'version': 1}}
  path = write(tmp_path / 'm.bin', state, [('0', values)])
  assert read_torch_archive(path).keys() == {'a'}
  path = write_pickle(tmp_path / 'n.bin', DICT + b'}U\x05itemsNsb.')
  assert read_torch_archive(path) == {}


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_any_protocol_will_do(tmp_path, torch, values, protocol):
  tensor = Tensor(torch, '0', values, (3, 4), (4, 1))
  state = {'a': tensor, 'b': tensor, 'steps': [1.5, None, True, (1, 2, 3, 4)]}
  path = write(tmp_path / 'm.bin', state, [('0', values)], protocol=protocol)
  found = read_torch_archive(path)
  assert found.keys() == {'a', 'b'}
  np.testing.assert_array_equal(found['b'].read(), values.reshape(3, 4))


def test_damage_is_said(tmp_path, torch, values):
  tensor = Tensor(torch, '0', values, (12,), (1,))
  cases = {
    'has 44 bytes': write(tmp_path / 'a', {'a': tensor}, [('0', values[:11])]),
    'is damaged': write(tmp_path / 'b', {'a': tensor}),
    'is compressed': write(
      tmp_path / 'c', {'a': tensor}, [('0', values)], zipfile.ZIP_DEFLATED
    ),
    'holds a list': write(tmp_path / 'd', [tensor], [('0', values)]),
  }
  old = tmp_path / 'old'
  old.write_bytes(pickle.dumps({'a': 1}))
  cases['is no zip archive'] = old
  whole = write(tmp_path / 'whole', {'a': tensor}, [('0', values)])
  cases['not whole .* Download it again'] = tmp_path / 'cut'
  (tmp_path / 'cut').write_bytes(whole.read_bytes()[:-30])
  cases["no tensors by name, but 'state_dict'"] = write(
    tmp_path / 'e', {'state_dict': {'a': tensor}}, [('0', values)]
  )
  with zipfile.ZipFile(tmp_path / 'other', 'w') as archive:
    archive.writestr('readme', b'hello')
  cases['has 0 entries'] = tmp_path / 'other'
  for words, path in cases.items():
    with pytest.raises(UserError, match=words):
      read_torch_archive(path)
  with pytest.raises(FileNotFoundError, match='does not exist'):
    read_torch_archive(tmp_path / 'nowhere')
