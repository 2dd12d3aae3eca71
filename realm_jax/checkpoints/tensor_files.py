"""The tensors of a checkpoint folder, whatever the format, read one by one."""

from collections.abc import Callable, Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import safetensors

from realm_jax.checkpoints.entry import ALL, Entry
from realm_jax.checkpoints.tf_checkpoint import (
  checkpoint_files,
  find_checkpoint,
  read_tf_checkpoint,
)
from realm_jax.checkpoints.torch_archive import (
  ArchivedTensor,
  read_torch_archive,
)
from realm_jax.errors import UserError
from realm_jax.folders import read_json

_ARCHIVES = 'pytorch_model*.bin'
# Of dtypes that these libraries read; others are named to the user.
_SAFE_DTYPES = ('F64', 'F32', 'F16', 'BF16', 'I64', 'I32', 'U8', 'BOOL')


class TensorFiles:
  """Named tensors in the files of a folder.

  *.safetensors, or else *.bin of PyTorch, or else a checkpoint of TensorFlow,
  whose variables go by the names that Hugging Face gives them. Files may be
  shards of one checkpoint, which an index beside them may name. Nothing is held
  in memory.

  Attributes:
    folder: the folder, or the prefix of a checkpoint.
    from_tensorflow: the files are a checkpoint of TensorFlow.
    paths: the files.
  """

  def __init__(
    self,
    folder: str | Path,
    rename: Callable[[str], str] = lambda key: key,
  ):
    """Opens the files and reads the names.

    Args:
      folder: with *.safetensors, or else pytorch_model*.bin, or else a
        checkpoint of TensorFlow, which may also be named by its prefix.
      rename: key in the file -> key here.

    Raises:
      FileNotFoundError: there is no such folder, none of these files, or a
        shard is missing.
      UserError: a file is damaged, or holds more than tensors; two have the
        same key.
    """
    self.folder = Path(folder)
    self._entries: dict[str, tuple[Path, Entry]] = {}
    files, entries_of = self._files()
    self.from_tensorflow = entries_of is read_tf_checkpoint
    self.paths = tuple(files)
    if self.from_tensorflow:
      self.paths = tuple(checkpoint_files(files[0]))
    for path in files:
      for entry in entries_of(path):
        key = rename(entry.key)
        if key in self._entries:
          raise UserError(
            f'{self._entries[key][0]} and {path} both hold {key}: expected one '
            'checkpoint in a folder, and each tensor once.'
          )
        self._entries[key] = path, entry

  def _files(self) -> tuple[list[Path], Callable[[Path], Iterator[Entry]]]:
    for index, pattern, entries_of in (
      ('model.safetensors.index.json', '*.safetensors', _safetensors),
      ('pytorch_model.bin.index.json', _ARCHIVES, _archive),
    ):
      if (self.folder / index).is_file():
        return _shards(self.folder / index), entries_of
      if files := sorted(self.folder.glob(pattern)):
        return files, entries_of
    if (prefix := find_checkpoint(self.folder)) is not None:
      return [prefix], read_tf_checkpoint
    problem, expected = 'does not exist', 'Expected'
    if self.folder.is_dir():
      problem = f'has no *.safetensors, {_ARCHIVES} or *.index'
    elif self.folder.is_file():
      its_own = self.folder.parent
      if self.folder.suffix == '.index':
        its_own = self.folder.with_suffix('')
      problem, expected = 'is a file', f'Give {its_own} instead. Expected'
    raise FileNotFoundError(
      f'Checkpoint folder {self.folder} {problem}. {expected} a folder with '
      'model.safetensors or pytorch_model.bin, and vocab.txt, such as a '
      'downloaded Hugging Face repository; or one with the checkpoint of a '
      'TensorFlow program.'
    )

  def __contains__(self, key: str) -> bool:
    return key in self._entries

  def names(self) -> list[str]:
    """All names."""
    return list(self._entries)

  def shape(self, key: str) -> tuple[int, ...]:
    """The shape of a tensor."""
    return self._entries[key][1].shape

  def read(self, key: str, rows: slice = ALL) -> np.ndarray:
    """The values of a tensor, or some rows of it, float32."""
    entry = self._entries[key][1]
    if rows != ALL:  # one that ends beyond the last row is cut
      rows = slice(*rows.indices(entry.shape[0]))
    return np.asarray(entry.read(rows)).astype(np.float32)


def _shards(index: Path) -> list[Path]:
  """The files that an index of shards names, all of them there."""
  fields = read_json(index)
  weight_map = fields.get('weight_map') if isinstance(fields, dict) else None
  names = list(weight_map.values()) if isinstance(weight_map, dict) else []
  if not names or any(Path(str(name)).name != name for name in names):
    raise UserError(
      f'{index} is no index of shards: expected weight_map, from the names of '
      'tensors to files beside it.'
    )
  paths = [index.with_name(name) for name in sorted({*names})]
  missing = [path.name for path in paths if not path.is_file()]
  if missing:
    raise FileNotFoundError(
      f'{index.parent} lacks {", ".join(missing)}, of the {len(paths)} files '
      f'that {index.name} names. Download it again.'
    )
  return paths


def _safetensors(path: Path) -> Iterator[Entry]:
  try:
    handle = safetensors.safe_open(path, framework='flax')
  except safetensors.SafetensorError as error:
    raise UserError(
      f'{path} is no whole safetensors file ({error}). Download it again.'
    ) from error
  for key in handle.keys():  # noqa: SIM118, it is no mapping

    def read(rows: slice, key: str = key) -> np.ndarray:
      dtype = handle.get_slice(key).get_dtype()
      if dtype not in _SAFE_DTYPES:
        raise UserError(
          f'{path} has {key} in {dtype}, expected numbers such as F32, F16 or '
          'BF16: quantised weights are not read.'
        )
      if rows == ALL:  # a scalar has no rows
        value = handle.get_tensor(key)
      else:
        value = handle.get_slice(key)[rows]
      return np.asarray(value.astype(jnp.float32))

    yield Entry(key, tuple(handle.get_slice(key).get_shape()), read)


def _archive(path: Path) -> Iterator[Entry]:
  for key, tensor in read_torch_archive(path).items():

    def read(rows: slice, tensor: ArchivedTensor = tensor) -> np.ndarray:
      return tensor.read()[rows] if rows != ALL else tensor.read()

    yield Entry(key, tensor.shape, read)
