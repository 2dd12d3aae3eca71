"""Answer questions on the screen, with the documents they were read from."""

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from realm_jax.data.lines import read_lines
from realm_jax.errors import UserError
from realm_jax.eval.answering import Answer, Document
from realm_jax.index.config import IndexConfig
from realm_jax.predictor import Predictor

_NUM_WORDS = 8  # that stand for a title
_PROMPT = 'Question (an empty line ends): '


def ask(
  run: str,
  questions: Sequence[str] = (),
  *,
  file: str | None = None,
  corpus: str | None = None,
  num_read: int = 5,
  top_k: int = 1,
  min_probability: float = 0.0,
  as_json: bool = False,
  index: IndexConfig | None = None,
  console: Console | None = None,
) -> list[Answer]:
  """Answers questions and shows where the answers stand.

  Without any question it asks for them, until an empty line or the end of the
  input.

  Args:
    run: folder of a fine-tuned run.
    questions: what to ask.
    file: of further questions, one a line; empty lines are passed over.
    corpus: folder of the corpus to search; None for the run's.
    num_read: blocks read for a question, 1 to the number of blocks.
    top_k: different answers to show, at least 1, with the probability that each
      has over all documents read.
    min_probability: below it, from 0 to 1, the answer is that there is none:
      see Predictor.
    as_json: print a JSON object a question, in place of text.
    index: what to search with.
    console: where to print; None for the terminal.

  Returns:
    The answers, as Predictor gives them.

  Raises:
    FileNotFoundError: no such run, corpus or file.
    UserError: as Predictor.load and Predictor.ask; or the file has no question.
  """
  console = console or Console()
  asked = [*questions, *(_questions_of(file) if file else ())]
  predictor = Predictor.load(
    run, corpus, num_read, index, top_k, min_probability
  )
  if asked:
    answers = predictor.ask_all(asked)
    for question, answer in zip(asked, answers, strict=True):
      _print(question, answer, console, top_k, as_json)
    return answers
  answers = []
  for question in _typed(console):
    answer = predictor.ask(question)
    _print(question, answer, console, top_k, as_json)
    answers.append(answer)
  return answers


def _questions_of(file: str) -> list[str]:
  questions = [line.strip() for _, line in read_lines(file) if line.strip()]
  if not questions:
    raise UserError(f'{file} holds no question: expected one a line.')
  return questions


def _typed(console: Console) -> Iterator[str]:
  """Questions from the keyboard, or from whatever the input is."""
  while True:
    if sys.stdin.isatty():
      console.print(_PROMPT, end='')
    question = sys.stdin.readline().strip()
    if not question:
      return
    yield question


def _print(
  question: str, answer: Answer, console: Console, top_k: int, as_json: bool
) -> None:
  if as_json:
    row = {'question': question, **dataclasses.asdict(answer)}
    console.out(json.dumps(row, ensure_ascii=False), highlight=False)
  else:
    show(question, answer, console, top_k)


def show(
  question: str, answer: Answer, console: Console, top_k: int = 1
) -> None:
  """Prints a question, its answer in its block, and the documents read."""
  console.print(f'\n[bold]{escape(question)}[/bold]')
  text = escape(answer.text) or 'no answer found'
  if answer.withheld:
    text = f'no answer: the likeliest, {text}, is too unlikely'
  console.print(f'[green]{text}[/green]  (p = {answer.probability:.2f})')
  if top_k > 1:
    _show_candidates(answer, console)
  table = Table('p(z|x)', 'utility', 'document', show_edge=False)
  for document in answer.documents:
    if document.block_id == answer.block_id:
      marked = (
        escape(document.text[: answer.start])
        + f'[reverse]{escape(answer.text)}[/reverse]'
        + escape(document.text[answer.stop :])
      )
      console.print(Panel(marked, title=escape(_title(document))))
    table.add_row(
      f'{document.probability:.3f}',
      f'{document.retrieval_utility:+.2f}',
      escape(_title(document)),
    )
  console.print(table)


def _show_candidates(answer: Answer, console: Console) -> None:
  titles = {d.block_id: _title(d) for d in answer.documents}
  table = Table('p(y|x)', 'answer', 'likeliest in', show_edge=False)
  for candidate in answer.candidates:
    table.add_row(
      f'{candidate.probability:.3f}',
      escape(candidate.text),
      escape(titles[candidate.block_id]),
    )
  console.print(table)


def _title(document: Document) -> str:
  """Its title; of a block that has none its number and its first words."""
  if document.title:
    return document.title
  words = document.text.split(maxsplit=_NUM_WORDS)
  more = ' ...' if len(words) > _NUM_WORDS else ''
  return f'{document.block_id}: {" ".join(words[:_NUM_WORDS])}{more}'
