"""Answer questions on the screen, with the documents they were read from."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from realm_jax.eval.answering import Answer, Document
from realm_jax.index.config import IndexConfig
from realm_jax.predictor import Predictor

_NUM_WORDS = 8  # that stand for a title


def ask(
  run: str,
  questions: Sequence[str],
  *,
  corpus: str | None = None,
  num_read: int = 5,
  index: IndexConfig | None = None,
  console: Console | None = None,
) -> list[Answer]:
  """Answers questions and shows where the answers stand.

  Args:
    run: folder of a fine-tuned run.
    questions: what to ask.
    corpus: folder of the corpus to search; None for the run's.
    num_read: blocks read for a question, 1 to the number of blocks.
    index: what to search with.
    console: where to print; None for the terminal.

  Returns:
    The answers, as Predictor gives them.

  Raises:
    FileNotFoundError: no such run or corpus.
    UserError: as Predictor.load and Predictor.ask.
  """
  console = console or Console()
  predictor = Predictor.load(run, corpus, num_read, index)
  answers = predictor.ask_all(questions)
  for question, answer in zip(questions, answers, strict=True):
    show(question, answer, console)
  return answers


def show(question: str, answer: Answer, console: Console) -> None:
  """Prints a question, its answer in its block, and the documents read."""
  console.print(f'\n[bold]{escape(question)}[/bold]')
  console.print(
    f'[green]{escape(answer.text) or "no answer found"}[/green]  '
    f'(p = {answer.probability:.2f})'
  )
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


def _title(document: Document) -> str:
  """Its title; of a block that has none its number and its first words."""
  if document.title:
    return document.title
  words = document.text.split(maxsplit=_NUM_WORDS)
  more = ' ...' if len(words) > _NUM_WORDS else ''
  return f'{document.block_id}: {" ".join(words[:_NUM_WORDS])}{more}'
