"""Tensors of a PyTorch file, read without running anything it says.

What torch.save writes is a zip archive: data.pkl, a pickle that says which
tensors there are, and a stored entry of raw numbers for each storage. A pickle
names functions to call. This reader knows the few that tensors and dictionaries
are made of, replaces each by its own, and refuses every other name; the numbers
stay on disk until asked for.
"""

import pickle
import struct
import zipfile
from collections import OrderedDict
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
_LOCAL_HEADER = struct.Struct('<26xHH')  # lengths of the name and the extra


class _Storage(NamedTuple):
  dtype: np.dtype
  offset: int  # in the file, bytes
  num_values: int


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
      state = _Unpickler(path, archive).load_state()
  except zipfile.BadZipFile as error:
    raise UserError(
      f'{path} is no zip archive ({error}). Files of PyTorch before 1.6 are '
      'plain pickles, which are not read: save it again with a newer PyTorch, '
      'or as safetensors.'
    ) from error
  if not isinstance(state, dict):
    raise UserError(
      f'{path} holds a {type(state).__name__}, expected tensors by name.'
    )
  return {
    str(name): value
    for name, value in state.items()
    if isinstance(value, ArchivedTensor)
  }


class _Unpickler(pickle.Unpickler):
  """Builds dictionaries of ArchivedTensor and refuses all else."""

  def __init__(self, path: Path, archive: zipfile.ZipFile):
    self._path = path
    self._archive = archive
    entries = [name for name in archive.namelist() if _is_pickle(name)]
    if len(entries) != 1:
      raise UserError(
        f'{path} has {len(entries)} entries data.pkl, expected one: it is no '
        'file of torch.save.'
      )
    self._folder = entries[0].removesuffix('data.pkl')
    if archive.getinfo(entries[0]).file_size > _MAX_PICKLE_BYTES:
      raise UserError(
        f'{path} has a data.pkl of more than {_MAX_PICKLE_BYTES >> 20} MiB, '
        'which no model needs.'
      )
    self._stream = archive.open(entries[0])
    super().__init__(self._stream, encoding='utf-8')

  def load_state(self) -> Any:
    """What the pickle describes."""
    with self._stream:
      try:
        return self.load()
      except UserError:
        raise
      except Exception as error:  # a damaged pickle raises almost anything
        raise UserError(f'{self._path} is damaged: {error}.') from error

  def find_class(self, module: str, name: str) -> Any:
    """The stand-in of a known name."""
    if module == 'collections' and name == 'OrderedDict':
      return OrderedDict
    if module == 'torch._utils' and name == '_rebuild_tensor_v2':
      return self._tensor
    if module == 'torch._utils' and name == '_rebuild_parameter':
      return self._parameter
    if module == 'torch' and name in _DTYPES:
      return name  # a pickle may write to what it is given, but not to a str
    raise UserError(
      f'{self._path} asks for {module}.{name}, expected tensors and plain '
      'containers only. Nothing of it was run; do not load this file with '
      'other programs unless you trust who made it.'
    )

  def persistent_load(self, pid: Any) -> _Storage:
    """A storage: ('storage', its type, entry, device, number of values)."""
    _, storage_type, key, _, num_values = pid
    dtype = _DTYPES[storage_type]
    info = self._archive.getinfo(f'{self._folder}data/{key}')
    if info.compress_type != zipfile.ZIP_STORED:
      raise UserError(f'{self._path} is compressed, expected stored numbers.')
    if info.file_size != num_values * dtype.itemsize:
      raise UserError(
        f'{self._path} has {info.file_size} bytes in {info.filename}, expected '
        f'{num_values * dtype.itemsize}.'
      )
    return _Storage(dtype, self._offset(info), num_values)

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
    self,
    storage: _Storage,
    start: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    *_: Any,
  ) -> ArchivedTensor:
    last = start + sum(
      (size - 1) * step for size, step in zip(shape, strides, strict=True)
    )
    inside = min((start, *shape, *strides)) >= 0 and (
      0 in shape or last < storage.num_values
    )
    if not inside:
      raise UserError(f'{self._path} has a tensor that leaves its storage.')
    return ArchivedTensor(self._path, *storage, start, shape, strides)

  def _parameter(self, tensor: ArchivedTensor, *_: Any) -> ArchivedTensor:
    return tensor


def _is_pickle(name: str) -> bool:
  return name == 'data.pkl' or name.endswith('/data.pkl')
