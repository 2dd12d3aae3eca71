"""Tensors of a PyTorch file, read without running anything it says.

What torch.save writes is a zip archive: data.pkl, a pickle that says which
tensors there are, and a stored entry of raw numbers for each storage. A pickle
is a program that names functions to call. It is not unpickled: its instructions
are read one by one, those that plain containers and tensors are made of are
followed here, every other one is refused; the numbers stay on disk until asked
for.
"""

import io
import math
import pickletools
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from realm_jax.errors import UserError

_DTYPES = {
  'DoubleStorage': np.dtype('<f8'),
  'FloatStorage': np.dtype('<f4'),
  'HalfStorage': np.dtype('<f2'),
  'BFloat16Storage': np.dtype(ml_dtypes.bfloat16),
  'LongStorage': np.dtype('<i8'),
  'IntStorage': np.dtype('<i4'),
  'ShortStorage': np.dtype('<i2'),
  'CharStorage': np.dtype('i1'),
  'ByteStorage': np.dtype('u1'),
  'BoolStorage': np.dtype('?'),
}
_MAX_PICKLE_BYTES = 64 << 20  # a model of 10,000 tensors takes about 2 MiB
_MAX_COUNT = (
  1 << 40
)  # values, in any direction: numpy's integers do not overflow
_MAX_AXES = 32
_LOCAL_HEADER = struct.Struct('<26xHH')  # lengths of the name and the extra
# Instructions of a pickle that push what they are followed by.
_PUSHES = frozenset(
  {
    *('BININT', 'BININT1', 'BININT2', 'LONG1', 'BINFLOAT'),
    *('BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8'),
    *('BINBYTES', 'SHORT_BINBYTES', 'SHORT_BINSTRING'),
  }
)
_CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
_TUPLES = {'EMPTY_TUPLE': 0, 'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}
_MARK = object()


class _Name(NamedTuple):
  """What a pickle asks for by name."""

  module: str
  name: str


class _Storage(NamedTuple):
  dtype: np.dtype
  offset: int  # in the file, bytes
  num_values: int


_ORDERED_DICT = _Name('collections', 'OrderedDict')
_TENSOR = _Name('torch._utils', '_rebuild_tensor_v2')
_PARAMETER = _Name('torch._utils', '_rebuild_parameter')
_NAMES = frozenset(
  {_ORDERED_DICT, _TENSOR, _PARAMETER, *(_Name('torch', n) for n in _DTYPES)}
)


class ArchivedTensor(NamedTuple):
  """A tensor that lies in a file.

  Attributes:
    path: the file.
    dtype: of its values.
    offset: where its storage begins in the file, bytes.
    num_values: of the storage.
    start: its first value in the storage.
    shape: its shape.
    strides: steps of each axis in the storage, in values.
  """

  path: Path
  dtype: np.dtype
  offset: int
  num_values: int
  start: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]

  def read(self) -> np.ndarray:
    """Its values, mapped from the file and not copied."""
    storage = np.memmap(
      self.path, self.dtype, 'r', self.offset, (self.num_values,)
    )
    # Checked when it was made: no index leaves the storage.
    return np.lib.stride_tricks.as_strided(
      storage[self.start :],
      self.shape,
      [step * self.dtype.itemsize for step in self.strides],
      writeable=False,
    )


def read_torch_archive(path: str | Path) -> dict[str, ArchivedTensor]:
  """The named tensors of a file that torch.save wrote.

  Args:
    path: a zip archive, such as pytorch_model.bin since PyTorch 1.6.

  Returns:
    name -> tensor; what is no tensor is left out.

  Raises:
    FileNotFoundError: there is no such file.
    UserError: it is no such archive, is damaged, or names anything but tensors
      and plain containers.
  """
  path = Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path} does not exist.')
  try:
    with zipfile.ZipFile(path) as archive:
      state = _Reader(path, archive).read_state()
  except zipfile.BadZipFile as error:
    if _begins_as_zip(path):
      raise UserError(
        f'{path} is damaged or not whole ({error}). Download it again.'
      ) from error
    raise UserError(
      f'{path} is no zip archive ({error}). Files of PyTorch before 1.6 are '
      'plain pickles, which are not read: save it again with a newer PyTorch, '
      'or as safetensors.'
    ) from error
  if not isinstance(state, dict):
    raise UserError(
      f'{path} holds a {type(state).__name__}, expected tensors by name.'
    )
  found = {
    str(name): value
    for name, value in state.items()
    if isinstance(value, ArchivedTensor)
  }
  if not found and state:
    names = ', '.join(f'{name!r:.40}' for name in list(state)[:3])
    raise UserError(
      f'{path} has no tensors by name, but {names}: it is what a training '
      'program saved. Save the dictionary of the weights in it alone.'
    )
  return found


def _begins_as_zip(path: Path) -> bool:
  with open(path, 'rb') as stream:
    return stream.read(2) == b'PK'


class _Reader:
  """Follows a pickle of dictionaries of tensors, and refuses any other."""

  def __init__(self, path: Path, archive: zipfile.ZipFile):
    self._path = path
    self._archive = archive
    entries = [name for name in archive.namelist() if _is_pickle(name)]
    if len(entries) != 1:
      raise UserError(
        f'{path} has {len(entries)} entries data.pkl, expected one: it is no '
        'file of torch.save.'
      )
    self._pickle = entries[0]
    self._folder = entries[0].removesuffix('data.pkl')
    if archive.getinfo(entries[0]).file_size > _MAX_PICKLE_BYTES:
      raise UserError(
        f'{path} has a data.pkl of more than {_MAX_PICKLE_BYTES >> 20} MiB, '
        'which no model needs.'
      )
    self._stack: list[Any] = []
    self._memo: dict[int, Any] = {}
    # Instruction -> what it does, given what it is followed by.
    self._rules: dict[str, Callable[[Any], None]] = {
      'MARK': lambda _: self._stack.append(_MARK),
      'EMPTY_DICT': lambda _: self._stack.append({}),
      'EMPTY_LIST': lambda _: self._stack.append([]),
      'TUPLE': lambda _: self._stack.append(tuple(self._to_mark())),
      'BINPUT': self._put,
      'LONG_BINPUT': self._put,
      'MEMOIZE': lambda _: self._put(len(self._memo)),
      'BINGET': lambda number: self._stack.append(self._memo[number]),
      'LONG_BINGET': lambda number: self._stack.append(self._memo[number]),
      'APPEND': lambda _: self._append([self._stack.pop()]),
      'APPENDS': lambda _: self._append(self._to_mark()),
      'SETITEM': lambda _: self._set([self._stack.pop(-2), self._stack.pop()]),
      'SETITEMS': lambda _: self._set(self._to_mark()),
      'GLOBAL': lambda names: self._name(*names.split(' ', 1)),
      'STACK_GLOBAL': lambda _: self._name(
        self._stack.pop(-2), self._stack.pop()
      ),
      'BINPERSID': lambda _: self._storage(self._stack.pop()),
      'REDUCE': lambda _: self._call(self._stack.pop(-2), self._stack.pop()),
      'BUILD': lambda _: self._leave_state(self._stack.pop()),
    }

  def read_state(self) -> Any:
    """What the pickle describes."""
    try:
      instructions = pickletools.genops(
        io.BytesIO(self._archive.read(self._pickle))
      )
      for opcode, argument, _ in instructions:
        self._follow(opcode.name, argument)
      (state,) = self._stack
    except (UserError, zipfile.BadZipFile):
      raise
    except Exception as error:  # a damaged pickle makes almost anything fail
      raise UserError(f'{self._path} is damaged: {error!r}.') from error
    return state

  def _follow(self, name: str, argument: Any) -> None:
    if name in ('PROTO', 'FRAME', 'STOP'):
      return
    if name in _PUSHES:
      self._stack.append(argument)
    elif name in _CONSTANTS:
      self._stack.append(_CONSTANTS[name])
    elif name in _TUPLES:
      size = _TUPLES[name]
      values = [self._stack.pop() for _ in range(size)]
      self._stack.append(tuple(reversed(values)))
    elif name in self._rules:
      self._rules[name](argument)
    else:
      raise self._refusal(f'has the instruction {name}')

  def _to_mark(self) -> list[Any]:
    """What stands on the stack above the last mark, taken off with it."""
    values = []
    while (value := self._stack.pop()) is not _MARK:
      values.append(value)
    return values[::-1]

  def _put(self, number: int) -> None:
    self._memo[number] = self._stack[-1]

  def _append(self, values: list[Any]) -> None:
    if not isinstance(self._stack[-1], list):
      raise self._refusal('appends to something other than a list')
    self._stack[-1].extend(values)

  def _set(self, values: list[Any]) -> None:
    keys = values[::2]
    # A hash of nested tuples can take for ever.
    if not all(isinstance(key, str | int) for key in keys):
      raise self._refusal('has keys other than texts and numbers')
    if not isinstance(self._stack[-1], dict):
      raise self._refusal('sets items of something other than a dictionary')
    self._stack[-1].update(zip(keys, values[1::2], strict=True))

  def _name(self, module: Any, name: Any) -> None:
    if not (isinstance(module, str) and isinstance(name, str)):
      raise self._refusal('asks for something without a name')
    asked = _Name(module, name)
    if asked not in _NAMES:
      raise self._refusal(f'asks for {asked.module}.{asked.name}')
    self._stack.append(asked)

  def _call(self, function: Any, arguments: Any) -> None:
    """A dictionary or a tensor, in place of a call that would make one."""
    if function == _ORDERED_DICT and arguments == ():
      self._stack.append({})
    elif function == _TENSOR:
      self._stack.append(self._tensor(*arguments[:4]))
    elif function == _PARAMETER and isinstance(arguments[0], ArchivedTensor):
      self._stack.append(arguments[0])
    else:
      raise self._refusal('calls something other than it should')

  def _leave_state(self, state: Any) -> None:
    """Attributes of a dictionary, such as the version of each module."""
    del state
    if not isinstance(self._stack[-1], dict):
      raise self._refusal('sets attributes of what is no dictionary')

  def _refusal(self, what: str) -> UserError:
    return UserError(
      f'{self._path} {what}, expected tensors and plain containers only. '
      'Nothing of it was run; do not load this file with other programs unless '
      'you trust who made it.'
    )

  def _storage(self, pid: Any) -> None:
    """A storage: ('storage', its type, entry, device, number of values)."""
    _, storage_type, key, _, num_values = pid
    dtype = _DTYPES[storage_type.name]
    info = self._archive.getinfo(f'{self._folder}data/{key:s}')
    if info.compress_type != zipfile.ZIP_STORED:
      raise UserError(f'{self._path} is compressed, expected stored numbers.')
    if info.file_size != _count(num_values) * dtype.itemsize:
      raise UserError(
        f'{self._path} has {info.file_size} bytes in {info.filename}, expected '
        f'{num_values * dtype.itemsize}.'
      )
    self._stack.append(_Storage(dtype, self._offset(info), num_values))

  def _offset(self, info: zipfile.ZipInfo) -> int:
    """Where the bytes of a stored entry begin."""
    with open(self._path, 'rb') as stream:
      stream.seek(info.header_offset)
      name_len, extra_len = _LOCAL_HEADER.unpack(
        stream.read(_LOCAL_HEADER.size)
      )
      offset = info.header_offset + _LOCAL_HEADER.size + name_len + extra_len
      if offset + info.file_size > stream.seek(0, 2):
        raise UserError(f'{self._path} ends before {info.filename} does.')
    return offset

  def _tensor(
    self, storage: Any, start: Any, shape: Any, strides: Any
  ) -> ArchivedTensor:
    if not isinstance(storage, _Storage) or len(shape) > _MAX_AXES:
      raise self._refusal('has a tensor without a storage')
    shape = tuple(map(_count, shape))
    strides = tuple(map(_count, strides))
    last = _count(start) + sum(
      (size - 1) * step for size, step in zip(shape, strides, strict=True)
    )
    _count(math.prod(max(size, 1) for size in shape))
    if 0 not in shape and last >= storage.num_values:
      raise UserError(f'{self._path} has a tensor that leaves its storage.')
    return ArchivedTensor(self._path, *storage, start, shape, strides)


def _count(value: Any) -> int:
  """A number of values, as it is; ValueError if it is none."""
  if type(value) is not int or not 0 <= value < _MAX_COUNT:
    # Not the value: the text of nested tuples can take for ever.
    raise ValueError(
      f'a {type(value).__name__} where a whole number of 0 to 2^40 should be'
    )
  return value


def _is_pickle(name: str) -> bool:
  return name == 'data.pkl' or name.endswith('/data.pkl')
