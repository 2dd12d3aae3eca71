"""What a user should know of a question file before anything is made of it."""

from collections.abc import Callable, Sequence
from pathlib import Path

from realm_jax.data.examples import Lengths
from realm_jax.data.expressions import expressions_warning
from realm_jax.data.qa import Question
from realm_jax.data.qa_datasets import size_warning
from realm_jax.data.qa_examples import (
  QAExamples,
  num_answers_of,
  qa_examples,
)
from realm_jax.data.wordpiece import WordPiece


def checked_examples(
  path: str | Path,
  loaded: Sequence[Question],
  asked: Sequence[Question],
  wordpiece: WordPiece,
  lengths: Lengths,
  warn: Callable[[str], None],
) -> QAExamples:
  """Tokenises questions for the reader, and says what is odd about their file.

  Args:
    path: of the file.
    loaded: all that it holds.
    asked: those of them that are used.
    wordpiece: the corpus's vocabulary.
    lengths: of questions and joint sequences.
    warn: called with each of question_warnings.

  Raises:
    UserError: a question leaves no room for a block in the reader.
  """
  examples = qa_examples(asked, wordpiece, lengths, num_answers_of(asked))
  examples.check_room(asked, lengths)
  for warning in question_warnings(path, loaded, examples):
    warn(warning)
  return examples


def question_warnings(
  path: str | Path, questions: Sequence[Question], examples: QAExamples
) -> list[str]:
  """What is odd about a file, though it can be used.

  That it has not as many questions as were published; regular expressions that
  are none, which nothing fits; questions that are cut.

  Args:
    path: of the file.
    questions: all that it holds.
    examples: the same ones as arrays.
  """
  warnings = [size_warning(path, len(questions))]
  invalid = expressions_warning(
    {q.question: q.answers for q in questions if q.is_regex}
  )
  if invalid:
    warnings.append(f'{path}: {invalid}')
  if examples.num_cut:
    warnings.append(
      f'{path}: {examples.num_cut} questions are longer than Lengths.query_len '
      f'allows, {examples.question_ids.shape[1]} wordpieces, and are cut.'
    )
  return [warning for warning in warnings if warning]
