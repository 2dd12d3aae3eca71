"""The tensors of a checkpoint folder, whatever the format, read one by one."""

from collections.abc import Callable, Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import safetensors

from realm_jax.checkpoints.torch_archive import read_torch_archive
from realm_jax.errors import UserError

_ARCHIVES = 'pytorch_model*.bin'


class TensorFiles:
  """Named tensors in the *.safetensors of a folder, or in its *.bin.

  Files may be shards of one checkpoint. Nothing is held in memory.
  """

  def __init__(
    self,
    folder: str | Path,
    rename: Callable[[str], str] = lambda key: key,
  ):
    """Opens the files and reads the names.

    Args:
      folder: with *.safetensors, or else pytorch_model*.bin.
      rename: key in the file -> key here.

    Raises:
      FileNotFoundError: there is no such folder, or none of these files.
      UserError: a file is damaged, or holds more than tensors.
    """
    self.folder = Path(folder)
    # key -> (file, shape, function that reads it)
    self._entries: dict[
      str, tuple[Path, tuple[int, ...], Callable[[], np.ndarray]]
    ] = {}
    for path in self._files():
      entries = _archive if path.suffix == '.bin' else _safetensors
      for key, shape, read in entries(path):
        self._entries[rename(key)] = path, shape, read

  def _files(self) -> list[Path]:
    for pattern in ('*.safetensors', _ARCHIVES):
      if files := sorted(self.folder.glob(pattern)):
        return files
    problem = 'does not exist'
    if self.folder.is_dir():
      problem = f'has no *.safetensors or {_ARCHIVES}'
    raise FileNotFoundError(
      f'Checkpoint folder {self.folder} {problem}. Expected a folder with '
      'model.safetensors or pytorch_model.bin, and vocab.txt, such as a '
      'downloaded Hugging Face repository.'
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
    return self._entries[key][1]

  def read(self, key: str) -> np.ndarray:
    """The values of a tensor, float32."""
    return np.asarray(self._entries[key][2]()).astype(np.float32)


_Entry = tuple[str, tuple[int, ...], Callable[[], np.ndarray]]


def _safetensors(path: Path) -> Iterator[_Entry]:
  try:
    handle = safetensors.safe_open(path, framework='flax')
  except safetensors.SafetensorError as error:
    raise UserError(
      f'{path} is no whole safetensors file ({error}). Download it again.'
    ) from error
  for key in handle.keys():  # noqa: SIM118, it is no mapping

    def read(key: str = key) -> np.ndarray:
      return np.asarray(handle.get_tensor(key).astype(jnp.float32))

    yield key, tuple(handle.get_slice(key).get_shape()), read


def _archive(path: Path) -> Iterator[_Entry]:
  for key, tensor in read_torch_archive(path).items():
    yield key, tensor.shape, tensor.read
