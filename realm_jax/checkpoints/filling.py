"""Parameters filled with tensors of files; all that does not fit at once."""

from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp

from realm_jax.checkpoints.bert_names import Source
from realm_jax.checkpoints.hf_names import their_shape
from realm_jax.checkpoints.tensor_files import TensorFiles
from realm_jax.errors import UserError

_MAX_LISTED = 8  # of a kind, in a folder


class Problems:
  """Tensors that do not fit, of some folders."""

  def __init__(self) -> None:
    # (folder, kind) -> lines of the message
    self._lines: defaultdict[tuple[str, str], list[str]] = defaultdict(list)

  def add(
    self, files: TensorFiles, key: str, kind: str, what: str = ''
  ) -> None:
    """Notes a tensor.

    Args:
      files: where it lies, or should.
      key: its name there.
      kind: such as 'is missing'.
      what: what else there is to say.
    """
    lines = self._lines[str(files.folder), kind]
    if (line := f'{key} {kind}{what}') not in lines:  # parts may share it
      lines.append(line)

  def refuse(self, expected: str) -> None:
    """Raises UserError if there are any: the first of each kind, and how many.

    Args:
      expected: what they do not fit.
    """
    if not self._lines:
      return
    listed, last = [], ''
    for (folder, _), lines in sorted(
      self._lines.items(), key=lambda x: x[0][0]
    ):
      if folder != last:
        listed.append(f'in {folder}:')
      last = folder
      listed += [f'  {line}' for line in lines[:_MAX_LISTED]]
      if len(lines) > _MAX_LISTED:
        listed.append(f'  and {len(lines) - _MAX_LISTED} more such')
    raise UserError(
      f'These tensors do not fit {expected}:\n' + '\n'.join(listed)
    )


def name_of(path: tuple) -> str:
  """The path of a parameter in its tree, with slashes."""
  return jax.tree_util.keystr(path, simple=True, separator='/')


def fill(
  tree: Any,
  files: TensorFiles,
  prefix: str,
  sources: dict[str, Source],
  problems: Problems,
) -> Any:
  """A part of the model with the tensors that sources name.

  Args:
    tree: the part's parameters; those that sources do not name stay.
    files: where the tensors lie.
    prefix: what stands before the part's keys there.
    sources: path of a parameter -> where it is.
    problems: what is missing or has another shape is added.
  """

  def leaf(path: tuple, own: Any) -> Any:
    source = sources.get(name_of(path))
    if source is None:
      return own
    key = prefix + source.key
    if key not in files:
      problems.add(files, key, 'is missing')
      return own
    shape = their_shape(source, own.shape)
    if files.shape(key) != shape:
      problems.add(
        files, key, 'has shape', f' {files.shape(key)}, expected {shape}'
      )
      return own
    value = files.read(key)
    return jnp.asarray(
      (value.T if source.transposed else value).reshape(own.shape)
    )

  return jax.tree_util.tree_map_with_path(leaf, tree)


def note_unexpected(
  files: TensorFiles,
  known: Collection[str],
  is_idle: Callable[[str], object],
  problems: Problems,
) -> None:
  """Adds the tensors that no part of the model has taken.

  Args:
    files: where they lie.
    known: keys that parts take.
    is_idle: key -> whether it stands for nothing.
    problems: they are added to these.
  """
  for key in files.names():
    if key not in known and not is_idle(key):
      problems.add(files, key, 'is unexpected')
