"""A folder as a source: which of its files are read, and in which order."""

import fnmatch
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from realm_jax.errors import UserError
from realm_jax.folders import read_json

# What tools leave beside their data. Of `datasets`, cache-* holds results that
# were computed from the data, and the others say what is in it.
_IGNORED = (
  '.*',
  '*.crc',
  '*.lock',
  'README*',
  'LICENSE*',
  '_SUCCESS',
  '_metadata',
  '_common_metadata',
  '_committed_*',
  '_started_*',
  '_temporary',
  'cache-*.arrow',
  'dataset_dict.json',
  'dataset_info.json',
  'dataset_infos.json',
  'state.json',
)
_STATE = 'state.json'
_SHARD = re.compile(r'(.+?)-\d+-of-\d+\b')
_SPLIT = re.compile(r'(train|test|validation|valid|val|dev|eval)(?![a-z])')


class Listing(NamedTuple):
  """The files below a folder.

  Attributes:
    files: sorted by their path.
    left_out: what is no regular file, counted by reason.
  """

  files: list[Path]
  left_out: Counter[str]


def list_files(folder: Path) -> Listing:
  """The files below a folder, without hidden ones and what tools leave there.

  Links in the folder are not followed, wherever they lead: what they lead to
  is no part of it, or is found without them.

  Raises:
    UserError: a folder cannot be read, or a name is not UTF-8.
  """

  def refuse(error: OSError) -> None:
    raise UserError(f'{folder} cannot be read: {error}.') from error

  found: list[tuple[str, Path]] = []
  left_out: Counter[str] = Counter()
  for parent, folders, names in os.walk(folder, onerror=refuse):
    links = [name for name in folders if os.path.islink(f'{parent}/{name}')]
    left_out['link, not followed'] += len(links)
    folders[:] = [name for name in folders if not _is_ignored(name)]
    for name in names:
      path = Path(parent, name)
      if _is_ignored(name):
        continue
      if path.is_symlink():
        left_out['link, not followed'] += 1
      elif not path.is_file():
        left_out['pipe or device'] += 1
      else:
        found.append((relative_name(folder, path), path))
  return Listing([path for _, path in sorted(found)], +left_out)


def relative_name(folder: Path, path: Path) -> str:
  """The path of a file below a folder, with slashes.

  Raises:
    UserError: it is not UTF-8.
  """
  name = path.relative_to(folder).as_posix()
  try:
    name.encode('utf-8')
  except UnicodeEncodeError as error:
    raise UserError(
      f'{folder} holds {name!a}, a name that is not UTF-8: rename it.'
    ) from error
  return name


def one_split(folder: Path, files: Sequence[Path]) -> list[Path]:
  """The Parquet or Arrow files of a folder, if they are of one data set.

  Args:
    folder: what was named.
    files: its files.

  Returns:
    The same files or, where datasets.save_to_disk has made the folder, those
    that its state.json names, in that order.

  Raises:
    UserError: they are of several splits or data sets, or some are missing.
  """
  parents = sorted({path.parent for path in files})
  if len(parents) > 1:
    names = [relative_name(folder, parent) for parent in parents]
    raise UserError(
      f'{folder} holds several data sets or splits: {_some(names)}. Name one '
      f'of them, for example {parents[0]}.'
    )
  if (parents[0] / _STATE).is_file():
    return _saved_files(parents[0], files)
  names = sorted({split for path in files if (split := _split_name(path.name))})
  if len(names) > 1:
    raise UserError(
      f'{folder} holds several data sets or splits: {_some(names)}. Name the '
      f'files of one of them, for example {parents[0]}/{names[0]}*.'
    )
  return list(files)


def _saved_files(folder: Path, files: Sequence[Path]) -> list[Path]:
  """The files that the state.json of datasets.save_to_disk names."""
  path = folder / _STATE
  state = read_json(path)
  try:
    names = [str(entry['filename']) for entry in state['_data_files']]
    is_selection = bool(state.get('_indices_data_files'))
  except (KeyError, TypeError, AttributeError) as error:
    raise UserError(
      f'{path}: {type(error).__name__} {error}. Expected what '
      'datasets.save_to_disk writes, {"_data_files": [{"filename": ...}]}.'
    ) from error
  if is_selection:
    raise UserError(
      f'{folder} holds a selection of rows of its table, as old versions of '
      'datasets saved them. Save it again with flatten_indices().'
    )
  by_name = {file.name: file for file in files}
  # Also where a name is a path that leads elsewhere: it is never opened.
  if missing := [name for name in names if name not in by_name]:
    raise UserError(
      f'{path} names {_some([ascii(name) for name in missing])}, which is not '
      'in the folder. Copy or save the data set again.'
    )
  return [by_name[name] for name in names]


def _split_name(name: str) -> str | None:
  match = _SHARD.match(name) or _SPLIT.match(name)
  return match[1] if match else None


def _is_ignored(name: str) -> bool:
  return any(fnmatch.fnmatchcase(name, pattern) for pattern in _IGNORED)


def _some(names: Sequence[str]) -> str:
  more = f' and {len(names) - 4} more' if len(names) > 4 else ''
  return ', '.join(names[:4]) + more
