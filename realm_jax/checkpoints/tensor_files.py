"""The tensors of a checkpoint folder, whatever the format, read one by one."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import safetensors

from realm_jax.checkpoints.tf_checkpoint import (
  Variable,
  find_checkpoint,
  read_tf_checkpoint,
)
from realm_jax.checkpoints.torch_archive import (
  ArchivedTensor,
  read_torch_archive,
)
from realm_jax.errors import UserError

_ARCHIVES = 'pytorch_model*.bin'
_ALL = slice(None)


class Entry(NamedTuple):
  """A tensor of a file.

  Attributes:
    key: its name.
    shape: its shape.
    read: slice of rows -> values; reads no more than these where it can.
  """

  key: str
  shape: tuple[int, ...]
  read: Callable[[slice], np.ndarray]


class TensorFiles:
  """Named tensors in the files of a folder.

  *.safetensors, or else *.bin of PyTorch, or else a checkpoint of TensorFlow,
  whose variables go by the names that Hugging Face gives them. Files may be
  shards of one checkpoint. Nothing is held in memory.

  Attributes:
    folder: the folder, or the prefix of a checkpoint.
    from_tensorflow: the files are a checkpoint of TensorFlow.
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
      FileNotFoundError: there is no such folder, or none of these files.
      UserError: a file is damaged, or holds more than tensors.
    """
    self.folder = Path(folder)
    self._entries: dict[str, tuple[Path, Entry]] = {}
    files = self._files()
    self.from_tensorflow = files[0][1] is _tf_checkpoint
    for path, entries_of in files:
      for entry in entries_of(path):
        self._entries[rename(entry.key)] = path, entry

  def _files(self) -> list[tuple[Path, Callable[[Path], Iterator[Entry]]]]:
    for pattern, entries_of in (
      ('*.safetensors', _safetensors),
      (_ARCHIVES, _archive),
    ):
      if files := sorted(self.folder.glob(pattern)):
        return [(path, entries_of) for path in files]
    if (prefix := find_checkpoint(self.folder)) is not None:
      return [(prefix, _tf_checkpoint)]
    problem = 'does not exist'
    if self.folder.is_dir():
      problem = f'has no *.safetensors, {_ARCHIVES} or *.index'
    raise FileNotFoundError(
      f'Checkpoint folder {self.folder} {problem}. Expected a folder with '
      'model.safetensors or pytorch_model.bin, and vocab.txt, such as a '
      'downloaded Hugging Face repository; or one with the checkpoint of a '
      'TensorFlow program.'
    )

  def __contains__(self, key: str) -> bool:
    return key in self._entries

  def names(self) -> list[str]:
    """All names."""
    return list(self._entries)

  def path(self, key: str) -> Path:
    """The file that a tensor lies in."""
    return self._entries[key][0]

  def shape(self, key: str) -> tuple[int, ...]:
    """The shape of a tensor."""
    return self._entries[key][1].shape

  def read(self, key: str, rows: slice = _ALL) -> np.ndarray:
    """The values of a tensor, or some rows of it, float32."""
    entry = self._entries[key][1]
    if rows != _ALL:  # one that ends beyond the last row is cut
      rows = slice(*rows.indices(entry.shape[0]))
    return np.asarray(entry.read(rows)).astype(np.float32)


def _safetensors(path: Path) -> Iterator[Entry]:
  try:
    handle = safetensors.safe_open(path, framework='flax')
  except safetensors.SafetensorError as error:
    raise UserError(
      f'{path} is no whole safetensors file ({error}). Download it again.'
    ) from error
  for key in handle.keys():  # noqa: SIM118, it is no mapping

    def read(rows: slice, key: str = key) -> np.ndarray:
      if rows == _ALL:  # a scalar has no rows
        value = handle.get_tensor(key)
      else:
        value = handle.get_slice(key)[rows]
      return np.asarray(value.astype(jnp.float32))

    yield Entry(key, tuple(handle.get_slice(key).get_shape()), read)


def _archive(path: Path) -> Iterator[Entry]:
  for key, tensor in read_torch_archive(path).items():

    def read(rows: slice, tensor: ArchivedTensor = tensor) -> np.ndarray:
      return tensor.read()[rows] if rows != _ALL else tensor.read()

    yield Entry(key, tensor.shape, read)


def _tf_checkpoint(prefix: Path) -> Iterator[Entry]:
  for variable in read_tf_checkpoint(prefix):

    def read(rows: slice, variable: Variable = variable) -> np.ndarray:
      value = variable.read()
      return value[rows] if rows != _ALL else value

    yield Entry(variable.key, variable.shape, read)
