"""What ends a run before its time, told so that the user can go on."""

import contextlib
import errno
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from realm_jax.errors import UserError

BAD_BATCHES = 'bad_batches'
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_disk_full(error: BaseException) -> bool:
  """Whether an error, of Python or of TensorStore, says that nothing fits."""
  if isinstance(error, OSError):
    return error.errno in _FULL
  code = re.search(r"os_error_code='(\d+)'", str(error))
  return code is not None and int(code[1]) in _FULL


class NotFinite(FloatingPointError):
  """The loss or the gradient of a step is infinite or not a number."""

  def __init__(self, message: str, step: int, batch: Any):
    """Keeps the step, as updates done with it, and the batch it was of."""
    super().__init__(message)
    self.step = step
    self.batch = batch


@contextlib.contextmanager
def trouble_is_told(
  run: Path, latest_step: Callable[[], int | None]
) -> Iterator[None]:
  """Says of what ends a run what is left, and how to go on.

  Args:
    run: the run's folder.
    latest_step: of the newest whole checkpoint, None if there is none.

  Raises:
    FloatingPointError: in place of NotFinite; the batch is saved.
    UserError: something could not be written for want of space.
  """
  try:
    yield
  except NotFinite as error:
    path = save_bad_batch(run, error.step, error.batch)
    raise FloatingPointError(
      f'{error} Its batch is in {path}, arrays by name: numpy.load shows them. '
      f'{_what_is_left(latest_step())} To run again repeats the step: start a '
      'new run with a lower learning rate, or without the examples at fault.'
    ) from error
  except (OSError, ValueError) as error:
    if not is_disk_full(error):
      raise
    raise UserError(
      f'The disk is full, or a quota used up: {run} could not be written to '
      f'({_first_line(error)}). {_what_is_left(latest_step())} Free some '
      'space and run the same command again.'
    ) from error


def _first_line(error: BaseException) -> str:
  """Of an OSError what it says; TensorStore's is a nest of long paths."""
  if isinstance(error, OSError):
    return error.strerror or str(error)
  return str(error).rpartition('": ')[2].partition(' [os_error_code')[0]


def _what_is_left(step: int | None) -> str:
  if step is None:
    return 'There is no checkpoint yet: to run again begins anew.'
  return f'The checkpoint of step {step} is whole: to run again goes on there.'


def save_bad_batch(run: Path, step: int, batch: Any) -> Path:
  """Keeps the batch of a step whose loss or gradient was not finite.

  Args:
    run: the run's folder.
    step: updates done with it.
    batch: a tree of arrays.

  Returns:
    An .npz file, for numpy.load, of the arrays by their path: 'query.token_ids'
    and so on. Of several processes each writes the rows it has, to a file of
    its own.
  """
  folder = run / BAD_BATCHES
  folder.mkdir(exist_ok=True)
  process = f'_process_{jax.process_index()}' if jax.process_count() > 1 else ''
  path = folder / f'step_{step:06d}{process}.npz'
  arrays = {
    jax.tree_util.keystr(keys, simple=True, separator='.'): _rows_here(array)
    for keys, array in jax.tree_util.tree_leaves_with_path(batch)
  }
  np.savez_compressed(path, allow_pickle=False, **arrays)
  return path


def _rows_here(array: Any) -> np.ndarray:
  """An array, or of one that lies on several hosts the rows of this one."""
  if not isinstance(array, jax.Array) or array.is_fully_addressable:
    return np.asarray(array)
  # by first row: replicas of a part count once
  parts = {part.index[0].start or 0: part for part in array.addressable_shards}
  return np.concatenate([np.asarray(parts[row].data) for row in sorted(parts)])
