"""Split training questions in two as ORQA splits Natural Questions."""

from pathlib import Path

from rich.console import Console

from realm_jax.data.qa import Question, load_questions
from realm_jax.data.qa_datasets import is_dev_question
from realm_jax.folders import make_folder, write_json_lines


def split_questions(
  questions: str, out: str, *, console: Console | None = None
) -> dict[str, int]:
  """Writes train.jsonl and dev.jsonl.

  Which of the two a question goes to depends on the question alone: see
  qa_datasets.is_dev_question. Neither data set nor code of the paper's authors
  has the two halves as files.

  Args:
    questions: file of the questions that were published for training.
    out: folder to write.
    console: where to print; None for the terminal.

  Returns:
    'train' and 'dev' -> questions.

  Raises:
    FileNotFoundError: there is no such file.
    ImportError: TensorFlow is not installed.
    UserError: the file is bad.
  """
  halves: dict[str, list[Question]] = {'train': [], 'dev': []}
  for question in load_questions(questions):
    is_dev = is_dev_question(question.question)
    halves['dev' if is_dev else 'train'].append(question)
  folder = make_folder(out)
  for name, half in halves.items():
    write_json_lines(folder / f'{name}.jsonl', [q.as_row() for q in half])
  counts = {name: len(half) for name, half in halves.items()}
  (console or Console()).print(
    f'{counts["train"]:,} to train on, {counts["dev"]:,} dev: {Path(out)}'
  )
  return counts
