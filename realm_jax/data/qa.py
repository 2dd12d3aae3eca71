"""Questions with their answers, from files."""

from pathlib import Path
from typing import Any, NamedTuple

from realm_jax.data.lines import whole_characters
from realm_jax.data.qa_datasets import recognise
from realm_jax.data.qa_files import read_rows
from realm_jax.errors import UserError


class Question(NamedTuple):
  """A question and everything that answers it.

  Attributes:
    question: the question, as asked.
    answers: at least one; any of them is right.
    is_regex: the answers are regular expressions.
    titles: articles known to state the answer, where known.
    matches: strings that the regular expressions match in a corpus, where they
      have been expanded; the commonest first.
  """

  question: str
  answers: tuple[str, ...]
  is_regex: bool = False
  titles: tuple[str, ...] = ()
  matches: tuple[str, ...] = ()

  @property
  def strings(self) -> tuple[str, ...]:
    """What to look for in a text: the answers, or what they match."""
    return self.matches if self.is_regex else self.answers

  def as_row(self) -> dict[str, Any]:
    """As load_questions reads it from JSON lines."""
    row: dict[str, Any] = {
      'question': self.question,
      'answer': list(self.answers),
    }
    if self.is_regex:
      row['regex'] = True
    for key, values in (('titles', self.titles), ('matches', self.matches)):
      if values:
        row[key] = list(values)
    return row


def load_questions(path: str | Path) -> list[Question]:
  """Reads a question file.

  JSON lines, {"question": ..., "answer": [...]} (or "answers") with optional
  "titles" (a list, or "title"), "regex" (true where the answers are regular
  expressions, as they are in files named as CuratedTREC's) and "matches" (see
  realm-jax expand-answers); or one of the other formats of qa_files, in
  SQuAD's of which an article's title is its questions'.

  Raises:
    FileNotFoundError: there is no such file.
    UserError: it holds no question, a question has no answer, or a line is
      not what is expected; the message names the file and the line.
  """
  read = read_rows(path)
  standard = recognise(path)
  is_regex = standard is not None and standard.data_set.has_expressions
  questions = [
    _question(row, where, read.expected, is_regex) for where, row in read.rows
  ]
  if not questions:
    raise UserError(f'{path} holds no questions: expected {read.expected}.')
  return questions


def _question(
  row: dict[str, Any], where: str, expected: str, is_regex: bool
) -> Question:
  question = row.get('question')
  if not isinstance(question, str) or not question.strip():
    raise UserError(f'{where}: no "question". Expected {expected}.')
  # As it stands: the original's scores go by the question, spaces and all.
  question = whole_characters(question)
  key = 'answers' if 'answers' in row and 'answer' not in row else 'answer'
  answers = _strings(row, key, where)
  if not answers:
    raise UserError(
      f'{where}: no answers to {question!r}. Expected {expected} with at least '
      'one answer that is not empty.'
    )
  return Question(
    question,
    answers,
    bool(row.get('regex', is_regex)),
    _strings(row, 'titles', where) or _strings(row, 'title', where),
    _strings(row, 'matches', where),
  )


def _strings(row: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
  """A string or a list of strings, without empty ones and repetitions."""
  value = row.get(key, [])
  values = [value] if isinstance(value, str) else value
  if not isinstance(values, list | tuple) or not all(
    isinstance(v, str) for v in values
  ):
    raise UserError(
      f'{where}: "{key}" is {value!r}, expected a list of strings.'
    )
  return tuple(dict.fromkeys(whole_characters(v) for v in values if v.strip()))
