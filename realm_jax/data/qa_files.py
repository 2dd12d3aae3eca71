"""Files of questions in the formats in which data sets come.

Each reader yields where a question stands, for messages, and a row as JSON
lines have it: {"question": ..., "answer": [...]}; what is wrong with a row is
for the caller to say.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from realm_jax.data.arrow_sources import ARROW_MAGICS, PARQUET_MAGIC
from realm_jax.data.lines import (
  read_head,
  read_json,
  read_json_lines,
  read_lines,
)
from realm_jax.data.squad import is_squad, read_squad
from realm_jax.data.tfds_sources import TFDS_PREFIX, read_tfds_rows
from realm_jax.errors import UserError

EXPECTED = '{"question": ..., "answer": [...]}'
_TRIVIAQA = '{"Data": [{"Question": ..., "Answer": {"Value": ..., ...}}, ...]}'
_WEBQUESTIONS = '[{"utterance": ..., "targetValue": "(list ...)"}, ...]'
_DPR = "a question, a tab, and a list such as ['one', 'other']"
_DESCRIPTION = re.compile(r'\(description (?:"((?:[^"\\]|\\.)*)"|([^()"]*))\)')

Row = dict[str, Any]


class Rows(NamedTuple):
  """The questions of a file.

  Attributes:
    rows: (where it stands, row) of each.
    expected: what the file should hold, for messages.
  """

  rows: Iterator[tuple[str, Row]]
  expected: str


def read_rows(path: str | Path) -> Rows:
  """The questions of a file, whose format is told by what it holds.

  JSON lines; SQuAD's, TriviaQA's and WebQuestions' own JSON; DPR's tables;
  Parquet and Arrow with the columns question and answer or answers; and
  tfds:NAME, a data set that TensorFlow Datasets has prepared.

  Raises:
    FileNotFoundError: there is no such file.
    UserError: as soon as a row is read that is damaged.
  """
  if str(path).startswith(TFDS_PREFIX):
    return Rows(_tfds(str(path)), EXPECTED)
  path = Path(path)
  head = read_head(path)
  if head.startswith((PARQUET_MAGIC, *ARROW_MAGICS)):
    return Rows(_table(path), 'columns question and answer')
  if is_squad(path):
    return Rows(_squad(path), 'SQuAD 1.1 with an answer to every question')
  if re.match(rb'\s*\{\s*"Data"\s*:', head):
    return Rows(_triviaqa(path), _TRIVIAQA)
  if re.match(rb'\s*\[', head):
    return Rows(_webquestions(path), _WEBQUESTIONS)
  if b'\t' in head.partition(b'\n')[0] and not head.lstrip().startswith(b'{'):
    return Rows(_dpr(path), _DPR)
  lines = (
    (f'{path}, line {number}', row)
    for number, row in read_json_lines(path, EXPECTED)
  )
  return Rows(lines, EXPECTED)


def _squad(path: Path) -> Iterator[tuple[str, Row]]:
  for title, _, entries in read_squad(path):
    for entry in entries:
      answers = [answer.get('text', '') for answer in entry.get('answers', ())]
      yield (
        f'{path}, question {entry.get("id", "without id")}',
        {
          'question': entry.get('question'),
          'answer': answers,
          'titles': [title] if title else [],
        },
      )


def _triviaqa(path: Path) -> Iterator[tuple[str, Row]]:
  content = read_json(path, _TRIVIAQA)
  for number, entry in enumerate(
    _entries(content.get('Data'), path, _TRIVIAQA)
  ):
    answer = entry.get('Answer')
    answer = answer if isinstance(answer, dict) else {}
    yield (
      f'{path}, "Data" entry {number}',
      {
        'question': entry.get('Question'),
        'answer': _value_and_aliases(
          answer.get('Value'), answer.get('Aliases')
        ),
      },
    )


def _value_and_aliases(value: Any, aliases: Any) -> list[Any]:
  more = list(aliases) if isinstance(aliases, list) else []
  return [*([] if value is None else [value]), *more]


def _webquestions(path: Path) -> Iterator[tuple[str, Row]]:
  content = read_json(path, _WEBQUESTIONS)
  for number, entry in enumerate(_entries(content, path, _WEBQUESTIONS)):
    target = entry.get('targetValue')
    answers = [
      re.sub(r'\\(.)', r'\1', quoted) if quoted else plain.strip()
      for quoted, plain in _DESCRIPTION.findall(
        target if isinstance(target, str) else ''
      )
    ]
    yield (
      f'{path}, entry {number}',
      {'question': entry.get('utterance'), 'answer': answers},
    )


def _entries(value: Any, path: Path, expected: str) -> list[Row]:
  if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
    raise UserError(f'{path}: no list of objects. Expected {expected}.')
  return value


def _dpr(path: Path) -> Iterator[tuple[str, Row]]:
  for number, line in read_lines(path):
    if not line.strip():
      continue
    where = f'{path}, line {number}'
    question, _, answers = line.partition('\t')
    try:
      value = ast.literal_eval(answers.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
      raise UserError(
        f'{where}: {answers[:80]!r} is no list of answers. Expected {_DPR}.'
      ) from error
    yield where, {'question': question, 'answer': value}


def _table(path: Path) -> Iterator[tuple[str, Row]]:
  try:
    table = _open_table(path)
  except (pa.ArrowException, OSError) as error:
    raise UserError(
      f'{path} cannot be read, it is truncated or damaged ({error}). Fetch or '
      'make it again.'
    ) from error
  names = [n for n in ('answer', 'answers') if n in table.column_names]
  if 'question' not in table.column_names or not names:
    raise UserError(
      f'{path} has the columns {", ".join(table.column_names)}. Expected '
      'question and answer, or answers.'
    )
  wanted = [n for n in ('titles', 'title', 'regex') if n in table.column_names]
  rows = table.select(['question', names[0], *wanted]).to_pylist()
  for number, row in enumerate(rows):
    yield f'{path}, row {number}', _plain(row, names[0])


def _open_table(path: Path) -> pa.Table:
  with open(path, 'rb') as stream:
    magic = stream.read(6)
  if magic.startswith(PARQUET_MAGIC):
    return pq.read_table(path)
  source = pa.memory_map(str(path))
  if magic == ARROW_MAGICS[0]:
    return pa.ipc.open_file(source).read_all()
  return pa.ipc.open_stream(source).read_all()


def _tfds(source: str) -> Iterator[tuple[str, Row]]:
  names = ('question', 'answer', 'answers')
  for number, row in enumerate(read_tfds_rows(source, names)):
    where = f'{source}, row {number}'
    name = 'answer' if 'answer' in row else 'answers'
    if 'question' not in row or name not in row:
      raise UserError(
        f'{source} has the features {", ".join(sorted(row))}. Expected '
        'question and answer, or answers.'
      )
    yield where, _plain(row, name)


def _plain(row: Row, name: str) -> Row:
  """A row with a list of answers, of which some data sets make an object."""
  answer = row[name]
  if isinstance(answer, dict):  # TriviaQA's, SQuAD's
    answer = _value_and_aliases(
      answer.get('value'), answer.get('aliases', answer.get('text'))
    )
  return {**row, 'answer': answer}
