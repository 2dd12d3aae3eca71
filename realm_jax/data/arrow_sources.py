"""Parquet and Arrow files, as Hugging Face datasets keep articles in them."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from realm_jax.errors import UserError

PARQUET_MAGIC = b'PAR1'
# A file with a table of contents; and a stream, what datasets writes.
ARROW_MAGICS = (b'ARROW1', b'\xff\xff\xff\xff')
_BATCH_ROWS = 64
_EXPECTED = 'a column "text" of strings and, optionally, one "title"'


def check_columns(path: Path) -> None:
  """Raises UserError if a file has no column of texts, or is damaged."""
  with _mending(path):
    _open(path)


def read_arrow(path: Path, skipped: Counter[str]) -> Iterator[tuple[str, str]]:
  """The articles of a Parquet or Arrow file, a row each.

  A batch of rows is in memory at a time; Arrow files are memory-mapped. A
  title that is null is empty.

  Args:
    path: the file.
    skipped: rows whose text is null are counted here.

  Yields:
    Title and text.

  Raises:
    UserError: it has no column of texts, or is damaged; names file and row.
  """
  with _mending(path):
    schema, batches = _open(path)
  first_row = 0
  while True:
    with _mending(path, first_row):
      batch = next(batches, None)
    if batch is None:
      return
    for start in range(0, batch.num_rows, _BATCH_ROWS):
      rows = batch.slice(start, _BATCH_ROWS)
      texts = _strings(path, rows, 'text', first_row)
      titles = (
        _strings(path, rows, 'title', first_row)
        if 'title' in schema.names
        else [None] * len(texts)
      )
      for title, text in zip(titles, texts, strict=True):
        if text is None:
          skipped['no text'] += 1
        else:
          yield title or '', text
      first_row += rows.num_rows


def _open(path: Path) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
  with open(path, 'rb') as stream:
    magic = stream.read(6)
  if magic.startswith(PARQUET_MAGIC):
    # So, pages are read as they are needed, not whole row groups.
    parquet = pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
    schema = _checked(path, parquet.schema_arrow)
    names = [name for name in ('text', 'title') if name in schema.names]
    return schema, parquet.iter_batches(_BATCH_ROWS, columns=names)
  source = pa.memory_map(str(path))
  if magic == ARROW_MAGICS[0]:
    file = pa.ipc.open_file(source)
    batches = (file.get_batch(i) for i in range(file.num_record_batches))
    return _checked(path, file.schema), batches
  stream = pa.ipc.open_stream(source)
  return _checked(path, stream.schema), iter(stream)


def _checked(path: Path, schema: pa.Schema) -> pa.Schema:
  found = (
    ', '.join(f'{field.name} ({field.type})' for field in schema) or 'none'
  )
  text, title = (schema.get_field_index(name) for name in ('text', 'title'))
  if (
    text < 0
    or not _is_string(schema.types[text])
    or ('title' in schema.names and title < 0)  # more than one of it
    or (title >= 0 and not _is_title(schema.types[title]))
  ):
    raise UserError(
      f'{path} has the columns {found[:400]}. Expected {_EXPECTED}.'
    )
  return schema


def _is_string(kind: pa.DataType) -> bool:
  if pa.types.is_dictionary(kind):
    kind = kind.value_type
  return (
    pa.types.is_string(kind)
    or pa.types.is_large_string(kind)
    or pa.types.is_string_view(kind)
  )


def _is_title(kind: pa.DataType) -> bool:
  return _is_string(kind) or pa.types.is_null(kind)


def _strings(
  path: Path, rows: pa.RecordBatch, name: str, first_row: int
) -> list[str | None]:
  """A column as strings; checked, since a damaged one points anywhere."""
  column = rows.column(name)
  try:
    column.validate(full=True)
  except pa.ArrowException as error:
    row = first_row + _first_invalid(column)
    raise UserError(
      f'{path}, row {row}: "{name}" is no valid UTF-8, or is damaged ({error}).'
    ) from error
  values: list[str | None] = column.to_pylist()
  return values


def _first_invalid(column: pa.Array) -> int:
  for row in range(len(column)):
    try:
      column.slice(row, 1).validate(full=True)
    except pa.ArrowException:
      return row
  return 0


@contextmanager
def _mending(path: Path, row: int | None = None) -> Iterator[None]:
  """What Arrow finds wrong with a file, as a message."""
  try:
    yield
  except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
    where = '' if row is None else f', row {row}'
    raise UserError(
      f'{path}{where}: cannot be read further, it is truncated or damaged '
      f'({error}). Fetch or make it again.'
    ) from error
