"""Articles from TensorFlow Datasets (adapter).

Only what is already prepared on this machine is read: nothing is fetched, and
no code that makes a data set is run.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from realm_jax.errors import UserError
from realm_jax.folders import file_checksum
from realm_jax.optional import require

TFDS_PREFIX = 'tfds:'
_SOURCE = re.compile(
  r"""tfds:(?P<name>[A-Za-z]\w*(?:/\w[\w.+-]*)?)
  (?::(?P<version>\d+\.\d+\.\d+))?
  (?::(?P<split>.+))?""",
  re.VERBOSE,
)
_EXPECTED = (
  'tfds:NAME, tfds:NAME:SPLIT or tfds:NAME:VERSION:SPLIT, for example '
  'tfds:wikipedia/20230601.simple:train'
)
_INFO = 'dataset_info.json'


class _DataSet(NamedTuple):
  """Where a data set lies, and what of it to read."""

  source: str
  name: str
  folder: Path
  builder: Any
  split: str


def read_tfds(source: str, skipped: Counter[str]) -> Iterator[tuple[str, str]]:
  """The articles of a data set, in the order of its files.

  It is looked for in the folder that TFDS_DATA_DIR names, else in
  ~/tensorflow_datasets. Checked at once; read as the iterator goes on.

  Args:
    source: tfds:NAME[:VERSION][:SPLIT]. Without a version the latest is read;
      a split may be left out where there is one only, and may be a slice.
    skipped: not used, nothing is left out.

  Returns:
    An iterator over titles and texts.

  Raises:
    FileNotFoundError: there is no such data set on this machine.
    ImportError: tensorflow_datasets is not installed.
    UserError: it has no such split, or no feature "text" of strings.
  """
  del skipped
  data_set = _find(source)
  features = data_set.builder.info.features
  tensorflow = require('tensorflow', 'data')
  names = [name for name in ('text', 'title') if name in features]
  if 'text' not in names or any(
    features[name].shape != () or features[name].tf_dtype != tensorflow.string
    for name in names
  ):
    found = ', '.join(sorted(features))
    raise UserError(
      f'{source} has the features {found}. Expected "text" and, optionally, '
      '"title", both strings.'
    )
  return _read(data_set, names)


def identify_tfds(source: str) -> dict[str, Any]:
  """Name with version and split, bytes of the split, digest of its info.

  Raises:
    See read_tfds.
  """
  data_set = _find(source)
  info = data_set.builder.info
  base = data_set.split.partition('[')[0]
  in_split = info.splits[base].num_bytes if base in info.splits else 0
  return {
    'name': f'{TFDS_PREFIX}{data_set.name}:{info.version}:{data_set.split}',
    'bytes': int(in_split or info.dataset_size),
    'sha256': file_checksum(data_set.folder / _INFO),
  }


def read_tfds_rows(
  source: str, names: Sequence[str]
) -> Iterator[dict[str, Any]]:
  """Rows of a data set, in the order of its files, as Python values.

  Args:
    source: as read_tfds has it.
    names: of features; those that the data set has are read.

  Raises:
    See read_tfds.
  """
  data_set = _find(source)
  features = data_set.builder.info.features
  return _rows(data_set, [name for name in names if name in features])


def _read(data_set: _DataSet, names: list[str]) -> Iterator[tuple[str, str]]:
  for row in _rows(data_set, names):
    yield row.get('title', ''), row['text']


def _rows(data_set: _DataSet, names: list[str]) -> Iterator[dict[str, Any]]:
  tfds = require('tensorflow_datasets', 'data')
  tensorflow = require('tensorflow', 'data')
  row = 0
  try:
    rows = data_set.builder.as_dataset(
      split=data_set.split,
      shuffle_files=False,
      decoders=tfds.decode.PartialDecoding({name: True for name in names}),
      # One file after the other, and none kept in memory.
      read_config=tfds.ReadConfig(
        interleave_cycle_length=1, try_autocache=False
      ),
    )
    for example in tfds.as_numpy(rows):
      yield {name: _as_python(example[name]) for name in names}
      row += 1
  except UnicodeDecodeError as error:
    raise UserError(
      f'{data_set.source}, row {row}: invalid UTF-8 ({error}).'
    ) from error
  except (tensorflow.errors.OpError, OSError) as error:
    raise UserError(
      f'{data_set.source}, row {row}: the files in {data_set.folder} are '
      f'damaged or missing ({str(error)[:200]}). Prepare the data set again.'
    ) from error


def _as_python(value: Any) -> Any:
  """Strings for bytes, lists for arrays, all the way down."""
  if isinstance(value, dict):
    return {name: _as_python(part) for name, part in value.items()}
  if isinstance(value, bytes):
    return value.decode('utf-8')
  if hasattr(value, 'tolist'):
    return _as_python(value.tolist())
  if isinstance(value, list):
    return [_as_python(part) for part in value]
  return value


def _find(source: str) -> _DataSet:
  match = _SOURCE.fullmatch(source)
  if not match:
    raise UserError(f'{source} names no data set. Expected {_EXPECTED}.')
  tfds = require('tensorflow_datasets', 'data')
  folder = _find_folder(source, match['name'], match['version'])
  try:
    builder = tfds.builder_from_directory(folder)
  except Exception as error:  # which ones TFDS raises is not documented
    raise UserError(
      f'{source}: {folder} is no whole data set ({error}). Prepare it again.'
    ) from error
  splits = builder.info.splits
  split = match['split'] or (next(iter(splits)) if len(splits) == 1 else '')
  try:
    if not split:
      raise ValueError('none is named')
    _ = splits[split].num_examples
  except (ValueError, KeyError, AssertionError) as error:
    raise UserError(
      f'{source} has the splits {", ".join(sorted(splits)) or "none"}: name '
      f'one of them ({error}). Expected {_EXPECTED}.'
    ) from error
  return _DataSet(source, match['name'], folder, builder, split)


def _find_folder(source: str, name: str, version: str | None) -> Path:
  """The folder of one version, the latest if none is named."""
  root = Path(os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets')
  parent = root.expanduser() / name
  found = {
    tuple(map(int, path.parent.name.split('.'))): path.parent
    for path in parent.glob(f'*.*.*/{_INFO}')
    if re.fullmatch(r'\d+\.\d+\.\d+', path.parent.name)
  }
  if version:
    wanted = tuple(map(int, version.split('.')))
    found = {key: path for key, path in found.items() if key == wanted}
  if found:
    return found[max(found)]
  known = sorted(
    {path.parent.parent.name for path in parent.glob(f'*/*.*.*/{_INFO}')}
  )
  hint = f' There is {", ".join(known[:8])} below it.' if known else ''
  raise FileNotFoundError(
    f'{source}: no data set is prepared in {parent / (version or "")}.{hint} '
    f'Make it with: tfds build {name}. Set TFDS_DATA_DIR if it lies elsewhere.'
  )
