"""Expand regular expressions to the strings that they match in a corpus."""

import os
from pathlib import Path

from rich.console import Console

from realm_jax.data.corpus import Corpus
from realm_jax.data.qa import load_questions
from realm_jax.data.regex_answers import expand_expressions
from realm_jax.errors import UserError
from realm_jax.folders import write_json_lines
from realm_jax.runs.block_progress import block_progress


def expand_answers(
  questions: str,
  out: str,
  corpus: str,
  *,
  workers: int | None = None,
  console: Console | None = None,
) -> int:
  """Writes a question file that can be fine-tuned on.

  Args:
    questions: file of questions whose answers are regular expressions.
    out: file to write: JSON lines, where "matches" has what the expressions
      match in the corpus and "regex" is true.
    corpus: folder of the corpus.
    workers: processes; None for one a core.
    console: where to print; None for the terminal.

  Returns:
    How many questions match anything.

  Raises:
    FileNotFoundError: there is no such file or corpus.
    UserError: the file is bad, or has no expressions.
  """
  console = console or Console()
  opened = Corpus.open(corpus)
  loaded = [q for q in load_questions(questions) if q.is_regex]
  if not loaded:
    raise UserError(
      f'{questions} has no regular expressions, so there is nothing to expand. '
      'They are known by "regex": true in a line, or by a file of CuratedTREC.'
    )
  with block_progress(
    console, 'matching blocks', opened.num_blocks
  ) as on_progress:
    matches = expand_expressions(
      [q.answers for q in loaded],
      opened,
      workers or os.cpu_count() or 1,
      on_progress,
    )
  write_json_lines(
    Path(out),
    (
      question._replace(matches=own).as_row()
      for question, own in zip(loaded, matches, strict=True)
    ),
  )
  num_matching = sum(1 for own in matches if own)
  console.print(
    f'{num_matching} of {len(loaded)} questions match something in '
    f'{opened.num_blocks:,} blocks: {out}'
  )
  return num_matching
