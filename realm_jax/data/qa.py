"""Questions with their answers, from files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from realm_jax.data.lines import read_json_lines
from realm_jax.data.squad import is_squad, read_squad
from realm_jax.errors import UserError

_EXPECTED = '{"question": ..., "answer": [...]}'


class Question(NamedTuple):
  """A question and everything that answers it.

  Attributes:
    question: the question, as asked.
    answers: at least one; any of them is right.
    is_regex: the answers are regular expressions.
    titles: articles known to state the answer, where known.
  """

  question: str
  answers: tuple[str, ...]
  is_regex: bool = False
  titles: tuple[str, ...] = ()


def load_questions(path: str | Path) -> list[Question]:
  """Reads a question file.

  Either JSON lines, {"question": ..., "answer": [...]} with optional "titles"
  (a list, or "title") and "regex" (true where the answers are regular
  expressions); or SQuAD 1.1 JSON, where an article's title is its questions'.

  Raises:
    FileNotFoundError: there is no such file.
    UserError: it holds no question, a question has no answer, or a line is
      not what is expected; the message names the file and the line.
  """
  path = Path(path)
  read = _read_squad if is_squad(path) else _read_lines
  questions = list(read(path))
  if not questions:
    raise UserError(
      f'{path} holds no questions: expected {_EXPECTED}, one a line.'
    )
  return questions


def _read_lines(path: Path) -> Iterator[Question]:
  for number, row in read_json_lines(path, _EXPECTED):
    where = f'{path}, line {number}'
    question = row.get('question')
    if not isinstance(question, str) or not question.strip():
      raise UserError(f'{where}: no "question". Expected {_EXPECTED}.')
    is_regex = bool(row.get('regex', False))
    answers = _strings(row, 'answer', where)
    if not answers:
      raise UserError(
        f'{where}: no answers to {question.strip()!r}. Expected {_EXPECTED} '
        'with at least one answer that is not empty.'
      )
    titles = _strings(row, 'titles', where) or _strings(row, 'title', where)
    yield Question(question.strip(), answers, is_regex, titles)


def _strings(row: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
  """A string or a list of strings, without empty ones and repetitions."""
  value = row.get(key, [])
  values = [value] if isinstance(value, str) else value
  if not isinstance(values, list) or not all(
    isinstance(v, str) for v in values
  ):
    raise UserError(
      f'{where}: "{key}" is {value!r}, expected a list of strings.'
    )
  return tuple(dict.fromkeys(v for v in values if v.strip()))


def _read_squad(path: Path) -> Iterator[Question]:
  for title, _, entries in read_squad(path):
    for entry in entries:
      where = f'{path}, question {entry.get("id", "without id")}'
      texts = [answer.get('text', '') for answer in entry.get('answers', ())]
      answers = _strings({'answers': texts}, 'answers', where)
      question = str(entry.get('question', '')).strip()
      if not question or not answers:
        raise UserError(
          f'{where}: no {"answers" if question else "question"}. Expected '
          'SQuAD 1.1, where every question has at least one answer.'
        )
      yield Question(question, answers, titles=(title,) if title else ())
